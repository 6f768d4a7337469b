"""`db backup` and `db restore`: PostgreSQL's own programs, one file. Blocking: async callers use a thread."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

import sqlalchemy as sa
from psycopg.conninfo import conninfo_to_dict

from reconciler.errors import StoreError, UsageError
from reconciler.store.binaries import program_folders
from reconciler.store.database import blocking_engine_for, blocking_transaction, parsed, place

Form = Literal["custom", "plain"]

_SERVICE = "reconciler"
_CUSTOM, _PLAIN = b"PGDMP", b"-- PostgreSQL database dump"
_LOCK = "SET lock_timeout = '10s'"


def backup(url: str, file: Path, form: Form) -> int:
    """Dump the database into a new file, mode 0600; its size in bytes. Raises UsageError and StoreError.

    Owners and privileges are left out: `db upgrade` gives them anew where it is restored.
    """
    if file.exists():
        raise UsageError("is there already", where=str(file), remedy="choose another file, or move it away")
    program = _program("pg_dump")
    new = file.with_name(f".{file.name}.new")
    try:
        new.touch(0o600)
        with _connecting(url) as environment:
            _run(url, environment, program, f"--format={form}", "--no-owner", "--no-privileges", f"--file={new}", _DB)
        new.rename(file)
    except OSError as problem:
        raise UsageError(f"cannot be written: {problem.strerror}", where=str(file)) from None
    finally:
        new.unlink(missing_ok=True)
    return file.stat().st_size


def occupied(url: str) -> int:
    """How many events the database holds that a restore would replace. Raises StoreError where it holds tables of
    others, or where somebody is at work on it."""
    engine = blocking_engine_for(url)
    try:
        with blocking_transaction(engine) as connection:
            if not connection.scalar(_ANY_TABLE):
                return 0
            if not connection.scalar(sa.text("SELECT to_regclass('events') IS NOT NULL")):
                remedy = "name an empty database with DATABASE_URL"
                raise StoreError("the database holds tables of others", where=place(engine.url), remedy=remedy)
            owners = connection.scalars(sa.text("SELECT owner FROM leases WHERE expires_at > clock_timestamp()"))
            if busy := sorted(set(owners)):
                what = f"the database is in use by {', '.join(busy)}"
                raise StoreError(what, where=place(engine.url), remedy="stop the service, and try again")
            return int(connection.scalar(sa.text("SELECT count(*) FROM events")) or 0)
    finally:
        engine.dispose()


def restore(url: str, file: Path) -> None:
    """Replace what the login owns in the database by the dump, in one transaction. Raises UsageError and StoreError;
    the database is then as it was."""
    form = form_of(file)
    psql = _program("psql")
    with tempfile.TemporaryDirectory(prefix="reconciler-") as folder, _connecting(url) as environment:
        script = file
        if form == "custom":
            script = Path(folder) / "restore.sql"
            plain = ("--no-owner", "--no-privileges", f"--file={script}", str(file))
            _run(url, environment, _program("pg_restore"), *plain)
        clear = (f"--command={_LOCK}", f"--command={_CLEAR}")
        options = ("--no-psqlrc", "--quiet", "--single-transaction", "--set=ON_ERROR_STOP=1", "--output=/dev/null")
        _run(url, environment, psql, *options, *clear, f"--file={script}", _DB)


_DB = f"--dbname=service={_SERVICE}"


def form_of(file: Path) -> Form:
    """The form of a backup, by how it begins. Raises UsageError for a file that is none, or cannot be read."""
    try:
        with file.open("rb") as opened:
            start = opened.read(4096)
    except OSError as problem:
        raise UsageError(f"cannot be read: {problem.strerror}", where=str(file)) from None
    if start.startswith(_CUSTOM):
        return "custom"
    if _PLAIN in start:
        return "plain"
    raise UsageError(
        "is no backup", where=str(file), remedy="give a file as `reconciler db backup` or pg_dump writes it"
    )


def _program(name: str) -> str:
    """The program beside our server's, or on PATH. Raises StoreError naming it."""
    for folder in program_folders():
        if os.access(folder / name, os.X_OK):
            return str(folder / name)
    if found := shutil.which(name):
        return found
    remedy = "install PostgreSQL's client programs, or set PG_BIN to their folder"
    raise StoreError(f"PostgreSQL's program {name} was not found", remedy=remedy)


@contextmanager
def _connecting(url: str) -> Iterator[dict[str, str]]:
    """The environment in which a program finds the database; no password is ever among its arguments."""
    target = parsed(url).set(drivername="postgresql").render_as_string(hide_password=False)
    lines = [f"{key}={value}" for key, value in conninfo_to_dict(target).items()]
    with tempfile.NamedTemporaryFile("w", prefix="reconciler-") as service:  # mode 0600
        service.write("\n".join([f"[{_SERVICE}]", *lines, ""]))
        service.flush()
        yield {**os.environ, "PGSERVICEFILE": service.name, "LC_ALL": "C"}


def _run(url: str, environment: dict[str, str], *command: str) -> None:
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        said = (done.stderr.strip() or "it said nothing").splitlines()
        why = next((line for line in said if "error:" in line.lower()), said[-1])
        raise StoreError(f"{Path(command[0]).name} failed: {why}", where=place(parsed(url)))


_ANY_TABLE = sa.text(
    "SELECT EXISTS (SELECT FROM pg_class WHERE relkind IN ('r', 'p', 'v', 'm') AND relnamespace IN "
    "(SELECT oid FROM pg_namespace WHERE nspname <> 'information_schema' AND nspname !~ '^pg_'))"
)

_CLEAR = """
DO $$
DECLARE item text;
BEGIN
    FOR item IN SELECT nspname FROM pg_namespace
        WHERE nspowner = current_user::regrole AND nspname <> 'public' AND nspname !~ '^pg_' LOOP
        EXECUTE format('DROP SCHEMA %I CASCADE', item);
    END LOOP;
    FOR item IN SELECT format('%s IF EXISTS %I', CASE relkind WHEN 'v' THEN 'VIEW' ELSE 'TABLE' END, relname)
        FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relowner = current_user::regrole
        AND relkind IN ('r', 'p', 'v') ORDER BY relkind <> 'v' LOOP
        EXECUTE format('DROP %s CASCADE', item);
    END LOOP;
    FOR item IN SELECT oid::regprocedure::text FROM pg_proc
        WHERE pronamespace = 'public'::regnamespace AND proowner = current_user::regrole LOOP
        EXECUTE format('DROP ROUTINE IF EXISTS %s CASCADE', item);
    END LOOP;
END
$$"""
"""Drops what the login owns. A view that went with another's table is no error."""
