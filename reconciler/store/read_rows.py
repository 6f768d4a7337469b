"""The read tables in PostgreSQL: current rows, rows as of a position, and what an append group changes in them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import cache
from itertools import groupby
from operator import itemgetter
from typing import Any

import sqlalchemy as sa
from psycopg.types.json import Jsonb
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.ext.asyncio import AsyncConnection

from reconciler.projections.tables import TABLES, Key, Row, Table, Touched
from reconciler.store.database import copy_rows
from reconciler.store.folding import Change, PastRow, Rows
from reconciler.store.tables import READ_TABLES


async def current_rows(connection: AsyncConnection, touched: Iterable[Touched]) -> Rows:
    """The touched rows that hold now: one query per table."""
    return {
        table.name: await _rows(connection, table, _TOUCHED_NOW[table.name], _keys(keys))
        for table, keys in _by_table(touched)
    }


async def rows_now(connection: AsyncConnection, table: Table, fleet: str) -> dict[Key, Row]:
    """A fleet's rows that hold now."""
    return await _rows(connection, table, select_now(table, fleet))


async def rows_as_of(connection: AsyncConnection, table: Table, fleet: str, position: int) -> dict[Key, Row]:
    """A fleet's rows that held at a position."""
    return await _rows(connection, table, select_as_of(table, fleet, position))


def select_now(table: Table, fleet: str) -> sa.Select[Any]:
    """By the partial unique index, whatever the length of history."""
    columns = READ_TABLES[table.name].c
    return _select(table).where(columns.fleet == fleet, columns.valid_to.is_(None))


def select_as_of(table: Table, fleet: str, position: int) -> sa.Select[Any]:
    """By the GiST index on the range of validity: as many rows are read as held then."""
    columns = READ_TABLES[table.name].c
    validity = sa.func.int8range(columns.valid_from, columns.valid_to)
    held = validity.op("@>", is_comparison=True)(sa.cast(position, sa.BigInteger))
    return _select(table).where(columns.fleet == fleet, held)


async def write_changes(connection: AsyncConnection, changes: Sequence[Change], position: int) -> None:
    """End the old rows and begin the new ones at a position: at most two statements per table."""
    ended = [(change.table, change.key) for change in changes if change.old is not None]
    for table, keys in _by_table(ended):
        await connection.execute(_END[table.name], {**_keys(keys), "until": position})
    begun = [(change.table, change.new) for change in changes if change.new is not None]
    await write_rows(connection, [(table, row, position, None) for table, row in begun])


async def write_past_rows(connection: AsyncConnection, rows: Sequence[PastRow], prefix: str = "") -> None:
    """Rows of a replay that have ended."""
    await write_rows(connection, [(past.table, past.row, past.valid_from, past.valid_to) for past in rows], prefix)


async def write_rows(
    connection: AsyncConnection, rows: Sequence[tuple[Table, Row, int, int | None]], prefix: str = ""
) -> None:
    """Rows with their validity, into the read tables or those whose names begin with `prefix`: one COPY per table."""
    ordered = sorted(rows, key=lambda item: item[0].name)
    for _, group in groupby(ordered, key=lambda item: item[0].name):
        of_table = list(group)
        table = of_table[0][0]
        names, sent = (*table.key, *table.columns), _sender(table.name)
        lines = ([*sent(row), valid_from, valid_to] for _, row, valid_from, valid_to in of_table)
        await copy_rows(connection, prefix + table.name, (*names, "valid_from", "valid_to"), lines)


def _select(table: Table) -> sa.Select[Any]:
    source = READ_TABLES[table.name]
    return sa.select(*(source.c[name] for name in (*table.key, *table.columns)))


async def _rows(
    connection: AsyncConnection, table: Table, query: sa.Select[Any], given: dict[str, Any] | None = None
) -> dict[Key, Row]:
    names, width = (*table.key, *table.columns), len(table.key)
    found = await connection.execute(query, given)
    return {tuple(row[:width]): dict(zip(names, row, strict=True)) for row in found}


def _currently(table: Table) -> sa.ColumnElement[bool]:
    """The row holds now, and its key is one of the parameters `key_0`, `key_1` …: one array per key column."""
    columns = READ_TABLES[table.name].c
    arrays = (sa.bindparam(f"key_{index}", type_=ARRAY(sa.Text)) for index in range(len(table.key)))
    wanted = sa.select(sa.func.unnest(*arrays).table_valued(*table.key).render_derived(name="wanted"))
    return sa.and_(columns.valid_to.is_(None), sa.tuple_(*(columns[name] for name in table.key)).in_(wanted))


_TOUCHED_NOW = {table.name: _select(table).where(_currently(table)) for table in TABLES}
_END = {
    table.name: sa.update(READ_TABLES[table.name]).where(_currently(table)).values(valid_to=sa.bindparam("until"))
    for table in TABLES
}


def _keys(keys: Sequence[Key]) -> dict[str, list[str]]:
    return {f"key_{index}": list(column) for index, column in enumerate(zip(*keys, strict=True))}


def _by_table(touched: Iterable[Touched]) -> list[tuple[Table, list[Key]]]:
    tables: dict[str, tuple[Table, list[Key]]] = {}
    for table, key in touched:
        tables.setdefault(table.name, (table, []))[1].append(key)
    return list(tables.values())


@cache
def _sender(name: str) -> Callable[[Row], list[Any]]:
    """From a row of a read table to what is sent of it: its key and columns in order."""
    table = next(table for table in TABLES if table.name == name)
    names = (*table.key, *table.columns)
    values = itemgetter(*names)
    json = [index for index, column in enumerate(names) if table.columns.get(column) == "jsonb"]

    def sent(row: Row) -> list[Any]:
        line = list(values(row))
        for index in json:
            if line[index] is not None:
                line[index] = Jsonb(line[index])
        return line

    return sent
