"""Two replicas on one log: what one of them did, the other neither does again nor undoes."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from pathlib import Path

import pytest

from reconciler.cycle import run_pass
from reconciler.errors import NodeError, StoreError
from reconciler.events.envelope import NewEvent, StoredEvent
from reconciler.ports import (
    Commit,
    EventFilter,
    EventLog,
    Job,
    ManifestFile,
    Proposal,
    Receipt,
    Signature,
    Verification,
)
from reconciler.registries.model import REGISTRIES_CONF
from reconciler.stages.context import Context
from reconciler.stages.record import record
from reconciler.transport.memory import MemoryTransport
from reconciler.work.inline import InlineRunner
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

    async def revision(self, name: str) -> str:
        return await self._source.revision(name)

    async def manifests(self, commit: str) -> Sequence[ManifestFile]:
        return await self._source.manifests(commit)

    async def push(self, branch: str, proposal: Proposal) -> str:
        return await self._source.push(branch, proposal)

    async def keys(self) -> str:
        return await self._source.keys()

    async def signatures(self, since: str | None, commit: str) -> Sequence[Signature]:
        return await self._source.signatures(since, commit)


async def test_commits_that_another_replica_recorded_meanwhile_are_not_recorded_again(world: MemoryWorld) -> None:
    await world.run()
    for number in (1, 2):
        world.repository.commit({"image.yaml": image(blockedRegistries=[f"{number}.corp"])}, f"Commit {number}")

    await run_pass(dataclasses.replace(world.context, source=Overtaken(world.context), owner="slow"))

    observed = await world.log.read(EventFilter(types=("CommitObserved",)))
    assert max(Counter(event.columns["commit"] for event in observed).values()) == 1


class Failing:
    """An event log whose database goes away once, just before a group with an event of `event_type` is appended."""

    def __init__(self, log: EventLog, event_type: str) -> None:
        self._log, self._event_type = log, event_type
        self.log_id = log.log_id

    async def append(self, events: Sequence[NewEvent], expect: Mapping[str, int]) -> Sequence[StoredEvent]:
        if any(event.body.type == self._event_type for event in events):
            raise StoreError("the database is gone (scripted)")
        return await self._log.append(events, expect)

    async def read(self, wanted: EventFilter) -> Sequence[StoredEvent]:
        return await self._log.read(wanted)

    def follow(self, after: int) -> AsyncIterator[StoredEvent]:
        return self._log.follow(after)

    async def hashes(self, positions: Iterable[int]) -> Mapping[int, str]:
        return await self._log.hashes(positions)

    async def verify(self) -> Verification:
        return await self._log.verify()

    async def verify_after(self, position: int, trusted: str) -> Verification:
        return await self._log.verify_after(position, trusted)


async def lose_receipt(world: MemoryWorld) -> Context:
    """A pass ends between a node's receipt and its record. The context that owns the step."""
    owner = dataclasses.replace(world.context, log=Failing(world.log, "NodeConverged"), owner="first")
    with pytest.raises(StoreError, match="scripted"):
        await run_pass(owner)
    assert [node.files for node in (await world.status()).nodes] == ["Applying", "Pending"]
    return owner


async def test_a_process_goes_on_with_its_own_step_whose_receipt_it_could_not_record(
    world: MemoryWorld, transport: MemoryTransport
) -> None:
    first = await lose_receipt(world)
    await world.context.leases.acquire("owner/first", "first", 3600)
    await run_pass(dataclasses.replace(first, log=world.log))
    assert (await world.status()).exit_code == 0
    assert transport.nodes["n1"].actions == ["reload crio.service"]


async def test_another_process_leaves_the_step_to_its_living_owner(world: MemoryWorld) -> None:
    await lose_receipt(world)
    await world.context.leases.acquire("owner/first", "first", 3600)
    await world.run()
    assert (await world.status()).nodes[0].files == "Applying"
    await world.context.leases.release("owner/first", "first")
    assert (await world.sync()).exit_code == 0


async def test_an_orphan_whose_content_nobody_wants_any_more(world: MemoryWorld, transport: MemoryTransport) -> None:
    """It is sent again as it was, for only so can the node tell what became of it; then comes the newer content."""
    await lose_receipt(world)
    world.repository.commit({"image.yaml": image(blockedRegistries=["new.corp"])}, "Newer")
    assert (await world.sync()).exit_code == 0
    assert b"new.corp" in transport.nodes["n1"].files[REGISTRIES_CONF].content


async def test_an_orphan_in_a_pool_that_only_observes_by_now(world: MemoryWorld, transport: MemoryTransport) -> None:
    await world.sync()
    world.repository.commit({"image.yaml": image(blockedRegistries=["new.corp"])}, "Newer")
    transport.node("n1").faults.lose = "before"
    first = dataclasses.replace(world.context, log=Failing(world.log, "NodeDeferred"), owner="first")
    with pytest.raises(StoreError, match="scripted"):
        await run_pass(first)
    before = dict(transport.nodes["n1"].files)
    world.repository.commit({"pool.yaml": POOL.replace("mode: enforce", "mode: observe")}, "Only look")

    await world.sync()

    assert transport.nodes["n1"].files == before
    assert [node.files for node in (await world.status()).nodes] == ["Pending", "Pending"]
    head = await world.head()
    await world.run()
    assert await world.head() == head


class TakenOver(InlineRunner):
    """A runner so slow that the lease runs out: another process takes the steps over and ends them first."""

    def __init__(self, transport: MemoryTransport, world: MemoryWorld) -> None:
        super().__init__(transport)
        self._world = world

    async def apply(self, jobs: Sequence[Job]) -> Sequence[Receipt | NodeError]:
        answers = await super().apply(jobs)
        await self._world.run()
        return answers


async def test_an_outcome_that_another_process_recorded_is_not_recorded_again(
    world: MemoryWorld, transport: MemoryTransport
) -> None:
    slow = dataclasses.replace(world.context, runner=TakenOver(transport, world), owner="slow")
    await run_pass(slow)
    types = await world.types()
    assert (types.count("NodeConverged"), types.count("RuntimeReloaded"), types.count("StepTakenOver")) == (2, 2, 1)
    assert (await world.status()).exit_code == 0
