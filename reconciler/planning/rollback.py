"""`rollback --dry-run`, also with `--undo`: that and the pass after it on an overlay of the log. Git is not asked."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from reconciler import commands
from reconciler.planning.plan import on_overlay
from reconciler.stages.context import Context
from reconciler.stages.foresee import PoolForesight, foresee_pass
from reconciler.stages.guard import images_of
from reconciler.stages.plan_data import plan_data


async def plan_rollback(context: Context, **asked: Any) -> dict[str, Any]:
    """What `commands.rollback` says of the same arguments, and under `plan` what it would mean for the nodes.

    Nothing is appended and no node is written.
    """
    return await _planned(context, lambda overlay: commands.rollback(overlay, **asked))


async def plan_undo(context: Context, hold: str, *, reason: str) -> dict[str, Any]:
    """The same of `commands.undo_rollback`."""
    return await _planned(context, lambda overlay: commands.undo_rollback(overlay, hold, reason=reason))


async def _planned(context: Context, command: Callable[[Context], Awaitable[dict[str, Any]]]) -> dict[str, Any]:
    """What a command says, and what it leads to in the pools that it names."""
    overlay, log = on_overlay(context, await context.snapshot())
    done = await command(overlay)
    found = await foresee_pass(overlay, live=True, source=False)
    pools = [pool for pool in found.pools if pool.view.pool.name in done["pools"]]
    images = {image for pool in pools for image in await _images(overlay, pool)}
    data = await plan_data(overlay, found, log.events, pools=done["pools"], images=sorted(images))
    return {**done, "dryRun": True, "plan": data}


async def _images(context: Context, pool: PoolForesight) -> set[str]:
    """Every image that the pool needs, as far as its nodes tell."""
    changes = any(node.behind for node in pool.view.nodes)
    return await images_of(context, pool.view.pool, pool.sights) if changes else set()
