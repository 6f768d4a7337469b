"""A redacted version of a document stays part of the history: what does not need its bytes goes on without them."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest

from reconciler import commands
from reconciler.bisection import bisect_image
from reconciler.errors import ContentRedacted
from reconciler.events.catalogue import (
    CommitAccepted,
    CommitHeldBack,
    CommitRejected,
    FilesRendered,
    PlanBlocked,
    ResourceChanged,
)
from reconciler.events.envelope import StoredEvent
from reconciler.explanations import why
from reconciler.history.blame import blame_file
from reconciler.history.compare import Between, files_between, resources_between
from reconciler.history.files import rendered_files
from reconciler.history.since import why_since
from reconciler.ports import EventFilter
from reconciler.queries import status
from reconciler.redaction import redact
from reconciler.registries.model import POLICY_JSON, REGISTRIES_CONF
from reconciler.stages.context import decode_file_set
from reconciler.stages.explained import Question
from reconciler.stages.past import past
from reconciler.transport.memory import MemoryTransport
from tests.world import IMAGE, ManualClock, MemoryWorld, with_images

GOOD, SECRET, OTHER = "untrusted.example.com", "password.example.com", "other.example.com"


def of(registry: str) -> dict[str, str | None]:
    """The file of the Image that blocks a registry."""
    return {"image.yaml": IMAGE.replace(GOOD, registry)}


@pytest.fixture
def transport() -> MemoryTransport:
    return MemoryTransport(ManualClock())


@pytest.fixture
async def world(tmp_path: Path, transport: MemoryTransport) -> MemoryWorld:
    """Of three commits the second named what nobody should have written."""
    return await with_images(tmp_path, transport, SECRET, OTHER)


def next_process(world: MemoryWorld) -> MemoryWorld:
    """The same fleet without what this process remembers."""
    context = dataclasses.replace(world.context, contents={}, resources={}, parsed={}, judged={}, unsent=set())
    return dataclasses.replace(world, context=context)


async def commits(world: MemoryWorld) -> list[StoredEvent]:
    return list(await world.log.read(EventFilter(types=["CommitAccepted"])))


async def without_secret(world: MemoryWorld, blob: str = "content") -> MemoryWorld:
    """The fleet for a new process after the second commit's document was redacted."""
    event = (await world.log.read(EventFilter(types=["ResourceChanged"])))[0]
    assert isinstance(event.body, ResourceChanged)
    await redact(world.context, getattr(event.body, blob), reason="a password")
    return next_process(world)


async def redact_file(world: MemoryWorld) -> None:
    """The file that came of the second commit."""
    rendered = (await world.log.read(EventFilter(types=["FilesRendered"])))[1].body
    assert isinstance(rendered, FilesRendered)
    file_set = decode_file_set((await world.context.blobs.get([rendered.files]))[rendered.files])
    await redact(world.context, file_set.by_path[REGISTRIES_CONF].sha256, reason="a password")


async def roll_back(world: MemoryWorld) -> str:
    first = (await commits(world))[0]
    return str((await commands.rollback(world.context, to=f"#{first.position}", reason="leak"))["hold"])


@pytest.mark.parametrize("before", [True, False])
async def test_a_hold_refuses_what_was_redacted(world: MemoryWorld, transport: MemoryTransport, before: bool) -> None:
    """Redacted before the rollback or after it: syncs go on, and the hold keeps what it restored."""
    if not before:
        await roll_back(world)
    world = await without_secret(world)
    if before:
        await roll_back(world)
    assert (await world.sync()).exit_code == 0
    world.repository.commit(of("third.example.com"))
    world = next_process(world)
    assert (await world.sync()).exit_code == 0
    files = transport.node("w1").files
    assert GOOD in files[REGISTRIES_CONF].content.decode()
    world.repository.commit(of(GOOD))
    head = await world.head()
    assert (await next_process(world).sync()).exit_code == 0
    assert "HoldLifted" in await world.types(after=head)


async def test_the_same_wish_in_other_bytes_is_refused(world: MemoryWorld, transport: MemoryTransport) -> None:
    hold = await roll_back(world)
    world = await without_secret(world)
    again = IMAGE.replace(GOOD, SECRET).replace("{name: cluster}", "{name: cluster, labels: {team: a}}")
    world.repository.commit({"image.yaml": again})
    await world.sync()
    [held_back] = [e.body for e in await world.log.read(EventFilter(types=["CommitHeldBack"]))][-1:]
    assert isinstance(held_back, CommitHeldBack)
    assert [(item["hold"], item["git"]) for item in held_back.entries] == [(hold, "refused")]
    assert SECRET not in transport.node("w1").files[REGISTRIES_CONF].content.decode()


@pytest.mark.parametrize("blob", ["content", "text"])
async def test_git_does_not_bring_it_back(world: MemoryWorld, blob: str) -> None:
    world = await without_secret(world, blob)
    at = await world.head()
    world.repository.commit(of(SECRET))
    await world.sync()
    [event] = await world.log.read(EventFilter(types=["CommitRejected"]))
    assert isinstance(event.body, CommitRejected)
    [problem] = event.body.problems
    assert (event.body.whole, problem["name"], problem["file"]) == (True, "redacted-content", "image.yaml")
    assert f"redacted at #{at}: a password" in problem["message"]
    assert problem["line"] > 0
    assert "write it otherwise" in problem["remedy"]
    world = next_process(world)
    await world.sync()
    world.repository.commit(of("third.example.com"))
    assert (await world.sync()).exit_code == 0


async def test_todays_questions_go_without_it(world: MemoryWorld) -> None:
    """What the redacted version said is not known: the field is of the version after it."""
    world = await without_secret(world)
    [item] = await why(world.context, Question([f"{OTHER}/x:1"]))
    assert item["nodes"] == ["w1"]
    last = (await commits(world))[-1].body
    assert isinstance(last, CommitAccepted)
    lines = (await blame_file(world.context, "w1", REGISTRIES_CONF))["lines"]
    assert last.commit in json.dumps(lines)


async def test_status_of_its_time_is_told(world: MemoryWorld) -> None:
    world = await without_secret(world)
    then = await past(world.context, f"#{(await commits(world))[1].position}")
    assert (await status(then.context))[0].nodes


async def test_bisect_passes_over_it(world: MemoryWorld) -> None:
    """The state that was redacted is none to be found; the one after it is."""
    world = await without_secret(world)
    first, _, last = await commits(world)
    found = await bisect_image(world.context, good=f"#{first.position}", bad=None, image=f"{OTHER}/x:1")
    assert (found["first"]["position"], found["before"]["verdict"]) == (last.position, "pullable")


async def test_a_settled_state_without_it_keeps_the_files_before(world: MemoryWorld) -> None:
    world = await without_secret(world)
    then = await past(world.context, f"#{(await commits(world))[1].position}", settled=True)
    assert then.redacted == ("worker",)
    assert then.unrendered == ()


async def test_why_since_cannot_tell_of_a_redacted_file(world: MemoryWorld) -> None:
    await redact_file(world)
    world = await without_secret(world)
    before = await past(world.context, f"#{(await commits(world))[0].position}", settled=True)
    now = await past(world.context, f"#{await world.head()}", settled=True)
    [item] = await why_since(before.context, now.context, [f"{OTHER}/x:1"])
    told = [change["after"] for change in item["changes"]]
    assert [one["verdict"] for one in told] == ["cannot tell", "not pullable"]
    assert told[0]["reason"] == "a file of that time was redacted"


async def test_a_redacted_file_is_not_rendered_again(world: MemoryWorld, transport: MemoryTransport) -> None:
    await redact_file(world)
    at = await world.head()
    world.repository.commit(of(SECRET))
    await world.sync()
    [blocked] = [event.body for event in await world.log.read(EventFilter(types=["PlanBlocked"]))]
    assert isinstance(blocked, PlanBlocked)
    assert f"redacted at #{at}: a password" in blocked.reason
    assert OTHER in transport.node("w1").files[REGISTRIES_CONF].content.decode()
    world = next_process(world)
    world.repository.commit(of("third.example.com"))
    assert (await world.sync()).exit_code == 0
    assert "third.example.com" in transport.node("w1").files[REGISTRIES_CONF].content.decode()


async def test_where_only_the_text_is_gone_its_state_is_told(world: MemoryWorld) -> None:
    """As it was written nobody knows any more; what it said is known, and so are the files that came of it."""
    world = await without_secret(world, "text")
    first, second, _ = (f"#{event.position}" for event in await commits(world))
    then = await past(world.context, second, settled=True)
    assert (then.redacted, then.unrendered) == ((), ())
    lines = (await blame_file(then.context, "w1", REGISTRIES_CONF))["lines"]
    assert any(SECRET in line["text"] and line["origins"][0]["commit"] for line in lines)
    before = await past(world.context, first, settled=True)
    [item] = [one for one in (await files_between(Between(before.context, then.context)))[0] if SECRET in one["to"]][:1]
    assert item["nodes"] == ["w1"]
    [changed] = await resources_between(Between(before.context, then.context))
    assert changed["to"].startswith("(redacted at #")


async def test_a_redacted_file_leaves_a_gap_that_is_named(world: MemoryWorld) -> None:
    await redact_file(world)
    at, world = await world.head(), next_process(world)
    then = await past(world.context, f"#{(await commits(world))[1].position}", settled=True)
    files, notes = await rendered_files(then.context, "worker", None)
    assert [file.path for file in files] == [POLICY_JSON]
    assert notes == [f"{REGISTRIES_CONF} was redacted at #{at}: a password"]
    [item] = await why(then.context, Question([f"{OTHER}/x:1"]))
    assert (item["verdict"], item["reason"]) == ("cannot tell", f"{REGISTRIES_CONF} was redacted")
    with pytest.raises(ContentRedacted, match="a password"):
        await blame_file(then.context, "w1", REGISTRIES_CONF)
    assert (await blame_file(then.context, "w1", POLICY_JSON))["lines"]
