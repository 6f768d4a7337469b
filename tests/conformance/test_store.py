"""The memory store and the PostgreSQL store do the same."""

from __future__ import annotations

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from reconciler.store.blobs import PostgresBlobs
from reconciler.store.event_log import PostgresEventLog
from reconciler.store.leases import PostgresLeases
from reconciler.store.memory import MemoryBlobs, MemoryEventLog, MemoryLeases, MemoryReadModel
from reconciler.store.read_model import PostgresReadModel
from tests.conformance import toy_fold
from tests.conformance.event_log import (
    BlobsConformance,
    EventLogConformance,
    LeasesConformance,
    ProofConformance,
    ReadModelConformance,
    SteppingClock,
    Store,
)


class TestMemory(EventLogConformance, ReadModelConformance, BlobsConformance, LeasesConformance, ProofConformance):
    @pytest.fixture
    def store(self) -> Store:
        clock = SteppingClock()
        blobs = MemoryBlobs()
        log = MemoryEventLog(toy_fold, SteppingClock(back=3), blobs=blobs, tool_version="1.2.3")
        return Store(log, blobs, MemoryReadModel(log, clock), MemoryLeases(clock))


class TestPostgres(EventLogConformance, ReadModelConformance, BlobsConformance, LeasesConformance, ProofConformance):
    @pytest.fixture
    async def store(self, engine: AsyncEngine) -> Store:
        log = await PostgresEventLog.open(engine, toy_fold, tool_version="1.2.3")
        return Store(log, PostgresBlobs(engine), PostgresReadModel(engine, toy_fold), PostgresLeases(engine))
