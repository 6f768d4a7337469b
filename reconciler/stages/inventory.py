"""The nodes that the log knows, and what a commit makes of them."""

from __future__ import annotations

from collections.abc import Iterator

from reconciler.events.catalogue import Event, NodeChanged, NodeRegistered, NodeRemoved
from reconciler.events.codec import plain
from reconciler.ports import Snapshot
from reconciler.projections.tables import FLEETS, NODE_STATES, NODES, Row
from reconciler.rollout.nodes import Node
from reconciler.rollout.placement import placement
from reconciler.rollout.pools import Inventory, Pool

ACCEPT = "if it is the fleet's: `reconciler accept --cluster --reason TEXT`"


def node_of(name: str, row: Row) -> Node:
    """A node as recorded."""
    return Node(name, row["spec"], None, row["pool"], row["cluster"] or {}, bool(row["discovered"]))


def known_nodes(snapshot: Snapshot) -> dict[str, Node]:
    """All nodes as recorded, by name."""
    return {key[1]: node_of(key[1], row) for key, row in sorted(snapshot.table(NODES).items())}


def another_cluster(snapshot: Snapshot) -> str:
    """Why the settings are taken to lead to another cluster than the fleet's, and no person has said otherwise; or
    nothing. Nodes are found there by name, so that one of the same name would be taken for ours."""
    state = (snapshot.one(FLEETS, snapshot.fleet) or {}).get("cluster") or {}
    if state.get("cause") != "other" or state.get("accepted"):
        return ""
    return f"the cluster is not the fleet's: {state['unreachable']} ({ACCEPT})"


def kept_from_cluster(snapshot: Snapshot, pool: Pool, node: str) -> str:
    """Why nothing that is under way on the node goes on, since it would be asked of another cluster; or nothing."""
    if not (other := another_cluster(snapshot)):
        return ""
    row, state = snapshot.one(NODES, snapshot.fleet, node) or {}, snapshot.one(NODE_STATES, snapshot.fleet, node) or {}
    step = state.get("step_data") or {}
    drains = state.get("cordoned") or step.get("effective") == "drain" or step.get("purpose") == "uncordon"
    asks = (drains and pool.spec["drain"]["via"] == "kubernetes") or (row and row["spec"]["transport"] == "kubernetes")
    return other if asks else ""


def node_changes(inventory: Inventory, snapshot: Snapshot, commit: str) -> Iterator[Event]:
    """What a commit changes of the nodes. A discovered one changes with the pools that its labels put it in."""
    recorded = known_nodes(snapshot)
    for name, node in sorted(inventory.nodes.items()):
        known = recorded.get(name)
        told = (None if node.discovered else commit, node.spec, node.discovered)
        tie = "" if node.pool else placement(inventory.pools, node.labels)[1]
        if known is None:
            yield NodeRegistered(name, node.pool, *told, tie)
        elif (known.spec, known.pool, known.discovered) != (plain(node.spec), node.pool, node.discovered):
            yield NodeChanged(name, node.pool, *told, tie)
    for name in sorted(recorded.keys() - inventory.nodes.keys()):
        yield NodeRemoved(name, commit)
