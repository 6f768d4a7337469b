"""The read tables folded anew from event 1, beside those in use: compared with them, and put in their place.

The new rows stand in temporary tables of one connection. Nobody else sees them, appends go on meanwhile, and whatever
ends the process ends them, too. As log and read tables change in one transaction, one view of the database suffices
to compare; only putting other rows in place takes the append lock.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from reconciler.events.envelope import StoredEvent
from reconciler.ports import Comparison, DifferenceKind, RowDifference
from reconciler.projections.fold import FOLD_VERSION
from reconciler.projections.tables import TABLES, Table
from reconciler.store.database import store_errors, transaction
from reconciler.store.event_log import head_of, record_of, take_append_lock
from reconciler.store.fold_version import check_version, stamp, written_by
from reconciler.store.folding import Fold, PastRow, TemporalRows, fold_group
from reconciler.store.read_rows import uncollected, write_past_rows, write_rows
from reconciler.store.records import stored
from reconciler.store.scan import pages_after
from reconciler.store.tables import EVENT_COLUMNS, READ_TABLES

PREFIX = "rebuilt_"
"""Begins the name of each temporary table."""

MOST_SHOWN = 1000
"""Differences that a comparison names; it counts all."""

_BATCH = 1000
"""Ended rows held before they are written."""

Report = Callable[[int, int], None]
"""Told how many events are folded, of how many."""


def unheard(done: int, total: int) -> None:
    """Nobody waits."""


@asynccontextmanager
async def rebuilding(engine: AsyncEngine, fold: Fold, report: Report = unheard) -> AsyncIterator[Rebuild]:
    """A rebuild with a connection of its own. Raises StoreError."""
    with store_errors(engine.url):
        async with engine.connect() as connection:
            await check_version(connection, or_older=True)
            try:
                for name in READ_TABLES:
                    await connection.execute(sa.text(f"CREATE TEMPORARY TABLE {PREFIX}{name} (LIKE {name})"))
                await connection.commit()
                yield Rebuild(connection, fold, report)
            finally:
                await connection.invalidate()  # one with temporary tables does not go back to the pool


async def rebuild_outdated(engine: AsyncEngine, fold: Fold, report: Report = unheard) -> bool:
    """Bring read tables that an older fold wrote to this version's; False where none did. Raises StoreError."""
    async with transaction(engine) as connection:
        if await written_by(connection) >= FOLD_VERSION:
            return False
    async with rebuilding(engine, fold, report) as rebuild:
        await rebuild.compare()  # most of the work, while others append
        await rebuild.switch()
    return True


class Rebuild:
    """The rows as the log makes them, as far as it was folded."""

    def __init__(self, connection: AsyncConnection, fold: Fold, report: Report) -> None:
        self.events = 0
        self._connection = connection
        self._fold = fold
        self._report = report
        self._rows = TemporalRows()

    async def compare(self) -> Comparison:
        """Fold what was appended up to now, and compare with the read tables of this very moment."""
        # READ COMMITTED would let a table be newer than the events that were folded.
        await self._connection.execute(sa.text("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ"))
        await self._catch_up()
        found = [await _differences(self._connection, table) for table in TABLES]
        await self._connection.commit()
        shown = [difference for _, differences in found for difference in differences]
        return Comparison(self.events, sum(count for count, _ in found), tuple(shown[:MOST_SHOWN]))

    async def switch(self) -> None:
        """Put the rows in place that differ, all at once. Appends wait, readers do not."""
        await take_append_lock(self._connection)
        await stamp(self._connection)
        await self._catch_up()
        for table in TABLES:
            for statement in _REPLACE[table.name]:
                await self._connection.execute(statement)
        await self._connection.commit()

    async def _catch_up(self) -> None:
        """Fold the events that are visible and not folded yet, and write all rows."""
        total = (await head_of(self._connection)).position
        ended: list[PastRow] = []
        with uncollected():
            async for position, group in _groups(self._connection, self._fold, self.events):
                if group:
                    ended += self._rows.apply(fold_group(self._fold, group, self._rows.now), position)
                self.events = position
                if len(ended) >= _BATCH:
                    await write_past_rows(self._connection, ended, PREFIX)
                    ended.clear()
                self._report(position, total)
        await write_past_rows(self._connection, ended, PREFIX)
        await self._write_current()

    async def _write_current(self) -> None:
        """The rows that hold now, instead of those that did when they were written last."""
        rows = self._rows
        for table in TABLES:
            rebuilt = _REBUILT[table.name]
            await self._connection.execute(sa.delete(rebuilt).where(rebuilt.c.valid_to.is_(None)))
            now = rows.now.get(table.name, {})
            current = [(table, row, rows.since[table.name, key], None) for key, row in now.items()]
            await write_rows(self._connection, current, PREFIX)
            await self._connection.execute(sa.text(f"ANALYZE {PREFIX}{table.name}"))


_GROUP, _TYPE = EVENT_COLUMNS.index("append_group"), EVENT_COLUMNS.index("type")


async def _groups(
    connection: AsyncConnection, fold: Fold, after: int
) -> AsyncIterator[tuple[int, Sequence[StoredEvent]]]:
    """Every append group after a position: its last position, and those of its events that are folded."""
    group: list[StoredEvent] = []
    position = started = after
    async for page in pages_after(connection, after):
        for row in page:
            if row[_GROUP] != started and position > after:
                yield position, group
                group = []
            position, started = row[0], row[_GROUP]
            if fold.handles(row[_TYPE]):
                group.append(stored(record_of(row)))
    if position > after:
        yield position, group


_REBUILT = {
    name: sa.Table(PREFIX + name, sa.MetaData(), *(sa.Column(column.name, column.type) for column in table.columns))
    for name, table in READ_TABLES.items()
}


async def _differences(connection: AsyncConnection, table: Table) -> tuple[int, list[RowDifference]]:
    """How many rows differ, and the first of them."""
    found = (await connection.execute(_DIFFERENCES[table.name], {"most": MOST_SHOWN})).all()
    return (found[0][0] if found else 0), [_difference(table, row[1:]) for row in found]


def _difference(table: Table, row: Sequence[Any]) -> RowDifference:
    names = (*table.key, *table.columns, "valid_from", "valid_to")
    live, rebuilt = (dict(zip(names, side, strict=True)) for side in (row[: len(names)], row[len(names) :]))
    there: Mapping[str, Any] = live if live["valid_from"] is not None else rebuilt
    kind: DifferenceKind = "changed"
    if rebuilt["valid_from"] is None:
        kind = "surplus"
    elif live["valid_from"] is None:
        kind = "missing"
    columns = tuple(name for name in names if live[name] != rebuilt[name]) if kind == "changed" else ()
    return RowDifference(table.name, table.key_of(there), there["valid_from"], kind, columns)


def _same_place(table: Table) -> sa.ColumnElement[bool]:
    live, rebuilt = READ_TABLES[table.name].c, _REBUILT[table.name].c
    return sa.and_(*(live[name] == rebuilt[name] for name in (*table.key, "valid_from")))


def _same(table: Table) -> sa.ColumnElement[bool]:
    live, rebuilt = (sa.tuple_(*side[table.name].c) for side in (READ_TABLES, _REBUILT))
    return live.is_not_distinct_from(rebuilt)


def _select_differences(table: Table) -> sa.Select[Any]:
    live, rebuilt = READ_TABLES[table.name], _REBUILT[table.name]
    both = live.join(rebuilt, _same_place(table), full=True)
    order = [sa.func.coalesce(live.c[name], rebuilt.c[name]) for name in ("valid_from", *table.key)]
    query = sa.select(sa.func.count().over(), *live.c, *rebuilt.c).select_from(both).where(~_same(table))
    return query.order_by(*order).limit(sa.bindparam("most"))


def _replacement(table: Table) -> tuple[sa.Delete, sa.Insert]:
    """What makes a read table like the rebuilt one by writing only the rows that differ."""
    live, rebuilt = READ_TABLES[table.name], _REBUILT[table.name]
    right = sa.exists().where(_same_place(table), _same(table))
    absent = ~sa.exists().where(_same_place(table)).correlate(rebuilt)
    missing = sa.select(*rebuilt.c).where(absent)
    return sa.delete(live).where(~right), sa.insert(live).from_select(rebuilt.c.keys(), missing)


_DIFFERENCES = {table.name: _select_differences(table) for table in TABLES}
_REPLACE = {table.name: _replacement(table) for table in TABLES}
