"""`reconciler sync`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from reconciler.cli.options import Duration, flag, fleet, option, output
from reconciler.cli.progress import progress
from reconciler.cli.session import Session, run
from reconciler.cli.status import print_status

if TYPE_CHECKING:
    from reconciler.projections.status import FleetStatus


@click.command()
@option("--wait/--no-wait", default=False, help="Wait until the fleet is as wanted, or will not become so by waiting.")
@option("--timeout", type=Duration(), default="30m", help="Longest time to wait, with --wait.")
@flag("--recheck", help="Judge a refused head commit again.")
@output("table", "json", "yaml")
@fleet
@click.pass_obj
def sync(session: Session, *, wait: bool, timeout: float, recheck: bool, output: str) -> int:
    """Look at Git and at every node now, and bring the nodes to what is wanted.

    Without --wait it makes one pass. Ends like `status`: 0 converged, 1 a node failed or Git was never read,
    3 not converged, 4 the newest commit was rejected; 124 when the time ran out.
    """
    found, data = run(_sync(session, wait=wait, within=timeout, recheck=recheck))
    print_status(output, data)
    return found.exit_code


async def _sync(session: Session, *, wait: bool, within: float, recheck: bool) -> tuple[FleetStatus, dict[str, Any]]:
    from reconciler import commands, queries  # not before it is needed: rendering's libraries take a while to load

    with progress() as report:
        async with session.context(report) as context:
            context.retry_now = True
            await commands.sync(context, wait=wait, within=within, recheck=recheck)
            return await queries.status(context)
