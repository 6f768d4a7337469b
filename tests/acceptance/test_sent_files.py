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

MIRRORS = {"mirrors.yaml": mirrors("m", "quay.io/a", "mirror.example.com/a")}


class Watched(InlineRunner):
    """A runner that keeps what it was asked; `meanwhile` is put on the node just before it is."""

    def __init__(self, transport: MemoryTransport) -> None:
        super().__init__(transport)
        self.jobs: list[Job] = []
        self.meanwhile: Mapping[str, bytes] = {}
        self.files = transport.node("n1").files

    async def apply(self, jobs: Sequence[Job]) -> Sequence[Receipt | NodeError]:
        self.jobs += jobs
        self.files.update({path: Entry(content) for path, content in self.meanwhile.items()})
        return await super().apply(jobs)

    @property
    def sent(self) -> tuple[set[str], set[str]]:
        """The paths of the last change, and those of them whose bytes the node has."""
        request = self.jobs[-1].request
        return {file.path for file in request.files}, set(request.same)


@pytest.fixture
def transport() -> MemoryTransport:
    return MemoryTransport(ManualClock())


@pytest.fixture
def runner(transport: MemoryTransport) -> Watched:
    return Watched(transport)


@pytest.fixture
async def world(transport: MemoryTransport, runner: Watched, tmp_path: Path) -> MemoryWorld:
    world = make_world(tmp_path, transport)
    world.repository.commit({"pool.yaml": POOL, "image.yaml": IMAGE, **memory_nodes(["n1"])})
    world.context = replace(world.context, runner=runner)
    await world.sync()
    assert runner.sent[1] == set()
    return world


async def test_what_the_node_has_is_not_sent(world: MemoryWorld, runner: Watched) -> None:
    world.repository.commit(MIRRORS)
    await world.sync()
    paths, same = runner.sent
    assert POLICY_JSON in same
    assert same == paths - {REGISTRIES_CONF}


async def test_what_lost_its_mode_is_sent(world: MemoryWorld, runner: Watched) -> None:
    runner.files[POLICY_JSON] = replace(runner.files[POLICY_JSON], mode=0o600)
    await world.sync()
    paths, same = runner.sent
    assert same == paths - {POLICY_JSON}
    assert runner.files[POLICY_JSON].mode == 0o644


async def test_a_node_that_changed_meanwhile_is_looked_at_again(world: MemoryWorld, runner: Watched) -> None:
    """Nothing is written before it is known what the node has."""
    runner.meanwhile = {POLICY_JSON: b"{}"}
    world.repository.commit(MIRRORS)
    await world.run()
    assert b"quay.io/a" not in runner.files[REGISTRIES_CONF].content
    runner.meanwhile = {}
    assert (await world.sync()).exit_code == 0
    assert b"quay.io/a" in runner.files[REGISTRIES_CONF].content
    assert POLICY_JSON not in runner.sent[1]
    assert runner.files[POLICY_JSON].content != b"{}"
