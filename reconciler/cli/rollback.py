"""`reconciler rollback`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import click

from reconciler.cli.confirm import confirm, yes
from reconciler.cli.options import flag, fleet, option, output, waiting
from reconciler.cli.output import FORMS, Column, count, print_list, print_object, short
from reconciler.cli.progress import progress
from reconciler.cli.session import Session, run
from reconciler.cli.waiting import bring_to_nodes
from reconciler.errors import UsageError

POINT_COLUMNS = (
    Column("POSITION", lambda item: f"#{item['position']}"),
    Column("TIME", lambda item: item["recordedAt"][:19] + "Z"),
    Column("TYPE", lambda item: item["type"]),
    Column("COMMIT", lambda item: short(item["commit"])),
    Column("SUBJECT", lambda item: item["subject"]),
    Column("ACTOR", lambda item: item["actor"], wide=True),
)


@click.command()
@option(
    "--to",
    metavar="POINT",
    show_default="list the last ten states and change nothing",
    help="'#POSITION', a commit, a time (2026-01-31T09:00:00Z), previous or last-good.",
)
@option("--pool", metavar="NAME", show_default="the whole fleet", help="Only this pool.")
@option("--node", metavar="NAME", show_default="all", help="Only this node.")
@option("--resource", metavar="ID", show_default="all", help="Only this resource: [PATH:]KIND/NAME.")
@option("--reason", metavar="TEXT", show_default="required with --to", help="Why; it is recorded.")
@flag("--now", help="Begin nodes outside of their pools' windows, too, for an hour; it is recorded.")
@flag("--dry-run", help="Show what would be rolled back, and record nothing.")
@yes
@waiting
@output(*FORMS)
@fleet
@click.pass_obj
def rollback(
    session: Session, /, to: str | None, now: bool, dry_run: bool, yes: bool, wait: bool, timeout: float,
    output: str, **asked: Any,
) -> int:  # fmt: skip
    """Take the fleet, a pool, a node or a resource back to an earlier state, and hold it there against newer commits.

    Nodes get the files recorded for that state, byte for byte; Git is not needed. `hold lift` ends it.
    """
    if to is None:
        print_list(output, run(_points(session, asked["pool"])), POINT_COLUMNS, lambda i: f"event/{i['position']}")
        return 0
    if not (asked["reason"] or dry_run):
        raise UsageError("is required: it is recorded", where="--reason")
    asked = {**asked, "to": to, "reason": asked["reason"] or ""}
    if dry_run:
        _print(output, run(_preview(session, asked)))
        return 0
    return run(_rollback(session, asked, output, yes=yes, now=now, within=timeout if wait else None))


async def _points(session: Session, pool: str | None) -> list[dict[str, Any]]:
    from reconciler import commands  # not before it is needed: rendering's libraries take a while to load

    async with session.context() as context:
        return await commands.rollback_points(context, pool=pool)


async def _preview(session: Session, asked: Mapping[str, Any]) -> dict[str, Any]:
    from reconciler import commands  # as above

    async with session.context() as context:
        return await commands.rollback(context, **asked, dry_run=True)


async def _rollback(
    session: Session, asked: Mapping[str, Any], form: str, *, yes: bool, now: bool, within: float | None
) -> int:
    from reconciler import commands, control  # as above

    async with session.context() as context:
        planned = await commands.rollback(context, **asked, dry_run=True)
        if not yes:
            for line in _lines(planned):
                click.echo(line, err=True)
        confirm(f"roll back to #{planned['position']}", yes=yes)
        done = await commands.rollback(context, **asked)
        for pool in done["pools"] if now else ():
            await control.override_windows(context, pool, reason=asked["reason"])
        _print(form, done)
        with progress() as report:
            context.progress = report
            return await bring_to_nodes(context, within)


def _print(form: str, data: Mapping[str, Any]) -> None:
    if form in ("json", "yaml"):
        print_object(form, {"kind": "Rollback", **data})
    elif form == "name":
        click.echo(f"hold/{data['hold']}" if data["hold"] else "")
    else:
        for line in _lines(data):
            click.echo(line)


def _lines(data: Mapping[str, Any]) -> Iterator[str]:
    scope = data["scope"]
    whom = f"{scope['kind']} {scope['name']}" if scope["name"] else "the fleet"
    whom = f"{scope['resource']} of {whom}" if scope["resource"] else whom
    hold = f", hold {data['hold']}" if data["hold"] else ""
    reach = f"{count(len(data['entries']), 'resource')}, {count(len(data['nodes']), 'node')}"
    yield f"{whom} to #{data['position']} (the end of its append group){hold}: {reach}"
    for entry in data["entries"]:
        restored = entry["restored"]
        to = f"commit {short(restored['commit'])}" if restored else "absent"
        yield f"  {entry['resource']} → {to}, refusing {count(len(entry['refused']), 'newer content')}"
    if data["replaces"]:
        yield f"  replaces {', '.join(data['replaces'])}"
    if data["renderedAnew"]:
        yield f"  rendered anew, since its inputs differ: {', '.join(data['renderedAnew'])}"
    if data["nodes"]:
        yield f"  nodes: {', '.join(data['nodes'])}"
