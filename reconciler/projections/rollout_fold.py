"""Folds of rollouts: one row per rollout, and the pool's current one."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from reconciler.events.catalogue import RolloutCompleted, RolloutHalted, RolloutStarted, RolloutSuperseded
from reconciler.events.codec import plain
from reconciler.events.envelope import StoredEvent
from reconciler.projections.tables import POOLS, ROLLOUTS, Key, Touched, Working, on_body


def _key(event: StoredEvent) -> Key:
    body = event.body
    return event.fleet, body.pool, body.rollout  # type: ignore[attr-defined]  # every event here has both


def _rollout(event: StoredEvent) -> Iterator[Touched]:
    yield ROLLOUTS, _key(event)


def _rollout_and_pool(event: StoredEvent) -> Iterator[Touched]:
    yield ROLLOUTS, _key(event)
    yield POOLS, _key(event)[:2]


def rollout_started(event: StoredEvent, body: RolloutStarted, rows: Working) -> None:
    rows.put(
        ROLLOUTS,
        _key(event),
        state="progressing",
        plan=body.plan,
        targets=plain(body.targets),
        canaries=list(body.canaries),
        nodes=body.nodes,
        disruption=body.disruption,
        effective=body.effective,
        reasons=list(body.reasons),
        commit=body.commit,
        started_at=event.recorded_at,
        cause=str(event.correlation_id),
    )
    rows.put(POOLS, (event.fleet, body.pool), rollout=body.rollout)


def rollout_superseded(event: StoredEvent, body: RolloutSuperseded, rows: Working) -> None:
    _end(event, rows, "superseded", f"superseded by {body.by}")


def rollout_halted(event: StoredEvent, body: RolloutHalted, rows: Working) -> None:
    _end(event, rows, "halted", body.reason)


def rollout_completed(event: StoredEvent, body: RolloutCompleted, rows: Working) -> None:
    deferred = f", {len(body.deferred)} deferred" if body.deferred else ""
    _end(event, rows, "completed", f"{body.converged} converged{deferred}")


def _end(event: StoredEvent, rows: Working, state: str, outcome: str) -> None:
    rows.put(ROLLOUTS, _key(event), state=state, outcome=outcome, ended_at=event.recorded_at)


HANDLERS: dict[str, Any] = {
    "RolloutStarted": (_rollout_and_pool, on_body(rollout_started)),
    "RolloutSuperseded": (_rollout, on_body(rollout_superseded)),
    "RolloutHalted": (_rollout, on_body(rollout_halted)),
    "RolloutCompleted": (_rollout, on_body(rollout_completed)),
}
