"""Which pools have completed their content, for those that come `after` them; from rows alone."""

from __future__ import annotations

from collections.abc import Mapping

from reconciler.projections.desired import base_of, wanted_row
from reconciler.projections.openshift import files_of_cluster, in_cluster
from reconciler.projections.tables import NODE_STATES, NODES, POOLS, RENDERS, Key, Row, rollout_of
from reconciler.rollout.plan import STOPPED

Rows = Mapping[str, Mapping[Key, Row]]


def ahead(fleet: str, rows: Rows, pool: str) -> str:
    """What the pools of `after` still lack, in words; empty where all have completed the pool's content."""
    row = rows[POOLS.name][fleet, pool]
    found = (lacks(fleet, rows, other, row["commit"]) for other in row["spec"]["after"])
    return next((why for why in found if why), "")


def lacks(fleet: str, rows: Rows, pool: str, commit: str | None) -> str:
    """What a pool lacks to have completed the content of `commit`, in words; empty where it has."""
    row = rows[POOLS.name].get((fleet, pool))
    if row is None or not row["spec"]:
        return f"waits for pool {pool}, which is not there"
    if row["commit"] != commit:
        return f"waits for pool {pool}, which has not taken commit {(commit or 'none')[:12]}"
    rollout = rollout_of(rows, row) or {}
    state = rollout.get("state")
    if state in ("progressing", *STOPPED):
        return f"waits for pool {pool}, whose rollout is {state}"
    if in_cluster(fleet, rows, pool):
        to_come = files_of_cluster(fleet, rows, pool)
        return f"waits for pool {pool}, whose resources are not applied yet" if to_come else ""
    # A superseded rollout has completed nothing, also where its content is wanted again.
    ended = rollout if state == "completed" else row["completed"] or {}
    targets = ended.get("targets") or {}
    for (_, name), node in sorted(rows.get(NODES.name, {}).items()):
        if node["pool"] == pool and _is_behind(fleet, rows, pool, name, targets):
            return f"waits for pool {pool}: {name} does not have the content yet"
    return ""


def _is_behind(fleet: str, rows: Rows, pool: str, node: str, completed: Mapping[str, str]) -> bool:
    """Whether a node lacks files that no completed rollout of its pool has brought or deferred."""
    state = rows.get(NODE_STATES.name, {}).get((fleet, node)) or {}
    wanted = wanted_row(fleet, rows, pool, node, state)
    if wanted is None:
        return not state.get("unreachable")
    own = (fleet, pool, node, wanted["base"]) in rows.get(RENDERS.name, {})
    key = f"node:{node}" if own else base_of(fleet, rows, pool, state)
    behind = wanted["files"] != state.get("files") or bool(state.get("unproven"))
    return behind and completed.get(str(key)) != wanted["files"]
