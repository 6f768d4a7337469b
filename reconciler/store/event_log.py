"""The event log on PostgreSQL: one append-only table, one order, one writer at a time."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import ARRAY, insert
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from reconciler.errors import StoreError
from reconciler.events.chain import GENESIS, Content, Record, Verifier
from reconciler.events.envelope import NewEvent, StoredEvent
from reconciler.ports import EventFilter, Verification
from reconciler.store.blob_check import BlobCheck
from reconciler.store.blobs import all_blobs
from reconciler.store.database import copy_rows, driver_of, one_view, store_errors, transaction
from reconciler.store.folding import Fold, fold_group, touched_by
from reconciler.store.read_rows import current_rows, write_changes
from reconciler.store.records import (
    Head,
    already_appended,
    chained,
    check_expectations,
    check_unused,
    draft,
    stored,
)
from reconciler.store.tables import EVENT_COLUMNS, EVENTS, LOG, STREAMS

APPEND_LOCK = 0x72656361707064
"""Key of the advisory lock ("recappd") under which events get their positions."""
LONGEST_PAUSE = "60s"
"""A holder of that lock may be silent for this long."""
CHANNEL = "reconciler_events"
"""NOTIFY channel; the payload is the newest position."""
POLL_SECONDS = 5.0
"""A follower looks at least this often, in case a notification was lost."""
PAGE = 1000
"""Events a follower or a verification reads at once."""


class PostgresEventLog:
    """ports.EventLog. `open` it: it reads who it is once."""

    def __init__(self, engine: AsyncEngine, fold: Fold, tool_version: str, log_id: str, session: str) -> None:
        self.log_id = log_id
        self._engine = engine
        self._fold = fold
        self._tool_version = tool_version
        self._session = session

    @classmethod
    async def open(cls, engine: AsyncEngine, fold: Fold, *, tool_version: str) -> PostgresEventLog:
        """Raises StoreError where the database cannot be reached or has no schema."""
        async with transaction(engine) as connection:
            identity = (await connection.execute(sa.select(LOG.c.log_id, sa.text("session_user")))).one_or_none()
        if identity is None:
            raise StoreError("the log has no identity", remedy="restore the database from a backup")
        return cls(engine, fold, tool_version, str(identity[0]), str(identity[1]))

    async def append(self, events: Sequence[NewEvent], expect: Mapping[str, int]) -> Sequence[StoredEvent]:
        drafts = [draft(event, self._session, self._tool_version) for event in events]
        async with transaction(self._engine) as connection:
            await take_append_lock(connection)
            # Only now: under READ COMMITTED this statement sees all that was committed before the lock was ours.
            present = await _records_by_id(connection, [item.content.event_id for item in drafts])
            if repeated := already_appended(drafts, present):
                return [stored(record) for record in repeated]
            versions = await _stream_versions(connection, {*expect, *(item.content.stream for item in drafts)})
            check_expectations(expect, versions)
            check_unused(drafts, present)
            if not drafts:
                return []
            head, now = await _head_and_clock(connection)
            records = chained(drafts, head, versions, now)
            group = [stored(record) for record in records]
            await copy_rows(connection, EVENTS.name, EVENT_COLUMNS, (_flat(record) for record in records))
            await _advance_streams(connection, records)
            await self._fold_in(connection, group)
            await connection.execute(_NOTIFY, {"position": str(records[-1].position)})
        return group

    async def _fold_in(self, connection: AsyncConnection, group: Sequence[StoredEvent]) -> None:
        """The group becomes visible in the read tables with its last event: nobody ever sees a part of it."""
        rows = await current_rows(connection, touched_by(self._fold, group))
        await write_changes(connection, fold_group(self._fold, group, rows), group[-1].position)

    async def read(self, wanted: EventFilter) -> Sequence[StoredEvent]:
        async with transaction(self._engine) as connection:
            return [stored(_record(row)) for row in await connection.execute(select_matching(wanted))]

    async def follow(self, after: int) -> AsyncIterator[StoredEvent]:
        with store_errors(self._engine.url):
            async with self._engine.connect() as connection:
                await connection.execution_options(isolation_level="AUTOCOMMIT")
                driver = await driver_of(connection)
                # Listening begins before the first read, so what is appended in between wakes us.
                await driver.execute(f"LISTEN {CHANNEL}")
                try:
                    while True:
                        events = await self.read(EventFilter(after=after, limit=PAGE))
                        for event in events:
                            yield event
                            after = event.position
                        if len(events) < PAGE:
                            async for _ in driver.notifies(timeout=POLL_SECONDS, stop_after=1):
                                pass
                finally:
                    await connection.invalidate()  # a connection that listens does not go back to the pool

    async def verify(self) -> Verification:
        verifier, blobs = Verifier(), BlobCheck()
        problems: list[str] = []
        async with one_view(self._engine) as connection:
            async for record in all_records(connection):
                problems += verifier.check(record)
                blobs.event(record)
            problems += verifier.check_streams(await _all_stream_versions(connection))
            async for digest, content in all_blobs(connection):
                blobs.blob(digest, content)
        return Verification(verifier.events, blobs.blobs, verifier.head.hex(), (*problems, *blobs.problems()))


async def take_append_lock(connection: AsyncConnection) -> None:
    """Wait until no other transaction appends; held to the end of this one.

    Positions must be given out in the order of commit. A sequence would not do: a transaction may draw 7, another
    draw 8 and commit first; a follower then reads 8, remembers it, and never sees 7. The hash chain needs one order
    anyway. The lock is a statement of its own, since a statement's snapshot is taken before it waits. A process that
    stands still while it holds the lock loses its connection, and with it the lock.
    """
    await connection.execute(_LOCK, {"longest_pause": LONGEST_PAUSE})


async def all_records(connection: AsyncConnection, first: int = 1) -> AsyncIterator[Record]:
    """Every row from a position on, in order, without holding all of them."""
    from_there = _EVENTS_IN_ORDER.where(EVENTS.c.position >= first)
    result = await connection.stream(from_there, execution_options={"yield_per": PAGE})
    async for page in result.partitions():
        for row in page:
            yield _record(row)


async def end_of_group(connection: AsyncConnection, position: int) -> tuple[int, datetime | None] | None:
    """The last position of the append group that `position` is in, and when it was recorded; None: not in the log."""
    if position == 0:
        return 0, None
    given = {"position": position}
    recorded_at = await connection.scalar(_RECORDED_AT, given)
    if recorded_at is None:
        return None
    following = await connection.scalar(_FIRST_OF_NEXT_GROUP, given)
    end = following - 1 if following is not None else (await head_of(connection)).position
    return end, recorded_at.astimezone(UTC)


async def head_of(connection: AsyncConnection) -> Head:
    """The last event's place; position 0 for an empty log."""
    return (await _head_and_clock(connection))[0]


async def records_from(connection: AsyncConnection, position: int, limit: int) -> list[Record]:
    """The rows from `position` on, in order, at most `limit`."""
    found = await connection.execute(_EVENTS_FROM, {"position": position, "limit": limit})
    return [_record(row) for row in found]


_COLUMNS = tuple(EVENTS.c[name] for name in EVENT_COLUMNS)
_PLACE_WIDTH = len(Record._fields) - 1

_LOCK = sa.select(
    sa.func.set_config("idle_in_transaction_session_timeout", sa.bindparam("longest_pause", type_=sa.Text), True),
    sa.func.pg_advisory_xact_lock(APPEND_LOCK),
)
_NOTIFY = sa.select(sa.func.pg_notify(CHANNEL, sa.bindparam("position", type_=sa.Text)))
_EVENTS_IN_ORDER = sa.select(*_COLUMNS).order_by(EVENTS.c.position)
_EVENTS_FROM = _EVENTS_IN_ORDER.where(EVENTS.c.position >= sa.bindparam("position")).limit(sa.bindparam("limit"))
_EVENTS_BY_ID = sa.select(*_COLUMNS).where(EVENTS.c.event_id == sa.any_(sa.bindparam("ids", type_=ARRAY(sa.Uuid))))
_RECORDED_AT = sa.select(EVENTS.c.recorded_at).where(EVENTS.c.position == sa.bindparam("position"))
_FIRST_OF_NEXT_GROUP = (
    sa.select(EVENTS.c.position)
    .where(EVENTS.c.position > sa.bindparam("position"), EVENTS.c.append_group > sa.bindparam("position"))
    .order_by(EVENTS.c.position)
    .limit(1)
)
_ALL_STREAM_VERSIONS = sa.select(STREAMS.c.stream, STREAMS.c.version)
_STREAM_VERSIONS = _ALL_STREAM_VERSIONS.where(
    STREAMS.c.stream == sa.any_(sa.bindparam("streams", type_=ARRAY(sa.Text)))
)


def _select_head_and_clock() -> sa.Select[Any]:
    clock = sa.select(sa.func.clock_timestamp().label("now")).subquery()
    newest_first = EVENTS.c.position.desc()
    last = sa.select(EVENTS.c.position, EVENTS.c.hash, EVENTS.c.recorded_at).order_by(newest_first).limit(1).subquery()
    return sa.select(clock.c.now, last).select_from(clock.outerjoin(last, sa.true()))


def _upsert_heads() -> sa.Insert:
    """All streams of a batch at once, one array per column."""
    names = ("stream", "fleet", "version", "last_position")
    arrays = [sa.bindparam(name, type_=ARRAY(STREAMS.c[name].type)) for name in names]
    heads = sa.func.unnest(*arrays).table_valued(*names).render_derived()
    upsert = insert(STREAMS).from_select(names, sa.select(heads))
    return upsert.on_conflict_do_update(
        index_elements=[STREAMS.c.stream],
        set_={"version": upsert.excluded.version, "last_position": upsert.excluded.last_position},
    )


_HEAD_AND_CLOCK = _select_head_and_clock()
_ADVANCE_STREAMS = _upsert_heads()


def _record(row: Sequence[Any]) -> Record:
    position, version, group, recorded_at, previous, own = row[:_PLACE_WIDTH]
    content = Content(*row[_PLACE_WIDTH:])
    return Record(position, version, group, recorded_at.astimezone(UTC), previous, own, content)


def _flat(record: Record) -> tuple[object, ...]:
    return (*record[:_PLACE_WIDTH], *record.content)


async def _records_by_id(connection: AsyncConnection, ids: Sequence[uuid.UUID]) -> dict[uuid.UUID, Record]:
    records = (_record(row) for row in await connection.execute(_EVENTS_BY_ID, {"ids": ids}))
    return {record.content.event_id: record for record in records}


async def _stream_versions(connection: AsyncConnection, streams: Iterable[str]) -> dict[str, int]:
    found = await connection.execute(_STREAM_VERSIONS, {"streams": sorted(streams)})
    return {row.stream: row.version for row in found}


async def _all_stream_versions(connection: AsyncConnection) -> dict[str, int]:
    return {row.stream: row.version for row in await connection.execute(_ALL_STREAM_VERSIONS)}


async def _head_and_clock(connection: AsyncConnection) -> tuple[Head, datetime]:
    now, position, own, recorded_at = (await connection.execute(_HEAD_AND_CLOCK)).one()
    if position is None:
        return Head(0, GENESIS, None), now.astimezone(UTC)
    return Head(position, own, recorded_at.astimezone(UTC)), now.astimezone(UTC)


async def _advance_streams(connection: AsyncConnection, records: Sequence[Record]) -> None:
    """The last record of each stream is its new head."""
    last = {record.content.stream: record for record in records}
    heads = last.values()
    columns = {
        "stream": list(last),
        "fleet": [record.content.fleet for record in heads],
        "version": [record.version for record in heads],
        "last_position": [record.position for record in heads],
    }
    await connection.execute(_ADVANCE_STREAMS, columns)


def select_matching(wanted: EventFilter) -> sa.Select[Any]:
    """The rows a filter asks for; each of its fields has an index that ends in the position."""
    columns = EVENTS.c
    conditions = [
        columns.position > wanted.after,
        columns.position <= wanted.until if wanted.until is not None else None,
        columns.fleet == wanted.fleet if wanted.fleet is not None else None,
        _among(columns.type, wanted.types) if wanted.types is not None else None,
        columns.node == wanted.node if wanted.node is not None else None,
        columns.pool == wanted.pool if wanted.pool is not None else None,
        columns.resource == wanted.resource if wanted.resource is not None else None,
        _among(columns.resource, wanted.resources) if wanted.resources is not None else None,
        columns.commit_sha.startswith(wanted.commit, autoescape=True) if wanted.commit is not None else None,
        _among(columns.commit_sha, wanted.commits) if wanted.commits is not None else None,
        columns.correlation_id == wanted.correlation_id if wanted.correlation_id is not None else None,
        columns.recorded_at >= wanted.since_time if wanted.since_time is not None else None,
        columns.recorded_at <= wanted.until_time if wanted.until_time is not None else None,
    ]
    order = columns.position.desc() if wanted.newest_first else columns.position.asc()
    query = sa.select(*_COLUMNS).where(*(condition for condition in conditions if condition is not None))
    return query.order_by(order).limit(wanted.limit)


def _among(column: sa.Column[Any], values: Sequence[Any]) -> sa.ColumnElement[bool]:
    return column == sa.any_(sa.literal(list(values), ARRAY(column.type)))
