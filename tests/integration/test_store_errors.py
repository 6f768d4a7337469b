"""Errors of the database say where, what to do, and never a password."""

from __future__ import annotations

import socket

import pytest
from sqlalchemy import make_url

from reconciler.errors import StoreError, UsageError
from reconciler.store.database import engine_for, parsed, place, transaction
from reconciler.store.event_log import PostgresEventLog
from reconciler.store.upgrade import check, upgrade
from tests.conformance import toy_fold
from tests.conftest import Server


async def failure(url: str) -> StoreError:
    engine = engine_for(url)
    with pytest.raises(StoreError) as caught:
        await PostgresEventLog.open(engine, toy_fold, tool_version="1")
    await engine.dispose()
    return caught.value


async def test_a_server_that_is_not_there() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
        url = f"postgresql://alice:secret@127.0.0.1:{port}/fleet"
        error = await failure(url)
        for blocking in (upgrade, check):
            with pytest.raises(StoreError, match="no connection to the database"):
                blocking(url)
    assert error.where == f"database fleet at 127.0.0.1:{port}"
    assert "no connection to the database" in error.what
    assert "DATABASE_URL" in error.remedy
    assert "secret" not in str(error)
    assert error.retry == "later"


async def test_a_database_that_does_not_exist(postgres: Server) -> None:
    error = await failure(postgres.url_of("nowhere"))
    assert 'database "nowhere" does not exist' in error.what
    assert "database nowhere at" in error.where


async def test_a_login_that_is_refused(postgres: Server) -> None:
    url = make_url(postgres.url).set(username="mallory", password="secret")
    error = await failure(url.render_as_string(hide_password=False))
    assert "secret" not in str(error)
    assert "mallory" in error.what


async def test_a_database_without_schema(postgres: Server) -> None:
    url = make_url(postgres.url).set(database="template1")
    error = await failure(url.render_as_string(hide_password=False))
    assert 'relation "log" does not exist' in error.what
    assert "db upgrade" in error.remedy


async def test_a_fault_in_a_statement_names_the_database(database_url: str) -> None:
    engine = engine_for(database_url)
    with pytest.raises(StoreError, match="division by zero") as caught:
        async with transaction(engine) as connection:
            await connection.exec_driver_sql("SELECT 1 / 0")
    assert caught.value.where.startswith("database reconciler_test_")
    await engine.dispose()


@pytest.mark.parametrize("url", ["postgres://h/d", "postgresql://h/d", "postgresql+psycopg://h/d"])
def test_the_usual_spellings_of_a_url(url: str) -> None:
    assert parsed(url).render_as_string() == "postgresql+psycopg://h/d"


@pytest.mark.parametrize(
    "url", ["", "h", "mysql://h/d", "sqlite:///f", "postgresql+asyncpg://h/d", "http://a:secret@h"]
)
def test_other_urls_are_refused(url: str) -> None:
    with pytest.raises(UsageError, match="the database URL") as caught:
        parsed(url)
    assert "postgresql://USER@HOST:PORT/DATABASE" in caught.value.remedy
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    ("url", "where"),
    [
        ("postgresql://alice:secret@db.example:5433/fleet", "database fleet at db.example:5433"),
        ("postgresql:///fleet?host=/run/pg", "database fleet at /run/pg"),
        ("postgresql://alice@", "database (default) at the local socket"),
    ],
)
def test_where_a_database_is(url: str, where: str) -> None:
    assert place(parsed(url)) == where
