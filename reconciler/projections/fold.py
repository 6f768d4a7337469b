"""The fold: which rows an event touches, and what it makes of them. One function per type of event.

`touches` names every row an event reads or writes from the event alone, so that a store can fetch the rows of a
whole batch at once; `apply` then changes them in memory. Replaying the log from event 1 gives the same rows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from reconciler.events.envelope import StoredEvent
from reconciler.projections import (
    cluster_fold,
    desired_fold,
    drain_fold,
    guard_fold,
    node_fold,
    restore_fold,
    rollout_fold,
)
from reconciler.projections.tables import Touched, Working

FOLD_VERSION = 3
"""Raised whenever the same log gives other rows: a fold or a read table changed. `db upgrade` then rebuilds them."""

Touch = Callable[[StoredEvent], Iterable[Touched]]
Apply = Callable[[StoredEvent, Working], None]
HANDLERS: dict[str, tuple[Touch, Apply]] = {
    **cluster_fold.HANDLERS,
    **desired_fold.HANDLERS,
    **drain_fold.HANDLERS,
    **guard_fold.HANDLERS,
    **node_fold.HANDLERS,
    **restore_fold.HANDLERS,
    **rollout_fold.HANDLERS,
}


def touches(event: StoredEvent) -> Sequence[Touched]:
    """The rows the event reads or writes; none for events that only tell."""
    handler = HANDLERS.get(event.type)
    return tuple(handler[0](event)) if handler else ()


def apply(event: StoredEvent, working: Working) -> None:
    """Change the rows of `working` as the event says."""
    handler = HANDLERS.get(event.type)
    if handler:
        handler[1](event, working)


def handles(event_type: str) -> bool:
    """Whether events of the type touch any row."""
    return event_type in HANDLERS


class LogFold:
    """The three functions as the object a store takes."""

    def touches(self, event: StoredEvent) -> Sequence[Touched]:
        return touches(event)

    def apply(self, event: StoredEvent, working: Working) -> None:
        apply(event, working)

    def handles(self, event_type: str) -> bool:
        return handles(event_type)
