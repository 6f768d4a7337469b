"""The transport conformance class against every kind of node that can be had here."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from reconciler.transport.sandbox import SandboxNode
from tests.cluster import ApiServer
from tests.conformance.transport import TransportConformance
from tests.conformance.verbs import VerbConformance
from tests.nodes import LocalRig, MemoryRig, Rig, SshRig, one_node, shell
from tests.pod_nodes import ALWAYS, PodNodes, PodRig, by_pods, pod_nodes


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SandboxNode]:
    yield from one_node(tmp_path_factory.mktemp("sshd"))


class TestMemory(TransportConformance, VerbConformance):
    @pytest.fixture
    def rig(self) -> Rig:
        return MemoryRig()


class TestLocal(TransportConformance, VerbConformance):
    """node.sh under each shell that hosts have; with busybox, its own programs too."""

    @pytest.fixture(params=["dash", "ash", "bash"])
    async def rig(self, request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Rig]:
        rig = LocalRig(tmp_path / "a root", shell(request.param, tmp_path / "bin"))
        yield rig
        await rig.transport.close()


class TestSshd(TransportConformance, VerbConformance):
    @pytest.fixture
    async def rig(self, node: SandboxNode) -> AsyncIterator[Rig]:
        rig = SshRig(node)
        yield rig
        rig.mend()
        await rig.transport.close()


@pytest.fixture(scope="module")
def pods(cluster: ApiServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[PodNodes]:
    with pod_nodes(cluster, tmp_path_factory.mktemp("pods"), 1) as nodes:
        yield nodes


class TestPods(TransportConformance, VerbConformance):
    """Pods that a test kubelet really runs, on a real API server."""

    @pytest.fixture
    async def rig(self, pods: PodNodes) -> AsyncIterator[Rig]:
        async with by_pods(pods.config, look_interval=ALWAYS) as transport:
            rig = PodRig(pods.machines[0], transport)
            yield rig
            rig.mend()
