"""Processes that are killed while they drain a real machine that is a node of a real cluster."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from reconciler.registries.model import REGISTRIES_CONF
from reconciler.transport.sandbox import SandboxNode, wait_for
from tests.cluster import ApiServer
from tests.kubelet import Kubelet
from tests.machines import at, connection, machines, renew
from tests.program import Done, Program
from tests.workloads import WITHIN, Workloads, at_work
from tests.world import IMAGE, Repository, node_document, pool

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

HERE, ELSEWHERE = "worker-1.corp", "worker-2.corp"
"""Nodes of the cluster: the machine, by another name than its document's, and one of somebody else's."""

RELOAD = "reload crio.service"


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SandboxNode]:
    with machines(tmp_path_factory.mktemp("nodes"), 1) as [running]:
        yield running


@pytest.fixture(scope="module")
def kubelet(cluster: ApiServer, machine: SandboxNode) -> Iterator[Kubelet]:
    with at_work(cluster, (HERE, ELSEWHERE)) as running:
        yield running


@dataclass
class Fleet:
    program: Program
    repository: Repository
    machine: SandboxNode
    workloads: Workloads

    def content(self, name: str) -> None:
        """A change of class drain."""
        self.repository.commit({"image.yaml": IMAGE.replace("untrusted.example.com", name)}, name)

    def sync(self, **variables: str) -> Done:
        return self.program.run("sync", "--wait", **variables)

    def steps(self, *types: str) -> list[tuple[str, str]]:
        """Type and step of the machine's events of these types, oldest first."""
        events: list[Any] = self.program.run("history", "--node", self.machine.name, "-o", "json").data["items"]
        found = [(event["type"], event["data"]["step"]) for event in events if event["type"] in types]
        return found if events[0]["position"] < events[-1]["position"] else found[::-1]

    def check(self, name: str, reloads: int) -> None:
        """It has the content after one reload for each, and is nobody's to uncordon."""
        assert name in at(self.machine, REGISTRIES_CONF).read_text()
        assert self.machine.actions().count(RELOAD) == reloads
        assert self.workloads.node(HERE) == (False, "")


@pytest.fixture
def fleet(
    cluster: ApiServer, kubelet: Kubelet, machine: SandboxNode, database_url: str, tmp_path: Path
) -> Iterator[Fleet]:
    renew(machine)
    repository = Repository(tmp_path / "config")
    spec = {**connection(machine), "nodeName": HERE}
    files = {"node.yaml": node_document(machine.name, str(spec)), "pool.yaml": pool(drain={"via": "kubernetes"})}
    repository.commit({**files, "image.yaml": IMAGE})
    settings = {
        "RECONCILER_FLEETS__DEFAULT__KUBERNETES": "kubeconfig",
        "RECONCILER_FLEETS__DEFAULT__KUBECONFIG": str(cluster.kubeconfig),
        "RECONCILER_FLEETS__DEFAULT__NODE_SELECTOR": f"kubernetes.io/hostname={HERE}",
        "RECONCILER_SERVICE__LEASE": "1s",
    }
    url = f"file://{repository.directory}"
    program = Program(tmp_path / "home", database_url, url, machine.identity, settings)
    workloads = Workloads(cluster)
    found = Fleet(program, repository, machine, workloads)
    assert found.sync().code == 0
    yield found
    workloads.clear()
    workloads.uncordon((HERE,))


def test_another_process_goes_on_with_the_drain_of_one_that_was_killed(fleet: Fleet, cluster: ApiServer) -> None:
    fleet.workloads.deploy("db", 1, {"minAvailable": 1}, [HERE, ELSEWHERE])
    cluster.kubectl("cordon", ELSEWHERE)
    cluster.kubectl("delete", "pod", "-l", "app=db", "--wait=false")
    wait_for(lambda: fleet.workloads.on(HERE) == ["db"], "the pod is elsewhere", WITHIN)
    before, reloads = fleet.workloads.written(HERE), fleet.machine.actions().count(RELOAD)
    fleet.content("killed.example.com")
    killed = fleet.program.start("sync", "--wait")
    refused = lambda: any(call.resource == "pods/eviction" and call.status == 429 for call in cluster.calls())  # noqa: E731
    wait_for(refused, "the budget refuses nothing", WITHIN)
    wait_for(lambda: fleet.steps("DrainBlocked") != [], "nothing is said of it", WITHIN)
    killed.kill()
    killed.communicate()
    [(_, step)] = fleet.steps("DrainBlocked")
    assert fleet.workloads.node(HERE) == (True, step)
    cluster.kubectl("uncordon", ELSEWHERE)
    fleet.workloads.allow("db", minAvailable=0)
    assert fleet.sync().code == 0
    kinds = ("StepTakenOver", "NodeDrained", "NodeUncordoned", "NodeConverged")
    assert fleet.steps(*kinds)[-4:] == [(kind, step) for kind in kinds]
    assert [found for _, found in fleet.steps("NodeCordoned")].count(step) == 1
    assert fleet.workloads.written(HERE) == before + 2
    fleet.check("killed.example.com", reloads + 1)


def test_killed_at_each_point_of_a_drained_turn(fleet: Fleet) -> None:
    points = ("after-step-started", "after-cordon", "after-drain", "before-uncordon", "before-receipt-recorded")
    for point in points:
        before, reloads = fleet.workloads.written(HERE), fleet.machine.actions().count(RELOAD)
        fleet.content(f"{point}.example.com")
        assert fleet.sync(RECONCILER_FAULT=f"{point}:1").code == -signal.SIGKILL
        assert fleet.sync().code == 0, point
        # The last one had uncordoned it already; whoever takes the step over cannot know that.
        again = 2 if point == "before-receipt-recorded" else 0
        assert fleet.workloads.written(HERE) == before + 2 + again, point
        fleet.check(f"{point}.example.com", reloads + 1)
