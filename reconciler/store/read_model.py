"""The read model on PostgreSQL: snapshots of the read tables now or at any position, and their rebuild."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import ARRAY, insert
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from reconciler.errors import UsageError
from reconciler.events.chain import Record
from reconciler.ports import Seen, Snapshot
from reconciler.projections.tables import FLEETS, TABLES, Key, Row, Table
from reconciler.store.database import one_view, transaction
from reconciler.store.event_log import end_of_group, head_of, records_from
from reconciler.store.folding import Fold, touched_by
from reconciler.store.read_rows import current_rows, rows_as_of, rows_now, uncollected
from reconciler.store.rebuild import rebuilding
from reconciler.store.records import stored
from reconciler.store.tables import EVENTS, LAST_SEEN, READ_TABLES, STREAMS

_CATCH_UP = 1000
"""Events from which on a whole snapshot is read instead of what they touched."""


@dataclass(frozen=True)
class _Kept:
    """A whole snapshot, and what tells that it still is what stands there: the hash of the event at its position (the
    same there means the same log up to there), and how often the read tables were rebuilt."""

    snapshot: Snapshot
    hash: bytes
    rebuilds: int


class PostgresReadModel:
    """ports.ReadModel. Keeps the newest whole snapshot of each fleet, and reads only what events touched since."""

    def __init__(self, engine: AsyncEngine, fold: Fold) -> None:
        self._engine = engine
        self._fold = fold
        self._kept: dict[str, _Kept] = {}

    async def snapshot(self, fleet: str, at: int | None = None, tables: Sequence[Table] | None = None) -> Snapshot:
        async with one_view(self._engine) as connection:
            with uncollected():
                if at is not None:
                    return await _as_of(connection, fleet, at, tables)
                if tables is None:
                    return await self._newest(connection, fleet)
                position, _, moment = await head_of(connection)
                return Snapshot(fleet, position, moment, await _now(connection, tables, fleet), {})

    async def _newest(self, connection: AsyncConnection, fleet: str) -> Snapshot:
        """The snapshot kept, brought up to date; or a new one where the log went on too far, or is another one."""
        kept = self._kept.get(fleet)
        start = kept.snapshot.position if kept else 0
        records, rebuilt = await records_from(connection, start, _CATCH_UP if kept else 0)
        as_it_was = kept and records and records[0].hash == kept.hash and rebuilt == kept.rebuilds
        if kept and as_it_was and len(records) < _CATCH_UP:
            snapshot, last = await self._caught_up(connection, kept.snapshot, records[1:]), records[-1].hash
        else:
            position, last, moment = await head_of(connection)
            rows = await _now(connection, TABLES, fleet)
            snapshot = Snapshot(fleet, position, moment, rows, await _versions_now(connection, fleet))
        self._kept[fleet] = _Kept(snapshot, last, rebuilt)
        return snapshot

    async def _caught_up(self, connection: AsyncConnection, old: Snapshot, records: Sequence[Record]) -> Snapshot:
        """`old` and what later events touched; what they made of it stands in the read tables."""
        if not records:
            return old
        events = [stored(record) for record in records if record.content.fleet == old.fleet]
        touched = touched_by(self._fold, events)
        now = await current_rows(connection, touched)
        gone = {(table.name, key) for table, key in touched if key not in now[table.name]}
        rows = dict(old.rows)
        for name, found in now.items():
            kept = {key: row for key, row in old.rows[name].items() if (name, key) not in gone}
            rows[name] = {**kept, **found}
        versions = {**old.versions, **{event.stream: event.version for event in events}}
        return Snapshot(old.fleet, records[-1].position, records[-1].recorded_at, rows, versions)

    async def fleets(self) -> Sequence[str]:
        table = READ_TABLES[FLEETS.name]
        async with transaction(self._engine) as connection:
            return sorted(await connection.scalars(sa.select(table.c.fleet).where(table.c.valid_to.is_(None))))

    async def rebuild(self) -> int:
        async with rebuilding(self._engine, self._fold) as rebuild:
            await rebuild.switch()
            return rebuild.events

    async def seen(self, fleet: str) -> Mapping[str, Seen]:
        query = sa.select(LAST_SEEN.c.node, LAST_SEEN.c.seen_at, LAST_SEEN.c.runtime).where(LAST_SEEN.c.fleet == fleet)
        async with transaction(self._engine) as connection:
            rows = await connection.execute(query)
            return {node: Seen(seen_at.astimezone(UTC), runtime) for node, seen_at, runtime in rows}

    async def touch(self, fleet: str, runtimes: Mapping[str, str]) -> None:
        # In one order for everybody, so that two processes that saw the same nodes never wait for each other.
        nodes = sorted(runtimes)
        names = sa.literal(nodes, ARRAY(sa.Text))
        told = sa.literal([runtimes[node] for node in nodes], ARRAY(sa.Text))
        moment = sa.func.clock_timestamp()
        answered = sa.select(sa.literal(fleet), sa.func.unnest(names), moment, sa.func.unnest(told))
        record = insert(LAST_SEEN).from_select(["fleet", "node", "seen_at", "runtime"], answered)
        async with transaction(self._engine) as connection:
            await connection.execute(
                record.on_conflict_do_update(
                    index_elements=[LAST_SEEN.c.fleet, LAST_SEEN.c.node],
                    set_={"seen_at": record.excluded.seen_at, "runtime": record.excluded.runtime},
                )
            )


async def _now(connection: AsyncConnection, tables: Sequence[Table], fleet: str) -> dict[str, dict[Key, Row]]:
    return {table.name: await rows_now(connection, table, fleet) for table in tables}


async def _as_of(connection: AsyncConnection, fleet: str, at: int, tables: Sequence[Table] | None) -> Snapshot:
    end = await end_of_group(connection, at)
    if end is None:
        head = await head_of(connection)
        raise UsageError(f"position #{at} is not in the log", remedy=f"the newest is #{head.position}")
    position, moment = end
    wanted = TABLES if tables is None else tables
    rows = {table.name: await rows_as_of(connection, table, fleet, position) for table in wanted}
    versions = await _versions_as_of(connection, fleet, position) if tables is None else {}
    return Snapshot(fleet, position, moment, rows, versions)


async def _versions_now(connection: AsyncConnection, fleet: str) -> Mapping[str, int]:
    query = sa.select(STREAMS.c.stream, STREAMS.c.version).where(STREAMS.c.fleet == fleet)
    return _versions((await connection.execute(query)).all())


async def _versions_as_of(connection: AsyncConnection, fleet: str, position: int) -> Mapping[str, int]:
    """Per stream one look into the index (stream, version), from the newest backwards."""
    at_that_time = (
        sa.select(EVENTS.c.version)
        .where(EVENTS.c.stream == STREAMS.c.stream, EVENTS.c.position <= position)
        .order_by(EVENTS.c.version.desc())
        .limit(1)
        .lateral()
    )
    query = sa.select(STREAMS.c.stream, at_that_time.c.version).join(at_that_time, sa.true())
    return _versions((await connection.execute(query.where(STREAMS.c.fleet == fleet))).all())


def _versions(rows: Sequence[Any]) -> Mapping[str, int]:
    return dict(map(tuple, rows))
