"""The read model on PostgreSQL: snapshots of the read tables now or at any position, and their rebuild."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from datetime import UTC

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import ARRAY, insert
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from reconciler.errors import UsageError
from reconciler.events.envelope import StoredEvent
from reconciler.ports import Seen, Snapshot
from reconciler.projections.tables import FLEETS, TABLES, Table
from reconciler.store.database import one_view, transaction
from reconciler.store.event_log import all_records, end_of_group, newest, take_append_lock
from reconciler.store.folding import Fold, PastRow, TemporalRows, fold_group
from reconciler.store.read_rows import delete_all, rows_as_of, rows_now, write_past_rows, write_rows
from reconciler.store.records import stored
from reconciler.store.tables import EVENTS, LAST_SEEN, READ_TABLES, STREAMS

_BATCH = 5000
"""Ended rows that a rebuild holds before it writes them."""


class PostgresReadModel:
    """ports.ReadModel."""

    def __init__(self, engine: AsyncEngine, fold: Fold) -> None:
        self._engine = engine
        self._fold = fold

    async def snapshot(self, fleet: str, at: int | None = None, tables: Sequence[Table] | None = None) -> Snapshot:
        wanted = TABLES if tables is None else tables
        async with one_view(self._engine) as connection:
            if at is None:
                position, moment = await newest(connection)
                rows = {table.name: await rows_now(connection, table, fleet) for table in wanted}
                return Snapshot(fleet, position, moment, rows, await _versions_now(connection, fleet))
            end = await end_of_group(connection, at)
            if end is None:
                head, _ = await newest(connection)
                raise UsageError(f"position #{at} is not in the log", remedy=f"the newest is #{head}")
            position, moment = end
            rows = {table.name: await rows_as_of(connection, table, fleet, position) for table in wanted}
            return Snapshot(fleet, position, moment, rows, await _versions_as_of(connection, fleet, position))

    async def fleets(self) -> Sequence[str]:
        table = READ_TABLES[FLEETS.name]
        async with transaction(self._engine) as connection:
            return sorted(await connection.scalars(sa.select(table.c.fleet).where(table.c.valid_to.is_(None))))

    async def rebuild(self) -> int:
        """In one transaction: readers see the old rows until the new ones are complete; appends wait."""
        rows = TemporalRows()
        ended: list[PastRow] = []
        folded = 0
        async with transaction(self._engine) as connection:
            await take_append_lock(connection)
            await delete_all(connection, TABLES)
            async for group in _groups(connection):
                ended += rows.apply(fold_group(self._fold, group, rows.now), group[-1].position)
                folded += len(group)
                if len(ended) >= _BATCH:
                    await write_past_rows(connection, ended)
                    ended.clear()
            await write_past_rows(connection, ended)
            await write_rows(
                connection,
                [
                    (table, row, rows.since[table.name, key], None)
                    for table in TABLES
                    for key, row in rows.now.get(table.name, {}).items()
                ],
            )
        return folded

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


async def _groups(connection: AsyncConnection) -> AsyncIterator[list[StoredEvent]]:
    """Every append group, oldest first."""
    group: list[StoredEvent] = []
    async for record in all_records(connection):
        if group and record.append_group != group[0].group:
            yield group
            group = []
        group.append(stored(record))
    if group:
        yield group


async def _versions_now(connection: AsyncConnection, fleet: str) -> Mapping[str, int]:
    query = sa.select(STREAMS.c.stream, STREAMS.c.version).where(STREAMS.c.fleet == fleet)
    return {row.stream: row.version for row in await connection.execute(query)}


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
    found = await connection.execute(query.where(STREAMS.c.fleet == fleet))
    return {row.stream: row.version for row in found}
