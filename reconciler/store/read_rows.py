"""The read tables in PostgreSQL: current rows, rows as of a position, and what an append group changes in them."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache
from itertools import groupby
from operator import itemgetter
from typing import Any

import msgspec
import sqlalchemy as sa
from psycopg.types.string import TextLoader
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.ext.asyncio import AsyncConnection

from reconciler.projections.tables import TABLES, Key, Row, Table, Touched
from reconciler.store.database import compiled, copy_rows, driver_of
from reconciler.store.folding import Change, PastRow, Rows
from reconciler.store.tables import READ_TABLES


@contextmanager
def uncollected() -> Iterator[None]:
    """Without garbage collection. Rows and events do not refer to themselves; looking for those that do takes a quarter
    of a replay's time, and half of that of reading a large fleet."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


async def current_rows(connection: AsyncConnection, touched: Iterable[Touched]) -> Rows:
    """The touched rows that hold now: one query per table."""
    return {
        table.name: await _rows(connection, table, _statement(_touched_now, table.name), _keys(keys))
        for table, keys in _by_table(touched)
    }


async def rows_now(connection: AsyncConnection, table: Table, fleet: str) -> dict[Key, Row]:
    """A fleet's rows that hold now."""
    return await _rows(connection, table, _statement(select_now, table.name), {"fleet": fleet})


async def rows_as_of(connection: AsyncConnection, table: Table, fleet: str, position: int) -> dict[Key, Row]:
    """A fleet's rows that held at a position."""
    given = {"fleet": fleet, "position": position}
    return await _rows(connection, table, _statement(select_as_of, table.name), given)


def select_now(table: Table) -> sa.Select[Any]:
    """Those of `fleet`, by the partial unique index, whatever the length of history."""
    columns = READ_TABLES[table.name].c
    return _select(table).where(columns.fleet == sa.bindparam("fleet"), columns.valid_to.is_(None))


def select_as_of(table: Table) -> sa.Select[Any]:
    """Those of `fleet` at `position`, by the GiST index on the range of validity: as many are read as held then."""
    columns = READ_TABLES[table.name].c
    validity = sa.func.int8range(columns.valid_from, columns.valid_to)
    position = sa.cast(sa.bindparam("position", type_=sa.BigInteger), sa.BigInteger)  # said, not guessed from a literal
    held = validity.op("@>", is_comparison=True)(position)
    return _select(table).where(columns.fleet == sa.bindparam("fleet"), held)


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
    connection: AsyncConnection, table: Table, statement: bytes, given: Mapping[str, Any]
) -> dict[Key, Row]:
    """Past SQLAlchemy, and JSON as text until the row is made: each takes as long as the rest."""
    async with (await driver_of(connection)).cursor() as cursor:
        cursor.adapters.register_loader("jsonb", TextLoader)
        await cursor.execute(statement, given)
        return _made(table, await cursor.fetchall())


def _currently(table: Table) -> sa.ColumnElement[bool]:
    """The row holds now, and its key is one of the parameters `key_0`, `key_1` …: one array per key column."""
    columns = READ_TABLES[table.name].c
    arrays = (sa.bindparam(f"key_{index}", type_=ARRAY(sa.Text)) for index in range(len(table.key)))
    wanted = sa.select(sa.func.unnest(*arrays).table_valued(*table.key).render_derived(name="wanted"))
    return sa.and_(columns.valid_to.is_(None), sa.tuple_(*(columns[name] for name in table.key)).in_(wanted))


def _touched_now(table: Table) -> sa.Select[Any]:
    return _select(table).where(_currently(table))


_NAMED = {table.name: table for table in TABLES}


@cache
def _statement(select: Callable[[Table], sa.Select[Any]], name: str) -> bytes:
    """What a table is asked, as text."""
    return compiled(select(_NAMED[name]))


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


def _made(table: Table, found: Sequence[Sequence[Any]]) -> dict[Key, Row]:
    """The rows by key. All documents of a column are parsed as one: a call for each takes twice as long."""
    names, width = (*table.key, *table.columns), len(table.key)
    columns: list[Sequence[Any]] = list(zip(*found, strict=True))
    for index, name in enumerate(names if found else ()):
        if table.columns.get(name) == "jsonb" and any(columns[index]):
            columns[index] = _decoded(f"[{','.join(text or 'null' for text in columns[index])}]")
    keys = zip(*columns[:width], strict=True)
    return {key: dict(zip(names, row, strict=True)) for key, row in zip(keys, zip(*columns, strict=True), strict=True)}


_decoded = msgspec.json.Decoder().decode
_encoded = msgspec.json.Encoder().encode


@cache
def _sender(name: str) -> Callable[[Row], list[Any]]:
    """From a row of a read table to what is sent of it: its key and columns in order."""
    table = _NAMED[name]
    names = (*table.key, *table.columns)
    values = itemgetter(*names)
    documents = [index for index, column in enumerate(names) if table.columns.get(column) == "jsonb"]

    def sent(row: Row) -> list[Any]:
        line = list(values(row))
        for index in documents:
            if line[index] is not None:
                line[index] = _encoded(line[index]).decode()
        return line

    return sent
