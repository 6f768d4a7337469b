"""Which bytes are sent to a node: those that it does not have."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from reconciler.errors import NodeError
from reconciler.ports import Job, Receipt
from reconciler.registries.model import POLICY_JSON, REGISTRIES_CONF
from reconciler.transport.memory import MemoryTransport
from reconciler.transport.memory_parts import Entry
from reconciler.work.inline import InlineRunner
from tests.world import IMAGE, POOL, ManualClock, MemoryWorld, make_world, memory_nodes, mirrors


class Watched(InlineRunner):
    """A runner that keeps what it was asked; `before` happens on a node just before it is asked."""

    def __init__(self, transport: MemoryTransport) -> None:
        super().__init__(transport)
        self.jobs: list[Job] = []
        self.before: Mapping[str, bytes] = {}
        self._nodes = transport

    async def apply(self, jobs: Sequence[Job]) -> Sequence[Receipt | NodeError]:
        self.jobs += jobs
        for path, content in self.before.items():
            self._nodes.node("n1").files[path] = Entry(content)
        return await super().apply(jobs)


@pytest.fixture
def transport() -> MemoryTransport:
    return MemoryTransport(ManualClock())


@pytest.fixture
async def world(transport: MemoryTransport, tmp_path: Path) -> MemoryWorld:
    world = make_world(tmp_path, transport)
    world.repository.commit({"pool.yaml": POOL, "image.yaml": IMAGE, **memory_nodes(["n1"])})
    world.context = replace(world.context, runner=Watched(transport))
    await world.sync()
    return world


def sent(world: MemoryWorld) -> tuple[set[str], set[str]]:
    """The paths of the last change, and those of them whose bytes the node has."""
    assert isinstance(world.context.runner, Watched)
    request = world.context.runner.jobs[-1].request
    return {file.path for file in request.files}, set(request.same)  # type: ignore[union-attr]  # all are ApplyRequests


async def test_what_the_node_has_is_not_sent(world: MemoryWorld) -> None:
    assert sent(world)[1] == set()
    world.repository.commit({"mirrors.yaml": mirrors("m", "quay.io/a", "mirror.example.com/a")})
    await world.sync()
    paths, same = sent(world)
    assert REGISTRIES_CONF in paths - same
    assert same == paths - {REGISTRIES_CONF}
    assert POLICY_JSON in same


async def test_what_lost_its_mode_is_sent(world: MemoryWorld, transport: MemoryTransport) -> None:
    files = transport.node("n1").files
    files[POLICY_JSON] = replace(files[POLICY_JSON], mode=0o600)
    await world.sync()
    paths, same = sent(world)
    assert same == paths - {POLICY_JSON}
    assert files[POLICY_JSON].mode == 0o644


async def test_a_node_that_changed_meanwhile_is_looked_at_again(world: MemoryWorld) -> None:
    """Nothing is written there before it is known what it has."""
    runner = world.context.runner
    assert isinstance(runner, Watched)
    runner.before = {POLICY_JSON: b"{}"}
    world.repository.commit({"mirrors.yaml": mirrors("m", "quay.io/a", "mirror.example.com/a")})
    await world.run()
    assert "quay.io/a" not in world_text(world, REGISTRIES_CONF)
    runner.before = {}
    assert (await world.sync()).exit_code == 0
    assert "quay.io/a" in world_text(world, REGISTRIES_CONF)
    assert world_text(world, POLICY_JSON) != "{}"


def world_text(world: MemoryWorld, path: str) -> str:
    runner = world.context.runner
    assert isinstance(runner, Watched)
    return runner._nodes.node("n1").files[path].content.decode()
