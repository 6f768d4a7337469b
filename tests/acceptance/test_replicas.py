"""Two replicas on one log: what one of them did, the other neither does again nor undoes."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import pytest

from reconciler.cycle import run_pass
from reconciler.ports import Commit, EventFilter, ManifestFile
from reconciler.stages.context import Context
from reconciler.stages.record import record
from reconciler.transport.memory import MemoryTransport
from tests.world import IMAGE, POOL, ManualClock, MemoryWorld, image, make_world, memory_nodes


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def transport(clock: ManualClock) -> MemoryTransport:
    return MemoryTransport(clock)


@pytest.fixture
def world(transport: MemoryTransport, clock: ManualClock, tmp_path: Path) -> MemoryWorld:
    world = make_world(tmp_path, transport, clock)
    world.repository.commit({"pool.yaml": POOL, "image.yaml": IMAGE, **memory_nodes(["n1", "n2"])})
    return world


class Overtaken:
    """A source: once it has said which commits are new, another replica records them first."""

    def __init__(self, context: Context) -> None:
        self._source, self._other = context.source, context

    async def head(self) -> str:
        return await self._source.head()

    async def commits(self, since: str | None, head: str, *, limit: int | None = None) -> Sequence[Commit] | None:
        found = await self._source.commits(since, head, limit=limit)
        await record(self._other, head)
        return found

    async def manifests(self, commit: str) -> Sequence[ManifestFile]:
        return await self._source.manifests(commit)


async def test_commits_that_another_replica_recorded_meanwhile_are_not_recorded_again(world: MemoryWorld) -> None:
    await world.run()
    for number in (1, 2):
        world.repository.commit({"image.yaml": image(blockedRegistries=[f"{number}.corp"])}, f"Commit {number}")

    await run_pass(dataclasses.replace(world.context, source=Overtaken(world.context), owner="slow"))

    observed = await world.log.read(EventFilter(types=("CommitObserved",)))
    assert max(Counter(event.columns["commit"] for event in observed).values()) == 1
