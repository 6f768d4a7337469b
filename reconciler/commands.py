"""What people may ask for. Each command appends events; what follows from them is the cycle's work."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from reconciler.cycle import Pass, run_pass
from reconciler.errors import TimedOut, UsageError
from reconciler.events.catalogue import (
    ChangeApproved,
    ClusterAccepted,
    CommitAccepted,
    Event,
    HistoryAccepted,
    HoldLifted,
    HoldReinstated,
    RevertPushed,
    RolledBack,
)
from reconciler.events.envelope import EVENT_NAMESPACE, StoredEvent, fleet_stream, stream_of
from reconciler.ports import EventFilter, Proposal, Snapshot
from reconciler.projections.desired import Desired
from reconciler.projections.holds import Standing, standings
from reconciler.projections.status import FleetStatus, fleet_status
from reconciler.projections.tables import FLEETS, HOLDS, NODES, POOLS, Row
from reconciler.stages.context import Context, Progress, anew
from reconciler.stages.held import extended_since, said_of
from reconciler.stages.kept import require_kept
from reconciler.stages.points import resolve_position, states_in_force
from reconciler.stages.revert import reverted_files
from reconciler.stages.rollback import Rollback, given_again, scope_of, work_out

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
    return fleet_status(context.name, snapshot.rows, context.clock.now())


async def rollback(
    context: Context,
    *,
    to: str,
    reason: str,
    pool: str | None = None,
    node: str | None = None,
    resource: str | None = None,
    until: datetime | None = None,
    until_fixed: bool = False,
    dry_run: bool = False,
) -> dict[str, Any]:
    """Take a scope back to a point in time and hold it there (DESIGN §8). Works without Git and without rendering.

    `until`: when the hold is overdue. `until_fixed`: an entry ends by itself once Git has none of the bad differences.
    Raises UsageError for a point or scope that is not there, InputRejected when the mixture would not hold together.
    """
    if until is not None and until <= context.clock.now():
        raise UsageError("is over already", where="--until", remedy="give a time to come")
    end = f"{until.astimezone(UTC):%Y-%m-%dT%H:%M:%S+00:00}" if until else None

    async def attempt() -> dict[str, Any]:
        now = await context.snapshot()
        scope = scope_of(now, pool, node, resource)
        position = await resolve_position(context, to, pool=pool)
        found = await work_out(context, now, position, scope)
        await require_kept(context, found.entries, found.files)
        hold = "h-" + uuid.uuid5(EVENT_NAMESPACE, f"hold\n{context.name}\n{now.version(_stream(context))}").hex[:8]
        told = (found.entries, found.files, found.replaces, reason, end, until_fixed)
        body = RolledBack(hold, scope.pools, position, pool, node, *told)
        bodies = [body] if found.entries else [*_ended(found, reason), *await given_again(context, now, found)]
        streams = {_stream(context), *(stream_of(context.name, body) for body in bodies)}
        if not dry_run:
            await context.append(context.events(now, bodies), now, streams)
        return _rollback_data(hold if found.entries else None, found)

    return await anew(attempt)


def _ended(found: Rollback, reason: str) -> list[Event]:
    """Where the state at P is what Git says: only the end of the holds in its way."""
    pools = found.scope.pools
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
        "untouched": list(found.untouched),
        "expired": [dict(certificate) for certificate in found.expired],
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


async def lift_hold(
    context: Context, hold: str, *, reason: str, accept: str | None = None, own: bool = False, dry_run: bool = False
) -> dict[str, Any]:
    """End a hold: Git's newer contents come into force again. With `dry_run` nothing is recorded. `own`: who began it
    takes it back, which needs no approver.

    With `accept`, a commit, only the entries for which it says what the hold does not refuse; it must be what the pools
    have from Git now. Raises UsageError where there is no such hold, or nothing to accept.
    """

    async def attempt() -> dict[str, Any]:
        now = await context.snapshot()
        row = _hold(now, hold)
        entries, commit = await _accepted(context, now, row, accept) if accept else (row["entries"], None)
        ids = tuple(int(entry["id"]) for entry in entries)
        body = HoldLifted(hold, _pools_of_hold(now, row), ids, "undone" if own else "resumed", commit, reason)
        if not dry_run:
            await context.append(context.events(now, [body]), now, [_stream(context)])
        left = [entry["resource"] for entry in row["entries"] if entry["id"] not in ids]
        done = {"hold": hold, "entries": list(ids), "pools": list(body.pools), "commit": commit}
        return {**done, "stays": left, "dryRun": dry_run}

    return await anew(attempt)


async def _accepted(context: Context, now: Snapshot, row: Row, accept: str) -> tuple[Sequence[Mapping[str, Any]], str]:
    """The entries that Git has something else for, and the whole id of the commit that the person has seen."""
    desired = Desired(context.name, now.rows)
    found = [s for s in standings(desired, await said_of(context, desired)) if s.hold == row["hold"]]
    commit = _commit_of(now, found, accept)
    chosen = [standing.entry for standing in found if standing.git != "refused"]
    if not chosen:
        refused = ", ".join(standing.entry["resource"] for standing in found)
        what = f"commit {commit[:12]} says what hold {row['hold']} refuses of {refused}"
        raise UsageError(what, where="--accept", remedy="to have it all the same, lift the hold without --accept")
    return chosen, commit


def _commit_of(now: Snapshot, found: Sequence[Standing], accept: str) -> str:
    commits = {pool: str((now.one(POOLS, now.fleet, pool) or {}).get("commit")) for s in found for pool, _ in s.places}
    for pool, commit in sorted(commits.items()):
        if not commit.startswith(accept) or len(accept) < 7:
            what = f"pool {pool} has commit {commit[:12]} from Git now, not {accept}"
            raise UsageError(what, where="--accept", remedy="look at it with `reconciler hold show`, and name it")
    if not commits:
        raise UsageError("no pool takes what the hold is about any more", where="--accept", remedy="leave --accept out")
    return next(iter(commits.values()))


async def undo_rollback(context: Context, hold: str, *, reason: str, dry_run: bool = False) -> dict[str, Any]:
    """End the hold of a rollback, and put those that it replaced in force again as they were.

    Raises UsageError where there is no such hold, or one that it replaced is about a pool or node that is gone.
    """

    async def attempt() -> dict[str, Any]:
        now = await context.snapshot()
        row = _hold(now, hold)
        ids = tuple(int(entry["id"]) for entry in row["entries"])
        bodies: list[Event] = [HoldLifted(hold, _pools_of_hold(now, row), ids, "undone", None, reason)]
        before, replaced = await _replaced_by(context, hold)
        for old in replaced:
            await require_kept(context, old["entries"], old["files"])
        again = [str(old["hold"]) for old in replaced]
        more = await extended_since(context, before, now, again) if before else {}
        bodies += [_reinstated(now, old, hold, more.get(str(old["hold"]), ())) for old in replaced]
        if not dry_run:
            await context.append(context.events(now, bodies), now, [_stream(context)])
        return {"hold": hold, "reinstated": again, "pools": list(_pools_of_hold(now, row)), "dryRun": dry_run}

    return await anew(attempt)


async def _replaced_by(context: Context, hold: str) -> tuple[Snapshot | None, list[Row]]:
    """The state just before a rollback, and the holds that it replaced as they were then."""
    for event in await context.log.read(EventFilter(context.name, types=("RolledBack",), newest_first=True)):
        body = event.body
        if isinstance(body, RolledBack) and body.hold == hold and body.replaces:
            before = await context.snapshot(event.group - 1)
            return before, [row for name in body.replaces if (row := before.one(HOLDS, context.name, name))]
    return None, []


def _reinstated(now: Snapshot, old: Row, undone: str, more: Sequence[Mapping[str, Any]]) -> HoldReinstated:
    """`more`: the entries that it would have got in the meantime."""
    for entry in old["entries"]:
        kind, name = entry["scope"]["kind"], entry["scope"]["name"]
        there = now.one(NODES, now.fleet, name) if kind == "node" else now.one(POOLS, now.fleet, name)
        if kind != "fleet" and there is None:
            what = f"hold {old['hold']}, which would be in force again, is about {kind} {name}, which is gone"
            raise UsageError(what, where="--undo", remedy=f"lift {undone} instead: reconciler hold lift {undone}")
    names = ("hold", "position", "pool", "node", "reason", "actor")
    return HoldReinstated(
        pools=_pools_of_hold(now, old),
        entries=(*old["entries"], *more),
        files=tuple(old["files"]),
        until=old["due"],
        until_fixed=bool(old["until_fixed"]),
        since=old["since"].isoformat(),
        undone=undone,
        **{name: old[name] for name in names},
    )


async def push_revert(context: Context, hold: str, branch: str) -> dict[str, Any]:
    """Write what a hold restored to the config repository: a commit on top of the branch that the fleet follows, as a
    new branch.

    Raises SourceError where Git cannot be reached or refuses, UsageError where no commit can say it. The hold stands.
    """
    now = await context.snapshot()
    row, onto = _hold(now, hold), await context.source.head()
    files = await reverted_files(context, Desired(context.name, now.rows), row, await context.source.manifests(onto))
    if not files:
        raise UsageError(f"Git says what hold {hold} restored: there is nothing to push", where="branch")
    title = f"Roll back to #{row['position']}: {row['reason']}"
    message = f"{title}\n\nReconciler-Hold: {hold}\nReconciler-Position: {row['position']}\n"
    commit = await context.source.push(branch, Proposal(onto, files, message, context.actor.subject))

    async def attempt() -> None:
        now = await context.snapshot()
        body = RevertPushed(hold, branch, commit, onto, tuple(sorted(files)))
        await context.append(context.events(now, [body]), now, [_stream(context)])

    await anew(attempt)
    return {"hold": hold, "branch": branch, "commit": commit, "onto": onto, "files": sorted(files)}


def _hold(now: Snapshot, hold: str) -> Row:
    row = now.one(HOLDS, now.fleet, hold)
    if row is None:
        raise UsageError(f"there is no hold {hold}", where="hold", remedy="see `reconciler hold list`")
    return row


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
        if waiting and waiting.get("reason"):
            what = f"commit {str(waiting['commit'])[:12]} is held back by holds, not for want of approval"
            raise UsageError(what, remedy="see `reconciler status`; `reconciler hold lift` ends a hold")
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


async def accept_cluster(context: Context, *, reason: str, dry_run: bool = False) -> dict[str, Any]:
    """Accept a cluster that has none of the nodes known as the fleet's. Raises UsageError where none waits for that."""

    async def attempt() -> dict[str, Any]:
        now = await context.snapshot()
        state = (now.one(FLEETS, context.name) or {}).get("cluster") or {}
        if state.get("cause") != "other":
            remedy = "see `reconciler status`"
            raise UsageError("the cluster is not another one than before: nothing to accept", remedy=remedy)
        if not dry_run:
            await context.append(context.events(now, [ClusterAccepted(reason)]), now, [_stream(context)])
        return {"accepted": state["unreachable"], "dryRun": dry_run}

    return await anew(attempt)


def _stream(context: Context) -> str:
    return fleet_stream(context.name)
