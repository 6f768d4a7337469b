"""`db upgrade` and `db check`: the schema, the roles and their privileges. Blocking: async callers use a thread."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from datetime import datetime
from typing import cast

import sqlalchemy as sa
from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy.exc import DBAPIError

from reconciler.data import data_path
from reconciler.projections.fold import FOLD_VERSION
from reconciler.store.database import blocking_engine_for, blocking_transaction, store_errors

OLDEST_SERVER = 15
"""Major version of PostgreSQL from which the SQL is good."""

MIGRATION_LOCK = 0x7265636D6967
"""Key of the advisory lock ("recmig"): two upgrades at once run one after the other."""

_TRIGGERS = {
    "events_append_only": "events",
    "events_approval": "events",
    "events_authority": "events",
    "events_chain": "events",
    "events_fold": "events",
    "events_redact_blob": "events",
    "events_streams": "events",
    "blobs_append_only": "blobs",
    "blobs_redaction_only": "blobs",
    "log_append_only": "log",
}
"""What guards the log: trigger → its table."""

REBUILD = f"read tables of fold version {FOLD_VERSION}"
"""The name of the rebuild among the migrations."""

_STAMP_EMPTY = sa.text(
    "UPDATE projections SET fold_version = :version WHERE fold_version < :version AND NOT EXISTS (SELECT FROM events)"
)
"""Where nothing was folded yet, there is nothing to rebuild."""
_CREATE_ROLE = re.compile(r"CREATE ROLE (?P<role>\w+)")
_GRANT = re.compile(r"GRANT (?P<privileges>[\w, ]+) ON (?P<schema>SCHEMA )?(?P<objects>[\w., ]+) TO (?P<role>\w+)")


def upgrade(url: str) -> None:
    """Run the pending migrations, then create roles and grants as far as the login may. Raises StoreError.

    Read tables with rows of an older fold are left to a rebuild.
    """
    engine = blocking_engine_for(url)
    try:
        with store_errors(engine.url), engine.connect() as connection:
            config = _config()
            config.attributes["connection"] = connection
            command.upgrade(config, "head")
        with blocking_transaction(engine) as connection:
            connection.execute(sa.select(sa.func.pg_advisory_xact_lock(MIGRATION_LOCK)))
            for statement in _missing_roles(connection):
                _run_if_permitted(connection, statement)
            # From PostgreSQL 16 on, who creates a role may not yet take it: `reconciler sql` asks as the reader.
            _run_if_permitted(connection, "GRANT reconciler_reader TO CURRENT_USER")
            for statement in _missing_grants(connection):
                _run_if_permitted(connection, statement)
            connection.execute(_STAMP_EMPTY, {"version": FOLD_VERSION})
    finally:
        engine.dispose()


def pending(url: str) -> list[str]:
    """The names of the migrations that `upgrade` would run, in order; after them, the rebuild of read tables that an
    older fold wrote. Raises StoreError."""
    engine = blocking_engine_for(url)
    try:
        with blocking_transaction(engine) as connection:
            return _pending(connection) or [REBUILD] * (_folded_by(connection) < FOLD_VERSION)
    finally:
        engine.dispose()


def clock(url: str) -> datetime:
    """The server's time, which dates events and leases. Raises StoreError."""
    engine = blocking_engine_for(url)
    try:
        with blocking_transaction(engine) as connection:
            return cast("datetime", connection.scalar(sa.text("SELECT clock_timestamp()")))
    finally:
        engine.dispose()


def check(url: str) -> list[str]:
    """What keeps the database from being used as intended, each with its remedy; empty when nothing does."""
    engine = blocking_engine_for(url)
    try:
        with blocking_transaction(engine) as connection:
            problems = _server_problems(connection)
            pending = _pending(connection)
            if pending:
                return [*problems, *(f"migration {name} is pending: run `reconciler db upgrade`" for name in pending)]
            roles = [f"a role is missing; a superuser runs: {line}" for line in _missing_roles(connection)]
            grants = [
                f"a privilege is missing; the owner runs: {statement}" for statement in _missing_grants(connection)
            ]
            folds = _fold_problems(connection)
            return [*problems, *folds, *_trigger_problems(connection), *roles, *grants, *_login_problems(connection)]
    finally:
        engine.dispose()


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", str(data_path("migrations")).replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    return config


def _pending(connection: sa.Connection) -> list[str]:
    """The migrations not yet run, in order. A schema newer than this version has none pending."""
    scripts = ScriptDirectory.from_config(_config())
    current = MigrationContext.configure(connection).get_current_revision()
    known = [script.revision for script in scripts.walk_revisions()]
    if current is not None and current not in known:
        return []
    return known[: known.index(current)][::-1] if current else known[::-1]


def _server_problems(connection: sa.Connection) -> list[str]:
    problems = []
    version = connection.scalar(sa.text("SELECT current_setting('server_version_num')::int / 10000"))
    if version < OLDEST_SERVER:
        problems.append(f"PostgreSQL {version} is too old: use {OLDEST_SERVER} or newer")
    encoding = connection.scalar(sa.text("SELECT current_setting('server_encoding')"))
    if encoding != "UTF8":
        problems.append(f"the database has the encoding {encoding}: create it with ENCODING 'UTF8'")
    return problems


def _fold_problems(connection: sa.Connection) -> list[str]:
    """Whether the read tables are this version's."""
    found = _folded_by(connection)
    if found == FOLD_VERSION:
        return []
    remedy = "run `reconciler db upgrade`" if found < FOLD_VERSION else "use the version that upgraded the database"
    return [f"the read tables are of fold version {found}, this version of reconciler has {FOLD_VERSION}: {remedy}"]


def _folded_by(connection: sa.Connection) -> int:
    """The version of the fold that wrote the read tables."""
    return cast("int", connection.scalar(sa.text("SELECT fold_version FROM projections")))


def _trigger_problems(connection: sa.Connection) -> list[str]:
    """The triggers that guard the log and that somebody dropped or disabled."""
    enabled = sa.text("SELECT tgname FROM pg_trigger WHERE NOT tgisinternal AND tgenabled IN ('O', 'A')")
    present = set(connection.scalars(enabled))
    return [
        f"the trigger {trigger} is missing or disabled; find out why, then the owner runs: "
        f"ALTER TABLE {table} ENABLE TRIGGER {trigger};"
        for trigger, table in _TRIGGERS.items()
        if trigger not in present
    ]


def _login_problems(connection: sa.Connection) -> list[str]:
    """Whether the login in use may append."""
    may_append = sa.text("SELECT has_table_privilege('events', 'INSERT')")
    if connection.scalar(may_append):
        return []
    login = connection.scalar(sa.text("SELECT quote_ident(current_user)"))
    grant = f"GRANT reconciler_operator TO {login}; (reconciler_service, if it is the login of the service)"
    return [f"this login cannot append; a superuser runs: {grant}"]


def _missing_roles(connection: sa.Connection) -> list[str]:
    """The statements of sql/privileges/roles.sql for roles that do not exist."""
    present = set(connection.scalars(sa.text("SELECT rolname FROM pg_roles")))
    return [line for line in _statements("roles") if _parts(_CREATE_ROLE, line)["role"] not in present]


def _missing_grants(connection: sa.Connection) -> list[str]:
    """The GRANT statements whose role exists but lacks one of the privileges."""
    missing = []
    for file in ("reader", "service", "operator", "approver"):
        for line in _statements(file):
            grant = _parts(_GRANT, line)
            kind, objects = "schema" if grant["schema"] else "table", grant["objects"].split(", ")
            if not _granted(connection, grant["role"], kind, objects, grant["privileges"].split(", ")):
                missing.append(line)
    return missing


_ALL_GRANTED = """
SELECT coalesce(bool_and(
    CASE cast(:kind AS text) WHEN 'schema' THEN has_schema_privilege(rolname::text, o, p)
        ELSE has_table_privilege(rolname::text, o, p) END), true)
FROM pg_roles, unnest(cast(:objects AS text[])) o, unnest(cast(:privileges AS text[])) p WHERE rolname = :role
"""


def _granted(
    connection: sa.Connection, role: str, kind: str, objects: Iterable[str], privileges: Iterable[str]
) -> bool:
    """True also where the role does not exist: that is said once, as a missing role."""
    given = {"role": role, "kind": kind, "objects": list(objects), "privileges": list(privileges)}
    return bool(connection.scalar(sa.text(_ALL_GRANTED), given))


def _statements(name: str) -> Iterator[str]:
    yield from data_path("migrations").joinpath("sql", "privileges", f"{name}.sql").read_text().splitlines()


def _parts(pattern: re.Pattern[str], statement: str) -> dict[str, str]:
    found = pattern.match(statement)
    if found is None:
        raise ValueError(f"sql/privileges holds a statement of another form: {statement}")
    return found.groupdict()


def _run_if_permitted(connection: sa.Connection, statement: str) -> None:
    """Run it; a login that may not, and a role that another upgrade makes now, leave it to `check`."""
    savepoint = connection.begin_nested()
    try:
        connection.exec_driver_sql(statement)
    except DBAPIError:
        savepoint.rollback()
    else:
        savepoint.commit()
