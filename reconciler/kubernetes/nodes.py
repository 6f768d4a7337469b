"""The nodes of a fleet's cluster, kept by a watch (ports.Cluster)."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC

from lightkube.resources.core_v1 import Node

from reconciler.kubernetes.connection import Connection
from reconciler.kubernetes.watch import Mirror
from reconciler.ports import ClusterCheck, ClusterNode

CORDONED_BY = "reconciler.dev/cordoned-by"
"""Annotation of a Node that we cordoned: the step that did. One that is unschedulable without it is somebody else's."""

MACHINE_CONFIG = "machineconfiguration.openshift.io/"
MACHINE_CONFIG_KEYS = ("currentConfig", "desiredConfig", "state", "reason")
"""What the Machine Config Operator annotates nodes with."""


class KubernetesCluster:
    """The cluster at the end of `connection`, whose owner closes that."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._nodes: Mirror[Node] | None = None

    async def nodes(self) -> Sequence[ClusterNode]:
        mirror = self.mirror()
        await mirror.synced()
        if mirror.failure is not None:
            raise mirror.failure.with_traceback(None)  # it is raised again and again
        return [cluster_node(item) for item in mirror.items()]

    def mirror(self) -> Mirror[Node]:
        """The Node objects themselves, for what nodes() does not tell. Raises ClusterRefused where the settings name
        no cluster."""
        if self._nodes is None:
            asked = f"nodes of the cluster of fleet {self._connection.fleet}"
            self._nodes = Mirror(self._connection.client(), Node, asked)
        return self._nodes

    async def check(self) -> ClusterCheck:
        return await self._connection.check()

    async def close(self) -> None:
        """Stop watching."""
        if self._nodes is not None:
            await self._nodes.close()
            self._nodes = None


def cluster_node(node: Node) -> ClusterNode:
    """A Node object in our terms. The conditions but Ready do not count, as in `kubectl get nodes`."""
    metadata, status = node.metadata, node.status
    assert metadata is not None  # noqa: S101  the API server gives every object its metadata
    conditions = (status.conditions or ()) if status else ()
    ready = next((condition for condition in conditions if condition.type == "Ready"), None)
    told = (ready.reason, ready.message) if ready else ("NoCondition", "its kubelet has not reported yet")
    is_ready = ready is not None and ready.status == "True"
    info = status.nodeInfo if status else None
    annotations = metadata.annotations or {}
    unschedulable = bool(node.spec and node.spec.unschedulable)
    created = metadata.creationTimestamp
    return ClusterNode(
        name=metadata.name or "",
        uid=metadata.uid or "",
        labels=metadata.labels or {},
        ready=is_ready,
        reason="" if is_ready else ": ".join(filter(None, told)),
        unschedulable=unschedulable,
        cordoned_by=annotations.get(CORDONED_BY, "") if unschedulable else "",
        runtime=(info.containerRuntimeVersion or "") if info else "",
        version=(info.kubeletVersion or "") if info else "",
        created=f"{created.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}" if created else "",
        machine_config={k: v for k in MACHINE_CONFIG_KEYS if (v := annotations.get(MACHINE_CONFIG + k)) is not None},
        machine_id=(info.machineID or "") if info else "",
    )
