"""The queries of docs/how-to/ask-with-sql.md, and the functions they use, find what they read by an index.

On a log made by benchmarks/history.py with its own statistics. Tables of a few pages are walked through by any planner.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Iterator, Mapping
from typing import Any

import pytest
import pytest_asyncio
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from benchmarks.history import Generator, History, Shape
from benchmarks.questions import QUESTIONS, bound
from reconciler.projections.fold import LogFold
from reconciler.store.blobs import PostgresBlobs
from reconciler.store.database import engine_for, transaction
from reconciler.store.event_log import PostgresEventLog

pytestmark = pytest.mark.asyncio(loop_scope="module")

SHAPE = Shape(14_000, pools=4, nodes_per_pool=50)
LARGE = "SELECT relname FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relkind = 'r' AND relpages > 64"
WHOLE = "SELECT prosrc FROM pg_proc WHERE oid = 'reconciler_v1.fleet_at(timestamptz)'::regprocedure"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def made(shared_database_url: str) -> AsyncIterator[tuple[History, AsyncConnection]]:
    engine = engine_for(shared_database_url)
    log = await PostgresEventLog.open(engine, LogFold(), tool_version="test")
    history = await Generator(log, PostgresBlobs(engine), SHAPE).run()
    async with transaction(engine) as connection:
        await connection.exec_driver_sql("ANALYZE")
        await connection.exec_driver_sql("SET search_path = reconciler_v1, public; SET jit = off")
        yield history, connection
    await engine.dispose()


async def sequential(connection: AsyncConnection, query: str) -> set[str]:
    """The large tables that the plan walks through."""
    large = set(await connection.scalars(sa.text(LARGE)))
    assert large >= {"events", "node_states"}
    text = sa.text("EXPLAIN (FORMAT JSON) " + query.replace(":", r"\:"))
    plan = await connection.scalar(text)
    walked = {str(node["Relation Name"]) for node in nodes(plan[0]["Plan"]) if node["Node Type"] == "Seq Scan"}
    return walked & large


def nodes(plan: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    yield plan
    for inner in plan.get("Plans", ()):
        yield from nodes(inner)


@pytest.mark.parametrize("question", QUESTIONS)
async def test_no_question_walks_through_the_log(question: str, made: tuple[History, AsyncConnection]) -> None:
    _, connection = made
    assert await sequential(connection, await bound(connection, question)) == set()


async def test_the_fleet_at_a_time_does_not_walk_through_the_log(made: tuple[History, AsyncConnection]) -> None:
    history, connection = made
    source = await connection.scalar(sa.text(WHOLE))
    inner = source.partition("RETURN QUERY")[2].partition(";")[0]
    assert await sequential(connection, re.sub(r"\bmoment\b", f"{history.events // 2}::bigint", inner)) == set()


async def test_a_query_without_an_index_is_seen(made: tuple[History, AsyncConnection]) -> None:
    _, connection = made
    assert await sequential(connection, "SELECT count(*) FROM history WHERE data ->> 'x' = 'y'") == {"events"}
