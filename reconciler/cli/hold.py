"""`reconciler hold`: the rollbacks in force against newer commits."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from reconciler.cli.confirm import confirm, yes
from reconciler.cli.options import dry_run, fleet, output, reason, waiting
from reconciler.cli.output import FORMS, Age, Column, print_done, print_list, print_object, short, table
from reconciler.cli.session import Session, run
from reconciler.cli.waiting import say_and_bring, say_once
from reconciler.errors import UsageError

if TYPE_CHECKING:
    from reconciler.stages.context import Context

HOLD_COLUMNS = (
    Column("NAME", lambda item: item["name"]),
    Column("SCOPE", lambda item: item["scope"]),
    Column("TO", lambda item: f"#{item['position']}"),
    Column("RESOURCES", lambda item: len(item["entries"])),
    Column("AGE", Age("since")),
    Column("ACTOR", lambda item: item["actor"]),
    Column("REASON", lambda item: item["reason"]),
)
ENTRY_COLUMNS = (
    Column("RESOURCE", lambda item: item["resource"]),
    Column("RESTORED", lambda item: short(item["restoredCommit"]) or "absent"),
    Column("GIT-IS", lambda item: item["gitIs"]),
    Column("REFUSED", lambda item: [short(content) for content in item["refused"]]),
)


@click.group()
@fleet
def hold() -> None:
    """List, show and lift holds: rollback entries in force against newer commits."""


@hold.command("list")
@output(*FORMS)
@fleet
@click.pass_obj
def list_(session: Session, output: str) -> None:
    """List holds, the oldest first."""
    print_list(output, run(_holds(session)), HOLD_COLUMNS, lambda item: f"hold/{item['name']}")


@hold.command()
@click.argument("id", metavar="ID")
@output("table", "json", "yaml")
@fleet
@click.pass_obj
def show(session: Session, id: str, output: str) -> None:
    """Show a hold entry by entry: what it restored, what it refuses, and what Git says now."""
    item = next((item for item in run(_holds(session)) if item["name"] == id), None)
    if item is None:
        raise UsageError(f"there is no hold {id}", remedy="see `reconciler hold list`")
    if output != "table":
        print_object(output, {"kind": "Hold", **item})
        return
    for line in [*table([item], HOLD_COLUMNS), "", *table(item["entries"], ENTRY_COLUMNS)]:
        click.echo(line)


@hold.command()
@click.argument("id", metavar="ID")
@reason("Why; it is recorded.")
@yes
@dry_run
@waiting
@output("table", "json", "yaml")
@fleet
@click.pass_obj
def lift(
    session: Session, id: str, reason: str, yes: bool, dry_run: bool, wait: bool, timeout: float, output: str
) -> int:
    """End a hold: what Git says now comes into force again."""

    async def say(context: Context) -> None:
        from reconciler import commands  # not before it is needed: rendering's libraries take a while to load

        done = await commands.lift_hold(context, id, reason=reason, dry_run=dry_run)
        print_done(output, "LiftedHold", done, f"hold {id} lifted, pools {', '.join(done['pools'])}", dry="dry run")

    if dry_run:
        return run(say_once(session, say))
    confirm(f"lift hold {id}, so that Git's newer contents come into force", yes=yes)
    return run(say_and_bring(session, say, timeout if wait else None))


async def _holds(session: Session) -> list[dict[str, Any]]:
    from reconciler import queries  # as above

    async with session.context() as context:
        return await queries.list_holds(context)
