"""Leases on PostgreSQL, by the database's clock: the clocks of the machines that hold them do not matter."""

from __future__ import annotations

from collections.abc import Mapping

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncEngine

from reconciler.store.database import transaction
from reconciler.store.tables import LEASES

_NOW = sa.func.clock_timestamp()


class PostgresLeases:
    """ports.Leases."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine

    async def acquire(self, name: str, owner: str, seconds: int) -> bool:
        end = _NOW + sa.func.make_interval(0, 0, 0, 0, 0, 0, seconds)
        claim = insert(LEASES).values(name=name, owner=owner, expires_at=end)
        claim = claim.on_conflict_do_update(
            index_elements=[LEASES.c.name],
            set_={"owner": claim.excluded.owner, "expires_at": claim.excluded.expires_at},
            where=sa.or_(LEASES.c.owner == owner, LEASES.c.expires_at <= _NOW),
        )
        async with transaction(self._engine) as connection:
            return await connection.scalar(claim.returning(LEASES.c.name)) is not None

    async def release(self, name: str, owner: str) -> None:
        async with transaction(self._engine) as connection:
            await connection.execute(sa.delete(LEASES).where(LEASES.c.name == name, LEASES.c.owner == owner))

    async def live(self, prefix: str = "") -> Mapping[str, str]:
        unexpired = sa.select(LEASES.c.name, LEASES.c.owner).where(
            LEASES.c.name.startswith(prefix, autoescape=True), LEASES.c.expires_at > _NOW
        )
        async with transaction(self._engine) as connection:
            return {row.name: row.owner for row in await connection.execute(unexpired)}
