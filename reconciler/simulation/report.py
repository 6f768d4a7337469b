"""What a simulation came to, as data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from reconciler.events.catalogue import (
    NodeConverged,
    NodeDeferred,
    NodeFailed,
    RolloutHalted,
    StepAbandoned,
    StepStarted,
    WaveStarted,
)
from reconciler.events.envelope import StoredEvent
from reconciler.ports import EventFilter, Snapshot
from reconciler.projections.status import FleetStatus, PoolStatus, fleet_status
from reconciler.projections.tables import NODE_STATES, POOLS, rollout_of
from reconciler.rollout.plan import STOPPED
from reconciler.simulation.run import End
from reconciler.simulation.world import World

EXIT_CODES = {"completed": 0, "failed": 1, "halted": 1, "waiting": 3}
"""How a simulation ends, and the exit code that says so."""

_OUTCOMES = {NodeConverged: "converged", NodeFailed: "failed", NodeDeferred: "deferred", StepAbandoned: "deferred"}


async def report(world: World, end: End) -> dict[str, Any]:
    """How it ended, how long it took, who was unavailable, the waves, the halts, and who did not get there."""
    snapshot = await world.context.snapshot()
    events = await world.log.read(EventFilter(after=end.position))
    status = fleet_status(snapshot.fleet, snapshot.rows)
    left: dict[str, list[dict[str, Any]]] = {"failed": [], "deferred": [], "waiting": []}
    reasons = {name: why for waits in end.waits.values() for name, why in waits.items()}
    for node in status.nodes:
        if (node.files != "Converged" or not node.ready) and node.pool is not None:
            place = "failed" if node.files == "Failed" else "deferred" if world.troubled[node.name] else "waiting"
            reason = node.reason if place == "failed" else reasons.get(node.name, node.reason)
            left[place].append(
                {"name": node.name, "pool": node.pool, "reason": reason or _deferral(snapshot, node.name)}
            )
    pools = [_pool(world, snapshot, pool, left) for pool in status.pools]
    return {
        "ends": _ends(status, pools, left, late=end.late),
        "seconds": round(end.seconds),
        "late": end.late,
        "nodes": len(status.nodes),
        "converged": sum(node.files == "Converged" for node in status.nodes),
        "mostDown": world.availability.most["", "down"],
        "mostUnavailable": world.availability.most["", "unavailable"],
        "pools": pools,
        "waves": _waves(events, end.begun),
        "halts": [
            {"pool": event.body.pool, "seconds": _since(event.recorded_at, end.begun), "reason": event.body.reason}
            for event in events
            if isinstance(event.body, RolloutHalted)
        ],
        **left,
    }


def _deferral(snapshot: Snapshot, node: str) -> str:
    """Why a node came to nothing last, or that there was no time to begin it."""
    deferred = (snapshot.one(NODE_STATES, snapshot.fleet, node) or {}).get("deferred") or {}
    return str(deferred.get("reason", "there was no time left for it"))


def _ends(
    status: FleetStatus, pools: Sequence[Mapping[str, Any]], left: Mapping[str, Sequence[object]], *, late: bool
) -> str:
    if any(pool["rollout"] in STOPPED for pool in pools):
        return "halted"
    if left["failed"]:
        return "failed"
    stuck = status.waiting or any(pool.blocked or pool.rejected for pool in status.pools)
    return "waiting" if left["waiting"] or stuck or late else "completed"


def _pool(
    world: World, snapshot: Snapshot, pool: PoolStatus, left: Mapping[str, Sequence[Mapping[str, Any]]]
) -> dict[str, Any]:
    row = snapshot.table(POOLS)[snapshot.fleet, pool.name]
    rollout = rollout_of(snapshot.rows, row) or {}
    return {
        "name": pool.name,
        "nodes": pool.machines,
        "converged": pool.updated,
        **{kind: sum(node["pool"] == pool.name for node in nodes) for kind, nodes in left.items()},
        "mostDown": world.availability.most[pool.name, "down"],
        "mostUnavailable": world.availability.most[pool.name, "unavailable"],
        "mostTouched": world.availability.most[pool.name, "touched"],
        "rollout": rollout.get("state") or "none",
        "disruption": rollout.get("disruption") or "none",
        "effective": rollout.get("effective") or "none",
        "blocked": pool.blocked,
    }


def _waves(events: Sequence[StoredEvent], begun: datetime) -> list[dict[str, Any]]:
    """Each wave, with when its first node was begun and its last one ended, and how they ended."""
    waves: list[dict[str, Any]] = []
    of: dict[tuple[str, str], dict[str, Any]] = {}  # (rollout, node) → wave
    steps: dict[str, dict[str, Any]] = {}
    for event in events:
        body, at = event.body, _since(event.recorded_at, begun)
        if isinstance(body, WaveStarted):
            wave = {"pool": body.pool, "wave": body.wave, "kind": body.kind, "nodes": len(body.nodes), "began": at}
            waves.append({**wave, "ended": None, "converged": 0, "failed": 0, "deferred": 0})
            of |= {(body.rollout, node): waves[-1] for node in body.nodes}
        elif isinstance(body, StepStarted) and (body.rollout, body.node) in of:
            steps[body.step] = of[body.rollout, body.node]
        elif type(body) in _OUTCOMES and body.step in steps:  # type: ignore[attr-defined]  # each ends a step
            found = steps.pop(body.step)  # type: ignore[attr-defined]
            found[_OUTCOMES[type(body)]] += 1
            found["ended"] = at
    return waves


def _since(moment: datetime, begun: datetime) -> int:
    return round((moment - begun).total_seconds())
