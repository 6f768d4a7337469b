"""The questions of docs/how-to/ask-with-sql.md on a long history: a million events of 10,000 nodes.

    python -m benchmarks.bench_history [--events N] [--pools N] [--nodes N] [--data-dir DIR]

The history goes through the real append and its folds (benchmarks/history.py), in batches as of waves. With a data
directory it is kept, and not made again. Times are the server's own (planning and execution), warm.
"""

from __future__ import annotations

import argparse
import asyncio
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from benchmarks.costs import busy_of
from benchmarks.database import print_figures
from benchmarks.history import FLEET, Generator, Shape
from benchmarks.questions import QUESTIONS, bound
from reconciler.projections.fold import LogFold
from reconciler.projections.tables import NODE_STATES
from reconciler.store.blobs import PostgresBlobs
from reconciler.store.database import engine_for, transaction
from reconciler.store.embedded import EmbeddedPostgres
from reconciler.store.event_log import PostgresEventLog
from reconciler.store.read_model import PostgresReadModel
from reconciler.store.upgrade import upgrade

TIMES = 40
"""How often each question is asked, besides once to warm up."""

FLEET_AT = "SELECT * FROM fleet_at((SELECT recorded_at FROM public.events WHERE position = {position}))"
SIZES = """
SELECT count(*), pg_table_size('public.events'), pg_indexes_size('public.events'),
    (SELECT sum(pg_total_relation_size(oid)) FROM pg_class
     WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace)
FROM public.events
"""

Rows = list[tuple[str, str]]


def p95(found: list[float]) -> float:
    return sorted(found)[int(len(found) * 0.95) - 1]


async def make(log: PostgresEventLog, engine: AsyncEngine, shape: Shape) -> Rows:
    """The history, unless there is one."""
    async with transaction(engine) as connection:
        if await connection.scalar(sa.text("SELECT 1 FROM events LIMIT 1")):
            return []
    start = time.perf_counter()
    made = await Generator(log, PostgresBlobs(engine), shape).run()
    taken = time.perf_counter() - start
    return [("appended, with read tables", f"{made.events:,} events in {taken:.0f} s, {made.events / taken:,.0f}/s")]


async def sizes(connection: AsyncConnection) -> Rows:
    events, table, indexes, everything = (await connection.execute(sa.text(SIZES))).one()
    return [
        ("the log: row, indexes", f"{table / events:.0f} + {indexes / events:.0f} bytes an event"),
        ("all tables, read tables and blobs with them", f"{int(everything) / events:.0f} bytes an event"),
    ]


async def asked(connection: AsyncConnection, query: str) -> tuple[list[float], list[float]]:
    """Milliseconds of each time but the first: on the wall, and on a processor."""
    text = sa.text("EXPLAIN (ANALYZE, TIMING OFF, FORMAT JSON) " + query.replace(":", r"\:"))
    process = int(await connection.scalar(sa.text("SELECT pg_backend_pid()")))
    wall, busy = [], []
    for _ in range(TIMES + 1):
        before = busy_of(process)
        plan = (await connection.scalar(text))[0]
        busy.append(busy_of(process) - before)
        wall.append(plan["Planning Time"] + plan["Execution Time"])
    return wall[1:], busy[1:]


async def timed(work: Callable[[], Awaitable[object]]) -> list[float]:
    found = []
    for _ in range(TIMES // 4 + 1):
        start = time.perf_counter()
        await work()
        found.append(1000 * (time.perf_counter() - start))
    return found[1:]


async def measure(url: str, shape: Shape) -> Rows:
    engine = engine_for(url)
    log = await PostgresEventLog.open(engine, LogFold(), tool_version="bench")
    reads = PostgresReadModel(engine, LogFold())
    rows = await make(log, engine, shape)
    async with engine.connect() as connection:
        await connection.execution_options(isolation_level="AUTOCOMMIT")
        await connection.exec_driver_sql("VACUUM ANALYZE")
        await connection.exec_driver_sql("SET search_path = reconciler_v1, public")
        rows += await sizes(connection)
        half = (await connection.scalar(sa.text("SELECT max(position) FROM public.events"))) // 2
        questions = {question: await bound(connection, question) for question in QUESTIONS}
        questions["the whole fleet, half the log ago (fleet_at)"] = FLEET_AT.format(position=half)
        for question, query in questions.items():
            wall, busy = await asked(connection, query)
            rows.append((question, f"{p95(wall):.1f} ms, of a processor {p95(busy):.1f} ms"))
    now = await timed(lambda: reads.snapshot(FLEET, tables=[NODE_STATES]))
    past = await timed(lambda: reads.snapshot(FLEET, half, [NODE_STATES]))
    rows.append(("all node states as Python has them, now", f"{min(now):.0f} ms"))
    rows.append(("all node states as Python has them, half the log ago", f"{min(past):.0f} ms"))
    await engine.dispose()
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--events", type=int, default=1_000_000)
    parser.add_argument("--pools", type=int, default=20)
    parser.add_argument("--nodes", type=int, default=500, help="nodes per pool")
    parser.add_argument("--data-dir", type=Path)
    given = parser.parse_args()
    shape = Shape(given.events, given.pools, given.nodes)
    with tempfile.TemporaryDirectory() as folder, EmbeddedPostgres(given.data_dir or Path(folder)) as server:
        upgrade(server.url)
        rows = asyncio.run(measure(server.url, shape))
    print_figures(rows)


if __name__ == "__main__":
    main()
