"""Every read table: a row of every kind of value begins, changes and ends."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from reconciler.projections.tables import TABLES, Row, Table
from reconciler.store.database import transaction
from reconciler.store.folding import Change
from reconciler.store.read_rows import current_rows, rows_as_of, rows_now, write_changes

VALUES = {
    "text": ("first", "second \\ \t\n\x01 'é'"),
    "bigint": (1, 2**53 - 1),
    "boolean": (False, True),
    "jsonb": ({"b": [1, None, {"é": "\\"}]}, []),
    "timestamptz": (datetime(2026, 1, 31, 9, tzinfo=UTC), datetime(2026, 1, 31, 9, 0, 0, 123456, tzinfo=UTC)),
}


def row(table: Table, which: int | None) -> Row:
    keys = {name: "default" if name == "fleet" else f"{name} '\\" for name in table.key}
    return {**keys, **{name: None if which is None else VALUES[kind][which] for name, kind in table.columns.items()}}


@pytest.mark.parametrize("table", TABLES, ids=lambda table: table.name)
async def test_a_row_through_its_life(engine: AsyncEngine, table: Table) -> None:
    empty, first, second = (row(table, which) for which in (None, 0, 1))
    key = table.key_of(first)
    async with transaction(engine) as connection:
        await write_changes(connection, [Change(table, key, None, empty)], 1)
        await write_changes(connection, [Change(table, key, empty, first)], 2)
        await write_changes(connection, [Change(table, key, first, second)], 3)
        assert await rows_now(connection, table, "default") == {key: second}
        assert await current_rows(connection, [(table, key)]) == {table.name: {key: second}}
        await write_changes(connection, [Change(table, key, second, None)], 5)
        assert await rows_now(connection, table, "default") == {}
        assert [await rows_as_of(connection, table, "default", at) for at in range(6)] == [
            {}, {key: empty}, {key: first}, {key: second}, {key: second}, {},
        ]  # fmt: skip
        assert await rows_as_of(connection, table, "other", 3) == {}
