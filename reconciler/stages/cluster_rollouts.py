"""Follow what the Machine Config Operator makes of what was applied, until every machine of a pool has it."""

from __future__ import annotations

from collections.abc import Mapping

from reconciler.errors import ClusterError
from reconciler.events.catalogue import RolloutCompleted
from reconciler.events.envelope import pool_stream
from reconciler.ports import Snapshot
from reconciler.projections.openshift import OPENSHIFT_BASE, cluster_pools
from reconciler.projections.tables import MACHINE_POOLS, MACHINES, POOLS, Row, rollout_of
from reconciler.registries.model import CERTS_D
from reconciler.registries.runtime_config import load
from reconciler.rollout.machine_pools import FAILED_STATES, MachinePool, brings_new_config, stage
from reconciler.stages.cluster_watch import ClusterSight
from reconciler.stages.context import Context, Progress
from reconciler.stages.roll import Rolled


async def follow_rollouts(context: Context, sight: ClusterSight) -> list[Rolled]:
    """Complete the rollouts that MCO has brought to their end; how each pool stands."""
    snapshot, rolled = await context.snapshot(), []
    for name in cluster_pools(context.name, snapshot.rows):
        row, found = snapshot.table(POOLS)[context.name, name], sight.pools.get(name)
        done = Rolled(name, total=found.machines if found else 0, settled=found.updated if found else 0)
        done.failed = _degraded(snapshot, name)
        rolled.append(done)
        rollout = rollout_of(snapshot.rows, row)
        if rollout is None or rollout["state"] != "progressing":
            continue
        why = await _follow(context, snapshot, name, rollout, found)
        if why:
            done.waits = {name: why}
            done.moving = found is not None and not (found.trouble or found.pause)
            context.progress(Progress(f"pool {name}", why, done.settled, done.total, passing=True))
            continue
        updated, failed = done.settled, tuple(sorted(done.failed))
        body = RolloutCompleted(name, rollout["rollout"], updated, (), failed)
        events = context.events(snapshot, [body], correlation=row["cause"])
        await context.append(events, snapshot, [pool_stream(context.name, name)])
    return rolled


async def _follow(context: Context, snapshot: Snapshot, name: str, rollout: Row, found: MachinePool | None) -> str:
    """What the rollout waits for, or nothing where every machine has it."""
    applied = snapshot.one(MACHINE_POOLS, context.name, name) or {}
    files = rollout["targets"].get(OPENSHIFT_BASE)
    if applied.get("files") != files:
        return "the resources are not applied yet"
    if found is None:
        return f"the cluster has no MachineConfigPool {name}"
    before, after = await _files(context, applied.get("before")), await _files(context, files)
    if brings_new_config(before, after):
        reached = stage(found, applied["config"] or "", has_files=await _has_files(context, found, before, after))
    else:
        reached = "updated" if found.is_updated else "rolling"
    if said := found.trouble or found.pause:
        return "" if reached == "updated" else said
    if reached == "rendering":
        return "waits for the Machine Config Operator to render it"
    return "" if reached == "updated" else f"{found.updated} of {found.machines} machines have {found.target}"


async def _files(context: Context, name: str | None) -> dict[str, str]:
    """Path → digest of a file set."""
    if not name:
        return {}
    return {entry.path: entry.sha256 for entry in (await context.load_file_set(name)).entries}


async def _has_files(
    context: Context, found: MachinePool, before: Mapping[str, str], after: Mapping[str, str]
) -> bool | None:
    """Whether the pool's rendered config has the files that were to come: False where it has those from before, None
    where it has others, or cannot be read. Asked once for each rendered config."""
    key = (found.target, f"{sorted(after.items())}")
    if key not in context.rendered_configs and found.target and context.cluster_resources is not None:
        try:
            config = await context.cluster_resources.machine_config(found.target)
        except ClusterError:
            return None
        held = await context.load({*before.values(), *after.values()})
        said = [_says(config or {}, {path: held[name] for path, name in files.items()}) for files in (after, before)]
        context.rendered_configs[key] = True if said[0] else False if said[1] else None
    return context.rendered_configs.get(key)


def _says(config: Mapping[str, bytes], files: Mapping[str, bytes]) -> bool:
    """Whether a runtime would load the same from a MachineConfig's files as from these: MCO writes them with other
    spaces and comments. Certificates are in none."""
    wanted = {path: data for path, data in files.items() if not path.startswith(f"{CERTS_D}/")}
    return bool(wanted) and load({path: config.get(path) for path in wanted}) == load(wanted)


def _degraded(snapshot: Snapshot, pool: str) -> dict[str, str]:
    """The pool's nodes that MCO could not update, and why."""
    rows = {key[1]: row for key, row in snapshot.table(MACHINES).items() if row["pool"] == pool}
    return {name: row["reason"] or row["state"] for name, row in sorted(rows.items()) if row["state"] in FAILED_STATES}
