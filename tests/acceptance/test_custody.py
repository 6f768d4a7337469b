"""Whose a node is: held by its operator, given back, taken again, owned by another log, another machine or key."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from reconciler import commands, custody
from reconciler.errors import HostKeyRefused, NodeRefused, UsageError
from reconciler.events.catalogue import HostKeyChanged, NodeReleased
from reconciler.ports import EventFilter, Observation, ObserveRequest, Owner, Target
from reconciler.projections.status import NodeStatus
from reconciler.registries.model import POLICY_JSON, REGISTRIES_CONF
from reconciler.transport.memory import MemoryTransport
from reconciler.transport.memory_node import MemoryNode
from reconciler.transport.memory_parts import Entry
from tests.world import IMAGE, POOL, ManualClock, MemoryWorld, make_world, memory_nodes, node_document

MINE = b"# mine\n"
OLD, NEW = "SHA256:old", "SHA256:new"


class KeyedTransport(MemoryTransport):
    """Memory nodes that show a host key; `trusted`: the keys that somebody vouches for."""

    shown = OLD
    trusted = frozenset({OLD})

    async def observe(self, target: Target, request: ObserveRequest) -> Observation:
        if self.shown not in self.trusted:
            refused = HostKeyRefused(f"shows the host key {self.shown}", where=f"node {target.name}")
            refused.shown = self.shown
            raise refused
        return replace(await super().observe(target, request), host_key=self.shown)


@dataclass
class Fleet:
    world: MemoryWorld
    transport: KeyedTransport

    @property
    def w1(self) -> MemoryNode:
        return self.transport.node("w1")

    async def status(self) -> NodeStatus:
        return (await self.world.status()).nodes[0]

    async def last(self, count: int) -> list[str]:
        return [event.type for event in await self.world.log.read(EventFilter(node="w1"))][-count:]

    async def rests(self) -> None:
        head = await self.world.head()
        await self.world.run()
        assert await self.world.types(after=head) == []


@pytest.fixture
async def fleet(tmp_path: Path) -> Fleet:
    """Two nodes, of which w1 had a file of its own before the first rollout."""
    clock = ManualClock()
    transport = KeyedTransport(clock)
    fleet = Fleet(make_world(tmp_path, transport, clock), transport)
    fleet.w1.files[REGISTRIES_CONF] = Entry(MINE, 0o600)
    fleet.world.repository.commit({"pool.yaml": POOL, "image.yaml": IMAGE, **memory_nodes(["w1", "w2"])})
    assert (await fleet.world.sync()).exit_code == 0
    return fleet


async def test_a_held_node_is_no_failure_and_not_converged(fleet: Fleet) -> None:
    fleet.w1.hold = "on call: me"
    status = await fleet.world.sync()
    assert (status.exit_code, status.nodes[0].files, status.nodes[0].reason) == (
        3,
        "HeldLocally",
        "held locally: on call: me",
    )
    await fleet.rests()
    fleet.w1.hold = ""
    assert (await fleet.world.sync()).exit_code == 0


async def test_release_and_restore_gives_the_bytes_back_and_is_final_until_adopted(fleet: Fleet) -> None:
    await custody.release(fleet.world.context, "w1", restore=True, reason="to the other team")
    status = await fleet.world.sync()
    assert status.exit_code == 3
    assert (status.nodes[0].files, status.nodes[1].files) == ("Released", "Converged")
    assert status.nodes[0].reason == "to the other team: `reconciler adopt` takes it back"
    entry = fleet.w1.files[REGISTRIES_CONF]
    assert (entry.content, entry.mode, POLICY_JSON in fleet.w1.files) == (MINE, 0o600, False)
    assert fleet.w1.owner is None
    (event,) = await fleet.world.log.read(EventFilter(types=["NodeReleased"]))
    assert isinstance(event.body, NodeReleased)
    assert event.body.restored
    fleet.world.repository.commit({"image.yaml": IMAGE.replace("untrusted", "worse")})
    await fleet.world.sync()
    assert fleet.w1.files[REGISTRIES_CONF].content == MINE
    await fleet.rests()
    with pytest.raises(UsageError, match="released already"):
        await custody.release(fleet.world.context, "w1", restore=False, reason="x")
    await custody.adopt(fleet.world.context, "w1", reason="it came back")
    assert (await fleet.world.sync()).exit_code == 0
    assert b"worse" in fleet.w1.files[REGISTRIES_CONF].content


async def test_release_and_keep_leaves_the_files_which_are_the_base_when_it_is_adopted(fleet: Fleet) -> None:
    ours = fleet.w1.files[REGISTRIES_CONF]
    await custody.release(fleet.world.context, "w1", restore=False, reason="x")
    await fleet.world.sync()
    assert fleet.w1.files[REGISTRIES_CONF] == ours
    await custody.adopt(fleet.world.context, "w1", reason="y")
    assert (await fleet.world.sync()).exit_code == 0
    await custody.release(fleet.world.context, "w1", restore=True, reason="z")
    await fleet.world.sync()
    assert fleet.w1.files[REGISTRIES_CONF].content == ours.content


async def test_a_release_whose_answer_is_lost_is_finished_by_the_next_pass(fleet: Fleet) -> None:
    await custody.release(fleet.world.context, "w1", restore=True, reason="x")
    fleet.w1.faults.lose = "placed"
    await fleet.world.run()
    assert (await fleet.status()).files == "Pending"
    fleet.world.clock.advance(3600)
    await fleet.world.sync()
    assert (await fleet.status()).files == "Released"
    assert fleet.w1.files[REGISTRIES_CONF].content == MINE


async def test_a_release_that_a_held_node_refuses_waits_and_may_be_taken_back(fleet: Fleet) -> None:
    fleet.w1.hold = "not now"
    await fleet.world.run()
    await custody.release(fleet.world.context, "w1", restore=True, reason="x")
    await fleet.world.run()
    assert (await fleet.status()).files == "HeldLocally"
    await custody.adopt(fleet.world.context, "w1", reason="a mistake")
    fleet.w1.hold = ""
    assert (await fleet.world.sync()).exit_code == 0
    assert "NodeReleased" not in await fleet.world.types()


async def test_in_a_pool_that_observes_a_node_can_be_given_back_too(fleet: Fleet) -> None:
    fleet.world.repository.commit({"pool.yaml": POOL.replace("mode: enforce", "mode: observe")})
    await custody.release(fleet.world.context, "w1", restore=True, reason="x")
    await fleet.world.sync()
    assert (await fleet.status()).files == "Released"


async def test_a_released_node_whose_document_was_removed_begins_anew(fleet: Fleet) -> None:
    await custody.release(fleet.world.context, "w1", restore=True, reason="x")
    await fleet.world.sync()
    both = memory_nodes(["w1", "w2"])
    fleet.world.repository.commit(memory_nodes(["w2"]))
    await fleet.world.sync()
    await commands.approve(fleet.world.context, None, reason="half the nodes are gone")
    await fleet.world.sync()
    fleet.world.repository.commit(both)
    assert (await fleet.world.sync()).exit_code == 0
    assert (await fleet.status()).files == "Converged"


async def test_a_node_that_another_log_owns_is_taken_with_what_stands_there(fleet: Fleet) -> None:
    theirs = Owner("another-log", 7, 900, 3, "s-9")
    fleet.w1.owner, fleet.w1.files[REGISTRIES_CONF] = theirs, Entry(b"# theirs\n")
    status = await fleet.world.sync()
    assert status.exit_code == 3
    assert status.nodes[0].reason.startswith("belongs to another log (another-log)")
    with pytest.raises(UsageError, match="neither a release nor another log keeps node w2 out"):
        await custody.adopt(fleet.world.context, "w2", reason="x")
    await custody.adopt(fleet.world.context, "w1", reason="that log is lost")
    with pytest.raises(UsageError, match="to be adopted already"):
        await custody.adopt(fleet.world.context, "w1", reason="again")
    assert (await fleet.world.sync()).exit_code == 0
    assert fleet.w1.owner.log_id == fleet.world.context.log.log_id
    await custody.release(fleet.world.context, "w1", restore=True, reason="x")
    await fleet.world.sync()
    assert fleet.w1.files[REGISTRIES_CONF].content == b"# theirs\n"


async def test_another_machine_is_another_node_but_another_address_is_not(fleet: Fleet) -> None:
    moved = node_document("w1", "{transport: memory, address: 10.0.0.99}")
    fleet.world.repository.commit({"nodes.yaml": memory_nodes(["w2"])["nodes.yaml"], "w1.yaml": moved})
    head = await fleet.world.head()
    assert (await fleet.world.sync()).exit_code == 0
    types = await fleet.world.types(after=head)
    assert "NodeChanged" in types
    assert not {"NodeReset", "StepStarted", "BaselineCaptured"} & set(types)
    fleet.w1.machine_id = "another"
    await fleet.world.run()
    assert "NodeReset" in await fleet.last(10)


async def test_a_changed_host_key_is_told_and_refused_until_somebody_vouches_for_it(fleet: Fleet) -> None:
    fleet.transport.shown = NEW
    status = await fleet.world.sync()
    assert (status.exit_code, status.nodes[0].ready) == (3, False)
    (first, _) = await fleet.world.log.read(EventFilter(types=["HostKeyChanged"]))
    assert first.body == HostKeyChanged("w1", OLD, NEW, f"shows the host key {NEW}")
    assert "NodeUnreachable" not in await fleet.world.types()
    await fleet.rests()
    fleet.transport.trusted = frozenset({OLD, NEW})
    assert (await fleet.world.sync()).exit_code == 0
    assert (await fleet.last(1)) == ["NodeRecovered"]
    fleet.transport.shown = OLD
    assert (await fleet.world.sync()).exit_code == 0
    (event,) = (await fleet.world.log.read(EventFilter(types=["HostKeyChanged"], node="w1")))[1:]
    assert event.body == HostKeyChanged("w1", NEW, OLD, "")


async def test_a_node_that_does_not_answer_cannot_be_taken(fleet: Fleet) -> None:
    fleet.w1.faults.unreachable = True
    with pytest.raises(NodeRefused, match="no connection"):
        await custody.adopt(fleet.world.context, "w1", reason="x")
    with pytest.raises(UsageError, match="there is no node w9"):
        await custody.adopt(fleet.world.context, "w9", reason="x")
