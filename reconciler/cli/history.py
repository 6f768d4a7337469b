"""`reconciler history` and `reconciler show`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import click
import yaml

from reconciler.cli.branches import print_tree
from reconciler.cli.diff import print_difference
from reconciler.cli.entries import ENTRY_COLUMNS, matching_entries
from reconciler.cli.events import event_filter, event_filters, refuse_unknown
from reconciler.cli.options import fleet, option, output
from reconciler.cli.output import FORMS, Column, moment, print_list, print_object, short
from reconciler.cli.session import Session, run

HISTORY_COLUMNS = (
    Column("POSITION", lambda item: f"#{item['position']}"),
    Column("RECORDED", lambda item: moment(item["recordedAt"])),
    Column("TYPE", lambda item: item["type"]),
    Column("SUBJECT", lambda item: item["subject"]),
    Column("COMMIT", lambda item: short(item["commit"])),
    Column("ACTOR", lambda item: item["actor"], wide=True),
    Column("PR", lambda item: f"#{item['pullRequest']}" if item["pullRequest"] else "", wide=True),
    Column("AUTHOR", lambda item: item["author"], wide=True),
    Column("COMMITTED", lambda item: moment(item["committedAt"]), wide=True),
    Column("SUMMARY", lambda item: item["summary"]),
)
LINE_COLUMNS = (
    Column("POSITION", lambda item: f"#{item['position']}"),
    Column("RECORDED", lambda item: moment(item["recordedAt"])),
    Column("TYPE", lambda item: item["type"]),
    Column("SUMMARY", lambda item: item["summary"]),
)
SHOWN = (
    "position", "type", "recordedAt", "fleet", "stream", "version", "node", "pool", "resource", "commit",
    "eventId", "correlationId", "causationId", "toolVersion", "hash",
)  # fmt: skip


@click.command()
@option(
    "--entry", metavar="REGISTRY", show_default="off",
    help="Instead of events: who had this registry in a list or mirrored it, from when until when, and on which nodes.",
)  # fmt: skip
@event_filters
@output(*FORMS)
@fleet
@click.pass_obj
def history(session: Session, /, entry: str | None, output: str, **filters: Any) -> None:
    """Show what happened, newest first: one readable line per event, or with -o json the events themselves.

    RECORDED is when the event was, COMMITTED when the commit it goes back to was made. With --entry, ACCEPTED is when
    the fleet took (ENDED: gave up) an entry that is that registry, lies in it or covers it, and EFFECTIVE when the
    first node proved to have it.
    """
    if entry is not None:
        items = run(_entries(session, entry, filters))
        print_list(output, items, ENTRY_COLUMNS, lambda item: f"event/{item['from']['position']}")
    else:
        items = run(_history(session, output, filters))
        print_list(output, items, HISTORY_COLUMNS, lambda item: f"event/{item['position']}")


async def _history(session: Session, form: str, filters: Mapping[str, Any]) -> list[dict[str, Any]]:
    from reconciler import queries  # not before it is needed: rendering's libraries take a while to load
    from reconciler.history.events import lines  # as above

    async with session.context() as context:
        await refuse_unknown(context, filters)
        wanted = await event_filter(context, **filters)
        return await (queries.list_events if form in ("json", "yaml") else lines)(context, wanted)


async def _entries(session: Session, entry: str, filters: Mapping[str, Any]) -> list[dict[str, Any]]:
    from reconciler.history.entries import history_of_entry  # as above

    async with session.context() as context:
        await refuse_unknown(context, filters)
        return await matching_entries(context, await history_of_entry(context, entry), filters)


@click.command()
@click.argument("point", metavar="'#POSITION'")
@output("table", "wide", "json", "yaml")
@fleet
@click.pass_obj
def show(session: Session, point: str, output: str) -> None:
    """Show one event: who and when, its data, and as a tree what it goes back to and what that led to.

    A commit, a time, previous or last-good stand for the event they end at. Of many nodes of a wave only how many ended
    how is told; -o wide names all.
    """
    item = run(_show(session, point))
    if output in ("json", "yaml"):
        print_object(output, {"kind": "Event", **item})
        return
    for name in SHOWN:
        if item[name] is not None:
            click.echo(f"{name + ':':<15} {item[name]}")
    actor = item["actor"]
    click.echo(f"{'actor:':<15} {actor['subject']} ({actor['kind']}, database user {actor['session'] or 'unknown'})")
    click.echo("data:")
    for line in yaml.safe_dump(item["data"], sort_keys=False, allow_unicode=True).splitlines():
        click.echo(f"  {line}")
    click.echo("cause and consequences:")
    print_tree(item["tree"], item["root"], item["position"], wide=output == "wide")
    for difference in item["differences"]:
        print_difference(difference, "as proved", "as found")


async def _show(session: Session, point: str) -> dict[str, Any]:
    from reconciler.history import show as showing  # as above

    async with session.context() as context:
        return await showing.show(context, point)
