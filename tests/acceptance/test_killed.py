"""Killed anywhere, the next `sync` converges: one reload per node and change, a log that verifies, no torn file."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from random import Random

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from reconciler.faults import FAULT_POINTS
from reconciler.ports import EventFilter
from reconciler.registries.model import POLICY_JSON, REGISTRIES_CONF
from reconciler.transport.sandbox import SandboxNode, put_program, wait_for
from tests.machines import Watcher, at, machines, renew, ssh_nodes, transport
from tests.program import Program
from tests.world import IMAGE, POOL, World, make_real_world

NODES = 3
RELOAD = "reload crio.service"
CHANGED = IMAGE.replace("untrusted", "distrusted")

DRAINING = ("after-cordon", "after-drain", "before-confirm", "before-uncordon")
"""Points of pools that drain and confirm; test_rollout_killed comes to them."""

IN_CLUSTER = ("between-resources", "before-resources-recorded")
"""Points of pools of `manage: cluster`; test_openshift comes to them."""

ELSEWHERE = (*DRAINING, *IN_CLUSTER)

MV = """#!/bin/sh
# Of a test: stops a request before or after one of its renames, and lets it die or go on when told.
control=/run/sandbox
stop() {
    case $fate in dies-at-once) kill -9 0 ;; esac
    : >$control/stopped-request
    while [ -e $control/stopped-request ]; do sleep 0.02; done
    case $fate in dies) kill -9 0 ;; esac
}
[ ! -e $control/moment ] || read -r moment fate <$control/moment
case ${moment-}:$2 in
    before:*/.policy.json.reconciler | between:*/.registries.conf.reconciler)
        rm $control/moment
        stop
        ;;
    after:*/.registries.conf.reconciler)
        rm $control/moment
        /bin/mv "$@"
        stop
        exit
        ;;
esac
exec /bin/mv "$@"
"""


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[SandboxNode]]:
    with machines(tmp_path_factory.mktemp("nodes"), NODES) as nodes:
        for node in nodes:
            put_program(at(node, "/usr/local/bin/mv"), MV)
        yield nodes


@pytest.fixture
def nodes(fleet: list[SandboxNode]) -> list[SandboxNode]:
    for node in fleet:
        renew(node)
    return fleet


@pytest.fixture
async def world(nodes: list[SandboxNode], engine: AsyncEngine, tmp_path: Path) -> AsyncIterator[World]:
    """A fleet whose nodes have the first content; the second is committed."""
    router = transport(nodes)
    world = await make_real_world(tmp_path, router, engine)
    world.repository.commit({"pool.yaml": POOL, "image.yaml": IMAGE, **ssh_nodes(nodes)})
    assert (await world.sync()).exit_code == 0
    assert [node.actions() for node in nodes] == [[RELOAD]] * len(nodes)
    world.repository.commit({"image.yaml": CHANGED}, "Distrust")
    yield world
    await router.close()


@pytest.fixture
def program(world: World, nodes: list[SandboxNode], database_url: str, tmp_path: Path) -> Program:
    url = f"file://{world.repository.directory}"
    lease = {"RECONCILER_SERVICE__LEASE": "1s"}  # so that the next process need not wait long for a dead one
    return Program(tmp_path / "home", database_url, url, nodes[0].identity, lease)


async def _check_converged(world: World, nodes: list[SandboxNode], watcher: Watcher) -> None:
    for node in nodes:
        assert node.actions() == [RELOAD, RELOAD]
        for path in (REGISTRIES_CONF, POLICY_JSON):
            seen = watcher.seen[node.name, path]
            assert len(seen) == 2  # the first content and the second, and nothing between
            assert sum("distrusted.example.com" in text for text in seen) == 1
        assert not list(at(node, "/etc").rglob("*.reconciler"))
        assert not at(node, "/var/lib/reconciler/journal").exists()
    assert watcher.problems == []
    assert {node.files for node in (await world.status()).nodes} == {"Converged"}
    assert (await world.log.verify()).problems == ()


@pytest.mark.parametrize("point", [point for point in FAULT_POINTS if point not in ELSEWHERE])
async def test_controller_killed(point: str, world: World, program: Program, nodes: list[SandboxNode]) -> None:
    with Watcher(nodes) as watcher:
        assert program.run("sync", "--wait", RECONCILER_FAULT=point).code == -signal.SIGKILL
        assert (await world.sync()).exit_code == 0
    await _check_converged(world, nodes, watcher)


@pytest.mark.parametrize(
    ("moment", "fate"), [("before", "dies"), ("between", "dies"), ("after", "dies"), ("between", "goes-on")]
)
async def test_controller_killed_in_the_middle_of_an_apply(
    moment: str, fate: str, world: World, program: Program, nodes: list[SandboxNode]
) -> None:
    """It dies while a node is before, between or after its renames; the node's request dies too, or ends alone."""
    control = nodes[0].runtime.control
    (control / "moment").write_text(f"{moment} {fate}\n")
    with Watcher(nodes) as watcher:
        process = program.start("sync", "--wait")
        wait_for((control / "stopped-request").exists, "the request did not come to this moment")
        process.kill()
        process.communicate()
        (control / "stopped-request").unlink()
        assert (await world.sync()).exit_code == 0
    await _check_converged(world, nodes, watcher)


async def test_only_the_request_dies(world: World, nodes: list[SandboxNode]) -> None:
    """A node loses its request in the middle: this pass defers it, the next begins anew."""
    (nodes[0].runtime.control / "moment").write_text("between dies-at-once\n")
    with Watcher(nodes) as watcher:
        assert (await world.sync()).exit_code == 3
        assert (await world.types())[-1] == "RolloutCompleted"
        assert (await world.sync()).exit_code == 0
    await _check_converged(world, nodes, watcher)


@pytest.mark.slow
@pytest.mark.timeout(900)
async def test_killed_at_any_time(world: World, program: Program, nodes: list[SandboxNode]) -> None:
    """Many contents, each `sync` killed somewhere: every reload of a node is in the log, and none was done twice."""
    random = Random(7)
    with Watcher(nodes) as watcher:
        for number in range(15):
            world.repository.commit({"image.yaml": IMAGE.replace("untrusted", f"distrusted-{number}")}, f"{number}")
            process = program.start("sync", "--wait")
            await asyncio.sleep(random.uniform(1.0, 6.0))
            process.kill()
            process.communicate()
        assert (await world.sync()).exit_code == 0
    assert watcher.problems == []
    for node in nodes:
        reloads = await world.log.read(EventFilter(types=("RuntimeReloaded",), node=node.name))
        assert node.actions() == [RELOAD] * len(reloads)
    assert (await world.log.verify()).problems == ()
