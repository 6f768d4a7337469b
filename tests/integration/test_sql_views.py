"""The views and functions of reconciler_v1 say what the program says, at every position of a history."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any

import pytest
import pytest_asyncio
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from reconciler.ports import EventFilter, Snapshot
from reconciler.projections.desired import Desired, Version, shadowed_out, wanted_row
from reconciler.projections.tables import NODE_STATES
from reconciler.store.database import engine_for, transaction
from tests.told import Told, tell
from tests.world import FLEET

pytestmark = pytest.mark.asyncio(loop_scope="module")

Rows = Sequence[Mapping[str, Any]]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def told(shared_database_url: str, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Told]:
    engine = engine_for(shared_database_url)
    yield await tell(tmp_path_factory.mktemp("told"), engine)
    await engine.dispose()


@pytest_asyncio.fixture(loop_scope="module")
async def connection(told: Told, shared_database_url: str) -> AsyncIterator[AsyncConnection]:
    engine = engine_for(shared_database_url)
    async with transaction(engine) as connection:
        await connection.exec_driver_sql("SET search_path = reconciler_v1, public; SET jit = off")
        yield connection
    await engine.dispose()


async def ask(connection: AsyncConnection, query: str, **given: Any) -> Rows:
    return [dict(row) for row in (await connection.execute(sa.text(query), given)).mappings()]


async def group_ends(told: Told) -> list[Snapshot]:
    """The state after each append group."""
    groups = {event.group: event.position for event in await told.world.log.read(EventFilter())}
    return [await told.world.reads.snapshot(FLEET, position) for position in groups.values()]


def said(version: Version) -> tuple[str, ...]:
    return version.resource, version.content, version.commit, version.hold


async def test_desired_at_every_position(told: Told, connection: AsyncConnection) -> None:
    shadowed = 0
    for snapshot in await group_ends(told):
        desired = Desired(FLEET, snapshot.rows)
        found = await ask(connection, "SELECT * FROM desired_at(:at)", at=snapshot.position)
        for name, pool in desired.pools.items():
            mine = [row for row in found if row["pool"] == name and row["node"] == ""]
            shown = {(row["resource"], row["content"], row["commit"], row["hold"] or "") for row in mine}
            assert shown == {said(version) for version in desired.in_force(name).values()}, snapshot.position
            used = {row["resource"] for row in mine if not row["shadowed"]}
            assert used == {version.resource for version in shadowed_out(desired.in_force(name), pool)}
            shadowed += len(mine) - len(used)
    assert shadowed > 0


async def test_the_entries_in_force_at_every_position_are_those_that_entry_history_tells(
    told: Told, connection: AsyncConnection
) -> None:
    for snapshot in await group_ends(told):
        now = await ask(
            connection,
            "SELECT pool, resource, list, entry, detail::text AS detail FROM entries_at(:at) WHERE node = ''",
            at=snapshot.position,
        )
        history = await ask(
            connection,
            "SELECT unnest(pools) AS pool, resource, list, entry, detail::text AS detail FROM entry_history "
            "WHERE from_position <= :at AND (until_position IS NULL OR until_position > :at)",
            at=snapshot.position,
        )
        assert {tuple(row.values()) for row in history} == {tuple(row.values()) for row in now}, snapshot.position


async def test_fleet_at_every_moment(told: Told, connection: AsyncConnection) -> None:
    for snapshot in await group_ends(told):
        desired = Desired(FLEET, snapshot.rows)
        expected = {}
        for name, node in desired.nodes.items():
            state = snapshot.one(NODE_STATES, FLEET, name) or {}
            wanted = wanted_row(FLEET, snapshot.rows, node.pool, name, state)
            drift = [item["path"] for item in state.get("drift") or ()]
            expected[name] = (wanted and wanted["files"], state.get("files"), drift, state.get("unreachable"))
        found = await ask(connection, "SELECT * FROM fleet_at(:at)", at=snapshot.at)
        assert {
            row["node"]: (row["wanted"], row["files"], row["drift"], row["unreachable"]) for row in found
        } == expected


async def test_node_state_is_the_fleet_now(told: Told, connection: AsyncConnection) -> None:
    shared = """SELECT fleet, node, pool, wanted, files, behind, effective_at, generation, step, drift,
        drift_since, failed, cordoned FROM """
    now = await ask(connection, shared + "node_state ORDER BY node")
    assert now == await ask(connection, shared + "fleet_at(clock_timestamp()) ORDER BY node")
    assert [row["node"] for row in now if row["behind"]] == ["worker-3"]


async def test_node_files_at_is_what_the_nodes_had_when_quiet(told: Told, connection: AsyncConnection) -> None:
    for name, moment in told.moments.items():
        found = await ask(connection, "SELECT * FROM node_files_at(:at)", at=moment)
        assert {(row["node"], row["path"]): row["content"] for row in found} == {
            (node, path): content for node, files in told.files[name].items() for path, content in files.items()
        }, name


async def test_node_file_history_is_what_the_nodes_had_when_quiet(told: Told, connection: AsyncConnection) -> None:
    for name, moment in told.moments.items():
        found = await ask(
            connection,
            "SELECT node, path, sha256 FROM node_file_history "
            "WHERE effective_at <= :at AND (until_at IS NULL OR until_at > :at)",
            at=moment,
        )
        assert {(row["node"], row["path"]): row["sha256"] for row in found} == {
            (node, path): hashlib.sha256(content).hexdigest()
            for node, files in told.files[name].items()
            for path, content in files.items()
        }, name


async def test_drift_that_lasts_is_what_was_on_the_node(told: Told, connection: AsyncConnection) -> None:
    """Between its detection and its repair node_files_at shows what was observed."""
    (first, *_) = await ask(connection, "SELECT * FROM drift_log ORDER BY position")
    (file,) = await ask(
        connection,
        "SELECT * FROM node_files_at(:at) WHERE node = :node AND origin = 'drifted'",
        at=first["detected_at"],
        node=first["node"],
    )
    assert (file["path"], file["content"]) == (first["paths"][0], b"# by hand\n")


async def test_a_position_beyond_the_log_has_no_state(told: Told, connection: AsyncConnection) -> None:
    head = await told.world.head()
    assert await ask(connection, "SELECT * FROM desired_at(:at)", at=head + 1) == []
    assert await ask(connection, "SELECT * FROM desired_at(:at)", at=head) != []
