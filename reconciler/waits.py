"""`wait`: watch until a condition holds or a commit is complete. It only watches; passes are the service's work."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta

from reconciler.errors import InputRejected, TimedOut, UsageError
from reconciler.ports import EventFilter, Snapshot
from reconciler.projections.conditions import NODE_CONDITIONS, POOL_CONDITIONS, node_conditions, pool_conditions
from reconciler.projections.order import lacks
from reconciler.projections.status import fleet_status
from reconciler.projections.tables import FLEETS, POOLS
from reconciler.stages.context import Context, Progress
from reconciler.stages.view import locks

POLL = 1.0
"""Seconds between two looks at the read tables."""


@dataclass(frozen=True)
class Awaited:
    """What to wait for: `condition` (of NODE_CONDITIONS or POOL_CONDITIONS) to be `status`, or `commit` to be complete.

    Of one `node`, of one `pool` (or its nodes, where only nodes have the condition), or of all.
    """

    condition: str | None = None
    status: bool = True
    commit: str | None = None
    pool: str | None = None
    node: str | None = None


async def wait_for(context: Context, awaited: Awaited, within: float) -> list[str]:
    """The names for which it then holds (`pool/worker`). Raises TimedOut after `within` seconds, UsageError for names
    that are not there, and InputRejected for a commit that was rejected."""
    deadline = context.clock.now() + timedelta(seconds=within)
    while True:
        snapshot = await context.snapshot()
        found = await _look(context, snapshot, awaited)
        missing = "; ".join(f"{name}: {why}" for name, why in found.items() if why)
        if found and not missing:
            return list(found)
        if context.clock.now() >= deadline:
            raise TimedOut("the time ran out", where=missing or "nothing is there to wait for", remedy="see `describe`")
        context.progress(Progress("waiting", missing, passing=True))
        await context.clock.sleep(POLL)


async def _look(context: Context, snapshot: Snapshot, awaited: Awaited) -> dict[str, str]:
    """Name → why it does not hold there yet, or nothing."""
    _check_names(snapshot, awaited)
    if awaited.commit is not None:
        return await _commit(context, snapshot, awaited.commit, awaited.pool)
    return dict(_conditions(context, snapshot, awaited))


def _check_names(snapshot: Snapshot, awaited: Awaited) -> None:
    found = fleet_status(snapshot.fleet, snapshot.rows)
    for kind, name, known in (
        ("pool", awaited.pool, [pool.name for pool in found.pools]),
        ("node", awaited.node, [node.name for node in found.nodes]),
    ):
        if name is not None and name not in known:
            raise UsageError(f"there is no {kind} {name}", where=f"--{kind}", remedy=f"see `reconciler get {kind}s`")


def _conditions(context: Context, snapshot: Snapshot, awaited: Awaited) -> Iterator[tuple[str, str]]:
    found = fleet_status(snapshot.fleet, snapshot.rows)
    wanted = awaited.condition
    of_nodes = awaited.node is not None or wanted not in POOL_CONDITIONS
    if wanted not in (NODE_CONDITIONS if of_nodes else POOL_CONDITIONS):
        known = NODE_CONDITIONS if awaited.node else (*POOL_CONDITIONS, *NODE_CONDITIONS)
        raise UsageError(f"there is no condition {wanted}", where="--for", remedy=f"one of: {', '.join(known)}")
    named = [
        (f"node/{node.name}", node_conditions(node))
        for node in found.nodes
        if of_nodes and awaited.node in (None, node.name) and awaited.pool in (None, node.pool)
    ] + [
        (f"pool/{pool.name}", pool_conditions(found, snapshot.rows, pool, _locks(context, snapshot, pool.name)))
        for pool in found.pools
        if not of_nodes and awaited.pool in (None, pool.name)
    ]
    for name, conditions in named:
        condition = next(condition for condition in conditions if condition.type == wanted)
        text = f"{condition.reason} {condition.message}".strip()
        yield name, "" if condition.status == awaited.status else f"{wanted} is {condition.status} ({text})"


def _locks(context: Context, snapshot: Snapshot, pool: str) -> tuple[str, ...]:
    return locks(snapshot.table(POOLS)[snapshot.fleet, pool], context.clock.now())


async def _commit(context: Context, snapshot: Snapshot, commit: str, pool: str | None) -> dict[str, str]:
    """Pools that enforce, and what keeps each from having completed the commit or a newer one."""
    rows = {key[1]: row for key, row in snapshot.table(POOLS).items() if row["spec"] and pool in (None, key[1])}
    enforcing = {name: row for name, row in sorted(rows.items()) if row["spec"]["mode"] == "enforce"}
    if pool is not None and not enforcing:
        raise UsageError(f"pool {pool} only observes: it completes no commit", where="--pool")
    wanted = await _position(context, commit)
    fleet = snapshot.one(FLEETS, context.name) or {}
    found = {}
    for name, row in enforcing.items():
        taken = await _position(context, row["commit"]) if row["commit"] else None
        if wanted is None:
            found[name] = f"commit {commit[:12]} is not recorded yet"
        elif taken is None or taken < wanted:
            for rejected in (fleet.get("rejected"), row["rejected"]):
                if rejected and rejected.startswith(commit):
                    remedy = "see `reconciler status`, and mend it with a newer commit"
                    raise InputRejected(f"commit {commit[:12]} was rejected", where=f"pool {name}", remedy=remedy)
            found[name] = f"has taken commit {(row['commit'] or 'none')[:12]}"
        else:
            found[name] = lacks(context.name, snapshot.rows, name, row["commit"])
    return {f"pool/{name}": why for name, why in found.items()}


async def _position(context: Context, commit: str) -> int | None:
    """Where a commit was first recorded."""
    events = await context.log.read(EventFilter(context.name, commit=commit, types=("CommitObserved",), limit=1))
    return events[0].position if events else None
