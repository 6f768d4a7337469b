"""The whole log on PostgreSQL for a copy outside: streamed, in constant memory."""

from __future__ import annotations

from collections.abc import AsyncIterator

from sqlalchemy.ext.asyncio import AsyncEngine

from reconciler.events.chain import Record
from reconciler.store.blobs import all_blobs
from reconciler.store.database import one_view
from reconciler.store.event_log import record_of
from reconciler.store.scan import pages_after


class LogExport:
    """Rows and blobs as they stand, neither checked nor decoded."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine

    async def records(self, first: int = 1) -> AsyncIterator[Record]:
        """Every row from a position on, in order, all of one moment."""
        async with one_view(self._engine) as connection:
            async for page in pages_after(connection, first - 1):
                for row in page:
                    yield record_of(row)

    async def blobs(self) -> AsyncIterator[tuple[str, bytes | None]]:
        """Every blob, by digest; None: redacted. Asked for after the rows, none that they name is missing."""
        async with one_view(self._engine) as connection:
            async for digest, content in all_blobs(connection):
                yield digest, content
