"""The append with its chain, apart from read tables, beside a bare COPY of the same rows and beside `eventsourcing`.

All append the same batches to one server in turn, and the median of the batches counts. DATABASE_URL names the server;
without it an embedded one is started, with fsync on, as in production, and on processors of its own. What a batch takes
of a processor (client + server) is known of an embedded one only. The library has an environment of its own,
.venv/bench, where `make bench` installs it; where it is not there, its rows are left out.
"""

from __future__ import annotations

import asyncio
import json
import os
import time
from collections import defaultdict
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from functools import partial
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

BATCHES = 40
PYTHON = Path(__file__).parents[1] / ".venv/bench/bin/python"
PROGRAM = Path(__file__).with_name("eventsourcing_appends.py")
BARE = {"with_indexes": "INCLUDING ALL", "without": "INCLUDING DEFAULTS"}
"""Table → what it has of `events`; no triggers in any case."""
PROCESSES = 5
"""In which the library may try a batch."""
FORMS = ("statements", "functions")
"""How the library inserts: as it does by default, and with the functions it can put into the database."""
Turn = Callable[[int, Sequence[NewEvent]], Awaitable[dict[str, "Taken"]]]
"""Appends a batch, given its version; what was measured, and what it took."""


class Library:
    """A process that appends batches with eventsourcing."""

    def __init__(self, url: str, form: str) -> None:
        given = make_url(url)
        place = (given.host or str(given.query.get("host", "")), str(given.port or 5432), given.database or "")
        self._command = (PYTHON, PROGRAM, *place, given.username or "", given.password or "", form)
        self._process: asyncio.subprocess.Process | None = None

    async def append(self, version: int, batch: Sequence[NewEvent]) -> tuple[float, float]:
        """Seconds of its encoding and of its insertion. psycopg's pipeline, which the library uses, stands still for
        ever once in some hundred batches: then the batch is given to another process."""
        asked = json.dumps([version, [[event.stream, dict(event.body.as_data())] for event in batch]])
        for _ in range(PROCESSES):
            with suppress(TimeoutError):
                encoding, inserting = (await asyncio.wait_for(self._answer(f"{asked}\n".encode()), 10)).split()
                return float(encoding), float(inserting)
            await self.end()
        raise TimeoutError(f"the library has not appended batch {version} in {PROCESSES} processes")

    async def _answer(self, asked: bytes) -> bytes:
        if self._process is None:
            pipe = asyncio.subprocess.PIPE
            # Otherwise it stands still on the fifteenth batch always.
            environment = {**os.environ, "PSYCOPG_WAIT_FUNC": "wait_poll"}
            self._process = await asyncio.create_subprocess_exec(
                *self._command, stdin=pipe, stdout=pipe, env=environment
            )
        assert self._process.stdin
        assert self._process.stdout
        self._process.stdin.write(asked)
        return await self._process.stdout.readline()

    async def end(self) -> None:
        if self._process is not None:
            self._process.kill()
            await self._process.wait()
            self._process = None


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


async def rows_of(engine: AsyncEngine, version: int) -> list[tuple[object, ...]]:
    """As `append` has made them of that batch."""
    columns = [EVENTS.c[name] for name in EVENT_COLUMNS]
    wanted = sa.select(*columns).where(EVENTS.c.version == version).order_by(EVENTS.c.position)
    async with transaction(engine) as connection:
        return [tuple(row) for row in await connection.execute(wanted)]


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
    libraries = {form: Library(url, form) for form in FORMS if PYTHON.exists()}
    clock = await Clock.of(engine)

    async def ours(version: int, batch: Sequence[NewEvent]) -> dict[str, Taken]:
        del version
        return {"append": await clock.time(log.append(batch, {}))}

    async def bare(version: int, batch: Sequence[NewEvent], name: str) -> dict[str, Taken]:
        del batch
        rows = await rows_of(engine, version - 1)  # in some rounds `append` comes later
        return {name: await clock.time(copy(engine, name, rows))}

    async def library(version: int, batch: Sequence[NewEvent], form: str) -> dict[str, Taken]:
        encoding, inserting = await libraries[form].append(version, batch)
        return {form: Taken(inserting, 0, 0), f"{form}, encoded": Taken(encoding + inserting, 0, 0)}

    turns: list[Turn] = [
        ours,
        *(partial(bare, name=name) for name in BARE),
        *(partial(library, form=form) for form in libraries),
    ]
    medians = await in_turn(turns)
    for each in libraries.values():
        await each.end()
    of_table, of_indexes = await bytes_per_event(engine)
    await engine.dispose()
    return [*table(medians), ("bytes per event", f"{of_table} and {of_indexes} of indexes")]


async def in_turn(turns: Sequence[Turn]) -> dict[str, Taken]:
    """The medians of BATCHES rounds after one to get warm. Each round begins with another one, so that nobody always
    finds the caches as the same one left them."""
    taken: dict[str, list[Taken]] = defaultdict(list)
    for version in range(1, BATCHES + 2):
        batch = [converged(node, version) for node in range(NODES)]
        first = (version - 1) % len(turns)
        for turn in (*turns[first:], *turns[:first]):
            for name, figure in (await turn(version, batch)).items():
                taken[name].append(figure)
    return {name: Taken(*map(median, zip(*values[1:], strict=True))) for name, values in taken.items()}


WHAT = {
    "with_indexes": ("bare COPY of the same rows, same indexes", "≥ 0.6"),
    "without": ("bare COPY of the same rows, no index", ""),
    "statements, encoded": ("eventsourcing, its mapper and recorder", "≥ 1.5"),
    "statements": ("eventsourcing, its recorder alone", ""),
    "functions, encoded": ("eventsourcing with database functions, its mapper and recorder", "≥ 1.5"),
    "functions": ("eventsourcing with database functions, its recorder alone", ""),
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
    run(measure, apart=True)
