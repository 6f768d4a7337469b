"""What the log says of a cluster's resources: what is wanted of them, and what we applied."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from reconciler.errors import UsageError
from reconciler.ports import ClusterLook, Snapshot
from reconciler.projections.desired import Desired, shadowed_out
from reconciler.projections.openshift import applied_files, cluster_pools, is_gone
from reconciler.projections.tables import CLUSTER_OBJECTS, CLUSTERS, POOLS
from reconciler.registries.model import Resource, canonical_json, digest
from reconciler.registries.parse import parse_file
from reconciler.registries.render import render
from reconciler.registries.validate import validate_document
from reconciler.rollout.cluster_objects import IMAGE, Known, Wanted, key_of, marked, to_apply
from reconciler.rollout.managed_fields import ClusterObject
from reconciler.rollout.pools import Pool
from reconciler.stages.context import Context
from reconciler.stages.project import beside, keep_rendered


@dataclass(frozen=True)
class Wishes:
    """What is wanted of the cluster, by key. `known`: what we applied; `apart`: why its pools want different things, so
    that nothing can be applied; `none`: no pool has taken a commit yet."""

    pools: tuple[Pool, ...]
    wanted: Mapping[str, Wanted]
    known: Mapping[str, Known]
    apart: str = ""
    none: bool = False


async def wishes(context: Context, snapshot: Snapshot) -> Wishes:
    """What the log says is wanted, holds and baselines counted."""
    desired = Desired(context.name, snapshot.rows)
    pools = tuple(desired.pools[name] for name in cluster_pools(context.name, snapshot.rows))
    known = await known_objects(context, snapshot)
    per_pool = [await _of_pool(context, snapshot, desired, pool, known) for pool in pools]
    told = [found for found in per_pool if found is not None]
    if not told:
        return Wishes(pools, {}, known, none=True)
    digests = {digest({key: wish.document for key, wish in found.items()}) for found in told}
    names = ", ".join(pool.name for pool in pools)
    apart = f"the pools {names} want different resources, and their cluster has one set: see `reconciler hold list`"
    return Wishes(pools, told[0], known, apart if len(digests) > 1 or len(told) < len(pools) else "")


async def _of_pool(
    context: Context, snapshot: Snapshot, desired: Desired, pool: Pool, known: Mapping[str, Known]
) -> dict[str, Wanted] | None:
    if (snapshot.one(POOLS, context.name, pool.name) or {}).get("commit") is None:
        return None  # there is no wish yet, which is not an empty wish
    if desired.at_baseline(pool.name):
        return await baseline(context, snapshot, known)
    versions = shadowed_out(desired.in_force(pool.name), pool)
    resources = await context.load_resources(versions)
    found = {}
    for version in versions:
        document = to_apply(resources[version], context.name, context.log.log_id)
        found[key_of(document)] = Wanted(version.resource, document, version.commit)
    return found


async def baseline(context: Context, snapshot: Snapshot, known: Mapping[str, Known]) -> dict[str, Wanted]:
    """What stood in the cluster at first contact, of what we applied since."""
    stood = await stood_before(context, snapshot)
    return {
        key: Wanted(ours.resource, marked(stood[key], context.name, context.log.log_id))
        for key, ours in known.items()
        if key in stood
    }


async def stood_before(context: Context, snapshot: Snapshot) -> dict[str, Mapping[str, Any]]:
    """The documents of first contact, by key."""
    names = (snapshot.one(CLUSTERS, context.name) or {}).get("baseline") or {}
    contents = await context.load(names.values())
    return {key: json.loads(contents[name]) for key, name in names.items()}


async def known_objects(context: Context, snapshot: Snapshot) -> dict[str, Known]:
    """What we applied and nobody removed, by key."""
    rows = {key[1]: row for key, row in sorted(snapshot.table(CLUSTER_OBJECTS).items()) if row["sent"]}
    contents = await context.load(name for row in rows.values() for name in (row["sent"], row["answer"]))
    return {
        key: Known(row["resource"], json.loads(contents[row["sent"]]), json.loads(contents[row["answer"]]), row["uid"])
        for key, row in rows.items()
    }


def refuse_part(snapshot: Snapshot, what: str, pool: str, where: str, *, pools: int) -> None:
    """A cluster has one set of resources: with so many pools or more, none of its parts is rolled back alone."""
    mine = cluster_pools(snapshot.fleet, snapshot.rows)
    if pool in mine and len(mine) >= pools:
        said = f"{what} is part of a cluster (manage: cluster), which has one set of resources"
        raise UsageError(said, where=where, remedy=f"roll the pools {', '.join(mine)} back together: leave {where} out")


def concerned(look: ClusterLook, keys: Collection[str]) -> dict[str, ClusterObject]:
    """The live objects that matter: of ConfigMaps, only those of `keys` and the one that the Image names."""
    spec = look.objects[IMAGE].document.get("spec") or {} if IMAGE in look.objects else {}
    named = {*keys, f"ConfigMap/{(spec.get('additionalTrustedCA') or {}).get('name', '')}"}
    return {key: item for key, item in look.objects.items() if not key.startswith("ConfigMap/") or key in named}


def holds_secret(document: Mapping[str, Any]) -> bool:
    """Whether a private key is in it: such a document never enters the log."""
    return "PRIVATE KEY-----" in canonical_json(document)


async def rendered_now(context: Context, snapshot: Snapshot, pool: Pool) -> str:
    """The file set that MCO renders from what the cluster has, drift of our objects counted; of one that was not kept,
    since it holds a private key, what we made of it."""
    rows = [row for _, row in sorted(snapshot.table(CLUSTER_OBJECTS).items()) if row["sent"]]
    if not any(row["drift"] for row in rows):
        return applied_files(context.name, snapshot.rows, pool.name)
    names = [str(row["drift_observed"] or row["answer"]) for row in rows if not is_gone(row)]
    contents = await context.load(names)
    documents = [json.loads(contents[name]) for name in names]
    documents += [resource.document for resource in await beside(context, Desired(context.name, snapshot.rows), pool)]
    return await rendered_from(context, documents, pool, context.clock.now())


async def rendered_from(context: Context, documents: Sequence[Mapping[str, Any]], pool: Pool, now: datetime) -> str:
    """The file set that MCO renders from these documents; empty where it cannot be told."""
    resources: list[Resource] = []
    for number, document in enumerate(documents):
        found, _ = parse_file(f"cluster/{number}.json", canonical_json(document).encode())
        for manifest in found:
            resource, _ = validate_document(manifest, "default", now)
            if resource is None:
                return ""
            resources.append(resource)
    outcome = render(resources, pool.render_options({}))
    return (await keep_rendered(context, outcome))[0] if outcome.ok else ""
