"""`reconciler db upgrade` and `db check`."""

from __future__ import annotations

import click

from reconciler.cli.options import output, shared
from reconciler.cli.output import Column, print_list
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
