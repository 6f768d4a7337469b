"""A content whose bytes were taken away: the log stays whole, and whoever needs it is told when and why."""

from __future__ import annotations

from pathlib import Path

import pytest

from reconciler import commands
from reconciler.errors import ContentRedacted, UsageError
from reconciler.events.catalogue import DriftDetected, FilesRendered, ResourceChanged
from reconciler.history.show import show
from reconciler.ports import EventFilter
from reconciler.redaction import redact
from reconciler.registries.model import REGISTRIES_CONF
from reconciler.stages.context import decode_file_set
from reconciler.transport.memory import MemoryTransport
from reconciler.transport.memory_parts import Entry
from tests.world import IMAGE, ManualClock, MemoryWorld, with_images

SECRET = "password.example.com"


@pytest.fixture
def transport() -> MemoryTransport:
    return MemoryTransport(ManualClock())


@pytest.fixture
async def world(tmp_path: Path, transport: MemoryTransport) -> MemoryWorld:
    """The second of three commits named what nobody should have written, and came to the node."""
    return await with_images(tmp_path, transport, SECRET, "other.example.com")


async def text_of(world: MemoryWorld) -> str:
    """The blob with the second commit's document."""
    event = (await world.log.read(EventFilter(types=["ResourceChanged"])))[0]
    assert isinstance(event.body, ResourceChanged)
    assert SECRET.encode() in (await world.context.blobs.get([event.body.text]))[event.body.text]
    return event.body.text


async def files_of(world: MemoryWorld, number: int) -> tuple[str, str]:
    """A rendered file set, and its registries.conf."""
    event = (await world.log.read(EventFilter(types=["FilesRendered"])))[number]
    assert isinstance(event.body, FilesRendered)
    content = (await world.context.blobs.get([event.body.files]))[event.body.files]
    return event.body.files, decode_file_set(content).by_path[REGISTRIES_CONF].sha256


async def test_what_is_redacted_is_gone_and_everything_goes_on(world: MemoryWorld) -> None:
    _, blob = await files_of(world, 1)
    head = await world.head()
    done = await redact(world.context, blob, reason="a password", dry_run=True)
    assert (done["blob"], done["dryRun"], await world.head()) == (blob, True, head)
    assert (await redact(world.context, blob, reason="a password"))["size"] > 0
    assert await world.types(after=head) == ["BlobRedacted"]
    assert (await world.log.verify()).problems == ()
    world.context.contents.clear()
    world.repository.commit({"image.yaml": IMAGE})
    assert (await world.sync()).exit_code == 0
    with pytest.raises(UsageError, match=f"was redacted at #{head + 1}: a password"):
        await redact(world.context, blob, reason="again")


@pytest.mark.parametrize("which", ["text", "files", "registries.conf"])
async def test_a_rollback_to_it_is_refused_by_name(world: MemoryWorld, which: str) -> None:
    files, main = await files_of(world, 1)
    blob = {"text": await text_of(world), "files": files, "registries.conf": main}[which]
    before = (await world.log.read(EventFilter(types=["CommitAccepted"])))[1]
    await redact(world.context, blob, reason="a password")
    world.context.contents.clear()
    head = await world.head()
    with pytest.raises(ContentRedacted, match=f"redacted at #{head}: a password"):
        await commands.rollback(world.context, to=f"#{before.position}", reason="x")
    assert await world.head() == head
    first = (await world.log.read(EventFilter(types=["CommitAccepted"])))[0]
    assert (await commands.rollback(world.context, to=f"#{first.position}", reason="x"))["hold"]
    assert (await world.sync()).exit_code == 0


async def test_what_is_in_use_is_not_redacted(world: MemoryWorld) -> None:
    files, main = await files_of(world, 2)
    state = (await world.context.snapshot()).rows["node_states"]["default", "w1"]
    assert state["files"] == files
    for blob in (files, main):
        with pytest.raises(UsageError, match=f"blob {blob[:12]} is in use"):
            await redact(world.context, blob, reason="x")
    for wrong, match in (("0" * 64, "there is no blob"), ("abc", "is no blob")):
        with pytest.raises(UsageError, match=match):
            await redact(world.context, wrong, reason="x")


async def test_what_a_hold_would_bring_back_is_in_use(world: MemoryWorld) -> None:
    first = (await world.log.read(EventFilter(types=["CommitAccepted"])))[0]
    await commands.rollback(world.context, to=f"#{first.position}", reason="x")
    _, main = await files_of(world, 0)
    with pytest.raises(UsageError, match="is in use"):
        await redact(world.context, main, reason="x")


async def test_drift_that_was_redacted_is_shown_as_such(world: MemoryWorld, transport: MemoryTransport) -> None:
    node = transport.node("w1")
    node.files[REGISTRIES_CONF] = Entry(b"# a password by hand\n")
    assert (await world.sync()).exit_code == 0
    [event] = await world.log.read(EventFilter(types=["DriftDetected"]))
    assert isinstance(event.body, DriftDetected)
    await redact(world.context, event.body.differs[0]["observed"], reason="a password")
    at = await world.head()
    world.context.contents.clear()
    shown = await show(world.context, f"#{event.position}")
    assert shown["differences"][0]["to"] == f"(redacted at #{at}: a password)\n"
    node.files[REGISTRIES_CONF] = Entry(b"# a password by hand\n")
    world.clock.advance(90000)
    assert (await world.sync()).exit_code == 0
    assert b"password" not in node.files[REGISTRIES_CONF].content
    assert (await world.log.verify()).problems == ()
