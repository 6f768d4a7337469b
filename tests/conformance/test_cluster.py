"""The conformance class of clusters against the one in memory and a real API server."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from reconciler.kubernetes import watch
from tests.cluster import ApiServer
from tests.clusters import ApiServerRig, MemoryClusterRig
from tests.conformance.cluster import ClusterConformance, ClusterRig


class TestMemory(ClusterConformance):
    @pytest.fixture
    def rig(self) -> ClusterRig:
        return MemoryClusterRig()


class TestApiServer(ClusterConformance):
    @pytest.fixture
    async def rig(self, cluster: ApiServer, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[ClusterRig]:
        monkeypatch.setattr(watch, "LONGEST_WAIT", 0.3)
        rig = ApiServerRig(cluster)
        yield rig
        await rig.close()
