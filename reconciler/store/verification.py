"""The whole log read and checked: each row's place and hash, each blob's address, at the speed of hashing."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from reconciler.events.chain import RawRecord, Verifier
from reconciler.ports import Verification
from reconciler.store.blob_check import BlobCheck
from reconciler.store.blobs import all_blobs
from reconciler.store.database import one_view
from reconciler.store.scan import pages_after
from reconciler.store.tables import STREAMS


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


async def raw_pages(connection: AsyncConnection) -> AsyncIterator[list[RawRecord]]:
    """Every row in order, as text."""
    async for page in pages_after(connection, 0, as_text=True):
        yield [_raw(row) for row in page]


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
