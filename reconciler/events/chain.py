"""The hash chain: each event's hash covers all that stands in its row and, through its predecessor, all before it.

docs/reference/event-log.md states the exact form, so that anybody can check the chain without this code.
"""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any, NamedTuple

import msgspec

GENESIS = bytes(32)
"""The previous hash of the first event."""

FORM = "reconciler event 1"
"""First item of every digest's input: hashes of another form can never be taken for these."""


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


class RawRecord(NamedTuple):
    """A flattened Record whose UUIDs and time are the text that is hashed: what a check of a whole log reads."""

    position: int
    version: int
    append_group: int
    recorded_at: str
    previous_hash: bytes
    hash: bytes
    event_id: str
    fleet: str
    stream: str
    type: str
    schema_version: int
    data: str
    actor: str
    tool_version: str
    correlation_id: str
    causation_id: str | None
    node: str | None
    pool: str | None
    resource: str | None
    commit_sha: str | None


def raw(record: Record) -> RawRecord:
    """The same row as text."""
    position, version, append_group, recorded_at, previous_hash, own, content = record
    place = (position, version, append_group, timestamp(recorded_at))
    return RawRecord._make((*place, previous_hash, own, *texts_of(content)))


def body_digest(content: Content) -> bytes:
    """SHA-256 over the canonical JSON array of FORM and every field of the content, in the order of `Content`."""
    return digest_of(texts_of(content))


def event_hash(
    previous_hash: bytes, position: int, version: int, append_group: int, recorded_at: datetime, digest: bytes
) -> bytes:
    """SHA-256 over the canonical JSON array of FORM, the previous hash, the place in the log and the body digest."""
    return _event_hash(previous_hash, (position, version, append_group, timestamp(recorded_at)), digest)


@lru_cache(maxsize=16)  # all events of an append group have one
def timestamp(moment: datetime) -> str:
    """UTC with six digits of a second, as hashed: `2026-01-31T09:00:00.000000Z`."""
    return moment.astimezone(UTC).isoformat(timespec="microseconds")[:26] + "Z"


def texts_of(content: Content) -> tuple[Any, ...]:
    """The fields with UUIDs as text."""
    event_id, *named, correlation_id, cause, node, pool, resource, commit = content
    own = str(event_id)
    root = own if correlation_id is event_id else str(correlation_id)
    return (own, *named, root, None if cause is None else str(cause), node, pool, resource, commit)


_encoded = msgspec.json.Encoder().encode


def digest_of(content: Sequence[Any]) -> bytes:
    """`body_digest` of the content's texts."""
    return hashlib.sha256(_encoded((FORM, *content))).digest()


def _event_hash(previous_hash: bytes, place: Sequence[Any], digest: bytes) -> bytes:
    position, version, append_group, recorded_at = place
    text = f'["{FORM}","{previous_hash.hex()}",{position},{version},{append_group},"{recorded_at}","{digest.hex()}"]'
    return hashlib.sha256(text.encode()).digest()


_PLACE = RawRecord._fields.index("previous_hash")


class Verifier:
    """Checks the rows of a log one after the other, in order of position, in constant memory per stream."""

    def __init__(self) -> None:
        self.events = 0
        self.head = GENESIS
        self.position = 0
        self.versions: dict[str, int] = {}
        self._group = 0
        self._recorded_at = ""

    def check(self, record: Record) -> list[str]:
        """What is wrong with the next row; every problem names its position."""
        return self.check_raw(raw(record))

    def check_raw(self, record: RawRecord) -> list[str]:
        """`check` of a row as text."""
        problems = [f"event #{record.position}: {problem}" for problem in self._problems(record)]
        self.events += 1
        self.head, self.position, self._group = record.hash, record.position, record.append_group
        self.versions[record.stream] = record.version
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

    def check_end(self, recorded: int) -> list[str]:
        """After the last row: whether the log reaches as far as the recorded heads of its streams do."""
        if recorded <= self.position:
            return []
        rest = f", as is all up to #{recorded}" if recorded > self.position + 1 else ""
        return [f"event #{self.position + 1}: missing{rest}: the end of the log was cut off"]

    def _problems(self, record: RawRecord) -> list[str]:
        problems = []
        if record.position != self.position + 1:
            problems.append(f"the event before it should be #{record.position - 1}, but is #{self.position}")
        if record.previous_hash != self.head:
            problems.append("its previous hash is not the hash of the event before it")
        place, content = record[:_PLACE], record[_PLACE + 2 :]
        if record.hash != _event_hash(record.previous_hash, place, digest_of(content)):
            problems.append("the row does not match its hash")
        stream = record.stream
        if record.version != self.versions.get(stream, 0) + 1:
            problems.append(f"version {record.version} of stream {stream} does not follow the one before it")
        if record.append_group not in {record.position, self._group}:
            problems.append(f"append group #{record.append_group} does not begin here and is not the open one")
        if record.recorded_at < self._recorded_at:
            problems.append("it was recorded before the event before it")
        return problems


class TailVerifier(Verifier):
    """A Verifier of what comes after an event that is trusted by its hash. What the streams were there, and whether an
    append group was open, is taken from the first rows."""

    def __init__(self, position: int, trusted: bytes) -> None:
        super().__init__()
        self.position, self.head = position, trusted

    def check_raw(self, record: RawRecord) -> list[str]:
        self.versions.setdefault(record.stream, record.version - 1)
        if self.events == 0:
            self._group = record.append_group
        return super().check_raw(record)
