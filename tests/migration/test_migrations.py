"""What the migrations make is what the code, the read tables and the privileges say."""

from __future__ import annotations

import re
import subprocess
import sys
import uuid
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import psycopg
import pytest
import sqlalchemy as sa
from alembic.script import Script, ScriptDirectory
from psycopg import sql

from reconciler.data import data_path
from reconciler.errors import StoreError
from reconciler.projections.tables import TABLES, Table
from reconciler.store import upgrade as upgrading
from reconciler.store.database import blocking_engine_for, parsed
from reconciler.store.schema import read_table_sql
from reconciler.store.tables import EVENT_COLUMNS, METADATA
from reconciler.store.upgrade import check, pending, upgrade
from tests.conftest import Server
from tests.integration.test_store_append_only import libpq

SQL = data_path("migrations") / "sql"
REVISIONS = ["2026_11_23", "2026_11_26"]
LATER = {"fleets": ("cluster",), "holds": ("due", "until_fixed"), "nodes": ("discovered", "cluster")}
"""The columns of read tables that a later migration than the first added."""


@pytest.fixture
def migrated(database_url: str) -> Iterator[sa.Connection]:
    engine = blocking_engine_for(database_url)
    with engine.connect() as connection:
        yield connection
    engine.dispose()


def test_upgrade_from_empty_and_again(empty_database: str) -> None:
    assert pending(empty_database) == REVISIONS
    assert check(empty_database) == [f"migration {name} is pending: run `reconciler db upgrade`" for name in REVISIONS]
    upgrade(empty_database)
    assert (pending(empty_database), check(empty_database)) == ([], [])
    upgrade(empty_database)
    assert check(empty_database) == []


def test_upgrades_at_once_run_one_after_the_other(empty_database: str) -> None:
    program = "import sys; from reconciler.store.upgrade import upgrade; upgrade(sys.argv[1])"
    command = [sys.executable, "-c", program, empty_database]
    upgrades = [subprocess.Popen(command, stderr=subprocess.PIPE, text=True) for _ in range(3)]
    assert [process.communicate(timeout=60)[1] for process in upgrades] == ["", "", ""]
    assert check(empty_database) == []


def test_a_migration_that_fails_leaves_the_schema_as_it_was(empty_database: str) -> None:
    with psycopg.connect(libpq(empty_database)) as connection:
        connection.execute("CREATE TABLE leases (wrong text)")
    with pytest.raises(StoreError, match='relation "leases" already exists'):
        upgrade(empty_database)
    with psycopg.connect(libpq(empty_database)) as connection:
        tables = connection.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'public'").fetchall()
    assert ("events",) not in tables
    assert pending(empty_database) == REVISIONS


def test_there_is_no_way_down() -> None:
    for script in scripts():
        assert not hasattr(script.module, "downgrade"), script.path


def test_file_names_are_dated_and_revisions_unique() -> None:
    for script in scripts():
        name = Path(script.path).name
        assert re.fullmatch(r"\d{4}_\d\d_\d\d_[a-z_]+\.py", name)
        assert name.startswith(script.revision)


def scripts() -> list[Script]:
    directory = ScriptDirectory(str(data_path("migrations")))
    found = list(directory.walk_revisions())
    assert found
    return found


def test_the_database_has_the_tables_and_columns_of_the_code(migrated: sa.Connection) -> None:
    found = sa.inspect(migrated)
    assert set(found.get_table_names()) == {*METADATA.tables, "alembic_version"}
    for table in METADATA.sorted_tables:
        columns = {column["name"]: column["type"].compile(migrated.dialect) for column in found.get_columns(table.name)}
        expected = {column.name: column.type.compile(migrated.dialect) for column in table.columns}
        assert columns == expected, table.name


@pytest.mark.parametrize("table", TABLES, ids=lambda table: table.name)
def test_a_read_table_has_key_validity_and_indexes(migrated: sa.Connection, table: Table) -> None:
    found = sa.inspect(migrated)
    nullable = {column["name"]: column["nullable"] for column in found.get_columns(table.name)}
    assert [name for name, null in nullable.items() if not null] == [*table.key, "valid_from"]
    assert found.get_pk_constraint(table.name)["constrained_columns"] == [*table.key, "valid_from"]
    definitions = migrated.execute(
        sa.text("SELECT indexname, indexdef FROM pg_indexes WHERE tablename = :name"), {"name": table.name}
    )
    indexes = {row.indexname: row.indexdef for row in definitions}
    current = indexes[f"{table.name}_current"]
    assert "UNIQUE" in current
    assert current.endswith(f"({', '.join(table.key)}) WHERE (valid_to IS NULL)")
    assert indexes[f"{table.name}_as_of"].endswith("USING gist (int8range(valid_from, valid_to))")


@pytest.mark.parametrize("table", TABLES, ids=lambda table: table.name)
def test_the_sql_files_of_read_tables_are_up_to_date(table: Table) -> None:
    """Otherwise a new migration is due. Columns of LATER are none of the first one's."""
    first = {name: kind for name, kind in table.columns.items() if name not in LATER.get(table.name, ())}
    assert (SQL / "tables" / f"{table.name}.sql").read_text() == read_table_sql(replace(table, columns=first))


def test_the_columns_of_events_are_those_of_a_record() -> None:
    assert tuple(METADATA.tables["events"].columns.keys()) == EVENT_COLUMNS


def test_every_object_has_a_comment(migrated: sa.Connection) -> None:
    silent = migrated.scalars(
        sa.text("""
        SELECT relname FROM pg_class
        WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'v') AND relname <> 'alembic_version'
          AND obj_description(oid, 'pg_class') IS NULL
        UNION ALL
        SELECT tgname FROM pg_trigger WHERE NOT tgisinternal AND obj_description(oid, 'pg_trigger') IS NULL
        UNION ALL
        SELECT proname FROM pg_proc
        WHERE pronamespace = 'public'::regnamespace AND obj_description(oid, 'pg_proc') IS NULL
        """)
    )
    assert list(silent) == []


def test_every_sql_file_is_used(migrated: sa.Connection) -> None:
    """One object per file: a forgotten file would be an object that does not exist."""
    names = {
        path.stem for folder in ("tables", "views", "triggers", "functions") for path in (SQL / folder).rglob("*.sql")
    }
    found = migrated.scalars(
        sa.text("""
        SELECT relname FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'v')
        UNION ALL SELECT tgname FROM pg_trigger WHERE NOT tgisinternal
        UNION ALL SELECT proname FROM pg_proc WHERE pronamespace = 'public'::regnamespace
        """)
    )
    assert set(found) - {"alembic_version"} == names


def test_no_privilege_to_change_the_log_is_ever_granted() -> None:
    for path in (SQL / "privileges").iterdir():
        for line in path.read_text().splitlines():
            if re.search(r"\b(events|blobs|log)\b", line):
                assert not re.search(r"\b(UPDATE|DELETE|TRUNCATE|ALL)\b", line), line


def test_check_names_missing_roles_privileges_and_triggers(database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with psycopg.connect(libpq(database_url)) as connection:
        connection.execute("REVOKE INSERT ON events FROM reconciler_service")
        connection.execute("ALTER TABLE blobs DISABLE TRIGGER blobs_append_only")
    statements = upgrading._statements
    extra = ["CREATE ROLE reconciler_unknown NOLOGIN;"]
    monkeypatch.setattr(upgrading, "_statements", lambda name: [*statements(name), *(extra if name == "roles" else ())])
    problems = check(database_url)
    assert [problem.partition(":")[0] for problem in problems] == [
        "the trigger blobs_append_only is missing or disabled; find out why, then the owner runs",
        "a role is missing; a superuser runs",
        "a privilege is missing; the owner runs",
    ]
    assert problems[1].endswith("CREATE ROLE reconciler_unknown NOLOGIN;")
    assert problems[2].endswith("GRANT SELECT, INSERT ON events, blobs TO reconciler_service;")


def test_upgrade_repairs_privileges(database_url: str) -> None:
    with psycopg.connect(libpq(database_url)) as connection:
        connection.execute("REVOKE ALL ON holds FROM reconciler_reader")
    assert len(check(database_url)) == 1
    upgrade(database_url)
    assert check(database_url) == []


def test_a_login_that_may_not_create_roles_still_upgrades(postgres: Server) -> None:
    """A missing role is then left to an administrator: `check` gives the statement, `upgrade` does not fail."""
    if not postgres.superuser_url:
        pytest.skip("needs a superuser: DATABASE_URL names a server that is not ours")
    name = f"reconciler_limited_{uuid.uuid4().hex[:12]}"
    with psycopg.connect(libpq(postgres.superuser_url), autocommit=True) as connection:
        for statement in ("CREATE ROLE {0} NOLOGIN", "CREATE DATABASE {0} OWNER {0}"):
            connection.execute(sql.SQL(statement).format(sql.Identifier(name)))
        url = parsed(postgres.url_of(name, superuser=True)).update_query_dict({"options": f"-crole={name}"})
        limited = url.render_as_string(hide_password=False)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(
                upgrading, "_statements", lambda file: ["CREATE ROLE reconciler_unknown;"] * (file == "roles")
            )
            upgrade(limited)
            assert check(limited) == ["a role is missing; a superuser runs: CREATE ROLE reconciler_unknown;"]
        upgrade(limited)
        assert check(limited) == []
        for statement in ("DROP DATABASE {0} WITH (FORCE)", "DROP ROLE {0}"):
            connection.execute(sql.SQL(statement).format(sql.Identifier(name)))
