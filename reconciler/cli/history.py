"""`reconciler history` and `reconciler show`."""

from __future__ import annotations

from typing import Any

import click
import yaml

from reconciler.cli.diff import print_difference
from reconciler.cli.events import event_filter, event_filters
from reconciler.cli.options import fleet, output
from reconciler.cli.output import FORMS, Column, Item, print_list, print_object, short, table
from reconciler.cli.session import Session, run

HISTORY_COLUMNS = (
    Column("POSITION", lambda item: f"#{item['position']}"),
    Column("TIME", lambda item: item["recordedAt"][:19] + "Z"),
    Column("TYPE", lambda item: item["type"]),
    Column("SUBJECT", lambda item: item["subject"]),
    Column("COMMIT", lambda item: short(item["commit"])),
    Column("ACTOR", lambda item: item["actor"], wide=True),
    Column("SUMMARY", lambda item: item["summary"]),
)
LINE_COLUMNS = (
    Column("POSITION", lambda item: f"#{item['position']}"),
    Column("TIME", lambda item: item["recordedAt"][:19] + "Z"),
    Column("TYPE", lambda item: item["type"]),
    Column("SUMMARY", lambda item: item["summary"]),
)
SHOWN = (
    "position", "type", "recordedAt", "fleet", "stream", "version", "node", "pool", "resource", "commit",
    "eventId", "correlationId", "causationId", "toolVersion", "hash",
)  # fmt: skip


@click.command()
@event_filters
@output(*FORMS)
@fleet
@click.pass_obj
def history(session: Session, /, output: str, **filters: Any) -> None:
    """Show what happened, newest first: one readable line per event, or with -o json the events themselves."""
    items = run(_history(session, output, filters))
    print_list(output, items, HISTORY_COLUMNS, lambda item: f"event/{item['position']}")


async def _history(session: Session, form: str, filters: Item) -> list[dict[str, Any]]:
    from reconciler import queries  # not before it is needed: rendering's libraries take a while to load

    async with session.context() as context:
        wanted = await event_filter(context, **filters)
        ask = queries.list_events if form in ("json", "yaml") else queries.history
        return await ask(context, wanted)


@click.command()
@click.argument("point", metavar="'#POSITION'")
@output("table", "json", "yaml")
@fleet
@click.pass_obj
def show(session: Session, point: str, output: str) -> None:
    """Show one event: who and when, its data, what was appended with it, and what it led to.

    A commit, a time, previous or last-good stand for the event they end at.
    """
    item = run(_show(session, point))
    if output != "table":
        print_object(output, {"kind": "Event", **item})
        return
    for name in SHOWN:
        if item[name] is not None:
            click.echo(f"{name + ':':<15} {item[name]}")
    actor = item["actor"]
    click.echo(f"{'actor:':<15} {actor['subject']} ({actor['kind']}, database user {actor['session'] or 'unknown'})")
    _block("data", yaml.safe_dump(item["data"], sort_keys=False, allow_unicode=True).splitlines())
    if item["root"]["position"] != item["position"]:
        _block("goes back to", table([item["root"]], LINE_COLUMNS, header=False))
    _block("appended together", table(item["appendGroup"], LINE_COLUMNS, header=False))
    _block("led to", table(item["consequences"], LINE_COLUMNS, header=False))
    for difference in item["differences"]:
        print_difference(difference, "as proved", "as found")


def _block(title: str, lines: list[str]) -> None:
    if lines:
        click.echo(f"{title}:")
        for line in lines:
            click.echo(f"  {line}")


async def _show(session: Session, point: str) -> dict[str, Any]:
    from reconciler import queries  # as above

    async with session.context() as context:
        return await queries.show(context, point)
