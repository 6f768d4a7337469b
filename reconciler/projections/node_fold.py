"""Folds of the inventory and of what each node was proven or seen to have."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Any

from reconciler.events.catalogue import (
    AdoptionAsked,
    BaselineCaptured,
    DriftContested,
    DriftDetected,
    DriftIgnored,
    DriftRepaired,
    FilesApplied,
    HostKeyChanged,
    MassDriftDetected,
    NodeAdopted,
    NodeChanged,
    NodeConverged,
    NodeDeferred,
    NodeFailed,
    NodeRecovered,
    NodeRegistered,
    NodeReleased,
    NodeRemoved,
    NodeRenamed,
    NodeReset,
    NodeUnreachable,
    ReleaseAsked,
    RepairsAllowed,
    RuntimeReloaded,
    RuntimeRestarted,
    ShadowFound,
    StepAbandoned,
    StepStarted,
    StepTakenOver,
    StrayFound,
)
from reconciler.events.codec import plain
from reconciler.events.envelope import StoredEvent
from reconciler.projections.tables import NODE_STATES, NODES, POOLS, Key, Row, Touched, Working, on_body
from reconciler.registries.model import REGISTRIES_CONF, digest
from reconciler.rollout.drift import CONTESTED_WITHIN

STEP_OVER: dict[str, Any] = dict.fromkeys(
    ("step", "step_owner", "step_fence", "step_data", "step_cause", "phase", "drain_blocked")
)
NO_DRIFT: dict[str, Any] = dict.fromkeys(("drift", "drift_observed", "drift_since", "drift_cause", "drift_allowed"))
KEPT_AT_RESET = ("cordoned", "released", "asked")
"""Columns that speak of the node, whatever machine it is."""

KEPT_WITH_MACHINE = ("machine_id", "host_key", "cordoned")
"""Columns that stay when only what was ours on the machine is over."""

OUTSIDE = "outside"
"""`by` of a DriftRepaired that nobody here did."""

REACHABLE: dict[str, Any] = {"unreachable": None, "unreachable_since": None, "refused": False, "refusal": None}


def _key(event: StoredEvent) -> Key:
    return event.fleet, event.body.node  # type: ignore[attr-defined]  # every event here has a node


def _inventory(event: StoredEvent) -> Iterator[Touched]:
    yield NODES, _key(event)


def _state(event: StoredEvent) -> Iterator[Touched]:
    yield NODE_STATES, _key(event)


def node_set(event: StoredEvent, body: NodeRegistered | NodeChanged, rows: Working) -> None:
    """Of a document whose place the cluster changed, the commit stays."""
    commit = body.commit or (None if body.discovered else (rows.get(NODES, *_key(event)) or {}).get("commit"))
    told = {"pool": body.pool, "spec": plain(body.spec), "commit": commit, "discovered": body.discovered}
    rows.put(NODES, _key(event), **told)


def node_removed(event: StoredEvent, body: NodeRemoved, rows: Working) -> None:  # noqa: ARG001  fold's form
    """What was proven of it stays known, in case it comes back under another name."""
    rows.drop(NODES, _key(event))
    if rows.get(NODE_STATES, *_key(event)):
        rows.put(NODE_STATES, _key(event), asked=None, released=None)


def _inventory_and_state(event: StoredEvent) -> Iterator[Touched]:
    yield NODES, _key(event)
    yield NODE_STATES, _key(event)


def baseline_captured(event: StoredEvent, body: BaselineCaptured, rows: Working) -> None:
    known = (rows.get(NODE_STATES, *_key(event)) or {}).get("host_key")
    rows.put(
        NODE_STATES,
        _key(event),
        base=body.base,
        base_files=plain(body.files),
        machine_id=body.machine_id,
        host_key=body.host_key or known,
    )


def node_reset(event: StoredEvent, body: NodeReset, rows: Working) -> None:
    _begin_anew(event, rows, KEPT_AT_RESET, machine_id=body.machine_id)


def _both_states(event: StoredEvent) -> Iterator[Touched]:
    yield NODE_STATES, _key(event)
    yield NODE_STATES, (event.fleet, event.body.previous)  # type: ignore[attr-defined]  # registered for NodeRenamed


def node_renamed(event: StoredEvent, body: NodeRenamed, rows: Working) -> None:
    """A step that was open under the old name is nobody's any more."""
    old = rows.get(NODE_STATES, event.fleet, body.previous) or {}
    proven = {name: old.get(name) for name in NODE_STATES.columns}
    rows.put(NODE_STATES, _key(event), **{**proven, **(_unproven(old) if old.get("step") else {}), **STEP_OVER})
    rows.drop(NODE_STATES, (event.fleet, body.previous))


def node_unreachable(event: StoredEvent, body: NodeUnreachable, rows: Working) -> None:
    rows.put(
        NODE_STATES,
        _key(event),
        unreachable=body.reason,
        unreachable_since=event.recorded_at,
        refused=body.refused,
        refusal=body.cause or None,
    )


def host_key_changed(event: StoredEvent, body: HostKeyChanged, rows: Working) -> None:
    refused: dict[str, Any] = {}
    if body.reason:
        since = event.recorded_at
        refused = {"unreachable": body.reason, "unreachable_since": since, "refused": True, "refusal": "host-key"}
    rows.put(NODE_STATES, _key(event), host_key=body.new, **refused)


def release_asked(event: StoredEvent, body: ReleaseAsked, rows: Working) -> None:
    rows.put(NODE_STATES, _key(event), asked={"purpose": "release", "restore": body.restore, "reason": body.reason})


def adoption_asked(event: StoredEvent, body: AdoptionAsked, rows: Working) -> None:
    owner = {name: getattr(body, name) for name in ("log_id", "epoch", "fence")}
    rows.put(NODE_STATES, _key(event), asked={"purpose": "adopt", "reason": body.reason, **owner})


def node_released(event: StoredEvent, body: NodeReleased, rows: Working) -> None:
    released = {"reason": body.reason, "restored": body.restored, "at": event.recorded_at.isoformat()}
    _begin_anew(event, rows, KEPT_WITH_MACHINE, released=released)


def node_adopted(event: StoredEvent, body: NodeAdopted, rows: Working) -> None:
    row = rows.get(NODE_STATES, *_key(event)) or {}
    if body.step or row.get("released"):
        _begin_anew(event, rows, KEPT_WITH_MACHINE)
    else:
        rows.put(NODE_STATES, _key(event), asked=None)


def _begin_anew(event: StoredEvent, rows: Working, keep: Sequence[str], **columns: Any) -> None:
    """Forget all that was known of the node but the columns `keep`."""
    row = rows.get(NODE_STATES, *_key(event)) or {}
    kept = {name: row.get(name) for name in keep}
    rows.drop(NODE_STATES, _key(event))
    rows.put(NODE_STATES, _key(event), **kept, **columns)


def node_recovered(event: StoredEvent, body: NodeRecovered, rows: Working) -> None:  # noqa: ARG001  fold's form
    rows.put(NODE_STATES, _key(event), deferred=None, **REACHABLE)


def step_started(event: StoredEvent, body: StepStarted, rows: Working) -> None:
    """From here on the node may be cordoned by us, if that is part of its turn: it has to be uncordoned."""
    rows.put(
        NODE_STATES,
        _key(event),
        step=body.step,
        step_owner=body.owner,
        step_fence=event.position,
        step_data=plain(body.as_data()),
        step_cause=str(event.correlation_id),
        phase="begun",
        **({"cordoned": body.step} if body.effective == "drain" else {}),
    )


def step_taken_over(event: StoredEvent, body: StepTakenOver, rows: Working) -> None:
    rows.put(NODE_STATES, _key(event), step_owner=body.owner, step_fence=event.position)


def step_abandoned(event: StoredEvent, body: StepAbandoned, rows: Working) -> None:
    rows.put(NODE_STATES, _key(event), **_deferred(event, body.reason, rows), **STEP_OVER)


def node_deferred(event: StoredEvent, body: NodeDeferred, rows: Working) -> None:
    unproven = _unproven(rows.get(NODE_STATES, *_key(event)) or {}) if body.lost else {}
    rows.put(NODE_STATES, _key(event), **_deferred(event, body.reason, rows), **unproven, **STEP_OVER)


def _deferred(event: StoredEvent, reason: str, rows: Working) -> dict[str, Any]:
    """How often in a row a step came to nothing without a failure, and when last."""
    row = rows.get(NODE_STATES, *_key(event)) or {}
    attempts = int((row.get("deferred") or {}).get("attempts", 0)) + 1
    return {"deferred": {"reason": reason, "attempts": attempts, "at": event.recorded_at.isoformat()}}


def _unproven(row: Row) -> dict[str, list[str]]:
    """The open step's files may or may not stand on the node, beside those of steps lost before."""
    sent = (row.get("step_data") or {}).get("files")
    return {"unproven": sorted({*(row.get("unproven") or ()), *([sent] if sent else ())})}


def node_converged(event: StoredEvent, body: NodeConverged, rows: Working) -> None:
    """Drift that a repair left as it is stays."""
    row = rows.get(NODE_STATES, *_key(event)) or {}
    keep = (row.get("step_data") or {}).get("keep") or ()
    left = [item for item in row.get("drift") or () if item["path"] in keep]
    drift = {"drift": left, "drift_observed": digest(left)} if left else NO_DRIFT
    rows.put(
        NODE_STATES,
        _key(event),
        files=body.files,
        files_base=body.base,
        converged_at=event.recorded_at,
        generation=body.receipt.get("generation"),
        receipt=body.receipt,
        failed=None,
        unproven=None,
        deferred=None,
        **STEP_OVER,
        **drift,
    )


def files_applied(event: StoredEvent, body: FilesApplied, rows: Working) -> None:
    """Until the runtime is told, which not every change needs, it runs with registries older than the files."""
    if any(path.startswith(REGISTRIES_CONF) for path in (*body.written, *body.restored)):
        rows.put(NODE_STATES, _key(event), unloaded=True)


def runtime_told(event: StoredEvent, body: RuntimeReloaded | RuntimeRestarted, rows: Working) -> None:
    if body.action.endswith(":crio.service"):
        rows.put(NODE_STATES, _key(event), unloaded=None)


def node_failed(event: StoredEvent, body: NodeFailed, rows: Working) -> None:
    old = rows.get(NODE_STATES, *_key(event))
    before = (old["failed"] if old else None) or {}
    attempts = int(before.get("attempts", 0)) + 1 if before.get("files") == body.files else 1
    failed = {
        "files": body.files,
        "blame": body.blame,
        "reason": body.reason,
        "reverted": body.reverted,
        "attempts": attempts,
        "position": event.position,
        "at": event.recorded_at.isoformat(),
    }
    unproven = {} if body.receipt else _unproven(old or {})
    rows.put(NODE_STATES, _key(event), failed=failed, **unproven, **STEP_OVER)


def drift_detected(event: StoredEvent, body: DriftDetected, rows: Working) -> None:
    rows.put(
        NODE_STATES,
        _key(event),
        drift=plain(body.differs),
        drift_observed=body.observed,
        drift_since=event.recorded_at,
        drift_cause=str(event.event_id),
    )


def drift_repaired(event: StoredEvent, body: DriftRepaired, rows: Working) -> None:
    """What is as its receipt proved has no failed repair any more either. A step of ours is ended by NodeConverged."""
    row = rows.get(NODE_STATES, *_key(event)) or {}
    if body.by != OUTSIDE:
        rows.put(NODE_STATES, _key(event), **_repaired(event, row, {str(item["path"]) for item in body.differs}))
        return
    failed = row.get("failed")
    over = {"failed": None} if failed and failed["files"] == row.get("files") else {}
    rows.put(NODE_STATES, _key(event), **over, **NO_DRIFT)


def _repaired(event: StoredEvent, row: Row, paths: set[str]) -> dict[str, Any]:
    """When each path was repaired, as far as it counts, and the contested paths that are none any more."""
    times = {path: [*((row.get("repairs") or {}).get(path) or ()), event.recorded_at.isoformat()] for path in paths}
    repairs = {**(row.get("repairs") or {}), **times}
    recent = {
        path: kept
        for path, moments in repairs.items()
        if (kept := [m for m in moments if event.recorded_at - datetime.fromisoformat(m) < CONTESTED_WITHIN])
    }
    disputed = {path: why for path, why in (row.get("contested") or {}).items() if path not in paths}
    return {"repairs": recent or None, "contested": disputed or None}


def drift_ignored(event: StoredEvent, body: DriftIgnored, rows: Working) -> None:
    rows.put(NODE_STATES, _key(event), ignored=plain(body.differs) or None)


def drift_contested(event: StoredEvent, body: DriftContested, rows: Working) -> None:
    row = rows.get(NODE_STATES, *_key(event)) or {}
    names = ("count", "mtime", "uid", "package")
    why = {**{name: getattr(body, name) for name in names}, "at": event.recorded_at.isoformat()}
    rows.put(NODE_STATES, _key(event), contested={**(row.get("contested") or {}), body.path: why})


def _all_states(event: StoredEvent) -> Iterator[Touched]:
    yield POOLS, (event.fleet, event.body.pool)  # type: ignore[attr-defined]  # registered for RepairsAllowed
    for node in event.body.nodes:  # type: ignore[attr-defined]
        yield NODE_STATES, (event.fleet, node)


def repairs_allowed(event: StoredEvent, body: RepairsAllowed, rows: Working) -> None:
    """What is contested begins to be counted anew."""
    pool = rows.get(POOLS, event.fleet, body.pool) or {}
    left = {name: mass for name, mass in (pool.get("mass") or {}).items() if name not in body.signatures}
    rows.put(POOLS, (event.fleet, body.pool), mass=left or None)
    for node, observed in body.nodes.items():
        if rows.get(NODE_STATES, event.fleet, node):
            rows.put(NODE_STATES, (event.fleet, node), drift_allowed=observed, contested=None, repairs=None)


def mass_drift_detected(event: StoredEvent, body: MassDriftDetected, rows: Working) -> None:
    pool = rows.get(POOLS, event.fleet, body.pool) or {}
    mass = {name: found for name, found in (pool.get("mass") or {}).items() if name != body.signature}
    if body.nodes:
        mass[body.signature] = {"nodes": list(body.nodes), "at": event.recorded_at.isoformat()}
    rows.put(POOLS, (event.fleet, body.pool), mass=mass or None)


def _pool(event: StoredEvent) -> Iterator[Touched]:
    yield POOLS, (event.fleet, event.body.pool)  # type: ignore[attr-defined]  # registered for MassDriftDetected


def shadow_found(event: StoredEvent, body: ShadowFound, rows: Working) -> None:
    rows.put(NODE_STATES, _key(event), shadows=plain(body.shadows) or None)


def stray_found(event: StoredEvent, body: StrayFound, rows: Working) -> None:
    rows.put(NODE_STATES, _key(event), strays=list(body.paths) or None)


HANDLERS: dict[str, Any] = {
    "NodeRegistered": (_inventory, on_body(node_set)),
    "NodeChanged": (_inventory, on_body(node_set)),
    "NodeRemoved": (_inventory_and_state, on_body(node_removed)),
    "BaselineCaptured": (_state, on_body(baseline_captured)),
    "NodeRenamed": (_both_states, on_body(node_renamed)),
    "NodeReset": (_state, on_body(node_reset)),
    "NodeUnreachable": (_state, on_body(node_unreachable)),
    "HostKeyChanged": (_state, on_body(host_key_changed)),
    "ReleaseAsked": (_state, on_body(release_asked)),
    "AdoptionAsked": (_state, on_body(adoption_asked)),
    "NodeReleased": (_state, on_body(node_released)),
    "NodeAdopted": (_state, on_body(node_adopted)),
    "NodeRecovered": (_state, on_body(node_recovered)),
    "StepStarted": (_state, on_body(step_started)),
    "StepTakenOver": (_state, on_body(step_taken_over)),
    "StepAbandoned": (_state, on_body(step_abandoned)),
    "NodeDeferred": (_state, on_body(node_deferred)),
    "NodeConverged": (_state, on_body(node_converged)),
    "FilesApplied": (_state, on_body(files_applied)),
    "RuntimeReloaded": (_state, on_body(runtime_told)),
    "RuntimeRestarted": (_state, on_body(runtime_told)),
    "NodeFailed": (_state, on_body(node_failed)),
    "DriftDetected": (_state, on_body(drift_detected)),
    "DriftRepaired": (_state, on_body(drift_repaired)),
    "DriftIgnored": (_state, on_body(drift_ignored)),
    "DriftContested": (_state, on_body(drift_contested)),
    "MassDriftDetected": (_pool, on_body(mass_drift_detected)),
    "RepairsAllowed": (_all_states, on_body(repairs_allowed)),
    "ShadowFound": (_state, on_body(shadow_found)),
    "StrayFound": (_state, on_body(stray_found)),
}
