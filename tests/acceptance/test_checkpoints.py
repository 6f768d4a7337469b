"""The service signs the head of the log when it is due, and stops where what is published contradicts the log."""

from __future__ import annotations

import dataclasses
from datetime import timedelta
from pathlib import Path

import pytest

from reconciler import checkpoints, restores
from reconciler.checkpoints import LEASE, Signing
from reconciler.errors import InputRejected, NotConverged, SourceError
from reconciler.events.catalogue import CheckpointSigned
from reconciler.events.checkpoint import Checkpoint, SignerKey, opened, origin_of
from reconciler.service import Notary
from reconciler.settings import Settings
from reconciler.source.branch import BranchFile
from reconciler.transport.memory import MemoryTransport
from tests.acceptance.test_restored import copy_of
from tests.world import IMAGE, POOL, ManualClock, MemoryWorld, make_world, memory_nodes

KEY = SignerKey("log.example.com", bytes(range(32)))
HOUR = timedelta(hours=1)


class Shelf:
    """A target in memory."""

    name = "shelf"

    def __init__(self) -> None:
        self.notes: list[str] = []
        self.messages: list[str] = []

    async def latest(self) -> str | None:
        return self.notes[-1] if self.notes else None

    async def publish(self, text: str, message: str) -> None:
        self.notes.append(text)
        self.messages.append(message)


@pytest.fixture
async def world(tmp_path: Path) -> MemoryWorld:
    clock = ManualClock()
    world = make_world(tmp_path, MemoryTransport(clock), clock)
    world.repository.commit({"pool.yaml": POOL, "image.yaml": IMAGE, **memory_nodes(["w1"])})
    assert (await world.sync()).exit_code == 0
    return world


@pytest.fixture
def shelf() -> Shelf:
    return Shelf()


@pytest.fixture
def signing(world: MemoryWorld, shelf: Shelf) -> Signing:
    return Signing([world.context], KEY, [shelf])


def block(world: MemoryWorld, registry: str) -> None:
    world.repository.commit({"image.yaml": IMAGE.replace("untrusted.example.com", registry)})


async def signed_then_restored(world: MemoryWorld, signing: Signing) -> tuple[MemoryWorld, Signing]:
    """The world as it was before a change that was signed; and what signs there."""
    backup = await world.head()
    block(world, "more.example.com")
    await world.sync()
    await checkpoints.sign(signing)
    copy = copy_of(world, backup)
    return copy, dataclasses.replace(signing, contexts=[copy.context])


async def test_a_checkpoint_is_published_and_recorded(world: MemoryWorld, signing: Signing, shelf: Shelf) -> None:
    head = world.log.records[-1]
    done = await checkpoints.sign(signing)
    assert done is not None
    expected = Checkpoint(origin_of(world.log.log_id), head.position, head.hash.hex())
    assert opened(shelf.notes[-1], [KEY.public]) == [expected]
    assert shelf.messages == [f"Checkpoint of {expected.origin} at #{head.position}"]
    assert (done["position"], done["hash"], done["targets"]) == (head.position, head.hash.hex(), "shelf")
    assert await world.types(after=head.position) == ["CheckpointSigned"]
    await world.context.leases.acquire(LEASE, "another", 60)
    assert await checkpoints.sign(signing) is None


async def test_the_next_one_is_due_by_time_or_by_number_and_never_for_itself(
    world: MemoryWorld, signing: Signing
) -> None:
    assert await checkpoints.is_due(signing, HOUR, 0)
    await checkpoints.sign(signing)
    world.clock.advance(7200)
    assert not await checkpoints.is_due(signing, HOUR, 1)
    block(world, "more.example.com")
    await world.sync()
    assert await checkpoints.is_due(signing, HOUR, 0)
    assert await checkpoints.is_due(signing, timedelta(days=1), 5)
    assert not await checkpoints.is_due(signing, timedelta(days=1), 1000)
    assert not await checkpoints.is_due(signing, timedelta(days=1), 0)


async def test_the_service_signs_and_goes_on_after_errors(
    world: MemoryWorld, signing: Signing, shelf: Shelf, monkeypatch: pytest.MonkeyPatch
) -> None:
    notary = Notary(signing, Settings())
    await notary.look()
    await notary.look()
    assert len(shelf.notes) == 1
    block(world, "more.example.com")
    await world.sync()
    world.clock.advance(7200)

    async def away(text: str, message: str) -> None:
        raise SourceError("the shelf is gone (scripted)")

    with monkeypatch.context() as patch:
        patch.setattr(shelf, "publish", away)
        await notary.look()
    assert len(shelf.notes) == 1
    await notary.look()
    assert len(shelf.notes) == 2


@pytest.mark.parametrize("signed_before", [False, True])
async def test_what_does_not_verify_is_not_signed(
    world: MemoryWorld, signing: Signing, shelf: Shelf, signed_before: bool
) -> None:
    if signed_before:
        await checkpoints.sign(signing)
    block(world, "more.example.com")
    await world.sync()
    last = world.log.records[-1]
    world.log.records[-1] = last._replace(hash=bytes(32))
    with pytest.raises(NotConverged, match=f"the log does not verify: event #{last.position}: the row does not match"):
        await checkpoints.sign(signing)
    assert len(shelf.notes) == signed_before
    world.log.records[-1] = last
    assert await checkpoints.sign(signing) is not None


@pytest.mark.parametrize("forged", [(10**12, "0" * 64), (1, "zz"), (1, "0" * 64), (-1, "")])
async def test_an_event_that_only_says_what_was_signed_is_not_believed(
    world: MemoryWorld, signing: Signing, forged: tuple[int, str]
) -> None:
    said = CheckpointSigned(*forged, "a key", "a shelf")
    now = await world.context.snapshot()
    await world.context.append(world.context.events(now, [said]), now, [])
    whole = world.log.records[2]
    world.log.records[2] = whole._replace(hash=bytes(32))
    with pytest.raises(NotConverged, match="the log does not verify: event #3: the row does not match"):
        await checkpoints.sign(signing)
    world.log.records[2] = whole
    assert await checkpoints.sign(signing) is not None


async def test_after_a_person_accepted_the_log_the_rest_is_verified(world: MemoryWorld, signing: Signing) -> None:
    copy, other = await signed_then_restored(world, signing)
    await Notary(other, Settings()).look()
    await restores.accept(copy.context, reason="the disk was lost")
    block(copy, "another.example.com")
    await copy.sync()
    copy.log.records[-1] = copy.log.records[-1]._replace(hash=bytes(32))
    with pytest.raises(NotConverged, match=f"event #{copy.log.records[-1].position}: the row does not match"):
        await checkpoints.sign(other)


async def test_a_service_over_a_restored_log_finds_it_while_no_node_answers(
    world: MemoryWorld, signing: Signing, shelf: Shelf
) -> None:
    backup = await world.head()
    copy, other = await signed_then_restored(world, signing)
    await Notary(other, Settings()).look()
    assert await copy.types(after=backup) == ["RestoreDetected"]
    assert len(shelf.notes) == 1
    assert (await copy.status()).exit_code == 3
    with pytest.raises(NotConverged, match="checkpoint shelf knows this log up to"):
        await checkpoints.sign(other)
    await restores.accept(copy.context, reason="the disk was lost")
    copy.clock.advance(7200)
    assert await checkpoints.sign(other) is not None
    assert len(shelf.notes) == 2
    with pytest.raises(NotConverged, match="checkpoint shelf knows another event"):
        await checkpoints.sign(signing)


async def test_what_a_person_accepted_for_another_reason_needs_no_second_word(
    world: MemoryWorld, signing: Signing, shelf: Shelf
) -> None:
    copy, other = await signed_then_restored(world, signing)
    assert (await copy.sync()).exit_code == 3
    await restores.accept(copy.context, reason="the nodes said so")
    assert await checkpoints.sign(other) is not None
    assert len(shelf.notes) == 2


async def test_a_target_of_another_log_or_key_is_refused_and_kept(signing: Signing, shelf: Shelf) -> None:
    for note, match in (
        (KEY.signed(Checkpoint(origin_of("other"), 1, "0" * 64)), "holds a checkpoint of another log"),
        (SignerKey("new", bytes(32)).signed(Checkpoint(origin_of(signing.log.log_id), 1, "0" * 64)), "no signature of"),
        ("somebody's file\n", "is no signed checkpoint"),
    ):
        shelf.notes = [note]
        with pytest.raises(InputRejected, match=match):
            await checkpoints.sign(signing)
        assert shelf.notes == [note]


async def test_a_branch_only_goes_forward_and_keeps_what_else_is_on_it(world: MemoryWorld, tmp_path: Path) -> None:
    git = world.repository.git
    git("branch", "audit")
    before = git("rev-parse", "audit")
    first, second = (
        BranchFile(str(world.repository.directory), "audit", "checkpoint", tmp_path / name, 30.0) for name in "ab"
    )
    assert await first.latest() is None
    await first.publish("one\n", "First")
    assert await second.latest() == "one\n"
    await second.publish("two\n", "Second")
    assert (await first.latest(), git("log", "--format=%s", "-2", "audit")) == ("two\n", "Second\nFirst")
    assert git("rev-parse", "audit~2") == before
    assert set(git("ls-tree", "--name-only", "audit").split()) == {
        "checkpoint",
        "image.yaml",
        "nodes.yaml",
        "pool.yaml",
    }
    hook = world.repository.directory / ".git" / "hooks" / "pre-receive"
    hook.write_text("#!/bin/sh\nexit 1\n")
    hook.chmod(0o755)
    with pytest.raises(SourceError, match="the branch moved on, or refuses the commit"):
        await first.publish("three\n", "Third")
    assert await first.latest() == "two\n"
