"""The planner's view of a pool: rows of the log, and this pass's look at the nodes."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any

from reconciler.events.envelope import pool_stream
from reconciler.ports import Snapshot
from reconciler.projections.desired import Desired, base_of
from reconciler.projections.order import ahead
from reconciler.projections.status import blocked_drain
from reconciler.projections.tables import HOLDS, NODE_STATES, NODES, POOLS, RENDERS, Row, rollout_of
from reconciler.rollout.drift import RUNTIME, read_drift
from reconciler.rollout.pools import Pool
from reconciler.rollout.strays import blocking, removable
from reconciler.rollout.views import NodeView, PoolView, RolloutView, Wave, in_turn
from reconciler.rollout.windows import closed
from reconciler.stages.carriage import Carriage
from reconciler.stages.changes import Changes, and_loaded, given_back
from reconciler.stages.context import Context, FileSet
from reconciler.stages.guard import blocked_targets
from reconciler.stages.inventory import another_cluster, kept_from_cluster, node_of
from reconciler.stages.observe import file_sets, wanted_files
from reconciler.stages.restores import REMEDY, contradicted
from reconciler.stages.sight import Sight, is_unread
from reconciler.stages.ways import Ways

RETRY_FIRST = 30
RETRY_DOUBLINGS = 7
"""A node that failed by itself, or a second time refused its step, is tried again after 30 s, doubling up to about an
hour; each up to a quarter later, so that nodes that failed together do not come back together."""

ZONE = "topology.kubernetes.io/zone"


@dataclass
class Look:
    """What the views of one pool share in a pass: its sights, the changes worked out, the nodes acted on already."""

    context: Context
    sights: Mapping[str, Sight]
    tried: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.changes, self.ways, self.carriage = Changes(self.context), Ways(self.context), Carriage(self.context)


async def view_pool(look: Look, snapshot: Snapshot, name: str) -> PoolView:
    """The pool, and its nodes in the order of their turns."""
    row = snapshot.table(POOLS)[snapshot.fleet, name]
    rollout = rollout_of(snapshot.rows, row)
    view = PoolView(
        Pool(name, row["spec"]),
        (),
        snapshot.version(pool_stream(snapshot.fleet, name)),
        _rollout(rollout) if rollout else None,
        row["commit"],
        locks=(*_contradiction(snapshot), *locks(row, look.context.clock.now())),
        refused={files: why["reason"] for files, why in (row["refused"] or {}).items()},
        completed=(row["completed"] or {}).get("targets") or {},
        ahead=ahead(snapshot.fleet, snapshot.rows, name),
        mass=frozenset(row["mass"] or ()),
        window_until=datetime.fromisoformat(row["window_until"]) if row["window_until"] else None,
    )
    sets = await file_sets(look.context, snapshot)
    mine = [sight for sight in look.sights.values() if sight.pool == name]
    blocked = await blocked_targets(look.context, snapshot, view.pool, mine, sets, look.ways)
    own = {key[2] for key in snapshot.table(RENDERS) if key[1] == name and key[2]}
    given_back, nodes = _given_back(snapshot, mine), []
    for sight in mine:
        known = replace(sight, state=snapshot.one(NODE_STATES, snapshot.fleet, sight.name) or {})
        node = _guarded(_node(look, snapshot, view, known, own), blocked)
        if node.behind and (large := await look.carriage.too_large(known, node.target)):
            node = replace(node, blocked=large)
        node = _only_observed(node) if sight.name in given_back else node
        node = await _with_change(look, view, known, node, sets)
        nodes.append(_drainable(look.context, snapshot, view.pool, node))
    stop = next((f"stopped by drift of {node.name}: {node.stop}" for node in nodes if node.stop), "")
    return replace(view, nodes=sorted(nodes, key=in_turn), stop=stop)


def _rollout(row: Row) -> RolloutView:
    waves = tuple(Wave(wave["kind"], frozenset(wave["nodes"])) for wave in row["waves"] or ())
    approved = frozenset(approval["stage"] for approval in row["approved"] or ())
    kind = row["kind"] or "rollout"
    return RolloutView(row["rollout"], row["state"], row["targets"], row["started_at"], kind, waves, approved)


def _contradiction(snapshot: Snapshot) -> tuple[str, ...]:
    """A pass does not even plan while its log is contradicted (see roll.py); a preview shows this lock."""
    said = contradicted(snapshot)
    return (f"because {said}: {REMEDY}",) if said else ()


def locks(row: Row, now: datetime) -> tuple[str, ...]:
    """The pool's locks that have not run out, each in words."""
    return tuple(
        f"by {lock['owner']} (lock {lock['lock']}{', until ' + lock['until'] if lock['until'] else ''}): "
        f"{lock['reason']}"
        for lock in row["locks"] or ()
        if lock["until"] is None or now < datetime.fromisoformat(lock["until"])
    )


def waiting_rollout(now: Snapshot, row: Row) -> tuple[Row | None, str]:
    """The pool's rollout that wants a person's approval, and the stage that it has come to."""
    rollout = rollout_of(now.rows, row)
    if rollout is None or rollout["state"] != "progressing" or rollout["kind"] != "rollout":
        return None, ""
    stage = {"always": "start", "afterCanary": "canary"}.get(row["spec"]["approval"], "")
    begun = any(wave["kind"] == "canary" for wave in rollout["waves"])
    given = any(approval["stage"] == stage for approval in rollout["approved"])
    if not stage or given or (stage == "canary" and not begun):
        return None, ""
    return rollout, stage


def held_back(snapshot: Snapshot, pool: str, now: datetime) -> tuple[str, ...]:
    """What lets no node of the pool be begun now, beside locks, as far as rows tell: a pool of `after`, windows, a
    person's approval."""
    row = snapshot.table(POOLS)[snapshot.fleet, pool]
    overridden = row["window_until"] and now < datetime.fromisoformat(row["window_until"])
    rollout, stage = waiting_rollout(snapshot, row)
    before = "before the first node" if stage == "start" else "after the canaries"
    approval = f"waits for approval {before}: `reconciler approve --pool {pool} --reason TEXT`" if rollout else ""
    shut = "" if overridden else closed(row["spec"]["windows"], now)
    return tuple(filter(None, (ahead(snapshot.fleet, snapshot.rows, pool), shut, approval)))


def _node(look: Look, snapshot: Snapshot, view: PoolView, sight: Sight, own: set[str]) -> NodeView:
    state, seen = sight.state, sight.observation
    healthy = seen is not None and _is_healthy(view.pool, seen.active)
    row = snapshot.one(NODES, snapshot.fleet, sight.name)
    node = node_of(sight.name, row) if row else None
    unavailable = node.unavailable if node else ""
    asked = state.get("asked")
    foreign = asked and asked["purpose"] == "adopt" and _is_owned_by(sight, asked["log_id"])
    stray = blocking(view.pool.spec["strays"], state.get("strays") or ())
    out = ("" if foreign else sight.out or stray) or ("" if asked or state.get("step") else unavailable)
    kept = kept_from_cluster(snapshot, view.pool, sight.name)
    out = kept or out or _waits(look.context, view.pool, sight)
    ours = {entry.path for entry in (*sight.applied.entries, *sight.unproven.entries)}
    strays = [path for path, file in seen.files.items() if file.kind == "file" and path not in ours] if seen else []
    remove = removable(view.pool.spec["strays"], strays)
    drift = read_drift(view.pool.spec["drift"], state, look.context.clock.now())
    found = NodeView(
        name=sight.name,
        base=base_of(snapshot.fleet, snapshot.rows, view.pool.name, state) or "",
        target=wanted_files(snapshot, sight),
        applied=state.get("files"),
        zone=node.labels.get(ZONE, "") if node else "",
        unproven=bool(state.get("unproven")),
        remove=remove,
        drifted=bool(drift.heal or remove),
        heal=drift.heal,
        keep=drift.keep,
        left=drift.why,
        stop=drift.stop,
        signature=drift.signature,
        allowed=drift.allowed,
        drift_cause=state.get("drift_cause"),
        converged_at=state.get("converged_at"),
        step=state.get("step"),
        step_effective=(state.get("step_data") or {}).get("effective", "none"),
        failed=state.get("failed"),
        out=out or (f"{asked['purpose']} was asked for" if asked else ""),
        asked=asked["purpose"] if asked and not out else "",
        tried=sight.name in look.tried,
        own=sight.name in own,
        rest=kept or _rest(look.context, sight),
        cordoned=state.get("cordoned") is not None,
        away=seen is None or not healthy or bool(unavailable),
        healthy=healthy,
    )
    back = _back(view, found)
    return found if back is None else replace(found, back=back, out=found.out or _back_later(look.context, sight, back))


def _back_later(context: Context, sight: Sight, back: str) -> str:
    """Until when a node is left alone whose return failed, or nothing."""
    failed = sight.state.get("failed")
    if context.retry_now or failed is None or failed["files"] != back:
        return ""
    return _pause(sight.name, "failed", failed, 1, context.clock.now())


def _given_back(snapshot: Snapshot, sights: Iterable[Sight]) -> set[str]:
    """The nodes that a hold gives the files from before the first write back."""
    entries = (entry for hold in snapshot.table(HOLDS).values() for entry in hold["entries"])
    if not any(entry.get("baseline") for entry in entries):
        return set()  # nearly always; desired state is not to be had for nothing
    desired = Desired(snapshot.fleet, snapshot.rows)
    return {sight.name for sight in sights if sight.pool and desired.at_baseline(sight.pool, sight.name)}


def _only_observed(node: NodeView) -> NodeView:
    """A node that a hold gives back the files from before the first write: those once, and nothing else, ever."""
    target = node.target if node.applied else None
    return replace(node, target=target, remove=(), drifted=False, heal=(), stop="")


def _guarded(node: NodeView, blocked: Mapping[str, str]) -> NodeView:
    """A node whose target the guard blocks; one that drifted may not go on, but what it has is kept."""
    why = blocked.get(node.target or "", "")
    if not why:
        return node
    return replace(node, target=node.applied) if node.drifted else replace(node, blocked=why)


def _back(view: PoolView, node: NodeView) -> str | None:
    """Where a node with refused files goes with `onFailure: revert`; None where it stays."""
    if view.pool.spec["onFailure"] != "revert" or node.target not in view.refused:
        return None
    return view.completed.get(node.key) if node.applied in view.refused or node.unproven else None


async def _with_change(
    look: Look, view: PoolView, sight: Sight, node: NodeView, sets: Mapping[str, FileSet]
) -> NodeView:
    """The node with what bringing it to its files would mean, where that is of interest."""
    if node.asked:
        restores = node.asked == "release" and sight.state["asked"]["restore"]
        return replace(node, change=given_back(view.pool) if restores else None)
    goal = node.back or node.target
    idle = node.out or node.tried or not (node.behind or node.drifted or node.back)
    if goal is None or sight.observation is None or idle:
        return node
    repaired = not (node.behind or node.back)
    target, base_files = _less(sets[goal], node.keep if repaired else ()), sight.state.get("base_files") or {}
    ours = (*sets.get(node.applied or "", FileSet(())).entries, *sight.unproven.entries)
    gone = {e.path: base_files.get(e.path) for e in ours if e.path not in sets[goal].by_path}
    unread = {path for path, file in sight.observation.files.items() if is_unread(sight, file)}
    remove = tuple(path for path in node.remove if path not in sets[goal].by_path)
    ends = {**gone, **dict.fromkeys(remove)}
    start, change = await look.changes.between(view.pool, sight.observation, target, ends, unread)
    if repaired and RUNTIME in node.heal:
        change = and_loaded(change)
    return replace(node, start=start, change=change, restore=tuple(sorted(gone.keys() - set(remove))), remove=remove)


def _drainable(context: Context, snapshot: Snapshot, pool: Pool, node: NodeView) -> NodeView:
    """The node, left out where its change would have to drain it and nobody here can."""
    via = pool.spec["drain"]["via"]
    if node.change is None or node.change.effective != "drain":
        return node
    why = context.lacking.get(via) or (another_cluster(snapshot) if via == "kubernetes" else "")
    return replace(node, out=f"it would have to be drained: {why}", asked="") if why else node


def _is_owned_by(sight: Sight, log_id: str) -> bool:
    return bool(sight.observation and sight.observation.owner and sight.observation.owner.log_id == log_id)


def _less(files: FileSet, keep: Collection[str]) -> FileSet:
    return FileSet(tuple(entry for entry in files.entries if entry.path not in keep)) if keep else files


def _is_healthy(pool: Pool, active: str) -> bool:
    return pool.runtime != "crio" or active in ("active", "reloading", "")


def _waits(context: Context, pool: Pool, sight: Sight) -> str:
    """Why a node that answers is not begun now, or nothing."""
    state, seen = sight.state, sight.observation
    if state.get("step"):
        return blocked_drain(state) or f"step in progress by {state['step_owner']}"
    if seen is not None and not _is_healthy(pool, seen.active):
        return f"{seen.unit} was {seen.active} before the change; it is not begun on an unhealthy node"
    return _rest(context, sight)


def _rest(context: Context, sight: Sight) -> str:
    """Until when a node is left alone after steps that came to nothing, or nothing."""
    if context.retry_now:
        return ""
    state = sight.state
    failed, deferred = state.get("failed"), state.get("deferred")
    # A repair has nobody's new content to blame, and no newer commit to wait for.
    own_fault = failed is not None and (failed["blame"] == "node" or failed["files"] == state.get("files"))
    why = _pause(sight.name, "failed", failed if own_fault else None, 1, context.clock.now())
    return why or _pause(sight.name, "deferred", deferred, 2, context.clock.now())


def _pause(node: str, what: str, past: Mapping[str, Any] | None, free: int, now: datetime) -> str:
    """Until when a node is left alone that came to nothing `attempts` times, or nothing; `free` begins to wait."""
    attempts = int(past["attempts"]) if past else 0
    if not past or attempts < free:
        return ""
    wait = RETRY_FIRST * 2 ** min(attempts - free, RETRY_DOUBLINGS)
    draw = hashlib.sha256(f"{node}\n{attempts}".encode()).digest()[0]  # the same for every replica
    again = datetime.fromisoformat(past["at"]) + timedelta(seconds=wait + wait * draw // 1024)
    return f"{what} {attempts} times ({past['reason']}); next try at {again:%H:%M:%SZ}" if now < again else ""
