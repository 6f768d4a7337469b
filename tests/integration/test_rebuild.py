"""The read tables folded anew beside those in use: compared row by row, switched at once, refused to other folds."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncEngine

from reconciler.errors import StoreError
from reconciler.events.catalogue import NodeRemoved, SourceRecovered
from reconciler.ports import RowDifference, Snapshot
from reconciler.projections.fold import FOLD_VERSION
from reconciler.projections.tables import NODES
from reconciler.store.database import transaction
from reconciler.store.event_log import PostgresEventLog
from reconciler.store.read_model import PostgresReadModel
from reconciler.store.rebuild import PREFIX, rebuild_outdated, rebuilding
from reconciler.store.tables import READ_TABLES
from reconciler.store.upgrade import check, pending
from tests.conformance import toy_fold
from tests.conformance.event_log import FLEET, new, registered, unreachable

ROOT = Path(__file__).parents[2]


@pytest.fixture
async def log(engine: AsyncEngine) -> PostgresEventLog:
    """Eight events in four groups; rows that ended and rows that hold."""
    log = await PostgresEventLog.open(engine, toy_fold, tool_version="1")
    await log.append([registered("a"), registered("b")], {})
    await log.append([new(NodeRemoved("a", "c" * 40), 1), unreachable("down")], {})
    await log.append([registered("c"), registered("far", fleet="other")], {})
    await log.append([new(SourceRecovered(), 1), registered("d")], {})
    return log


async def run(engine: AsyncEngine, *statements: str) -> None:
    async with transaction(engine) as connection:
        for statement in statements:
            done = await connection.execute(sa.text(statement))
            assert done.rowcount == 1, statement


async def everything(engine: AsyncEngine) -> dict[str, list[Sequence[Any]]]:
    """Every row of every read table."""
    async with transaction(engine) as connection:
        return {
            name: sorted(map(tuple, await connection.execute(sa.select(table))), key=repr)
            for name, table in READ_TABLES.items()
        }


async def test_tables_that_are_what_the_log_makes_them(log: PostgresEventLog, engine: AsyncEngine) -> None:
    before, told = await everything(engine), []
    async with rebuilding(engine, toy_fold, lambda *news: told.append(news)) as rebuild:
        found = await rebuild.compare()
    assert (found.events, found.differing, found.differences) == (8, 0, ())
    assert told == [(2, 8), (4, 8), (6, 8), (8, 8)]
    assert await everything(engine) == before


async def test_each_row_that_differs_is_named_and_put_right(log: PostgresEventLog, engine: AsyncEngine) -> None:
    """A value, an end, a row too few in the past and in the present, and rows too many."""
    before = await everything(engine)
    await run(
        engine,
        "UPDATE fleets SET unreachable = 'never', waiting = '[]' WHERE fleet = 'default' AND valid_to IS NULL",
        "UPDATE nodes SET valid_to = 3 WHERE node = 'a'",
        "DELETE FROM fleets WHERE fleet = 'default' AND valid_from = 4",
        "DELETE FROM nodes WHERE node = 'd'",
        "INSERT INTO nodes (fleet, node, valid_from) VALUES ('default', 'ghost', 7)",
    )
    async with rebuilding(engine, toy_fold) as rebuild:
        found = await rebuild.compare()
        assert (found.differing, set(found.differences)) == (
            5,
            {
                RowDifference("fleets", (FLEET,), 8, "changed", ("waiting", "unreachable")),
                RowDifference("nodes", (FLEET, "a"), 2, "changed", ("valid_to",)),
                RowDifference("fleets", (FLEET,), 4, "missing", ()),
                RowDifference("nodes", (FLEET, "d"), 8, "missing", ()),
                RowDifference("nodes", (FLEET, "ghost"), 7, "surplus", ()),
            },
        )
        await rebuild.switch()
    assert await everything(engine) == before


async def test_appends_go_on_and_are_caught_up_with(log: PostgresEventLog, engine: AsyncEngine) -> None:
    reads = PostgresReadModel(engine, toy_fold)
    await run(engine, "DELETE FROM nodes WHERE node = 'd'")
    async with rebuilding(engine, toy_fold) as rebuild:
        assert (await rebuild.compare()).differing == 1
        await log.append([registered("e"), new(NodeRemoved("c", "c" * 40), 1)], {})
        assert (await rebuild.compare()).events == 10
        await log.append([registered("f")], {})
        await rebuild.switch()
    nodes = (await reads.snapshot(FLEET)).table(NODES)
    assert sorted(name for _, name in nodes) == ["b", "d", "e", "f"]
    async with rebuilding(engine, toy_fold) as rebuild:
        assert (await rebuild.compare()).differing == 0


async def test_a_comparison_is_of_one_moment(log: PostgresEventLog, engine: AsyncEngine) -> None:
    """Whoever appends all the time makes no difference."""

    async def append() -> None:
        for number in range(40):
            await log.append([registered(f"more-{number}")], {})

    appending = asyncio.ensure_future(append())
    async with rebuilding(engine, toy_fold) as rebuild:
        while not appending.done():
            assert (await rebuild.compare()).differences == ()
            await asyncio.sleep(0)
        assert (await rebuild.compare()).events == 48


async def test_a_snapshot_that_was_kept_is_read_anew_after_a_switch(log: PostgresEventLog, engine: AsyncEngine) -> None:
    reads = PostgresReadModel(engine, toy_fold)
    right = await reads.snapshot(FLEET)
    await run(engine, "UPDATE nodes SET pool = 'wrong' WHERE node = 'b'")
    wrong = PostgresReadModel(engine, toy_fold)
    assert await _pool_of_b(wrong) == "wrong"
    async with rebuilding(engine, toy_fold) as rebuild:
        await rebuild.switch()
    assert await _pool_of_b(wrong) == "worker"
    assert await wrong.snapshot(FLEET) == right


async def _pool_of_b(reads: PostgresReadModel) -> str:
    found: Snapshot = await reads.snapshot(FLEET)
    row = found.one(NODES, FLEET, "b")
    assert row is not None
    return str(row["pool"])


KILLED = """
    import asyncio, os, signal, sys
    from reconciler.projections.tables import TABLES
    from reconciler.store import rebuild
    from reconciler.store.database import engine_for
    from tests.conformance import toy_fold

    class Deadly(dict):
        def __getitem__(self, name):
            if name == TABLES[-1].name:
                os.kill(os.getpid(), signal.SIGKILL)
            return super().__getitem__(name)

    async def main():
        rebuild._REPLACE = Deadly(rebuild._REPLACE)
        async with rebuild.rebuilding(engine_for(sys.argv[1]), toy_fold) as begun:
            await begun.compare()
            await begun.switch()

    asyncio.run(main())
"""


async def test_one_that_is_killed_in_the_middle_changes_nothing(
    log: PostgresEventLog, engine: AsyncEngine, database_url: str
) -> None:
    """The read tables stay as they are, nothing is left behind, nobody waits, and the next one goes through."""
    await run(engine, "DELETE FROM nodes WHERE node = 'd'", "UPDATE nodes SET pool = 'x' WHERE node = 'b'")
    before = await everything(engine)
    command = [sys.executable, "-c", textwrap.dedent(KILLED), database_url]
    assert subprocess.run(command, cwd=ROOT, check=False).returncode == -signal.SIGKILL
    assert await everything(engine) == before
    await log.append([registered("e")], {})
    async with rebuilding(engine, toy_fold) as rebuild:
        assert (await rebuild.compare()).differing == 2
        await rebuild.switch()
    left = sa.text("SELECT relname FROM pg_class WHERE starts_with(relname, :prefix)")
    async with asyncio.timeout(30):  # the server takes its time to see that the killed one is gone
        while True:
            async with transaction(engine) as connection:
                if not (await connection.scalars(left, {"prefix": PREFIX})).all():
                    break
            await asyncio.sleep(0.05)


@pytest.fixture
async def aged(log: PostgresEventLog, engine: AsyncEngine) -> PostgresEventLog:
    """The log with read tables that an older fold wrote otherwise."""
    await run(engine, "UPDATE projections SET fold_version = 1", "UPDATE nodes SET pool = 'old' WHERE node = 'b'")
    return log


async def test_read_tables_of_an_older_fold_are_switched_once(
    aged: PostgresEventLog, engine: AsyncEngine, database_url: str
) -> None:
    assert pending(database_url) == [f"read tables of fold version {FOLD_VERSION}"]
    old = f"the read tables are of fold version 1, this version of reconciler has {FOLD_VERSION}"
    assert check(database_url) == [f"{old}: run `reconciler db upgrade`"]
    with pytest.raises(StoreError, match=old) as refused:
        await PostgresEventLog.open(engine, toy_fold, tool_version="1")
    assert refused.value.remedy == "run `reconciler db upgrade`"
    with pytest.raises(StoreError, match=f"fold version 1, and the program that would append has {FOLD_VERSION}"):
        await aged.append([registered("e")], {})
    assert await rebuild_outdated(engine, toy_fold)
    assert (pending(database_url), check(database_url)) == ([], [])
    assert await _pool_of_b(PostgresReadModel(engine, toy_fold)) == "worker"
    await aged.append([registered("e")], {})
    assert not await rebuild_outdated(engine, toy_fold)


async def test_a_program_of_an_older_fold_writes_nothing(log: PostgresEventLog, engine: AsyncEngine) -> None:
    """It is refused when it starts, when it goes on appending, and when it would rebuild."""
    async with rebuilding(engine, toy_fold) as begun:
        await run(engine, "UPDATE projections SET fold_version = fold_version + 1")
        before = await everything(engine)
        newer = f"the read tables are of fold version {FOLD_VERSION + 1}"
        with pytest.raises(StoreError, match=newer) as refused:
            await log.append([registered("e")], {})
        assert refused.value.remedy == "Use the version of reconciler that upgraded the database, or a newer one."
        with pytest.raises(StoreError, match=newer):
            await PostgresEventLog.open(engine, toy_fold, tool_version="1")
        with pytest.raises(StoreError, match=newer):
            await begun.switch()
    with pytest.raises(StoreError, match=newer):
        async with rebuilding(engine, toy_fold):
            pass
    assert await everything(engine) == before
    assert not await rebuild_outdated(engine, toy_fold)


async def test_a_program_from_before_there_were_versions_is_refused_by_name(engine: AsyncEngine) -> None:
    """It says no version when it appends."""
    newer = f"of fold version {FOLD_VERSION}, and the program that would append has 1"
    with pytest.raises(StoreError, match=newer) as refused:
        async with transaction(engine) as connection:
            await connection.execute(sa.text("INSERT INTO events SELECT * FROM events"))
    assert refused.value.remedy == "Use the version of reconciler that upgraded the database, or a newer one."
