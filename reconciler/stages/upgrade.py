"""What a newer renderer would make of what is recorded; it touches nobody until the next real change (DESIGN §7)."""

from __future__ import annotations

from typing import Any

from reconciler.projections.desired import Desired
from reconciler.projections.tables import NODE_STATES, RENDERS
from reconciler.registries.render import RENDERER_VERSION
from reconciler.stages.context import Context
from reconciler.stages.differences import set_differences
from reconciler.stages.project import inputs_of, keep_rendered, render_unit, units


async def renderer_differences(context: Context) -> list[dict[str, Any]]:
    """Per pool and base (and held node) whose recorded files are not what the same inputs give today, the difference.

    What a hold gives back byte for byte is not rendered, and left out. The context must stand on an overlay: what is
    rendered is kept as blobs.
    """
    snapshot = await context.snapshot()
    desired = Desired(context.name, snapshot.rows)
    items = []
    for unit in units(snapshot, desired):
        row = snapshot.one(RENDERS, context.name, unit.pool, unit.node, unit.base)
        chosen, inputs = await inputs_of(context, desired, unit)
        if row is None or row["inputs"] != inputs or desired.recorded_files(unit.pool, unit.node, unit.base, inputs):
            continue  # the next pass renders it anyway, or a hold decides
        outcome = await render_unit(context, desired.pools[unit.pool], chosen, unit)
        files = (await keep_rendered(context, outcome))[0] if outcome.ok else ""
        if files != row["files"]:
            nodes = [name for name, state in snapshot.table(NODE_STATES).items() if state["files"] == row["files"]]
            items.append(
                {
                    "pool": unit.pool,
                    "node": unit.node or None,
                    "base": unit.base,
                    "nodes": sorted(key[1] for key in nodes),
                    "recordedWith": row["renderer"],
                    "renderer": RENDERER_VERSION,
                    "problems": [str(problem) for problem in outcome.problems if problem.severity == "error"],
                    "diff": await set_differences(context, str(row["files"]), files) if files else [],
                }
            )
    return items
