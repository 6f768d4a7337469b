"""All rows of the log, oldest first, at the speed of the wire: past SQLAlchemy, a page at a time."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import sqlalchemy as sa
from psycopg import sql
from psycopg.types.string import TextLoader
from sqlalchemy.ext.asyncio import AsyncConnection

from reconciler.store.database import driver_of
from reconciler.store.tables import EVENT_COLUMNS, EVENTS

_PAGE = 500
"""Rows held at once."""


async def pages_after(
    connection: AsyncConnection, position: int, *, as_text: bool = False
) -> AsyncIterator[list[tuple[Any, ...]]]:
    """The rows after a position in the order of EVENT_COLUMNS. Times are in UTC; `as_text`: they and UUIDs are the
    server's text, since making objects of them takes as long as hashing the row."""
    await connection.execute(_FORM)
    driver = await driver_of(connection)
    async with driver.cursor("log_pages") as cursor:
        for kind in ("uuid", "timestamptz") if as_text else ():
            cursor.adapters.register_loader(kind, TextLoader)
        await cursor.execute(_ROWS, [position])
        while rows := await cursor.fetchmany(_PAGE):
            yield rows


_FORM = sa.select(sa.func.set_config("TimeZone", "UTC", True), sa.func.set_config("DateStyle", "ISO", True))
_ROWS = sql.SQL("SELECT {} FROM {} WHERE position > %s ORDER BY position").format(
    sql.SQL(", ").join(map(sql.Identifier, EVENT_COLUMNS)), sql.Identifier(EVENTS.name)
)
