"""What people may ask for. Each command appends events; what follows from them is the cycle's work."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any

from reconciler.cycle import Pass, run_pass
from reconciler.errors import TimedOut, UsageError
from reconciler.events.catalogue import (
    ChangeApproved,
    CommitAccepted,
    Event,
    HistoryAccepted,
    HoldLifted,
    RolledBack,
)
from reconciler.events.envelope import EVENT_NAMESPACE, StoredEvent, fleet_stream
from reconciler.ports import EventFilter, Snapshot
from reconciler.projections.status import FleetStatus, fleet_status
from reconciler.projections.tables import FLEETS, HOLDS, NODES, POOLS
from reconciler.stages.context import Context, Progress, anew
from reconciler.stages.kept import require_kept
from reconciler.stages.points import resolve_position, states_in_force
from reconciler.stages.rollback import Rollback, scope_of, work_out

POLL = 1.0
"""Seconds between two passes while something is under way."""


async def sync(
    context: Context, *, wait: bool = False, within: float | None = None, recheck: bool = False
) -> tuple[Pass, FleetStatus]:
    """One pass, or with `wait` as many as it takes until nothing moves any more.

    Raises TimedOut after `within` seconds; the work begun so far goes on at the next pass.
    """
    deadline = None if within is None else context.clock.now() + timedelta(seconds=within)
    while True:
        done = await run_pass(context, recheck=recheck)
        status = await current_status(context)
        if not wait or status.exit_code == 0 or not done.moving:
            return done, status
        recheck = False
        waits = _waits(done)
        if deadline is not None and context.clock.now() >= deadline:
            raise TimedOut("the fleet did not converge in time", where=waits, remedy="the next sync goes on from here")
        context.progress(Progress("waiting", waits, passing=True))
        await asyncio.sleep(POLL)


def _waits(done: Pass) -> str:
    """Who waits, and why: the nodes of each pool that have one reason together."""
    nodes: dict[str, list[str]] = {}
    for pool in done.pools:
        for node, why in sorted(pool.waits.items()):
            nodes.setdefault(f"pool {pool.pool}: {why}", []).append(node)
    return "; ".join(f"{why} ({_some(names)})" for why, names in sorted(nodes.items()))


def _some(names: Sequence[str], most: int = 3) -> str:
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


async def current_status(context: Context) -> FleetStatus:
    """The fleet's status from the read tables."""
    snapshot = await context.snapshot()
    return fleet_status(context.name, snapshot.rows)


async def rollback(
    context: Context,
    *,
    to: str,
    reason: str,
    pool: str | None = None,
    node: str | None = None,
    resource: str | None = None,
    dry_run: bool = False,
) -> dict[str, Any]:
    """Take a scope back to a point in time and hold it there (DESIGN §8). Works without Git and without rendering.

    Raises UsageError for a point or scope that is not there, InputRejected when the mixture would not hold together.
    """

    async def attempt() -> dict[str, Any]:
        now = await context.snapshot()
        scope = scope_of(now, pool, node, resource)
        position = await resolve_position(context, to, pool=pool)
        worked_out = await work_out(context, now, position, scope)
        await require_kept(context, worked_out.entries, worked_out.files)
        hold = "h-" + uuid.uuid5(EVENT_NAMESPACE, f"hold\n{context.name}\n{now.version(_stream(context))}").hex[:8]
        bodies = _rollback_events(hold, worked_out, pool, node, reason)
        if not dry_run:
            await context.append(context.events(now, bodies), now, [_stream(context)])
        return _rollback_data(hold if worked_out.entries else None, worked_out)

    return await anew(attempt)


def _rollback_events(hold: str, found: Rollback, pool: str | None, node: str | None, reason: str) -> list[Event]:
    """RolledBack; or, where the state at P is what Git says, only the end of the holds in its way."""
    pools = found.scope.pools
    if found.entries:
        body = RolledBack(hold, pools, found.position, pool, node, found.entries, found.files, found.replaces, reason)
        return [body]
    return [HoldLifted(name, pools, found.replaced_entries[name], "undone", None, reason) for name in found.replaces]


def _rollback_data(hold: str | None, found: Rollback) -> dict[str, Any]:
    return {
        "hold": hold,
        "position": found.position,
        "scope": {"kind": found.scope.kind, "name": found.scope.name, "resource": found.scope.resource},
        "entries": [dict(entry) for entry in found.entries],
        "files": [dict(files) for files in found.files],
        "replaces": list(found.replaces),
        "renderedAnew": list(found.rendered_anew),
        "nodes": list(found.nodes),
        "pools": list(found.scope.pools),
    }


async def rollback_points(context: Context, *, pool: str | None = None, limit: int = 10) -> list[dict[str, Any]]:
    """The latest states that a rollback may go to, newest first (the first is the present one)."""
    commits = {}
    events = await states_in_force(context, pool=pool, limit=limit)
    for event in events:
        if isinstance(event.body, CommitAccepted):
            commits[event.position] = await _subject(context, event)
    return [
        {
            "position": event.position,
            "recordedAt": event.recorded_at.isoformat(),
            "type": event.type,
            "commit": event.columns.get("commit"),
            "subject": commits.get(event.position) or getattr(event.body, "reason", ""),
            "actor": event.actor.subject,
        }
        for event in events
    ]


async def _subject(context: Context, event: StoredEvent) -> str:
    found = await context.log.read(EventFilter(context.name, after=event.group - 1, until=event.group))
    return str(getattr(found[0].body, "subject", "")) if found else ""


async def lift_hold(context: Context, hold: str, *, reason: str, dry_run: bool = False) -> dict[str, Any]:
    """End a hold: Git's newer contents come into force again. With `dry_run` nothing is recorded."""

    async def attempt() -> dict[str, Any]:
        now = await context.snapshot()
        row = now.one(HOLDS, context.name, hold)
        if row is None:
            raise UsageError(f"there is no hold {hold}", where="hold", remedy="see `reconciler hold list`")
        entries = tuple(int(entry["id"]) for entry in row["entries"])
        body = HoldLifted(hold, _pools_of_hold(now, row), entries, "resumed", None, reason)
        if not dry_run:
            await context.append(context.events(now, [body]), now, [_stream(context)])
        return {"hold": hold, "entries": list(entries), "pools": list(body.pools), "dryRun": dry_run}

    return await anew(attempt)


def _pools_of_hold(now: Snapshot, row: Mapping[str, Any]) -> tuple[str, ...]:
    if row["pool"]:
        return (str(row["pool"]),)
    pools = {key[1] for key, pool in now.table(POOLS).items() if pool["spec"]}
    if row["node"]:
        pools = {state["pool"] for key, state in now.table(NODES).items() if key[1] == row["node"]}
    return tuple(sorted(pools))


async def approve(context: Context, subject: str | None, *, reason: str, dry_run: bool = False) -> dict[str, Any]:
    """Approve the commit that waits because it takes away so much. Raises UsageError when nothing waits."""

    async def attempt() -> dict[str, Any]:
        now = await context.snapshot()
        row = now.one(FLEETS, context.name) or {}
        waiting = row.get("waiting")
        if not waiting or (subject and not str(waiting["commit"]).startswith(subject)):
            what = f"commit {subject} does not wait for approval" if subject else "nothing waits for approval"
            raise UsageError(what, remedy="see `reconciler status`")
        commit = str(waiting["commit"])
        body = ChangeApproved(commit, commit, reason)
        if not dry_run:
            await context.append(context.events(now, [body]), now, [_stream(context)])
        return {"approved": commit, "removes": list(waiting["removes"]), "dryRun": dry_run}

    return await anew(attempt)


async def accept(context: Context, *, reason: str, dry_run: bool = False) -> dict[str, Any]:
    """Accept a rewritten branch: its head is recorded as one group at the next sync."""

    async def attempt() -> dict[str, Any]:
        now = await context.snapshot()
        row = now.one(FLEETS, context.name) or {}
        if not row.get("rewritten"):
            raise UsageError("the branch was not rewritten: nothing to accept", remedy="see `reconciler status`")
        body = HistoryAccepted(str(row["head"]), str(row["rewritten"]), reason)
        if not dry_run:
            await context.append(context.events(now, [body]), now, [_stream(context)])
        return {"accepted": body.commit, "oldHead": body.old_head, "dryRun": dry_run}

    return await anew(attempt)


def _stream(context: Context) -> str:
    return fleet_stream(context.name)
