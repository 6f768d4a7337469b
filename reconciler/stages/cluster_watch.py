"""Watch a cluster's resources and its Machine Config Operator: what is new there enters the log (`manage: cluster`)."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from reconciler.errors import ClusterError, ClusterRefused
from reconciler.events.catalogue import (
    ClusterBaselineCaptured,
    ClusterCompared,
    ClusterDriftDetected,
    ClusterDriftRepaired,
    ClusterResourcesRecovered,
    ClusterResourcesUnreachable,
    Event,
    MachineConfigChanged,
    MachineConfigPoolChanged,
)
from reconciler.events.catalogue.base import Data
from reconciler.events.codec import plain
from reconciler.events.envelope import fleet_stream, stream_of
from reconciler.ports import ClusterLook, Snapshot
from reconciler.projections.openshift import cluster_pools
from reconciler.projections.tables import CLUSTER_OBJECTS, CLUSTERS, FLEETS, MACHINE_POOLS, MACHINES, NODES, POOLS, Row
from reconciler.registries.model import canonical_json
from reconciler.rollout.cluster_objects import Known, compare, unserved
from reconciler.rollout.machine_pools import Machine, MachinePool
from reconciler.rollout.managed_fields import ClusterObject, ForeignChange, differences, foreign_changes
from reconciler.stages.cluster_wishes import Wishes, concerned, holds_secret, rendered_from, wishes
from reconciler.stages.context import Context
from reconciler.stages.inventory import ACCEPT, another_cluster


@dataclass(frozen=True)
class ClusterSight:
    """What this pass knows of the cluster. `out`: why it could not be looked at; `live`: the objects that matter."""

    live: Mapping[str, ClusterObject]
    pools: Mapping[str, MachinePool]
    out: str = ""


async def watch_cluster(context: Context) -> ClusterSight | None:
    """Look at the cluster and append what is new; None where no pool is of `manage: cluster`."""
    snapshot = await context.snapshot()
    if not cluster_pools(context.name, snapshot.rows):
        return None
    try:
        _check_identity(context, snapshot)
        look = await look_at_cluster(context)
    except ClusterError as error:
        return await _out(context, snapshot, error)
    row = snapshot.one(CLUSTERS, context.name) or {}
    bodies: list[Event] = [ClusterResourcesRecovered()] if row.get("unreachable") else []
    found = await wishes(context, snapshot)
    live = concerned(look, {*found.wanted, *found.known})
    live = await _anew(context, snapshot, found.known, live)
    if row.get("baseline") is None:
        bodies.append(await _baseline(context, found, live))
    bodies += await _compared(context, row, found, live, look)
    bodies += await _drift(context, snapshot, found.known, live)
    pools = {name: MachinePool.of(look.pools[name]) for name in sorted(look.pools)}
    mine = [pool.name for pool in found.pools]
    bodies += _pools(snapshot, mine, pools)
    bodies += await _machines(context, snapshot, mine)
    await _append(context, snapshot, bodies)
    return ClusterSight(live, pools)


def _check_identity(context: Context, snapshot: Snapshot) -> None:
    """Raises ClusterRefused where the settings lead to another cluster than the one that is known by its nodes."""
    if another_cluster(snapshot):
        state = (snapshot.one(FLEETS, context.name) or {})["cluster"]
        raise ClusterRefused(str(state["unreachable"]), remedy=ACCEPT)


async def look_at_cluster(context: Context) -> ClusterLook:
    """The fleet's cluster as it is now. Raises ClusterError."""
    if context.cluster_resources is None:
        what = f"fleets.{context.name}.kubernetes is none, and pools of manage: cluster need a cluster"
        raise ClusterRefused(what, remedy="set it to kubeconfig or in-cluster")
    return await context.cluster_resources.look()


async def _out(context: Context, snapshot: Snapshot, error: ClusterError) -> ClusterSight:
    row, refused = snapshot.one(CLUSTERS, context.name) or {}, isinstance(error, ClusterRefused)
    said = f"{error.where}: {error.what}" if error.where else error.what
    reason = f"{said} ({error.remedy})" if refused and error.remedy else said
    same = row.get("unreachable") is not None and bool(row.get("refused")) == refused
    if not same or (refused and row.get("unreachable") != reason):
        await _append(context, snapshot, [ClusterResourcesUnreachable(reason, refused)])
    return ClusterSight({}, {}, reason)


async def _append(context: Context, snapshot: Snapshot, bodies: Iterable[Event]) -> None:
    """One group. What MCO reports comes of what last changed the pool's content."""
    events, streams = [], {fleet_stream(context.name)}
    for body in bodies:
        pool = getattr(body, "pool", None)
        cause = (snapshot.one(POOLS, context.name, pool) or {}).get("cause") if pool else None
        events += context.events(snapshot, [body], correlation=cause)
        streams.add(stream_of(context.name, body))
    await context.append(events, snapshot, streams)


async def _anew(
    context: Context, snapshot: Snapshot, known: Mapping[str, Known], live: Mapping[str, ClusterObject]
) -> dict[str, ClusterObject]:
    """The live objects; one of ours that the watch has older than the log, or not at all, is asked for: the watch may
    be a moment behind what another replica just did."""
    found = dict(live)
    for key, ours in known.items():
        row = snapshot.one(CLUSTER_OBJECTS, context.name, key) or {}
        if context.cluster_resources is None or not _is_older(live.get(key), row):
            continue
        again = await context.cluster_resources.read(ours.sent)
        if again is not None:
            found[key] = again
        else:
            found.pop(key, None)
    return found


def _is_older(live: ClusterObject | None, row: Row) -> bool:
    if live is None:
        return not row["drift"]
    versions = (live.resource_version, str(row["resource_version"]))
    return live.uid == row["uid"] and all(v.isdecimal() for v in versions) and int(versions[0]) < int(versions[1])


async def _baseline(context: Context, found: Wishes, live: Mapping[str, ClusterObject]) -> ClusterBaselineCaptured:
    """What stands there and is not ours, and what MCO renders from it."""
    theirs = {key: item.document for key, item in live.items() if key not in found.known}
    theirs = {key: document for key, document in theirs.items() if not holds_secret(document)}
    names = await context.keep(canonical_json(document).encode() for document in theirs.values())
    documents, now = list(theirs.values()), context.clock.now()
    files = {pool.name: await rendered_from(context, documents, pool, now) for pool in found.pools}
    return ClusterBaselineCaptured(dict(zip(theirs, names, strict=True)), files)


async def _compared(
    context: Context, row: Mapping[str, Any], found: Wishes, live: Mapping[str, ClusterObject], look: ClusterLook
) -> list[Event]:
    """What of the cluster is not ours, if that is news."""
    given = (found.wanted, found.known, live)
    result = compare(*given, log_id=context.log.log_id, fleet=context.name, heal={}, adopted={})
    kept = await _kept(context, {key: live[key] for key in (*(u.key for u in result.unadopted), *result.foreign)})
    unadopted = tuple(
        {
            "key": item.key,
            "resource": item.resource,
            "differs": [{"path": d.text, "kind": d.kind} for d in item.differs if d.path[0] != "metadata"],
            "managers": list(item.managers),
            "content": kept[item.key],
        }
        for item in result.unadopted
    )
    foreign = {key: kept[key] for key in result.foreign}
    body = ClusterCompared(unadopted, foreign, dict(result.others), unserved(found.wanted, look.unserved))
    said = plain(body.as_data())
    before = {name: row.get("beside" if name == "foreign" else name) for name in said}
    return [] if before == said else [body]


async def _kept(context: Context, objects: Mapping[str, ClusterObject]) -> dict[str, str]:
    """The blobs of documents by key; empty for one with a private key."""
    open_ones = {key: item.document for key, item in objects.items() if not holds_secret(item.document)}
    names = await context.keep(canonical_json(document).encode() for document in open_ones.values())
    return {**dict.fromkeys(objects, ""), **dict(zip(open_ones, names, strict=True))}


async def _drift(
    context: Context, snapshot: Snapshot, known: Mapping[str, Known], live: Mapping[str, ClusterObject]
) -> list[Event]:
    """What somebody else made of our objects, if that is news."""
    bodies: list[Event] = []
    for key, ours in known.items():
        row, item = snapshot.one(CLUSTER_OBJECTS, context.name, key) or {}, live.get(key)
        differs = [change.as_data() for change in _changes(ours, item)]
        if await _is_told(context, row, item, differs):
            continue
        if not differs:
            bodies.append(ClusterDriftRepaired(ours.resource, key, "outside"))
            continue
        kept = await _kept(context, {key: item} if item else {})
        version = item.resource_version if item else ""
        bodies.append(ClusterDriftDetected(ours.resource, key, kept.get(key, ""), version, tuple(differs)))
    return bodies


async def _is_told(context: Context, row: Row, item: ClusterObject | None, differs: Sequence[Data]) -> bool:
    """Whether the log has this drift. That its manager wrote again is no news where it wrote the same there."""
    before = [dict(change) for change in row.get("drift") or ()]
    if differs == before:
        return True
    if item is None or [_untimed(change) for change in differs] != [_untimed(change) for change in before]:
        return False
    name = row["drift_observed"]
    if not name or holds_secret(item.document):
        return not name and holds_secret(item.document)
    seen = (await context.load_known([name])).get(name)
    return seen is not None and all(d.path[0] == "metadata" for d in differences(json.loads(seen), item.document))


def _untimed(change: Data) -> Data:
    return {name: value for name, value in change.items() if name != "time"}


def _changes(ours: Known, item: ClusterObject | None) -> tuple[ForeignChange, ...]:
    if item is None:
        return (ForeignChange("", "missing", "", "", ""),)
    if item.uid != ours.uid and foreign_changes(ours.answer, item):
        made = max(item.managers, key=lambda entry: entry.time, default=None)
        return (ForeignChange("", "changed", *((made.manager, made.operation, made.time) if made else ("", "", ""))),)
    return foreign_changes(ours.answer, item)


def _pools(snapshot: Snapshot, mine: Iterable[str], pools: Mapping[str, MachinePool]) -> list[Event]:
    """What MCO reports of the pools, if that is news. One that it has not is a pool without anything."""
    bodies: list[Event] = []
    for name in mine:
        body = MachineConfigPoolChanged(name, **pools.get(name, MachinePool(name)).as_data())
        row = snapshot.one(MACHINE_POOLS, snapshot.fleet, name) or {}
        said = plain(body.as_data())
        if any(row.get(field) != value for field, value in said.items() if field != "pool"):
            bodies.append(body)
    return bodies


async def _machines(context: Context, snapshot: Snapshot, mine: Iterable[str]) -> list[Event]:
    """What MCO notes on the nodes of the pools, if that is news."""
    if context.cluster is None:
        return []
    try:
        nodes = {node.name: node for node in await context.cluster.nodes()}
    except ClusterError:
        return []  # said where nodes are discovered
    bodies: list[Event] = []
    for (_, name), row in sorted(snapshot.table(NODES).items()):
        found = nodes.get(row["spec"].get("nodeName") or name)
        if row["pool"] not in set(mine) or found is None:
            continue
        machine = Machine.of(name, found.machine_config)
        said = machine and {"pool": row["pool"], **machine.as_data()}
        before = snapshot.one(MACHINES, context.name, name) or {}
        if said and any(before.get(field) != value for field, value in said.items()):
            bodies.append(MachineConfigChanged(name, **said))
    return bodies
