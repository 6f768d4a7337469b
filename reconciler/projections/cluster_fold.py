"""Folds of what a fleet's cluster says of its nodes, and of whether it answers."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from reconciler.events.catalogue import ClusterAccepted, ClusterRecovered, ClusterUnreachable, NodeConditionChanged
from reconciler.events.codec import plain
from reconciler.events.envelope import StoredEvent
from reconciler.projections.tables import FLEETS, NODES, Touched, Working, on_body


def _fleet(event: StoredEvent) -> Iterator[Touched]:
    yield FLEETS, (event.fleet,)


def _node(event: StoredEvent) -> Iterator[Touched]:
    yield NODES, (event.fleet, event.body.node)  # type: ignore[attr-defined]  # registered for NodeConditionChanged


def node_condition_changed(event: StoredEvent, body: NodeConditionChanged, rows: Working) -> None:
    said = {name: value for name, value in body.as_data().items() if name != "node"}
    rows.put(NODES, (event.fleet, body.node), cluster=plain(said) if body.uid else None)


def cluster_unreachable(event: StoredEvent, body: ClusterUnreachable, rows: Working) -> None:
    """Since when it cannot be asked stays when the reason becomes another one."""
    before = (rows.get(FLEETS, event.fleet) or {}).get("cluster") or {}
    since = before.get("since") or event.recorded_at.isoformat()
    rows.put(FLEETS, (event.fleet,), cluster={"unreachable": body.reason, "cause": body.cause, "since": since})


def cluster_accepted(event: StoredEvent, body: ClusterAccepted, rows: Working) -> None:  # noqa: ARG001  fold's form
    before = (rows.get(FLEETS, event.fleet) or {}).get("cluster") or {}
    rows.put(FLEETS, (event.fleet,), cluster={**before, "accepted": True})


def cluster_recovered(event: StoredEvent, body: ClusterRecovered, rows: Working) -> None:  # noqa: ARG001  fold's form
    rows.put(FLEETS, (event.fleet,), cluster=None)


HANDLERS: dict[str, Any] = {
    "NodeConditionChanged": (_node, on_body(node_condition_changed)),
    "ClusterUnreachable": (_fleet, on_body(cluster_unreachable)),
    "ClusterAccepted": (_fleet, on_body(cluster_accepted)),
    "ClusterRecovered": (_fleet, on_body(cluster_recovered)),
}
