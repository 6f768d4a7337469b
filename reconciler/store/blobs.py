"""Contents by SHA-256 on PostgreSQL."""

from __future__ import annotations

import hashlib
import json
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import ARRAY, BYTEA, insert
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from reconciler.ports import Redaction
from reconciler.store.database import transaction
from reconciler.store.records import check_blobs
from reconciler.store.tables import BLOBS, EVENTS

_PAGE = 50
"""Blobs a verification holds at once."""


class PostgresBlobs:
    """ports.Blobs."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine

    async def put(self, contents: Iterable[bytes]) -> Sequence[str]:
        addressed = [(hashlib.sha256(content).hexdigest(), content) for content in contents]
        # In one order for everybody, so that two writers of the same blobs never wait for each other.
        by_digest = dict(sorted(addressed))
        if by_digest:
            async with transaction(self._engine) as connection:
                present = await _present(connection, list(by_digest))
                missing = {digest: content for digest, content in by_digest.items() if digest not in present}
                if missing:
                    await _insert(connection, missing)
        return [digest for digest, _ in addressed]

    async def missing(self, digests: Iterable[str]) -> set[str]:
        wanted = set(digests)
        if not wanted:
            return set()
        async with transaction(self._engine) as connection:
            return wanted - await _present(connection, sorted(wanted))

    async def get(self, digests: Iterable[str]) -> Mapping[str, bytes]:
        wanted = set(digests)
        if not wanted:
            return {}
        async with transaction(self._engine) as connection:
            found = await contents_of(connection, sorted(wanted))
            redacted = await _redacted(connection, sorted(wanted)) if None in found.values() else {}
        kept = {digest: content for digest, content in found.items() if content is not None}
        check_blobs(wanted, kept, redacted)
        return kept

    async def redacted(self, digests: Iterable[str]) -> Mapping[str, Redaction]:
        async with transaction(self._engine) as connection:
            return await _redacted(connection, sorted(set(digests)))


async def all_blobs(connection: AsyncConnection) -> AsyncIterator[tuple[str, bytes | None]]:
    """Every blob (None: redacted), without holding all of them. Hashes are computed here, not by the server that is
    being checked."""
    result = await connection.stream(
        sa.select(BLOBS.c.sha256, BLOBS.c.content).order_by(BLOBS.c.sha256), execution_options={"yield_per": _PAGE}
    )
    async for digest, content in result:
        yield digest, content


async def _present(connection: AsyncConnection, digests: Sequence[str]) -> set[str]:
    wanted = sa.literal(digests, ARRAY(sa.Text))
    return set(await connection.scalars(sa.select(BLOBS.c.sha256).where(BLOBS.c.sha256 == sa.any_(wanted))))


async def contents_of(connection: AsyncConnection, digests: Sequence[str]) -> dict[str, bytes | None]:
    """Those of the blobs that are stored; None: redacted."""
    wanted = sa.literal(digests, ARRAY(sa.Text))
    found = await connection.execute(
        sa.select(BLOBS.c.sha256, BLOBS.c.content).where(BLOBS.c.sha256 == sa.any_(wanted))
    )
    return {row.sha256: row.content for row in found}


async def _redacted(connection: AsyncConnection, digests: Sequence[str]) -> dict[str, Redaction]:
    found = await connection.execute(_REDACTED, {"digests": digests})
    return {digest: Redaction(position, json.loads(data)["reason"]) for digest, position, data in found}


_REDACTED = (
    sa.select(BLOBS.c.sha256, EVENTS.c.position, EVENTS.c.data)
    .join(EVENTS, EVENTS.c.position == BLOBS.c.redacted_at)
    .where(BLOBS.c.sha256 == sa.any_(sa.bindparam("digests", type_=ARRAY(sa.Text))))
    .order_by(BLOBS.c.sha256)
)


async def _insert(connection: AsyncConnection, contents: Mapping[str, bytes]) -> None:
    rows = sa.func.unnest(
        sa.literal(list(contents), ARRAY(sa.Text)), sa.literal(list(contents.values()), ARRAY(BYTEA))
    ).table_valued("sha256", "content")
    statement = insert(BLOBS).from_select(["sha256", "content"], sa.select(rows.render_derived()))
    await connection.execute(statement.on_conflict_do_nothing())
