"""Whose a node is: to give one back, and to take one that was given back or that another log owns.

Each appends on the node's stream what a person asked for; the node is asked by the cycle, in a step of its own.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from reconciler.errors import NodeRefused, UsageError
from reconciler.events.catalogue import AdoptionAsked, Event, NodeAdopted, ReleaseAsked
from reconciler.events.envelope import node_stream
from reconciler.ports import Snapshot
from reconciler.projections.tables import NODE_STATES, NODES, Row
from reconciler.stages.context import Context, anew
from reconciler.stages.observe import look

Asked = tuple[Event, dict[str, Any]]


async def release(context: Context, node: str, *, restore: bool, reason: str, dry_run: bool = False) -> dict[str, Any]:
    """Give a node back, with its files from before the first write (`restore`) or as it is. Raises UsageError."""

    async def ask(now: Snapshot, pool: str, state: Row) -> Asked:
        del now
        if state.get("released"):
            raise UsageError(f"node {node} is released already", remedy=f"take it back with `reconciler adopt {node}`")
        return ReleaseAsked(node, pool, restore, reason), {"node": node, "pool": pool, "restore": restore}

    return await _ask(context, node, ask, dry_run=dry_run)


async def adopt(context: Context, node: str, *, reason: str, dry_run: bool = False) -> dict[str, Any]:
    """Take a node that was released, or that another log owns: what stands there becomes its base. A release that has
    not begun is taken back. Raises UsageError where nothing keeps the node out, NodeRefused where something else does.
    """

    async def ask(now: Snapshot, pool: str, state: Row) -> Asked:
        done = {"node": node, "pool": pool, "from": None}
        asked = (state.get("asked") or {}).get("purpose")
        if asked == "adopt":
            raise UsageError(f"node {node} is to be adopted already", remedy="`reconciler sync` brings it to the node")
        if state.get("released") or asked:
            return NodeAdopted(node, pool, "", reason), done
        sight = (await look(context, now, [node]))[node]
        if sight.observation is None:
            raise NodeRefused(sight.out, where=f"node {node}", remedy="adopt it when it answers")
        owner = sight.observation.owner
        if owner is None or owner.log_id == context.log.log_id:
            what = f"neither a release nor another log keeps node {node} out"
            raise UsageError(what, remedy="see `reconciler status`")
        body = AdoptionAsked(node, pool, owner.log_id, owner.epoch, owner.fence, reason)
        return body, {**done, "from": owner.log_id}

    return await _ask(context, node, ask, dry_run=dry_run)


async def _ask(
    context: Context, node: str, ask: Callable[[Snapshot, str, Row], Awaitable[Asked]], *, dry_run: bool
) -> dict[str, Any]:
    async def attempt() -> dict[str, Any]:
        now = await context.snapshot()
        row = now.one(NODES, context.name, node)
        if row is None:
            raise UsageError(f"there is no node {node}", where="node", remedy="see `reconciler get nodes`")
        if row["pool"] is None:
            raise UsageError(f"node {node} is in no pool", where="node", remedy="give it the labels of a pool")
        state = now.one(NODE_STATES, context.name, node) or {}
        if state.get("step"):
            what = f"node {node} is being acted on by {state['step_owner']}"
            raise UsageError(what, where="node", remedy="try again when that has ended")
        body, done = await ask(now, row["pool"], state)
        if not dry_run:
            await context.append(context.events(now, [body]), now, [node_stream(context.name, node)])
        return {**done, "dryRun": dry_run}

    return await anew(attempt)
