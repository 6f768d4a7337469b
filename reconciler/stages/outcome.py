"""What a node's receipt, or its error, means in events."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from reconciler.errors import NodeError, NodeFault, NodeRefused
from reconciler.events.catalogue import (
    DriftRepaired,
    Event,
    FilesApplied,
    HealthChecked,
    NodeAdopted,
    NodeConverged,
    NodeDeferred,
    NodeFailed,
    NodeReleased,
    NodeReverted,
    RuntimeReloaded,
    RuntimeRestarted,
    StepAbandoned,
    StepStarted,
)
from reconciler.ports import Receipt

UNHEALTHY_BEFORE = "unhealthy-before"
UNCONFIRMED = "unconfirmed"
CHECK_FAILED = "health-check-failed"

Answer = Receipt | NodeError


def outcome_events(
    step: StepStarted,
    answer: Answer,
    confirmation: Answer | None,
    checks: Sequence[str],
    drift: Sequence[Mapping[str, Any]],
    asked: Mapping[str, Any],
) -> list[Event]:
    """The events of one finished step; the last one ends it.

    `confirmation` is the node's second answer where the change had to be confirmed, `checks` are the pool's own health
    checks, `drift` is what a repair set right, `asked` what a person asked for where the step is about that.
    """
    if isinstance(answer, NodeError):
        return [_error(step, answer)]
    if answer.reason == UNCONFIRMED:
        return _undid_itself(step, answer)
    events = _told(step, answer, checks)
    if answer.result == "released":
        return [*events, _given(step, answer, asked)]
    if confirmation is not None and not (isinstance(confirmation, Receipt) and confirmation.result == "confirmed"):
        if isinstance(confirmation, Receipt) and confirmation.reason == UNCONFIRMED:
            return [*events, *_undid_itself(step, confirmation)]
        why = _text(confirmation) if isinstance(confirmation, Receipt) else confirmation.what
        return [*events, NodeDeferred(step.node, step.pool, step.step, f"not confirmed: {why}", lost=True)]
    return [*events, *_ended(step, answer, confirmation if isinstance(confirmation, Receipt) else answer, drift)]


def _given(step: StepStarted, answer: Receipt, asked: Mapping[str, Any]) -> Event:
    reason = str(asked["reason"])
    if step.purpose == "adopt":
        return NodeAdopted(step.node, step.pool, step.step, reason)
    return NodeReleased(step.node, step.pool, step.step, bool(asked["restore"]), reason, answer.as_data())


def _undid_itself(step: StepStarted, answer: Receipt) -> list[Event]:
    """Nobody confirmed in time. That says nothing against the content: the caller may have been cut off."""
    reverted = NodeReverted(step.node, step.pool, step.step, answer.as_data())
    reason = "undid the change itself: it was not confirmed in time"
    return [reverted, NodeDeferred(step.node, step.pool, step.step, reason)]


def _told(step: StepStarted, answer: Receipt, checks: Sequence[str]) -> list[Event]:
    """What was done on the node before its outcome."""
    events: list[Event] = []
    if answer.result in ("stale", "refused") or answer.reason == UNHEALTHY_BEFORE:
        return events
    if answer.written or answer.restored:
        files = FilesApplied(step.node, step.pool, step.step, step.files, answer.written, answer.restored)
        events.append(files)
    for action in answer.action.split() if not answer.action.startswith("skipped") else ():
        if action.startswith("restart:"):
            events.append(RuntimeRestarted(step.node, step.pool, step.step, action))
        else:
            events.append(RuntimeReloaded(step.node, step.pool, step.step, action, answer.loaded))
    if checks and (answer.result in ("applied", "confirmed") or answer.reason == CHECK_FAILED):
        events.append(HealthChecked(step.node, step.pool, step.step, tuple(checks), answer.check))
    return events


def _ended(step: StepStarted, answer: Receipt, proof: Receipt, drift: Sequence[Mapping[str, Any]]) -> list[Event]:
    """The outcome; `proof` is the receipt that shows it."""
    if answer.result in ("stale", "refused"):
        return [StepAbandoned(step.node, step.pool, step.step, _text(answer))]
    if answer.result == "failed" and answer.reason == UNHEALTHY_BEFORE:
        what = f"the health check {answer.check} failed" if answer.check else "the runtime was not active"
        return [NodeDeferred(step.node, step.pool, step.step, f"{what} before the change")]
    events: list[Event] = []
    if answer.result in ("applied", "same", "confirmed"):
        if step.purpose == "repair" and drift:
            events.append(DriftRepaired(step.node, step.pool, step.step, tuple(drift)))
        events.append(NodeConverged(step.node, step.pool, step.step, step.files, step.base, proof.as_data()))
        return events
    reverted = answer.result == "reverted"
    if reverted:
        events.append(NodeReverted(step.node, step.pool, step.step, answer.as_data()))
    blame = "content" if (reverted or answer.action) and step.purpose not in ("release", "adopt") else "node"
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
