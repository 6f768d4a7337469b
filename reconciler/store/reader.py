"""The history read by SQL: the schema reconciler_v1 as the role reconciler_reader, for one query or for psql."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from typing import Any

import psycopg
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from psycopg.types.string import TextLoader

from reconciler.errors import StoreError, UsageError
from reconciler.ports import Answer
from reconciler.store.binaries import find_program
from reconciler.store.database import parsed, place

ROLE = "reconciler_reader"
SCHEMA = "reconciler_v1"

_OPTIONS = f"-c role={ROLE} -c default_transaction_read_only=on -c search_path={SCHEMA},public -c jit=off"
"""Without JIT: the views look costly to the planner and are not, so that compiling takes longer than they do."""
_CONNECT_TIMEOUT = 10
"""Seconds; a URL with a `connect_timeout` of its own keeps it."""

_NATIVE = ("bool", "int2", "int4", "int8", "float4", "float8", "numeric", "json", "jsonb", "text", "timestamptz")
"""Types that JSON can say, arrays of them too; every other value is PostgreSQL's text of it."""


class Reader:
    """Asks the database at a URL. Every connection is the reader's, read-only, and sees the views before the tables."""

    def __init__(self, url: str) -> None:
        self._url = parsed(url)
        plain = self._url.set(drivername="postgresql").render_as_string(hide_password=False)
        given = {"connect_timeout": _CONNECT_TIMEOUT, **conninfo_to_dict(plain)}
        self._given = {**given, "options": f"{given.get('options', '')} {_OPTIONS}"}

    async def query(self, text: str, *, native: bool = False) -> Answer:
        """The rows of one query, `native`: with values that JSON has, else with PostgreSQL's texts.

        Raises UsageError for one that the database refuses, StoreError without the database.
        """
        async with await self._connect() as connection:
            cursor = connection.cursor()
            kept = _NATIVE if native else ()
            for kind in connection.adapters.types:
                if kind.name not in kept:
                    cursor.adapters.register_loader(kind.oid, TextLoader)
                    cursor.adapters.register_loader(kind.array_oid, TextLoader)
            try:
                await cursor.execute(text.encode())
                if cursor.description is None or cursor.nextset():
                    raise UsageError("this is not one query", where="-c", remedy="give one SELECT")
                return Answer([column.name for column in cursor.description], await cursor.fetchall())
            except psycopg.OperationalError as error:
                raise StoreError(_said(error), where=place(self._url)) from error
            except psycopg.Error as error:
                remedy = error.diag.message_hint or "what there is to ask: docs/reference/sql.md, or \\d in psql"
                raise UsageError(_said(error), where="-c", remedy=remedy) from error

    async def psql(self) -> tuple[Sequence[str], dict[str, str]]:
        """The command that opens psql as the reader, and its environment, which alone has the password.

        Raises StoreError where there is no psql, or the database does not let us in.
        """
        program = shutil.which("psql") or find_program("psql")
        if program is None:
            raise StoreError(
                "psql was not found",
                remedy="install PostgreSQL's client, or set PG_BIN to its folder; -c QUERY works without it",
            )
        async with await self._connect():
            pass
        secret = self._given.get("password")
        environment = {**os.environ, **({"PGPASSWORD": str(secret)} if secret else {})}
        shown = {name: value for name, value in self._given.items() if name != "password"}
        return [program, "--dbname", make_conninfo("", **shown)], environment

    async def _connect(self) -> psycopg.AsyncConnection[Any]:
        try:
            return await psycopg.AsyncConnection.connect(make_conninfo("", **self._given))
        except psycopg.Error as error:
            said, remedy = _said(error), "see docs/how-to/use-your-postgresql.md"
            if ROLE in said:
                remedy = f"whoever administers the database runs: GRANT {ROLE} TO {self._url.username or 'this login'};"
            raise StoreError(f"cannot read as {ROLE}: {said}", where=place(self._url), remedy=remedy) from error


def _said(error: psycopg.Error) -> str:
    return error.diag.message_primary or str(error).strip().splitlines()[-1]
