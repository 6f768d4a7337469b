"""What people may see of one thing: a rollout, a node or a pool with its conditions; and the list of rollouts.

Every answer is JSON-able data in Kubernetes' shape (metadata, spec, status); doors only choose the layout.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from datetime import datetime
from typing import Any

from reconciler.errors import UsageError
from reconciler.ports import EventFilter, Snapshot
from reconciler.projections.conditions import Condition, node_conditions, pool_conditions
from reconciler.projections.desired import Desired
from reconciler.projections.status import FleetStatus, blocked_drain, fleet_status
from reconciler.projections.tables import HOLDS, NODE_STATES, POOLS, ROLLOUTS, Row, rollout_of
from reconciler.queries import history
from reconciler.rollout.drift import RUNTIME
from reconciler.rollout.windows import closed, next_opening
from reconciler.stages.context import Context
from reconciler.stages.host_files import own_files, recorded_files
from reconciler.stages.view import locks, waiting_rollout

RECENT = 10
"""Events shown with a description."""

RECEIPT = {
    "result": "result", "generation": "generation", "unit": "unit", "active": "active", "loaded": "loaded",
    "action": "action", "healthy_before": "healthyBefore", "boot_id": "bootId", "manifest": "manifest",
    "reason": "reason", "detail": "detail",
}  # fmt: skip
"""What is shown of a receipt: its field → the name here."""


async def list_rollouts(context: Context, pool: str | None = None) -> list[dict[str, Any]]:
    """Every rollout, the newest first."""
    snapshot = await context.snapshot()
    rows = [row for row in snapshot.table(ROLLOUTS).values() if pool in (None, row["pool"])]
    return [_rollout_item(snapshot, row) for row in sorted(rows, key=lambda row: row["started_at"], reverse=True)]


def _rollout_item(snapshot: Snapshot, row: Row) -> dict[str, Any]:
    nodes = _nodes_of(snapshot, row)
    states = [node["state"] for node in nodes]
    wave = row["waves"][-1] if row["waves"] else None
    return {
        "name": row["rollout"],
        "pool": row["pool"],
        "state": row["state"],
        "kind": row["kind"],
        "wave": f"{len(row['waves'])} ({wave['kind']})" if wave else "",
        "nodes": row["nodes"],
        "converged": states.count("Converged"),
        "failed": states.count("Failed"),
        "deferred": states.count("Deferred"),
        "disruption": row["disruption"],
        "effective": row["effective"],
        "commit": row["commit"],
        "plan": row["plan"],
        "startedAt": _plain(row["started_at"]),
        "endedAt": _plain(row["ended_at"]),
        "outcome": row["outcome"] or "",
    }


def _nodes_of(snapshot: Snapshot, row: Row) -> list[dict[str, Any]]:
    """The nodes of a rollout's waves, and how each stands to its content now; of an old one, as far as is known."""
    found = []
    for number, wave in enumerate(row["waves"] or (), 1):
        for name in wave["nodes"]:
            state = snapshot.one(NODE_STATES, snapshot.fleet, name) or {}
            found.append({"name": name, "wave": number, **_node_state(row, state)})
    return found


def _node_state(row: Row, state: Mapping[str, Any]) -> dict[str, Any]:
    wanted = set((row["targets"] or {}).values())
    failed, deferred = state.get("failed"), state.get("deferred")
    if state.get("step"):
        return {"state": "Applying", "reason": blocked_drain(state) or f"step by {state['step_owner']}"}
    if failed and failed["files"] in wanted:
        return {"state": "Failed", "reason": failed["reason"]}
    if state.get("files") in wanted and not state.get("unproven"):
        return {"state": "Converged", "reason": ""}
    if deferred:
        return {"state": "Deferred", "reason": deferred["reason"]}
    return {"state": "Deferred" if state.get("unreachable") else "Pending", "reason": state.get("unreachable") or ""}


async def describe_rollout(context: Context, name: str) -> dict[str, Any]:
    """A rollout by its id, the beginning of it, or the name of a pool (its current one). Raises UsageError."""
    snapshot = await context.snapshot()
    row = _find_rollout(snapshot, name)
    waits, _ = waiting_rollout(snapshot, snapshot.table(POOLS)[context.name, row["pool"]])
    item = _rollout_item(snapshot, row)
    return {
        "kind": "Rollout",
        "metadata": {"name": row["rollout"], "pool": row["pool"], "startedAt": item["startedAt"]},
        "spec": {"commit": row["commit"], "plan": row["plan"], "kind": row["kind"], "targets": dict(row["targets"])},
        "status": {
            **{
                name: item[name] for name in ("state", "outcome", "endedAt", "nodes", "converged", "failed", "deferred")
            },
            "disruption": row["disruption"],
            "effective": row["effective"],
            "reasons": list(row["reasons"] or ()),
            "waves": [dict(wave) for wave in row["waves"] or ()],
            "nodeStates": _nodes_of(snapshot, row),
            "approvals": [dict(approval) for approval in row["approved"] or ()],
            "waitsForApproval": waits is not None and waits["rollout"] == row["rollout"],
        },
        "events": await _recent(context, pool=row["pool"], since=row["started_at"], until=row["ended_at"]),
    }


def _find_rollout(snapshot: Snapshot, name: str) -> Row:
    pool = snapshot.one(POOLS, snapshot.fleet, name)
    if pool and (rollout := rollout_of(snapshot.rows, pool)):
        return rollout
    found = [row for row in snapshot.table(ROLLOUTS).values() if len(name) >= 4 and row["rollout"].startswith(name)]
    if len(found) != 1:
        what = f"{len(found)} rollouts begin with {name}" if found else f"there is no rollout {name}"
        raise UsageError(what, where="rollout", remedy="see `reconciler get rollouts`")
    return found[0]


async def describe_node(context: Context, name: str) -> dict[str, Any]:
    """A node: its document, conditions, what it has and should have. Raises UsageError."""
    snapshot = await context.snapshot()
    desired, found = Desired(context.name, snapshot.rows), fleet_status(context.name, snapshot.rows)
    node = next((node for node in found.nodes if node.name == name), None)
    if node is None:
        raise UsageError(f"there is no node {name}", where="node", remedy="see `reconciler get nodes`")
    state, known = snapshot.one(NODE_STATES, context.name, name) or {}, desired.nodes[name]
    seen = (await context.reads.seen(context.name)).get(name)
    return {
        "kind": "Node",
        "metadata": {"name": name, "labels": dict(known.labels), "pool": node.pool},
        "spec": {key: value for key, value in known.spec.items() if key != "labels"},
        "status": {
            "conditions": [_condition(condition) for condition in node_conditions(node)],
            "files": {"wanted": node.wanted, "applied": node.applied, "base": state.get("base")},
            "managedPaths": await _paths(context, snapshot, desired, name),
            "receipt": {label: (state.get("receipt") or {}).get(name) for name, label in RECEIPT.items()},
            "machineId": node.machine_id,
            "runtimeVersion": seen.runtime if seen else "",
            "lastSeen": _plain(seen.at) if seen else None,
            "step": state.get("step_data"),
            "failed": state.get("failed"),
            "deferred": state.get("deferred"),
            "cordoned": state.get("cordoned") is not None,
            "drainBlocked": _blocked(state),
            "cluster": {name: value for name, value in known.cluster.items() if name != "labels"},
            "discovered": known.discovered,
            "drift": [dict(item) for item in state.get("drift") or ()],
            "strays": list(node.strays),
        },
        "events": await _recent(context, node=name),
    }


def _blocked(state: Mapping[str, Any]) -> dict[str, Any] | None:
    """What keeps the node from getting empty in its turn; None where nothing does."""
    blocked = state.get("drain_blocked")
    return {name: blocked[name] for name in ("reason", "pods", "more")} if blocked else None


async def _paths(context: Context, snapshot: Snapshot, desired: Desired, node: str) -> list[dict[str, Any]]:
    """Each path that is or was ours: what is wanted there, what the last receipt proved, and what was last seen, by
    digest (None: nothing). `base`: what it had before us."""
    (host,) = await recorded_files(context, snapshot, desired, [node])
    drift = {str(item["path"]): str(item["observed"]) for item in _drift(snapshot, node) if item["path"] != RUNTIME}
    wanted, applied = dict(host.wanted or ()), dict(host.applied or ())
    base = own_files(snapshot, node)
    ours = {path for files in (wanted, applied) for path, digest in files.items() if base.get(path) != digest}
    return [
        {
            "path": path,
            "wanted": wanted.get(path),
            "applied": applied.get(path),
            "observed": drift.get(path, applied.get(path)),
            "base": base.get(path),
        }
        for path in sorted(ours | drift.keys())
    ]


def _drift(snapshot: Snapshot, node: str) -> Sequence[Mapping[str, Any]]:
    return (snapshot.one(NODE_STATES, snapshot.fleet, node) or {}).get("drift") or ()


async def describe_pool(context: Context, name: str) -> dict[str, Any]:
    """A pool: its settings, conditions, locks, windows, refused content, holds, rollout. Raises UsageError."""
    snapshot, now = await context.snapshot(), context.clock.now()
    row = pool_row(snapshot, name)
    found = fleet_status(context.name, snapshot.rows)
    pool = next(pool for pool in found.pools if pool.name == name)
    rollout = rollout_of(snapshot.rows, row)
    waits, stage = waiting_rollout(snapshot, row)
    shut = closed(row["spec"]["windows"], now)
    opening = next_opening(row["spec"]["windows"], now) if shut else None
    return {
        "kind": "NodePool",
        "metadata": {"name": name, "source": f"{row['file']}:{row['line']}"},
        "spec": dict(row["spec"]),
        "status": {
            "conditions": conditions_of_pool(snapshot, found, name, now),
            "commit": row["commit"],
            "rejected": row["rejected"],
            "blocked": row["blocked"] or "",
            "machineCount": pool.machines,
            "readyMachineCount": pool.ready,
            "updatedMachineCount": pool.updated,
            "degradedMachineCount": pool.degraded,
            "rollout": _rollout_item(snapshot, rollout) if rollout else None,
            "waitsForApproval": stage if waits else "",
            "locks": [dict(lock) for lock in row["locks"] or ()],
            "windows": {"closed": shut, "nextOpening": _plain(opening)},
            "refused": [{"files": files, **why} for files, why in sorted((row["refused"] or {}).items())],
            "completed": row["completed"],
            "holds": [_hold(snapshot, hold) for hold in pool.held],
            "warnings": [dict(warning) for warning in row["warnings"] or ()],
        },
        "events": await _recent(context, pool=name),
    }


def _hold(snapshot: Snapshot, name: str) -> dict[str, Any]:
    row = snapshot.table(HOLDS)[snapshot.fleet, name]
    return {"name": name, "position": row["position"], "reason": row["reason"], "actor": row["actor"]}


def pool_row(snapshot: Snapshot, name: str) -> Row:
    """The row of a pool. Raises UsageError where there is none."""
    row = snapshot.one(POOLS, snapshot.fleet, name)
    if row is None or not row["spec"]:
        raise UsageError(f"there is no pool {name}", where="pool", remedy="see `reconciler get pools`")
    return row


def conditions_of_pool(snapshot: Snapshot, found: FleetStatus, name: str, now: datetime) -> list[dict[str, Any]]:
    """A pool's conditions as data."""
    pool = next(pool for pool in found.pools if pool.name == name)
    paused = locks(pool_row(snapshot, name), now)
    return [_condition(condition) for condition in pool_conditions(found, snapshot.rows, pool, paused)]


def _condition(condition: Condition) -> dict[str, Any]:
    data = {name: value for name, value in asdict(condition).items() if name != "since"}
    return {**data, "status": str(condition.status), "lastTransitionTime": _plain(condition.since)}


async def _recent(
    context: Context,
    *,
    node: str | None = None,
    pool: str | None = None,
    since: datetime | None = None,
    until: datetime | None = None,
) -> Sequence[dict[str, Any]]:
    """The latest events about a node or pool, the newest last."""
    about = EventFilter(context.name, node=node, pool=pool, since_time=since, until_time=until)
    found = await history(context, replace(about, limit=RECENT, newest_first=True))
    return found[::-1]


def _plain(value: Any) -> Any:
    return value.isoformat().replace("+00:00", "Z") if isinstance(value, datetime) else value
