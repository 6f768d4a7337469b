"""Why nothing is applied to a cluster now. It has one set of resources, so that what keeps one pool keeps all."""

from __future__ import annotations

from datetime import datetime

from reconciler.ports import Snapshot
from reconciler.projections.desired import Desired
from reconciler.projections.guard_state import NOT_JUDGED, GuardState
from reconciler.projections.openshift import OPENSHIFT_BASE, not_adopted, not_ours, of_another_log
from reconciler.projections.tables import CLUSTER_OBJECTS, CLUSTERS, POOLS, RENDERS, Row, rollout_of
from reconciler.rollout.cluster_objects import Comparison
from reconciler.rollout.plan import STOPPED
from reconciler.rollout.pools import Pool
from reconciler.rollout.windows import closed
from reconciler.stages.cluster_wishes import Wishes
from reconciler.stages.context import Context
from reconciler.stages.observe import file_sets
from reconciler.stages.project import Unit, inputs_of
from reconciler.stages.restores import REMEDY, contradicted
from reconciler.stages.view import locks
from reconciler.stages.ways import Ways, way_of_cluster


async def gate(context: Context, snapshot: Snapshot, found: Wishes, comparison: Comparison) -> str:
    """Why what is to be done waits, or nothing."""
    if said := contradicted(snapshot):
        return f"{said}: {REMEDY}"
    if found.none:
        return "no commit was accepted yet"
    if not found.pools[0].enforces:
        return "pool is in observe mode"
    if found.apart:
        return found.apart
    if said := not_ours(snapshot.one(CLUSTERS, context.name) or {}):
        return said
    if said := not_adopted([item.key for item in comparison.unadopted]) or of_another_log(comparison.others):
        return said  # what a commit names that came since the look
    if not comparison.actions:
        return ""
    now, desired = context.clock.now(), Desired(context.name, snapshot.rows)
    for pool in found.pools:
        row = snapshot.table(POOLS)[context.name, pool.name]
        render = snapshot.one(RENDERS, context.name, pool.name, "", OPENSHIFT_BASE)
        _, inputs = await inputs_of(context, desired, Unit(pool.name, "", OPENSHIFT_BASE, {}))
        if render is None or render["inputs"] != inputs:
            return row["blocked"] or "the newest state is not rendered yet"
        held = _held_back(row, rollout_of(snapshot.rows, row), str(render["files"]), now)
        if why := held or await _guarded(context, snapshot, pool):
            return why if len(found.pools) == 1 else f"pool {pool.name}: {why}"
    return _stopped(snapshot, found)


def _held_back(row: Row, rollout: Row | None, files: str, now: datetime) -> str:
    if paused := locks(row, now):
        return f"paused {'; '.join(paused)}"
    if rollout and rollout["state"] in STOPPED and rollout["targets"].get(OPENSHIFT_BASE) == files:
        return f"rollout {rollout['state']}: {rollout['outcome']}"
    if row["blocked"]:
        return str(row["blocked"])
    until = row["window_until"]
    return "" if until and now < datetime.fromisoformat(until) else closed(row["spec"]["windows"], now)


async def _guarded(context: Context, snapshot: Snapshot, pool: Pool) -> str:
    """What the lock-out guard says of the files that MCO is to render."""
    way = await way_of_cluster(context, snapshot, pool, Ways(context), await file_sets(context, snapshot))
    if way is None:
        return ""
    state = GuardState.of(context.name, snapshot.rows, pool)
    verdict = state.verdict(way.change)
    return NOT_JUDGED if verdict is None else state.why(verdict)


def _stopped(snapshot: Snapshot, found: Wishes) -> str:
    """`drift: stop`: while an object of ours differs, nothing else is applied."""
    if found.pools[0].spec["drift"] != "stop":
        return ""
    objects = sorted(snapshot.table(CLUSTER_OBJECTS).items())
    drifted = [key[1] for key, row in objects if row["drift"] and row["allowed"] is None]
    return f"stopped by drift of {', '.join(drifted)}" if drifted else ""
