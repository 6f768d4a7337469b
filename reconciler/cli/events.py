"""Filters of events, shared by `history` and `get events`."""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import click

from reconciler.cli.options import Command, Duration, option
from reconciler.cli.output import Column, age, short
from reconciler.errors import UsageError

if TYPE_CHECKING:
    from reconciler.ports import EventFilter
    from reconciler.stages.context import Context

EVENT_COLUMNS = (
    Column("POSITION", lambda item: f"#{item['position']}"),
    Column("AGE", lambda item: age(item["recordedAt"])),
    Column("TYPE", lambda item: item["type"]),
    Column("STREAM", lambda item: item["stream"]),
    Column("COMMIT", lambda item: short(item["commit"])),
    Column("ACTOR", lambda item: item["actor"]["subject"]),
    Column("RESOURCE", lambda item: item["resource"], wide=True),
    Column("CORRELATION", lambda item: item["correlationId"], wide=True),
    Column("CAUSATION", lambda item: item["causationId"], wide=True),
)

_POSITION = re.compile(r"#\d+|\d{1,6}")
"""Here just that event; elsewhere a position stands for the end of its append group."""
_AGO = re.compile(r"(?=\d)(\d+h)?(\d+m)?(\d+s)?")
POINT = (
    "A point in time: '#POSITION', commit, 2026-01-31T09:00:00Z, 90m (ago), previous (the state before the present "
    "one) or last-good (the latest brought out without a failed node)."
)


def event_filters(command: Command) -> Command:
    """--node --pool --resource --commit --author --pull-request --type --since --until --limit."""
    for add in (
        option("--limit", type=click.IntRange(1), default=50, help="At most this many, the newest."),
        option("--until", metavar="POINT", show_default="now", help=f"What was recorded up to then. {POINT}"),
        option("--since", metavar="POINT", show_default="the beginning", help=f"What was recorded after it. {POINT}"),
        option("--type", multiple=True, metavar="TYPE", show_default="all", help="Only this type; repeatable."),
        option("--pull-request", metavar="NUMBER", show_default="all", help="Only what this pull request led to."),
        option("--author", metavar="TEXT", show_default="all",
               help="Only what commits of this author, or what they said here, led to: a part of name or address."),
        option("--commit", metavar="SHA", show_default="all", help="Only of this commit (at least 7 digits)."),
        option("--resource", metavar="ID", show_default="all", help="Only about this resource: [PATH:]KIND/NAME."),
        option("--pool", metavar="NAME", show_default="all", help="Only about this pool."),
        option("--node", metavar="NAME", show_default="all", help="Only about this node."),
    ):  # fmt: skip
        command = add(command)
    return command


async def event_filter(
    context: Context, *, type: Sequence[str], since: str | None, until: str | None, limit: int,
    author: str | None = None, pull_request: str | None = None, **columns: Any,
) -> EventFilter:  # fmt: skip
    """The filter that the options mean, newest first. Raises UsageError for a point in time that is none."""
    from reconciler.ports import EventFilter  # not before it is needed: the catalogue of events takes a while to load

    after, since_time = await _point(context, since)
    last, until_time = await _point(context, until)
    if author is not None or pull_request is not None:
        from reconciler.history.events import roots  # as above

        columns["correlation_ids"] = await roots(context, author, pull_request)
    return EventFilter(
        fleet=context.name,
        after=after or 0,
        until=last,
        types=_types(type),
        since_time=since_time,
        until_time=until_time,
        limit=limit,
        newest_first=True,
        **columns,
    )


async def refuse_unknown(context: Context, filters: Mapping[str, Any]) -> None:
    """Raises UsageError for a node, pool or resource that the log has never named: of it, no answer is none."""
    from reconciler.ports import EventFilter  # as above

    for noun in ("node", "pool", "resource"):
        name = filters.get(noun)
        if name and not await context.log.read(EventFilter(context.name, limit=1, **{noun: name})):
            what = f"no {noun} {name} was ever known"
            raise UsageError(what, where=f"--{noun}", remedy=f"see `reconciler get {noun}s`")


def _types(names: Sequence[str]) -> Sequence[str] | None:
    """The types asked for, None for all. Raises UsageError for one that there is not."""
    from reconciler.events.catalogue import CATALOGUE  # as above

    for name in names:
        if name not in CATALOGUE:
            close = difflib.get_close_matches(name, CATALOGUE, 1, 0.6)
            remedy = f"did you mean {close[0]}?" if close else "see the types in `reconciler history`"
            raise UsageError(f"there is no type of event {name!r}", where="--type", remedy=remedy)
    return tuple(names) or None


async def _point(context: Context, text: str | None) -> tuple[int | None, datetime | None]:
    """A position, or a time; never both."""
    if text is None:
        return None, None
    if _POSITION.fullmatch(text):
        return int(text.lstrip("#")), None
    text = absolute(text, context.clock.now())
    try:
        moment = datetime.fromisoformat(text) if "-" in text else None
    except ValueError:
        moment = None
    if moment is not None:
        return None, moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    from reconciler.stages.points import resolve_position  # not before it is needed: it loads the renderer

    return await resolve_position(context, text), None


def absolute(text: str, now: datetime) -> str:
    """A point in time with `90m` (ago) as the time that it means."""
    if not _AGO.fullmatch(text):
        return text
    return (now - timedelta(seconds=Duration().convert(text, None, None))).isoformat()
