"""What verbs print on standard output: tables as `oc` prints them, JSON, YAML and names."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import click
import yaml

API_VERSION = "reconciler.dev/v1alpha1"
NONE = "<none>"
FORMS = ("table", "wide", "json", "yaml", "name")
"""Forms of a list."""

Item = Mapping[str, Any]


@dataclass(frozen=True)
class Column:
    """A column of a table: header, and the cell of an item. `wide` columns show with `-o wide`."""

    header: str
    cell: Callable[[Item], object]
    wide: bool = False


def print_list(
    form: str,
    items: Sequence[Item],
    columns: Sequence[Column],
    name: Callable[[Item], str],
    metadata: Item | None = None,
) -> None:
    """A list in one of FORMS. An empty table prints nothing on standard output and says so on standard error.

    `metadata` is about the list as a whole, and only in JSON and YAML.
    """
    if form == "name":
        for item in items:
            click.echo(name(item))
    elif form in ("json", "yaml"):
        print_object(form, {"kind": "List", **({"metadata": metadata} if metadata else {}), "items": list(items)})
    elif not items:
        click.echo("No resources found.", err=True)
    else:
        for line in table(items, columns, wide=form == "wide"):
            click.echo(line)


def print_done(form: str, kind: str, done: Item, line: str, *, dry: str = "dry run: nothing was recorded") -> None:
    """What a verb did: as one line, which tells when nothing was (`dryRun`), or as an object."""
    if form == "table":
        click.echo(f"{line} ({dry})" if done["dryRun"] else line)
    else:
        print_object(form, {"kind": kind, **done})


def print_object(form: str, fields: Item) -> None:
    """One object as JSON or YAML."""
    data = {"apiVersion": API_VERSION, **fields}
    if form == "json":
        click.echo(json.dumps(data, ensure_ascii=False, indent=2))
    else:
        click.echo(yaml.safe_dump(data, sort_keys=False, allow_unicode=True), nl=False)


def table(items: Iterable[Item], columns: Sequence[Column], *, wide: bool = False, header: bool = True) -> list[str]:
    """The lines of a table, three spaces between columns."""
    shown = [column for column in columns if wide or not column.wide]
    rows = [[column.header for column in shown]] if header else []
    rows += [[text_of(column.cell(item)) for column in shown] for item in items]
    widths = [max(len(row[place]) for row in rows) for place in range(len(shown))] if rows else []
    return ["   ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]


def text_of(value: object) -> str:
    """A cell: one line, never empty."""
    if isinstance(value, bool):
        return str(value)
    if isinstance(value, (list, tuple)):
        value = ",".join(str(item) for item in value)
    text = " ".join(str(value).split()) if value is not None else ""
    return text or NONE


def moment(text: str | None) -> str:
    """A time as tables have it, to the second."""
    return f"{text[:19]}Z" if text else ""


@dataclass(frozen=True)
class Age:
    """The cell of an age: how long before `now` (the present, where it is None) the item's time `name` is."""

    name: str
    now: datetime | None = None

    def __call__(self, item: Item) -> str:
        return age(item.get(self.name), self.now)


def age(moment: str | None, now: datetime | None = None) -> str:
    """How long ago, as `oc` prints ages: 45s, 3m20s, 27m, 5h12m, 31h, 3d4h, 12d."""
    if not moment:
        return "<unknown>"
    seconds = max(0, int(((now or datetime.now(UTC)) - datetime.fromisoformat(moment)).total_seconds()))
    minutes, hours, days = seconds // 60, seconds // 3600, seconds // 86400
    if seconds < 120:
        return f"{seconds}s"
    if minutes < 10:
        return _two(minutes, "m", seconds % 60, "s")
    if hours < 3:
        return f"{minutes}m"
    if hours < 8:
        return _two(hours, "h", minutes % 60, "m")
    if hours < 48:
        return f"{hours}h"
    return _two(days, "d", hours % 24, "h") if days < 8 else f"{days}d"


def _two(first: int, first_unit: str, second: int, second_unit: str) -> str:
    return f"{first}{first_unit}{second}{second_unit}" if second else f"{first}{first_unit}"


def span(seconds: int) -> str:
    """A length of time: `45s`, `5m`, `1h2m3s`."""
    parts = ((seconds // 3600, "h"), (seconds // 60 % 60, "m"), (seconds % 60, "s"))
    return "".join(f"{number}{unit}" for number, unit in parts if number) or "0s"


def count(number: int, noun: str) -> str:
    """`1 node`, `2 nodes`."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def short(commit: str | None) -> str:
    """A commit or digest as people name it."""
    return (commit or "")[:12]


def problem_text(problem: Item) -> str:
    """A problem of a commit: place, object and field, what is wrong, its name, and on a line of its own the remedy."""
    place = f"{problem['file']}:{problem['line']}" if problem["file"] else ""
    subject = " ".join(part for part in (problem["object"], problem["field"]) if part)
    text = ": ".join(part for part in (place, subject, problem["message"]) if part)
    remedy = f"\n    → {problem['remedy']}" if problem["remedy"] else ""
    return f"{text} [{problem['name']}]{remedy}"
