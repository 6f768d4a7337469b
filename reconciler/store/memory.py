"""The store in memory: the same behaviour without a database, for tests, `simulate` and previews."""

from __future__ import annotations

import asyncio
import hashlib
import uuid
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from datetime import datetime, timedelta

from reconciler.errors import UsageError
from reconciler.events.catalogue import BlobRedacted
from reconciler.events.chain import GENESIS, Record, TailVerifier, Verifier
from reconciler.events.envelope import NewEvent, StoredEvent
from reconciler.ports import Clock, EventFilter, Redaction, Seen, Snapshot, Verification
from reconciler.projections.tables import FLEETS, TABLES, Key, Row, Table
from reconciler.store.blob_check import BlobCheck
from reconciler.store.folding import Fold, PastRow, TemporalRows, fold_group
from reconciler.store.records import (
    Head,
    already_appended,
    chained,
    check_blobs,
    check_expectations,
    check_unused,
    draft,
    stored,
)


class MemoryBlobs:
    """ports.Blobs. `contents`: what is there to begin with, by digest."""

    def __init__(self, contents: Mapping[str, bytes] | None = None) -> None:
        self.contents: dict[str, bytes] = dict(contents or {})
        self.redactions: dict[str, Redaction] = {}

    async def put(self, contents: Iterable[bytes]) -> Sequence[str]:
        digests = []
        for content in contents:
            digest = hashlib.sha256(content).hexdigest()
            if digest not in self.redactions:
                self.contents.setdefault(digest, content)
            digests.append(digest)
        return digests

    def redact(self, event: StoredEvent) -> None:
        """What the database does when BlobRedacted is appended."""
        if isinstance(event.body, BlobRedacted) and self.contents.pop(event.body.blob, None) is not None:
            self.redactions[event.body.blob] = Redaction(event.position, event.body.reason)

    async def redacted(self, digests: Iterable[str]) -> Mapping[str, Redaction]:
        return {digest: self.redactions[digest] for digest in digests if digest in self.redactions}

    async def missing(self, digests: Iterable[str]) -> set[str]:
        return set(digests) - self.contents.keys() - self.redactions.keys()

    async def get(self, digests: Iterable[str]) -> Mapping[str, bytes]:
        wanted = set(digests)
        found = {digest: self.contents[digest] for digest in wanted if digest in self.contents}
        check_blobs(wanted, found, await self.redacted(wanted))
        return found


class MemoryEventLog:
    """ports.EventLog. `records` are the rows as a database would hold them; tests may tamper with them.

    With `since` it goes on where another log stood, for one fleet and without that log's events: positions, streams and
    rows continue, the chain of hashes begins anew.
    """

    def __init__(
        self,
        fold: Fold,
        clock: Clock,
        *,
        blobs: MemoryBlobs | None = None,
        tool_version: str = "",
        session: str = "memory",
        since: Snapshot | None = None,
    ) -> None:
        self.log_id = str(uuid.uuid4())
        self.records: list[Record] = []
        self._since = since
        self.start = since.position if since else 0
        self.versions: dict[str, int] = dict(since.versions) if since else {}
        self.rows = self._first_rows()
        self.past: list[PastRow] = []
        self._events: list[StoredEvent] = []
        self._by_id: dict[uuid.UUID, Record] = {}
        self._fold = fold
        self._clock = clock
        self._blobs = blobs or MemoryBlobs()
        self._tool_version = tool_version
        self._session = session
        self._appended = asyncio.Event()

    async def append(self, events: Sequence[NewEvent], expect: Mapping[str, int]) -> Sequence[StoredEvent]:
        drafts = [draft(event, self._session, self._tool_version) for event in events]
        present = {event.event_id: self._by_id[event.event_id] for event in events if event.event_id in self._by_id}
        if repeated := already_appended(drafts, present):
            return [self._events[record.position - 1 - self.start] for record in repeated]
        check_expectations(expect, self.versions)
        check_unused([event.event_id for event in events], present)
        if not drafts:
            return []
        made = list(chained(drafts, self._head(), self.versions, self._clock.now()))
        records, group = [record for record, _ in made], [stored(record, item.body) for record, item in made]
        changes = fold_group(self._fold, group, self.rows.now)
        # Nothing can fail from here on: the group is in, whole.
        self.past += self.rows.apply(changes, records[-1].position)
        self.records += records
        self._events += group
        self._by_id |= {record.content.event_id: record for record in records}
        self.versions |= {record.content.stream: record.version for record in records}
        for event in group:
            self._blobs.redact(event)
        appended, self._appended = self._appended, asyncio.Event()
        appended.set()
        return group

    @property
    def position(self) -> int:
        """The last position."""
        return self.start + len(self.records)

    def _first_rows(self) -> TemporalRows:
        rows = TemporalRows()
        if self._since is not None:
            rows.now = {name: dict(table) for name, table in self._since.rows.items()}
            rows.since = {(name, key): self.start for name, table in rows.now.items() for key in table}
        return rows

    def _head(self) -> Head:
        if not self.records:
            return Head(self.start, GENESIS, self._since.at if self._since else None)
        last = self.records[-1]
        return Head(last.position, last.hash, last.recorded_at)

    async def read(self, wanted: EventFilter) -> Sequence[StoredEvent]:
        first = max(0, wanted.after - self.start)
        last = None if wanted.until is None else max(0, wanted.until - self.start)
        events = [event for event in self._events[first:last] if wanted.matches(event)]
        if wanted.newest_first:
            events.reverse()
        return events[: wanted.limit]

    async def follow(self, after: int) -> AsyncIterator[StoredEvent]:
        while True:
            appended = self._appended
            after = max(after, self.start)
            while after < self.position:
                after += 1
                yield self._events[after - 1 - self.start]
            await appended.wait()

    async def hashes(self, positions: Iterable[int]) -> Mapping[int, str]:
        known = range(self.start + 1, self.position + 1)
        return {place: self.records[place - 1 - self.start].hash.hex() for place in positions if place in known}

    async def verify(self) -> Verification:
        return self._verified(Verifier(), BlobCheck(), self.records, self.versions)

    async def verify_after(self, position: int, trusted: str) -> Verification:
        before, records = self.records[: position - self.start], self.records[position - self.start :]
        streams = {record.content.stream for record in records}
        heads = {stream: self.versions.get(stream, 0) for stream in streams}
        blobs = BlobCheck()
        for record in before:
            if record.content.type == BlobRedacted.__name__:
                blobs.event(record.position, record.content)
        return self._verified(TailVerifier(position, bytes.fromhex(trusted)), blobs, records, heads)

    def _verified(
        self, verifier: Verifier, blobs: BlobCheck, records: Sequence[Record], heads: Mapping[str, int]
    ) -> Verification:
        problems: list[str] = []
        for record in records:
            problems += verifier.check(record)
            blobs.event(record.position, record.content)
        problems += [*verifier.check_end(self.start + len(self._events)), *verifier.check_streams(heads)]
        for digest, content in self._blobs.contents.items():
            blobs.blob(digest, content)
        for digest in self._blobs.redactions:
            blobs.blob(digest, None)
        return Verification(verifier.events, blobs.blobs, verifier.head.hex(), (*problems, *blobs.problems()))

    def end_of_group(self, position: int) -> int:
        """The last position of the append group that `position` is in."""
        if not self.start <= position <= self.position:
            raise UsageError(f"position #{position} is not in the log", remedy=f"the newest is #{self.position}")
        while self.start < position < self.position and self.records[position - self.start].append_group <= position:
            position += 1
        return position

    def moment(self, position: int) -> datetime | None:
        if position > self.start:
            return self.records[position - 1 - self.start].recorded_at
        return self._since.at if self._since else None

    def versions_at(self, position: int) -> Mapping[str, int]:
        if position == self.position:
            return self.versions
        before = self._since.versions if self._since else {}
        later = {record.content.stream: record.version for record in self.records[: position - self.start]}
        return {**before, **later}

    def replay(self) -> None:
        """Fold everything again from the first event."""
        self.rows, self.past = self._first_rows(), []
        start = self.start
        while start < self.position:
            end = self.end_of_group(start + 1)
            changes = fold_group(self._fold, self._events[start - self.start : end - self.start], self.rows.now)
            self.past += self.rows.apply(changes, end)
            start = end


class MemoryReadModel:
    """ports.ReadModel over a MemoryEventLog."""

    def __init__(self, log: MemoryEventLog, clock: Clock) -> None:
        self._log = log
        self._clock = clock
        self._seen: dict[tuple[str, str], Seen] = {}

    async def snapshot(self, fleet: str, at: int | None = None, tables: Sequence[Table] | None = None) -> Snapshot:
        position = self._log.position if at is None else self._log.end_of_group(at)
        rows = {table.name: self._rows(table, fleet, position) for table in (TABLES if tables is None else tables)}
        versions = {
            stream: version
            for stream, version in (self._log.versions_at(position).items() if tables is None else ())
            if stream.split("/", 2)[1] == fleet
        }
        return Snapshot(fleet, position, self._log.moment(position), rows, versions)

    def _rows(self, table: Table, fleet: str, position: int) -> Mapping[Key, Row]:
        now = {key: row for key, row in self._log.rows.now.get(table.name, {}).items() if key[0] == fleet}
        if position == self._log.position:
            return now
        rows = {key: row for key, row in now.items() if self._log.rows.since[table.name, key] <= position}
        for past in self._log.past:
            if past.table.name == table.name and past.valid_from <= position < past.valid_to:
                rows[table.key_of(past.row)] = past.row
        return {key: row for key, row in rows.items() if key[0] == fleet}

    async def fleets(self) -> Sequence[str]:
        return sorted(key[0] for key in self._log.rows.now.get(FLEETS.name, {}))

    async def rebuild(self) -> int:
        self._log.replay()
        return len(self._log.records)

    async def seen(self, fleet: str) -> Mapping[str, Seen]:
        return {node: seen for (owner, node), seen in self._seen.items() if owner == fleet}

    async def touch(self, fleet: str, runtimes: Mapping[str, str]) -> None:
        self._seen |= {(fleet, node): Seen(self._clock.now(), runtime) for node, runtime in runtimes.items()}


class MemoryLeases:
    """ports.Leases on the given clock."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._leases: dict[str, tuple[str, datetime]] = {}

    async def acquire(self, name: str, owner: str, seconds: int) -> bool:
        now = self._clock.now()
        holder, expires = self._leases.get(name, (owner, now))
        if holder != owner and expires > now:
            return False
        self._leases[name] = (owner, now + timedelta(seconds=seconds))
        return True

    async def release(self, name: str, owner: str) -> None:
        if self._leases.get(name, ("",))[0] == owner:
            del self._leases[name]

    async def live(self, prefix: str = "") -> Mapping[str, str]:
        now = self._clock.now()
        return {
            name: owner for name, (owner, expires) in self._leases.items() if name.startswith(prefix) and expires > now
        }
