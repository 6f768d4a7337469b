"""The hot queries use their indexes: a read of the present or the past never walks through all of history."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from reconciler.ports import EventFilter
from reconciler.projections.fold import FOLD_VERSION
from reconciler.projections.tables import NODE_STATES
from reconciler.store import event_log, read_rows
from reconciler.store.database import transaction
from reconciler.store.fold_version import SETTING

HISTORY = """
INSERT INTO node_states (fleet, node, generation, valid_from, valid_to)
SELECT 'default', 'n' || n, p, p * 100 + n, CASE WHEN p < 200 THEN (p + 1) * 100 + n END
FROM generate_series(1, 100) n, generate_series(1, 200) p
"""
EVENTS = """
INSERT INTO events
SELECT p, p, p, now(), sha256(''), sha256(''), gen_random_uuid(), 'default', 'fleet/' || p, 'T' || mod(p, 50), 1, '{}',
    '{}', '1', gen_random_uuid(), NULL, 'n' || mod(p, 500), 'p' || mod(p, 100), 'r' || mod(p, 500),
    md5('' || mod(p, 500))
FROM generate_series(1, 20000) p
"""


@pytest.fixture
async def connection(engine: AsyncEngine) -> AsyncIterator[AsyncConnection]:
    async with transaction(engine) as connection:
        await connection.exec_driver_sql(f"SET LOCAL {SETTING} = {FOLD_VERSION}")
        await connection.exec_driver_sql(HISTORY)
        await connection.exec_driver_sql("ALTER TABLE events DISABLE TRIGGER USER")  # these rows continue nothing
        await connection.exec_driver_sql(EVENTS)
        for table in ("node_states", "events"):
            await connection.exec_driver_sql(f"ANALYZE {table}")
        yield connection


async def plan_of(connection: AsyncConnection, query: sa.Select[Any]) -> str:
    compiled = query.compile(dialect=connection.dialect, compile_kwargs={"literal_binds": True})
    return "\n".join(await connection.scalars(sa.text("EXPLAIN " + str(compiled).replace(":", r"\:"))))


async def test_current_rows(connection: AsyncConnection) -> None:
    plan = await plan_of(connection, read_rows.select_now(NODE_STATES).params(fleet="default"))
    assert "node_states_current" in plan, plan


async def test_rows_as_of_a_position(connection: AsyncConnection) -> None:
    plan = await plan_of(connection, read_rows.select_as_of(NODE_STATES).params(fleet="default", position=5000))
    assert "node_states_as_of" in plan, plan
    rows = await read_rows.rows_as_of(connection, NODE_STATES, "default", 5000)
    assert len(rows) == 100


@pytest.mark.parametrize(
    ("wanted", "index"),
    [
        (EventFilter(after=19_000), "events_pkey"),
        (EventFilter(limit=10, newest_first=True), "events_pkey"),
        (EventFilter(node="n7"), "events_node"),
        (EventFilter(pool="p7"), "events_pool"),
        (EventFilter(resource="r7"), "events_resource"),
        (EventFilter(commit="abcdef01"), "events_commit_sha"),
        (EventFilter(commits=["5" * 32, "6" * 32]), "events_commit_sha"),
        (EventFilter(correlation_ids=[uuid.UUID(int=5), uuid.UUID(int=6)]), "events_correlation_id"),
        (EventFilter(resources=["r7", "r8"]), "events_resource"),
        (EventFilter(types=["T7"]), "events_type"),
    ],
)
async def test_filters(connection: AsyncConnection, wanted: EventFilter, index: str) -> None:
    plan = await plan_of(connection, event_log.select_matching(wanted))
    assert index in plan, plan
