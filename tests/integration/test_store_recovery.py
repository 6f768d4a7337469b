"""Nothing that was appended is lost: whatever is killed, wherever it was."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import AsyncGenerator
from pathlib import Path

import pytest

from reconciler.errors import StoreError
from reconciler.ports import EventFilter
from reconciler.store import event_log
from reconciler.store.database import engine_for
from reconciler.store.embedded import EmbeddedPostgres
from reconciler.store.event_log import PostgresEventLog
from reconciler.store.read_model import PostgresReadModel
from reconciler.store.upgrade import upgrade
from tests.conformance import toy_fold
from tests.conformance.event_log import FLEET, first_events, registered

ROOT = Path(__file__).parents[2]
APPENDER = """
    import asyncio, sys
    from reconciler.store.database import engine_for
    from reconciler.store.event_log import PostgresEventLog
    from tests.conformance import toy_fold
    from tests.conformance.event_log import registered

    async def main():
        log = await PostgresEventLog.open(engine_for(sys.argv[1]), toy_fold, tool_version="1")
        for number in range(100_000):
            events = await log.append([registered(f"n{number}-{each}") for each in range(20)], {})
            print(events[-1].position, flush=True)

    asyncio.run(main())
"""


CUT_LISTENERS = """
SELECT pg_terminate_backend(pid) FROM pg_stat_activity
WHERE query LIKE 'LISTEN %%' AND datname = current_database() AND pid <> pg_backend_pid()"""


def appender(url: str) -> subprocess.Popen[str]:
    """Appends groups of 20 for ever; prints each group's last position once it is told that it is in."""
    command = [sys.executable, "-c", textwrap.dedent(APPENDER), url]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, cwd=ROOT)


def acknowledged(process: subprocess.Popen[str], count: int) -> int:
    """The last position among the next `count` acknowledgements."""
    assert process.stdout is not None
    return int([process.stdout.readline() for _ in range(count)][-1])


def last_acknowledged(process: subprocess.Popen[str], known: int) -> int:
    """After its death: what it still printed."""
    rest = process.communicate(timeout=30)[0].split()
    return int(rest[-1]) if rest else known


async def assert_whole(url: str, acknowledged: int) -> None:
    """Every acknowledged group is there, no group in part; the log verifies; the rows are those of a replay."""
    engine = engine_for(url)
    log = await PostgresEventLog.open(engine, toy_fold, tool_version="1")
    reads = PostgresReadModel(engine, toy_fold)
    events = await log.read(EventFilter())
    assert len(events) >= acknowledged
    assert len(events) % 20 == 0
    assert (await log.verify()).problems == ()
    live = await reads.snapshot(FLEET)
    await reads.rebuild()
    assert await reads.snapshot(FLEET) == live
    [event] = await log.append([registered("afterwards")], {})
    assert event.position == len(events) + 1
    await engine.dispose()


@pytest.mark.parametrize("groups", [1, 4, 9])
async def test_a_killed_appender_loses_nothing(database_url: str, groups: int) -> None:
    process = appender(database_url)
    known = acknowledged(process, groups)
    process.kill()
    await assert_whole(database_url, last_acknowledged(process, known))


async def test_a_killed_server_loses_nothing(tmp_path: Path) -> None:
    """With fsync as in production; the operating system stays up."""
    try:
        server = EmbeddedPostgres(tmp_path)
        upgrade(server.start())
    except StoreError as error:
        pytest.skip(f"no embedded PostgreSQL here: {error}")
    with server:
        process = appender(server.url)
        known = acknowledged(process, 5)
        postmaster = int((tmp_path / "postgres" / "postmaster.pid").read_text().split()[0])
        os.kill(postmaster, signal.SIGKILL)
        known = last_acknowledged(process, known)
        server.start()
        await assert_whole(server.url, known)


async def test_a_frozen_holder_of_the_append_lock_does_not_stop_the_others(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A process that stands still in the middle of an append loses its connection, and with it the lock."""
    monkeypatch.setattr(event_log, "LONGEST_PAUSE", "100ms")
    engine = engine_for(database_url)
    frozen = await engine.connect()
    await event_log.take_append_lock(frozen)
    log = await PostgresEventLog.open(engine, toy_fold, tool_version="1")
    assert len(await log.append([registered("a")], {})) == 1
    with pytest.raises(Exception, match="idle-in-transaction timeout"):
        await frozen.exec_driver_sql("SELECT 1")
    await frozen.invalidate()
    await frozen.close()
    await engine.dispose()


async def test_a_follower_whose_connection_is_cut_says_so_and_can_go_on(database_url: str) -> None:
    engine = engine_for(database_url)
    log = await PostgresEventLog.open(engine, toy_fold, tool_version="1")
    await log.append([registered("a")], {})
    events = log.follow(0)
    assert (await anext(events)).position == 1
    waiting = asyncio.ensure_future(anext(events))
    await asyncio.sleep(0.1)
    async with engine.connect() as connection:
        await connection.exec_driver_sql(CUT_LISTENERS)
    with pytest.raises(StoreError, match=r"no connection|terminating connection"):
        await waiting
    await log.append([registered("b")], {})
    [event] = await first_events(log.follow(1), 1)
    assert event.position == 2
    await engine.dispose()


async def test_a_follower_finds_what_no_notification_told(database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(event_log, "POLL_SECONDS", 0.05)
    monkeypatch.setattr(event_log, "CHANNEL", "another")
    engine = engine_for(database_url)
    log = await PostgresEventLog.open(engine, toy_fold, tool_version="1")
    events = log.follow(0)
    waiting = asyncio.ensure_future(anext(events))
    await asyncio.sleep(0.1)
    await log.append([registered("a")], {})
    assert (await asyncio.wait_for(waiting, 20)).position == 1
    assert isinstance(events, AsyncGenerator)
    await events.aclose()
    await engine.dispose()
