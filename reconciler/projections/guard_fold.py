"""Folds of the lock-out guard: the latest judgement per pool, and what people gave up or approved for its content."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import Any

from reconciler.events.catalogue import GuardJudged, OverrideGranted
from reconciler.events.codec import plain
from reconciler.events.envelope import StoredEvent
from reconciler.projections.tables import GUARDS, Key, Touched, Working, on_body


def _key(event: StoredEvent) -> Key:
    return event.fleet, event.body.pool  # type: ignore[attr-defined]  # every event here has a pool


def touched(event: StoredEvent) -> Iterator[Touched]:
    yield GUARDS, _key(event)


def guard_judged(event: StoredEvent, body: GuardJudged, rows: Working) -> None:
    """What was said for content that is no longer to come is forgotten: the same content later is judged anew."""
    before: Mapping[str, Any] = rows.get(GUARDS, *_key(event)) or {}
    judged = {str(change["files"]) for change in body.changes}
    rows.put(
        GUARDS,
        _key(event),
        images=body.images,
        nodes=list(body.nodes),
        untold=plain(body.untold),
        unheard=list(body.unheard),
        judged_with=body.judged_with,
        changes=plain(body.changes),
        overrides=[o for o in before.get("overrides") or () if judged & set(o["files"])],
        approved=sorted(judged & set(before.get("approved") or ())),
    )


def override_granted(event: StoredEvent, body: OverrideGranted, rows: Working) -> None:
    before: Mapping[str, Any] = rows.get(GUARDS, *_key(event)) or {}
    given = {"files": list(body.files), "glob": body.glob, "reason": body.reason, "actor": event.actor.subject}
    rows.put(GUARDS, _key(event), overrides=[*(before.get("overrides") or ()), given])


def approve_files(event: StoredEvent, files: Collection[str], rows: Working) -> None:
    """A person's word that these file sets may come although nobody knows which images are needed."""
    before: Mapping[str, Any] = rows.get(GUARDS, *_key(event)) or {}
    rows.put(GUARDS, _key(event), approved=sorted({*(before.get("approved") or ()), *files}))


HANDLERS: dict[str, Any] = {
    "GuardJudged": (touched, on_body(guard_judged)),
    "OverrideGranted": (touched, on_body(override_granted)),
}
