"""A fleet on a cluster that the Machine Config Operator manages: in memory, or on a real API server."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from textwrap import dedent
from typing import Any

import yaml

from reconciler.kubernetes.memory import MemoryCluster
from reconciler.kubernetes.memory_resources import MemoryResources
from reconciler.transport.memory import MemoryTransport
from tests.mco import Mco, MemoryHands
from tests.world import ManualClock, MemoryWorld, make_world, node_document

NODES = ("w1", "w2", "w3")
WORKER = "node-role.kubernetes.io/worker"


def cluster_pool(name: str = "worker", **spec: Any) -> str:
    """A NodePool of `manage: cluster` that enforces, its guard armed by an image that no commit can turn."""
    given = {
        "mode": "enforce",
        "manage": "cluster",
        "nodeSelector": {"matchLabels": {f"node-role.kubernetes.io/{name}": ""}},
        "requiredImages": ["needed.example.com/app:1"],
        "reachableRegistries": ["nowhere.example.com"],
        **spec,
    }
    metadata = {"name": name}
    document = {"apiVersion": "reconciler.dev/v1alpha1", "kind": "NodePool", "metadata": metadata, "spec": given}
    return yaml.safe_dump(document, sort_keys=False)


def nodes_file() -> str:
    """Node documents of the cluster's nodes: they are never contacted, so that nothing answers at these addresses."""
    return "---".join(dedent(node_document(name, "{transport: ssh, address: 192.0.2.1}")) for name in NODES)


class Untouched:
    """ports.Runner of nodes that nobody may contact."""

    async def observe(self, wanted: Sequence[Any]) -> Sequence[Any]:
        assert not wanted, f"contacts {wanted[0][0].name}"
        return []

    images = apply = confirm = release = hook = observe


@dataclass
class OpenShift:
    """The world of the fleet, its cluster in memory, and the operator there."""

    world: MemoryWorld
    resources: MemoryResources
    cluster: MemoryCluster
    mco: Mco

    def commit(self, files: Mapping[str, str | None], message: str = "Change the configuration") -> str:
        return self.world.repository.commit(files, message)

    async def roll(self) -> None:
        """Passes and the operator's steps, until neither has anything to do."""
        for _ in range(50):
            head = await self.world.head()
            await self.world.run()
            if not self.mco.step() and await self.world.head() == head:
                return
        raise AssertionError("the fleet comes to no end")

    def spec(self, key: str = "Image/cluster") -> Any:
        """What the cluster says."""
        return self.resources.document(key)["spec"]


def openshift(directory: Path) -> OpenShift:
    """An installed cluster of three workers, and a fleet whose repository is empty."""
    clock = ManualClock()
    world = make_world(directory, MemoryTransport(clock), clock)
    resources, cluster = MemoryResources(world.clock), MemoryCluster()
    hands = MemoryHands(resources, cluster)
    for name in NODES:
        hands.add_node(name, {WORKER: ""})
    installed = {"apiVersion": "config.openshift.io/v1", "kind": "Image", "metadata": {"name": "cluster"}, "spec": {}}
    resources.put(installed, "installer")
    mco = Mco(hands, {"worker": NODES})
    mco.install()
    world.context.cluster, world.context.cluster_resources = cluster, resources
    world.context.runner = Untouched()
    return OpenShift(world, resources, cluster, mco)
