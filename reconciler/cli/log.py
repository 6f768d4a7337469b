"""`reconciler log`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from reconciler.cli.export import export
from reconciler.cli.options import output, shared
from reconciler.cli.output import count, print_object
from reconciler.cli.session import Session, run

if TYPE_CHECKING:
    from reconciler.ports import Verification


@click.group()
@shared
def log() -> None:
    """The event log as a whole."""


log.add_command(export)


@log.command()
@output("table", "json", "yaml")
@shared
@click.pass_obj
def verify(session: Session, output: str) -> int:
    """Recompute the chain of hashes and every blob's address; exit code 1 when something does not match."""
    found = run(_verify(session))
    if output != "table":
        fields = {"events": found.events, "blobs": found.blobs, "head": found.head, "problems": list(found.problems)}
        print_object(output, {"kind": "LogVerification", **fields})
    else:
        for problem in found.problems:
            click.echo(problem)
        verdict = count(len(found.problems), "problem") if found.problems else "verified"
        click.echo(f"{verdict}: {count(found.events, 'event')}, {count(found.blobs, 'blob')}, head {found.head}")
    return 1 if found.problems else 0


async def _verify(session: Session) -> Verification:
    async with session.application() as application:
        return await application.log.verify()
