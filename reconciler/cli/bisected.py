"""How `bisect` prints what it found: the first bad event, what it changed, what decides, and what would undo it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import click

from reconciler.cli.diff import difference_lines
from reconciler.cli.explained import explanation_lines
from reconciler.cli.output import Column, Item, count, print_object, short, table

CANDIDATE_COLUMNS = (
    Column("POSITION", lambda item: f"#{item['position']}"),
    Column("TIME", lambda item: item["recordedAt"][:19] + "Z"),
    Column("TYPE", lambda item: item["type"]),
    Column("COMMIT", lambda item: short(item["commit"])),
    Column("SUBJECT", lambda item: item["subject"]),
)
_TURN_COLUMNS = (
    *CANDIDATE_COLUMNS[:4],
    Column("VERDICT", lambda item: item["to"]),
    Column("NODES", lambda item: len(item["nodes"])),
    CANDIDATE_COLUMNS[4],
)
_PROBED_COLUMNS = (
    Column("", lambda item: f"#{item['position']}"),
    Column("", lambda item: item["judgement"]),
    Column("", lambda item: item["reason"] or f"exit status {item['status']}"),
)


def image_lines(found: Item) -> Iterator[str]:
    """What `bisect --image` found, for people."""
    first, turns = found["first"], found["turns"]
    yield from _event(first)
    nodes = found["explanation"]["nodes"]
    turned = f"turned from {found['before']['verdict']} to {found['explanation']['verdict']}"
    yield f"  {found['image']} {turned} on {count(len(nodes), 'node')}: {', '.join(nodes)}"
    if len(turns) > 1:
        yield f"it turned {len(turns)} times between #{found['good']['position']} and #{found['bad']['position']}:"
        yield from (f"  {line}" for line in table(turns, _TURN_COLUMNS))
    yield from _differences(found)
    yield from explanation_lines(found["explanation"], [found["explanation"]])
    yield from _undo(found)


def print_probed(form: str, found: Item) -> None:
    """What `bisect --probe` found."""
    if form != "table":
        print_object(form, {"kind": "Bisection", **found})
        return
    for line in _probed_lines(found):
        click.echo(line)


def _probed_lines(found: Item) -> Iterator[str]:
    if found["first"]:
        yield from _event(found["first"])
    else:
        yield f"one of {count(len(found['suspects']), 'event')}, as the states between were skipped:"
        yield from (f"  {line}" for line in table(found["suspects"], CANDIDATE_COLUMNS))
    if found["probed"]:
        yield f"probed on {found['node']}:"
        yield from (f"  {line}" for line in table(found["probed"], _PROBED_COLUMNS, header=False))
    if found["first"]:
        yield from _differences(found)
        yield from _undo(found)
    if found["returned"]["reason"]:
        yield f"{found['node']} is not back yet: {found['returned']['reason']}"


def _event(first: dict[str, Any]) -> Iterator[str]:
    """Which event it was, and whose."""
    yield f"first bad: #{first['position']} {first['type']}, {first['recordedAt'][:19]}Z"
    if first["commit"]:
        request = f", pull request #{first['pullRequest']}" if first["pullRequest"] else ""
        yield f"  commit {short(first['commit'])} by {first['author']}{request}: {first['subject']}"
        if first["hold"]:
            yield f"  it ended hold {first['hold']}"
    elif first["hold"]:
        yield f"  hold {first['hold']} by {first['actor']}: {first['subject']}"
    else:
        yield f"  the host behind {first['node']} is another one, or was seen anew"


def _differences(found: Item) -> Iterator[str]:
    for item in found["differences"]:
        yield from difference_lines(item, "before", f"#{found['first']['position']}")


def _undo(found: Item) -> Iterator[str]:
    if found["undo"]:
        yield "what would undo it:"
        yield from (f"  {command}" for command in found["undo"])
    else:
        yield "no rollback undoes it: it changed the settings of a pool, the inventory or the host itself"
