"""`reconciler db upgrade`, `db check`, `db rebuild`, `db backup` and `db restore`."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING, Any

import click

from reconciler.cli.confirm import confirm, yes
from reconciler.cli.options import flag, option, output, shared
from reconciler.cli.output import Column, count, print_list, print_object, span, table
from reconciler.cli.progress import progress
from reconciler.cli.session import Session, run

if TYPE_CHECKING:
    from reconciler.ports import Comparison

FORMS = ("table", "json", "yaml")


@click.group()
@shared
def db() -> None:
    """The database of the event log."""


@db.command()
@shared
@click.pass_obj
def upgrade(session: Session) -> None:
    """Bring the database to this version's schema, and its read tables to this version's fold. May be repeated.

    `serve` and the other verbs do so themselves only for the embedded PostgreSQL.
    """
    from reconciler.wiring import upgrade_database  # not before it is needed: it loads the database's libraries

    with _folding() as report:
        names = run(upgrade_database(session.settings, report))
    for name in names:
        click.echo(f"migrated: {name}")
    if not names:
        click.echo("the schema is up to date")


@db.command()
@yes
@flag("--dry-run", help="Only compare; exit code 1 when rows differ.")
@output(*FORMS)
@shared
@click.pass_obj
def rebuild(session: Session, yes: bool, dry_run: bool, output: str) -> int:
    """Fold the log from its first event, and compare the read tables with the rows that this gives.

    Others work on meanwhile. Rows that differ are listed, and after a question written anew, all at once.
    """
    return run(_rebuild(session, output, yes=yes, dry_run=dry_run))


async def _rebuild(session: Session, form: str, *, yes: bool, dry_run: bool) -> int:
    from reconciler.wiring import rebuilding_database  # not before it is needed: it loads the database's libraries

    with ExitStack() as shown:
        async with rebuilding_database(session.settings, shown.enter_context(_folding())) as rebuilt:
            found = await rebuilt.compare()
            shown.close()  # a question is asked below it
            switch = found.differing > 0 and not dry_run
            if switch:
                if not yes:
                    for line in _lines(found):
                        click.echo(line, err=True)
                confirm(f"write {count(found.differing, 'row')} anew", yes=yes)
                await rebuilt.switch()
    if form == "table":
        for line in _lines(found):
            click.echo(line)
        if switch:
            click.echo("written anew")
    else:
        print_object(form, {"kind": "Rebuild", **_data(found), "switched": switch})
    return 1 if found.differing and dry_run else 0


def _lines(found: Comparison) -> Iterator[str]:
    if found.differences:
        yield from table(_data(found)["differences"], _COLUMNS)
    if more := found.differing - len(found.differences):
        yield f"… and {count(more, 'row')} more"
    verb = "differs" if found.differing == 1 else "differ"
    subject = f"{count(found.differing, 'row')} {verb} from" if found.differing else "the read tables are"
    yield f"{subject} what {count(found.events, 'event')} make"


_COLUMNS = (
    Column("TABLE", lambda item: item["table"]),
    Column("KEY", lambda item: "/".join(item["key"])),
    Column("FROM", lambda item: f"#{item['validFrom']}"),
    Column("ROW", lambda item: item["kind"]),
    Column("COLUMNS", lambda item: ",".join(item["columns"])),
)


def _data(found: Comparison) -> dict[str, Any]:
    differences = [asdict(difference) for difference in found.differences]
    items = [{"validFrom" if k == "valid_from" else k: v for k, v in item.items()} for item in differences]
    return {"events": found.events, "differing": found.differing, "differences": items}


@contextmanager
def _folding() -> Iterator[Callable[[int, int], None]]:
    """A function that shows how many events are folded, how fast, and how long it will still take."""
    from reconciler.stages.context import Progress  # as above

    begun = told = monotonic()
    with progress() as report:

        def fold(done: int, total: int) -> None:
            nonlocal told
            now = monotonic()
            if done < total and now - told < _EVERY:
                return
            told, rate = now, done / max(now - begun, 0.001)
            left = f", {span(int((total - done) / rate))} left" if done < total else ""
            report(Progress("rebuild", f"events folded, {rate:,.0f}/s{left}", done, total))

        yield fold


_EVERY = 2.0
"""Seconds between two lines of progress."""


@db.command()
@output(*FORMS)
@shared
@click.pass_obj
def check(session: Session, output: str) -> int:
    """Check server, schema, triggers, roles and privileges; exit code 1 when something is missing."""
    from reconciler.wiring import check_database  # not before it is needed: it loads the database's libraries

    problems, _ = run(check_database(session.settings))
    if output == "table" and not problems:
        click.echo("the database is as it should be")
    else:
        items = [{"problem": problem} for problem in problems]
        print_list(output, items, [Column("PROBLEM", lambda item: item["problem"])], lambda item: item["problem"])
    return 1 if problems else 0


@db.command()
@click.argument("file", metavar="FILE", type=click.Path(path_type=Path, dir_okay=False))
@option("--format", "form", type=click.Choice(["custom", "plain"]), default="custom", help="pg_dump's format.")
@shared
@click.pass_obj
def backup(session: Session, file: Path, form: str) -> None:
    """Dump the whole database into a new FILE, with PostgreSQL's own pg_dump. The service goes on meanwhile.

    The file holds everything that was ever recorded: keep it as you keep the database.
    """
    from reconciler.wiring import backup_database  # not before it is needed: it loads the database's libraries

    size = run(backup_database(session.settings, file, "plain" if form == "plain" else "custom"))
    click.echo(f"{file}: {count(size, 'byte')}")


@db.command()
@click.argument("file", metavar="FILE", type=click.Path(path_type=Path, dir_okay=False))
@yes
@shared
@click.pass_obj
def restore(session: Session, file: Path, yes: bool) -> int:
    """Restore the database from FILE, verify the log, and let nothing be written to nodes until a person accepts it.

    FILE is of either format. What the database holds is replaced, which is asked for unless it holds no events. Then
    `reconciler accept --restore` lets the fleet go on. Exit code 1 when the restored log does not verify.
    """
    from reconciler.wiring import events_to_replace, restore_database  # as above

    if events := run(events_to_replace(session.settings, file)):
        confirm(f"replace the database, with its {count(events, 'event')}, by {file}", yes=yes)
    proof = run(restore_database(session.settings, file))
    for problem in proof.problems:
        click.echo(problem)
    verdict = count(len(proof.problems), "problem") if proof.problems else "verified"
    click.echo(f"restored and {verdict}: {count(proof.found.events, 'event')}, head {proof.found.head}")
    click.echo("no node is written until: reconciler accept --restore --reason TEXT", err=True)
    return 1 if proof.problems else 0
