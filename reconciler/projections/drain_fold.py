"""Fold of how a node's turn empties it: cordoned, drained, what keeps it from getting empty, uncordoned."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from reconciler.events.catalogue import DrainBlocked, NodeCordoned, NodeDrained, NodeUncordoned
from reconciler.events.codec import plain
from reconciler.events.envelope import StoredEvent
from reconciler.projections.node_fold import STEP_OVER
from reconciler.projections.tables import NODE_STATES, Key, Touched, Working, on_body


def cause_of(pod: Mapping[str, Any]) -> str:
    """What would have to change for a pod of DrainBlocked to go: many may wait for one budget."""
    return f"budget {pod['budget']}" if pod["budget"] else f"pod {pod['pod']}"


def _key(event: StoredEvent) -> Key:
    return event.fleet, event.body.node  # type: ignore[attr-defined]  # every event here has a node


def _state(event: StoredEvent) -> Iterator[Touched]:
    yield NODE_STATES, _key(event)


def node_cordoned(event: StoredEvent, body: NodeCordoned, rows: Working) -> None:  # noqa: ARG001  fold's form
    rows.put(NODE_STATES, _key(event), phase="cordoned")


def node_drained(event: StoredEvent, body: NodeDrained, rows: Working) -> None:  # noqa: ARG001  fold's form
    rows.put(NODE_STATES, _key(event), phase="drained", drain_blocked=None)


def drain_blocked(event: StoredEvent, body: DrainBlocked, rows: Working) -> None:
    """What the turn waits for; `said` has every cause that it ever waited for, and since when."""
    before = (rows.get(NODE_STATES, *_key(event)) or {}).get("drain_blocked") or {}
    said = {**(before.get("said") or {}), **{cause_of(pod): pod["since"] for pod in body.pods}}
    blocked = {"reason": body.reason, "pods": plain(body.pods), "more": body.more, "said": said}
    rows.put(NODE_STATES, _key(event), drain_blocked=blocked)


def node_uncordoned(event: StoredEvent, body: NodeUncordoned, rows: Working) -> None:  # noqa: ARG001  fold's form
    """Ends a step that was only there to uncordon; any other ends with its outcome."""
    row = rows.get(NODE_STATES, *_key(event)) or {}
    only = (row.get("step_data") or {}).get("purpose") == "uncordon"
    after = STEP_OVER if only else {"phase": "begun", "drain_blocked": None}
    rows.put(NODE_STATES, _key(event), cordoned=None, **after)


HANDLERS: dict[str, Any] = {
    "NodeCordoned": (_state, on_body(node_cordoned)),
    "NodeDrained": (_state, on_body(node_drained)),
    "DrainBlocked": (_state, on_body(drain_blocked)),
    "NodeUncordoned": (_state, on_body(node_uncordoned)),
}
