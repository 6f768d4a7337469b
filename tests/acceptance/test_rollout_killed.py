"""Twenty nodes, each drained, checked and confirmed: killed at every fault point, service and database, it goes on."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import yaml
from sqlalchemy.ext.asyncio import AsyncEngine

from reconciler.faults import FAULT_POINTS
from reconciler.registries.model import REGISTRIES_CONF
from reconciler.transport.drainers import CommandDrainer
from reconciler.transport.sandbox import SandboxNode, wait_for
from tests.machines import Watcher, at, machines, renew, ssh_nodes, transport
from tests.program import Program
from tests.world import IMAGE, Repository, World, make_real_world

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1500)]

NODES = 20
UNAVAILABLE = 5
NOTE = "printf '%s\\n' \"$0\" >>/run/sandbox/actions"
RELOAD = "reload crio.service"

POOL = yaml.safe_dump(
    {
        "apiVersion": "reconciler.dev/v1alpha1",
        "kind": "NodePool",
        "metadata": {"name": "worker"},
        "spec": {
            "mode": "enforce",
            "requiredImages": ["needed.example.com/app:1"],
            "maxUnavailable": UNAVAILABLE,
            "canary": {"nodes": 1, "soak": "0s"},
            "confirm": "60s",
            "healthChecks": [{"name": "alive", "command": ["true"]}],
            "drain": {
                "via": "command",
                "runOn": "node",
                **{verb: ["sh", "-c", NOTE, verb] for verb in ("cordon", "drain", "uncordon")},
            },
        },
    }
)


@pytest.fixture(scope="module")
def nodes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[SandboxNode]]:
    with machines(tmp_path_factory.mktemp("nodes"), NODES) as running:
        yield running


class Budget:
    """Watches what nodes were told, and remembers the most that were cordoned at once."""

    def __init__(self, nodes: list[SandboxNode]) -> None:
        self.nodes = nodes
        self.most = 0

    def cordoned(self) -> list[str]:
        found = []
        for node in self.nodes:
            marks = [line for line in node.actions() if line in ("cordon", "uncordon")]
            if marks and marks[-1] == "cordon":
                found.append(node.name)
        self.most = max(self.most, len(found))
        return found

    async def watch(self) -> None:
        while True:
            self.cordoned()
            await asyncio.sleep(0.05)


@pytest.fixture
async def world(nodes: list[SandboxNode], engine: AsyncEngine, tmp_path: Path) -> AsyncIterator[World]:
    for node in nodes:
        renew(node)
    router = transport(nodes)
    world = await make_real_world(tmp_path, router, engine)
    world.context = replace(world.context, drainers={"command": CommandDrainer(router, [])})
    world.repository.commit({"pool.yaml": POOL, "image.yaml": IMAGE, **ssh_nodes(nodes)})
    assert (await world.sync(300)).exit_code == 0
    yield world
    await router.close()


def contents(world: World, number: int) -> str:
    name = f"content-{number}.example.com"
    world.repository.commit({"image.yaml": IMAGE.replace("untrusted.example.com", name)}, name)
    return name


async def check(world: World, nodes: list[SandboxNode], name: str, reloads: int) -> None:
    """Every node has the content, was reloaded once for each, and none is cordoned."""
    assert all(name in at(node, REGISTRIES_CONF).read_text() for node in nodes)
    assert [node.actions().count(RELOAD) for node in nodes] == [reloads] * NODES
    assert Budget(nodes).cordoned() == []
    assert (await world.status()).exit_code == 0
    assert (await world.log.verify()).problems == ()


async def test_the_service_is_killed_at_every_fault_point(
    world: World, nodes: list[SandboxNode], database_url: str, tmp_path: Path
) -> None:
    url = f"file://{world.repository.directory}"
    lease = {"RECONCILER_SERVICE__LEASE": "1s"}
    program = Program(tmp_path / "home", database_url, url, nodes[0].identity, lease)
    budget = Budget(nodes)
    watching = asyncio.create_task(budget.watch())
    with Watcher(nodes) as watcher:
        of_nodes = [point for point in FAULT_POINTS if "resources" not in point]  # no cluster has its resources here
        for number, point in enumerate(of_nodes, start=1):
            name = contents(world, number)
            killed = await asyncio.to_thread(program.run, "sync", "--wait", RECONCILER_FAULT=f"{point}:2")
            assert killed.code in (-signal.SIGKILL, 0), killed.said
            assert (await world.sync(300)).exit_code == 0, point
            await check(world, nodes, name, number + 1)
    watching.cancel()
    assert watcher.problems == []
    assert budget.most <= UNAVAILABLE


async def test_two_services_are_killed_in_turn(
    world: World, nodes: list[SandboxNode], database_url: str, tmp_path: Path
) -> None:
    url = f"file://{world.repository.directory}"
    settings = {"RECONCILER_SERVICE__LEASE": "2s", "RECONCILER_LOG__LEVEL": "error"}
    programs = [Program(tmp_path / name, database_url, url, nodes[0].identity, settings) for name in ("one", "two")]
    budget = Budget(nodes)
    watching = asyncio.create_task(budget.watch())
    running = [program.start("serve") for program in programs]
    name = contents(world, 1)
    for turn in range(4):
        await asyncio.sleep(4)
        running[turn % 2].kill()
        running[turn % 2].communicate()
        running[turn % 2] = programs[turn % 2].start("serve")
    await _until(world, nodes, name)
    for process in running:
        process.terminate()
        process.communicate(timeout=60)
        assert process.returncode in (0, -signal.SIGTERM)  # the one started last may not have come up yet
    watching.cancel()
    assert budget.most <= UNAVAILABLE
    await check(world, nodes, name, 2)


async def test_the_database_is_killed_in_the_middle(nodes: list[SandboxNode], tmp_path: Path) -> None:
    """`kill -9` of the postmaster of the embedded PostgreSQL, twice in one rollout; `serve` starts it again."""
    for node in nodes:
        renew(node)
    repository = Repository(tmp_path / "config")
    repository.commit({"pool.yaml": POOL, "image.yaml": IMAGE, **ssh_nodes(nodes)})
    program = Program(tmp_path / "home", "", f"file://{repository.directory}", nodes[0].identity)
    assert (await asyncio.to_thread(program.run, "sync", "--wait")).code == 0
    serving = program.start("serve", RECONCILER_LOG__LEVEL="error")
    name = "content-1.example.com"
    repository.commit({"image.yaml": IMAGE.replace("untrusted.example.com", name)}, name)
    for reloads in (NODES + 3, NODES + 10):
        await asyncio.to_thread(wait_for, partial(_has_reloaded, nodes, reloads), "the rollout does not go on", 120)
        os.kill(int((tmp_path / "home/data/postgres/postmaster.pid").read_text().splitlines()[0]), signal.SIGKILL)
    await asyncio.to_thread(wait_for, lambda: _reloads(nodes) == 2 * NODES, "the rollout does not end", 300)
    serving.terminate()
    serving.communicate(timeout=60)
    assert (await asyncio.to_thread(program.run, "sync", "--wait")).code == 0
    assert (await asyncio.to_thread(program.run, "log", "verify")).code == 0
    assert all(name in at(node, REGISTRIES_CONF).read_text() for node in nodes)
    assert [node.actions().count(RELOAD) for node in nodes] == [2] * NODES
    assert Budget(nodes).cordoned() == []


def _has_reloaded(nodes: list[SandboxNode], count: int) -> bool:
    return _reloads(nodes) >= count


def _reloads(nodes: list[SandboxNode]) -> int:
    return sum(node.actions().count(RELOAD) for node in nodes)


async def _until(world: World, nodes: list[SandboxNode], name: str) -> None:
    """Wait until every node has the content and the fleet is as wanted."""

    def has_it() -> bool:
        return all(name in at(node, REGISTRIES_CONF).read_text() for node in nodes)

    await asyncio.to_thread(wait_for, has_it, "the content does not come to all nodes", 300)
    async with asyncio.timeout(120):
        while (await world.status()).exit_code:  # noqa: ASYNC110  another process is at work
            await asyncio.sleep(0.5)
