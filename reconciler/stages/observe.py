"""Observe: look at every node once, and record what differs from what is known (first sight, drift, reachability).

An equal observation appends nothing: it only moves `last_seen`.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import replace
from datetime import datetime
from typing import Any

from reconciler.errors import HostKeyRefused, NodeError, NodeRefused
from reconciler.events.catalogue import (
    BaselineCaptured,
    Event,
    HostKeyChanged,
    NodeRecovered,
    NodeRenamed,
    NodeReset,
    NodeUnreachable,
    StrayFound,
)
from reconciler.events.envelope import fleet_stream, node_stream, pool_stream
from reconciler.ports import ABSENT, Observation, ObserveRequest, Snapshot, Target
from reconciler.projections.desired import base_digest, wanted_row
from reconciler.projections.node_fold import KEPT_AT_RESET
from reconciler.projections.openshift import applied_files, cluster_pools, in_cluster
from reconciler.projections.tables import NODE_STATES, NODES, POOLS, RENDERS, Row
from reconciler.registries.model import BASE_PATHS
from reconciler.rollout.strays import removable
from reconciler.stages.context import Context, FileSet, Progress, decode_file_set
from reconciler.stages.drift import judge_drift
from reconciler.stages.inventory import another_cluster
from reconciler.stages.restores import detect
from reconciler.stages.sight import Sight, is_unread, not_read


async def observe(
    context: Context, names: Iterable[str] | None = None, *, images: Collection[str] = ()
) -> dict[str, Sight]:
    """Look at all nodes (or those named), many at once, one round trip each; append what is new. The nodes of `images`
    tell with it which images they need."""
    snapshot = await context.snapshot()
    sights = await look(context, snapshot, names, images=images)
    if renamed := _renamed(snapshot, sights.values()):
        streams = {node_stream(context.name, name) for body in renamed for name in (body.node, body.previous)}
        await context.append(context.events(snapshot, renamed), snapshot, streams)
        return await observe(context, names, images=images)  # now knowing what is ours there
    twins = _twins(snapshot, sights.values())
    for sight in sights.values():
        _judge(sight, context.log.log_id, twins.get(sight.name, ""), context.clock.now())
    await context.keep(content for sight in sights.values() for content in sight.contents)
    bodies: list[Event] = [body for sight in sights.values() for body in sight.bodies]
    streams = _streams(context, sights.values())
    if restored := await detect(context, snapshot, sights.values()):
        bodies += restored
        streams.add(fleet_stream(context.name))
    await context.append(context.events(snapshot, bodies), snapshot, streams)
    answered = sum(sight.observation is not None for sight in sights.values())
    context.progress(Progress("observe", "nodes answered" if sights else "0/0 nodes answered", answered, len(sights)))
    runtimes = {name: sight.observation.runtime_version for name, sight in sights.items() if sight.observation}
    await context.reads.touch(context.name, runtimes)
    return sights


def _streams(context: Context, sights: Iterable[Sight]) -> set[str]:
    """What must not have moved meanwhile. The pool's stream too: a step begun since would look like drift."""
    changed = [sight for sight in sights if sight.bodies]
    pools = {pool_stream(context.name, sight.pool) for sight in changed if sight.pool}
    return pools | {node_stream(context.name, sight.name) for sight in changed}


async def look_closer(context: Context, sights: Mapping[str, Sight]) -> None:
    """Look again at nodes on which a file stands where only a newly rendered set has one, or a stray to remove."""
    snapshot = await context.snapshot()
    sets = await file_sets(context, snapshot)
    names, paths = [], set[str]()
    for sight in sights.values():
        wanted = sets.get(wanted_files(snapshot, sight) or "", FileSet(()))
        if sight.observation is None or sight.out:
            continue
        enforces = sight.spec.get("mode") == "enforce"
        strays = removable(sight.spec["strays"], sight.observation.present) if enforces else ()
        if strays or set(sight.observation.present) & set(wanted.by_path):
            names.append(sight.name)
            paths.update(strays)
    for name, again in (await look(context, snapshot, names, paths)).items() if names else ():
        sights[name].out = again.out
        if again.observation:
            sights[name].observation = again.observation
            # a stray that is no plain file, or that nobody has read, is no reason to leave the node alone
            others = {path: file for path, file in again.observation.files.items() if path not in paths}
            sights[name].out = not_ours(again, replace(again.observation, files=others), context.log.log_id)
            await context.keep(f.content for f in again.observation.files.values() if f.content is not None)


async def look(
    context: Context,
    snapshot: Snapshot,
    names: Iterable[str] | None = None,
    paths: Iterable[str] = (),
    images: Collection[str] = (),
) -> dict[str, Sight]:
    """Ask the nodes, also about further `paths`, those of `images` also for theirs, and record nothing (what `diff` and
    `cat --live` use)."""
    chosen = None if names is None else set(names)
    rows = {name: row for name, row in nodes_of_ours(snapshot).items() if chosen is None or name in chosen}
    sets, other = await file_sets(context, snapshot), another_cluster(snapshot)
    sights: list[Sight] = []
    kept: dict[str, Sight] = {}
    requests: list[tuple[Target, ObserveRequest]] = []
    for name, row in rows.items():
        state = snapshot.one(NODE_STATES, context.name, name) or {}
        sight = Sight(
            name,
            target_of(context.name, name, row["spec"]),
            row["pool"],
            state,
            sets.get(state.get("files") or "", FileSet(())),
            FileSet(tuple(entry for name in state.get("unproven") or () for entry in sets[name].entries)),
            spec=_spec(snapshot, row["pool"]),
        )
        if other and sight.target.transport == "kubernetes":
            sight.out, kept[name] = other, sight
            continue
        known = _known(sight, sets.get(wanted_files(snapshot, sight) or "", FileSet(())))
        known = {**dict.fromkeys(paths, ""), **known}
        runtime = str(sight.spec.get("runtime", "crio"))
        requests.append((sight.target, ObserveRequest(context.log.log_id, runtime, known, images=name in images)))
        sights.append(sight)
    for sight, answer in zip(sights, await context.runner.observe(requests), strict=True):
        if isinstance(answer, NodeError):
            sight.out = answer.what
            if isinstance(answer, HostKeyRefused) and _is_other_key(sight, answer.shown):
                body = HostKeyChanged(sight.name, sight.state["host_key"], answer.shown, answer.what)
                sight.bodies.append(body)
            else:
                sight.bodies.extend(_unreachable(sight, refused=isinstance(answer, NodeRefused)))
        else:
            sight.observation = answer
    found = kept | {sight.name: sight for sight in sights}
    return {name: found[name] for name in rows}


def nodes_of_ours(snapshot: Snapshot) -> dict[str, Row]:
    """The nodes that are looked at and written, sorted: not those of pools of `manage: cluster`, whose files are
    MCO's."""
    fleet, rows = snapshot.fleet, snapshot.rows
    nodes = sorted(snapshot.table(NODES).items())
    return {name: row for (_, name), row in nodes if not in_cluster(fleet, rows, row["pool"])}


async def file_sets(context: Context, snapshot: Snapshot) -> dict[str, FileSet]:
    """Every file set that a node has or should have, by digest; of the past, less those that were redacted."""
    named = {row["files"] for row in snapshot.table(NODE_STATES).values() if row["files"]}
    named |= {name for row in snapshot.table(NODE_STATES).values() for name in row["unproven"] or ()}
    named |= {row["files"] for row in snapshot.table(RENDERS).values()}
    named |= {applied_files(snapshot.fleet, snapshot.rows, p) for p in cluster_pools(snapshot.fleet, snapshot.rows)}
    named.discard("")
    return {name: decode_file_set(blob) for name, blob in (await context.load_known(named)).items()}


def wanted_files(snapshot: Snapshot, sight: Sight, state: Row | None = None) -> str | None:
    """Digest of the file set the node should have, as recorded; None when nothing was rendered for it yet. `state`: the
    node's row, where it is a newer one than the sight's."""
    row = wanted_row(snapshot.fleet, snapshot.rows, sight.pool, sight.name, sight.state if state is None else state)
    return str(row["files"]) if row and row["files"] else None


def target_of(fleet: str, name: str, spec: Mapping[str, Any]) -> Target:
    """How to reach a node, from its recorded spec."""
    return Target(
        fleet,
        name,
        spec["transport"],
        spec["address"],
        spec["port"],
        spec["user"],
        spec["become"],
        tuple(spec["hostKeys"]),
        spec["root"],
        spec.get("nodeName") or name,
    )


def _spec(snapshot: Snapshot, pool: str | None) -> Mapping[str, Any]:
    row = snapshot.one(POOLS, snapshot.fleet, pool) if pool else None
    return row["spec"] or {} if row else {}


def _known(sight: Sight, wanted: FileSet) -> dict[str, str]:
    """Each path to look at, with the hash we have bytes for ("" for none)."""
    known = {entry.path: "" for entry in (*wanted.entries, *sight.unproven.entries)}
    base_files = sight.state.get("base_files") or {}
    for path in BASE_PATHS:
        known[path] = (base_files[path] or ABSENT) if path in base_files else ""
    known.update({entry.path: entry.sha256 for entry in sight.applied.entries})
    return known


def _is_other_key(sight: Sight, shown: str) -> bool:
    """Whether a fingerprint is another one than the node last showed; of its first nothing is said."""
    known = sight.state.get("host_key")
    return bool(known and shown and known != shown)


def _unreachable(sight: Sight, *, refused: bool, cause: str = "") -> list[Event]:
    """Said once; a refusal once per reason. In how many ways a link can fail is no news."""
    before = sight.state.get("unreachable")
    same = before is not None and bool(sight.state.get("refused")) == refused and (not refused or before == sight.out)
    return [] if same else [NodeUnreachable(sight.name, sight.out, refused, cause)]


def _renamed(snapshot: Snapshot, sights: Iterable[Sight]) -> list[NodeRenamed]:
    """Nodes seen for the first time whose machine was a Node that the repository has no more.

    Without this, the files that we wrote there under the old name would be taken for the host's own.
    """
    gone = {
        row["machine_id"]: key[1]
        for key, row in sorted(snapshot.table(NODE_STATES).items())
        if row["machine_id"] and snapshot.one(NODES, snapshot.fleet, key[1]) is None
    }
    found = {
        gone[seen.machine_id]: NodeRenamed(sight.name, gone[seen.machine_id], seen.machine_id)
        for sight in sights
        if (seen := sight.observation) and not sight.state.get("machine_id") and seen.machine_id in gone
    }
    return list(found.values())


def _twins(snapshot: Snapshot, sights: Iterable[Sight]) -> dict[str, str]:
    """Node → another Node that is the same machine: two wishes for one host, of which none is carried out."""
    machines: dict[str, list[str]] = {}
    seen = {s.name: s.observation.machine_id for s in sights if s.observation}
    recorded = {
        key[1]: row["machine_id"]
        for key, row in snapshot.table(NODE_STATES).items()
        if row["machine_id"] and snapshot.one(NODES, snapshot.fleet, key[1])
    }
    for name, machine in {**recorded, **seen}.items():
        if machine:
            machines.setdefault(machine, []).append(name)
    return {
        name: min(other for other in names if other != name)
        for names in machines.values()
        if len(names) > 1
        for name in names
    }


def _judge(sight: Sight, log_id: str, twin: str, now: datetime) -> None:
    """Turn an observation into the events it deserves."""
    seen = sight.observation
    if seen is None:
        return
    if sight.state.get("machine_id") and sight.state["machine_id"] != seen.machine_id:
        sight.bodies.append(NodeReset(sight.name, sight.state["machine_id"], seen.machine_id))
        kept = {name: sight.state[name] for name in KEPT_AT_RESET if sight.state.get(name)}
        sight.state, sight.applied, sight.unproven = kept, FileSet(()), FileSet(())
    sight.contents.extend(file.content for file in seen.files.values() if file.content is not None)
    if _is_other_key(sight, seen.host_key):
        sight.bodies.append(HostKeyChanged(sight.name, sight.state["host_key"], seen.host_key, ""))
    sight.out = f"is the same machine as node {twin}: remove one of the two Nodes" if twin else ""
    sight.out = sight.out or not_ours(sight, seen, log_id)
    if released := sight.state.get("released"):
        sight.out = f"released ({released['reason']}): `reconciler adopt {sight.name}` takes it back"
        return
    if sight.out:
        sight.bodies.extend(_unreachable(sight, refused=True, cause=_cause(seen, log_id, twin)))
    elif sight.state.get("unreachable"):
        sight.bodies.append(NodeRecovered(sight.name))
    if sight.state.get("step") or sight.state.get("unproven"):
        return  # somebody is (or was) at work there: what was seen may be ours, and neither the host's nor drift
    _judge_base(sight, seen)
    judge_drift(sight, seen, now)
    strays = tuple(sorted(path for path in seen.present if path not in sight.applied.by_path))
    if list(strays) != (sight.state.get("strays") or []):
        sight.bodies.append(StrayFound(sight.name, sight.pool or "", strays))


def _cause(seen: Observation, log_id: str, twin: str) -> str:
    """The one cause of a refusal, in the order of `_judge`, that has a word."""
    if twin:
        return ""
    if seen.owner is not None and seen.owner.log_id != log_id:
        return "log"
    return "hold" if seen.hold and not seen.mco else ""


def not_ours(sight: Sight, seen: Observation, log_id: str) -> str:
    """Why a node that answers must not be written, or nothing."""
    if seen.owner is not None and seen.owner.log_id != log_id:
        remedy = f"release it there, or take it with `reconciler adopt {sight.name}`"
        return f"belongs to another log ({seen.owner.log_id}): {remedy}"
    if seen.mco:
        return "managed by the Machine Config Operator: use `manage: cluster`, or take the node out of MCO"
    if seen.hold:
        return f"held locally: {seen.hold}"
    for path, file in sorted(seen.files.items()):
        if file.kind not in ("file", ABSENT):
            return f"{path} is a {file.kind}; put a plain file there"
        if is_unread(sight, file) and path not in sight.applied.by_path:
            return not_read(path)  # what is ours is put right, whatever stands there
    return ""


def _judge_base(sight: Sight, seen: Observation) -> None:
    """Paths that are ours keep the base captured before our first write; of the others the present counts."""
    recorded = sight.state.get("base_files") or {}
    files: dict[str, str | None] = {}
    for path in BASE_PATHS:
        file = seen.files.get(path)
        if path in sight.applied.by_path:
            files[path] = recorded.get(path)
        elif is_unread(sight, file):
            return  # what is there cannot be laid under anything; the node is out
        else:
            files[path] = file.sha256 if file and file.kind == "file" else None
    if files != recorded or not sight.state.get("base"):
        sight.bodies.append(BaselineCaptured(sight.name, base_digest(files), files, seen.machine_id, seen.host_key))
