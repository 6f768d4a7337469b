"""Followers miss nothing and see nothing twice: appends at once whose commits come late, followers that are killed."""

from __future__ import annotations

import asyncio
import random
import sys
import textwrap
from contextlib import suppress
from pathlib import Path

import psycopg
import pytest

from benchmarks.database import NoReadTables
from reconciler.events.catalogue import NodeRecovered
from reconciler.store.database import engine_for
from reconciler.store.event_log import PostgresEventLog
from tests.conformance.event_log import new
from tests.integration.test_store_append_only import libpq

ROOT = Path(__file__).parents[2]
APPENDERS = 4
FOLLOWER = """
    import asyncio, sys
    from reconciler.store.database import engine_for
    from reconciler.store.event_log import PostgresEventLog
    from tests.conformance import toy_fold

    async def main():
        log = await PostgresEventLog.open(engine_for(sys.argv[1]), toy_fold, tool_version="1")
        async for event in log.follow(int(sys.argv[2])):
            print(event.position, flush=True)

    asyncio.run(main())
"""
LATE_COMMITS = """
CREATE FUNCTION come_late() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_sleep(0.01 * random());
    RETURN NULL;
END
$$;
CREATE CONSTRAINT TRIGGER come_late AFTER INSERT ON events DEFERRABLE INITIALLY DEFERRED
    FOR EACH ROW WHEN (NEW.position = NEW.append_group) EXECUTE FUNCTION come_late();
"""
"""Every transaction waits after its last statement, when its rows have their places, and before others see them."""


async def append(url: str, appender: int, count: int, most: int) -> None:
    """In groups of 1 to `most`, over a connection of its own."""
    engine, draw, done = engine_for(url, pool_size=1), random.Random(appender), 0
    log = await PostgresEventLog.open(engine, NoReadTables(), tool_version="1")
    while done < count:
        size = min(draw.randint(1, most), count - done)
        await log.append([new(NodeRecovered(f"{appender}-{done + each}")) for each in range(size)], {})
        done += size
    await engine.dispose()


async def follow_and_be_killed(url: str, last: int, lives: int) -> list[int]:
    """What processes that are killed say they have seen, each going on where the one before had come to."""
    seen: list[int] = []
    while not seen or seen[-1] < last:
        program = (sys.executable, "-c", textwrap.dedent(FOLLOWER), url, str(seen[-1] if seen else 0))
        process = await asyncio.create_subprocess_exec(*program, stdout=asyncio.subprocess.PIPE, cwd=ROOT)
        assert process.stdout
        goal = min(last, (seen[-1] if seen else 0) + last // lives)
        async for line in process.stdout:  # what was printed before the end is read to the end
            if line.endswith(b"\n"):
                seen.append(int(line))
            if seen[-1] >= goal and process.returncode is None:
                with suppress(ProcessLookupError):
                    process.kill()
        await process.wait()
    return seen


async def follow_and_be_cancelled(url: str, last: int, lives: int) -> list[int]:
    """The same in one process, by tasks."""
    engine, seen = engine_for(url), [0]
    log = await PostgresEventLog.open(engine, NoReadTables(), tool_version="1")

    async def follow(enough: int) -> None:
        async for event in log.follow(seen[-1]):
            seen.append(event.position)
            if event.position >= enough:
                reached.set()

    while seen[-1] < last:
        reached = asyncio.Event()
        task = asyncio.create_task(follow(min(last, seen[-1] + last // lives)))
        await reached.wait()
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
    await engine.dispose()
    return seen[1:]


@pytest.mark.parametrize(
    ("count", "most"),
    [(2_000, 40), pytest.param(100_000, 400, marks=[pytest.mark.slow, pytest.mark.timeout(1200)])],
)
async def test_followers_miss_nothing(database_url: str, count: int, most: int) -> None:
    with psycopg.connect(libpq(database_url)) as connection:
        connection.execute(LATE_COMMITS)
    *_, killed, other, cancelled = await asyncio.gather(
        *(append(database_url, number, count // APPENDERS, most) for number in range(APPENDERS)),
        follow_and_be_killed(database_url, count, 3),
        follow_and_be_killed(database_url, count, 2),
        follow_and_be_cancelled(database_url, count, 10),
    )
    everything = list(range(1, count + 1))
    assert killed == everything
    assert other == everything
    assert cancelled == everything
