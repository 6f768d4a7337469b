"""Discover: what the fleet's cluster says of its nodes becomes events, where it is new; it is asked by a watch.

Nodes that no document names come, move between pools with their labels, and leave; of those that a document names, the
conditions are recorded. While the cluster cannot be asked, all stay as they were last known.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from reconciler.errors import ClusterError, ClusterRefused
from reconciler.events.catalogue import (
    ClusterRecovered,
    ClusterUnreachable,
    Event,
    NodeChanged,
    NodeConditionChanged,
    NodeRegistered,
    NodeRemoved,
    NodeReset,
)
from reconciler.events.envelope import fleet_stream, node_stream
from reconciler.ports import ClusterNode, Snapshot
from reconciler.projections.desired import Desired
from reconciler.projections.tables import FLEETS, NODE_STATES, Row
from reconciler.rollout.nodes import Node
from reconciler.rollout.placement import placement
from reconciler.selector import matching
from reconciler.stages.context import Context, Progress
from reconciler.stages.inventory import another_cluster, known_nodes

KUBERNETES: Mapping[str, Any] = {"transport": "kubernetes"}
"""The spec of a discovered node, in which all else has its default."""


async def discover(context: Context) -> None:
    """Ask the cluster, if the fleet has one, and append what is new."""
    if context.cluster is None:
        return
    snapshot = await context.snapshot()
    state = (snapshot.one(FLEETS, context.name) or {}).get("cluster") or {}
    try:
        found = await context.cluster.nodes()
    except ClusterError as error:
        said = ": ".join(filter(None, (error.where, error.what)))
        refused = isinstance(error, ClusterRefused)
        body = ClusterUnreachable(f"{said}; {error.remedy}" if refused else said, "refused" if refused else "")
        await _unreachable(context, snapshot, state, body)
        return
    known = known_nodes(snapshot)
    if not state.get("accepted") and (why := _is_another(known, found)):
        await _unreachable(context, snapshot, state, ClusterUnreachable(why, "other"))
        return
    events = context.events(snapshot, [ClusterRecovered()]) if state else []
    changes = _Changes(context, snapshot, known).all(found)
    for bodies in changes.values():
        events += context.events(snapshot, bodies)
    if events:
        streams = {fleet_stream(context.name), *(node_stream(context.name, name) for name in changes)}
        await context.append(events, snapshot, streams)
        context.progress(Progress("discover", "nodes changed in the cluster", len(changes), len(found)))


async def _unreachable(context: Context, snapshot: Snapshot, state: Row, body: ClusterUnreachable) -> None:
    """Said once, a refusal once per reason: in how many ways a link can fail is no news, and that what may be another
    cluster does not answer makes it no more the fleet's."""
    if another_cluster(snapshot):
        return
    known = (state.get("unreachable"), state.get("cause"))
    if known[0] is None or known[1] != body.cause or (body.cause == "refused" and known[0] != body.reason):
        await context.append(context.events(snapshot, [body]), snapshot, [fleet_stream(context.name)])


def _is_another(known: Mapping[str, Node], found: Sequence[ClusterNode]) -> str:
    """Why the answer is not believed, or nothing: it has none of the nodes known, but others, as when a kubeconfig file
    points elsewhere. One node alone may well have been made anew. That there are none any more harms nobody."""
    before = {str(node.cluster["uid"]): node.node_name for node in known.values() if node.cluster}
    if not before or not found or before.keys() & {node.uid for node in found}:
        return ""
    if len(before) == 1 and set(before.values()) & {node.name for node in found}:
        return ""
    return f"it has none of the {len(before)} nodes known of it; unknown nodes there: {len(found)}"


class _Changes:
    """What an answer of the cluster changes of what the log knows, node by node."""

    def __init__(self, context: Context, snapshot: Snapshot, known: Mapping[str, Node]) -> None:
        self.selects = matching(context.fleet.node_selector)
        self.snapshot, self.known = snapshot, known
        self.pools = Desired(context.name, snapshot.rows).pools
        self.documents = {node.node_name: name for name, node in known.items() if not node.discovered}

    def all(self, found: Sequence[ClusterNode]) -> dict[str, list[Event]]:
        """By name, for each node of which there is news."""
        changes = {name: bodies for node in found for name, bodies in [self._of(node)] if bodies}
        there = {node.name for node in found}
        for name, node in self.known.items():
            if node.node_name in there:
                continue
            if node.discovered:
                changes[name] = [NodeRemoved(name, None)]
            elif node.cluster:
                changes[name] = [*self._moved(node, {}), NodeConditionChanged(name, "")]
        return changes

    def _of(self, found: ClusterNode) -> tuple[str, list[Event]]:
        name = self.documents.get(found.name)
        if name is not None:
            return name, self._documented(self.known[name], found)
        node = self.known.get(found.name)
        if node is not None and not node.discovered:
            return found.name, []  # a document has the name for another node of the cluster
        if not self.selects(found.labels):
            return found.name, [NodeRemoved(found.name, None)] if node else []
        return found.name, self._discovered(node, found)

    def _documented(self, node: Node, found: ClusterNode) -> list[Event]:
        return [*self._moved(node, found.labels), *self._conditions(node, found, found.labels)]

    def _moved(self, node: Node, labels: Mapping[str, str]) -> list[Event]:
        """A node of a document that its cluster's labels put elsewhere. Label by label, the document's word counts."""
        pool, tie = placement(self.pools, {**labels, **node.spec["labels"]})
        return [NodeChanged(node.name, pool, None, node.spec, reason=tie)] if pool != node.pool else []

    def _discovered(self, node: Node | None, found: ClusterNode) -> list[Event]:
        spec = Node(found.name, {**KUBERNETES, "labels": dict(found.labels)}).spec
        pool, tie = placement(self.pools, found.labels)
        bodies: list[Event] = []
        if node is None:
            bodies.append(NodeRegistered(found.name, pool, None, spec, discovered=True, reason=tie))
        elif (node.spec, node.pool) != (spec, pool):
            bodies.append(NodeChanged(found.name, pool, None, spec, discovered=True, reason=tie))
        return [*bodies, *self._conditions(node, found, None)]

    def _conditions(self, node: Node | None, found: ClusterNode, labels: Mapping[str, str] | None) -> list[Event]:
        """What is told of the node, where it is another than before; of why it is not Ready, the reason without its
        message, which may count seconds. None as `labels`: they stand in its spec. A Node object made anew may stand
        for another machine."""
        before = node.cluster if node else {}
        told = {name: getattr(found, name) for name in _TOLD}
        same = before and all(before[name] == told[name] for name in told if name != "reason")
        if same and _head(before["reason"]) == _head(found.reason) and labels in (None, before["labels"]):
            return []
        condition = NodeConditionChanged(found.name if node is None else node.name, **told, labels=labels or {})
        return [*self._reset(node, found), condition]

    def _reset(self, node: Node | None, found: ClusterNode) -> list[Event]:
        if node is None or not node.cluster or node.cluster["uid"] == found.uid:
            return []
        machine = (self.snapshot.one(NODE_STATES, self.snapshot.fleet, node.name) or {}).get("machine_id")
        another = machine and found.machine_id and machine != found.machine_id
        return [NodeReset(node.name, str(machine), found.machine_id)] if another else []


_TOLD = ("uid", "ready", "reason", "unschedulable", "cordoned_by", "runtime", "version", "created")
"""What is recorded of a node as its cluster tells it."""


def _head(reason: str) -> str:
    return reason.partition(":")[0]
