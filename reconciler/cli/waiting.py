"""After an append: bring it to the nodes, and wait for them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from reconciler.stages.context import Context


async def bring_to_nodes(context: Context, within: float | None) -> int:
    """Pass until nothing moves any more, at most `within` seconds (None: do not wait); the exit code.

    Git may be gone: the rest of a pass goes on without it.
    """
    from reconciler import commands  # not before it is needed: rendering's libraries take a while to load

    if within is None:
        click.echo("recorded; the next pass brings it to the nodes", err=True)
        return 0
    context.retry_now = True
    _, found = await commands.sync(context, wait=True, within=within)
    if found.exit_code:
        for pool in found.pools:
            if pool.blocked:
                click.echo(f"pool {pool.name} is blocked: {pool.blocked}", err=True)
        click.echo("the fleet is not (yet) as wanted: see `reconciler status`", err=True)
    return found.exit_code
