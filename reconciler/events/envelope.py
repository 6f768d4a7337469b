"""The envelope of an event: what is asked to be appended, and what then stands in the log."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple

from reconciler.events.catalogue import Event

EVENT_NAMESPACE = uuid.UUID("6f0c1f5e-5d0a-5a53-9f3c-7e2b1c1f4d10")
"""Namespace of the version 5 UUIDs by which a repeated append is recognised."""


@dataclass(frozen=True, slots=True)
class Actor:
    """Who caused an event: how they were authenticated, and as whom. Never a free flag.

    `kind` is `service` or `login`. `subject` is what was proven (`login:alice@host`, `service@host`), `session`
    the database session's user (filled in by the store), `claimed` a name the caller only claims.
    """

    kind: str
    subject: str
    session: str = ""
    claimed: str = ""

    def as_data(self) -> Mapping[str, str]:
        return {"kind": self.kind, "subject": self.subject, "session": self.session, "claimed": self.claimed}


@dataclass(frozen=True, slots=True)
class NewEvent:
    """An event to append. `correlation_id` is the root cause's event id, `causation_id` the direct cause's."""

    event_id: uuid.UUID
    fleet: str
    stream: str
    body: Event
    actor: Actor
    correlation_id: uuid.UUID
    causation_id: uuid.UUID | None = None


class StoredEvent(NamedTuple):
    """A row of the log. `position` is gapless and in commit order; `version` counts within the stream from 1.

    `text` is the canonical JSON of the body exactly as hashed; `group` is the position of the first event of the
    append group (events appended in one transaction).
    """

    position: int
    event_id: uuid.UUID
    fleet: str
    stream: str
    version: int
    type: str
    schema_version: int
    body: Event
    text: str
    actor: Actor
    tool_version: str
    correlation_id: uuid.UUID
    causation_id: uuid.UUID | None
    group: int
    recorded_at: datetime
    previous_hash: bytes
    hash: bytes
    columns: Mapping[str, str | None]


def event_id(stream: str, expected_version: int, event_type: str, key: str = "") -> uuid.UUID:
    """The same decision on the same state gets the same id, so that a repeated append changes nothing."""
    return uuid.uuid5(EVENT_NAMESPACE, f"{stream}\n{expected_version}\n{event_type}\n{key}")


def fleet_stream(fleet: str) -> str:
    return f"fleet/{fleet}"


def pool_stream(fleet: str, pool: str) -> str:
    return f"pool/{fleet}/{pool}"


def node_stream(fleet: str, node: str) -> str:
    return f"node/{fleet}/{node}"


def stream_of(fleet: str, body: Event) -> str:
    """The stream an event belongs to, by its type's scope."""
    if body.scope == "pool":
        return pool_stream(fleet, str(getattr(body, "pool")))  # noqa: B009  every pool-scoped event has the field
    if body.scope == "node":
        return node_stream(fleet, str(getattr(body, "node")))  # noqa: B009  every node-scoped event has the field
    return fleet_stream(fleet)
