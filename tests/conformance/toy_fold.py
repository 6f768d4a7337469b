"""A small fold for the tests of the store: enough columns of each kind, and reads of earlier rows."""

from __future__ import annotations

from collections.abc import Sequence

from reconciler.events.catalogue import NodeRegistered, NodeRemoved, SourceRecovered, SourceUnreachable
from reconciler.events.envelope import StoredEvent
from reconciler.projections.tables import FLEETS, NODE_STATES, NODES, Touched, Working


def touches(event: StoredEvent) -> Sequence[Touched]:
    match event.body:
        case NodeRegistered() | NodeRemoved():
            key = (event.fleet, event.body.node)
            return [(FLEETS, (event.fleet,)), (NODES, key), (NODE_STATES, key)]
        case _:
            return [(FLEETS, (event.fleet,))]


def apply(event: StoredEvent, working: Working) -> None:
    """`fleets.waiting` lists the nodes in the order in which they came, so that order matters."""
    key = (event.fleet,)
    waiting = list((working.get(FLEETS, *key) or {}).get("waiting") or [])
    match event.body:
        case NodeRegistered(node=node):
            working.put(FLEETS, key, waiting=(*waiting, node))
            working.put(
                NODES, (event.fleet, node), pool=event.body.pool, spec=event.body.spec, commit=event.body.commit
            )
            working.put(
                NODE_STATES,
                (event.fleet, node),
                generation=event.version,
                refused=False,
                converged_at=event.recorded_at,
            )
        case NodeRemoved(node=node):
            working.put(FLEETS, key, waiting=tuple(name for name in waiting if name != node))
            working.drop(NODES, (event.fleet, node))
            working.drop(NODE_STATES, (event.fleet, node))
        case SourceUnreachable(reason="fold: fail"):
            working.get(NODES, event.fleet, "not touched")
        case SourceUnreachable(reason=reason):
            working.put(FLEETS, key, unreachable=reason, unreachable_since="2026-01-31T09:00:00Z")
        case SourceRecovered():
            working.put(FLEETS, key, unreachable=None, unreachable_since=None)
        case _:
            pass


def handles(event_type: str) -> bool:
    return True
