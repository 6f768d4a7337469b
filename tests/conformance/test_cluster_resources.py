"""The conformance class of a cluster's resources: in memory, and on a real kube-apiserver with OpenShift's CRDs."""

from __future__ import annotations

import base64
import gzip
from collections.abc import AsyncIterator, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from reconciler.errors import ClusterError, ClusterRefused
from reconciler.kubernetes.connection import Connection
from reconciler.kubernetes.memory_resources import MemoryResources
from reconciler.kubernetes.resources import KINDS, OpenShiftResources
from reconciler.rollout.cluster_objects import IMAGE, key_of
from tests.cluster import OPENSHIFT, ApiServer
from tests.conformance.cluster_resources import ResourcesConformance, ResourcesRig, image, ours
from tests.nodes import FixedClock

MACHINES = "/apis/machineconfiguration.openshift.io/v1"


class MemoryRig(ResourcesRig):
    resources: MemoryResources

    def __init__(self) -> None:
        self.resources = MemoryResources(FixedClock())

    def put(self, document: Mapping[str, Any], manager: str) -> None:
        self.resources.put(document, manager)

    def remove(self, key: str) -> None:
        self.resources.remove(key)


class ServerRig(ResourcesRig):
    resources: OpenShiftResources

    def __init__(self, server: ApiServer, kubeconfig: Path | None = None) -> None:
        self.server = server
        self.connection = Connection("default", "kubeconfig", str(kubeconfig or server.kubeconfig))
        self.resources = OpenShiftResources(self.connection)

    def put(self, document: Mapping[str, Any], manager: str) -> None:
        text = yaml.safe_dump(dict(document))
        there = self.server.try_kubectl("get", "-f", "-", input=text).returncode == 0
        verb = "replace" if there else "create"
        self.server.kubectl(verb, f"--field-manager={manager}", "-f", "-", input=text)

    def remove(self, key: str) -> None:
        kind, _, name = key.partition("/")
        namespace = ("-n", "openshift-config") if kind == "ConfigMap" else ()
        self.server.kubectl("delete", kind, name, *namespace)

    async def close(self) -> None:
        await self.resources.close()
        await self.connection.close()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ApiServer]:
    with ApiServer(tmp_path_factory.mktemp("cluster")) as server:
        server.load_openshift()
        server.kubectl("delete", "configmap", "--all", "-n", "openshift-config")
        yield server


class TestMemory(ResourcesConformance):
    @pytest.fixture
    def rig(self) -> ResourcesRig:
        return MemoryRig()


class TestServer(ResourcesConformance):
    @pytest.fixture
    async def rig(self, server: ApiServer) -> AsyncIterator[ServerRig]:
        rig = ServerRig(server)
        yield rig
        await rig.close()
        for kind in KINDS:
            namespace = {"ConfigMap": ("-n", "openshift-config"), "ImagePolicy": ("-A",)}.get(kind, ())
            server.kubectl("delete", kind, "--all", *namespace)

    async def test_files_of_a_machine_config(self, rig: ServerRig) -> None:
        packed = base64.b64encode(gzip.compress(b"packed\n")).decode()
        files = [
            {"path": "/etc/plain", "contents": {"source": "data:,a%20text%0A"}},
            {"path": "/etc/coded", "contents": {"source": "data:text/plain;charset=utf-8;base64,Y29kZWQK"}},
            {"path": "/etc/packed", "contents": {"source": f"data:;base64,{packed}", "compression": "gzip"}},
            {"path": "/etc/fetched", "contents": {"source": "https://example.com/file"}},
        ]
        config = {"ignition": {"version": "3.4.0"}, "storage": {"files": files}}
        body = {
            "apiVersion": "machineconfiguration.openshift.io/v1",
            "kind": "MachineConfig",
            "metadata": {"name": "rendered-worker-1"},
            "spec": {"config": config},
        }
        rig.server.api("POST", f"{MACHINES}/machineconfigs", body)
        assert await rig.resources.machine_config("rendered-worker-1") == {
            "/etc/plain": b"a text\n",
            "/etc/coded": b"coded\n",
            "/etc/packed": b"packed\n",
        }
        rig.server.kubectl("delete", "machineconfig", "rendered-worker-1")

    async def test_a_look_at_what_is_watched_asks_nobody(self, server: ApiServer) -> None:
        rig = ServerRig(server, server.kubeconfig_for("watcher", ["system:masters"]))
        for _ in range(20):
            await rig.resources.look()
        lists = [call for call in server.calls("watcher") if call.verb != "watch"]
        assert sorted(call.verb for call in lists) == ["list"] * (len(KINDS) + 1)
        await rig.close()

    async def test_content_that_the_api_refuses(self, rig: ServerRig) -> None:
        with pytest.raises(ClusterRefused, match="blockedRegistries"):
            await rig.resources.apply(ours(image("not a registry")), None)

    async def test_no_rights(self, server: ApiServer) -> None:
        rig = ServerRig(server, server.kubeconfig_for("nobody"))
        with pytest.raises(ClusterRefused, match=r'User "nobody" cannot (.|\n)*rbac') as caught:
            await rig.resources.look()
        assert caught.value.status == 403
        with pytest.raises(ClusterRefused, match=r"(?s)Image/cluster of the cluster of fleet default: .*cannot patch"):
            await rig.resources.apply(ours(image("a.example.com")), None)
        await rig.close()

    async def test_a_kind_that_is_not_served(self, rig: ServerRig) -> None:
        name = "imagetagmirrorsets.config.openshift.io"
        rig.server.kubectl("delete", "crd", name)
        assert (await rig.resources.look()).unserved == {"ImageTagMirrorSet"}
        document = {"apiVersion": "config.openshift.io/v1", "kind": "ImageTagMirrorSet", "metadata": {"name": "t"}}
        with pytest.raises(ClusterRefused, match="does not serve ImageTagMirrorSet"):
            await rig.resources.apply({**document, "spec": {}}, None)
        [file] = OPENSHIFT.glob("*imagetagmirrorsets*")
        rig.server.kubectl("apply", "--server-side", "--force-conflicts", "-f", str(file))
        rig.server.kubectl("wait", "--for=condition=Established", f"crd/{name}")
        await rig.seen(lambda look: not look.unserved)

    async def test_while_the_server_is_away_nothing_old_is_told(self, rig: ServerRig) -> None:
        answer = await rig.resources.apply(ours(image("a.example.com")), None)
        await rig.blocked("a.example.com")
        rig.server.stop()
        with pytest.raises(ClusterError):
            await rig.resources.apply(ours(image("b.example.com")), answer)
        rig.server.start()
        rig.put({**answer.document, "spec": image("c.example.com")["spec"]}, "oc")
        found = await rig.blocked("c.example.com")
        assert key_of(found.objects[IMAGE].document) == IMAGE
