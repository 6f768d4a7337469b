"""Cordon, drain and uncordon at a real API server, with Kubernetes' own controllers and budgets."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from lightkube import AsyncClient

from reconciler.kubernetes.client import connect
from reconciler.kubernetes.drainer import STUCK, KubernetesDrainer
from reconciler.kubernetes.eviction import delete
from reconciler.ports import DrainAnswer, DrainTask, Target
from reconciler.rollout.pools import Pool
from reconciler.transport.sandbox import wait_for
from reconciler.wiring import SystemClock
from tests.cluster import ApiServer
from tests.kubelet import Kubelet
from tests.workloads import WITHIN, Workloads, at_work

NODES = ("w1", "w2")
DONE = DrainAnswer("done")


@pytest.fixture(scope="module")
def kubelet(cluster: ApiServer) -> Iterator[Kubelet]:
    with at_work(cluster, NODES) as running:
        yield running


@pytest.fixture
def workloads(cluster: ApiServer, kubelet: Kubelet) -> Iterator[Workloads]:
    found = Workloads(cluster)
    yield found
    found.clear()
    found.uncordon(NODES)


@asynccontextmanager
async def drainer_of(kubeconfig: Path) -> AsyncIterator[KubernetesDrainer]:
    client: AsyncClient = connect("default", "kubeconfig", str(kubeconfig), "")
    try:
        yield KubernetesDrainer(lambda: client, SystemClock())
    finally:
        await client.close()


@pytest.fixture
async def drainer(cluster: ApiServer, kubelet: Kubelet) -> AsyncIterator[KubernetesDrainer]:
    async with drainer_of(cluster.kubeconfig) as found:
        yield found


def task(node: str = "w1", mark: str = "step-1", **settings: Any) -> DrainTask:
    spec = {**Pool("", {"drain": {"via": "kubernetes"}}).spec["drain"], **settings}
    return DrainTask(Target("default", f"{node}.corp", "ssh", node_name=node), "worker", mark, "log-1", spec, mark)


async def until(
    drainer: KubernetesDrainer, what: DrainTask, state: str = "done", *, moving: bool = False
) -> DrainAnswer:
    """Rounds, until one ends so."""
    end = time.monotonic() + WITHIN
    while (answer := await drainer.drain(what)).state != state or answer.moving != moving:
        assert time.monotonic() < end, answer
        await asyncio.sleep(0.2)
    return answer


# --- cordon and uncordon ----------------------------------------------------------------------------------------------


async def test_cordon_and_mark_are_one_patch_and_go_together(
    cluster: ApiServer, workloads: Workloads, drainer: KubernetesDrainer
) -> None:
    before = workloads.written("w1")
    for _ in range(3):  # whoever takes the step over asks again
        assert await drainer.cordon(task()) == DONE
        assert workloads.node("w1") == (True, "step-1")
    assert workloads.written("w1") == before + 1
    for _ in range(3):
        assert await drainer.uncordon(task()) == DONE
        assert workloads.node("w1") == (False, "")
    assert workloads.written("w1") == before + 2


async def test_a_node_that_somebody_else_cordoned_stays_cordoned(
    cluster: ApiServer, workloads: Workloads, drainer: KubernetesDrainer
) -> None:
    cluster.kubectl("cordon", "w1")
    before = workloads.written("w1")
    assert (await drainer.cordon(task())).state == "done"
    assert await until(drainer, task()) == DONE
    assert await drainer.uncordon(task()) == DrainAnswer("done", kept="somebody else cordoned it")
    assert (workloads.node("w1"), workloads.written("w1")) == ((True, ""), before)


async def test_a_node_that_somebody_cordons_in_between_is_not_ours(
    cluster: ApiServer, workloads: Workloads, drainer: KubernetesDrainer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between our look and our patch: the patch must not go through."""
    look = KubernetesDrainer._node

    async def slow(self: KubernetesDrainer, name: str) -> Any:
        found = await look(self, name)
        monkeypatch.undo()
        cluster.kubectl("cordon", "w1")
        return found

    monkeypatch.setattr(KubernetesDrainer, "_node", slow)
    assert await drainer.cordon(task()) == DrainAnswer("done", "somebody else cordoned it")
    assert workloads.node("w1") == (True, "")


async def test_the_mark_of_an_earlier_step_is_taken_over_by_a_turn_and_by_no_round_of_it(
    cluster: ApiServer, workloads: Workloads, drainer: KubernetesDrainer
) -> None:
    assert await drainer.cordon(task(mark="step-1")) == DONE
    assert await drainer.cordon(task(mark="step-2")) == DONE
    assert workloads.node("w1") == (True, "step-2")
    stale = await drainer.drain(task(mark="step-1"))  # a process that lost its step meanwhile
    assert (stale.state, stale.detail) == ("failed", "another step has cordoned it (step-2)")
    assert (await drainer.uncordon(task(mark="step-1"))).kept == "another step cordoned it (step-2)"
    assert workloads.node("w1") == (True, "step-2")
    assert await drainer.uncordon(task(mark="step-2")) == DONE
    assert workloads.node("w1") == (False, "")


async def test_a_node_that_is_uncordoned_in_the_middle_is_cordoned_again(
    cluster: ApiServer, workloads: Workloads, drainer: KubernetesDrainer
) -> None:
    await drainer.cordon(task())
    cluster.kubectl("uncordon", "w1")
    assert await until(drainer, task()) == DONE
    assert workloads.node("w1") == (True, "step-1")


@pytest.mark.parametrize("mark", ["", "step-2"])
async def test_a_round_after_the_turn_ended_leaves_the_node_open_and_its_pods_alone(
    cluster: ApiServer, workloads: Workloads, drainer: KubernetesDrainer, mark: str
) -> None:
    """Another process ended the turn while ours was frozen; the node may have had another turn since."""
    workloads.deploy("web", 1, nodes=["w1"])
    assert await drainer.cordon(task()) == DONE
    assert await drainer.uncordon(task()) == DONE
    if mark:
        assert await drainer.cordon(task(mark=mark)) == DONE
        cluster.kubectl("uncordon", "w1")
    before, [pod] = workloads.written("w1"), workloads.ready("web")
    stale = await drainer.drain(task())
    assert (stale.state, stale.detail) == ("failed", "the turn is over: its mark is gone")
    assert (workloads.node("w1"), workloads.written("w1")) == ((False, mark), before)
    assert workloads.ready("web") == [pod]


async def test_a_node_that_the_cluster_does_not_have(drainer: KubernetesDrainer) -> None:
    answer = await drainer.cordon(task("elsewhere"))
    assert (answer.state, "the cluster has no node elsewhere" in answer.detail) == ("failed", True)
    assert (await drainer.uncordon(task("elsewhere"))).kept == "the cluster has no node elsewhere"


async def test_without_rights_or_without_a_server_the_answer_says_so(cluster: ApiServer, kubelet: Kubelet) -> None:
    async with drainer_of(cluster.kubeconfig_for("olga", ["nobodies"])) as drainer:
        answer = await drainer.cordon(task())
        assert (answer.state, 'nodes "w1" is forbidden' in answer.detail) == ("failed", True)
    with cluster.proxy() as link:
        file = cluster.kubeconfig_for("admin", server=link.url)
        async with drainer_of(file) as drainer:
            link.refuse()
            for verb in (drainer.cordon, drainer.drain, drainer.uncordon):
                answer = await verb(task())
                assert (answer.state, "the API server cannot be reached" in answer.detail) == ("again", True)
            link.allow()
            assert await drainer.cordon(task()) == DONE
            assert await drainer.uncordon(task()) == DONE


def documented_rights() -> Iterator[list[str]]:
    """kubectl's options for each row of the table of rights."""
    page = Path(__file__).parents[2] / "docs/how-to/drain-kubernetes-nodes.md"
    for row in page.read_text().partition("\n## Rights\n")[2].splitlines():
        cells = [cell.strip(" `") for cell in row.strip("|").split("|")]
        if len(cells) == 4 and cells[0] in ("core", "policy", "apps"):
            group = "" if cells[0] == "core" else f".{cells[0]}"
            yield [f"--verb={cells[2].replace(' ', '')}", f"--resource={cells[1]}{group}"]


async def test_the_documented_rights_are_enough(cluster: ApiServer, workloads: Workloads) -> None:
    rules = list(documented_rights())
    assert len(rules) == 6
    for number, rule in enumerate(rules):
        cluster.kubectl("create", "clusterrole", f"drain-{number}", *rule)
        cluster.kubectl(
            "create", "clusterrolebinding", f"drain-{number}", f"--clusterrole=drain-{number}", "--group=drainers"
        )
    workloads.deploy("db", 1, {"minAvailable": 1}, nodes=["w1"])
    async with drainer_of(cluster.kubeconfig_for("robot", ["drainers"])) as drainer:
        assert await drainer.cordon(task()) == DONE
        [one] = (await until(drainer, task(), "again")).blockers
        assert (one.owner, one.budget, one.allowed) == ("Deployment/db", "default/db", 0)
        assert (await drainer.drain(replace(task(), force=True))).forced
        assert await until(drainer, task()) == DONE
        assert await drainer.uncordon(task()) == DONE
    assert not [call for call in cluster.calls("robot") if call.status == 403]
    cluster.kubectl("delete", "clusterrolebinding", "drain-4", "drain-5")  # those that only give names
    wait_for(lambda: workloads.on("w1") == ["db"], "it is not back", WITHIN)
    async with drainer_of(cluster.kubeconfig_for("robot", ["drainers"])) as drainer:
        await drainer.cordon(task())
        [one] = (await until(drainer, task(), "again")).blockers
        assert (one.owner.partition("-")[0], one.budget, one.allowed) == ("ReplicaSet/db", "", None)
        assert "violate the pod's disruption budget" in one.why


# --- drain ------------------------------------------------------------------------------------------------------------


async def test_what_is_evicted_and_what_is_left(
    cluster: ApiServer, workloads: Workloads, kubelet: Kubelet, drainer: KubernetesDrainer
) -> None:
    workloads.daemons("agent")
    workloads.deploy("web", 3, nodes=["w1", "w2"])
    workloads.pod("lone", "w1")
    workloads.pod("scratch", "w1", volumes=[{"name": "tmp", "emptyDir": {}}])
    workloads.pod("mirror", "w1", {"annotations": {"kubernetes.io/config.mirror": "abc"}})
    workloads.pod("helper", "w1", {"labels": {"app.kubernetes.io/managed-by": "reconciler"}})
    wait_for(lambda: "agent" in workloads.on("w1"), "no daemon", WITHIN)
    kubelet.faults.ending = 1.0
    assert await drainer.cordon(task()) == DONE
    first = await drainer.drain(task())
    assert (first.state, first.moving) == ("again", True)
    assert await until(drainer, task()) == DONE
    kubelet.faults.ending = 0.0
    assert workloads.on("w1") == ["agent", "helper", "mirror"]
    wait_for(lambda: workloads.on("w2").count("web") == 3, "they did not move", WITHIN)


@pytest.mark.parametrize(
    ("setting", "spec", "said"),
    [
        ("emptyDir", {"volumes": [{"name": "tmp", "emptyDir": {}}]}, "it would lose its emptyDir volume tmp"),
        ("unmanaged", {}, "nothing would start it elsewhere"),
    ],
)
async def test_what_the_pool_wants_kept_stops_the_drain_before_anything_goes(
    workloads: Workloads, drainer: KubernetesDrainer, setting: str, spec: dict[str, Any], said: str
) -> None:
    workloads.deploy("web", 1, nodes=["w1"])
    workloads.pod("lone", "w1", **spec)
    await drainer.cordon(task())
    answer = await drainer.drain(task(**{setting: "abort"}))
    assert answer.state == "failed"
    assert answer.detail == f"pod default/lone: {said} (drain.{setting}: abort)"
    assert [one.pod for one in answer.blockers] == ["default/lone"]
    assert workloads.on("w1") == ["lone", "web"]


async def test_a_budget_blocks_is_named_and_frees(workloads: Workloads, drainer: KubernetesDrainer) -> None:
    workloads.deploy("db", 2, {"minAvailable": 2}, nodes=["w1"])
    workloads.deploy("free", 1, nodes=["w1"])
    await drainer.cordon(task())
    blocked = await until(drainer, task(), "again")
    assert len(blocked.blockers) == 2
    one = blocked.blockers[0]
    assert one.pod.startswith("default/db-")
    assert (one.owner, one.budget, one.allowed) == ("Deployment/db", "default/db", 0)
    assert one.why == "0 disruptions allowed: 2 of 2 pods healthy, 2 needed"
    assert blocked.detail.startswith(f"pod {one.pod} (Deployment/db): PodDisruptionBudget default/db: {one.why}")
    assert "free" not in workloads.on("w1")  # nobody else waits for it
    workloads.allow("db", minAvailable=0)
    assert await until(drainer, task()) == DONE
    assert "db" not in workloads.on("w1")


async def test_a_pod_of_several_budgets_names_them(
    cluster: ApiServer, workloads: Workloads, drainer: KubernetesDrainer
) -> None:
    workloads.deploy("db", 1, {"minAvailable": 0}, nodes=["w1"])
    second = {"metadata": {"name": "all"}, "spec": {"selector": {}, "minAvailable": 0}}
    cluster.api("POST", "/apis/policy/v1/namespaces/default/poddisruptionbudgets", second)
    await drainer.cordon(task())
    [one] = (await until(drainer, task(), "again")).blockers
    assert one.budget == "default/all, default/db"
    assert "more than one PodDisruptionBudget" in one.why


async def test_force_deletes_what_only_a_budget_keeps(workloads: Workloads, drainer: KubernetesDrainer) -> None:
    workloads.deploy("db", 1, {"minAvailable": 1}, nodes=["w1"])
    [name] = workloads.ready("db")
    await drainer.cordon(task())
    assert (await until(drainer, task(), "again")).blockers
    forced = await drainer.drain(replace(task(), force=True))
    assert forced.forced == (f"default/{name}",)
    assert await until(drainer, task()) == DONE


async def test_the_grace_period_is_the_pools(cluster: ApiServer, workloads: Workloads, kubelet: Kubelet) -> None:
    workloads.pod("slow", "w1", terminationGracePeriodSeconds=600)
    kubelet.faults.ending = 600.0
    try:
        async with drainer_of(cluster.kubeconfig) as drainer:
            await drainer.cordon(task())
            assert (await drainer.drain(task(gracePeriod=1))).moving
            assert await until(drainer, task(gracePeriod=1)) == DONE
    finally:
        kubelet.faults.ending = 0.0


async def test_a_pod_that_does_not_end_is_named(
    cluster: ApiServer, workloads: Workloads, drainer: KubernetesDrainer, monkeypatch: pytest.MonkeyPatch
) -> None:
    workloads.pod("held", "w1", {"finalizers": ["example.com/hold"]}, terminationGracePeriodSeconds=1)
    await drainer.cordon(task())
    assert (await drainer.drain(task())).moving
    monkeypatch.setattr("reconciler.kubernetes.drainer.STUCK", -STUCK)
    answer = await until(drainer, task(), "again")
    [one] = answer.blockers
    assert one.pod == "default/held"
    assert one.why.endswith("and has the finalizers example.com/hold")


async def test_only_the_pod_that_was_looked_at_is_evicted(
    cluster: ApiServer, workloads: Workloads, drainer: KubernetesDrainer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another of the same name came meanwhile, as a StatefulSet's does."""
    workloads.pod("db-0", "w1")
    look = KubernetesDrainer._pods

    async def slow(self: KubernetesDrainer, name: str) -> Any:
        found = await look(self, name)
        monkeypatch.undo()
        cluster.kubectl("delete", "pod", "db-0", "--force", "--grace-period=0")
        workloads.pod("db-0", "w2")
        return found

    await drainer.cordon(task())
    monkeypatch.setattr(KubernetesDrainer, "_pods", slow)
    assert (await drainer.drain(task())).state == "again"
    assert workloads.ready("db-0") == ["db-0"]
    assert await until(drainer, task()) == DONE
    assert workloads.on("w2") == ["db-0"]


async def test_only_the_pod_that_a_budget_kept_is_deleted_by_force(
    cluster: ApiServer, workloads: Workloads, drainer: KubernetesDrainer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another of the same name came between the refused eviction and the deletion."""
    workloads.pod("db-0", "w1")
    workloads.budget("db-0", minAvailable=1)
    await drainer.cordon(task())
    assert (await until(drainer, task(), "again")).blockers

    async def slow(*given: Any) -> bool:
        monkeypatch.undo()
        cluster.kubectl("delete", "pod", "db-0", "--force", "--grace-period=0")
        workloads.pod("db-0", "w2")
        return await delete(*given)

    monkeypatch.setattr("reconciler.kubernetes.drainer.delete", slow)
    answer = await drainer.drain(replace(task(), force=True))
    assert (answer.state, answer.forced) == ("again", ())
    assert workloads.ready("db-0") == ["db-0"]
    assert await until(drainer, task()) == DONE
    assert workloads.on("w2") == ["db-0"]
