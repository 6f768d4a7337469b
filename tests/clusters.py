"""Clusters to discover nodes in: one in memory, and a real API server that a user with few rights asks over a link."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from reconciler.errors import ClusterError
from reconciler.kubernetes.connection import Connection
from reconciler.kubernetes.memory import MemoryCluster
from reconciler.kubernetes.nodes import CORDONED_BY, KubernetesCluster
from reconciler.ports import ClusterNode
from tests.cluster import ApiServer

USER = "discoverer"
RBAC = "/apis/rbac.authorization.k8s.io/v1"


class MemoryClusterRig:
    def __init__(self) -> None:
        self.cluster = MemoryCluster(version="v1.34.1")

    def add(self, name: str, labels: Mapping[str, str]) -> None:
        runtime, version, created = "cri-o://1.34.1", "v1.34.1", "2026-01-01T00:00:00Z"
        node = ClusterNode(name, uuid.uuid4().hex, labels, True, runtime=runtime, version=version, created=created)
        self.cluster.put(node)

    def label(self, name: str, labels: Mapping[str, str]) -> None:
        node = self.cluster.node(name)
        self.cluster.put(replace(node, labels={**node.labels, **labels}))

    def ready(self, name: str, *, yes: bool) -> None:
        self.cluster.put(replace(self.cluster.node(name), ready=yes, reason="" if yes else "KubeletNotReady"))

    def cordon(self, name: str, *, yes: bool, by: str = "") -> None:
        self.cluster.put(replace(self.cluster.node(name), unschedulable=yes, cordoned_by=by if yes else ""))

    def remove(self, name: str) -> None:
        self.cluster.remove(name)

    def cut(self) -> None:
        self.cluster.failure = ClusterError("the API server cannot be reached (scripted)", where="nodes")

    def mend(self) -> None:
        self.cluster.failure = None

    def forbid(self) -> None:
        self.cluster.deny("list nodes")

    def allow(self) -> None:
        self.cluster.deny()


class ApiServerRig:
    """`cluster` asks as USER, through `link`, which tests may cut; the hands are the administrator's."""

    def __init__(self, server: ApiServer) -> None:
        self.server = server
        self.link = server.proxy()
        self.link.__enter__()
        self.calls_before = len(server.calls(USER))
        self._empty()
        self.allow()
        self.connection = Connection("default", "kubeconfig", str(self.kubeconfig))
        self.cluster = KubernetesCluster(self.connection)

    @property
    def kubeconfig(self) -> Path:
        return self.server.kubeconfig_for(USER, server=self.link.url)

    def calls(self) -> list[str]:
        """What was asked through `cluster` so far: `list nodes`, …; a watch is counted when it begins and ends."""
        return [f"{call.verb} {call.resource}" for call in self.server.calls(USER)[self.calls_before :]]

    async def close(self) -> None:
        await self.cluster.close()
        await self.connection.close()
        self.link.__exit__()

    def _empty(self) -> None:
        for item in self.server.api("GET", "/api/v1/nodes")["items"]:
            self.remove(item["metadata"]["name"])

    def add(self, name: str, labels: Mapping[str, str]) -> None:
        self.server.add_node(name, labels)

    def label(self, name: str, labels: Mapping[str, str]) -> None:
        self._patch(name, {"metadata": {"labels": dict(labels)}})

    def ready(self, name: str, *, yes: bool) -> None:
        self.server.set_ready(name, yes)

    def cordon(self, name: str, *, yes: bool, by: str = "") -> None:
        mark = {CORDONED_BY: by if yes and by else None}
        self._patch(name, {"metadata": {"annotations": mark}, "spec": {"unschedulable": yes or None}})

    def remove(self, name: str) -> None:
        self.server.api("DELETE", f"/api/v1/nodes/{name}")

    def cut(self) -> None:
        self.link.refuse()

    def mend(self) -> None:
        self.link.allow()

    def forbid(self) -> None:
        for kind in ("clusterrolebindings", "clusterroles"):
            self.server.api("DELETE", f"{RBAC}/{kind}/{USER}")
        self.link.cut()

    def allow(self) -> None:
        """A second time: nothing."""
        self.server.try_kubectl("create", "clusterrole", USER, "--verb=list,watch", "--resource=nodes")
        self.server.try_kubectl("create", "clusterrolebinding", USER, f"--clusterrole={USER}", f"--user={USER}")

    def _patch(self, name: str, body: object) -> None:
        self.server.api("PATCH", f"/api/v1/nodes/{name}", body)
