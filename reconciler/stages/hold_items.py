"""Holds as data, for people: what each keeps in force, what it refuses, and how Git stands to it."""

from __future__ import annotations

from typing import Any

from reconciler.ports import Snapshot
from reconciler.projections.desired import Desired
from reconciler.projections.holds import Standing, key_of, standings
from reconciler.projections.status import is_overdue
from reconciler.projections.tables import POOLS
from reconciler.stages.context import Context
from reconciler.stages.held import said_of


async def hold_items(context: Context, snapshot: Snapshot) -> list[dict[str, Any]]:
    """The holds, the oldest first, each entry with what Git says now and the command that accepts it."""
    desired = Desired(context.name, snapshot.rows)
    found = {standing.key: standing for standing in standings(desired, await said_of(context, desired))}
    return [
        {
            "name": row["hold"],
            "scope": row["node"] or row["pool"] or "fleet",
            "position": row["position"],
            "reason": row["reason"],
            "actor": row["actor"],
            "since": row["since"].isoformat().replace("+00:00", "Z"),
            "until": row["due"],
            "overdue": is_overdue(row, context.clock.now()),
            "untilFixed": bool(row["until_fixed"]),
            "entries": [_entry(snapshot, desired, found[key_of(row["hold"], entry)]) for entry in row["entries"]],
        }
        for row in desired.holds
    ]


def _entry(snapshot: Snapshot, desired: Desired, standing: Standing) -> dict[str, Any]:
    entry, restored = standing.entry, standing.entry["restored"]
    commits = {str((snapshot.one(POOLS, snapshot.fleet, pool) or {}).get("commit")) for pool, _ in standing.places}
    accept = f"reconciler hold lift {standing.hold} --accept {min(commits)[:12]} --reason TEXT" if commits else ""
    versions = [desired.git(pool).get(entry["resource"]) for pool, _ in standing.places]
    return {
        "id": entry["id"],
        "resource": entry["resource"],
        "baseline": bool(entry.get("baseline")),
        "scope": entry["scope"],
        "restored": restored["content"] if restored else None,
        "restoredCommit": restored["commit"] if restored else None,
        "refused": sorted(content["content"] for content in entry["refused"]),
        "git": sorted({version.content for version in versions if version}),
        "gitIs": "restored" if standing.git == "agreed" else standing.git,
        "left": list(standing.left),
        "accept": accept if standing.git == "other" else "",
    }
