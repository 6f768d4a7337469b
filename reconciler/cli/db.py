"""`reconciler db upgrade`, `db check`, `db backup` and `db restore`."""

from __future__ import annotations

from pathlib import Path

import click

from reconciler.cli.confirm import confirm, yes
from reconciler.cli.options import option, output, shared
from reconciler.cli.output import Column, count, print_list
from reconciler.cli.session import Session, run

FORMS = ("table", "json", "yaml")


@click.group()
@shared
def db() -> None:
    """The database of the event log."""


@db.command()
@shared
@click.pass_obj
def upgrade(session: Session) -> None:
    """Bring the database to this version's schema. May be repeated.

    `serve` and the other verbs do so themselves only for the embedded PostgreSQL.
    """
    from reconciler.wiring import upgrade_database  # not before it is needed: it loads the database's libraries

    names = run(upgrade_database(session.settings))
    for name in names:
        click.echo(f"migrated: {name}")
    if not names:
        click.echo("the schema is up to date")


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

    if events := run(events_to_replace(session.settings)):
        confirm(f"replace the database, with its {count(events, 'event')}, by {file}", yes=yes)
    proof = run(restore_database(session.settings, file))
    for problem in proof.problems:
        click.echo(problem)
    verdict = count(len(proof.problems), "problem") if proof.problems else "verified"
    click.echo(f"restored and {verdict}: {count(proof.found.events, 'event')}, head {proof.found.head}")
    click.echo("no node is written until: reconciler accept --restore --reason TEXT", err=True)
    return 1 if proof.problems else 0
