"""The hash chain: each event's hash covers all that stands in its row and, through its predecessor, all before it.

docs/reference/event-log.md states the exact form, so that anybody can check the chain without this code.
"""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Mapping
from datetime import UTC, datetime
from functools import lru_cache
from json.encoder import encode_basestring
from typing import NamedTuple

GENESIS = bytes(32)
"""The previous hash of the first event."""

FORM = "reconciler event 1"
"""First item of every digest's input: hashes of another form can never be taken for these."""

_quoted = encode_basestring
"""A string as canonical JSON."""


class Content(NamedTuple):
    """The part of a row that is known before its place in the log. Field names are column names."""

    event_id: uuid.UUID
    fleet: str
    stream: str
    type: str
    schema_version: int
    data: str
    actor: str
    tool_version: str
    correlation_id: uuid.UUID
    causation_id: uuid.UUID | None
    node: str | None
    pool: str | None
    resource: str | None
    commit_sha: str | None


class Record(NamedTuple):
    """A row of the log exactly as it stands there: place and hashes, then content."""

    position: int
    version: int
    append_group: int
    recorded_at: datetime
    previous_hash: bytes
    hash: bytes
    content: Content


def body_digest(content: Content) -> bytes:
    """SHA-256 over the canonical JSON array of FORM and every field of the content, in the order of `Content`."""
    event_id, fleet, stream, kind, schema_version, data, actor, tool_version, correlation_id, cause, *names = content
    # Composed by hand: an encoder of the whole array takes three times as long, for every event that is appended.
    texts = [_quoted(text) for text in (fleet, stream, kind)]
    more = [_quoted(text) for text in (data, actor, tool_version)]
    columns = ["null" if name is None else _quoted(name) for name in names]
    caused_by = "null" if cause is None else f'"{cause}"'
    items = (
        f'"{FORM}"',
        f'"{event_id}"',
        *texts,
        str(schema_version),
        *more,
        f'"{correlation_id}"',
        caused_by,
        *columns,
    )
    return _sha256(f"[{','.join(items)}]")


def event_hash(
    previous_hash: bytes, position: int, version: int, append_group: int, recorded_at: datetime, digest: bytes
) -> bytes:
    """SHA-256 over the canonical JSON array of FORM, the previous hash, the place in the log and the body digest."""
    place = f'{position},{version},{append_group},"{timestamp(recorded_at)}"'
    return _sha256(f'["{FORM}","{previous_hash.hex()}",{place},"{digest.hex()}"]')


@lru_cache(maxsize=16)  # all events of an append group have one
def timestamp(moment: datetime) -> str:
    """UTC with six digits of a second, as hashed: `2026-01-31T09:00:00.000000Z`."""
    return moment.astimezone(UTC).isoformat(timespec="microseconds")[:26] + "Z"


def _sha256(text: str) -> bytes:
    return hashlib.sha256(text.encode()).digest()


class Verifier:
    """Checks the rows of a log one after the other, in order of position, in constant memory per stream."""

    def __init__(self) -> None:
        self.events = 0
        self.head = GENESIS
        self.position = 0
        self.versions: dict[str, int] = {}
        self._group = 0
        self._recorded_at: datetime | None = None

    def check(self, record: Record) -> list[str]:
        """What is wrong with the next row; every problem names its position."""
        problems = [f"event #{record.position}: {problem}" for problem in self._problems(record)]
        self.events += 1
        self.head, self.position, self._group = record.hash, record.position, record.append_group
        self.versions[record.content.stream] = record.version
        self._recorded_at = record.recorded_at
        return problems

    def check_streams(self, recorded: Mapping[str, int]) -> list[str]:
        """After the last row: whether the streams end where their recorded heads say, so that no tail was cut off."""
        return [
            f"stream {stream}: its head is recorded as version {recorded.get(stream, 0)}, "
            f"but the log ends it at {self.versions.get(stream, 0)}"
            for stream in sorted(recorded.keys() | self.versions.keys())
            if recorded.get(stream, 0) != self.versions.get(stream, 0)
        ]

    def _problems(self, record: Record) -> list[str]:
        problems = []
        if record.position != self.position + 1:
            problems.append(f"the event before it should be #{record.position - 1}, but is #{self.position}")
        if record.previous_hash != self.head:
            problems.append("its previous hash is not the hash of the event before it")
        place = (record.position, record.version, record.append_group, record.recorded_at)
        if record.hash != event_hash(record.previous_hash, *place, body_digest(record.content)):
            problems.append("the row does not match its hash")
        stream = record.content.stream
        if record.version != self.versions.get(stream, 0) + 1:
            problems.append(f"version {record.version} of stream {stream} does not follow the one before it")
        if record.append_group not in {record.position, self._group}:
            problems.append(f"append group #{record.append_group} does not begin here and is not the open one")
        if self._recorded_at is not None and record.recorded_at < self._recorded_at:
            problems.append("it was recorded before the event before it")
        return problems
