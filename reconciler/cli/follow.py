"""`reconciler events`: the log as a list, or as a stream that misses nothing."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import click

from reconciler.cli.events import EVENT_COLUMNS, event_filter, event_filters
from reconciler.cli.options import flag, fleet, output
from reconciler.cli.output import FORMS, print_list, table
from reconciler.cli.session import Session, run
from reconciler.errors import UsageError

if TYPE_CHECKING:
    from reconciler.ports import EventFilter
    from reconciler.stages.context import Context


@click.command()
@flag("-f", "--follow", help="Go on with every event as it is appended, until Ctrl-C; JSON is then one object a line.")
@event_filters
@output(*FORMS)
@fleet
@click.pass_obj
def events(session: Session, /, output: str, *, follow: bool, **filters: Any) -> None:
    """List events as they stand in the log, the newest last; or follow the log, and miss none.

    With --follow, --since says where to begin (default: now) and --limit does not count. Every line has the position:
    who remembers the last one goes on with --since '#POSITION'.
    """
    run(_follow(session, output, filters) if follow else _list(session, output, filters))


async def _list(session: Session, form: str, filters: dict[str, Any]) -> None:
    from reconciler import queries  # not before it is needed: rendering's libraries take a while to load

    async with session.context() as context:
        found = await queries.list_events(context, await event_filter(context, **filters))
        print_list(form, found[::-1], EVENT_COLUMNS, lambda item: f"event/{item['position']}")


async def _follow(session: Session, form: str, filters: dict[str, Any]) -> None:
    from reconciler import queries  # as above

    if form == "yaml":
        raise UsageError("a stream is not written as YAML", where="-o", remedy="use -o json: one object a line")
    if filters["until"] is not None:
        raise UsageError("a stream has no end", where="--until", remedy="leave out --until or --follow")
    async with session.context() as context:
        wanted = await event_filter(context, **filters)
        begin = await _begin(context, filters["since"], wanted)
        click.echo(f"following the log after #{begin}", err=True)
        header = form in ("table", "wide")
        async for event in context.log.follow(begin):
            if wanted.matches(event):
                for line in _lines(form, queries.event_item(event), header=header):
                    click.echo(line)
                header = False


async def _begin(context: Context, since: str | None, wanted: EventFilter) -> int:
    """The position after which the stream begins."""
    from reconciler.ports import EventFilter  # as above

    if since is not None and wanted.since_time is None:
        return wanted.after
    moment = None if wanted.since_time is None else wanted.since_time - timedelta(microseconds=1)
    before = await context.log.read(EventFilter(until_time=moment, newest_first=True, limit=1))
    return before[0].position if before else 0


def _lines(form: str, item: dict[str, Any], *, header: bool) -> list[str]:
    if form == "json":
        return [json.dumps(item, ensure_ascii=False)]
    if form == "name":
        return [f"event/{item['position']}"]
    return table([item], EVENT_COLUMNS, wide=form == "wide", header=header)
