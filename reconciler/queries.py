"""What people may see. Every answer is JSON-able data with camelCase keys; doors only choose columns and layout."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import datetime
from typing import Any

from reconciler.errors import UsageError
from reconciler.events.envelope import StoredEvent
from reconciler.events.summaries import summary
from reconciler.ports import EventFilter, Seen, Snapshot
from reconciler.projections.desired import Desired, shadowed_out
from reconciler.projections.status import FleetStatus, NodeStatus, PoolStatus, fleet_status
from reconciler.projections.tables import FLEETS, NODE_STATES, POOLS
from reconciler.stages.context import Context
from reconciler.stages.differences import file_differences
from reconciler.stages.expiry import expiring_certificates
from reconciler.stages.hold_items import hold_items
from reconciler.stages.observe import look, wanted_files
from reconciler.stages.restores import contradicted
from reconciler.stages.sight import is_unread, not_read
from reconciler.stages.signatures import signatures_text
from reconciler.stages.view import ZONE, held_back, locks

ROLE_PREFIX = "node-role.kubernetes.io/"
WHICH = ("live", "observed", "applied", "wanted")


async def status(context: Context) -> tuple[FleetStatus, dict[str, Any]]:
    """How the fleet stands, and the same as data."""
    snapshot = await context.snapshot()
    found = fleet_status(context.name, snapshot.rows, context.clock.now())
    row = snapshot.one(FLEETS, context.name) or {}
    source = {_camel(key): _plain(value) for key, value in found.source.items()}
    data = {
        "fleet": found.fleet,
        "position": snapshot.position,
        "source": source,
        "signatures": signatures_text(context.fleet.verify, row),
        "verify": context.fleet.verify,
        "accepted": {"commit": row.get("accepted"), "signature": row.get("accepted_signature")},
        "guard": _guard(found.pools),
        "pools": [_pool_item(context, snapshot, pool) for pool in found.pools],
        "nodes": {
            "total": len(found.nodes),
            "converged": sum(node.files == "Converged" for node in found.nodes),
            "attention": [_attention(node) for node in found.nodes if _needs_attention(node)],
        },
        "holds": list(found.holds),
        "cluster": dict(found.cluster) if found.cluster else None,
        "restored": contradicted(snapshot) or None,
        "overdue": list(found.overdue),
        "waiting": found.waiting,
        "rejected": found.rejected,
        "problems": list(found.problems),
        "expiring": await expiring_certificates(context, snapshot),
        "converged": found.exit_code == 0,
    }
    return found, data


def _guard(pools: Sequence[PoolStatus]) -> str:
    """What the guard knows; pool by pool where they differ."""
    texts = {pool.guard for pool in pools} or {"NOT ARMED"}
    return texts.pop() if len(texts) == 1 else ", ".join(f"{pool.name} {pool.guard}" for pool in pools)


def _needs_attention(node: NodeStatus) -> bool:
    return node.files != "Converged" or not node.ready or bool(node.strays)


def _attention(node: NodeStatus) -> dict[str, Any]:
    return {
        "name": node.name,
        "pool": node.pool,
        "files": node.files,
        "ready": node.ready,
        "reason": node.reason,
        "since": _plain(node.unreachable_since),
        "drift": list(node.drift),
        "strays": list(node.strays),
    }


async def list_nodes(context: Context) -> list[dict[str, Any]]:
    """The inventory with each node's state; STATUS as `oc get nodes` prints it."""
    snapshot = await context.snapshot()
    desired = Desired(context.name, snapshot.rows)
    found = fleet_status(context.name, snapshot.rows)
    seen = await context.reads.seen(context.name)
    since = await _first_times(context, "NodeRegistered", "node")
    items = []
    for node in found.nodes:
        known = desired.nodes[node.name]
        labels, cluster = known.labels, known.cluster
        items.append(
            {
                "name": node.name,
                "status": ("Ready" if node.ready else "NotReady") + ",SchedulingDisabled" * node.unschedulable,
                "roles": sorted(key.removeprefix(ROLE_PREFIX) for key in labels if key.startswith(ROLE_PREFIX)),
                "createdAt": _plain(since.get(node.name)),
                **({} if context.as_of else _answered(seen.get(node.name))),
                "zone": labels.get(ZONE, ""),
                "kubelet": cluster.get("version", ""),
                "containerRuntime": cluster.get("runtime", ""),
                "discovered": known.discovered,
                "pool": node.pool,
                "files": node.files,
                "reason": node.reason,
                "drift": list(node.drift),
                "strays": list(node.strays),
                "labels": dict(labels),
                "transport": known.spec["transport"],
                "address": known.spec["address"] or known.spec["root"],
                "wanted": node.wanted,
                "applied": node.applied,
                "machineId": node.machine_id,
                "convergedAt": _plain(node.converged_at),
            }
        )
    return items


def _answered(answer: Seen | None) -> dict[str, Any]:
    """What the node's last answer told, which is no part of the log."""
    return {"version": answer.runtime if answer else "", "lastSeen": _plain(answer.at) if answer else None}


async def list_pools(context: Context) -> list[dict[str, Any]]:
    """The pools, counted as `oc get mcp` counts machines."""
    snapshot = await context.snapshot()
    found = fleet_status(context.name, snapshot.rows)
    since = await _first_times(context, "PoolConfigured", "pool")
    return [{**_pool_item(context, snapshot, pool), "createdAt": _plain(since.get(pool.name))} for pool in found.pools]


def _pool_item(context: Context, snapshot: Snapshot, pool: PoolStatus) -> dict[str, Any]:
    now = context.clock.now()
    paused = locks(snapshot.table(POOLS)[context.name, pool.name], now)
    behind = pool.mode == "enforce" and (pool.rollout == "progressing" or pool.updated < pool.machines)
    return {
        "name": pool.name,
        "mode": pool.mode,
        "config": pool.config,
        "updated": pool.updated == pool.machines,
        "updating": pool.rollout == "progressing",
        "degraded": pool.degraded > 0 or pool.rollout == "halted" or bool(pool.blocked),
        "machineCount": pool.machines,
        "readyMachineCount": pool.ready,
        "updatedMachineCount": pool.updated,
        "degradedMachineCount": pool.degraded,
        "paused": bool(paused),
        "locks": list(paused),
        "waits": list(held_back(snapshot, pool.name, now)) if behind else [],
        "held": list(pool.held),
        "guard": pool.guard,
        "commit": pool.commit,
        "rollout": pool.rollout,
        "outcome": pool.outcome,
        "blocked": pool.blocked,
        "rejected": pool.rejected,
        "warnings": pool.warnings,
    }


async def list_resources(context: Context, pool: str | None = None) -> list[dict[str, Any]]:
    """What is in force per pool, where it stands in Git, and which hold keeps it against Git."""
    snapshot = await context.snapshot()
    desired = Desired(context.name, snapshot.rows)
    items: dict[tuple[str, str, str], dict[str, Any]] = {}
    for name in [pool] if pool else [*desired.pools, ""]:
        used = {v.resource for v in shadowed_out(desired.in_force(name), desired.pools[name])} if name else set()
        for resource, version in sorted(desired.in_force(name).items()):
            item = items.setdefault(
                (resource, version.content, version.hold),
                {
                    "name": resource,
                    "kind": resource.rpartition(":")[2].partition("/")[0],
                    "pools": [],
                    "file": f"{version.file}:{version.line}",
                    "commit": version.commit,
                    "content": version.content,
                    "hold": version.hold or None,
                    "shadowed": [],
                },
            )
            item["pools" if not name or resource in used else "shadowed"].append(name or "(none)")
    return [items[key] for key in sorted(items)]


async def list_holds(context: Context) -> list[dict[str, Any]]:
    """Rollback entries in force, each with what Git says now."""
    return await hold_items(context, await context.snapshot())


async def list_events(context: Context, wanted: EventFilter) -> list[dict[str, Any]]:
    """Events as they stand in the log."""
    return [event_item(event) for event in await context.log.read(wanted)]


def event_item(event: StoredEvent) -> dict[str, Any]:
    """One event with its envelope, in the form that scripts may rely on."""
    return {
        "position": event.position,
        "eventId": str(event.event_id),
        "recordedAt": _plain(event.recorded_at),
        "type": event.type,
        "schemaVersion": event.schema_version,
        "fleet": event.fleet,
        "stream": event.stream,
        "version": event.version,
        "actor": dict(event.actor.as_data()),
        "toolVersion": event.tool_version,
        "node": event.columns.get("node"),
        "pool": event.columns.get("pool"),
        "resource": event.columns.get("resource"),
        "commit": event.columns.get("commit"),
        "correlationId": str(event.correlation_id),
        "causationId": str(event.causation_id) if event.causation_id else None,
        "group": event.group,
        "hash": event.hash.hex(),
        "data": json.loads(event.text),
    }


async def history(context: Context, wanted: EventFilter) -> list[dict[str, Any]]:
    """One readable line per event."""
    return [history_item(event) for event in await context.log.read(wanted)]


def history_item(event: StoredEvent) -> dict[str, Any]:
    """An event as a line for people."""
    columns = event.columns
    return {
        "position": event.position,
        "recordedAt": _plain(event.recorded_at),
        "type": event.type,
        "subject": columns.get("node") or columns.get("pool") or columns.get("resource") or event.fleet,
        "commit": columns.get("commit"),
        "actor": event.actor.subject,
        "summary": summary(event.body),
    }


async def cat(context: Context, node: str, path: str, which: str) -> bytes:
    """A node's file: live (asked now), observed (when last it differed), applied (last receipt), wanted.

    Raises UsageError when there is no such node or file.
    """
    snapshot = await context.snapshot()
    if which == "live":
        sight = (await look(context, snapshot, [node], (path,))).get(node)
        if sight is None or sight.observation is None:
            raise UsageError(sight.out if sight else "there is no such node", where=f"node {node}")
        file = sight.observation.files.get(path)
        digest = file.sha256 if file and file.kind == "file" else None
        if file and file.content is not None:
            return file.content
        if is_unread(sight, file):
            raise UsageError(not_read(path), where=f"node {node}")
    else:
        digest = await _recorded_digest(context, node, path, which)
    if not digest:
        raise UsageError(f"{node} has no {which} {path}", where=f"{node}:{path}", remedy="try --live or --wanted")
    return (await context.load([digest]))[digest]


async def _recorded_digest(context: Context, node: str, path: str, which: str) -> str | None:
    snapshot = await context.snapshot()
    found = next((n for n in fleet_status(context.name, snapshot.rows).nodes if n.name == node), None)
    if found is None:
        raise UsageError(f"there is no node {node}", where="node", remedy="see `reconciler get nodes`")
    state = snapshot.one(NODE_STATES, context.name, node) or {}
    if which == "observed":
        drifted = {item["path"]: item["observed"] for item in state.get("drift") or ()}
        if path in drifted:
            return str(drifted[path]) if len(str(drifted[path])) == 64 else None
        if found.applied is None:
            return str((state.get("base_files") or {}).get(path) or "") or None
    name = found.wanted if which == "wanted" else found.applied
    if name is None:
        return None
    entry = (await context.load_file_set(name)).by_path.get(path)
    if entry is None and which == "observed":
        return str((state.get("base_files") or {}).get(path) or "") or None
    return entry.sha256 if entry else None


async def diff(context: Context, nodes: Sequence[str] | None = None) -> list[dict[str, Any]]:
    """Per node and path, what it has now against what is wanted (asked live; an item with `error` where not).

    Paths that were ours and are no longer wanted are shown going back to the baseline.
    """
    snapshot = await context.snapshot()
    sights = await look(context, snapshot, nodes)
    for missing in set(nodes or ()) - set(sights):
        raise UsageError(f"there is no node {missing}", where="node", remedy="see `reconciler get nodes`")
    items: list[dict[str, Any]] = []
    for sight in sights.values():
        if sight.observation is None:
            items.append({"node": sight.name, "path": "", "error": sight.out})
        elif (wanted := wanted_files(snapshot, sight)) is not None:
            found = await file_differences(context, sight, wanted)
            items.extend({"node": sight.name, **difference} for difference in found)
    return items


async def _first_times(context: Context, event_type: str, column: str) -> dict[str, datetime]:
    """When each node or pool first came into the log."""
    times: dict[str, datetime] = {}
    for event in await context.log.read(EventFilter(context.name, types=(event_type,))):
        times.setdefault(str(event.columns.get(column)), event.recorded_at)
    return times


def _plain(value: Any) -> Any:
    return value.isoformat().replace("+00:00", "Z") if isinstance(value, datetime) else value


def _camel(name: str) -> str:
    head, *rest = name.split("_")
    return head + "".join(part.capitalize() for part in rest)
