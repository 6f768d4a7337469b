"""The whole log read and checked: each row's place and hash, each blob's address, at the speed of hashing."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from reconciler.events.catalogue import BlobRedacted
from reconciler.events.chain import RawRecord, TailVerifier, Verifier
from reconciler.ports import Verification
from reconciler.store.blob_check import BlobCheck
from reconciler.store.blobs import all_blobs, contents_of
from reconciler.store.database import one_view
from reconciler.store.scan import pages_after
from reconciler.store.tables import EVENTS, STREAMS

_BLOBS = 50
"""Contents held at once."""
_REDACTED = sa.select(EVENTS.c.position, EVENTS.c.type, EVENTS.c.schema_version, EVENTS.c.data).where(
    EVENTS.c.type == BlobRedacted.__name__, EVENTS.c.position <= sa.bindparam("position")
)
"""What was redacted before may be named again after."""


async def verify_log(engine: AsyncEngine) -> Verification:
    """ports.EventLog.verify. Hashes are computed here, not by the server that is being checked."""
    verifier, blobs = Verifier(), BlobCheck()
    problems: list[str] = []
    async with one_view(engine) as connection:
        async for page in raw_pages(connection):
            for record in page:
                problems += verifier.check_raw(record)
                blobs.event(record.position, record)
        problems += await _ends(connection, verifier)
        async for digest, content in all_blobs(connection):
            blobs.blob(digest, content)
    return Verification(verifier.events, blobs.blobs, verifier.head.hex(), (*problems, *blobs.problems()))


async def verify_tail(engine: AsyncEngine, position: int, trusted: str) -> Verification:
    """ports.EventLog.verify_after. Of the blobs, those that the events name."""
    verifier, blobs = TailVerifier(position, bytes.fromhex(trusted)), BlobCheck()
    problems: list[str] = []
    async with one_view(engine) as connection:
        redacted: Sequence[Any] = (await connection.execute(_REDACTED, {"position": position})).all()
        for row in redacted:
            blobs.event(row.position, row)
        async for page in raw_pages(connection, position):
            for record in page:
                problems += verifier.check_raw(record)
                blobs.event(record.position, record)
        problems += await _ends(connection, verifier, position)
        tried: set[str] = set()
        while wanted := [digest for digest in blobs.wanted() if digest not in tried][:_BLOBS]:
            tried.update(wanted)
            for digest, content in (await contents_of(connection, wanted)).items():
                blobs.blob(digest, content)
    return Verification(verifier.events, blobs.blobs, verifier.head.hex(), (*problems, *blobs.problems()))


async def raw_pages(connection: AsyncConnection, after: int = 0) -> AsyncIterator[list[RawRecord]]:
    """Every row after a position in order, as text."""
    async for page in pages_after(connection, after, as_text=True):
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


async def _ends(connection: AsyncConnection, verifier: Verifier, after: int = 0) -> list[str]:
    """Where log and streams end otherwise than the recorded heads of the streams with events after a position say."""
    wanted = sa.select(STREAMS.c.stream, STREAMS.c.version, STREAMS.c.last_position)
    heads = (await connection.execute(wanted.where(STREAMS.c.last_position > after))).all()
    last = max((head.last_position for head in heads), default=0)
    return [*verifier.check_end(last), *verifier.check_streams({head.stream: head.version for head in heads})]
