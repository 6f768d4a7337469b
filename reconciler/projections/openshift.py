"""Pools of `manage: cluster` from their rows: which they are, what was applied for them, and how their nodes stand."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

from reconciler.projections.tables import (
    CLUSTER_OBJECTS,
    CLUSTERS,
    MACHINE_POOLS,
    MACHINES,
    POOLS,
    RENDERS,
    Key,
    Row,
    rollout_of,
)
from reconciler.rollout.machine_pools import BUSY_STATES, FAILED_STATES, MachinePool
from reconciler.rollout.pool_checks import CLUSTER

Rows = Mapping[str, Mapping[Key, Row]]

OPENSHIFT_BASE = "openshift"
"""The base of pools that are laid over MCO's templates: the same for every node."""

MOST_NAMED = 3


def in_cluster(fleet: str, rows: Rows, pool: str | None) -> bool:
    """Whether a pool stands for a MachineConfigPool. Specs recorded by older versions do not say."""
    row = rows.get(POOLS.name, {}).get((fleet, pool or "")) or {}
    return (row.get("spec") or {}).get("manage") == CLUSTER


def cluster_pools(fleet: str, rows: Rows) -> tuple[str, ...]:
    """The fleet's pools of `manage: cluster`, sorted."""
    return tuple(sorted(key[1] for key in rows.get(POOLS.name, {}) if in_cluster(fleet, rows, key[1])))


def machine_pool(fleet: str, rows: Rows, pool: str) -> MachinePool | None:
    """The MachineConfigPool as it was last reported; None before that, and where the cluster has none."""
    row = rows.get(MACHINE_POOLS.name, {}).get((fleet, pool))
    if row is None or row["machines"] is None or not row["conditions"]:
        return None
    names = ("target", "current", "paused", "machines", "ready", "updated", "unavailable", "degraded", "settled")
    return MachinePool.from_data(pool, {**{name: row[name] for name in names}, "conditions": row["conditions"]})


def applied_files(fleet: str, rows: Rows, pool: str) -> str:
    """The file set that MCO renders from what the cluster has from us, or had at first contact; empty: not known."""
    row = rows.get(MACHINE_POOLS.name, {}).get((fleet, pool)) or {}
    first = (rows.get(CLUSTERS.name, {}).get((fleet,)) or {}).get("files") or {}
    return str(row.get("files") or first.get(pool) or "")


def waits_for_render(fleet: str, rows: Rows, pool: str) -> bool:
    """Whether MCO has not rendered yet what was applied: what it counts as updated has the config from before."""
    row, found = rows.get(MACHINE_POOLS.name, {}).get((fleet, pool)), machine_pool(fleet, rows, pool)
    return bool(row and found and row["config"] == found.target and not _rollout_is_over(fleet, rows, pool))


def files_of_cluster(fleet: str, rows: Rows, pool: str) -> set[str]:
    """The file set that MCO is to render for the pool and does not yet; empty where it does."""
    row = rows.get(RENDERS.name, {}).get((fleet, pool, "", OPENSHIFT_BASE))
    return {str(row["files"])} - {applied_files(fleet, rows, pool)} if row and row["files"] else set()


def files_to_judge(fleet: str, rows: Rows, pool: str) -> set[str]:
    """The same for the guard: where an object of ours drifted, MCO may not render it any more."""
    row = rows.get(RENDERS.name, {}).get((fleet, pool, "", OPENSHIFT_BASE))
    again = {str(row["files"])} if row and row["files"] and drift_of(fleet, rows, pool) else set()
    return files_of_cluster(fleet, rows, pool) | again


@dataclass(frozen=True)
class MachineStanding:
    """A node that MCO manages. `files`: see projections.status."""

    files: Literal["Unknown", "Failed", "Applying", "Unadopted", "Pending", "Drifted", "Converged"]
    reason: str
    applied: str | None
    since: datetime | None


def machine_standing(
    fleet: str, rows: Rows, pool: str, node: str, wanted: str | None, *, enforces: bool
) -> MachineStanding:
    """How a node stands to what its pool wants, as MCO reports it."""
    machine = rows.get(MACHINES.name, {}).get((fleet, node))
    found, applied = machine_pool(fleet, rows, pool), applied_files(fleet, rows, pool)
    if machine is None or found is None:
        return MachineStanding("Unknown", _unseen(fleet, rows), None, None)
    has = applied if applied and machine["current"] == found.target and machine["state"] == "Done" else None
    if machine["state"] in FAILED_STATES:
        return MachineStanding("Failed", f"{machine['state']}: {machine['reason']}", has, machine["since"])
    if machine["state"] in BUSY_STATES:
        return MachineStanding("Applying", f"{machine['state']}: {machine['desired']}", has, machine["since"])
    if not enforces:
        return MachineStanding("Unadopted", "pool is in observe mode", has, machine["since"])
    if wanted is None:
        return MachineStanding("Unknown", "nothing is rendered for it yet", has, machine["since"])
    if has != wanted or not _rollout_is_over(fleet, rows, pool):
        return MachineStanding("Pending", _behind(machine, found, applied, wanted), None, None)
    if drifted := drift_of(fleet, rows, pool):
        return MachineStanding("Drifted", drifted[0], has, machine["since"])
    return MachineStanding("Converged", "", has, machine["since"])


def drift_of(fleet: str, rows: Rows, pool: str) -> list[str]:
    """The objects of ours that somebody changed, in words; none where the pool ignores that."""
    if rows[POOLS.name][fleet, pool]["spec"]["drift"] == "ignore":
        return []
    objects = sorted(rows.get(CLUSTER_OBJECTS.name, {}).items())
    return [drift_text(key, row["drift"]) for (_, key), row in objects if row["drift"]]


def _behind(machine: Row, found: MachinePool, applied: str, wanted: str) -> str:
    """What a node waits for that does not have what is wanted."""
    if applied != wanted:
        return "the resources are not applied yet"
    if found.target in (machine["current"], ""):
        return "waits for the Machine Config Operator to render it"
    return f"has {machine['current']}, is to get {found.target}"


def _unseen(fleet: str, rows: Rows) -> str:
    cluster = rows.get(CLUSTERS.name, {}).get((fleet,)) or {}
    return str(cluster.get("unreachable") or "the Machine Config Operator has told nothing of it yet")


def _rollout_is_over(fleet: str, rows: Rows, pool: str) -> bool:
    row = rows.get(POOLS.name, {}).get((fleet, pool))
    rollout = rollout_of(rows, row) if row else None
    return rollout is None or rollout["state"] != "progressing"


def blocked(fleet: str, rows: Rows, pool: str) -> str:
    """What of a cluster keeps the pool from what is wanted and is not MCO's usual pace; empty where nothing does."""
    cluster = rows.get(CLUSTERS.name, {}).get((fleet,)) or {}
    found, spec = machine_pool(fleet, rows, pool), rows[POOLS.name][fleet, pool]["spec"]
    said = [
        str(cluster.get("unreachable") or ""),
        *_refused(rows),
        *drift_of(fleet, rows, pool),
        not_ours(cluster) if spec["mode"] == "enforce" else "",
        "" if found or not cluster else f"the cluster has no MachineConfigPool {pool}",
        found.trouble if found else "",
    ]
    return "; ".join(filter(None, said))


def _refused(rows: Rows) -> list[str]:
    """The objects that the API refused, in words."""
    objects = sorted(rows.get(CLUSTER_OBJECTS.name, {}).items())
    return [f"{key} is refused: {row['refused']['reason']}" for (_, key), row in objects if row["refused"]]


def drift_text(key: str, drift: Sequence[Mapping[str, Any]]) -> str:
    """Who changed which fields of an object of ours, in words."""
    if not drift:
        return ""
    first, more = drift[0], len(drift) - 1
    who = f"{first['manager']} ({first['operation']}, {first['time']})" if first["manager"] else "nobody known"
    verb = {"missing": "taken away", "extra": "added"}.get(first["kind"], "changed")
    what = f"{first['path']} was {verb}" if first["path"] else f"it was {verb}"
    return f"{key} drifted: {what} by {who}" + (f" and {more} more" if more else "")


def is_gone(row: Row) -> bool:
    """Whether an object of ours was last seen removed by somebody."""
    return any((item["path"], item["kind"]) == ("", "missing") for item in row["drift"] or ())


def not_ours(cluster: Mapping[str, Any]) -> str:
    """Why nothing is applied, as far as the cluster's other objects are the reason."""
    if cluster.get("unserved"):
        return f"the cluster does not serve {', '.join(cluster['unserved'])}: install the CustomResourceDefinition"
    taken = cluster.get("taken") or {}
    waiting = [item["key"] for item in cluster.get("unadopted") or () if item["key"] not in taken]
    return of_another_log(cluster.get("others") or {}) or not_adopted(waiting)


def of_another_log(others: Mapping[str, str]) -> str:
    """That objects belong to another installation, or to another fleet of this one, or nothing."""
    if not others:
        return ""
    key, owner = min(others.items())
    whose = owner if owner.startswith("fleet ") else f"another log ({owner})"
    return f"{key} belongs to {whose}: take reconciler.dev/log off it, or out of Git"


def not_adopted(keys: Sequence[str]) -> str:
    """That objects wait for a person to take them, or nothing."""
    if not keys:
        return ""
    more = f" and {len(keys) - MOST_NAMED} more" if len(keys) > MOST_NAMED else ""
    return (
        f"{', '.join(keys[:MOST_NAMED])}{more} {'was' if len(keys) == 1 else 'were'} there before us and not "
        "adopted: look at `reconciler plan`, then `reconciler adopt --cluster --reason TEXT`"
    )
