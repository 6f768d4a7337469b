"""Which pool a node is in: the one of highest priority whose nodeSelector its labels match."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

from reconciler.registries.model import Problem

if TYPE_CHECKING:
    from reconciler.rollout.pools import Node, Pool

TIE_REMEDY = "give one of the pools a higher priority, or narrow a nodeSelector"


def winners(pools: Mapping[str, Pool], labels: Mapping[str, str]) -> list[str]:
    """The matching pools of highest priority: none, one, or several that tie; sorted."""
    matching = [pool for pool in pools.values() if pool.selects(labels)]
    best = max((pool.spec["priority"] for pool in matching), default=0)
    return sorted(pool.name for pool in matching if pool.spec["priority"] == best)


def placement(pools: Mapping[str, Pool], labels: Mapping[str, str]) -> tuple[str | None, str]:
    """The pool that takes a node, and where several tie, so that none does, why."""
    found = winners(pools, labels)
    return (found[0] if len(found) == 1 else None), (f"{_tie(pools, found)}: {TIE_REMEDY}" if len(found) > 1 else "")


def _tie(pools: Mapping[str, Pool], tied: list[str]) -> str:
    return f"is in the pools {', '.join(tied)}, all with priority {pools[tied[0]].spec['priority']}"


def place_nodes(pools: Mapping[str, Pool], nodes: Mapping[str, Node]) -> tuple[dict[str, Node], list[Problem]]:
    """Each node with its pool. A tie by the labels of its document is an error, one by those of a cluster only keeps
    the node out of both pools; a pool without nodes is a warning."""
    placed: dict[str, Node] = {}
    problems: list[Problem] = []
    for name, node in nodes.items():
        tied = [] if node.discovered else winners(pools, node.spec["labels"])
        if len(tied) > 1:
            message = f"node {name} {_tie(pools, tied)}"
            problems.append(Problem("node-in-two-pools", message, node.location, f"Node/{name}", "", TIE_REMEDY))
        placed[name] = replace(node, pool=placement(pools, node.labels)[0] or (tied[0] if tied else None))
    used = {node.pool for node in placed.values()}
    for pool in pools.values():
        if pool.name not in used:
            message = f"pool {pool.name} selects no node"
            remedy = "check nodeSelector.matchLabels against the labels of the nodes"
            identity = f"NodePool/{pool.name}"
            problems.append(Problem("pool-selects-nothing", message, pool.location, identity, "", remedy, "warning"))
    return placed, problems
