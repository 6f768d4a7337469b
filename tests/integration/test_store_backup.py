"""Backups of a given database: what a restore replaces and refuses, and that no password is among the arguments."""

from __future__ import annotations

import os
import subprocess
import uuid
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from reconciler.errors import StoreError
from reconciler.store.backup import backup, occupied, restore
from reconciler.store.blobs import PostgresBlobs
from reconciler.store.database import engine_for
from reconciler.store.event_log import PostgresEventLog
from reconciler.store.leases import PostgresLeases
from reconciler.store.upgrade import check, upgrade
from tests.conformance import toy_fold
from tests.conformance.event_log import registered
from tests.conftest import Server
from tests.integration.test_store_append_only import libpq


@pytest.fixture
def other_url(postgres: Server) -> Iterator[str]:
    """The URL of an empty database."""
    name = f"reconciler_empty_{uuid.uuid4().hex[:12]}"
    postgres.administer("CREATE DATABASE {}", name)
    yield postgres.url_of(name)
    postgres.drop(name)


@pytest.fixture
async def log(engine: AsyncEngine) -> PostgresEventLog:
    log = await PostgresEventLog.open(engine, toy_fold, tool_version="1")
    await log.append([registered("a"), registered("b")], {})
    await PostgresBlobs(engine).put([bytes(range(256))])
    return log


async def head_of(url: str) -> tuple[str, str, tuple[str, ...]]:
    engine = engine_for(url)
    log = await PostgresEventLog.open(engine, toy_fold, tool_version="1")
    found = await log.verify()
    await engine.dispose()
    return log.log_id, found.head, found.problems


@pytest.mark.parametrize("form", ["custom", "plain"])
async def test_a_backup_becomes_another_database(
    log: PostgresEventLog, database_url: str, other_url: str, tmp_path: Path, form: str
) -> None:
    file = tmp_path / "backup"
    assert backup(database_url, file, "plain" if form == "plain" else "custom") == file.stat().st_size
    assert file.stat().st_mode & 0o777 == 0o600
    assert [path.name for path in tmp_path.iterdir()] == ["backup"]
    for held in (0, 2):  # into an empty database, and again into one that holds events
        assert occupied(other_url) == held
        restore(other_url, file)
        upgrade(other_url)
        assert check(other_url) == []
        assert await head_of(other_url) == await head_of(database_url)


async def test_tables_of_others_and_processes_at_work_are_left_alone(
    log: PostgresEventLog, engine: AsyncEngine, database_url: str, other_url: str
) -> None:
    with psycopg.connect(libpq(other_url)) as connection:
        connection.execute("CREATE TABLE theirs (id int)")
    with pytest.raises(StoreError, match="holds tables of others"):
        occupied(other_url)
    leases = PostgresLeases(engine)
    await leases.acquire("owner/host:1:a", "host:1:a", 60)
    with pytest.raises(StoreError, match="is in use by host:1:a"):
        occupied(database_url)
    await leases.release("owner/host:1:a", "host:1:a")
    assert occupied(database_url) == 2


def test_a_restore_that_fails_leaves_the_database_as_it_was(database_url: str, tmp_path: Path) -> None:
    broken = tmp_path / "broken.sql"
    broken.write_text("-- PostgreSQL database dump\nCREATE TABLE half (id int);\nSELECT nonsense;\n")
    before = check(database_url)
    with pytest.raises(StoreError, match=r'psql failed: .*ERROR:  column "nonsense" does not exist'):
        restore(database_url, broken)
    assert check(database_url) == before == []
    with psycopg.connect(libpq(database_url)) as connection:
        assert connection.execute("SELECT to_regclass('half')").fetchone() == (None,)


def test_no_password_is_among_the_arguments(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[list[str], str]] = []

    def run(command: list[str], *, env: dict[str, str], **_: object) -> subprocess.CompletedProcess[str]:
        service = Path(env["PGSERVICEFILE"])
        assert service.stat().st_mode & 0o777 == 0o600
        assert not [name for name, value in env.items() if "hunter2" in value and name not in os.environ]
        seen.append((list(command), service.read_text()))
        return subprocess.CompletedProcess(command, 1, "", "pg_dump: error: no")

    monkeypatch.setattr(subprocess, "run", run)
    with pytest.raises(StoreError, match="pg_dump failed: pg_dump: error: no") as failed:
        backup("postgresql://alice:hunter2@db.example.com/log", tmp_path / "backup", "custom")
    [(command, service)] = seen
    assert "password=hunter2" in service
    assert "hunter2" not in " ".join([*command, str(failed.value)])
    assert list(tmp_path.iterdir()) == []
