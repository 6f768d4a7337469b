"""Killed anywhere, the next process goes on: each change is done once, and of the pods nothing is left."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from reconciler.registries.model import POLICY_JSON, REGISTRIES_CONF
from reconciler.transport.sandbox import wait_for
from tests.cluster import ApiServer
from tests.machines import at, put, renew
from tests.pod_nodes import IMAGE, NAMESPACE, PodNodes, pod_nodes
from tests.program import Program
from tests.world import Repository, image, node_document, pool

pytestmark = pytest.mark.slow

RELOAD = "reload crio.service"
ACCEPT_ALL = '{"default": [{"type": "insecureAcceptAnything"}]}'


@pytest.fixture(scope="module")
def fleet(cluster: ApiServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[PodNodes]:
    with pod_nodes(cluster, tmp_path_factory.mktemp("pods"), 2) as nodes:
        cluster.controller_manager()
        yield nodes


@pytest.fixture
def program(fleet: PodNodes, database_url: str, tmp_path: Path) -> Program:
    """Its nodes have the first content; the second is committed."""
    for machine in fleet.machines:
        renew(machine)
        put(machine, POLICY_JSON, ACCEPT_ALL)
    repository = Repository(tmp_path / "config")
    settings = {
        "SERVICE__LEASE": "1s",
        "FLEETS__DEFAULT__KUBERNETES": "kubeconfig",
        "FLEETS__DEFAULT__KUBECONFIG": str(fleet.config),
        "FLEETS__DEFAULT__NAMESPACE": NAMESPACE,
        "FLEETS__DEFAULT__HELPER_IMAGE": IMAGE,
        "FLEETS__DEFAULT__NODE_SELECTOR": "nobody=has-this",
    }
    variables = {f"RECONCILER_{name}": value for name, value in settings.items()}
    program = Program(tmp_path / "home", database_url, f"file://{repository.directory}", None, variables)
    documents = {f"{m.name}.yaml": node_document(m.name, "{transport: kubernetes}") for m in fleet.machines}
    repository.commit({"pool.yaml": pool(), "image.yaml": image(blockedRegistries=["first.example.com"]), **documents})
    done = program.run("sync", "--wait")
    assert done.code == 0, done.said
    assert [machine.actions() for machine in fleet.machines] == [[RELOAD]] * 2
    repository.commit({"image.yaml": image(blockedRegistries=["second.example.com"])})
    return program


@pytest.mark.parametrize("point", ["after-step-started", "before-confirm", "before-receipt-recorded"])
async def test_a_killed_controller(point: str, program: Program, fleet: PodNodes) -> None:
    assert (await asyncio.to_thread(program.run, "sync", "--wait", RECONCILER_FAULT=point)).code == -signal.SIGKILL
    done = await asyncio.to_thread(program.run, "sync", "--wait")
    assert done.code == 0, done.said
    for machine in fleet.machines:
        assert machine.actions() == [RELOAD, RELOAD]
        assert "second.example.com" in at(machine, REGISTRIES_CONF).read_text()
    await asyncio.to_thread(wait_for, lambda: not fleet.left(), "something is left", 60)
