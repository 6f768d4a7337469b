"""`reconciler sql`: psql on the history, or one query."""

from __future__ import annotations

import asyncio
import csv
import signal
import subprocess
import sys
from collections.abc import Sequence
from datetime import datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import click

from reconciler.cli.options import option, output, shared
from reconciler.cli.output import Column, Item, print_list, print_object
from reconciler.cli.session import Session, run
from reconciler.errors import UsageError

if TYPE_CHECKING:
    from reconciler.ports import Answer


@click.command()
@option("-c", "--command", "query", metavar="QUERY", show_default="open psql", help="Run this one query instead.")
@output("table", "json", "csv")
@shared
@click.pass_obj
def sql(session: Session, query: str | None, output: str) -> int:
    """Ask the history in SQL: open psql, or run one query.

    The session is the role reconciler_reader's, read-only, with the views of reconciler_v1 before the tables. What
    there is to ask: docs/reference/sql.md. Without -c, psql's exit code.
    """
    if query is None:
        return run(_psql(session))
    answer = run(_query(session, query, native=output == "json"))
    if output == "csv":
        writer = csv.writer(sys.stdout, lineterminator="\n")
        writer.writerow(answer.columns)
        writer.writerows(answer.rows)
    elif output == "json":
        print_object("json", {"kind": "List", "items": _objects(answer)})
    else:
        columns = [Column(name.upper(), _cell(place)) for place, name in enumerate(answer.columns)]
        print_list("table", [{"row": row} for row in answer.rows], columns, str)
    return 0


async def _query(session: Session, query: str, *, native: bool) -> Answer:
    from reconciler.wiring import reader  # not before it is needed: it loads the database's libraries

    async with reader(session.settings) as database:
        return await database.query(query, native=native)


async def _psql(session: Session) -> int:
    from reconciler.wiring import reader  # as above

    async with reader(session.settings) as database:
        command, environment = await database.psql()
        # Ctrl-C is psql's: it ends a query there, and nothing here.
        asyncio.get_running_loop().add_signal_handler(signal.SIGINT, lambda: None)
        return await asyncio.to_thread(subprocess.call, command, env=environment)


def _objects(answer: Answer) -> Sequence[Item]:
    twice = sorted({name for name in answer.columns if answer.columns.count(name) > 1})
    if twice:
        raise UsageError(f"two columns are called {', '.join(twice)}", where="-c", remedy="name them with AS")
    return [dict(zip(answer.columns, map(_plain, row), strict=True)) for row in answer.rows]


def _plain(value: Any) -> Any:
    """A value as JSON has it."""
    if isinstance(value, datetime):
        return value.isoformat().replace("+00:00", "Z")
    if isinstance(value, Decimal):
        return int(value) if value == value.to_integral_value() else float(value)
    if isinstance(value, list):
        return [_plain(item) for item in value]
    return value


def _cell(place: int) -> Any:
    return lambda item: item["row"][place]
