"""The event log on PostgreSQL: one append-only table, one order, one writer at a time."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, NamedTuple

import psycopg
import sqlalchemy as sa
from psycopg.types.json import Json
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from reconciler.errors import StoreError
from reconciler.events.chain import GENESIS, Content, Record, timestamp
from reconciler.events.envelope import NewEvent, StoredEvent
from reconciler.ports import EventFilter, Verification
from reconciler.projections.fold import FOLD_VERSION
from reconciler.store.database import compiled, copying, driver_of, store_errors, transaction
from reconciler.store.fold_version import SETTING, check_version
from reconciler.store.folding import Fold, fold_group, touched_by
from reconciler.store.read_rows import current_rows, uncollected, write_changes
from reconciler.store.records import (
    Head,
    already_appended,
    chained,
    check_expectations,
    check_unused,
    draft,
    stored,
)
from reconciler.store.tables import APPEND_LOCK, EVENT_COLUMNS, EVENTS, LOG, PROJECTIONS, STREAMS
from reconciler.store.verification import verify_log, verify_tail

LONGEST_PAUSE = "60s"
"""A holder of the append lock may be silent for this long."""
CHANNEL = "reconciler_events"
"""NOTIFY channel of the trigger events_streams; the payload is the newest position."""
POLL_SECONDS = 5.0
"""A follower looks at least this often, in case a notification was lost."""
EVENT_ID = "events_event_id"
"""The constraint by which an event id stands in the log once."""
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
        self._versions = _Versions()

    @classmethod
    async def open(cls, engine: AsyncEngine, fold: Fold, *, tool_version: str) -> PostgresEventLog:
        """Raises StoreError where the database cannot be reached, has no schema, or is another version's."""
        async with transaction(engine) as connection:
            identity = (await connection.execute(sa.select(LOG.c.log_id, sa.text("session_user")))).one_or_none()
            await check_version(connection)
        if identity is None:
            raise StoreError("the log has no identity", remedy="restore the database from a backup")
        return cls(engine, fold, tool_version, str(identity[0]), str(identity[1]))

    async def append(self, events: Sequence[NewEvent], expect: Mapping[str, int]) -> Sequence[StoredEvent]:
        try:
            return await self._append(events, expect)
        except StoreError as error:
            if not _names_a_taken_id(error):
                raise
            async with transaction(self._engine) as connection:
                ids = [event.event_id for event in events]
                check_unused(ids, await _records_by_id(connection, ids))
            raise

    async def _append(self, events: Sequence[NewEvent], expect: Mapping[str, int]) -> Sequence[StoredEvent]:
        async with transaction(self._engine) as connection:
            await take_append_lock(connection)
            # Only now: under READ COMMITTED this statement sees all that was committed before the lock was ours.
            state = await self._versions.completed(connection, events, expect)
            ids = [event.event_id for event in events]
            present = await _records_by_id(connection, ids) if state.taken else {}
            drafts = (draft(event, self._session, self._tool_version) for event in events)
            if present and (repeated := already_appended(list(drafts), present)):
                return [stored(record) for record in repeated]
            check_expectations(expect, state.versions)
            check_unused(ids, present)
            if not events:
                return []
            group = []
            # In text form: of rows in binary form the server takes none in before it has a thousand of them.
            async with copying(connection, EVENTS.name, EVENT_COLUMNS) as copy:
                for record, item in chained(drafts, state.head, state.versions, state.now):
                    await copy.write_row((*_place_texts(record), *item.texts))
                    group.append(stored(record, item.body))
            await self._fold_in(connection, group)
        self._versions.remember(state, group)
        return group

    async def _fold_in(self, connection: AsyncConnection, group: Sequence[StoredEvent]) -> None:
        """The group becomes visible in the read tables with its last event: nobody ever sees a part of it."""
        rows = await current_rows(connection, touched_by(self._fold, group))
        await write_changes(connection, fold_group(self._fold, group, rows), group[-1].position)

    async def read(self, wanted: EventFilter) -> Sequence[StoredEvent]:
        async with transaction(self._engine) as connection:
            with uncollected():
                found = await connection.execute(select_matching(wanted))
                return [stored(record_of(row)) for row in found.all()]

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

    async def hashes(self, positions: Iterable[int]) -> Mapping[int, str]:
        async with transaction(self._engine) as connection:
            found = await connection.execute(_HASHES, {"positions": sorted(positions)})
            return {position: own.hex() for position, own in found}

    async def verify(self) -> Verification:
        return await verify_log(self._engine)

    async def verify_after(self, position: int, trusted: str) -> Verification:
        return await verify_tail(self._engine, position, trusted)


async def take_append_lock(connection: AsyncConnection) -> None:
    """Wait until no other transaction appends; held to the end of this one.

    Positions must be given out in the order of commit. A sequence would not do: a transaction may draw 7, another
    draw 8 and commit first; a follower then reads 8, remembers it, and never sees 7. The hash chain needs one order
    anyway. The lock is a statement of its own, since a statement's snapshot is taken before it waits. A process that
    stands still while it holds the lock loses its connection, and with it the lock. It is a table's and no advisory
    one, which any login might take and keep.
    """
    await (await driver_of(connection)).execute(_LOCK)


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


async def records_from(connection: AsyncConnection, position: int, limit: int) -> tuple[list[Record], int]:
    """The rows from `position` on, in order, at most `limit`; and, since it is asked each time, how often the read
    tables were rebuilt."""
    async with (await driver_of(connection)).cursor() as cursor:
        await cursor.execute(_EVENTS_FROM, {"position": position, "limit": limit})
        found = await cursor.fetchall()
    return [record_of(row) for _, *row in found if row[0] is not None], found[0][0] if found else 0


def record_of(row: Sequence[Any]) -> Record:
    """A row of EVENT_COLUMNS."""
    position, version, group, recorded_at, previous, own = row[:_PLACE_WIDTH]
    content = Content(*row[_PLACE_WIDTH:])
    return Record(position, version, group, recorded_at.astimezone(UTC), previous, own, content)


_COLUMNS = tuple(EVENTS.c[name] for name in EVENT_COLUMNS)
_PLACE_WIDTH = len(Record._fields) - 1

_LOCK = f"""SET LOCAL idle_in_transaction_session_timeout = '{LONGEST_PAUSE}';
SET LOCAL {SETTING} = '{FOLD_VERSION}';
LOCK TABLE {APPEND_LOCK.name} IN SHARE ROW EXCLUSIVE MODE""".encode()
"""Three statements, sent as one."""
_EVENTS_BY_ID = sa.select(*_COLUMNS).where(EVENTS.c.event_id == sa.any_(sa.bindparam("ids", type_=ARRAY(sa.Uuid))))
_HASHES = sa.select(EVENTS.c.position, EVENTS.c.hash).where(
    EVENTS.c.position == sa.any_(sa.bindparam("positions", type_=ARRAY(sa.BigInteger)))
)
_RECORDED_AT = sa.select(EVENTS.c.recorded_at).where(EVENTS.c.position == sa.bindparam("position"))
_FIRST_OF_NEXT_GROUP = (
    sa.select(EVENTS.c.position)
    .where(EVENTS.c.position > sa.bindparam("position"), EVENTS.c.append_group > sa.bindparam("position"))
    .order_by(EVENTS.c.position)
    .limit(1)
)


def _select_head_and_clock() -> sa.Select[Any]:
    clock = sa.select(sa.func.clock_timestamp().label("now")).subquery()
    newest_first = sa.select(EVENTS.c.position, EVENTS.c.hash, EVENTS.c.recorded_at).order_by(EVENTS.c.position.desc())
    last = newest_first.limit(sa.literal_column("1")).subquery()
    return sa.select(clock.c.now, last).select_from(clock.outerjoin(last, sa.true()))


def _select_state() -> sa.Select[Any]:
    """In one statement, since each waits for the network while the lock is held."""
    stream, version = STREAMS.c.stream, STREAMS.c.version
    # An array of a thousand names takes the driver ten times as long as their JSON.
    names = sa.select(sa.func.json_array_elements_text(sa.bindparam("streams", type_=sa.JSON))).scalar_subquery()
    known = sa.select(sa.cast(sa.func.json_object_agg(stream, version), sa.JSON).label("versions"))
    versions = known.where(stream == sa.any_(sa.func.array(names))).subquery()
    taken = sa.exists().where(EVENTS.c.event_id == sa.bindparam("first", type_=sa.Uuid)).label("taken")
    head = _select_head_and_clock().subquery()
    return sa.select(head, versions, taken).select_from(head.join(versions, sa.true()))


def _select_from() -> sa.Select[Any]:
    at_or_after = sa.select(*_COLUMNS).where(EVENTS.c.position >= sa.bindparam("position"))
    found = at_or_after.order_by(EVENTS.c.position).limit(sa.bindparam("limit")).subquery()
    source = PROJECTIONS.outerjoin(found, sa.true())
    return sa.select(PROJECTIONS.c.rebuilds, found).select_from(source).order_by(found.c.position)


_EVENTS_FROM = compiled(_select_from())
_HEAD_AND_CLOCK = _select_head_and_clock()
_STATE = compiled(_select_state())


def _place_texts(record: Record) -> tuple[object, ...]:
    """As COPY reads them, quicker than the driver has made them of the objects."""
    position, version, group, moment, previous, own, _ = record
    return position, version, group, timestamp(moment), f"\\x{previous.hex()}", f"\\x{own.hex()}"


def _names_a_taken_id(error: StoreError) -> bool:
    cause = error.__cause__
    return isinstance(cause, psycopg.errors.UniqueViolation) and cause.diag.constraint_name == EVENT_ID


async def _records_by_id(connection: AsyncConnection, ids: Sequence[uuid.UUID]) -> dict[uuid.UUID, Record]:
    found = await connection.execute(_EVENTS_BY_ID, {"ids": ids})
    return {record.content.event_id: record for record in map(record_of, found)}


class _State(NamedTuple):
    """What an append is decided on. `taken`: whether the first of its event ids is in the log. A batch of which only
    others are is a fault of the caller: the database refuses it."""

    head: Head
    now: datetime
    versions: dict[str, int]
    taken: bool


class _Versions:
    """The versions of streams as of a head that this process appended. A head's hash stands for all before it: as long
    as it is the log's, they need not be asked for again."""

    def __init__(self) -> None:
        self._head = GENESIS
        self._known: dict[str, int] = {}

    async def completed(self, connection: AsyncConnection, events: Sequence[NewEvent], expect: Iterable[str]) -> _State:
        """Of all streams that the events or the expectations name. The append lock is held."""
        first = events[0].event_id if events else None
        streams = {*expect, *(event.stream for event in events)}
        # Both now: another task's append may change them while this one waits for the database.
        head, known = self._head, {stream: self._known[stream] for stream in streams if stream in self._known}
        state = await _state(connection, first, streams - known.keys())
        if not known:
            return state
        if state.head.hash == head:
            return state._replace(versions=known | state.versions)
        return await _state(connection, first, streams)

    def remember(self, state: _State, group: Sequence[StoredEvent]) -> None:
        """The group was committed on that state."""
        if state.head.hash != self._head:  # in between somebody appended, or this process did so twice at once
            self._known = {}
        self._known |= state.versions
        self._known |= {event.stream: event.version for event in group}
        self._head = group[-1].hash


async def _state(connection: AsyncConnection, first: uuid.UUID | None, streams: Iterable[str]) -> _State:
    async with (await driver_of(connection)).cursor() as cursor:
        await cursor.execute(_STATE, {"first": first, "streams": Json(list(streams))})
        [(*head_and_clock, versions, taken)] = await cursor.fetchall()
    return _State(*_placed(head_and_clock), versions or {}, taken)


async def _head_and_clock(connection: AsyncConnection) -> tuple[Head, datetime]:
    return _placed((await connection.execute(_HEAD_AND_CLOCK)).one())


def _placed(row: Sequence[Any]) -> tuple[Head, datetime]:
    now, position, own, recorded_at = row
    if position is None:
        return Head(0, GENESIS, None), now.astimezone(UTC)
    return Head(position, own, recorded_at.astimezone(UTC)), now.astimezone(UTC)


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
        _among(columns.correlation_id, wanted.correlation_ids) if wanted.correlation_ids is not None else None,
        columns.recorded_at >= wanted.since_time if wanted.since_time is not None else None,
        columns.recorded_at <= wanted.until_time if wanted.until_time is not None else None,
    ]
    order = columns.position.desc() if wanted.newest_first else columns.position.asc()
    query = sa.select(*_COLUMNS).where(*(condition for condition in conditions if condition is not None))
    return query.order_by(order).limit(wanted.limit)


def _among(column: sa.Column[Any], values: Sequence[Any]) -> sa.ColumnElement[bool]:
    among = ARRAY(column.type)
    return column == sa.any_(sa.cast(sa.literal(list(values), among), among))  # an empty or literal one has no type
