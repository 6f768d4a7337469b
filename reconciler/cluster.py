"""What people may ask about a cluster's resources: to adopt what was there before us, to take fields, to keep an edit.

Each appends what a person decided on the fleet's stream; what follows from it is the cycle's work.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

import yaml

from reconciler.errors import UsageError
from reconciler.events.catalogue import ClusterAdoptionAsked, ClusterDriftAdopted, ClusterRepairAsked, Event
from reconciler.events.envelope import fleet_stream
from reconciler.ports import Proposal, Snapshot
from reconciler.projections.desired import Desired
from reconciler.projections.openshift import cluster_pools, is_gone
from reconciler.projections.tables import CLUSTER_OBJECTS, CLUSTERS, Row
from reconciler.registries.model import canonical_json
from reconciler.stages.cluster_wishes import wishes
from reconciler.stages.context import Context, anew
from reconciler.stages.revert import reverted_files

STATUS = "see `reconciler status`"

Asked = tuple[Event, dict[str, Any]]


async def adopt(context: Context, *, keys: Collection[str] = (), reason: str, dry_run: bool = False) -> dict[str, Any]:
    """Take objects that were there before us, all or those of `keys`: Git's content is applied over theirs at the next
    pass. Raises UsageError where there is none to take."""

    def ask(now: Snapshot) -> Asked:
        row = now.one(CLUSTERS, context.name) or {}
        there = {
            item["key"]: item for item in row.get("unadopted") or () if item["key"] not in (row.get("taken") or {})
        }
        chosen = _chosen(there, keys, "was there before us and waits to be adopted")
        for key in chosen:
            if not there[key]["content"]:
                what = f"{key} holds a private key, so that it cannot be kept for a way back"
                raise UsageError(what, where="--resource", remedy="take the key out of it first")
        objects = {key: list(there[key]["managers"]) for key in chosen}
        return ClusterAdoptionAsked(objects, reason), {"objects": chosen, "managers": objects}

    return await _ask(context, ask, dry_run=dry_run)


async def differs(context: Context) -> bool:
    """Whether an object of ours drifted or was refused."""
    rows = (await context.snapshot()).table(CLUSTER_OBJECTS).values()
    return any(row["drift"] or row["refused"] for row in rows)


async def repair(
    context: Context, pool: str, *, keys: Collection[str] = (), reason: str, dry_run: bool = False
) -> dict[str, Any]:
    """Apply Git's content over what others made of our objects: of `keys` any drift; without, what was refused since
    others manage fields of it, or differs again after repairs. Raises UsageError where there is nothing of that."""

    def ask(now: Snapshot) -> Asked:
        if pool not in cluster_pools(context.name, now.rows):
            raise UsageError(f"pool {pool} is none of `manage: cluster`", where="--resource", remedy="leave it out")
        rows = {key[1]: row for key, row in sorted(now.table(CLUSTER_OBJECTS).items())}
        found = {key: row for key, row in rows.items() if row["refused"] or row["drift"]}
        chosen = _chosen(found, keys, "differs or was refused")
        objects = {key: _managers(found[key]) for key in chosen}
        return ClusterRepairAsked(objects, reason), {"pool": pool, "objects": chosen, "managers": objects}

    return await _ask(context, ask, dry_run=dry_run)


def _managers(row: Row) -> list[str]:
    conflicts = (row["refused"] or {}).get("conflicts") or ()
    return sorted({item["manager"] for item in (*(row["drift"] or ()), *conflicts)})


def _chosen(there: Mapping[str, Any], keys: Collection[str], what: str) -> list[str]:
    if not there:
        raise UsageError(f"no object of the cluster {what}", remedy=STATUS)
    for key in keys:
        if key not in there:
            raise UsageError(f"{key} is none that {what}", where="--resource", remedy=f"such are: {', '.join(there)}")
    return sorted(keys or there)


async def _ask(context: Context, ask: Callable[[Snapshot], Asked], *, dry_run: bool) -> dict[str, Any]:
    async def attempt() -> dict[str, Any]:
        now = await context.snapshot()
        body, done = ask(now)
        if not dry_run:
            await context.append(context.events(now, [body]), now, [fleet_stream(context.name)])
        return {**done, "dryRun": dry_run}

    return await anew(attempt)


async def keep_edit(context: Context, key: str, branch: str, *, reason: str) -> dict[str, Any]:
    """Write the cluster's content of an object into the config repository: a commit on top of the branch that the fleet
    follows, as a new branch. The object is ours again when that is merged.

    Raises UsageError where nothing differs, SourceError where Git cannot be reached or refuses.
    """
    now = await context.snapshot()
    resource, document = await _edited(context, now, key)
    text = yaml.safe_dump(document, sort_keys=False) if document else ""
    kept = await context.keep([text.encode(), canonical_json(document).encode()])
    restored = {"text": kept[0], "content": kept[1], "file": f"{key.replace('/', '-').lower()}.yaml"}
    entry = {"resource": resource, "scope": {"kind": "fleet", "name": ""}, "restored": restored if document else None}
    onto = await context.source.head()
    desired, change = Desired(context.name, now.rows), {"hold": key, "entries": [entry]}
    files = await reverted_files(context, desired, change, await context.source.manifests(onto))
    if not files:
        raise UsageError(f"Git says of {key} what the cluster says: there is nothing to push", where="--push-branch")
    message = f"Take {key} from the cluster: {reason}\n\nReconciler-Cluster-Object: {key}\n"
    commit = await context.source.push(branch, Proposal(onto, files, message, context.actor.subject))

    def ask(_: Snapshot) -> Asked:
        return ClusterDriftAdopted(resource, key, branch, commit, reason), {}

    await _ask(context, ask, dry_run=False)
    return {"object": key, "resource": resource, "branch": branch, "commit": commit, "files": sorted(files)}


async def _edited(context: Context, now: Snapshot, key: str) -> tuple[str, Mapping[str, Any] | None]:
    """The identity in Git of an object that differs, and the document that says what the cluster says (None: nothing);
    its labels and annotations stay as Git has them."""
    found = await wishes(context, now)
    row = now.one(CLUSTER_OBJECTS, context.name, key) or {}
    unadopted = {i["key"]: i for i in (now.one(CLUSTERS, context.name) or {}).get("unadopted") or ()}
    if key not in found.wanted or not (row.get("drift") or key in unadopted):
        names = [*unadopted, *(k[1] for k, r in sorted(now.table(CLUSTER_OBJECTS).items()) if r["drift"])]
        raise UsageError(f"{key} does not differ", where="--resource", remedy=f"such are: {', '.join(names) or 'none'}")
    wish = found.wanted[key]
    name = unadopted[key]["content"] if key in unadopted else row["drift_observed"]
    if key not in unadopted and is_gone(row):
        return wish.resource, None
    if not name:
        what = f"{key} holds a private key in the cluster, so that it cannot be written into Git"
        raise UsageError(what, where="--resource", remedy="take the key out of it first")
    live = json.loads((await context.load([name]))[name])
    given = await _as_written(context, now, found.pools[0].name, wish.resource)
    body = {field: value for field, value in live.items() if field not in ("apiVersion", "kind", "metadata")}
    return wish.resource, {**{field: given[field] for field in ("apiVersion", "kind", "metadata")}, **body}


async def _as_written(context: Context, now: Snapshot, pool: str, resource: str) -> Mapping[str, Any]:
    version = Desired(context.name, now.rows).in_force(pool)[resource]
    return (await context.load_resources([version]))[version].document


def objects_text(keys: Sequence[str], most: int = 5) -> str:
    """Keys in words."""
    return ", ".join(keys[:most]) + (f" and {len(keys) - most} more" if len(keys) > most else "")
