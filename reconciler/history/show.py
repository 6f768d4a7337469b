"""One event: its cause and its consequences."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from reconciler.errors import UsageError
from reconciler.events.catalogue import CommitObserved, DriftDetected
from reconciler.events.envelope import StoredEvent
from reconciler.events.summaries import summary
from reconciler.history.events import about, author_of
from reconciler.ports import EventFilter
from reconciler.projections.consequences import Branch, consequences
from reconciler.queries import event_item
from reconciler.rollout.drift import RUNTIME
from reconciler.stages.context import Context
from reconciler.stages.points import resolve_position


async def show(context: Context, text: str) -> dict[str, Any]:
    """An event, the commit or decision it goes back to, its append group, and what that led to, as lists and as a tree.

    Two reads of the log, however much it is. Raises UsageError for a position that is not there.
    """
    position = await resolve_position(context, text) if not text.lstrip("#").isdigit() else int(text.lstrip("#"))
    found = await context.log.read(EventFilter(after=position - 1, until=position))
    if not found:
        raise UsageError(f"the log has no position {position}", remedy="see `reconciler history`")
    event = found[0]
    family = await context.log.read(EventFilter(context.name, correlation_id=event.correlation_id)) or found
    root = next((e for e in family if e.event_id == event.correlation_id), family[0])
    return {
        **event_item(event),
        "root": {**_line(root), **_author(root, family)},
        "appendGroup": [_line(e) for e in family if e.group == event.group],
        "consequences": [_line(e) for e in family if e.group > event.group],
        "tree": branch_data(consequences(family)),
        "differences": await _drift(context, event.body) if isinstance(event.body, DriftDetected) else [],
    }


def branch_data(branch: Branch) -> dict[str, Any]:
    """A branch as data."""
    return {
        "kind": branch.kind,
        "label": branch.label,
        "position": branch.position,
        "outcome": branch.outcome or None,
        "node": branch.node or None,
        "positions": branch.positions,
        "children": [branch_data(child) for child in branch.children],
    }


def _author(root: StoredEvent, family: Sequence[StoredEvent]) -> dict[str, Any]:
    """Whose the root is; a commit may come after what made it be seen."""
    commit = next((event.body for event in family if isinstance(event.body, CommitObserved)), None)
    return author_of(root, None) if root.body.is_a_persons else about(commit)


def _line(event: StoredEvent) -> dict[str, Any]:
    return {
        "position": event.position,
        "recordedAt": event.recorded_at.isoformat().replace("+00:00", "Z"),
        "type": event.type,
        "summary": summary(event.body),
    }


async def _drift(context: Context, body: DriftDetected) -> list[dict[str, Any]]:
    """Before and after of each drifted file, as `diff` shows them."""
    names = {item[side] for item in body.differs for side in ("expected", "observed") if len(item[side]) == 64}
    contents = await context.load_past(names)
    return [
        {
            "node": body.node,
            "path": item["path"],
            "kind": "changed",
            "from": contents.get(item["expected"], b"").decode(errors="replace"),
            "to": contents.get(item["observed"], b"").decode(errors="replace"),
        }
        for item in body.differs
        if item["path"] != RUNTIME
    ]
