"""What a pass would do to a cluster's resources, and what the files on its nodes would become: for `plan`."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import yaml

from reconciler.ports import Snapshot
from reconciler.projections.openshift import (
    applied_files,
    cluster_pools,
    drift_text,
    files_of_cluster,
    is_gone,
    machine_pool,
)
from reconciler.projections.tables import CLUSTER_OBJECTS, CLUSTERS, NODES
from reconciler.registries.impact import classify
from reconciler.rollout.cluster_objects import Action
from reconciler.rollout.machine_pools import MachinePool
from reconciler.rollout.managed_fields import ClusterObject, FieldManager
from reconciler.rollout.pools import Pool
from reconciler.stages.cluster_apply import ClusterPlan, plan_cluster
from reconciler.stages.cluster_watch import ClusterSight, look_at_cluster, watch_cluster
from reconciler.stages.cluster_wishes import concerned, wishes
from reconciler.stages.context import Context
from reconciler.stages.differences import difference, set_differences
from reconciler.stages.project import set_contents


@dataclass(frozen=True)
class ClusterForesight:
    """What is known of the cluster, and what would be done next."""

    sight: ClusterSight
    plan: ClusterPlan


async def foresee_cluster(context: Context, *, live: bool) -> ClusterForesight | None:
    """After recording and rendering, on an overlay. Not `live`: as the log knows the cluster."""
    sight = await watch_cluster(context) if live else await recorded_cluster(context)
    if sight is None:
        return None
    return ClusterForesight(sight, await plan_cluster(context, await context.snapshot(), sight))


async def recorded_cluster(context: Context) -> ClusterSight | None:
    """What the log knows of the cluster, in the form of a look at it."""
    snapshot = await context.snapshot()
    names = cluster_pools(context.name, snapshot.rows)
    if not names:
        return None
    row = snapshot.one(CLUSTERS, context.name) or {}
    rows = {key[1]: item for key, item in snapshot.table(CLUSTER_OBJECTS).items() if item["sent"]}
    ours = {key: item["drift_observed"] or item["answer"] for key, item in rows.items()}
    theirs = {item["key"]: item["content"] for item in row.get("unadopted") or ()} | dict(row.get("beside") or {})
    blobs = {key: name for key, name in {**theirs, **ours}.items() if name}
    contents = await context.load(blobs.values())
    managers = {item["key"]: item["managers"] for item in row.get("unadopted") or ()}
    live = {
        key: ClusterObject(
            key,
            json.loads(contents[name]),
            str((rows.get(key) or {}).get("uid") or ""),
            str((rows.get(key) or {}).get("resource_version") or ""),
            0,
            tuple(FieldManager(manager, "", "", {}) for manager in managers.get(key, ())),
        )
        for key, name in sorted(blobs.items())
        if key not in rows or not is_gone(rows[key])
    }
    pools = {name: found for name in names if (found := machine_pool(context.name, snapshot.rows, name))}
    return ClusterSight(live, pools, str(row.get("unreachable") or ""))


async def cluster_data(context: Context, snapshot: Snapshot, found: ClusterForesight) -> dict[str, Any]:
    """The calls and what is left alone, as data."""
    plan, live = found.plan, found.sight.live
    row = snapshot.one(CLUSTERS, context.name) or {}
    return {
        "waits": plan.waits,
        "unreachable": found.sight.out,
        "calls": [
            {
                "verb": action.verb,
                "object": action.key,
                "resource": action.resource,
                "purpose": action.purpose,
                "taken": sorted(action.against),
                "diff": _diff(action.key, action.live, _after(action)),
            }
            for action in plan.actions
        ],
        "unadopted": [
            {
                "object": item.key,
                "resource": item.resource,
                "managers": list(item.managers),
                "diff": _diff(item.key, live.get(item.key), plan.found.wanted[item.key].document),
            }
            for item in plan.comparison.unadopted
        ],
        "foreign": list(plan.comparison.foreign),
        "others": dict(plan.comparison.others),
        "unserved": list(row.get("unserved") or ()),
        "drift": [
            drift_text(key[1], item["drift"])
            for key, item in sorted(snapshot.table(CLUSTER_OBJECTS).items())
            if item["drift"]
        ],
    }


def _after(action: Action) -> Mapping[str, Any] | None:
    if action.verb == "forget":
        return action.live.document if action.live else None
    return action.document if action.verb == "apply" else None


def _diff(key: str, live: ClusterObject | None, document: Mapping[str, Any] | None) -> list[dict[str, Any]]:
    """What the cluster says of an object, and what it would; labels and annotations apart."""
    old, new = _said(live.document) if live else None, _said(document) if document else None
    return [difference(key, old, new)] if old != new else []


def _said(document: Mapping[str, Any]) -> bytes:
    body = {name: value for name, value in document.items() if name not in ("apiVersion", "kind", "metadata")}
    return yaml.safe_dump(body, sort_keys=True).encode()


async def resource_differences(context: Context) -> list[dict[str, Any]]:
    """Where the cluster's resources do not say what is wanted, asked live, as `difference` gives it; nothing is
    recorded. What is ours and no longer wanted is removed; what never was ours is left out."""
    snapshot = await context.snapshot()
    if not cluster_pools(context.name, snapshot.rows):
        return []
    found, look = await wishes(context, snapshot), await look_at_cluster(context)
    live = concerned(look, {*found.wanted, *found.known})
    items = []
    for key in sorted({*found.wanted, *found.known}):
        item, wish = live.get(key), found.wanted.get(key)
        if found.none or (wish is None and item is None):
            continue
        items += _diff(key, item, wish.document if wish else None)
    return items


async def pool_changes(context: Context, snapshot: Snapshot, pool: Pool) -> dict[str, Any]:
    """Of a plan's pool: the machines that MCO would bring to other files, and which."""
    before = applied_files(context.name, snapshot.rows, pool.name)
    targets = files_of_cluster(context.name, snapshot.rows, pool.name)
    machines = machine_pool(context.name, snapshot.rows, pool.name) or MachinePool(pool.name)
    nodes = sorted(key[1] for key, row in snapshot.table(NODES).items() if row["pool"] == pool.name)
    changes = [await _change(context, pool, before, after, nodes) for after in sorted(targets)]
    worst = changes[0]["disruption"] if changes else "none"
    return {
        "nodes": machines.machines or len(nodes),
        "behind": (machines.machines or len(nodes)) if changes else 0,
        "disruption": worst,
        "effective": worst,
        "reasons": changes[0]["reasons"] if changes else [],
        "changes": changes,
    }


async def _change(context: Context, pool: Pool, before: str, after: str, nodes: list[str]) -> dict[str, Any]:
    old = await set_contents(context, before) if before else {}
    impact = classify(old, await set_contents(context, after), pool.profile)
    return {
        "start": before,
        "files": after,
        "nodes": nodes,
        "disruption": impact.disruption,
        "effective": impact.disruption,
        "actions": list(impact.actions),
        "reasons": [*impact.reasons, "carried out by the Machine Config Operator"],
        "diff": await set_differences(context, before, after),
    }
