"""The event log on a real PostgreSQL: appends against a bare COPY of the same rows, verification, replay, snapshots.

Every ratio is taken on one server in one run. DATABASE_URL names the server; without it an embedded one is started,
with fsync on, as in production.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncEngine

from benchmarks.database import run
from reconciler.events.catalogue import NodeConverged, NodeRegistered
from reconciler.events.envelope import Actor, NewEvent, event_id, stream_of
from reconciler.ports import EventFilter
from reconciler.projections.fold import LogFold
from reconciler.projections.tables import NODE_STATES
from reconciler.store.database import copy_rows, engine_for, transaction
from reconciler.store.event_log import PostgresEventLog
from reconciler.store.read_model import PostgresReadModel
from reconciler.store.rebuild import rebuilding
from reconciler.store.tables import EVENT_COLUMNS, EVENTS, READ_TABLES

FLEET = "bench"
NODES = 1000
BATCHES = 20
SINGLE = 200
ACTOR = Actor("service", "service@bench")


def new(body: NodeConverged | NodeRegistered, version: int) -> NewEvent:
    own = event_id(stream_of(FLEET, body), version, body.type)
    return NewEvent(own, FLEET, stream_of(FLEET, body), body, ACTOR, own)


def converged(node: int, version: int) -> NewEvent:
    receipt = {
        "active": "active",
        "generation": version,
        "machine_id": "f" * 32,
        "manifest": "e" * 64,
        "result": "applied",
    }
    return new(NodeConverged(f"n{node}", "worker", f"step-{version}-{node}", "a" * 64, "b" * 64, receipt), version)


async def seconds(work: Callable[[], Awaitable[object]]) -> float:
    start = time.perf_counter()
    await work()
    return time.perf_counter() - start


async def append_batches(log: PostgresEventLog) -> None:
    for version in range(1, BATCHES + 1):
        await log.append([converged(node, version) for node in range(NODES)], {})


async def append_singly(log: PostgresEventLog) -> None:
    for node in range(SINGLE):
        await log.append([converged(node, BATCHES + 1)], {})


async def bare_copies(engine: AsyncEngine, *, indexes: bool) -> float:
    """The same rows by COPY into a table like `events`, a transaction for each batch, without chain, lock or fold."""
    async with transaction(engine) as connection:
        including = "INCLUDING ALL" if indexes else "INCLUDING DEFAULTS"
        await connection.exec_driver_sql(f"CREATE TABLE bare (LIKE events {including})")
        columns = [EVENTS.c[name] for name in EVENT_COLUMNS]
        found = await connection.execute(sa.select(*columns).order_by(EVENTS.c.position).limit(NODES * BATCHES))
        rows = [tuple(row) for row in found]

    async def copy() -> None:
        for start in range(0, len(rows), NODES):
            async with transaction(engine) as connection:
                await copy_rows(connection, "bare", EVENT_COLUMNS, rows[start : start + NODES])

    taken = await seconds(copy)
    async with transaction(engine) as connection:
        await connection.exec_driver_sql("DROP TABLE bare")
    return taken


async def rebuild(engine: AsyncEngine, fold: LogFold) -> tuple[float, float]:
    """Seconds of a rebuild with its comparison; then, once all node states are other ones, of putting them right."""
    async with rebuilding(engine, fold) as rebuild:
        comparing = await seconds(rebuild.compare)
        assert (await rebuild.compare()).differing == 0
        async with transaction(engine) as connection:
            await connection.execute(sa.update(READ_TABLES[NODE_STATES.name]).values(generation=-1))
        return comparing, await seconds(rebuild.switch)


async def measure(url: str) -> list[tuple[str, str]]:
    engine = engine_for(url)
    fold = LogFold()
    log = await PostgresEventLog.open(engine, fold, tool_version="bench")
    reads = PostgresReadModel(engine, fold)
    registered = [new(NodeRegistered(f"n{node}", "worker", "c" * 40, {}), 0) for node in range(NODES)]
    await log.append(registered, {})
    count = NODES * BATCHES
    appending = await seconds(lambda: append_batches(log))
    with_indexes, without = [await bare_copies(engine, indexes=indexes) for indexes in (True, False)]
    singly = await seconds(lambda: append_singly(log))
    everything = NODES + count + SINGLE
    verifying = await seconds(log.verify)
    reading = await seconds(lambda: log.read(EventFilter()))
    live = await reads.snapshot(FLEET)
    comparing, switching = await rebuild(engine, fold)
    assert await reads.snapshot(FLEET) == live
    now = await seconds(lambda: reads.snapshot(FLEET, tables=[NODE_STATES]))
    past = await seconds(lambda: reads.snapshot(FLEET, at=NODES * (BATCHES // 2), tables=[NODE_STATES]))
    await engine.dispose()
    return [
        (f"append, batches of {NODES:,}, with read tables", f"{count / appending:,.0f} events/s"),
        (
            "bare COPY of the same rows, same indexes",
            f"{count / with_indexes:,.0f}/s, ratio {appending / with_indexes:.2f}",
        ),
        ("bare COPY of the same rows, no index", f"{count / without:,.0f}/s, ratio {appending / without:.2f}"),
        ("append, one event each", f"{SINGLE / singly:,.0f} events/s, {1000 * singly / SINGLE:.1f} ms each"),
        ("verify (chain)", f"{everything / verifying:,.0f} events/s"),
        ("read and decode", f"{everything / reading:,.0f} events/s"),
        ("rebuild beside the read tables, compared", f"{everything / comparing:,.0f} events/s"),
        ("all node states put in place, besides", f"{everything / switching:,.0f} rows/s"),
        (f"snapshot of {NODES:,} node states, now", f"{1000 * now:.0f} ms"),
        (f"snapshot of {NODES:,} node states, half the log ago", f"{1000 * past:.0f} ms"),
    ]


if __name__ == "__main__":
    run(measure)
