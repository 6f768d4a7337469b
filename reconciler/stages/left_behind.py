"""Pools and nodes that a commit may not take away yet, because of what is still to be done there (DESIGN §8)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from reconciler.ports import Snapshot
from reconciler.projections.openshift import in_cluster
from reconciler.projections.tables import HOLDS, NODE_STATES, NODES, POOLS
from reconciler.registries.model import Location, Problem
from reconciler.rollout.acceptance import Judgement


def left_behind(judgement: Judgement, snapshot: Snapshot) -> tuple[Problem, ...]:
    """`hold-stranded`: a pool or node that a hold names is gone. `node-cordoned`: a node that we cordoned, and that
    answers, leaves its pool or gets one of `manage: cluster`, so that nobody would uncordon it."""
    return (*_stranded(judgement, snapshot), *_cordoned(judgement, snapshot))


def _stranded(judgement: Judgement, snapshot: Snapshot) -> Iterator[Problem]:
    for row in snapshot.table(HOLDS).values():
        scopes = {(entry["scope"]["kind"], str(entry["scope"]["name"])) for entry in row["entries"]}
        for kind, name in sorted(scopes):
            known: Mapping[str, Any] = judgement.inventory.pools if kind == "pool" else judgement.inventory.nodes
            left = kind == "node" and snapshot.one(NODES, snapshot.fleet, name) is None  # its cluster, not by a commit
            if kind != "fleet" and name not in known and not left:
                message = f"the commit removes {kind} {name}, which hold {row['hold']} is about"
                remedy = f"lift it first: reconciler hold lift {row['hold']}"
                yield Problem("hold-stranded", message, None, f"{kind}/{name}", "", remedy)


def _cordoned(judgement: Judgement, snapshot: Snapshot) -> Iterator[Problem]:
    for (_, name), state in sorted(snapshot.table(NODE_STATES).items()):
        before, after = snapshot.one(NODES, snapshot.fleet, name), judgement.inventory.nodes.get(name)
        if not state["cordoned"] or state["unreachable"] or before is None or not before["pool"]:
            continue
        remedy = "once `reconciler get nodes` shows it without SchedulingDisabled: `reconciler sync --recheck`"
        if after is not None and after.pool is not None:
            taken = judgement.inventory.pools.get(after.pool)
            if taken and taken.in_cluster and not in_cluster(snapshot.fleet, snapshot.rows, before["pool"]):
                message = f"the commit gives node {name} of pool {before['pool']}, which reconciler cordoned, to a pool"
                message += " of manage: cluster"
                yield Problem("node-cordoned", message, taken.at("spec.manage"), f"Node/{name}", "", remedy)
            continue
        pool = snapshot.one(POOLS, snapshot.fleet, before["pool"]) or {}
        place = after.location if after else Location(pool["file"], pool["line"]) if pool.get("file") else None
        what = "removes" if after is None else "takes out of every pool"
        message = f"the commit {what} node {name} of pool {before['pool']}, which reconciler cordoned"
        yield Problem("node-cordoned", message, place, f"Node/{name}", "", remedy)
