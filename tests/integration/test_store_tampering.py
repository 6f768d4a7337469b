"""What a superuser does with the triggers off is found by `verify`, with its position."""

from __future__ import annotations

from datetime import datetime

import psycopg
import pytest
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncEngine

from reconciler.errors import LogCorrupt
from reconciler.events.chain import timestamp
from reconciler.store.blobs import PostgresBlobs
from reconciler.store.database import transaction
from reconciler.store.event_log import PostgresEventLog
from reconciler.store.verification import raw_pages
from tests.conformance import toy_fold
from tests.conformance.event_log import registered
from tests.conftest import Server
from tests.integration.test_store_append_only import libpq

MISMATCH = "event #5: the row does not match its hash"
SWAP = """
UPDATE events SET position = CASE position WHEN 5 THEN 106 ELSE 105 END WHERE position IN (5, 6);
UPDATE events SET position = position - 100 WHERE position > 100"""
REPLAY = """
INSERT INTO events SELECT position + 8, version, append_group + 8, recorded_at, previous_hash, hash, gen_random_uuid(),
fleet, 'node/default/new', type, schema_version, data, actor, tool_version, correlation_id, causation_id, node, pool,
resource, commit_sha FROM events WHERE position = 1"""
EVENT = """
INSERT INTO events SELECT 1, 1, 1, :at, sha256(''), sha256(''), gen_random_uuid(), 'default', 'fleet/default', 'X', 1,
'{}', '{}', '1', gen_random_uuid()"""
TAMPERING = [
    ("UPDATE events SET data = replace(data, 'worker', 'master') WHERE position = 5", MISMATCH),
    ("UPDATE events SET actor = replace(actor, 'alice', 'mallory') WHERE position = 5", MISMATCH),
    ("UPDATE events SET recorded_at = recorded_at - interval '1 microsecond' WHERE position = 5", MISMATCH),
    ("UPDATE events SET recorded_at = (recorded_at::text || ' BC')::timestamptz WHERE position = 5", MISMATCH),
    ("UPDATE events SET recorded_at = 'infinity' WHERE position = 5", MISMATCH),
    ("UPDATE events SET fleet = 'other' WHERE position = 5", MISMATCH),
    ("UPDATE events SET stream = 'node/default/x' WHERE position = 5", MISMATCH),
    ("UPDATE events SET version = 2 WHERE position = 5", MISMATCH),
    ("UPDATE events SET type = 'NodeChanged' WHERE position = 5", MISMATCH),
    ("UPDATE events SET schema_version = 2 WHERE position = 5", MISMATCH),
    ("UPDATE events SET append_group = 1 WHERE position = 5", MISMATCH),
    ("UPDATE events SET event_id = gen_random_uuid() WHERE position = 5", MISMATCH),
    ("UPDATE events SET correlation_id = gen_random_uuid() WHERE position = 5", MISMATCH),
    ("UPDATE events SET causation_id = gen_random_uuid() WHERE position = 5", MISMATCH),
    ("UPDATE events SET tool_version = '2' WHERE position = 5", MISMATCH),
    ("UPDATE events SET node = NULL WHERE position = 5", MISMATCH),
    ("UPDATE events SET pool = 'master' WHERE position = 5", MISMATCH),
    ("UPDATE events SET resource = 'Image/cluster' WHERE position = 5", MISMATCH),
    ("UPDATE events SET commit_sha = NULL WHERE position = 5", MISMATCH),
    ("UPDATE events SET hash = sha256(hash) WHERE position = 5", MISMATCH),
    ("UPDATE events SET previous_hash = sha256(hash) WHERE position = 5", MISMATCH),
    ("DELETE FROM events WHERE position = 5", "event #6: the event before it should be #5, but is #4"),
    ("DELETE FROM events WHERE position = 1", "event #2: the event before it should be #1, but is #0"),
    (
        "DELETE FROM events WHERE position = 8",
        "stream node/default/n7: its head is recorded as version 1, but the log ends it at 0",
    ),
    (
        SWAP,
        MISMATCH,
    ),
    (
        REPLAY,
        "event #9: the row does not match its hash",
    ),
    ("UPDATE streams SET version = 2 WHERE stream = 'node/default/n0'", "stream node/default/n0"),
    ("UPDATE blobs SET content = 'other'", "does not match its address"),
    ("UPDATE blobs SET content = NULL, redacted_at = 1", "its bytes were taken away, and no event says why"),
    ("DELETE FROM events WHERE position = 8", "event #8: missing: the end of the log was cut off"),
    ("DELETE FROM events WHERE position > 6", "event #7: missing, as is all up to #8: the end of the log was cut off"),
    ("DELETE FROM events", "event #1: missing, as is all up to #8: the end of the log was cut off"),
]


@pytest.fixture
async def log(engine: AsyncEngine) -> PostgresEventLog:
    """Eight events in four groups, one blob."""
    log = await PostgresEventLog.open(engine, toy_fold, tool_version="1")
    for number in range(0, 8, 2):
        await log.append([registered(f"n{number}"), registered(f"n{number + 1}")], {})
    await PostgresBlobs(engine).put([b"content"])
    return log


def tamper(server: Server, database: str, statements: str) -> None:
    if not server.superuser_url:
        pytest.skip("needs a superuser: DATABASE_URL names a server that is not ours")
    with psycopg.connect(libpq(server.url_of(database, superuser=True))) as connection:
        connection.execute("SET session_replication_role = replica")
        for statement in statements.split(";"):
            assert connection.execute(statement.encode()).rowcount > 0


@pytest.mark.parametrize("moment", ["09:00:00", "09:00:00.5", "09:00:00.123456", "09:00:00.00001"])
async def test_a_time_is_read_as_it_was_hashed(engine: AsyncEngine, moment: str) -> None:
    """Whatever its fraction, and whatever the zone of the session."""
    async with transaction(engine) as connection:
        await connection.execute(sa.text("ALTER TABLE events DISABLE TRIGGER USER"))
        await connection.execute(sa.text("SET LOCAL TimeZone = 'Asia/Tokyo'"))
        await connection.execute(sa.text(EVENT), {"at": datetime.fromisoformat(f"2026-01-31T{moment}+00:00")})
        [[record]] = [page async for page in raw_pages(connection)]
    assert record.recorded_at == timestamp(datetime.fromisoformat(f"2026-01-31T{moment}+00:00"))


async def test_an_intact_log_verifies(log: PostgresEventLog) -> None:
    found = await log.verify()
    assert (found.events, found.blobs, found.problems) == (8, 1, ())
    assert len(found.head) == 64


@pytest.mark.parametrize(("statement", "problem"), TAMPERING)
async def test_tampering_is_found(
    log: PostgresEventLog, postgres: Server, database: str, statement: str, problem: str
) -> None:
    tamper(postgres, database, statement)
    problems = (await log.verify()).problems
    assert any(problem in found for found in problems), problems


async def test_a_damaged_blob_is_never_handed_out(
    log: PostgresEventLog, engine: AsyncEngine, postgres: Server, database: str
) -> None:
    blobs = PostgresBlobs(engine)
    [digest] = await blobs.put([b"content"])
    tamper(postgres, database, "UPDATE blobs SET content = 'other'")
    with pytest.raises(LogCorrupt, match=f"blob {digest} does not match its address"):
        await blobs.get([digest])
