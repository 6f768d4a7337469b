"""`reconciler doctor`."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click

from reconciler.cli.options import output, shared
from reconciler.cli.output import Column, print_list
from reconciler.cli.session import Session, run
from reconciler.errors import ReconcilerError

if TYPE_CHECKING:
    from reconciler.settings import Settings

COLUMNS = (
    Column("CHECK", lambda item: item["name"]),
    Column("RESULT", lambda item: "OK" if item["ok"] else "FAIL"),
    Column("DETAIL", lambda item: item["detail"]),
    Column("REMEDY", lambda item: item["remedy"]),
)


@click.command()
@output("table", "json", "yaml")
@shared
@click.pass_obj
def doctor(session: Session, output: str) -> int:
    """Examine settings, git, SSH keys, database, clock, and each fleet's signing keys, repository and nodes.

    Changes nothing. Exit code 1 when something is not as it should be.
    """
    try:
        items = run(_examine(session.settings))
    except ReconcilerError as error:  # the settings themselves cannot be read
        items = [{"name": "settings", "ok": False, "detail": f"{error.where}: {error.what}", "remedy": error.remedy}]
    print_list(output, items, COLUMNS, lambda item: item["name"])
    return 0 if all(item["ok"] for item in items) else 1


async def _examine(settings: Settings) -> list[dict[str, Any]]:
    from reconciler.doctor import examine  # not before it is needed: it loads every library

    items = []
    async for finding in examine(settings):
        data = asdict(finding)
        items.append({"name": data.pop("subject"), **data})
    return items
