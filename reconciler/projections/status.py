"""How the fleet stands, folded from the rows alone: per node, per pool, and whether all is as wanted."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal

from reconciler.projections.desired import Desired, wanted_row
from reconciler.projections.guard_state import GuardState
from reconciler.projections.tables import FLEETS, NODE_STATES, POOLS, RESTORES, Key, Row, rollout_of
from reconciler.rollout.drift import read_drift, same_drift
from reconciler.rollout.nodes import Node
from reconciler.rollout.placement import placement

FilesState = Literal[
    "Converged", "Pending", "Applying", "Failed", "Drifted", "Shadowed", "Unadopted", "Unknown", "Unmanaged",
    "HeldLocally", "Released", "Cordoned",
]  # fmt: skip


@dataclass(frozen=True)
class NodeStatus:
    """One node. `files`: Converged (receipt proves the wanted set), Pending (waits for its turn), Applying, Failed,
    Drifted, Shadowed (has the wanted set, but files beside it decide otherwise), Unadopted (never was ours; pool
    observes), Unknown (not seen or not rendered yet), Unmanaged (no pool),
    HeldLocally (its operator holds it), Released (given back), Cordoned (has the wanted set, and we have not uncordoned
    it yet). `cordoned`: it is cordoned by us, whatever its files. `ready`: it answers, and its cluster, if it is in
    one, says Ready. `unschedulable`: cordoned, by whomever. `away`: why its cluster lets nothing be begun there."""

    name: str
    pool: str | None
    ready: bool
    files: FilesState
    wanted: str | None
    applied: str | None
    reason: str = ""
    drift: tuple[str, ...] = ()
    strays: tuple[str, ...] = ()
    machine_id: str = ""
    unreachable_since: datetime | None = None
    converged_at: datetime | None = None
    cordoned: bool = False
    reachable: bool = True
    unschedulable: bool = False
    away: str = ""


@dataclass(frozen=True)
class PoolStatus:
    """One pool: counts as `oc get mcp` counts machines, its content and its current rollout."""

    name: str
    mode: str
    commit: str | None
    config: str
    machines: int
    ready: int
    updated: int
    degraded: int
    rollout: str
    outcome: str
    blocked: str
    guard: str
    """How many images the lock-out guard knew at its latest judgement, or NOT ARMED."""
    rejected: str | None
    held: tuple[str, ...]
    warnings: int


@dataclass(frozen=True)
class FleetStatus:
    """One fleet. `exit_code` is what `status` and `sync --wait` exit with: 0 converged, 1 a node failed or Git was
    never read and cannot be, 3 not converged, 4 the head was rejected (the last good state stays). `overdue`: holds
    that were to end by now."""

    fleet: str
    source: Mapping[str, Any]
    nodes: tuple[NodeStatus, ...]
    pools: tuple[PoolStatus, ...]
    holds: tuple[str, ...]
    waiting: Mapping[str, Any] | None
    rejected: str | None
    problems: tuple[Mapping[str, Any], ...] = field(default=())
    restored: Mapping[str, Any] | None = None
    """The evidence that contradicts this copy of the log, until a person accepts it."""
    overdue: tuple[str, ...] = ()
    cluster: Mapping[str, Any] | None = None
    """Why its cluster cannot be asked, with the cause, and since when; None: it can, or there is none."""

    @property
    def converged(self) -> bool:
        return all(node.files in ("Converged", "Unadopted", "Unmanaged") and node.ready for node in self.nodes)

    @property
    def exit_code(self) -> int:
        unread = self.source.get("unreachable") and not self.source.get("head")
        if unread or any(node.files == "Failed" for node in self.nodes):
            return 1
        if self.rejected or any(pool.rejected for pool in self.pools):
            return 4
        stuck = self.restored or self.waiting or self.source.get("rewritten") or self.overdue
        stuck = stuck or any(pool.blocked for pool in self.pools) or (self.cluster or {}).get("cause")
        return 0 if self.converged and not stuck else 3


def fleet_status(fleet: str, rows: Mapping[str, Mapping[Key, Row]], now: datetime | None = None) -> FleetStatus:
    """The status of a fleet from its read tables. Without `now` no hold is overdue."""
    desired = Desired(fleet, rows)
    row = rows.get(FLEETS.name, {}).get((fleet,), {})
    nodes = tuple(node_status(fleet, rows, desired, name) for name in desired.nodes)
    source = {name: row.get(name) for name in ("url", "branch", "path", "head", "rewritten", "unreachable")}
    return FleetStatus(
        fleet=fleet,
        source={**source, "unreachable_since": row.get("unreachable_since")},
        nodes=nodes,
        pools=tuple(_pool_status(fleet, rows, desired, name, nodes) for name in desired.pools),
        holds=tuple(str(hold["hold"]) for hold in desired.holds),
        waiting=row.get("waiting"),
        rejected=row.get("rejected"),
        problems=tuple(row.get("problems") or ()),
        restored=rows.get(RESTORES.name, {}).get((fleet,), {}).get("evidence"),
        overdue=tuple(str(hold["hold"]) for hold in desired.holds if now and is_overdue(hold, now)),
        cluster=row.get("cluster"),
    )


def is_overdue(hold: Row, now: datetime) -> bool:
    """Whether a hold was to end by now."""
    return hold["due"] is not None and now >= datetime.fromisoformat(hold["due"])


def node_status(fleet: str, rows: Mapping[str, Mapping[Key, Row]], desired: Desired, name: str) -> NodeStatus:
    """The status of one node."""
    node = desired.nodes[name]
    state = rows.get(NODE_STATES.name, {}).get((fleet, name)) or {}
    row = wanted_row(fleet, rows, node.pool, name, state) if node.pool in desired.pools else None
    wanted = str(row["files"]) if row else None
    mass = (rows.get(POOLS.name, {}).get((fleet, node.pool or "")) or {}).get("mass") or {}
    files, reason = _files(state, wanted, desired, node, mass)
    reachable = bool(state) and state.get("unreachable") is None
    cordoned = state.get("cordoned") is not None
    return NodeStatus(
        name=name,
        pool=node.pool,
        ready=reachable and bool(node.cluster.get("ready", True)),
        files=files,
        wanted=wanted,
        applied=state.get("files"),
        reason=reason or state.get("unreachable") or node.unavailable,
        drift=tuple(item["path"] for item in state.get("drift") or ()),
        strays=tuple(state.get("strays") or ()),
        machine_id=state.get("machine_id") or "",
        unreachable_since=state.get("unreachable_since"),
        converged_at=state.get("converged_at"),
        cordoned=cordoned,
        reachable=reachable,
        unschedulable=cordoned or bool(node.cluster.get("unschedulable")),
        away=node.unavailable,
    )


def _files(
    state: Mapping[str, Any], wanted: str | None, desired: Desired, node: Node, mass: Mapping[str, Any]
) -> tuple[FilesState, str]:
    pool = node.pool
    if pool is None:
        tie = placement(desired.pools, node.labels)[1]
        return ("Pending", tie) if tie else ("Unmanaged", "no pool selects this node")
    if released := state.get("released"):
        return "Released", f"{released['reason']}: `reconciler adopt` takes it back"
    if state.get("refusal") == "hold":
        return "HeldLocally", str(state["unreachable"])
    if state.get("step"):
        return "Applying", blocked_drain(state) or f"step by {state['step_owner']}"
    failed = state.get("failed")
    if failed and failed["files"] == wanted:
        return "Failed", failed["reason"]
    if wanted is None:
        return "Unknown", "" if state else "not observed yet"
    if state.get("files") is None and not (desired.pools[pool].enforces and not desired.at_baseline(pool, node.name)):
        return "Unadopted", "pool is in observe mode"
    if asked := state.get("asked"):
        return "Pending", f"{asked['purpose']} was asked for: {asked['reason']}"
    if state.get("unproven"):
        return "Pending", "the link was lost in the middle of a step; the next one will tell what it did"
    if state.get("drift"):
        drift = read_drift(desired.pools[pool].spec["drift"], state, None)
        many = mass.get(drift.signature) if not drift.allowed else None
        return "Drifted", same_drift(len(many["nodes"]), pool) if many else drift.why
    return _standing(state, wanted)


def blocked_drain(state: Mapping[str, Any]) -> str:
    """What keeps the node from getting empty in its turn, and since when, in words; or nothing."""
    blocked = state.get("drain_blocked")
    if not blocked:
        return ""
    since = min((pod["since"] for pod in blocked["pods"]), default="")
    return f"drain blocked{f' since {since}' if since else ''}: {blocked['reason']}"


def _standing(state: Mapping[str, Any], wanted: str) -> tuple[FilesState, str]:
    """How a node that nothing is done to, and that does not differ from its receipt, stands to what is wanted."""
    deferred = str((state.get("deferred") or {}).get("reason") or "")
    if state.get("files") != wanted:
        return "Pending", deferred
    if state.get("shadows"):
        return "Shadowed", _shadows(state["shadows"])
    if state.get("cordoned"):
        return "Cordoned", deferred or "reconciler cordoned it, and has not uncordoned it yet"
    return "Converged", ""


def _shadows(shadows: Sequence[Mapping[str, Any]]) -> str:
    """Which line decides what, in words."""
    first = shadows[0]
    others = len(first["scopes"]) - 1 + first["more"]
    more = f" and {len(shadows) - 1} more places" if len(shadows) > 1 else ""
    scopes = f"{first['scopes'][0]}{f' and {others} more' if others else ''}"
    return f"{first['file']}:{first['line']} decides {scopes}{more}"


def files_to_come(nodes: Iterable[NodeStatus], pool: str) -> set[str]:
    """The file sets that nodes of the pool are to get and do not have."""
    return {node.wanted for node in nodes if node.pool == pool and node.wanted and node.wanted != node.applied}


def _pool_status(
    fleet: str, rows: Mapping[str, Mapping[Key, Row]], desired: Desired, name: str, nodes: tuple[NodeStatus, ...]
) -> PoolStatus:
    row = rows[POOLS.name][fleet, name]
    mine = [node for node in nodes if node.pool == name]
    rollout = rollout_of(rows, row) or {}
    held = sorted(
        {
            str(hold["hold"])
            for hold in desired.holds
            for entry in hold["entries"]
            if entry["scope"]["kind"] == "fleet" or entry["scope"]["name"] in (name, *(node.name for node in mine))
        }
    )
    guard = GuardState.of(fleet, rows, desired.pools[name])
    configs = sorted({node.wanted for node in mine if node.wanted})
    return PoolStatus(
        name=name,
        mode="observe" if desired.at_baseline(name) else str(row["spec"]["mode"]),
        commit=row["commit"],
        config=configs[0][:12] + (f"+{len(configs) - 1}" if len(configs) > 1 else "") if configs else "",
        machines=len(mine),
        ready=sum(node.ready for node in mine),
        updated=sum(node.files == "Converged" for node in mine),
        degraded=sum(node.files in ("Failed", "Drifted", "Shadowed") for node in mine),
        rollout=rollout.get("state") or "",
        outcome=rollout.get("outcome") or "",
        blocked="; ".join(filter(None, (row["blocked"], guard.reason(files_to_come(nodes, name))))),
        guard=guard.text,
        rejected=row["rejected"],
        held=tuple(held),
        warnings=len(row["warnings"] or ()),
    )
