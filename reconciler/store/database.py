"""Connections to PostgreSQL: URL to engine, engine to transaction, a driver's error to ours."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from functools import cache
from typing import Any, cast

import psycopg
import sqlalchemy as sa
from psycopg import sql
from sqlalchemy import URL, Connection, Engine, create_engine, make_url
from sqlalchemy.exc import ArgumentError, SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from reconciler.errors import AppendRefused, StoreError, UsageError

_DRIVER = "postgresql+psycopg"
_SCHEMES = ("postgres", "postgresql", _DRIVER)
_CONNECT_TIMEOUT = "10"
"""Seconds; a URL with a `connect_timeout` of its own keeps it."""


def parsed(url: str) -> URL:
    """The URL for our driver. `postgres://` and `postgresql://` are accepted as everybody writes them."""
    try:
        given = make_url(url)
    except ArgumentError as error:
        raise UsageError("the database URL cannot be read", remedy=_URL_FORM) from error
    if given.drivername not in _SCHEMES:
        raise UsageError(f"the database URL begins with {given.drivername}://", remedy=_URL_FORM)
    return given.set(drivername=_DRIVER)


_URL_FORM = "write postgresql://USER@HOST:PORT/DATABASE"


def place(url: URL) -> str:
    """Where a database is, for messages: host and database, never a user or password."""
    host = url.host or url.query.get("host") or "the local socket"
    port = f":{url.port}" if url.port else ""
    return f"database {url.database or '(default)'} at {host}{port}"


def engine_for(url: str, *, pool_size: int = 5) -> AsyncEngine:
    """An engine on READ COMMITTED: after waiting for the append lock, the next statement sees the newest head."""
    target = parsed(url)
    return create_async_engine(
        target,
        isolation_level="READ COMMITTED",
        pool_pre_ping=True,
        pool_size=pool_size,
        connect_args=_connect_args(target),
    )


def blocking_engine_for(url: str) -> Engine:
    """The same for migrations, which Alembic runs without asyncio."""
    target = parsed(url)
    return create_engine(target, isolation_level="READ COMMITTED", connect_args=_connect_args(target))


def _connect_args(url: URL) -> dict[str, str]:
    return {} if "connect_timeout" in url.query else {"connect_timeout": _CONNECT_TIMEOUT}


@asynccontextmanager
async def transaction(engine: AsyncEngine) -> AsyncIterator[AsyncConnection]:
    """One READ COMMITTED transaction, committed at the end. Every database error becomes a StoreError."""
    with store_errors(engine.url):
        async with engine.begin() as connection:
            yield connection


@asynccontextmanager
async def one_view(engine: AsyncEngine) -> AsyncIterator[AsyncConnection]:
    """One read-only transaction in which every statement sees the same moment (REPEATABLE READ)."""
    with store_errors(engine.url):
        async with engine.connect() as connection:
            await connection.execution_options(isolation_level="REPEATABLE READ", postgresql_readonly=True)
            async with connection.begin():
                yield connection


@contextmanager
def blocking_transaction(engine: Engine) -> Iterator[Connection]:
    """`transaction` without asyncio."""
    with store_errors(engine.url), engine.begin() as connection:
        yield connection


async def driver_of(connection: AsyncConnection) -> psycopg.AsyncConnection[Any]:
    """The psycopg connection below, in the same transaction: for COPY and LISTEN, which SQLAlchemy does not offer."""
    raw = await connection.get_raw_connection()
    return cast("psycopg.AsyncConnection[Any]", raw.driver_connection)


def compiled(statement: sa.Select[Any]) -> bytes:
    """The statement's text, for the driver: what is asked all the time goes past SQLAlchemy, which takes as long as the
    rest."""
    return str(statement.compile(dialect=_DIALECT)).encode()


_DIALECT = make_url(f"{_DRIVER}://").get_dialect()()


@asynccontextmanager
async def copying(connection: AsyncConnection, table: str, columns: Sequence[str]) -> AsyncIterator[psycopg.AsyncCopy]:
    """COPY into a table, for `write_row`: the fastest way in, and as quick as INSERT for a single row."""
    driver = await driver_of(connection)
    async with driver.cursor() as cursor, cursor.copy(_copy_statement(table, tuple(columns))) as copy:
        yield copy


@cache
def _copy_statement(table: str, columns: tuple[str, ...]) -> bytes:
    names = sql.SQL(", ").join(map(sql.Identifier, columns))
    return sql.SQL("COPY {} ({}) FROM STDIN").format(sql.Identifier(table), names).as_bytes()


async def copy_rows(
    connection: AsyncConnection, table: str, columns: Sequence[str], rows: Iterable[Sequence[object]]
) -> None:
    """COPY rows into a table."""
    async with copying(connection, table, columns) as copy:
        for row in rows:
            await copy.write_row(row)


@contextmanager
def store_errors(url: URL) -> Iterator[None]:
    """Turns the errors of SQLAlchemy and psycopg into StoreErrors that say where, and what to do."""
    try:
        yield
    except SQLAlchemyError as error:
        raise _store_error(getattr(error, "orig", None) or error, url) from error
    except (psycopg.Error, OSError) as error:
        raise _store_error(error, url) from error


def _store_error(error: BaseException, url: URL) -> StoreError:
    """The first line of the server's message, and the remedy for its class of error (SQLSTATE)."""
    state = getattr(error, "sqlstate", None) or ""
    message = (str(error).strip() or type(error).__name__).splitlines()[0]
    hint = error.diag.message_hint if isinstance(error, psycopg.Error) else None
    if state == _NO_PRIVILEGE and hint:  # PostgreSQL's own refusals have none: this one is a trigger's of ours
        return AppendRefused(message, where=place(url), remedy=hint)
    for prefix, remedy in _REMEDIES.items():
        if state.startswith(prefix):
            return StoreError(message, where=place(url), remedy=remedy)
    if isinstance(error, (psycopg.OperationalError, OSError)):
        return StoreError(
            f"no connection to the database: {message}",
            where=place(url),
            remedy="check that PostgreSQL runs there and that DATABASE_URL (or [database] url) names it",
        )
    return StoreError(message, where=place(url), remedy=hint or "")


_NO_PRIVILEGE = "42501"
_REMEDIES = {
    "28": "check the user and password in DATABASE_URL, and the server's pg_hba.conf",
    "3D000": "create the database, or correct its name in DATABASE_URL",
    "42P01": "run `reconciler db upgrade`: the schema is missing or older than this version",
    "42703": "run `reconciler db upgrade`: the schema is older than this version",
    _NO_PRIVILEGE: "run `reconciler db check`: it lists the privileges that are missing",
    "53": "the server is out of connections, memory or disk: see its log",
    "25006": "connect to the primary: this server only reads",
}
"""SQLSTATE, or its class → remedy."""
