"""The schema reconciler_v1 is commented throughout, documented as it is, and the reader's to read."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa

from reconciler.data import data_path
from reconciler.store.database import blocking_engine_for
from tests.sql_reference import reference

SQL = data_path("migrations") / "sql" / "reconciler_v1"
PAGE = Path(__file__).parents[2] / "docs/reference/sql.md"

SILENT = """
SELECT relname || '.' || attname FROM pg_class JOIN pg_attribute ON attrelid = pg_class.oid AND attnum > 0
WHERE relnamespace = 'reconciler_v1'::regnamespace AND relkind = 'v' AND col_description(pg_class.oid, attnum) IS NULL
UNION ALL
SELECT relname FROM pg_class
WHERE relnamespace = 'reconciler_v1'::regnamespace AND relkind = 'v' AND obj_description(oid, 'pg_class') IS NULL
UNION ALL
SELECT proname FROM pg_proc
WHERE pronamespace = 'reconciler_v1'::regnamespace AND obj_description(oid, 'pg_proc') IS NULL
"""
OBJECTS = """
SELECT relname FROM pg_class WHERE relnamespace = 'reconciler_v1'::regnamespace AND relkind = 'v'
UNION ALL SELECT proname FROM pg_proc WHERE pronamespace = 'reconciler_v1'::regnamespace
"""
TIMES = """
SELECT attname, col_description(attrelid, attnum) FROM pg_attribute JOIN pg_class ON attrelid = pg_class.oid
WHERE relnamespace = 'reconciler_v1'::regnamespace AND relkind = 'v' AND atttypid = 'timestamptz'::regtype
"""


@pytest.fixture
def migrated(database_url: str) -> Iterator[sa.Connection]:
    engine = blocking_engine_for(database_url)
    with engine.connect() as connection:
        yield connection
    engine.dispose()


def test_everything_has_a_comment(migrated: sa.Connection) -> None:
    assert list(migrated.scalars(sa.text(SILENT))) == []


def test_every_file_is_an_object(migrated: sa.Connection) -> None:
    assert set(migrated.scalars(sa.text(OBJECTS))) == {path.stem for path in SQL.iterdir()}


def test_every_time_says_by_which_clock(migrated: sa.Connection) -> None:
    for name, comment in migrated.execute(sa.text(TIMES)):
        assert "by the clock of the database" in comment or (name == "committed_at" and "by Git" in comment), name


def test_the_reference_is_what_the_database_says(migrated: sa.Connection) -> None:
    assert PAGE.read_text() == reference(migrated), "python -m tests.sql_reference > docs/reference/sql.md"


def test_the_entries_of_documents_that_were_there_before(migrated: sa.Connection) -> None:
    """A blob that was stored when there was no trigger yet has its entries from the migration."""
    document = b'{"apiVersion":"v1","kind":"Image","spec":{"registrySources":{"blockedRegistries":["a"]}}}'
    address, other = (hashlib.sha256(content).hexdigest() for content in (document, b"{"))
    given = {"address": address, "content": document, "other": other, "text": b"{"}
    migrated.execute(sa.text("INSERT INTO blobs VALUES (:address, :content), (:other, :text)"), given)
    kept = migrated.execute(sa.text("SELECT * FROM content_entries")).all()
    migrated.execute(sa.text("DELETE FROM content_entries"))
    statement = SQL.with_name("triggers").joinpath("blobs_entries.sql").read_text().partition("INSERT INTO")[2]
    migrated.execute(sa.text("INSERT INTO" + statement.replace(":", r"\:")))
    assert migrated.execute(sa.text("SELECT * FROM content_entries")).all() == kept
    assert [tuple(row) for row in kept] == [(address, "blocked", "a", None, "spec.registrySources.blockedRegistries")]
