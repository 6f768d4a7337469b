"""From an event to its row in the log and back: what every event log does alike."""

from __future__ import annotations

import hashlib
import json
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from functools import lru_cache
from typing import Any, NamedTuple

from reconciler.errors import EventConflict, LogCorrupt, WrongExpectation
from reconciler.events.catalogue import Event
from reconciler.events.chain import Content, Record, digest_of, event_hash, texts_of
from reconciler.events.codec import canonical, decode, recorded
from reconciler.events.envelope import Actor, NewEvent, StoredEvent
from reconciler.ports import Redaction


class Draft(NamedTuple):
    """An event ready to be appended: all that can be computed without knowing its place. `body` is as decoded."""

    content: Content
    texts: tuple[Any, ...]
    digest: bytes
    body: Event

    @classmethod
    def of(cls, content: Content, body: Event) -> Draft:
        """With texts and digest of the content."""
        texts = texts_of(content)
        return cls(content, texts, digest_of(texts), body)


class Head(NamedTuple):
    """The last event of the log."""

    position: int
    hash: bytes
    recorded_at: datetime | None


def draft(event: NewEvent, session: str, tool_version: str) -> Draft:
    """Raises InputRejected where the body holds what cannot be recorded."""
    text, body = recorded(event.body)
    column = body.__dict__.get  # for queries; an empty field is none
    content = Content(
        event.event_id,
        event.fleet,
        event.stream,
        body.type,
        body.schema_version,
        text,
        _actor_text(event.actor, session),
        tool_version,
        event.correlation_id,
        event.causation_id,
        column("node") or None,
        column("pool") or None,
        column("resource") or None,
        column("commit") or None,
    )
    return Draft.of(content, body)


def chained(
    drafts: Iterable[Draft], head: Head, versions: Mapping[str, int], recorded_at: datetime
) -> Iterator[tuple[Record, Draft]]:
    """The rows of one append group, linked to the head. `versions` are the streams' before it."""
    versions = dict(versions)
    moment = recorded_at if head.recorded_at is None else max(recorded_at, head.recorded_at)
    previous, group = head.hash, head.position + 1
    for position, item in enumerate(drafts, group):
        stream = item.content.stream
        version = versions[stream] = versions.get(stream, 0) + 1
        own = event_hash(previous, position, version, group, moment, item.digest)
        yield Record(position, version, group, moment, previous, own, item.content), item
        previous = own


def stored(record: Record, body: Event | None = None) -> StoredEvent:
    """The event in a row. `body`: its draft's, which is what the row is decoded to: live and replay see the same."""
    position, version, group, recorded_at, previous, own, content = record
    event_id, fleet, stream, kind, schema, text, actor, tool, root, cause, node, pool, resource, commit = content
    return StoredEvent(
        position,
        event_id,
        fleet,
        stream,
        version,
        kind,
        schema,
        decode(kind, schema, text) if body is None else body,
        text,
        _actor(actor),
        tool,
        root,
        cause,
        group,
        recorded_at,
        previous,
        own,
        {"node": node, "pool": pool, "resource": resource, "commit": commit},
    )


# Few actors cause many events.
@lru_cache(maxsize=1024)
def _actor_text(actor: Actor, session: str) -> str:
    return canonical(replace(actor, session=session).as_data(), "actor")


@lru_cache(maxsize=1024)
def _actor(text: str) -> Actor:
    return Actor(**json.loads(text))


def already_appended(drafts: Sequence[Draft], present: Mapping[uuid.UUID, Record]) -> list[Record] | None:
    """The rows of a batch that stands in the log whole and equal; None when it does not.

    Equal is what was decided: fleet, stream, type and data. Who repeats it, and with which version, is no difference.
    """
    if not drafts or not all(_same(draft.content, present.get(draft.content.event_id)) for draft in drafts):
        return None
    return [present[draft.content.event_id] for draft in drafts]


def _same(content: Content, record: Record | None) -> bool:
    return record is not None and _decision(content) == _decision(record.content)


def _decision(content: Content) -> tuple[object, ...]:
    return content.fleet, content.stream, content.type, content.schema_version, content.data


def check_expectations(expect: Mapping[str, int], versions: Mapping[str, int]) -> None:
    """Raises WrongExpectation naming the streams that moved on."""
    moved = [
        f"{stream} is at version {versions.get(stream, 0)}, not {version}"
        for stream, version in sorted(expect.items())
        if versions.get(stream, 0) != version
    ]
    if moved:
        raise WrongExpectation(
            "somebody else appended first: " + "; ".join(moved), remedy="read again and decide anew; this is retried"
        )


def check_unused(ids: Sequence[uuid.UUID], present: Iterable[uuid.UUID]) -> None:
    """Raises EventConflict when an event id of the batch is taken, or stands in the batch twice."""
    taken = sorted(str(event_id) for event_id in present)
    if not taken and len({event_id.int for event_id in ids}) == len(ids):
        return
    named = ", ".join(taken) or "one of the batch, twice"
    raise EventConflict(
        f"event ids are already used for other content, or for a part of this batch only: {named}",
        remedy="this is a fault of the caller: an event id stands for one decision",
    )


def check_blobs(
    wanted: Iterable[str], found: Mapping[str, bytes], redacted: Mapping[str, Redaction] | None = None
) -> None:
    """Raises LogCorrupt for a content that is missing or is not what its address says, ContentRedacted for one that is
    gone for ever."""
    for digest, why in (redacted or {}).items():
        raise why.error(digest)
    for digest in wanted:
        content = found.get(digest)
        if content is None or hashlib.sha256(content).hexdigest() != digest:
            fault = "is missing" if content is None else "does not match its address"
            raise LogCorrupt(f"blob {digest} {fault}", remedy="run `reconciler log verify`; restore from a backup")
