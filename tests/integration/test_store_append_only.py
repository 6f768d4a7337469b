"""Nobody changes what was recorded: not the service (by privilege), not the owner (by trigger)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import LiteralString

import psycopg
import pytest
from psycopg import errors, sql

from reconciler.errors import StoreError
from reconciler.ports import EventFilter
from reconciler.store.blobs import PostgresBlobs
from reconciler.store.database import engine_for, parsed, transaction
from reconciler.store.event_log import PostgresEventLog
from reconciler.store.leases import PostgresLeases
from reconciler.store.read_model import PostgresReadModel
from tests.conformance import toy_fold
from tests.conformance.event_log import FLEET, registered
from tests.conftest import Server

CHANGES: list[LiteralString] = [
    "UPDATE events SET node = 'b'",
    "UPDATE events SET node = 'b' WHERE false",
    "DELETE FROM events",
    "TRUNCATE events",
    "UPDATE blobs SET content = ''",
    "DELETE FROM blobs",
    "TRUNCATE blobs",
    "UPDATE log SET log_id = gen_random_uuid()",
    "DELETE FROM log",
    "TRUNCATE log",
]
APPENDING_ROLES = ["reconciler_service", "reconciler_operator", "reconciler_approver"]


def libpq(url: str) -> str:
    return parsed(url).set(drivername="postgresql").render_as_string(hide_password=False)


def url_as(server: Server, database: str, role: str) -> str:
    """A login that acts as the role from its first statement on."""
    if not server.superuser_url:
        pytest.skip("needs a superuser: DATABASE_URL names a server that is not ours")
    url = parsed(server.url_of(database, superuser=True))
    return url.update_query_dict({"options": f"-crole={role}"}).render_as_string(hide_password=False)


@pytest.fixture
def owner(database_url: str) -> Iterator[psycopg.Connection]:
    with psycopg.connect(libpq(database_url), autocommit=True) as connection:
        connection.execute("INSERT INTO blobs VALUES (repeat('0', 64), 'x')")
        yield connection


def test_the_owner_is_refused_in_plain_words(owner: psycopg.Connection) -> None:
    for statement in CHANGES:
        operation, table = statement.split()[0], next(name for name in ("events", "blobs", "log") if name in statement)
        with pytest.raises(errors.RestrictViolation, match=f"{operation} of table {table} refused") as caught:
            owner.execute(statement)
        assert caught.value.diag.message_hint == "What happened stays recorded; a correction is a new event."


@pytest.mark.parametrize("role", [*APPENDING_ROLES, "reconciler_reader"])
def test_no_role_of_the_service_has_the_privilege(postgres: Server, database: str, role: str) -> None:
    with psycopg.connect(libpq(url_as(postgres, database, role)), autocommit=True) as connection:
        for statement in CHANGES:
            with pytest.raises(errors.InsufficientPrivilege):
                connection.execute(statement)


@pytest.mark.parametrize("role", APPENDING_ROLES)
async def test_the_grants_are_enough_for_all_that_the_service_does(postgres: Server, database: str, role: str) -> None:
    engine = engine_for(url_as(postgres, database, role))
    log = await PostgresEventLog.open(engine, toy_fold, tool_version="1")
    reads, blobs, leases = PostgresReadModel(engine, toy_fold), PostgresBlobs(engine), PostgresLeases(engine)
    await log.append([registered("a")], {})
    await blobs.get(await blobs.put([b"x"]))
    await reads.snapshot(FLEET, at=1)
    await reads.touch(FLEET, {"a": "1.31"})
    assert await reads.rebuild() == 1
    assert await leases.acquire("x", "y", 60)
    await leases.release("x", "y")
    assert (await log.verify()).problems == ()
    await engine.dispose()


async def test_a_reader_reads_and_cannot_append(postgres: Server, database: str) -> None:
    engine = engine_for(url_as(postgres, database, "reconciler_reader"))
    log = await PostgresEventLog.open(engine, toy_fold, tool_version="1")
    assert await log.read(EventFilter()) == []
    assert (await log.verify()).problems == ()
    with pytest.raises(StoreError, match="permission denied") as caught:
        await log.append([registered("a")], {})
    assert "db check" in caught.value.remedy
    await engine.dispose()


async def test_the_trigger_speaks_through_our_errors(database_url: str) -> None:
    engine = engine_for(database_url)
    with pytest.raises(StoreError, match="UPDATE of table events refused: it is append-only"):
        async with transaction(engine) as connection:
            await connection.exec_driver_sql("UPDATE events SET node = 'b'")
    await engine.dispose()


@pytest.mark.parametrize("view", ["history", "node_state", "holds_now"])
def test_the_views_can_be_read(owner: psycopg.Connection, view: str) -> None:
    assert owner.execute(sql.SQL("SELECT * FROM {}").format(sql.Identifier(view))).fetchall() == []


async def test_history_is_readable(owner: psycopg.Connection, database_url: str) -> None:
    engine = engine_for(database_url)
    log = await PostgresEventLog.open(engine, toy_fold, tool_version="1")
    await log.append([registered("a")], {})
    await engine.dispose()
    query = "SELECT position, type, fleet, pool, node, resource, commit, actor, data ->> 'node' FROM history"
    assert owner.execute(query).fetchall() == [
        (1, "NodeRegistered", "default", "worker", "a", None, "c" * 40, "login:alice@host", "a")
    ]
    states = "SELECT fleet, node, pool, generation, seen_at FROM node_state"
    assert owner.execute(states).fetchall() == [("default", "a", "worker", 1, None)]
