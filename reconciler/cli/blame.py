"""`reconciler blame`."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Any

import click

from reconciler.cli.cat import node_and_path
from reconciler.cli.options import fleet, option, output
from reconciler.cli.output import Column, Item, moment, print_object, short, table
from reconciler.cli.past import asked, at_option
from reconciler.cli.session import Session, run
from reconciler.errors import UsageError

_RANGE = re.compile(r"(\d+)(?:,(\+?)(\d+))?")


def _first(item: Item, name: str) -> Any:
    """Of the first field behind the line, or of the base that it is from."""
    if item["of"] == "resource":
        return item["origins"][0].get(name)
    return (item["base"] or {}).get(name)


def _source(item: Item) -> str:
    """The field; or which base, and the event since which it is known; or the renderer."""
    if item["of"] == "renderer":
        return "(renderer)"
    if item["of"] == "base":
        base = item["base"] or {"base": "unknown", "position": None}
        since = f" #{base['position']}" if base["position"] else ""
        return f"base ({_BASES[base['base']]}{since})"
    origin = item["origins"][0]
    more = f" and {len(item['origins']) - 1} more" if len(item["origins"]) > 1 else ""
    held = f", held by {origin['hold']['name']}" if origin.get("hold") else ""
    return f"{origin['resource']}:{origin['field']}{more}{held}"


_BASES = {
    "host": "captured",
    "pool": "template",
    "openshift": "MCO's template",
    "unknown": "not captured",
}
"""What the base is, with the event since which it says so."""


def _since(item: Item) -> str:
    position = _first(item, "position")
    return f"#{position}" if position else ""


COLUMNS = (
    Column("SINCE", _since),
    Column("COMMIT", lambda item: short(_first(item, "commit"))),
    Column("PR", lambda item: f"#{_first(item, 'pullRequest')}" if _first(item, "pullRequest") else ""),
    Column("AUTHOR", lambda item: _first(item, "author")),
    Column("COMMITTED", lambda item: moment(_first(item, "committedAt"))),
    Column("EFFECTIVE", lambda item: moment(_first(item, "since")), wide=True),
    Column("SOURCE", _source),
)


@click.command()
@click.argument("file", metavar="NODE:PATH")
@option(
    "-L", "lines", metavar="RANGE", show_default="all", help="Only these lines: START,END or START,+COUNT or START."
)
@at_option
@output("table", "wide", "json", "yaml")
@fleet
@click.pass_obj
def blame(session: Session, file: str, lines: str | None, at: str | None, output: str) -> None:
    """Show for each line of a file that a node is to have whose it is.

    That is the commit that brought what the line says, with pull request and author, the event SINCE which it is in
    force, and the field that it was rendered from, or the hold that keeps it; or the base, with the event that captured
    it. With --at, the file that was wanted then.
    """
    node, path = node_and_path(file)
    data = run(_blame(session, node, path, at))
    chosen = _chosen(data["lines"], lines)
    for note in data["notes"]:
        click.echo(note, err=True)
    if output in ("json", "yaml"):
        print_object(output, {"kind": "Blame", **data, "lines": list(chosen)})
        return
    for line in blame_lines(chosen, wide=output == "wide"):
        click.echo(line)


async def _blame(session: Session, node: str, path: str, at: str | None) -> dict[str, Any]:
    from reconciler.history.blame import blame_file  # not before it is needed: rendering's libraries take a while

    async with asked(session, at, settled=True) as question:
        question.say()
        return {**(question.metadata or {}), **await blame_file(question.context, node, path)}


def _chosen(lines: Sequence[Item], asked: str | None) -> Sequence[Item]:
    """The lines of a range, as `git blame -L` has it. Raises UsageError."""
    if asked is None:
        return lines
    found = _RANGE.fullmatch(asked)
    if not found or int(found[1]) < 1:
        raise UsageError(f"{asked!r} is no range of lines", where="-L", remedy="write 10,20 or 10,+5 or 10")
    first = int(found[1])
    last = len(lines) if found[3] is None else int(found[3]) + (first - 1 if found[2] else 0)
    if first > len(lines):
        raise UsageError(f"the file has only {len(lines)} lines", where="-L")
    return lines[first - 1 : last]


def blame_lines(lines: Sequence[Item], *, wide: bool) -> Iterator[str]:
    """The columns, then number and text as they are."""
    rows = table(lines, COLUMNS, wide=wide)
    width, digits = max(map(len, rows)), len(str(lines[-1]["line"])) if lines else 1
    texts = ["LINE"] + [f"{item['line']:>{digits}}) {item['text']}" for item in lines]
    for row, text in zip(rows, texts, strict=True):
        yield f"{row:<{width}}   {text}".rstrip()
