"""Which pool a node is in: the one of highest priority whose nodeSelector its labels match."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

from reconciler.registries.model import Problem
from reconciler.rollout.nodes import Node

if TYPE_CHECKING:
    from reconciler.rollout.pools import Pool  # which places nodes by this module

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


def with_known(documents: Mapping[str, Node], known: Mapping[str, Node]) -> dict[str, Node]:
    """The nodes of documents with what the cluster said of each, and the discovered ones that no document names."""
    named = {node.node_name for node in documents.values()} | documents.keys()
    there = {node.node_name: node.cluster for node in known.values()}
    found = {name: replace(node, cluster=there.get(node.node_name, {})) for name, node in documents.items()}
    return found | {name: node for name, node in known.items() if node.discovered and name not in named}


def place_nodes(pools: Mapping[str, Pool], nodes: Mapping[str, Node]) -> tuple[dict[str, Node], list[Problem]]:
    """Each node with its pool. A tie by the labels of its document is an error, one by those of a cluster only keeps
    the node out of both pools; a pool without nodes is a warning."""
    placed: dict[str, Node] = {}
    problems: list[Problem] = []
    for name, node in nodes.items():
        pool, _ = placement(pools, node.labels)
        tied = [] if pool or node.discovered else winners(pools, node.spec["labels"])
        if tied:
            message = f"node {name} {_tie(pools, tied)}"
            problems.append(Problem("node-in-two-pools", message, node.location, f"Node/{name}", "", TIE_REMEDY))
        placed[name] = replace(node, pool=pool or next(iter(tied), None))
    used = {node.pool for node in placed.values()}
    for empty in pools.values():
        if empty.name not in used:
            message = f"pool {empty.name} selects no node"
            remedy = (
                "check nodeSelector.matchLabels against the labels of the Node documents, or of the cluster's nodes"
            )
            identity = f"NodePool/{empty.name}"
            problems.append(Problem("pool-selects-nothing", message, empty.location, identity, "", remedy, "warning"))
    return placed, problems
