"""All that a fleet has of its cluster, behind one connection."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from reconciler.kubernetes.connection import Connection
from reconciler.kubernetes.drainer import KubernetesDrainer
from reconciler.kubernetes.janitor import Living
from reconciler.kubernetes.nodes import KubernetesCluster
from reconciler.kubernetes.pod_spec import Origin
from reconciler.kubernetes.pods import PodTransport
from reconciler.kubernetes.resources import OpenShiftResources
from reconciler.ports import Clock
from reconciler.settings import FleetSettings


@dataclass(frozen=True)
class ClusterParts:
    """Parts that share a connection; nothing is opened before one of them is asked."""

    cluster: KubernetesCluster
    transport: PodTransport
    drainer: KubernetesDrainer
    resources: OpenShiftResources
    _connection: Connection

    async def close(self) -> None:
        """What is under way ends first; then the connection."""
        await self.transport.close()
        await self.resources.close()
        await self.cluster.close()
        await self._connection.close()


def cluster_parts(
    fleet: str, chosen: FleetSettings, log_id: str, owner: str, living: Living, clock: Clock
) -> ClusterParts:
    """Of a fleet whose settings name a cluster. `owner` is this process's lease name, `living` gives all that last."""
    assert chosen.kubernetes != "none"  # noqa: S101  the caller has asked
    connection = Connection(fleet, chosen.kubernetes, chosen.kubeconfig, chosen.context)
    cluster = KubernetesCluster(connection)
    origin = Origin(chosen.namespace, chosen.helper_image, fleet, log_id, owner)
    interval = chosen.look_interval.total_seconds()
    transport = PodTransport(connection, cluster.mirror, origin, living, interval)
    drainer, resources = KubernetesDrainer(connection.client, clock), OpenShiftResources(connection)
    return ClusterParts(cluster, transport, drainer, resources, connection)


@asynccontextmanager
async def lone_resources(kubeconfig: str, context: str) -> AsyncIterator[OpenShiftResources]:
    """The resources of the cluster that a kubeconfig file names (``: kubectl's), which need not be a fleet's."""
    connection = Connection("", "kubeconfig", kubeconfig, context)
    resources = OpenShiftResources(connection)
    try:
        yield resources
    finally:
        await resources.close()
        await connection.close()
