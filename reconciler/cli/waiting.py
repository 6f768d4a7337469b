"""After an append: bring it to the nodes, and wait for them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

import click

from reconciler.cli.progress import progress
from reconciler.cli.session import Session

if TYPE_CHECKING:
    from reconciler.stages.context import Context

    Say = Callable[[Context], Awaitable[None]]


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
        if found.restored:
            from reconciler.stages.restores import REMEDY, evidence_text  # as above

            said = evidence_text(found.restored["items"], found.restored["more"])
            click.echo(f"{said}; no node is written: {REMEDY}", err=True)
        for pool in found.pools:
            if pool.blocked:
                click.echo(f"pool {pool.name} is blocked: {pool.blocked}", err=True)
        click.echo("the fleet is not (yet) as wanted: see `reconciler status`", err=True)
    return found.exit_code


async def say_once(session: Session, say: Say) -> int:
    """Append and say so, or only say what would be appended."""
    async with session.context() as context:
        await say(context)
        return 0


async def say_and_bring(session: Session, say: Say, within: float | None) -> int:
    """Append, say so, and bring it to the nodes; the exit code."""
    with progress() as report:
        async with session.context(report) as context:
            await say(context)
            return await bring_to_nodes(context, within)
