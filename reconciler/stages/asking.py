"""Asking: whose images the guard will probably want in this pass, told before anybody looks at a node.

The question then travels with the look and costs no round trip of its own. What was recorded is rendered only after
the look, so this asks rather once too often (for a change that no pull can tell) than too rarely; whom it misses, the
guard asks.
"""

from __future__ import annotations

from collections.abc import Collection

from reconciler.ports import Snapshot
from reconciler.projections.desired import Desired, wanted_row
from reconciler.projections.guard_state import GuardState
from reconciler.projections.tables import NODE_STATES, RENDERS
from reconciler.stages.context import Context
from reconciler.stages.observe import file_sets
from reconciler.stages.project import inputs_of, units
from reconciler.stages.ways import change_of


async def nodes_to_ask(context: Context, *, recheck: bool = False) -> Collection[str]:
    """The nodes of every pool for which something new is to be rendered, or was rendered and not judged; with `recheck`
    also what was judged. Nobody, and at no cost, while the log stands where it stood at the last call."""
    snapshot = await context.snapshot()
    if snapshot.position == context.asked_at and not recheck:
        return ()
    context.asked_at = snapshot.position
    desired = Desired(context.name, snapshot.rows)
    pools = {name for name, pool in desired.pools.items() if pool.enforces}
    chosen = await _outdated(context, snapshot, desired, pools)
    chosen |= await _unjudged(context, snapshot, desired, pools - chosen, recheck=recheck)
    return {name for name, node in desired.nodes.items() if node.pool in chosen}


async def _outdated(context: Context, snapshot: Snapshot, desired: Desired, pools: Collection[str]) -> set[str]:
    """The pools of which something was rendered from other inputs than those in force."""
    found = set[str]()
    for unit in units(snapshot, desired):
        if unit.pool in pools and unit.pool not in found:
            row = snapshot.one(RENDERS, context.name, unit.pool, unit.node, unit.base)
            _, inputs = await inputs_of(context, desired, unit)
            found |= {unit.pool} if row is None or row["inputs"] != inputs else set()
    return found


async def _unjudged(
    context: Context, snapshot: Snapshot, desired: Desired, pools: Collection[str], *, recheck: bool
) -> set[str]:
    """The pools of which a node has a way to go that no judgement in force is about."""
    states = {name: GuardState.of(context.name, snapshot.rows, desired.pools[name]) for name in pools}
    sets, found = await file_sets(context, snapshot) if states else {}, set[str]()
    for name, node in desired.nodes.items():
        if node.pool not in states or node.pool in found:
            continue
        row = snapshot.one(NODE_STATES, context.name, name) or {}
        wanted = wanted_row(context.name, snapshot.rows, node.pool, name, row)
        change = change_of(row, wanted["files"] if wanted else None, sets)
        if change and (recheck or states[node.pool].verdict(change) is None):
            found.add(node.pool)
    return found
