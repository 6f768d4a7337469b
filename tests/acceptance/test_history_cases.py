"""Questions about the past, asked of histories that are data: tests/cases/history."""

from __future__ import annotations

import io
import json
from collections import Counter
from collections.abc import Awaitable, Mapping, Sequence
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

import pytest

from reconciler.cli import diff as diff_door
from reconciler.cli.blame import blame_lines
from reconciler.cli.branches import tree_lines
from reconciler.cli.entries import ENTRY_COLUMNS
from reconciler.cli.explained import change_lines
from reconciler.cli.history import HISTORY_COLUMNS
from reconciler.cli.output import Column, table
from reconciler.errors import ContentRedacted, UsageError
from reconciler.history import compare
from reconciler.history.blame import blame_file
from reconciler.history.entries import history_of_entry
from reconciler.history.events import lines, roots
from reconciler.history.files import compare_sides
from reconciler.history.show import show
from reconciler.history.since import why_since
from reconciler.ports import EventFilter
from reconciler.projections.desired import Desired, shadowed_out
from reconciler.projections.entry_history import entries_about
from reconciler.redaction import redact
from reconciler.stages.past import Past, past, past_at
from tests.histories import History, cases, played

CASES = cases(Path(__file__).parents[1] / "cases/history")
Question = Mapping[str, Any]


async def then(history: History, question: Question, name: str = "at") -> Past:
    """The fleet at the point that the question names, or now; settled, as the doors ask."""
    context = history.world.context
    if name not in question:
        return await past_at(context, await history.world.head(), settled=True)
    return await past(context, history.named(question[name]), settled=True)


async def ask_blame(history: History, question: Question) -> Sequence[str]:
    node, _, path = question["blame"].partition(":")
    data = await blame_file((await then(history, question)).context, node, path)
    first, _, last = question.get("lines", "1,").partition(",")
    return [*data["notes"], *blame_lines(data["lines"][int(first) - 1 : int(last) if last else None], wide=False)]


async def ask_diff(history: History, question: Question) -> Sequence[str]:
    old, new = await then(history, question, "from"), await then(history, question, "to")
    asked = compare.Between(old.context, new.context, question.get("nodes", ()), question.get("pool"))
    notes: Sequence[str] = []
    kind = question["diff"]
    if kind == "files":
        items, notes = await compare.files_between(asked)
    elif kind == "resources":
        items = await compare.resources_between(asked)
    else:
        items, notes = await compare.images_between(asked, question["images"])
    return [*notes, *printed(diff_door.Found(kind, items, "A", "B"))]


async def ask_sides(history: History, question: Question) -> Sequence[str]:
    before, after = question["sides"]
    asked = await then(history, question)
    items = await compare_sides(asked.context, question.get("nodes", ()), None, before, after)
    failed = [f"{item['node']}: {item['error']}" for item in items if "error" in item]
    return [*failed, *printed(diff_door.Found("sides", [i for i in items if "error" not in i], before, after))]


def printed(found: diff_door.Found) -> Sequence[str]:
    with redirect_stdout(io.StringIO()) as out:
        diff_door.print_found(found, found.items, wide=True)
    return out.getvalue().splitlines()


async def ask_entry(history: History, question: Question) -> Sequence[str]:
    asked = await then(history, question)
    return table(
        await history_of_entry(asked.context, question["entry"]), untimed(ENTRY_COLUMNS), wide="wide" in question
    )


async def ask_events(history: History, question: Question) -> Sequence[str]:
    context = history.world.context
    about = question["events"]
    found = await roots(context, about.get("author"), about.get("pull_request"))
    wanted = EventFilter(context.name, correlation_ids=found, types=about["types"])
    return table(await lines(context, wanted), untimed(HISTORY_COLUMNS), wide=True)


async def ask_show(history: History, question: Question) -> Sequence[str]:
    wanted = EventFilter(types=(question["show"],), node=question.get("node"))
    found = (await history.world.log.read(wanted))[question.get("number", 0)]
    data = await show(history.world.context, f"#{found.position}")
    shown = tree_lines(data["tree"], data["root"], data["position"], wide=question.get("wide", False))
    return [line.partition(", recorded ")[0] for line in shown]


async def ask_since(history: History, question: Question) -> Sequence[str]:
    old, new = await then(history, question, "since"), await then(history, question)
    found = await why_since(old.context, new.context, question["why"])
    return [line for item in found for line in change_lines(item, found)]


def untimed(columns: Sequence[Column]) -> Sequence[Column]:
    """Without the columns of times, but whether there is one."""
    times = ("ACCEPTED", "COMMITTED", "EFFECTIVE", "RECORDED")
    return [column for column in columns if column.header not in times]


ASK = {
    "blame": ask_blame,
    "diff": ask_diff,
    "sides": ask_sides,
    "entry": ask_entry,
    "events": ask_events,
    "show": ask_show,
    "why": ask_since,
}


async def intervals_at(history: History, position: int) -> set[tuple[str, str, str, str]]:
    """Entry, resource, and pool or node, of all entries that the history of `.corp` has in force at a position."""
    items = await history_of_entry(history.world.context, "*.corp")
    return {
        (item["entry"], item["resource"], item["field"], scope)
        for item in items
        if item["from"]["position"] <= position and (not item["until"] or position < item["until"]["position"])
        for scope in (*item["pools"], *item["nodes"])
    }


async def in_force_at(history: History, position: int) -> set[tuple[str, str, str, str]]:
    """The same, by what the read tables say was in force at the end of the position's group."""
    context = history.world.context
    desired = Desired(context.name, (await context.snapshot(position)).rows)
    found = set()
    for pool, settings in desired.pools.items():
        for node in ("", *desired.held_nodes(pool)):
            for version in shadowed_out(desired.in_force(pool, node), settings):
                body = json.loads((await context.load([version.content]))[version.content])
                said = entries_about(version.resource, body, "*.corp")
                found |= {(one.entry, one.resource, one.field, node or pool) for one in said}
    return found


@pytest.mark.parametrize("name", CASES)
async def test_entries_are_in_force_when_the_read_tables_say_so(name: str, tmp_path: Path) -> None:
    """At each end of a group; the events of one are all at once, so that those within it are not asked about."""
    history = await played(tmp_path, CASES[name]["steps"])
    events = await history.world.log.read(EventFilter())
    ends = [
        event
        for event, after in zip(events, [*events[1:], None], strict=True)
        if not after or after.group > event.group
    ]
    seen = set()
    for event in ends:
        now = await in_force_at(history, event.position)
        assert await intervals_at(history, event.position) == now
        seen |= now
    assert seen


@pytest.mark.parametrize("name", CASES)
async def test_answers(name: str, tmp_path: Path) -> None:
    case = CASES[name]
    history = await played(tmp_path, case["steps"])
    for question in case["questions"]:
        (verb,) = question.keys() & ASK.keys()
        shown = await history.shown(await ASK[verb](history, question))
        assert shown == question["shows"].splitlines(), "\n".join(shown)


@pytest.mark.parametrize("name", [name for name in CASES if name.startswith(("who_when_where", "custody", "holds"))])
async def test_what_does_not_need_redacted_bytes_is_told_without_them(name: str, tmp_path: Path) -> None:
    """Whichever content is taken away: but for the blame of a file of which it is a part, nothing fails as a whole."""
    case = CASES[name]
    blobs = sorted((await played(tmp_path / "all", case["steps"])).world.log._blobs.contents)
    redacted = 0
    for number, blob in enumerate(blobs):
        history = await played(tmp_path / str(number), case["steps"])
        context = history.world.context
        try:
            await redact(context, blob, reason="a password")
        except UsageError:
            continue  # it is in use
        redacted += 1
        for question in case["questions"]:
            for remembered in (context.contents, context.resources, context.parsed, context.judged):
                remembered.clear()
            (verb,) = question.keys() & ASK.keys()
            try:
                await ASK[verb](history, question)
            except ContentRedacted:
                assert verb == "blame", question
    assert redacted > 1


async def test_answers_take_a_handful_of_queries_however_large_the_history(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    history = await played(tmp_path, CASES["large/many nodes are counted by how they ended"]["steps"])
    context, head = history.world.context, await history.world.head()
    counted: Counter[str] = Counter()
    for port, verb in ((context.log, "read"), (context.blobs, "get"), (context.reads, "snapshot")):
        monkeypatch.setattr(port, verb, _counted(getattr(port, verb), verb, counted))

    async def cost(question: Awaitable[Any]) -> dict[str, int]:
        counted.clear()
        context.contents.clear()
        context.resources.clear()
        await question
        return dict(counted)

    everything = EventFilter(context.name)
    assert await cost(show(context, f"#{head}")) == {"read": 2}
    assert await cost(lines(context, everything)) == {"read": 2}
    assert await cost(roots(context, "alice", None)) == {"read": 1}
    assert await cost(history_of_entry(context, "quay.io")) == {"read": 3, "get": 1, "snapshot": 1}
    assert await cost(blame_file(context, "eu-20", "/etc/containers/registries.conf")) == {
        "snapshot": 1, "read": 3, "get": 4,
    }  # fmt: skip
    assert await cost(past_at(context, head, settled=True)) == {"snapshot": 1, "get": 1}
    old, new = await past(context, history.commits["begin"], settled=True), await past_at(context, head, settled=True)
    assert await cost(why_since(old.context, new.context, ["quay.io/x", "lab.corp:5000/y"])) == {
        "read": 2, "get": 3,
    }  # fmt: skip
    asked = compare.Between(old.context, new.context)
    assert await cost(compare.files_between(asked)) == {"get": 3}
    assert await cost(compare.resources_between(asked)) == {"get": 1}


def _counted(verb: Any, name: str, counted: Counter[str]) -> Any:
    async def counting(*args: Any, **kwargs: Any) -> Any:
        counted[name] += 1
        return await verb(*args, **kwargs)

    return counting
