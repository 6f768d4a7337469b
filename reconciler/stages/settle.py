"""Settle: end the entries of holds that have had their day, whatever no single commit can tell (DESIGN §8).

An entry of a hold with `until_fixed` ends when Git has none of the bad differences any more, and the lock-out guard
lets Git's content pass; one that a person reinstated may agree with Git already.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from reconciler.events.envelope import fleet_stream
from reconciler.ports import Snapshot
from reconciler.projections.desired import Desired
from reconciler.projections.holds import Standing, standings
from reconciler.projections.tables import HOLDS, POOLS, RENDERS, Key, Row
from reconciler.stages.context import Context, Progress
from reconciler.stages.guard import foreseen_verdict
from reconciler.stages.held import lifted, said_of, without_entries
from reconciler.stages.project import inputs_of, keep_rendered, render_unit, units
from reconciler.stages.sight import Sight


async def settle(context: Context, sights: Mapping[str, Sight], *, ask_nodes: bool = True) -> int:
    """Append HoldLifted for every entry that is to end; returns for how many."""
    snapshot = await context.snapshot()
    if not snapshot.table(HOLDS):
        return 0
    desired = Desired(context.name, snapshot.rows)
    fixable = {str(hold["hold"]) for hold in desired.holds if hold["until_fixed"]}
    found = standings(desired, await said_of(context, desired))
    agreed = [standing for standing in found if standing.git == "agreed"]
    fixed = [s for s in found if s.git == "other" and s.hold in fixable and s.places and not s.left]
    fixed = [s for s in fixed if not _waits(snapshot, s)]
    if fixed and (why := await _in_the_way(context, snapshot, sights, fixed, ask_nodes=ask_nodes)):
        held = ", ".join(standing.entry["resource"] for standing in fixed)
        context.progress(Progress("settle", f"{held} is fixed in Git, and stays held: {why}"))
        fixed = []
    bodies = lifted(desired, agreed, "agreed", None) + lifted(desired, fixed, "fixed", _commit(snapshot, fixed))
    await context.append(context.events(snapshot, bodies), snapshot, [fleet_stream(context.name)])
    return len(agreed) + len(fixed)


def _waits(snapshot: Snapshot, standing: Standing) -> bool:
    """Whether a pool of the entry has not taken Git's newest content, so that what is fixed may not be its yet."""
    rows = [snapshot.one(POOLS, snapshot.fleet, pool) or {} for pool, _ in standing.places]
    return any(row.get("rejected") for row in rows)


def _commit(snapshot: Snapshot, fixed: Sequence[Standing]) -> str | None:
    commits = {(snapshot.one(POOLS, snapshot.fleet, pool) or {}).get("commit") for s in fixed for pool, _ in s.places}
    return commits.pop() if len(commits) == 1 else None


async def _in_the_way(
    context: Context,
    snapshot: Snapshot,
    sights: Mapping[str, Sight],
    fixed: Sequence[Standing],
    *,
    ask_nodes: bool,
) -> str:
    """Why the state without these entries may not come, or nothing."""
    rows = without_entries(snapshot, fixed)
    desired, renders = Desired(context.name, rows), dict[Key, Row](snapshot.table(RENDERS))
    pools = {pool for standing in fixed for pool, _ in standing.places}
    for unit in units(snapshot, desired):
        if unit.pool not in pools:
            continue
        chosen, inputs = await inputs_of(context, desired, unit)
        if inputs not in context.foreseen:
            outcome = await render_unit(context, desired.pools[unit.pool], chosen, unit)
            if not outcome.ok:
                return "; ".join(str(problem) for problem in outcome.problems if problem.severity == "error")
            context.foreseen[inputs] = await keep_rendered(context, outcome)
        files, origins = context.foreseen[inputs]
        key = (context.name, unit.pool, unit.node, unit.base)
        renders[key] = {**renders.get(key, {}), "inputs": inputs, "files": files, "origins": origins}
    then = replace(snapshot, rows={**rows, RENDERS.name: renders})
    for pool in sorted(pools):
        if why := await foreseen_verdict(context, then, desired.pools[pool], sights, ask_nodes=ask_nodes):
            return f"pool {pool}: {why}"
    return ""
