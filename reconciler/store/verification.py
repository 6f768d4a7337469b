"""The whole log read and checked: each row's place and hash, each blob's address, at the speed of hashing."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import Any

import sqlalchemy as sa
from psycopg import sql
from psycopg.types.string import TextLoader
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from reconciler.events.chain import RawRecord, Verifier
from reconciler.ports import Verification
from reconciler.store.blob_check import BlobCheck
from reconciler.store.blobs import all_blobs
from reconciler.store.database import driver_of, one_view
from reconciler.store.tables import EVENT_COLUMNS, EVENTS, STREAMS

_PAGE = 1000
"""Rows held at once."""


async def verify_log(engine: AsyncEngine) -> Verification:
    """ports.EventLog.verify. Hashes are computed here, not by the server that is being checked."""
    verifier, blobs = Verifier(), BlobCheck()
    problems: list[str] = []
    async with one_view(engine) as connection:
        async for page in raw_pages(connection):
            for record in page:
                problems += verifier.check_raw(record)
                blobs.event(record.position, record)
        problems += verifier.check_streams(await _stream_versions(connection))
        async for digest, content in all_blobs(connection):
            blobs.blob(digest, content)
    return Verification(verifier.events, blobs.blobs, verifier.head.hex(), (*problems, *blobs.problems()))


async def raw_pages(connection: AsyncConnection, after: int = 0) -> AsyncIterator[list[RawRecord]]:
    """The rows after a position, in order, as the server writes them: what nobody needs as objects stays text."""
    await connection.execute(_TEXT_FORM)
    driver = await driver_of(connection)
    async with driver.cursor("raw_pages") as cursor:
        for kind in ("uuid", "timestamptz"):
            cursor.adapters.register_loader(kind, TextLoader)
        await cursor.execute(_ROWS, [after])
        while rows := await cursor.fetchmany(_PAGE):
            yield [_raw(row) for row in rows]


_TEXT_FORM = sa.select(sa.func.set_config("TimeZone", "UTC", True), sa.func.set_config("DateStyle", "ISO", True))
_ROWS = sql.SQL("SELECT {} FROM {} WHERE position > %s ORDER BY position").format(
    sql.SQL(", ").join(map(sql.Identifier, EVENT_COLUMNS)), sql.Identifier(EVENTS.name)
)


def _raw(row: Sequence[Any]) -> RawRecord:
    position, version, group, recorded_at, *rest = row
    return RawRecord._make((position, version, group, _as_hashed(recorded_at), *rest))


def _as_hashed(moment: str) -> str:
    """`2026-01-31 09:00:00.12+00` as chain.timestamp writes it. What has another form was never written by us: it
    stays as it is, and matches no hash."""
    day, _, rest = moment.partition(" ")
    time, _, zone = rest.partition("+")
    whole, _, fraction = time.partition(".")
    return f"{day}T{whole}.{fraction:0<6}Z" if zone == "00" else moment


async def _stream_versions(connection: AsyncConnection) -> dict[str, int]:
    return {row.stream: row.version for row in await connection.execute(sa.select(STREAMS.c.stream, STREAMS.c.version))}
