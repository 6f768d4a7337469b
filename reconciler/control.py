"""What people may ask of rollouts: pause, resume, approve, abort, retry, and to go on outside of the windows.

Each appends events on the pool's stream, so that none is overtaken by a step that is begun at the same moment; what
follows from them is the cycle's work.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import datetime, timedelta
from fnmatch import fnmatchcase
from typing import Any

from reconciler.errors import UsageError
from reconciler.events.catalogue import (
    ChangeApproved,
    Event,
    OverrideGranted,
    PoolPaused,
    PoolResumed,
    RepairsAllowed,
    RolloutAborted,
    RolloutApproved,
    RolloutRetried,
    WindowOverridden,
)
from reconciler.events.envelope import EVENT_NAMESPACE, pool_stream, stream_of
from reconciler.ports import Snapshot
from reconciler.projections.desired import Desired
from reconciler.projections.guard_state import GuardState
from reconciler.projections.openshift import cluster_pools, files_to_judge
from reconciler.projections.status import files_to_come, fleet_status
from reconciler.projections.tables import NODE_STATES, NODES, POOLS, RENDERS, Row, rollout_of
from reconciler.registries.model import digest
from reconciler.rollout.drift import contested, read_drift
from reconciler.rollout.plan import STOPPED
from reconciler.stages.context import Context, anew
from reconciler.stages.view import waiting_rollout

STATUS = "see `reconciler get pools`"
WINDOW_OVERRIDE = timedelta(hours=1)
"""How long a person's `--now` lets nodes be begun outside of the windows."""

Asked = tuple[Sequence[Event], dict[str, Any]]


async def pause(
    context: Context, pool: str, *, reason: str, until: datetime | None = None, dry_run: bool = False
) -> dict[str, Any]:
    """Stop a pool under a new lock: nodes in hand are finished, no other is begun. Raises UsageError."""

    def ask(now: Snapshot, row: Row) -> Asked:
        del row
        if until is not None and until <= context.clock.now():
            raise UsageError("is over already", where="--until", remedy="give a time to come")
        key = f"lock\n{context.name}\n{pool}\n{now.version(pool_stream(context.name, pool))}"
        lock = "p-" + uuid.uuid5(EVENT_NAMESPACE, key).hex[:8]
        end = f"{until:%Y-%m-%dT%H:%M:%S+00:00}" if until else None
        return [PoolPaused(pool, lock, reason, end)], {"pool": pool, "lock": lock, "until": end}

    return await _ask(context, pool, ask, dry_run=dry_run)


async def resume(
    context: Context, pool: str, *, lock: str | None = None, reason: str, dry_run: bool = False
) -> dict[str, Any]:
    """Lift a lock: one's own, or the one that is named. Raises UsageError where that is not clear."""

    def ask(now: Snapshot, row: Row) -> Asked:
        del now
        chosen = _lock(row["locks"] or (), lock, context.actor.subject, pool)
        left = [other["lock"] for other in row["locks"] if other is not chosen]
        done = {"pool": pool, "lock": chosen["lock"], "owner": chosen["owner"], "left": left}
        return [PoolResumed(pool, chosen["lock"], reason)], done

    return await _ask(context, pool, ask, dry_run=dry_run)


def _lock(locks: Any, wanted: str | None, me: str, pool: str) -> Mapping[str, Any]:
    if not locks:
        raise UsageError(f"pool {pool} is not paused", remedy=STATUS)
    mine = [lock for lock in locks if (lock["lock"] == wanted if wanted else lock["owner"] == me)]
    if len(mine) == 1:
        chosen: Mapping[str, Any] = mine[0]
        return chosen
    named = "; ".join(f"{lock['lock']} by {lock['owner']}: {lock['reason']}" for lock in locks)
    what = f"there is no lock {wanted} on pool {pool}" if wanted else f"pool {pool} has {len(mine)} locks of yours"
    raise UsageError(what, where="--lock", remedy=f"name one of: {named}")


async def approve_pool(
    context: Context, pool: str, *, reason: str, plan: str | None = None, dry_run: bool = False
) -> dict[str, Any]:
    """Approve what waits in a pool: its rollout, before it begins or after its canaries; and a change that may lock
    images out where no image is known. With `plan` a rollout only if that is its digest (or begins so).

    Raises UsageError when nothing waits there.
    """

    def ask(now: Snapshot, row: Row) -> Asked:
        guard, coming = _guard(context, now, pool)
        changes = guard.waiting(coming)
        rollout, stage = waiting_rollout(now, row)
        if rollout is None and not changes:
            raise UsageError(f"nothing in pool {pool} waits for approval", remedy=STATUS)
        if plan is not None and not (rollout and str(rollout["plan"]).startswith(plan)):
            waits = f"the plan that waits is {rollout['plan'][:12]}" if rollout else "no plan waits"
            raise UsageError(f"{waits}, not {plan}", where="--plan", remedy="look at `reconciler plan`")
        files = tuple(sorted({str(change["files"]) for change in changes}))
        weakens = dict.fromkeys(what for change in changes for what in change["weakens"])
        bodies: list[Event] = [ChangeApproved(digest(files), None, reason, pool, files)] if files else []
        if rollout is not None:
            bodies.append(RolloutApproved(pool, rollout["rollout"], stage, rollout["plan"], reason))
        done = {"pool": pool, "files": list(files), "weakens": list(weakens), "stage": stage}
        return bodies, {**done, "rollout": rollout and rollout["rollout"], "plan": rollout and rollout["plan"]}

    return await _ask(context, pool, ask, dry_run=dry_run)


async def override(context: Context, *, pool: str, glob: str, reason: str, dry_run: bool = False) -> dict[str, Any]:
    """Give up images of a pool that the guard protects, for exactly the content that waits now.

    Raises UsageError when the guard blocks nothing there, or no image that `glob` matches.
    """

    async def attempt() -> dict[str, Any]:
        now = await context.snapshot()
        guard, coming = _guard(context, now, pool)
        blocking = guard.blocking(coming)
        listed = [t for change in blocking for t in change["turned"] if not t["override"]]
        kept = {str(turned["image"]) for turned in listed if turned.get("kept")}
        lost = {str(turned["image"]) for turned in listed} - kept
        unlisted = sum(change["blocking"] for change in blocking) - len(listed)
        if not blocking:
            raise UsageError(f"the guard blocks nothing in pool {pool}", remedy=STATUS)
        matched = sorted(image for image in lost if fnmatchcase(image, glob))
        if not matched and (helper := next((image for image in kept if fnmatchcase(image, glob)), "")):
            what = f"{helper} is the helper image, by which nodes are reached: nobody can give it up"
            raise UsageError(
                what, where="--image", remedy="allow its registry, or set fleets.*.helper_image to another"
            )
        if not matched and not unlisted:
            what = f"{glob} matches none of the images that the guard blocks pool {pool} for"
            raise UsageError(what, where="--image", remedy=f"such as {', '.join(sorted(lost | kept)[:3])}")
        files = tuple(sorted({str(change["files"]) for change in blocking}))
        body = OverrideGranted(pool, files, glob, reason)
        if not dry_run:
            await context.append(context.events(now, [body]), now, [pool_stream(context.name, pool)])
        shown = {"givenUp": matched, "stillBlocking": sorted((lost | kept) - set(matched)), "unlisted": unlisted}
        return {"pool": pool, "image": glob, "files": list(files), **shown}

    return await anew(attempt)


async def abort(context: Context, pool: str, *, reason: str, dry_run: bool = False) -> dict[str, Any]:
    """End the pool's rollout where it is: nodes in hand are finished, no other is begun with this content."""

    def ask(now: Snapshot, row: Row) -> Asked:
        rollout = rollout_of(now.rows, row)
        if rollout is None or rollout["state"] not in ("progressing", "halted"):
            raise UsageError(f"no rollout of pool {pool} is under way", remedy=STATUS)
        body = RolloutAborted(pool, rollout["rollout"], reason)
        return [body], {"pool": pool, "rollout": rollout["rollout"]}

    return await _ask(context, pool, ask, dry_run=dry_run)


async def is_in_cluster(context: Context, pool: str) -> bool:
    """Whether the pool's resources are applied to a cluster (manage: cluster)."""
    return pool in cluster_pools(context.name, (await context.snapshot()).rows)


async def retry(
    context: Context, pool: str, *, reason: str, nodes: Collection[str] = (), dry_run: bool = False
) -> dict[str, Any]:
    """Let a stopped rollout go on, or one that ended with failed nodes: failures and refusals are forgotten.

    So they are where content is wanted that was refused before. Drift that many nodes have in common, or that is
    contested, is repaired; of `nodes` any drift, whatever the policy.
    """

    def ask(now: Snapshot, row: Row) -> Asked:
        _check_nodes(now, pool, nodes)
        repairs = _repairs(context, now, row, nodes, reason)
        rollout = rollout_of(now.rows, row)
        if nodes:
            if not repairs:
                remedy = "see `reconciler status`"
                raise UsageError(f"{', '.join(nodes)} has no drift that is left alone", remedy=remedy)
            return repairs, {"pool": pool, "rollout": None, "nodes": [], "files": [], "repairs": sorted(nodes)}
        return _retried(now, pool, row, rollout, repairs, reason)

    return await _ask(context, pool, ask, dry_run=dry_run)


def _retried(
    now: Snapshot, pool: str, row: Row, rollout: Row | None, repairs: tuple[RepairsAllowed, ...], reason: str
) -> Asked:
    nodes, files = tuple(sorted(_failed(now, pool))), tuple(sorted(row["refused"] or ()))
    wanted = {render["files"] for key, render in now.table(RENDERS).items() if key[1] == pool}
    stopped = rollout is not None and rollout["state"] in STOPPED
    failed = rollout is not None and rollout["state"] == "completed" and nodes
    forgiven = bool(stopped or failed or not wanted.isdisjoint(files))
    if not (forgiven or repairs):
        raise UsageError(f"pool {pool} has nothing to retry", remedy=STATUS)
    again = rollout["rollout"] if rollout and (stopped or failed) else None
    done = {"pool": pool, "rollout": again, "nodes": list(nodes), "files": list(files)}
    done["repairs"] = sorted({name for body in repairs for name in body.nodes})
    bodies = [RolloutRetried(pool, again, nodes, files, reason)] if forgiven else []
    return [*bodies, *repairs], done


def _check_nodes(now: Snapshot, pool: str, nodes: Collection[str]) -> None:
    known = sorted(key[1] for key, row in now.table(NODES).items() if row["pool"] == pool)
    for name in nodes:
        if name not in known:
            remedy = f"nodes: {', '.join(known) or 'none'}"
            raise UsageError(f"there is no node {name} in pool {pool}", where="--node", remedy=remedy)


def _repairs(
    context: Context, now: Snapshot, row: Row, named: Collection[str], reason: str
) -> tuple[RepairsAllowed, ...]:
    """What to allow: all drift of the nodes that are named; without any, what is contested or had by many."""
    moment, mass, allowed = context.clock.now(), set(row["mass"] or ()), {}
    for (_, name), node in sorted(now.table(NODES).items()):
        state = now.one(NODE_STATES, now.fleet, name) or {}
        if node["pool"] != row["pool"] or not state.get("drift"):
            continue
        drift = read_drift(row["spec"]["drift"], state, moment)
        stopped = contested(state, moment) or drift.signature in mass
        if (name in named and (drift.why or stopped)) or (not named and stopped):
            allowed[name] = state["drift_observed"]
    decided = () if named else tuple(sorted(mass))
    return (RepairsAllowed(row["pool"], allowed, decided, reason),) if allowed else ()


async def override_windows(context: Context, pool: str, *, reason: str) -> dict[str, Any]:
    """Let nodes of the pool be begun outside of its windows for an hour; nothing where it has no windows."""

    def ask(now: Snapshot, row: Row) -> Asked:
        del now
        until = f"{context.clock.now() + WINDOW_OVERRIDE:%Y-%m-%dT%H:%M:%S+00:00}"
        return [WindowOverridden(pool, until, reason)], {
            "pool": pool,
            "until": until if row["spec"]["windows"] else None,
        }

    return await _ask(context, pool, ask)


def _guard(context: Context, now: Snapshot, pool: str) -> tuple[GuardState, set[str]]:
    """How the guard stands for a pool, and the file sets that its nodes are to get."""
    desired = Desired(context.name, now.rows)
    if pool not in desired.pools:
        raise UsageError(f"there is no pool {pool}", where="--pool", remedy="see `reconciler get pools`")
    coming = files_to_come(fleet_status(context.name, now.rows).nodes, pool)
    if desired.pools[pool].in_cluster:
        coming = files_to_judge(context.name, now.rows, pool)
    return GuardState.of(context.name, now.rows, desired.pools[pool]), coming


def _failed(now: Snapshot, pool: str) -> set[str]:
    return {
        key[1]
        for key, state in now.table(NODE_STATES).items()
        if state["failed"] and (now.one(NODES, *key) or {}).get("pool") == pool
    }


async def _ask(
    context: Context, pool: str, ask: Callable[[Snapshot, Row], Asked], *, dry_run: bool = False
) -> dict[str, Any]:
    async def attempt() -> dict[str, Any]:
        now = await context.snapshot()
        row = now.one(POOLS, context.name, pool)
        if row is None or not row["spec"]:
            known = ", ".join(sorted(key[1] for key, other in now.table(POOLS).items() if other["spec"]))
            raise UsageError(f"there is no pool {pool}", where="pool", remedy=f"pools: {known or 'none'}")
        bodies, done = ask(now, row)
        if not dry_run:
            streams = {stream_of(context.name, body) for body in bodies} | {pool_stream(context.name, pool)}
            await context.append(context.events(now, bodies), now, streams)
        return {**done, "dryRun": dry_run}

    return await anew(attempt)
