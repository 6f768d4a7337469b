"""`manage: cluster` on a real kube-apiserver with OpenShift's CRDs; the Machine Config Operator is played."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from reconciler import cluster, commands
from reconciler.events.catalogue import ClusterDriftDetected, ClusterResourceApplied, ClusterResourceRefused
from reconciler.kubernetes.connection import Connection
from reconciler.kubernetes.nodes import KubernetesCluster
from reconciler.kubernetes.resources import KINDS, OpenShiftResources
from reconciler.ports import EventFilter
from reconciler.projections.status import FleetStatus
from reconciler.rollout.cluster_objects import IMAGE
from reconciler.transport.memory import MemoryTransport
from tests.cluster import ApiServer
from tests.mco import Mco, ServerHands
from tests.openshift import NODES, WORKER, cluster_pool, nodes_file
from tests.world import ManualClock, MemoryWorld, image, make_world, mirrors

A, B, C = "a.example.com", "b.example.com", "c.example.com"
WITHIN = 60.0


@dataclass
class Fleet:
    world: MemoryWorld
    server: ApiServer
    mco: Mco
    connection: Connection

    def commit(self, files: dict[str, str | None]) -> str:
        return self.world.repository.commit(files)

    async def until(self, holds: Callable[[FleetStatus], object]) -> FleetStatus:
        """Passes and the operator's steps until the status is so: watches bring what changed a moment later."""
        async with asyncio.timeout(WITHIN):
            while True:
                await self.world.run()
                status = await self.world.status()
                if holds(status):
                    return status
                await asyncio.to_thread(self.mco.step)
                await asyncio.sleep(0.05)

    async def converged(self) -> FleetStatus:
        return await self.until(lambda status: status.exit_code == 0)

    def spec(self) -> Any:
        return self.server.api("GET", "/apis/config.openshift.io/v1/images/cluster")["spec"]

    def edit(self, *registries: str) -> None:
        """What `oc edit` does."""
        found = yaml.safe_load(self.server.kubectl("get", "image.config.openshift.io", "cluster", "-o", "yaml"))
        found["spec"]["registrySources"] = {"blockedRegistries": list(registries)}
        self.server.kubectl("replace", "--field-manager=kubectl-edit", "-f", "-", input=yaml.safe_dump(found))

    async def bodies(self, kind: type) -> list[Any]:
        return [event.body for event in await self.world.log.read(EventFilter(types=(kind.__name__,)))]


@pytest.fixture
async def fleet(openshift: ApiServer, tmp_path: Path) -> AsyncIterator[Fleet]:
    """Three workers, installed, and a fleet whose repository is empty."""
    clock = ManualClock()
    world = make_world(tmp_path, MemoryTransport(clock), clock)
    for name in NODES:
        openshift.add_node(name, {WORKER: ""})
    installed = {"apiVersion": "config.openshift.io/v1", "kind": "Image", "metadata": {"name": "cluster"}, "spec": {}}
    openshift.kubectl("create", "--field-manager=installer", "-f", "-", input=yaml.safe_dump(installed))
    mco = Mco(ServerHands(openshift), {"worker": NODES})
    mco.install()
    connection = Connection("default", "kubeconfig", str(openshift.kubeconfig))
    nodes, resources = KubernetesCluster(connection), OpenShiftResources(connection)
    world.context.cluster, world.context.cluster_resources = nodes, resources
    yield Fleet(world, openshift, mco, connection)
    await resources.close()
    await nodes.close()
    await connection.close()
    openshift.kubectl("delete", "nodes", "--all")
    for kind in (*KINDS, "MachineConfigPool", "MachineConfig"):
        if kind not in ("ConfigMap", "ImagePolicy"):
            openshift.kubectl("delete", kind, "--all")


async def adopted(fleet: Fleet, **spec: Any) -> None:
    """Git's Image is the cluster's, and on every node."""
    image_text = image(blockedRegistries=[A])
    fleet.commit({"pool.yaml": cluster_pool(**spec), "nodes.yaml": nodes_file(), "image.yaml": image_text})
    status = await fleet.until(lambda status: status.pools and "not adopted" in status.pools[0].blocked)
    assert (fleet.spec(), status.exit_code) == ({}, 3)
    await cluster.adopt(fleet.world.context, reason="ours")
    await fleet.converged()
    assert fleet.spec() == {"registrySources": {"blockedRegistries": [A]}}


async def test_commit_to_updated_then_degraded_then_rolled_back(fleet: Fleet) -> None:
    await adopted(fleet)
    good = await fleet.world.head()
    commit = fleet.commit(
        {"image.yaml": image(blockedRegistries=[B]), "mirrors.yaml": mirrors("apps", "x.example.com", "m.example.com")}
    )
    await fleet.until(lambda status: status.pools[0].rollout == "progressing")
    status = await fleet.converged()
    assert (status.pools[0].rollout, status.pools[0].updated) == ("completed", 3)
    applied = [(body.key, body.commit) for body in await fleet.bodies(ClusterResourceApplied)][1:]
    assert applied == [("ImageDigestMirrorSet/apps", commit), (IMAGE, commit)]
    managers = fleet.server.kubectl("get", "idms", "apps", "-o", "jsonpath={.metadata.managedFields[*].manager}")
    assert managers == "reconciler"

    fleet.mco.failing["w1"] = "unexpected on-disk state"
    fleet.commit({"image.yaml": image(blockedRegistries=[C])})
    status = await fleet.until(lambda status: status.exit_code == 1 and status.pools[0].degraded)
    assert 'Node w1 is reporting: "unexpected on-disk state"' in status.pools[0].blocked
    reasons = {node.name: node.reason for node in status.nodes if node.files == "Failed"}
    assert reasons == {"w1": "Degraded: unexpected on-disk state"}

    fleet.mco.failing.clear()
    await commands.rollback(fleet.world.context, to=f"#{good}", reason="locks out")
    await fleet.converged()
    assert fleet.spec() == {"registrySources": {"blockedRegistries": [A]}}
    assert fleet.server.kubectl("get", "idms", "-o", "name") == ""


async def test_a_paused_pool_is_respected(fleet: Fleet) -> None:
    await adopted(fleet)
    fleet.mco.paused.add("worker")
    fleet.commit({"image.yaml": image(blockedRegistries=[B])})
    status = await fleet.until(lambda status: "Pool is paused; will not update to" in status.pools[0].paused)
    assert status.exit_code == 3
    fleet.mco.paused.clear()
    await fleet.converged()


@pytest.mark.parametrize("policy", ["alert", "heal"])
async def test_oc_edit(fleet: Fleet, policy: str) -> None:
    await adopted(fleet, drift=policy)
    fleet.edit(C)
    if policy == "alert":
        said = "Image/cluster drifted: spec.registrySources.blockedRegistries was changed by kubectl-edit (Update, "
        await fleet.until(lambda status: said in status.pools[0].blocked)
        assert fleet.spec()["registrySources"]["blockedRegistries"] == [C]
        fleet.commit({"image.yaml": image(blockedRegistries=[B])})
        await fleet.until(
            lambda status: "is refused: spec.registrySources.blockedRegistries" in status.pools[0].blocked
        )
        [refused] = await fleet.bodies(ClusterResourceRefused)
        assert refused.conflicts == ({"manager": "kubectl-edit", "field": "spec.registrySources.blockedRegistries"},)
        assert fleet.spec()["registrySources"]["blockedRegistries"] == [C], "nothing is forced"
        await cluster.repair(fleet.world.context, "worker", reason="Git is right")
    async with asyncio.timeout(WITHIN):
        while fleet.spec()["registrySources"]["blockedRegistries"] == [C]:
            await fleet.world.run()
    await fleet.converged()
    [drift] = await fleet.bodies(ClusterDriftDetected)
    [change] = drift.differs
    assert (change["manager"], change["operation"], len(change["time"])) == ("kubectl-edit", "Update", 20)
    assert (await fleet.bodies(ClusterResourceApplied))[-1].taken == ("kubectl-edit",)


async def test_an_edit_that_is_adopted_as_a_commit(fleet: Fleet) -> None:
    await adopted(fleet)
    fleet.edit(C)
    await fleet.until(lambda status: "drifted" in status.pools[0].blocked)
    await cluster.keep_edit(fleet.world.context, IMAGE, "keep-it", reason="the block was right")
    fleet.world.repository.git("merge", "--quiet", "--ff-only", "keep-it")
    await fleet.converged()
    assert fleet.spec()["registrySources"]["blockedRegistries"] == [C]
    assert (await fleet.bodies(ClusterResourceApplied))[-1].taken == ()


async def test_the_server_is_away_and_comes_back(fleet: Fleet) -> None:
    await adopted(fleet)
    fleet.server.stop()
    fleet.commit({"image.yaml": image(blockedRegistries=[B])})
    async with asyncio.timeout(WITHIN):
        while "ClusterResourcesUnreachable" not in await fleet.world.types():
            await fleet.world.run()
            await asyncio.sleep(0.1)
    fleet.server.start()
    await fleet.converged()
    assert fleet.spec()["registrySources"]["blockedRegistries"] == [B]
    types = await fleet.world.types()
    assert (types.count("ClusterResourcesUnreachable"), types.count("ClusterResourcesRecovered")) == (1, 1)


async def test_a_user_without_rights_is_told_which(fleet: Fleet) -> None:
    connection = Connection("default", "kubeconfig", str(fleet.server.kubeconfig_for("nobody")))
    fleet.world.context.cluster_resources = resources = OpenShiftResources(connection)
    fleet.commit({"pool.yaml": cluster_pool(), "image.yaml": image(blockedRegistries=[A])})
    status = await fleet.until(lambda status: status.pools and status.pools[0].blocked)
    assert 'User "nobody" cannot list resource' in status.pools[0].blocked
    assert "deploy/kubernetes/base/rbac.yaml" in status.pools[0].blocked
    await resources.close()
    await connection.close()
