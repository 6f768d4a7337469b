"""Folds of rollouts: one row per rollout, and of what the pool's row says of them, its locks and its windows."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from reconciler.events.catalogue import (
    ContentRefused,
    PoolPaused,
    PoolResumed,
    RolloutAborted,
    RolloutApproved,
    RolloutCompleted,
    RolloutHalted,
    RolloutRetried,
    RolloutStarted,
    RolloutSuperseded,
    WaveStarted,
    WindowOverridden,
)
from reconciler.events.codec import plain
from reconciler.events.envelope import StoredEvent
from reconciler.projections.tables import NODE_STATES, POOLS, ROLLOUTS, Key, Touched, Working, on_body
from reconciler.rollout.machine import NEW, ROLLOUT, follow


def _key(event: StoredEvent) -> Key:
    body = event.body
    return event.fleet, body.pool, body.rollout  # type: ignore[attr-defined]  # every event here has both


def _rollout(event: StoredEvent) -> Iterator[Touched]:
    yield ROLLOUTS, _key(event)


def _rollout_and_pool(event: StoredEvent) -> Iterator[Touched]:
    yield ROLLOUTS, _key(event)
    yield POOLS, _key(event)[:2]


def _retried(event: StoredEvent) -> Iterator[Touched]:
    body = event.body
    assert isinstance(body, RolloutRetried)  # noqa: S101  registered for this type
    yield POOLS, (event.fleet, body.pool)
    if body.rollout is not None:
        yield ROLLOUTS, (event.fleet, body.pool, body.rollout)
    for node in body.nodes:
        yield NODE_STATES, (event.fleet, node)


def _pool(event: StoredEvent) -> Iterator[Touched]:
    yield POOLS, (event.fleet, event.body.pool)  # type: ignore[attr-defined]  # every event here has one


def _next(event: StoredEvent, rows: Working) -> str:
    row = rows.get(ROLLOUTS, *_key(event))
    return follow(ROLLOUT, row["state"] if row else NEW, event.type)


def rollout_started(event: StoredEvent, body: RolloutStarted, rows: Working) -> None:
    rows.put(
        ROLLOUTS,
        _key(event),
        state=_next(event, rows),
        plan=body.plan,
        targets=plain(body.targets),
        kind=body.kind,
        waves=[],
        approved=[],
        nodes=body.nodes,
        disruption=body.disruption,
        effective=body.effective,
        reasons=list(body.reasons),
        commit=body.commit,
        started_at=event.recorded_at,
        cause=str(event.correlation_id),
    )
    rows.put(POOLS, (event.fleet, body.pool), rollout=body.rollout)


def wave_started(event: StoredEvent, body: WaveStarted, rows: Working) -> None:
    row = rows.get(ROLLOUTS, *_key(event)) or {}
    wave = {"kind": body.kind, "nodes": list(body.nodes), "at": event.recorded_at.isoformat()}
    rows.put(ROLLOUTS, _key(event), state=_next(event, rows), waves=[*(row.get("waves") or ()), wave])


def rollout_approved(event: StoredEvent, body: RolloutApproved, rows: Working) -> None:
    row = rows.get(ROLLOUTS, *_key(event)) or {}
    approval = {"stage": body.stage, "actor": event.actor.subject, "at": event.recorded_at.isoformat()}
    rows.put(ROLLOUTS, _key(event), state=_next(event, rows), approved=[*(row.get("approved") or ()), approval])


def rollout_superseded(event: StoredEvent, body: RolloutSuperseded, rows: Working) -> None:
    _end(event, rows, f"superseded by {body.by}")


def rollout_halted(event: StoredEvent, body: RolloutHalted, rows: Working) -> None:
    _end(event, rows, body.reason)


def rollout_aborted(event: StoredEvent, body: RolloutAborted, rows: Working) -> None:
    _end(event, rows, f"aborted by {event.actor.subject}: {body.reason}")


def rollout_retried(event: StoredEvent, body: RolloutRetried, rows: Working) -> None:
    if body.rollout is not None:
        rows.put(ROLLOUTS, _key(event), state=_next(event, rows), outcome=None, ended_at=None)
    pool = rows.get(POOLS, event.fleet, body.pool) or {}
    refused = {name: why for name, why in (pool.get("refused") or {}).items() if name not in body.files}
    rows.put(POOLS, (event.fleet, body.pool), refused=refused or None)
    for node in body.nodes:
        if rows.get(NODE_STATES, event.fleet, node):
            rows.put(NODE_STATES, (event.fleet, node), failed=None, deferred=None)


def rollout_completed(event: StoredEvent, body: RolloutCompleted, rows: Working) -> None:
    deferred = f", {len(body.deferred)} deferred" if body.deferred else ""
    failed = f", {len(body.failed)} failed" if body.failed else ""
    _end(event, rows, f"{body.converged} converged{deferred}{failed}")
    if not body.converged:
        return  # nobody has shown that these files work
    row = rows.get(ROLLOUTS, *_key(event)) or {}
    pool = rows.get(POOLS, event.fleet, body.pool) or {}
    refused = pool.get("refused") or {}
    proven = {key: files for key, files in (row.get("targets") or {}).items() if files not in refused}
    # of bases that no node of this rollout had, the files of earlier ones stay the last that were completed
    targets = {**((pool.get("completed") or {}).get("targets") or {}), **proven}
    completed = {"rollout": body.rollout, "commit": row.get("commit"), "targets": targets}
    rows.put(POOLS, (event.fleet, body.pool), completed=completed)


def _end(event: StoredEvent, rows: Working, outcome: str) -> None:
    rows.put(ROLLOUTS, _key(event), state=_next(event, rows), outcome=outcome, ended_at=event.recorded_at)


def content_refused(event: StoredEvent, body: ContentRefused, rows: Working) -> None:
    pool = rows.get(POOLS, event.fleet, body.pool) or {}
    why = {"rollout": body.rollout, "reason": body.reason, "at": event.recorded_at.isoformat()}
    refused = {**(pool.get("refused") or {}), **dict.fromkeys(body.files, why)}
    rows.put(POOLS, (event.fleet, body.pool), refused=refused)


def pool_paused(event: StoredEvent, body: PoolPaused, rows: Working) -> None:
    row = rows.get(POOLS, event.fleet, body.pool) or {}
    lock = {
        "lock": body.lock,
        "owner": event.actor.subject,
        "reason": body.reason,
        "since": event.recorded_at.isoformat(),
        "until": body.until,
    }
    rows.put(POOLS, (event.fleet, body.pool), locks=[*(row.get("locks") or ()), lock])


def pool_resumed(event: StoredEvent, body: PoolResumed, rows: Working) -> None:
    row = rows.get(POOLS, event.fleet, body.pool) or {}
    left = [lock for lock in row.get("locks") or () if lock["lock"] != body.lock]
    rows.put(POOLS, (event.fleet, body.pool), locks=left or None)


def window_overridden(event: StoredEvent, body: WindowOverridden, rows: Working) -> None:
    rows.put(POOLS, (event.fleet, body.pool), window_until=body.until)


HANDLERS: dict[str, Any] = {
    "RolloutStarted": (_rollout_and_pool, on_body(rollout_started)),
    "WaveStarted": (_rollout, on_body(wave_started)),
    "RolloutApproved": (_rollout, on_body(rollout_approved)),
    "RolloutSuperseded": (_rollout, on_body(rollout_superseded)),
    "RolloutHalted": (_rollout, on_body(rollout_halted)),
    "RolloutAborted": (_rollout, on_body(rollout_aborted)),
    "RolloutRetried": (_retried, on_body(rollout_retried)),
    "RolloutCompleted": (_rollout_and_pool, on_body(rollout_completed)),
    "ContentRefused": (_pool, on_body(content_refused)),
    "PoolPaused": (_pool, on_body(pool_paused)),
    "PoolResumed": (_pool, on_body(pool_resumed)),
    "WindowOverridden": (_pool, on_body(window_overridden)),
}
