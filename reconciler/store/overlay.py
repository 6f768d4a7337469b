"""A store laid over another: what is appended stays in memory, what is read includes it, and nothing below is written.

The stages of a pass run on it unchanged, and so tell what they would do.
"""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence

from reconciler.errors import StoreError
from reconciler.events.chain import GENESIS
from reconciler.events.envelope import NewEvent, StoredEvent
from reconciler.ports import Blobs, Clock, EventFilter, EventLog, ReadModel, Redaction, Seen, Snapshot, Verification
from reconciler.projections.tables import TABLES, Key, Row, Table
from reconciler.store.folding import Fold, fold_group
from reconciler.store.records import Head, chained, check_expectations, draft, stored


class OverlayBlobs:
    """ports.Blobs."""

    def __init__(self, below: Blobs) -> None:
        self._below = below
        self._own: dict[str, bytes] = {}

    async def put(self, contents: Iterable[bytes]) -> Sequence[str]:
        found = [(hashlib.sha256(content).hexdigest(), content) for content in contents]
        self._own |= dict(found)
        return [digest for digest, _ in found]

    async def redacted(self, digests: Iterable[str]) -> Mapping[str, Redaction]:
        return await self._below.redacted(digests)

    async def missing(self, digests: Iterable[str]) -> set[str]:
        rest = sorted(set(digests) - self._own.keys())
        return await self._below.missing(rest) if rest else set()

    async def get(self, digests: Iterable[str]) -> Mapping[str, bytes]:
        wanted = set(digests)
        own = {digest: self._own[digest] for digest in wanted if digest in self._own}
        rest = sorted(wanted - set(own))
        return {**(await self._below.get(rest) if rest else {}), **own}


class OverlayLog:
    """ports.EventLog over a snapshot of one fleet. `events` is what was appended here."""

    def __init__(self, below: EventLog, snapshot: Snapshot, fold: Fold, clock: Clock, tool_version: str) -> None:
        self.log_id = below.log_id
        self.events: list[StoredEvent] = []
        self.rows: dict[str, dict[Key, Row]] = {name: dict(rows) for name, rows in snapshot.rows.items()}
        self.versions = dict(snapshot.versions)
        self.head = Head(snapshot.position, GENESIS, snapshot.at)
        self._below, self._fold, self._clock, self._tool_version = below, fold, clock, tool_version

    async def append(self, events: Sequence[NewEvent], expect: Mapping[str, int]) -> Sequence[StoredEvent]:
        check_expectations(expect, self.versions)
        if not events:
            return []
        drafts = [draft(event, "overlay", self._tool_version) for event in events]
        made = chained(drafts, self.head, self.versions, self._clock.now())
        group = [stored(record, item.body) for record, item in made]
        for change in fold_group(self._fold, group, self.rows):
            rows = self.rows.setdefault(change.table.name, {})
            if change.new is None:
                rows.pop(change.key, None)
            else:
                rows[change.key] = change.new
        self.events += group
        self.versions |= {event.stream: event.version for event in group}
        self.head = Head(group[-1].position, group[-1].hash, group[-1].recorded_at)
        return group

    async def read(self, wanted: EventFilter) -> Sequence[StoredEvent]:
        """What is below; what was appended here is in `events`."""
        return await self._below.read(wanted)

    def follow(self, after: int) -> AsyncIterator[StoredEvent]:
        return self._below.follow(after)

    async def hashes(self, positions: Iterable[int]) -> Mapping[int, str]:
        """What is below: nodes were never told of what was appended here."""
        return await self._below.hashes(positions)

    async def verify(self) -> Verification:
        return await self._below.verify()

    async def verify_after(self, position: int, trusted: str) -> Verification:
        return await self._below.verify_after(position, trusted)


class OverlayReads:
    """ports.ReadModel over an OverlayLog."""

    def __init__(self, below: ReadModel, log: OverlayLog) -> None:
        self._below = below
        self._log = log

    async def snapshot(self, fleet: str, at: int | None = None, tables: Sequence[Table] | None = None) -> Snapshot:
        """The overlay's rows now; as of a position, those below."""
        if at is not None:
            return await self._below.snapshot(fleet, at, tables)
        rows = {
            table.name: dict(self._log.rows.get(table.name, {})) for table in (TABLES if tables is None else tables)
        }
        head = self._log.head
        return Snapshot(fleet, head.position, head.recorded_at, rows, dict(self._log.versions))

    async def fleets(self) -> Sequence[str]:
        return await self._below.fleets()

    async def rebuild(self) -> int:
        raise StoreError("an overlay is not rebuilt", remedy="rebuild the store below it")

    async def seen(self, fleet: str) -> Mapping[str, Seen]:
        return await self._below.seen(fleet)

    async def touch(self, fleet: str, runtimes: Mapping[str, str]) -> None:
        """Nothing: when a node was last seen is written below only by a pass."""
