"""What a node's receipt, or its error, means in events."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from reconciler.errors import NodeError, NodeFault, NodeRefused
from reconciler.events.catalogue import (
    DriftRepaired,
    Event,
    FilesApplied,
    NodeConverged,
    NodeDeferred,
    NodeFailed,
    NodeReverted,
    RuntimeReloaded,
    StepAbandoned,
    StepStarted,
)
from reconciler.ports import Receipt

UNHEALTHY_BEFORE = "unhealthy-before"


def outcome_events(step: StepStarted, answer: Receipt | NodeError, drift: Sequence[Mapping[str, Any]]) -> list[Event]:
    """The events of one finished step; the last one ends it. `drift` is what a repair set right."""
    if isinstance(answer, NodeError):
        return [_error(step, answer)]
    if answer.result in ("stale", "refused"):
        return [StepAbandoned(step.node, step.pool, step.step, _text(answer))]
    if answer.result == "failed" and answer.reason == UNHEALTHY_BEFORE:
        return [NodeDeferred(step.node, step.pool, step.step, "the runtime was not active before the change")]
    events: list[Event] = []
    if answer.written or answer.restored:
        files = FilesApplied(step.node, step.pool, step.step, step.files, answer.written, answer.restored)
        events.append(files)
    if answer.action and not answer.action.startswith("skipped"):
        events.append(RuntimeReloaded(step.node, step.pool, step.step, answer.action, answer.loaded))
    if answer.result in ("applied", "same"):
        if step.purpose == "repair":
            events.append(DriftRepaired(step.node, step.pool, step.step, tuple(drift)))
        events.append(NodeConverged(step.node, step.pool, step.step, step.files, step.base, answer.as_data()))
        return events
    reverted = answer.result == "reverted"
    if reverted:
        events.append(NodeReverted(step.node, step.pool, step.step, answer.as_data()))
    blame = "content" if reverted or answer.action else "node"
    failed = NodeFailed(step.node, step.pool, step.step, step.files, blame, _text(answer), reverted, answer.as_data())
    return [*events, failed]


def _error(step: StepStarted, error: NodeError) -> Event:
    if isinstance(error, NodeFault):
        return NodeFailed(step.node, step.pool, step.step, step.files, "node", error.what, False, {})
    if isinstance(error, NodeRefused):
        return StepAbandoned(step.node, step.pool, step.step, error.what)
    return NodeDeferred(step.node, step.pool, step.step, error.what, lost=True)


def _text(answer: Receipt) -> str:
    return f"{answer.reason}: {answer.detail}" if answer.detail else answer.reason
