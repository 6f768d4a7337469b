"""A log that an earlier version wrote: upgraded, verified, its read tables those of today's fold, and gone on with."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import psycopg
import pytest
import yaml
from psycopg import sql
from sqlalchemy.ext.asyncio import AsyncEngine

from reconciler import commands, control
from reconciler.errors import StoreError
from reconciler.events.catalogue import HoldLifted
from reconciler.ports import EventFilter
from reconciler.projections.fold import FOLD_VERSION, LogFold
from reconciler.projections.tables import HOLDS, NODE_STATES, TABLES
from reconciler.settings import Settings
from reconciler.settings.model import DatabaseSettings
from reconciler.stages.context import decode_file_set
from reconciler.store.database import engine_for
from reconciler.store.event_log import PostgresEventLog
from reconciler.store.rebuild import rebuilding
from reconciler.store.upgrade import check
from reconciler.transport.memory import MemoryTransport
from reconciler.transport.memory_parts import Entry
from reconciler.wiring import SystemClock, open_application, upgrade_database
from tests.integration.test_store_append_only import libpq
from tests.migration.old_logs import DATA, OLD_LOGS, load, read
from tests.migration.write_log import COMMITS
from tests.world import ScriptedSource, World, image, make_real_world


@pytest.fixture(params=OLD_LOGS, ids=lambda file: file.stem)
def old_log(request: pytest.FixtureRequest) -> Path:
    file: Path = request.param
    return file


@pytest.fixture
async def upgraded(empty_database: str, old_log: Path, tmp_path: Path) -> AsyncIterator[AsyncEngine]:
    """The database of the old log, upgraded as `db upgrade` does."""
    load(empty_database, old_log)
    given = Settings(data_dir=tmp_path, database=DatabaseSettings(url=libpq(empty_database)))
    with pytest.raises(StoreError, match="migrations are pending"):
        async with open_application(given, actor_kind="login"):
            pass
    names = await upgrade_database(given)
    assert names[-1] == f"read tables of fold version {FOLD_VERSION}"
    assert (await upgrade_database(given), check(empty_database)) == ([], [])
    engine = engine_for(empty_database)
    yield engine
    await engine.dispose()


async def differing(engine: AsyncEngine) -> tuple[int, int]:
    """Events, and rows of the read tables that are not what these make."""
    async with rebuilding(engine, LogFold()) as rebuild:
        found = await rebuild.compare()
        return found.events, found.differing


async def test_it_verifies_and_its_read_tables_are_a_replay(upgraded: AsyncEngine, old_log: Path) -> None:
    events = read(old_log)["events"]
    log = await PostgresEventLog.open(upgraded, LogFold(), tool_version="test")
    found = await log.verify()
    assert (found.events, found.problems) == (len(events), ())
    assert found.head == events[-1]["hash"].removeprefix("\\x")
    assert await differing(upgraded) == (len(events), 0)


async def test_the_same_log_gives_the_same_rows(upgraded: AsyncEngine, old_log: Path) -> None:
    """Otherwise FOLD_VERSION has to be raised, so that databases in the field are rebuilt, and rows.yaml to have the
    new digest. It may be replaced as long as no release had this FOLD_VERSION."""
    known = yaml.safe_load((DATA / "rows.yaml").read_text())[old_log.stem]
    assert known[FOLD_VERSION] == digest_of_rows(upgraded)


def digest_of_rows(engine: AsyncEngine) -> str:
    """SHA-256 over all rows of the read tables as text."""
    digest = hashlib.sha256()
    with psycopg.connect(libpq(engine.url.render_as_string(hide_password=False))) as connection:
        connection.execute("SET TimeZone = 'UTC'")
        for table in TABLES:
            query = sql.SQL("SELECT to_jsonb(t)::text FROM {} t ORDER BY valid_from, to_jsonb(t)::text")
            for [row] in connection.execute(query.format(sql.Identifier(table.name))):
                digest.update(f"{table.name} {row}\n".encode())
    return digest.hexdigest()


async def test_the_fleet_goes_on(upgraded: AsyncEngine, tmp_path: Path) -> None:
    """What was held and paused still is, but for what Git agrees with: the version that wrote the log did not know
    that this ends a hold. Then all nodes get the next commit."""
    transport, source = MemoryTransport(SystemClock()), ScriptedSource()
    world = await make_real_world(tmp_path, transport, upgraded)
    world.context = replace(world.context, source=source)
    for changed in COMMITS:
        source.commit(changed)
    await stand_up(world, transport)
    before = await world.head()
    await world.run()
    assert [type_ for type_ in await world.types(before) if type_ != "FleetConfigured"] == ["HoldLifted"]
    [lifted] = await world.log.read(EventFilter(after=before, types=["HoldLifted"]))
    assert isinstance(lifted.body, HoldLifted)
    assert lifted.body.cause == "agreed"

    [hold] = (await world.context.snapshot()).table(HOLDS)
    await commands.lift_hold(world.context, hold[1], reason="mended")
    await control.resume(world.context, "us", reason="somebody is there")
    source.commit({"image.yaml": image(blockedRegistries=["end.corp"])})
    status = await world.sync()
    assert (status.exit_code, {node.files for node in status.nodes}) == (0, {"Converged"})
    assert all(b"end.corp" in _conf(transport, node.name) for node in status.nodes)
    assert (await world.log.verify()).problems == ()
    assert (await differing(upgraded))[1] == 0


async def stand_up(world: World, transport: MemoryTransport) -> None:
    """Nodes with the files that their last receipts prove."""
    for (_, name), state in (await world.context.snapshot()).table(NODE_STATES).items():
        files = decode_file_set((await world.context.blobs.get([state["files"]]))[state["files"]])
        contents = await world.context.blobs.get(entry.sha256 for entry in files.entries)
        transport.node(name).files |= {e.path: Entry(contents[e.sha256], e.mode) for e in files.entries}


def _conf(transport: MemoryTransport, node: str) -> bytes:
    return transport.node(node).files["/etc/containers/registries.conf"].content
