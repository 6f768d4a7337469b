"""`reconciler hold`: the rollbacks in force against newer commits."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click

from reconciler.cli.confirm import confirm, yes
from reconciler.cli.options import dry_run, fleet, option, output, reason, waiting
from reconciler.cli.output import FORMS, Age, Column, Item, print_done, print_list, print_object, short, table
from reconciler.cli.session import Session, run
from reconciler.cli.waiting import say_and_bring, say_once
from reconciler.errors import ReconcilerError, UsageError

if TYPE_CHECKING:
    from reconciler.stages.context import Context

BASELINE = "(baseline)"
"""What an entry is about that is about no resource."""

HOLD_COLUMNS = (
    Column("NAME", lambda item: item["name"]),
    Column("SCOPE", lambda item: item["scope"]),
    Column("TO", lambda item: f"#{item['position']}"),
    Column("RESOURCES", lambda item: _held(item["entries"])),
    Column("AGE", Age("since")),
    Column("UNTIL", lambda item: _until(item)),
    Column("ACTOR", lambda item: item["actor"]),
    Column("REASON", lambda item: item["reason"]),
)
ENTRY_COLUMNS = (
    Column("RESOURCE", lambda item: item["resource"] or BASELINE),
    Column("RESTORED", lambda item: short(item["restoredCommit"]) or ("baseline" if item["baseline"] else "absent")),
    Column("GIT-IS", lambda item: item["gitIs"]),
    Column("REFUSED", lambda item: [short(content) or "absent" for content in item["refused"]]),
)


def _held(entries: Sequence[Item]) -> str:
    """How many resources, or that it is the baseline."""
    resources = sum(not entry["baseline"] for entry in entries)
    return BASELINE if not resources else f"{resources}, {BASELINE}" if resources < len(entries) else str(resources)


def _until(item: Item) -> str:
    """When a hold is to end: by itself, at a time, or (overdue) some time ago."""
    time = f"{item['until'][:19]}Z{' (overdue)' if item['overdue'] else ''}" if item["until"] else ""
    return ", ".join(filter(None, ["fixed" if item["untilFixed"] else "", time]))


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
    """Show a hold entry by entry: what it restored, what it refuses, and what Git says now.

    Below that: what of the bad differences Git still has, and the command that accepts what is new.
    """
    item = next((item for item in run(_holds(session)) if item["name"] == id), None)
    if item is None:
        raise UsageError(f"there is no hold {id}", remedy="see `reconciler hold list`")
    if output != "table":
        print_object(output, {"kind": "Hold", **item})
        return
    left = [f"  {entry['resource'] or BASELINE}: {text}" for entry in item["entries"] for text in entry["left"]]
    accept = sorted({entry["accept"] for entry in item["entries"]} - {""})
    lines = [*table([item], HOLD_COLUMNS), "", *table(item["entries"], ENTRY_COLUMNS)]
    lines += ["", "Git still has, or lacks:", *left] if left else []
    if item["untilFixed"]:
        entries = [entry for entry in item["entries"] if not entry["baseline"]]
        mended = [entry["resource"] for entry in entries if entry["gitIs"] == "other" and not entry["left"]]
        lines += [f"{name} is mended in Git: it ends when the lock-out guard lets that pass" for name in mended]
    lines += ["", "to accept what is new in Git:", *(f"  {command}" for command in accept)] if accept else []
    for line in lines:
        click.echo(line)


@hold.command()
@click.argument("id", metavar="ID")
@reason("Why; it is recorded.")
@option(
    "--accept",
    metavar="COMMIT",
    show_default="all entries end",
    help="Only what Git has something new for, which is not refused; COMMIT is what the pools have from Git now.",
)
@yes
@dry_run
@waiting
@output("table", "json", "yaml")
@fleet
@click.pass_obj
def lift(
    session: Session, id: str, reason: str, accept: str | None, yes: bool, dry_run: bool, wait: bool, timeout: float,
    output: str,
) -> int:  # fmt: skip
    """End a hold, or with --accept what of it Git has something new for: Git's contents come into force again."""

    async def say(context: Context) -> None:
        from reconciler import commands  # not before it is needed: rendering's libraries take a while to load

        done = await commands.lift_hold(context, id, reason=reason, accept=accept, dry_run=dry_run)
        stays = f"; stays for {', '.join(name or BASELINE for name in done['stays'])}" if done["stays"] else ""
        line = f"hold {id} lifted, pools {', '.join(done['pools'])}{stays}"
        print_done(output, "LiftedHold", done, line, dry="dry run")

    if dry_run:
        return run(say_once(session, say))
    confirm(f"lift hold {id}, so that Git's newer contents come into force", yes=yes)
    return run(say_and_bring(session, say, timeout if wait else None))


@hold.command()
@click.argument("id", metavar="ID")
@option("--branch", metavar="NAME", required=True, show_default="required", help="The new branch's name.")
@fleet
@click.pass_obj
def push(session: Session, id: str, branch: str) -> None:
    """Write what a hold restored to the config repository, as a new branch to be reviewed and merged."""

    async def pushed() -> None:
        async with session.context() as context:
            await push_revert(context, id, branch)

    run(pushed())


async def push_revert(context: Context, hold: str, branch: str) -> None:
    """Push, and say so. An error says that the hold stands, and how to push again."""
    from reconciler import commands  # as above

    try:
        done = await commands.push_revert(context, hold, branch)
    except ReconcilerError as error:
        again = f"hold {hold} stands; to push again: reconciler hold push {hold} --branch {branch}"
        remedy = "; ".join(filter(None, [error.remedy, again]))
        raise type(error)(f"no branch was pushed: {error.what}", where=error.where, remedy=remedy) from None
    click.echo(f"branch {branch}: commit {short(done['commit'])}, {', '.join(done['files'])}")


async def _holds(session: Session) -> list[dict[str, Any]]:
    from reconciler import queries  # as above

    async with session.context() as context:
        return await queries.list_holds(context)
