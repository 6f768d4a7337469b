"""`reconciler redact`: a content is taken away for ever."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from reconciler.cli.confirm import confirm, yes
from reconciler.cli.options import dry_run, fleet, output, reason
from reconciler.cli.output import count, print_done
from reconciler.cli.session import Session, run
from reconciler.cli.waiting import say_once

if TYPE_CHECKING:
    from reconciler.stages.context import Context


@click.command()
@click.argument("blob", metavar="BLOB")
@reason("Why; it is recorded, and shown wherever the content was.")
@yes
@dry_run
@output("table", "json", "yaml")
@fleet
@click.pass_obj
def redact(session: Session, blob: str, reason: str, yes: bool, dry_run: bool, output: str) -> int:
    """Take the bytes of a recorded content away for ever; the log that names it stays whole and verifies.

    BLOB is the whole SHA-256, as `reconciler show` prints it in an event. What is in use on a node now is refused. A
    state that needs the content can no longer be rolled back to. Backups and exports made before keep their copies.
    """

    async def say(context: Context) -> None:
        from reconciler import redaction  # not before it is needed: rendering's libraries take a while to load

        done = await redaction.redact(context, blob, reason=reason, dry_run=True)
        if not dry_run:
            confirm(f"take the {count(done['size'], 'byte')} of {blob[:12]} away for ever", yes=yes)
            done = await redaction.redact(context, blob, reason=reason)
        print_done(output, "Redaction", done, f"redacted {blob[:12]}, {count(done['size'], 'byte')}")

    return run(say_once(session, say))
