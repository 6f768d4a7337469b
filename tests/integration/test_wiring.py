"""Settings become real parts: which database may be migrated, whose lease is held, what closes."""

from __future__ import annotations

from pathlib import Path

import pytest

from reconciler.errors import StoreError, UsageError
from reconciler.settings import FleetSettings, Settings
from reconciler.settings.model import DatabaseSettings
from reconciler.wiring import check_database, login, open_application, upgrade_database


def settings(directory: Path, url: str) -> Settings:
    fleet = FleetSettings(url="https://alice:geheim@git.example.com/fleet.git")
    return Settings(data_dir=directory, database=DatabaseSettings(url=plain(url)), fleets={"one": fleet})


def plain(url: str) -> str:
    """As people write it: without the driver."""
    return url.replace("postgresql+psycopg://", "postgresql://")


async def test_a_given_database_is_migrated_only_when_asked(empty_database: str, tmp_path: Path) -> None:
    given = settings(tmp_path, empty_database)
    for _ in range(2):
        with pytest.raises(StoreError, match="db upgrade"):
            async with open_application(given, actor_kind="login"):
                pass
    names = await upgrade_database(given)
    assert names
    assert await upgrade_database(given) == []
    assert (await check_database(given))[0] == []
    async with open_application(given, actor_kind="login") as application:
        await application.check_log()
    assert not (tmp_path / "postgres").exists()


async def test_a_process_is_alive_to_others_while_it_is_open(database_url: str, tmp_path: Path) -> None:
    given = settings(tmp_path, database_url)
    async with open_application(given, actor_kind="login") as first:
        async with open_application(given, actor_kind="service") as second:
            assert await first.leases.live("owner/") == {
                f"owner/{first.owner}": first.owner,
                f"owner/{second.owner}": second.owner,
            }
            assert (second.actor.kind, second.actor.subject.partition("@")[0]) == ("service", login())
        assert await first.leases.live("owner/") == {f"owner/{first.owner}": first.owner}


async def test_a_fleets_context_is_kept_and_has_no_secret(database_url: str, tmp_path: Path) -> None:
    async with open_application(settings(tmp_path, database_url), actor_kind="login") as application:
        context = application.context("one")
        assert application.context("one") is context
        assert context.fleet.url == "https://***@git.example.com/fleet.git"
        assert context.owner == application.owner
        with pytest.raises(UsageError, match="there is no fleet two"):
            application.context("two")


async def test_an_embedded_database_is_brought_to_todays_schema(tmp_path: Path) -> None:
    given = Settings(data_dir=tmp_path / "data")
    try:
        async with open_application(given, actor_kind="login") as application:
            identity = application.log.log_id
    except StoreError as error:
        pytest.skip(f"no PostgreSQL: {error}")
    assert not (tmp_path / "data" / "postgres" / "postmaster.pid").exists()
    async with open_application(given, actor_kind="login") as application:
        assert application.log.log_id == identity
