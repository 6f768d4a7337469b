"""Fold of what contradicts the log, and of the fence epoch that a person's acceptance began."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from reconciler.events.catalogue import RestoreAccepted, RestoreDetected
from reconciler.events.codec import plain
from reconciler.events.envelope import StoredEvent
from reconciler.projections.tables import RESTORES, Touched, Working, on_body


def _touched(event: StoredEvent) -> Iterator[Touched]:
    yield RESTORES, (event.fleet,)


def restore_detected(event: StoredEvent, body: RestoreDetected, rows: Working) -> None:
    evidence = {"items": plain(body.evidence), "more": body.more}
    rows.put(RESTORES, (event.fleet,), evidence=evidence, detected_at=event.recorded_at)


def restore_accepted(event: StoredEvent, body: RestoreAccepted, rows: Working) -> None:
    rows.put(RESTORES, (event.fleet,), evidence=None, detected_at=None, epoch=body.epoch)


HANDLERS: dict[str, Any] = {
    "RestoreDetected": (_touched, on_body(restore_detected)),
    "RestoreAccepted": (_touched, on_body(restore_accepted)),
}
