"""`reconciler config show`."""

from __future__ import annotations

import click

from reconciler.cli.options import output, shared
from reconciler.cli.output import FORMS, Column, print_list
from reconciler.cli.session import Session
from reconciler.settings import describe

COLUMNS = (
    Column("KEY", lambda item: item["name"]),
    Column("VALUE", lambda item: item["value"]),
    Column("ORIGIN", lambda item: item["origin"]),
)


@click.group()
@shared
def config() -> None:
    """The settings."""


@config.command()
@output(*FORMS)
@shared
@click.pass_obj
def show(session: Session, output: str) -> None:
    """Show every setting in force, as TOML writes it, and where it came from; passwords are cut out."""
    items = [{"name": key, "value": value, "origin": origin} for key, value, origin in describe(session.settings)]
    print_list(output, items, COLUMNS, lambda item: f"setting/{item['name']}")
