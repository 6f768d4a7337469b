"""A snapshot that is brought up to date by what events touched is the one that reads everything."""

from __future__ import annotations

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from reconciler.events.catalogue import NodeRemoved, SourceRecovered
from reconciler.events.envelope import NewEvent
from reconciler.projections.tables import FLEETS
from reconciler.store import read_model
from reconciler.store.event_log import PostgresEventLog
from reconciler.store.read_model import PostgresReadModel
from tests.conformance import toy_fold
from tests.conformance.event_log import FLEET, new, registered, unreachable
from tests.conftest import Server
from tests.integration.test_store_tampering import tamper

GROUPS: list[list[NewEvent]] = [
    [registered("a"), registered("b")],
    [registered("far", fleet="other")],
    [new(NodeRemoved("a", "c" * 40), 1), unreachable("down")],
    [registered("c"), new(NodeRemoved("c", "c" * 40), 1)],
    [new(NodeRemoved("b", "c" * 40), 1), registered("d"), registered("e"), new(SourceRecovered(), 1)],
    [new(NodeRemoved("d", "c" * 40), 1)],
]


@pytest.mark.parametrize("limit", [1000, 4, 0], ids=["always-caught-up", "at-times", "never"])
async def test_it_is_the_same_after_every_append(
    engine: AsyncEngine, monkeypatch: pytest.MonkeyPatch, limit: int
) -> None:
    monkeypatch.setattr(read_model, "_CATCH_UP", limit)
    log = await PostgresEventLog.open(engine, toy_fold, tool_version="1")
    reads = PostgresReadModel(engine, toy_fold)
    snapshots = [await reads.snapshot(FLEET)]
    whole = list(snapshots)
    for group in GROUPS:
        await log.append(group, {})
        snapshots.append(await reads.snapshot(FLEET))
        whole.append(await PostgresReadModel(engine, toy_fold).snapshot(FLEET))
        assert await reads.snapshot(FLEET) == whole[-1]
    assert snapshots == whole, "an older one changed, or one is not what stands in the tables"


async def test_another_log_is_read_anew(engine: AsyncEngine, postgres: Server, database: str) -> None:
    """A restored backup may have other events at the same positions."""
    log = await PostgresEventLog.open(engine, toy_fold, tool_version="1")
    reads = PostgresReadModel(engine, toy_fold)
    await log.append([unreachable("down")], {})
    await reads.snapshot(FLEET)
    tamper(
        postgres,
        database,
        "UPDATE events SET hash = sha256(hash); UPDATE fleets SET unreachable = 'restored' WHERE valid_to IS NULL",
    )
    row = (await reads.snapshot(FLEET)).one(FLEETS, FLEET)
    assert row is not None
    assert row["unreachable"] == "restored"
