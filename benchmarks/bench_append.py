"""The append with its chain, apart from read tables, beside a bare COPY of the same rows and beside `eventsourcing`.

All append the same batches to one server in turn, and the median of the batches counts. DATABASE_URL names the server;
without it an embedded one is started, with fsync on, as in production. What a batch takes of a processor (client +
server) is known of an embedded one only. The library has an environment of its own, .venv/bench, where `make bench`
installs it; where it is not there, its rows are left out.
"""

from __future__ import annotations

import asyncio
import json
import os
import time
from collections import defaultdict
from collections.abc import Awaitable, Sequence
from pathlib import Path
from statistics import median
from typing import NamedTuple

import sqlalchemy as sa
from sqlalchemy import make_url
from sqlalchemy.ext.asyncio import AsyncEngine

from benchmarks.bench_store import NODES, converged
from benchmarks.costs import busy_of
from benchmarks.database import NoReadTables, run
from reconciler.events.envelope import NewEvent
from reconciler.store.database import copy_rows, engine_for, transaction
from reconciler.store.event_log import PostgresEventLog
from reconciler.store.tables import EVENT_COLUMNS, EVENTS

BATCHES = 20
PYTHON = Path(__file__).parents[1] / ".venv/bench/bin/python"
PROGRAM = Path(__file__).with_name("eventsourcing_appends.py")
BARE = {"with_indexes": "INCLUDING ALL", "without": "INCLUDING DEFAULTS"}
"""Table → what it has of `events`; no triggers in any case."""
FORMS = ("statements", "functions")
"""How the library inserts: as it does by default, and with the functions it can put into the database."""


class Library:
    """A process that appends batches with eventsourcing."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    @classmethod
    async def start(cls, url: str, form: str) -> Library:
        given = make_url(url)
        place = (given.host or str(given.query.get("host", "")), str(given.port or 5432), given.database or "")
        login = (given.username or "", given.password or "")
        pipe = asyncio.subprocess.PIPE
        command = (PYTHON, PROGRAM, *place, *login, form)
        # Otherwise psycopg's pipeline, which the library uses, stands still for ever on the fifteenth batch.
        environment = {**os.environ, "PSYCOPG_WAIT_FUNC": "wait_poll"}
        return cls(await asyncio.create_subprocess_exec(*command, stdin=pipe, stdout=pipe, env=environment))

    async def append(self, version: int, batch: Sequence[NewEvent]) -> tuple[float, float]:
        """Seconds of its encoding and of its insertion."""
        assert self._process.stdin
        assert self._process.stdout
        asked = [version, [[event.stream, dict(event.body.as_data())] for event in batch]]
        self._process.stdin.write(f"{json.dumps(asked)}\n".encode())
        encoding, inserting = (await self._process.stdout.readline()).split()
        return float(encoding), float(inserting)

    async def end(self) -> None:
        self._process.terminate()
        await self._process.wait()


class Taken(NamedTuple):
    """Seconds of a batch, and the milliseconds of a processor that this process and the server's had for it."""

    wall: float
    client: float
    server: float


class Clock:
    """Times what goes over one connection to a server on this machine; `server` is None where it is on another one."""

    def __init__(self, server: int | None) -> None:
        self._server = server

    @classmethod
    async def of(cls, engine: AsyncEngine) -> Clock:
        async with transaction(engine) as connection:
            process = int(await connection.scalar(sa.text("SELECT pg_backend_pid()")))
        return cls(None if os.environ.get("DATABASE_URL") else process)

    async def time(self, work: Awaitable[object]) -> Taken:
        before = self._now()
        await work
        return Taken(*(now - then for then, now in zip(before, self._now(), strict=True)))

    def _now(self) -> Taken:
        busy = 0.0 if self._server is None else busy_of(self._server)
        return Taken(time.perf_counter(), 1000 * time.process_time(), busy)


async def copy(engine: AsyncEngine, table: str, rows: Sequence[Sequence[object]]) -> None:
    """A transaction of its own, without chain, lock or fold."""
    async with transaction(engine) as connection:
        await copy_rows(connection, table, EVENT_COLUMNS, rows)


async def newest_rows(engine: AsyncEngine) -> list[tuple[object, ...]]:
    columns = [EVENTS.c[name] for name in EVENT_COLUMNS]
    async with transaction(engine) as connection:
        found = await connection.execute(sa.select(*columns).order_by(EVENTS.c.position.desc()).limit(NODES))
        return [tuple(row) for row in found][::-1]


async def bytes_per_event(engine: AsyncEngine) -> tuple[int, int]:
    """Of the table, and of its indexes."""
    sizes = "SELECT pg_table_size('events') / count(*), pg_indexes_size('events') / count(*) FROM events"
    async with transaction(engine) as connection:
        table, indexes = (await connection.execute(sa.text(sizes))).one()
        return table, indexes


async def measure(url: str) -> list[tuple[str, str]]:
    engine = engine_for(url, pool_size=1)
    log = await PostgresEventLog.open(engine, NoReadTables(), tool_version="bench")
    async with transaction(engine) as connection:
        for name, including in BARE.items():
            await connection.exec_driver_sql(f"CREATE TABLE {name} (LIKE events {including})")
        for form in FORMS:
            await connection.exec_driver_sql(f"CREATE SCHEMA {form}")
    libraries = {form: await Library.start(url, form) for form in FORMS if PYTHON.exists()}
    taken: dict[str, list[Taken]] = defaultdict(list)
    clock = await Clock.of(engine)
    for version in range(1, BATCHES + 1):
        batch = [converged(node, version) for node in range(NODES)]
        taken["append"].append(await clock.time(log.append(batch, {})))
        rows = await newest_rows(engine)
        for name in BARE:
            taken[name].append(await clock.time(copy(engine, name, rows)))
        for form, library in libraries.items():
            encoding, inserting = await asyncio.wait_for(library.append(version, batch), 60)
            taken[form].append(Taken(inserting, 0, 0))
            taken[f"{form}, encoded"].append(Taken(encoding + inserting, 0, 0))
    for library in libraries.values():
        await library.end()
    of_table, of_indexes = await bytes_per_event(engine)
    await engine.dispose()
    medians = {name: Taken(*map(median, zip(*values, strict=True))) for name, values in taken.items()}
    return [*table(medians), ("bytes per event", f"{of_table} and {of_indexes} of indexes")]


WHAT = {
    "with_indexes": ("bare COPY of the same rows, same indexes", "≥ 0.6"),
    "without": ("bare COPY of the same rows, no index", ""),
    "statements": ("eventsourcing, its recorder alone", "≥ 1.5"),
    "statements, encoded": ("eventsourcing, its mapper and recorder", ""),
    "functions": ("eventsourcing with database functions, its recorder alone", ""),
    "functions, encoded": ("eventsourcing with database functions, its mapper and recorder", ""),
}


def table(taken: dict[str, Taken]) -> list[tuple[str, str]]:
    ours = taken["append"]
    rows = [(f"append with chain, batches of {NODES:,}", f"{NODES / ours.wall:,.0f} events/s{_processor(ours)}")]
    for name, (what, goal) in WHAT.items():
        if name in taken:
            compared = f"append ÷ it: {taken[name].wall / ours.wall:.2f}" + (f" ({goal})" if goal else "")
            rows.append((what, f"{NODES / taken[name].wall:,.0f}/s{_processor(taken[name])}, {compared}"))
    return rows


def _processor(taken: Taken) -> str:
    """For a batch; "" where it is not known."""
    return f", {taken.client:.0f} + {taken.server:.0f} ms of processor" if taken.server else ""


if __name__ == "__main__":
    run(measure)
