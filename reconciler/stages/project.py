"""Project: render what is in force, once per distinct input, and record which files each base should have."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass

from reconciler.events.catalogue import FilesRendered, PlanBlocked
from reconciler.events.envelope import pool_stream
from reconciler.ports import Snapshot
from reconciler.projections.desired import Desired, base_files_of, base_of, render_inputs, shadowed_out
from reconciler.projections.openshift import OPENSHIFT_BASE, cluster_pools
from reconciler.projections.tables import CLUSTERS, NODE_STATES, POOLS, RENDERS
from reconciler.registries.evidence import Origins
from reconciler.registries.impact import classify
from reconciler.registries.model import BASE_PATHS, Origin, Rendered, RenderOptions, Resource, canonical_json, digest
from reconciler.registries.render import RENDERER_VERSION, render
from reconciler.rollout.pools import Pool
from reconciler.stages.context import Context, FileEntry, FileSet


@dataclass(frozen=True)
class Unit:
    """One thing to render: a pool's (or held node's) resources over one base."""

    pool: str
    node: str
    base: str
    base_files: Mapping[str, str | None]


async def project(context: Context) -> int:
    """Append FilesRendered for every unit whose inputs changed; returns how many were rendered."""
    snapshot = await context.snapshot()
    desired = Desired(context.name, snapshot.rows)
    rendered: dict[str, list[FilesRendered]] = {name: [] for name in desired.pools}
    blocked: dict[str, dict[str, Unit]] = {name: {} for name in desired.pools}
    for unit in units(snapshot, desired):
        answer = await _project_unit(context, snapshot, desired, unit)
        if isinstance(answer, FilesRendered):
            rendered[unit.pool].append(answer)
        elif answer:
            blocked[unit.pool].setdefault(answer, unit)
    for name in desired.pools:
        bodies = [*rendered[name], *_blocked(snapshot, name, blocked[name], cleared=bool(rendered[name]))]
        row = snapshot.one(POOLS, context.name, name)
        events = context.events(snapshot, bodies, correlation=row["cause"] if row else None)
        await context.append(events, snapshot, [pool_stream(context.name, name)])
    return sum(map(len, rendered.values()))


def units(snapshot: Snapshot, desired: Desired) -> list[Unit]:
    """Every distinct (pool, base) of the fleet's observed nodes, and each node that a hold sets (or set) apart."""
    own = {(key[1], key[2]) for key in snapshot.table(RENDERS) if key[2]}
    found: dict[tuple[str, str, str], Unit] = {}
    for pool in cluster_pools(snapshot.fleet, snapshot.rows):  # whatever nodes are known: MCO renders for all
        if (snapshot.one(POOLS, snapshot.fleet, pool) or {}).get("commit") is not None:
            found[pool, "", OPENSHIFT_BASE] = Unit(pool, "", OPENSHIFT_BASE, {})
    for name, node in desired.nodes.items():
        state = snapshot.one(NODE_STATES, snapshot.fleet, name) or {}
        base = base_of(snapshot.fleet, snapshot.rows, node.pool, state)
        if node.pool is None or base is None or node.pool not in desired.pools:
            continue
        row = snapshot.one(POOLS, snapshot.fleet, node.pool) or {}
        if row.get("commit") is None:
            continue  # the pool never accepted a commit: there is no wish yet, which is not an empty wish
        files = base_files_of(row, state)
        found[node.pool, "", base] = Unit(node.pool, "", base, files)
        if name in desired.held_nodes(node.pool) or (node.pool, name) in own:
            found[node.pool, name, base] = Unit(node.pool, name, base, files)
    return [found[key] for key in sorted(found)]


async def _project_unit(
    context: Context, snapshot: Snapshot, desired: Desired, unit: Unit
) -> FilesRendered | str | None:
    """The files of the unit, or why there are none; None where what is recorded still holds."""
    pool = desired.pools[unit.pool]
    chosen, inputs = await inputs_of(context, desired, unit)
    row = snapshot.one(RENDERS, context.name, unit.pool, unit.node, unit.base)
    if row is not None and row["inputs"] == inputs:
        return None
    if desired.at_baseline(unit.pool, unit.node):
        files, origins = await context.keep([FileSet(()).encode(), b"{}"])
        if pool.in_cluster:  # MCO renders what stood in the cluster at first contact
            files = ((snapshot.one(CLUSTERS, context.name) or {}).get("files") or {}).get(pool.name) or files
        disruption = await disruption_of(context, pool, unit, str(row["files"]) if row else "", files)
        return FilesRendered(unit.pool, unit.node, unit.base, inputs, RENDERER_VERSION, files, origins, disruption)
    recorded = desired.recorded_files(unit.pool, unit.node, unit.base, inputs)
    if recorded is not None:
        names = ("renderer", "files", "origins")
        renderer, files, origins = (str(recorded[name]) for name in names)
    else:
        outcome = await render_unit(context, pool, chosen, unit)
        if not outcome.ok:
            return "; ".join(str(problem) for problem in outcome.problems if problem.severity == "error")
        renderer = RENDERER_VERSION
        files, origins = await keep_rendered(context, outcome)
        if reason := await _redacted(context, {files, origins, *(file.sha256 for file in outcome.files)}):
            return reason
    old = str(row["files"]) if row else ""
    disruption = await disruption_of(context, pool, unit, old, files)
    return FilesRendered(unit.pool, unit.node, unit.base, inputs, renderer, files, origins, disruption)


async def _redacted(context: Context, blobs: set[str]) -> str:
    """Why files that were just rendered cannot be had: their bytes were taken away, and are not stored again."""
    gone = await context.blobs.redacted(blobs)
    for blob in gone:
        context.contents.pop(blob, None)
    return "; ".join(
        f"needs blob {blob[:12]}, which was redacted at #{why.position}: {why.reason} (write it otherwise in Git)"
        for blob, why in sorted(gone.items())
    )


async def inputs_of(context: Context, desired: Desired, unit: Unit) -> tuple[list[Resource], str]:
    """The resources that a unit is rendered from, and the digest of all that decides its bytes."""
    pool = desired.pools[unit.pool]
    if desired.at_baseline(unit.pool, unit.node):
        return [], digest({"baseline": unit.base})
    versions = shadowed_out(desired.in_force(unit.pool, unit.node), pool)
    resources = await context.load_resources(versions)
    chosen = [resources[version] for version in versions]
    return chosen, render_inputs(pool, [(r.identity, digest(r.body)) for r in chosen], unit.base)


async def render_unit(context: Context, pool: Pool, resources: list[Resource], unit: Unit) -> Rendered:
    """What today's renderer makes of a unit."""
    return render(resources, await options_over(context, pool, unit.base_files))


async def options_over(context: Context, pool: Pool, base_files: Mapping[str, str | None]) -> RenderOptions:
    """The pool's render options over captured base files (path → blob digest, None: absent)."""
    contents = await context.load(name for name in base_files.values() if name)
    return pool.render_options({path: contents[name] if name else None for path, name in base_files.items()})


def _blocked(snapshot: Snapshot, pool: str, reasons: Mapping[str, Unit], *, cleared: bool) -> list[PlanBlocked]:
    """The pool keeps what it has; said once per reason, and when nothing blocks it any more.

    `cleared`: what was said before is forgotten, since something was rendered.
    """
    row = snapshot.one(POOLS, snapshot.fleet, pool)
    before = None if cleared else row and row["blocked"]
    reason = "; ".join(sorted(reasons))
    if reason == (before or ""):
        return []
    bases = sorted({unit.base[:12] for unit in reasons.values()})
    return [PlanBlocked(pool, reason, f"base {', '.join(bases)}" if bases else "")]


async def keep_rendered(context: Context, outcome: Rendered) -> tuple[str, str]:
    """Store the files, their set and their provenance; the digests of the set and of the provenance."""
    entries = tuple(FileEntry(file.path, file.mode, file.sha256) for file in outcome.files)
    origins = {
        file.path: {key: [[o.resource, o.field] for o in found] for key, found in file.origins.items()}
        for file in outcome.files
    }
    await context.keep(file.content for file in outcome.files)
    kept = await context.keep([FileSet(entries).encode(), canonical_json(origins).encode()])
    return kept[0], kept[1]


def decode_origins(blob: bytes) -> Origins:
    """Provenance, as `keep_rendered` stored it."""
    return {
        path: {key: [Origin(*pair) for pair in found] for key, found in by_key.items()}
        for path, by_key in json.loads(blob).items()
    }


async def disruption_of(context: Context, pool: Pool, unit: Unit, old: str, new: str) -> str:
    """Class of the change from the set rendered before (or from the base) to this one."""
    before = await set_contents(context, old) if old else await _base_contents(context, pool, unit)
    after = await set_contents(context, new)
    return classify(before, after, pool.profile).disruption


async def set_contents(context: Context, name: str) -> dict[str, bytes | None]:
    """Path → bytes of a file set."""
    file_set = await context.load_file_set(name)
    contents = await context.load_past(entry.sha256 for entry in file_set.entries)
    return {entry.path: contents[entry.sha256] for entry in file_set.entries}


async def _base_contents(context: Context, pool: Pool, unit: Unit) -> dict[str, bytes | None]:
    """What is known to stand on the nodes before our first set: templates do not stand there yet."""
    if pool.base_directory:
        return {}
    contents = await context.load(name for name in unit.base_files.values() if name)
    return {path: contents[name] for path in BASE_PATHS if (name := unit.base_files.get(path))}
