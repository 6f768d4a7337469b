"""Which version of the fold wrote the read tables. A program with another one must not write into them."""

from __future__ import annotations

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from reconciler.errors import StoreError
from reconciler.projections.fold import FOLD_VERSION
from reconciler.store.tables import PROJECTIONS

SETTING = "reconciler.fold_version"
"""The parameter by which a transaction says who appends; the trigger events_fold refuses another version."""


async def check_version(connection: AsyncConnection, *, or_older: bool = False) -> None:
    """Raises StoreError where another version wrote the read tables. `or_older`: only where a newer one did."""
    found = await written_by(connection)
    if found == FOLD_VERSION or (or_older and found < FOLD_VERSION):
        return
    newer = "use the version of reconciler that upgraded the database, or a newer one"
    raise StoreError(
        f"the read tables are of fold version {found}, this version of reconciler has {FOLD_VERSION}",
        remedy=newer if found > FOLD_VERSION else "run `reconciler db upgrade`",
    )


async def written_by(connection: AsyncConnection) -> int:
    """The version of the fold that wrote the read tables."""
    return int(await connection.scalar(sa.select(PROJECTIONS.c.fold_version)) or 0)


async def stamp(connection: AsyncConnection) -> None:
    """Note that this transaction puts the rows of a rebuild in place. Raises StoreError where a newer version did."""
    update = sa.update(PROJECTIONS).where(PROJECTIONS.c.fold_version <= FOLD_VERSION)
    values = {"fold_version": FOLD_VERSION, "rebuilds": PROJECTIONS.c.rebuilds + 1}
    done = await connection.execute(update.values(**values, rebuilt_at=sa.func.clock_timestamp()))
    if done.rowcount == 0:
        await check_version(connection, or_older=True)
