"""Folds of what is wanted: fleets, resources, pools, rendered file sets, holds."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import Any

from reconciler.events.catalogue import (
    ChangeApproved,
    CommitAccepted,
    CommitHeldBack,
    CommitObserved,
    CommitRejected,
    FilesRendered,
    FleetConfigured,
    HistoryAccepted,
    HistoryRestored,
    HistoryRewritten,
    HoldExtended,
    HoldLifted,
    HoldReinstated,
    MassRemovalDetected,
    PlanBlocked,
    PoolConfigured,
    PoolRemoved,
    ResourceAdded,
    ResourceChanged,
    ResourceRemoved,
    RolledBack,
    SourceRecovered,
    SourceUnreachable,
)
from reconciler.events.codec import plain
from reconciler.events.envelope import StoredEvent
from reconciler.projections.guard_fold import approve_files
from reconciler.projections.guard_fold import touched as guard
from reconciler.projections.tables import FLEETS, GUARDS, HOLDS, POOLS, RENDERS, RESOURCES, Touched, Working, on_body


def _fleet(event: StoredEvent) -> Iterator[Touched]:
    yield FLEETS, (event.fleet,)


def _pool(event: StoredEvent) -> Iterator[Touched]:
    yield POOLS, (event.fleet, event.body.pool)  # type: ignore[attr-defined]  # pool-scoped events have it


def _pool_and_guard(event: StoredEvent) -> Iterator[Touched]:
    yield from _pool(event)
    yield from guard(event)


def _approval(event: StoredEvent) -> Iterator[Touched]:
    body = event.body
    assert isinstance(body, ChangeApproved)  # noqa: S101  registered for this type
    if body.pool is None:
        yield FLEETS, (event.fleet,)
    else:
        yield from guard(event)


def _fleet_and_pools(event: StoredEvent) -> Iterator[Touched]:
    yield FLEETS, (event.fleet,)
    for pool in event.body.pools:  # type: ignore[attr-defined]  # registered only for events with `pools`
        yield POOLS, (event.fleet, pool)


def _resources(event: StoredEvent) -> Iterator[Touched]:
    body = event.body
    for pool in body.pools:  # type: ignore[attr-defined]  # registered only for resource events
        yield RESOURCES, (event.fleet, pool, body.resource)  # type: ignore[attr-defined]  # as above


def _render(event: StoredEvent) -> Iterator[Touched]:
    body = event.body
    assert isinstance(body, FilesRendered)  # noqa: S101  registered for this type
    yield RENDERS, (event.fleet, body.pool, body.node, body.base)
    yield POOLS, (event.fleet, body.pool)


def _hold(event: StoredEvent) -> Iterator[Touched]:
    body = event.body
    yield HOLDS, (event.fleet, body.hold)  # type: ignore[attr-defined]  # registered only for hold events
    for replaced in getattr(body, "replaces", ()):
        yield HOLDS, (event.fleet, replaced)
    for pool in body.pools:  # type: ignore[attr-defined]  # as above
        yield POOLS, (event.fleet, pool)


def fleet_configured(event: StoredEvent, body: FleetConfigured, rows: Working) -> None:
    rows.put(FLEETS, (event.fleet,), url=body.url, branch=body.branch, path=body.path)


def commit_observed(event: StoredEvent, body: CommitObserved, rows: Working) -> None:
    clear: dict[str, Any] = {"rejected": None, "problems": None, "waiting": None}
    signature = plain(body.signature)
    rows.put(FLEETS, (event.fleet,), head=body.commit, judged_with=body.judged_with, signature=signature, **clear)


def commit_accepted(event: StoredEvent, body: CommitAccepted, rows: Working) -> None:
    observed = rows.get(FLEETS, event.fleet) or {}
    rows.put(FLEETS, (event.fleet,), accepted=body.commit, accepted_signature=observed.get("signature"))
    for pool in body.pools:
        rows.put(
            POOLS,
            (event.fleet, pool),
            commit=body.commit,
            rejected=None,
            problems=None,
            warnings=plain(body.warnings),
            blocked=None,
            cause=str(event.correlation_id),
        )


def commit_rejected(event: StoredEvent, body: CommitRejected, rows: Working) -> None:
    rows.put(FLEETS, (event.fleet,), rejected=body.commit, problems=plain(body.problems))
    for pool in body.pools:
        rows.put(POOLS, (event.fleet, pool), rejected=body.commit, problems=plain(body.problems))


def mass_removal_detected(event: StoredEvent, body: MassRemovalDetected, rows: Working) -> None:
    waiting = {"commit": body.commit, "pools": list(body.pools), "removes": list(body.removes)}
    rows.put(FLEETS, (event.fleet,), waiting=waiting)


def change_approved(event: StoredEvent, body: ChangeApproved, rows: Working) -> None:
    if body.pool is not None:
        approve_files(event, body.files, rows)
    else:
        rows.put(FLEETS, (event.fleet,), approved={"subject": body.subject, "reason": body.reason})


def source_unreachable(event: StoredEvent, body: SourceUnreachable, rows: Working) -> None:
    rows.put(FLEETS, (event.fleet,), unreachable=body.reason, unreachable_since=event.recorded_at)


def source_recovered(event: StoredEvent, body: SourceRecovered, rows: Working) -> None:  # noqa: ARG001  fold's form
    rows.put(FLEETS, (event.fleet,), unreachable=None, unreachable_since=None)


def history_rewritten(event: StoredEvent, body: HistoryRewritten, rows: Working) -> None:
    rows.put(FLEETS, (event.fleet,), rewritten=body.commit)


def history_restored(event: StoredEvent, body: HistoryRestored, rows: Working) -> None:  # noqa: ARG001  fold's form
    rows.put(FLEETS, (event.fleet,), rewritten=None)


def history_accepted(event: StoredEvent, body: HistoryAccepted, rows: Working) -> None:
    approved = {"subject": body.commit, "reason": body.reason, "history": True}
    rows.put(FLEETS, (event.fleet,), rewritten=None, head=None, approved=approved)


def resource_set(event: StoredEvent, body: ResourceAdded | ResourceChanged, rows: Working) -> None:
    for pool in body.pools:
        rows.put(
            RESOURCES,
            (event.fleet, pool, body.resource),
            content=body.content,
            text=body.text,
            lines=body.lines,
            meaning=body.meaning,
            file=body.file,
            line=body.line,
            commit=body.commit,
            position=event.position,
        )


def resource_removed(event: StoredEvent, body: ResourceRemoved, rows: Working) -> None:
    for pool in body.pools:
        rows.drop(RESOURCES, (event.fleet, pool, body.resource))


def pool_configured(event: StoredEvent, body: PoolConfigured, rows: Working) -> None:
    rows.put(
        POOLS,
        (event.fleet, body.pool),
        spec=plain(body.spec),
        base_files=plain(body.base_files),
        file=body.file,
        line=body.line,
    )


def pool_removed(event: StoredEvent, body: PoolRemoved, rows: Working) -> None:
    rows.drop(POOLS, (event.fleet, body.pool))
    rows.drop(GUARDS, (event.fleet, body.pool))


def files_rendered(event: StoredEvent, body: FilesRendered, rows: Working) -> None:
    rows.put(
        RENDERS,
        (event.fleet, body.pool, body.node, body.base),
        inputs=body.inputs,
        renderer=body.renderer,
        files=body.files,
        origins=body.origins,
        disruption=body.disruption,
    )
    if rows.get(POOLS, event.fleet, body.pool):
        rows.put(POOLS, (event.fleet, body.pool), blocked=None)


def plan_blocked(event: StoredEvent, body: PlanBlocked, rows: Working) -> None:
    rows.put(POOLS, (event.fleet, body.pool), blocked=body.reason or None)


def rolled_back(event: StoredEvent, body: RolledBack, rows: Working) -> None:
    for replaced in body.replaces:
        rows.drop(HOLDS, (event.fleet, replaced))
    rows.put(
        HOLDS,
        (event.fleet, body.hold),
        pool=body.pool,
        node=body.node,
        position=body.position,
        entries=plain(body.entries),
        files=plain(body.files),
        reason=body.reason,
        actor=event.actor.subject,
        since=event.recorded_at,
        due=body.until,
        until_fixed=body.until_fixed,
    )
    _new_cause(event, body.pools, rows)


def hold_reinstated(event: StoredEvent, body: HoldReinstated, rows: Working) -> None:
    names = ("pool", "node", "position", "reason", "actor", "until_fixed")
    same = {name: getattr(body, name) for name in names}
    entries, files = plain(body.entries), plain(body.files)
    since = datetime.fromisoformat(body.since)
    rows.put(HOLDS, (event.fleet, body.hold), entries=entries, files=files, since=since, due=body.until, **same)
    _new_cause(event, body.pools, rows)


def hold_extended(event: StoredEvent, body: HoldExtended, rows: Working) -> None:
    hold = rows.get(HOLDS, event.fleet, body.hold)
    if hold is not None:
        rows.put(HOLDS, (event.fleet, body.hold), entries=[*hold["entries"], *plain(body.entries)])
    _new_cause(event, body.pools, rows)


def commit_held_back(event: StoredEvent, body: CommitHeldBack, rows: Working) -> None:
    """One that is held back whole waits until the holds are others."""
    if body.whole:
        waits = {"reason": body.reason, "beside": list(body.beside)}
        waiting = {"commit": body.commit, "pools": list(body.pools), "removes": [], **waits}
        rows.put(FLEETS, (event.fleet,), waiting=waiting)


def hold_lifted(event: StoredEvent, body: HoldLifted, rows: Working) -> None:
    key = (event.fleet, body.hold)
    hold = rows.get(HOLDS, *key)
    if hold is not None:
        left = [entry for entry in hold["entries"] if entry["id"] not in body.entries]
        if left:
            rows.put(HOLDS, key, entries=left)
        else:
            rows.drop(HOLDS, key)
    _new_cause(event, body.pools, rows)


def _new_cause(event: StoredEvent, pools: tuple[str, ...], rows: Working) -> None:
    """What a person decided is the root cause of the rollouts that follow from it."""
    for pool in pools:
        rows.put(POOLS, (event.fleet, pool), cause=str(event.correlation_id), blocked=None)


HANDLERS: dict[str, Any] = {
    "FleetConfigured": (_fleet, on_body(fleet_configured)),
    "CommitObserved": (_fleet, on_body(commit_observed)),
    "CommitAccepted": (_fleet_and_pools, on_body(commit_accepted)),
    "CommitRejected": (_fleet_and_pools, on_body(commit_rejected)),
    "MassRemovalDetected": (_fleet, on_body(mass_removal_detected)),
    "ChangeApproved": (_approval, on_body(change_approved)),
    "SourceUnreachable": (_fleet, on_body(source_unreachable)),
    "SourceRecovered": (_fleet, on_body(source_recovered)),
    "HistoryRewritten": (_fleet, on_body(history_rewritten)),
    "HistoryRestored": (_fleet, on_body(history_restored)),
    "HistoryAccepted": (_fleet, on_body(history_accepted)),
    "ResourceAdded": (_resources, on_body(resource_set)),
    "ResourceChanged": (_resources, on_body(resource_set)),
    "ResourceRemoved": (_resources, on_body(resource_removed)),
    "PoolConfigured": (_pool, on_body(pool_configured)),
    "PoolRemoved": (_pool_and_guard, on_body(pool_removed)),
    "FilesRendered": (_render, on_body(files_rendered)),
    "PlanBlocked": (_pool, on_body(plan_blocked)),
    "RolledBack": (_hold, on_body(rolled_back)),
    "HoldLifted": (_hold, on_body(hold_lifted)),
    "HoldExtended": (_hold, on_body(hold_extended)),
    "HoldReinstated": (_hold, on_body(hold_reinstated)),
    "CommitHeldBack": (_fleet, on_body(commit_held_back)),
}
