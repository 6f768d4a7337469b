"""A log that was restored from a backup, forked or rewritten: its nodes say so, and nothing is written before a person
accepts it."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from reconciler import commands, custody, restores
from reconciler.errors import UsageError
from reconciler.events.catalogue import NodeDeferred, RestoreDetected
from reconciler.events.chain import Content, Record, body_digest, event_hash
from reconciler.planning.plan import on_overlay
from reconciler.ports import EventFilter, LogHead
from reconciler.projections.fold import LogFold
from reconciler.registries.model import POLICY_JSON, REGISTRIES_CONF
from reconciler.stages.foresee import foresee_pass
from reconciler.store.memory import MemoryEventLog, MemoryReadModel
from reconciler.store.records import Draft, Head, chained, stored
from reconciler.transport.memory import MemoryTransport
from reconciler.transport.memory_node import MemoryNode
from tests.world import IMAGE, POOL, ManualClock, MemoryWorld, ScriptedSource, make_world, memory_nodes


def copy_of(world: MemoryWorld, until: int, change: Callable[[Record], Content] | None = None) -> MemoryWorld:
    """The world over a copy of its log, up to a position; with `change`, rewritten with a valid chain."""
    log = MemoryEventLog(LogFold(), world.clock, blobs=world.log._blobs, tool_version="test")
    log.log_id = world.log.log_id
    for record in world.log.records[:until]:
        content = change(record) if change else record.content
        head = Head(0, bytes(32), None)
        if log.records:
            last = log.records[-1]
            head = Head(last.position, last.hash, last.recorded_at)
        if change:
            item = Draft.of(content, stored(record).body)
            [(made, _)] = chained([item], head, log.versions, record.recorded_at)
            record = _regrouped(made, record, head)
        log.records.append(record)
        log._events.append(stored(record))
        log._by_id[record.content.event_id] = record
        log.versions[record.content.stream] = record.version
    log.replay()
    reads = MemoryReadModel(log, world.clock)
    context = dataclasses.replace(world.context, log=log, reads=reads, contents={}, owner="test:copy")
    return dataclasses.replace(world, log=log, reads=reads, context=context)


def _regrouped(made: Record, old: Record, head: Head) -> Record:
    place = (made.position, made.version, old.append_group, made.recorded_at)
    own = event_hash(head.hash, *place, body_digest(made.content))
    return made._replace(append_group=old.append_group, hash=own)


def by_mallory(record: Record) -> Content:
    """The first commit was by somebody else."""
    content = record.content
    return content._replace(data=content.data.replace("Alice", "Mallory")) if record.position < 4 else content


@dataclass
class Fleet:
    world: MemoryWorld
    transport: MemoryTransport
    backup: int
    """The position up to which the backup reaches."""

    @property
    def node(self) -> MemoryNode:
        return self.transport.node("w1")

    def block(self, registry: str) -> None:
        self.world.repository.commit({"image.yaml": IMAGE.replace("untrusted.example.com", registry)})


@pytest.fixture
async def fleet(tmp_path: Path) -> Fleet:
    """Two nodes; since the backup another commit has come to them."""
    clock = ManualClock()
    transport = MemoryTransport(clock)
    world = make_world(tmp_path, transport, clock)
    fleet = Fleet(world, transport, 0)
    world.repository.commit({"pool.yaml": POOL, "image.yaml": IMAGE, **memory_nodes(["w1", "w2"])})
    assert (await world.sync()).exit_code == 0
    fleet.backup = await world.head()
    fleet.block("later.example.com")
    assert (await world.sync()).exit_code == 0
    return fleet


async def detections(world: MemoryWorld) -> list[RestoreDetected]:
    events = await world.log.read(EventFilter(types=["RestoreDetected"]))
    return [event.body for event in events if isinstance(event.body, RestoreDetected)]


async def test_a_restored_log_writes_to_no_node_until_a_person_accepts_it(fleet: Fleet) -> None:
    before = {name: dict(node.files) for name, node in fleet.transport.nodes.items()}
    told = fleet.node.owner
    assert told is not None
    world = copy_of(fleet.world, fleet.backup)
    fleet.block("newest.example.com")
    status = await world.sync()
    assert (status.exit_code, [len(found.evidence) for found in await detections(world)]) == (3, [2])
    [found] = await detections(world)
    assert dict(found.evidence[0]) == {
        "source": "node", "name": "w2", "epoch": 1, "position": found.evidence[0]["position"],
        "hash": found.evidence[0]["hash"], "found": "",
    }  # fmt: skip
    assert {"w1": told.head.hash}.items() <= {item["name"]: item["hash"] for item in found.evidence}.items()
    head = await world.head()
    assert (await world.sync()).exit_code == 3
    assert await world.types(after=head) == []
    assert {name: node.files for name, node in fleet.transport.nodes.items()} == before

    assert (await restores.accept(world.context, reason="the disk was lost", dry_run=True))["epoch"] == 2
    assert (await world.head()) == head
    assert (await restores.accept(world.context, reason="the disk was lost"))["epoch"] == 2
    world.clock.advance(3600)
    assert (await world.sync()).exit_code == 0
    assert b"newest.example.com" in fleet.node.files[POLICY_JSON].content + fleet.node.files[REGISTRIES_CONF].content
    assert fleet.node.owner is not None
    assert fleet.node.owner.epoch == 2
    with pytest.raises(UsageError, match="nothing contradicts this log"):
        await restores.accept(world.context, reason="again")


@pytest.mark.parametrize("restore", [True, False])
async def test_a_node_that_was_given_back_since_the_backup_is_not_taken_back_unasked(
    fleet: Fleet, restore: bool
) -> None:
    backup = await fleet.world.head()
    await custody.release(fleet.world.context, "w1", restore=restore, reason="to the other team")
    await fleet.world.sync()
    assert (await fleet.world.sync()).exit_code == 3
    assert await detections(fleet.world) == []  # the log that gave it back
    fleet.block("newest.example.com")
    files, world = dict(fleet.node.files), copy_of(fleet.world, backup)
    for number in range(9):  # the copy comes past the position of the release before it looks
        world.repository.commit({f"notes-{number}.yaml": ""})
    assert (await world.sync()).exit_code == 3
    [found] = await detections(world)
    assert [(item["source"], item["name"]) for item in found.evidence] == [("released node", "w1")]
    assert (fleet.node.owner, fleet.node.files) == (None, files)
    await restores.accept(world.context, reason="it is to come back")
    world.clock.advance(3600)
    assert (await world.sync()).exit_code == 0
    assert fleet.node.owner is not None
    assert fleet.node.owner.epoch == 2


async def test_of_two_copies_nodes_take_only_the_one_that_was_accepted_last(fleet: Fleet) -> None:
    copy = copy_of(fleet.world, fleet.backup)
    await copy.sync()
    await restores.accept(copy.context, reason="the new home of the log")
    fleet.block("newest.example.com")
    copy.clock.advance(3600)
    assert (await copy.sync()).exit_code == 0
    files = dict(fleet.node.files)

    assert (await fleet.world.sync()).exit_code == 3
    [found] = await detections(fleet.world)
    assert {(item["epoch"], item["position"]) for item in found.evidence} == {(2, 0)}
    assert fleet.node.files == files
    assert (await restores.accept(fleet.world.context, reason="no, here"))["epoch"] == 3
    fleet.block("third.example.com")
    fleet.world.clock.advance(3600)
    assert (await fleet.world.sync()).exit_code == 0
    assert (await copy.sync()).exit_code == 3


async def test_nodes_contradict_a_log_that_was_rewritten_with_a_valid_chain(fleet: Fleet) -> None:
    world = copy_of(fleet.world, await fleet.world.head(), by_mallory)
    assert (await world.log.verify()).problems == ()
    assert (await world.sync()).exit_code == 3
    [found] = await detections(world)
    assert {item["name"] for item in found.evidence} == {"w1", "w2"}
    assert all(item["found"] and item["found"] != item["hash"] for item in found.evidence)


async def test_a_node_that_was_never_told_a_hash_contradicts_by_its_fence(fleet: Fleet) -> None:
    for node in fleet.transport.nodes.values():
        assert node.owner is not None
        node.owner = dataclasses.replace(node.owner, head=LogHead())
    assert (await fleet.world.sync()).exit_code == 0
    world = copy_of(fleet.world, fleet.backup)
    assert (await world.sync()).exit_code == 3


async def test_a_step_that_was_under_way_in_the_backup_is_not_taken_over(fleet: Fleet) -> None:
    """Before a person accepts the log nothing is sent, and afterwards nothing that belongs to another time."""
    started = (await fleet.world.log.read(EventFilter(types=["StepStarted"], node="w1")))[-1]
    [group] = {event.group for event in await fleet.world.log.read(EventFilter(after=started.position - 1, limit=1))}
    end = max(event.position for event in await fleet.world.log.read(EventFilter()) if event.group == group)
    fleet.block("newest.example.com")
    assert (await fleet.world.sync()).exit_code == 0
    writes, world = fleet.node.writes, copy_of(fleet.world, end)
    assert (await world.sync()).exit_code == 3
    assert fleet.node.writes == writes
    assert "StepTakenOver" not in await world.types(after=end)
    await restores.accept(world.context, reason="x")
    world.clock.advance(3600)
    assert (await world.sync()).exit_code == 0
    assert "StepTakenOver" not in await world.types(after=end)
    [deferred] = [e.body for e in await world.log.read(EventFilter(types=["NodeDeferred"], node="w1"))]
    assert isinstance(deferred, NodeDeferred)
    assert (deferred.step, deferred.reason) == (started.body.step, "it was begun before the log was restored")  # type: ignore[attr-defined]  # StepStarted
    assert b"newest.example.com" in fleet.node.files[POLICY_JSON].content + fleet.node.files[REGISTRIES_CONF].content


async def test_a_node_that_moves_to_another_fleet_of_the_log_takes_its_epoch_along(fleet: Fleet) -> None:
    world = copy_of(fleet.world, fleet.backup)
    await world.sync()
    assert (await restores.accept(world.context, reason="the disk was lost"))["epoch"] == 2
    world.clock.advance(3600)
    assert (await world.sync()).exit_code == 0
    commit = fleet.world.repository.commit(memory_nodes(["w1"]))
    assert (await world.sync()).exit_code == 3
    await commands.approve(world.context, commit, reason="it moves")
    assert (await world.sync()).exit_code == 0

    source = ScriptedSource()
    source.commit({"pool.yaml": POOL, "image.yaml": IMAGE.replace("untrusted", "other"), **memory_nodes(["w2"])})
    other = dataclasses.replace(
        world.context, fleet=dataclasses.replace(world.context.fleet, name="other"), source=source, owner="test:other"
    )
    await commands.sync(other, wait=True, within=60.0)
    assert len(await detections(world)) == 1
    source.commit({"image.yaml": IMAGE.replace("untrusted", "next")})
    planned = (await foresee_pass(on_overlay(other, await other.snapshot())[0], live=True)).pools
    assert [step.epoch for pool in planned for step in pool.plan.steps] == [2], "as it will be sent"
    node = fleet.transport.node("w2")
    assert b"other.example.com" in node.files[POLICY_JSON].content + node.files[REGISTRIES_CONF].content
