"""Nodes come from the fleet's cluster: what it says of them is in the log when it changes, and only then."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from reconciler import commands, custody, doctor, queries
from reconciler.describe import describe_node
from reconciler.errors import ClusterError, ClusterRefused, UsageError
from reconciler.kubernetes.memory import MemoryCluster
from reconciler.planning.plan import Asked, plan
from reconciler.ports import (
    ApplyRequest,
    ClusterNode,
    DrainAnswer,
    DrainTask,
    EventFilter,
    Observation,
    ObserveRequest,
    Receipt,
    Target,
)
from reconciler.transport.memory import MemoryTransport
from reconciler.work.inline import InlineRunner
from tests.world import IMAGE, ManualClock, MemoryWorld, make_world, node_document, pool

WORKER = {"node-role.kubernetes.io/worker": ""}
INFRA = {"node-role.kubernetes.io/infra": ""}
SELECTS_WORKERS: dict[str, Any] = {"nodeSelector": {"matchLabels": WORKER}}
DOWN = ClusterError("the API server cannot be reached: connection refused", where="nodes")


def node(name: str, labels: Mapping[str, str] = WORKER, **said: Any) -> ClusterNode:
    said = {"uid": f"uid-{name}", "ready": True, "version": "v1.34.1", "runtime": "cri-o://1.34.1", **said}
    return ClusterNode(name, labels=labels, **said)


class Fleet:
    """A memory world with a cluster of its own. `pool.yaml` is the pool of all workers."""

    def __init__(self, world: MemoryWorld, cluster: MemoryCluster, transport: MemoryTransport) -> None:
        self.world, self.cluster, self.transport = world, cluster, transport
        self.context = world.context

    async def run(self) -> list[str]:
        """A pass; the types of the events that it appended."""
        before = await self.world.head()
        await self.world.run()
        return await self.world.types(before)

    async def nodes(self) -> dict[str, dict[str, Any]]:
        return {item["name"]: item for item in await queries.list_nodes(self.context)}

    def now(self, name: str, **changed: Any) -> None:
        self.cluster.put(replace(self.cluster.node(name), **changed))


@pytest.fixture
def fleet(tmp_path: Path) -> Fleet:
    clock = ManualClock()
    transport = MemoryTransport(clock)
    world = make_world(tmp_path, transport, clock)
    cluster = MemoryCluster([node("w1"), node("w2"), node("w3")])
    world.context.cluster = cluster
    world.repository.commit({"pool.yaml": pool(**SELECTS_WORKERS), "image.yaml": IMAGE})
    return Fleet(world, cluster, transport)


async def test_nodes_are_discovered_once_and_brought_to_their_files(fleet: Fleet) -> None:
    labels = {**WORKER, "topology.kubernetes.io/zone": "a"}
    fleet.now("w1", labels=labels)
    status = await fleet.world.sync()
    assert (status.exit_code, [n.files for n in status.nodes]) == (0, ["Converged"] * 3)
    (first, *_) = await fleet.world.log.read(EventFilter(types=("NodeRegistered",)))
    assert (first.columns["node"], first.columns["commit"], first.body.as_data()["discovered"]) == ("w1", None, True)
    shown = (await fleet.nodes())["w1"]
    assert {name: shown[name] for name in ("status", "roles", "zone", "kubelet", "transport", "pool")} == {
        "status": "Ready",
        "roles": ["worker"],
        "zone": "a",
        "kubelet": "v1.34.1",
        "transport": "kubernetes",
        "pool": "worker",
    }
    for _ in range(3):
        assert await fleet.run() == []
    said = (await describe_node(fleet.context, "w1"))["status"]["cluster"]
    assert (said["uid"], said["ready"], said["runtime"]) == ("uid-w1", True, "cri-o://1.34.1")


async def test_only_selected_nodes_are_discovered(fleet: Fleet) -> None:
    fleet.context.fleet = replace(fleet.context.fleet, node_selector="tier in (a,b)")
    fleet.now("w2", labels={**WORKER, "tier": "a"})
    await fleet.run()
    assert set(await fleet.nodes()) == {"w2"}
    fleet.now("w2", labels=WORKER)
    assert await fleet.run() == ["NodeRemoved"]


async def test_a_label_moves_a_node_to_another_pool(fleet: Fleet) -> None:
    infra = pool("infra", nodeSelector={"matchLabels": INFRA})
    fleet.world.repository.commit({"infra.yaml": infra})
    await fleet.world.sync()
    fleet.now("w2", labels=INFRA)
    assert (await fleet.run())[0] == "NodeChanged"
    (event,) = await fleet.world.log.read(EventFilter(types=("NodeChanged",)))
    assert (event.columns["node"], event.columns["pool"]) == ("w2", "infra")
    assert (await fleet.nodes())["w2"]["roles"] == ["infra"]


async def test_a_commit_moves_nodes_with_its_pools(fleet: Fleet) -> None:
    await fleet.world.sync()
    fleet.world.repository.commit({"pool.yaml": None, "renamed.yaml": pool("renamed", **SELECTS_WORKERS)})
    await fleet.world.sync()
    assert {item["pool"] for item in (await fleet.nodes()).values()} == {"renamed"}
    moved = await fleet.world.log.read(EventFilter(types=("NodeChanged",)))
    accepted = await fleet.world.log.read(EventFilter(types=("CommitAccepted",)))
    assert {event.group for event in moved} == {accepted[-1].group}


async def test_a_tie_of_pools_keeps_a_node_out_and_is_shown(fleet: Fleet) -> None:
    fleet.world.repository.commit({"other.yaml": pool("other", **SELECTS_WORKERS)})
    await fleet.run()
    status = await fleet.world.status()
    assert (status.exit_code, {n.pool for n in status.nodes}) == (3, {None})
    shown = (await fleet.nodes())["w1"]
    tie = "is in the pools other, worker, all with priority 0"
    remedy = "give one of the pools a higher priority, or narrow a nodeSelector"
    assert (shown["files"], shown["reason"]) == ("Pending", f"{tie}: {remedy}")
    (event, *_) = await fleet.world.log.read(EventFilter(types=("NodeRegistered",)))
    assert "is in the pools other, worker" in event.body.as_data()["reason"]
    fleet.world.repository.commit({"other.yaml": pool("other", priority=1, **SELECTS_WORKERS)})
    assert (await fleet.world.sync()).exit_code == 0
    assert {item["pool"] for item in (await fleet.nodes()).values()} == {"other"}


async def test_a_node_that_leaves_and_comes_back_keeps_what_was_proven(fleet: Fleet) -> None:
    await fleet.world.sync()
    w2 = fleet.cluster.node("w2")
    fleet.cluster.remove("w2")
    assert await fleet.run() == ["NodeRemoved"]
    (gone,) = await fleet.world.log.read(EventFilter(types=("NodeRemoved",)))
    assert gone.columns["commit"] is None
    fleet.cluster.put(w2)
    assert await fleet.run() == ["NodeRegistered", "NodeConditionChanged"]
    assert (await fleet.nodes())["w2"]["files"] == "Converged"


async def test_all_but_one_node_may_leave_at_once_and_a_cluster_may_be_empty(fleet: Fleet) -> None:
    """The cluster's own answer is a fact; nobody's files change by it."""
    await fleet.world.sync()
    for name in ("w1", "w2", "w3"):
        fleet.cluster.remove(name)
    assert await fleet.run() == ["NodeRemoved"] * 3
    assert await fleet.nodes() == {}


async def test_a_node_made_anew_is_another_machine_only_if_its_machine_is(fleet: Fleet) -> None:
    machine = fleet.transport.node("w2").machine_id
    fleet.now("w2", machine_id=machine)
    await fleet.world.sync()
    fleet.now("w2", uid="again")
    assert await fleet.run() == ["NodeConditionChanged"]
    assert (await fleet.nodes())["w2"]["files"] == "Converged"
    fleet.now("w2", uid="another", machine_id="f" * 32)
    fleet.transport.nodes.pop("w2")
    fleet.transport.node("w2").machine_id = "f" * 32
    types = await fleet.run()
    assert types[:2] == ["NodeReset", "NodeConditionChanged"]
    assert types.count("NodeReset") == 1
    assert "NodeConverged" in types


async def test_a_cluster_out_of_reach_changes_nothing_and_the_pass_goes_on(fleet: Fleet) -> None:
    await fleet.world.sync()
    fleet.cluster.failure = DOWN
    fleet.world.repository.commit({"image.yaml": IMAGE.replace("untrusted.", "worse.")})
    types = await fleet.run()
    assert (types.count("ClusterUnreachable"), types.count("NodeConverged")) == (1, 3)
    fleet.cluster.failure = ClusterError("another way to fail")
    assert await fleet.run() == []
    _, data = await queries.status(fleet.context)
    assert "connection refused" in data["cluster"]["unreachable"]
    assert data["cluster"]["since"]
    assert (await fleet.world.status()).exit_code == 0
    fleet.cluster.failure = None
    fleet.cluster.remove("w3")
    assert await fleet.run() == ["ClusterRecovered", "NodeRemoved"]
    assert (await queries.status(fleet.context))[1]["cluster"] is None


async def test_a_right_that_is_missing_is_named(fleet: Fleet) -> None:
    what, remedy = 'nodes is forbidden: User "x" cannot list resource "nodes"', "grant the right"
    fleet.cluster.failure = ClusterRefused(what, where="nodes of the cluster of fleet default", remedy=remedy)
    assert "ClusterUnreachable" in await fleet.run()
    status, data = await queries.status(fleet.context)
    assert (status.exit_code, data["cluster"]["cause"]) == (3, "refused")
    assert data["cluster"]["unreachable"] == f"nodes of the cluster of fleet default: {what}; {remedy}"
    fleet.cluster.failure = ClusterRefused("watch is forbidden")
    assert await fleet.run() == ["ClusterUnreachable"]


async def test_another_cluster_is_not_believed_before_a_person_says_so(fleet: Fleet) -> None:
    await fleet.world.sync()
    with pytest.raises(UsageError, match="nothing to accept"):
        await commands.accept_cluster(fleet.context, reason="x")
    fleet.context.cluster = MemoryCluster([node("w1", uid="other-1"), node("x2")])
    assert await fleet.run() == ["ClusterUnreachable"]
    assert await fleet.run() == []
    assert set(await fleet.nodes()) == {"w1", "w2", "w3"}
    status, data = await queries.status(fleet.context)
    assert (status.exit_code, data["cluster"]["cause"]) == (3, "other")
    await commands.accept_cluster(fleet.context, reason="rebuilt")
    assert (await fleet.world.sync()).exit_code == 0
    assert set(await fleet.nodes()) == {"w1", "x2"}
    assert (await queries.status(fleet.context))[1]["cluster"] is None


@dataclass
class Noting:
    """Writes down what a cluster's nodes, and those of documents, are asked for. `dies`: so does a drain."""

    did: list[str] = field(default_factory=list)
    dies: bool = False

    def _note(self, verb: str, target: Target) -> DrainAnswer:
        self.did.append(f"{verb} {target.name}")
        return DrainAnswer("done")

    async def cordon(self, task: DrainTask) -> DrainAnswer:
        return self._note("cordon", task.target)

    async def drain(self, task: DrainTask) -> DrainAnswer:
        if self.dies:
            raise RuntimeError
        return self._note("drain", task.target)

    async def uncordon(self, task: DrainTask) -> DrainAnswer:
        return self._note("uncordon", task.target)


class NotingTransport(MemoryTransport):
    """Notes which nodes it reaches by way of their cluster, and which any way are sent files."""

    noting: Noting

    async def observe(self, target: Target, request: ObserveRequest) -> Observation:
        if target.transport == "kubernetes":
            self.noting.did.append(f"observe {target.name}")
        return await super().observe(target, request)

    async def apply(self, target: Target, request: ApplyRequest) -> Receipt:
        self.noting.did.append(f"apply {target.name}")
        return await super().apply(target, request)


@pytest.fixture
async def drained(fleet: Fleet) -> Noting:
    """What is done in a fleet, all well, whose changes drain: w1 is of a document, w2 and w3 of the cluster."""
    noting, transport = Noting(), NotingTransport(fleet.world.clock)
    transport.noting = noting
    fleet.world.context = fleet.context = replace(
        fleet.context, drainers={"kubernetes": noting}, runner=InlineRunner(transport)
    )
    spec = {**SELECTS_WORKERS, "drain": {"via": "kubernetes"}, "canary": {"nodes": 0}}
    fleet.world.repository.commit({"pool.yaml": pool(**spec), "w1.yaml": node_document("w1", "{transport: memory}")})
    assert (await fleet.world.sync()).exit_code == 0
    noting.did.clear()
    return noting


def switch(fleet: Fleet) -> MemoryCluster:
    """To a cluster whose nodes have the same names."""
    fleet.context.cluster = other = MemoryCluster([node(name, uid=f"other-{name}") for name in ("w1", "w2", "w3")])
    return other


async def test_nothing_is_asked_of_another_cluster(fleet: Fleet, drained: Noting) -> None:
    other = switch(fleet)
    fleet.world.repository.commit({"image.yaml": IMAGE.replace("untrusted.", "worse.")})
    done = await fleet.world.run()
    other.failure = ClusterError("no route")
    await fleet.world.run()
    other.failure = None
    planned = [(await plan(fleet.context, Asked(live=live)))["pools"][0] for live in (True, False)]
    assert drained.did == []
    waits = done.pools[0].waits
    why = "the cluster is not the fleet's: it has none of the 3 nodes known of it"
    assert waits["w1"].startswith(f"it would have to be drained: {why}")
    assert set(waits) == {"w1", "w2", "w3"}
    assert waits["w2"] == waits["w3"]
    assert waits["w2"].startswith(why)
    for found in planned:
        assert {group["reason"] for group in (*found["waits"], *found["unknown"])} == set(waits.values())
        assert not found["begins"]
    assert "NodeUnreachable" not in await fleet.world.types()
    await commands.accept_cluster(fleet.context, reason="rebuilt")
    assert (await fleet.world.sync()).exit_code == 0
    assert {"cordon w1", "drain w1", "apply w1", "uncordon w1", "observe w2", "drain w2"} <= set(drained.did)


async def test_a_step_that_was_under_way_is_not_taken_to_another_cluster(fleet: Fleet, drained: Noting) -> None:
    fleet.world.repository.commit({"image.yaml": IMAGE.replace("untrusted.", "worse.")})
    drained.dies = True
    with pytest.raises(RuntimeError):
        await fleet.world.run()
    drained.did.clear()
    drained.dies = False
    fleet.world.context = fleet.context = replace(fleet.context, owner="another")
    switch(fleet)
    done = await fleet.world.run()
    assert (drained.did, done.moving) == ([], False)
    assert "the cluster is not the fleet's" in done.pools[0].waits["w1"]
    await commands.accept_cluster(fleet.context, reason="rebuilt")
    assert (await fleet.world.sync()).exit_code == 0
    assert drained.did[-1].startswith("uncordon")


async def test_a_node_left_cordoned_is_not_uncordoned_in_another_cluster(fleet: Fleet, drained: Noting) -> None:
    uncordon = drained.uncordon

    async def failed(task: DrainTask) -> DrainAnswer:
        return DrainAnswer("failed", "no right")

    drained.uncordon = failed  # type: ignore[method-assign]
    fleet.world.repository.commit({"image.yaml": IMAGE.replace("untrusted.", "worse.")})
    await fleet.world.run()
    drained.did.clear()
    drained.uncordon = uncordon  # type: ignore[method-assign]
    switch(fleet)
    fleet.context.retry_now = True
    done = await fleet.world.run()
    assert drained.did == []
    assert any(why.startswith("is still cordoned: the cluster is not") for why in done.pools[0].waits.values())
    await commands.accept_cluster(fleet.context, reason="rebuilt")
    assert (await fleet.world.sync()).exit_code == 0
    assert "uncordon w1" in drained.did


async def test_a_pool_that_drains_otherwise_by_now_uncordons_nothing_in_another_cluster(
    fleet: Fleet, drained: Noting
) -> None:
    """How the node was cordoned is how it is uncordoned; only its turn knows that it asks the cluster."""
    fleet.world.repository.commit({"image.yaml": IMAGE.replace("untrusted.", "worse.")})
    drained.dies = True
    with pytest.raises(RuntimeError):
        await fleet.world.run()
    drained.did.clear()
    fleet.world.context = fleet.context = replace(fleet.context, owner="another")
    switch(fleet)
    fleet.world.repository.commit({"pool.yaml": pool(**SELECTS_WORKERS, drain={"via": "none"}, canary={"nodes": 0})})
    await fleet.world.run()
    assert "uncordon w1" not in drained.did
    await commands.accept_cluster(fleet.context, reason="rebuilt")
    await fleet.world.sync()
    assert "uncordon w1" in drained.did


async def test_a_node_is_not_given_back_by_way_of_another_cluster(fleet: Fleet, drained: Noting) -> None:
    """Giving its files back drains it."""
    await custody.release(fleet.context, "w1", restore=True, reason="x")
    switch(fleet)
    await fleet.world.run()
    assert drained.did == []
    await commands.accept_cluster(fleet.context, reason="rebuilt")
    await fleet.world.sync()
    assert [did for did in drained.did if "w1" in did] == ["cordon w1", "drain w1", "uncordon w1"]


async def test_a_check_asks_no_node_of_another_cluster(fleet: Fleet, drained: Noting) -> None:
    switch(fleet)
    await fleet.world.run()
    found = await doctor._nodes(fleet.context)
    assert (drained.did, found.ok) == ([], False)
    assert "the cluster is not the fleet's" in found.detail


async def test_foreign_cordon_and_not_ready_wait_and_count(fleet: Fleet) -> None:
    """maxUnavailableTotal 2: with a NotReady and a foreign-cordoned node no other may be taken down."""
    restart = {"type": "Restart", "restart": {"serviceName": "crio.service"}}
    spec: dict[str, Any] = {
        **SELECTS_WORKERS,
        "maxUnavailableTotal": 2,
        "maxUnavailable": 3,
        "canary": {"nodes": 0},
        "disruption": {"files": [{"path": "/etc/containers/registries.conf", "actions": [restart]}]},
    }
    fleet.world.repository.commit({"pool.yaml": pool(**spec)})
    assert (await fleet.world.sync()).exit_code == 0
    fleet.now("w1", ready=False, reason="KubeletNotReady: PLEG was last seen 3m1s ago")
    fleet.now("w2", unschedulable=True)
    assert await fleet.run() == ["NodeConditionChanged"] * 2
    fleet.now("w1", reason="KubeletNotReady: PLEG was last seen 4m1s ago")
    assert await fleet.run() == []
    fleet.world.repository.commit({"image.yaml": IMAGE.replace("untrusted.", "worse.")})
    done = await fleet.world.run()
    (worker,) = done.pools
    assert worker.waits == {
        "w1": "NotReady in its cluster: KubeletNotReady: PLEG was last seen 3m1s ago",
        "w2": "cordoned by somebody else",
        "w3": "waits for maxUnavailableTotal: too many nodes are down already",
    }
    shown = await fleet.nodes()
    assert [shown[name]["status"] for name in ("w1", "w2", "w3")] == ["NotReady", "Ready,SchedulingDisabled", "Ready"]
    assert shown["w2"]["reason"] == "cordoned by somebody else"
    (ready, *_) = (await describe_node(fleet.context, "w1"))["status"]["conditions"]
    assert (ready["status"], ready["reason"]) == ("False", "NotReady")
    fleet.now("w2", cordoned_by="a step of ours")
    fleet.now("w1", ready=True, reason="")
    assert (await fleet.world.sync()).exit_code == 0


async def test_a_node_of_a_document_gets_labels_and_conditions_of_its_cluster(fleet: Fleet) -> None:
    document = node_document("host-1", "{transport: memory, nodeName: w1}", "site")
    fleet.world.repository.commit({"host.yaml": document})
    fleet.now("w1", labels={**WORKER, "site": "of the cluster", "topology.kubernetes.io/zone": "b"})
    await fleet.world.sync()
    shown = await fleet.nodes()
    assert set(shown) == {"host-1", "w2", "w3"}
    host = shown["host-1"]
    assert (host["pool"], host["zone"], host["roles"], host["labels"]["site"]) == ("worker", "b", ["worker"], "")
    assert (host["discovered"], host["kubelet"], host["files"]) == (False, "v1.34.1", "Converged")
    fleet.world.repository.commit({"image.yaml": IMAGE.replace("untrusted.", "worse.")})
    types = await fleet.run()
    assert "NodeChanged" not in types
    fleet.now("w1", labels={})
    assert await fleet.run() == ["NodeChanged", "NodeConditionChanged"]
    assert (await fleet.nodes())["host-1"]["pool"] is None
    fleet.cluster.remove("w1")
    assert await fleet.run() == ["NodeConditionChanged"]
    assert (await fleet.nodes())["host-1"]["kubelet"] == ""


async def test_a_tie_that_only_the_clusters_labels_make_rejects_no_commit(fleet: Fleet) -> None:
    infra = pool("infra", nodeSelector={"matchLabels": INFRA})
    document = node_document("w1", "{transport: memory}")
    fleet.world.repository.commit({"infra.yaml": infra, "w1.yaml": document})
    await fleet.world.sync()
    assert (await fleet.nodes())["w1"]["pool"] == "worker"
    fleet.now("w1", labels={**WORKER, **INFRA})
    assert await fleet.run() == ["NodeChanged", "NodeConditionChanged"]
    fleet.world.repository.commit({"image.yaml": IMAGE.replace("untrusted.", "worse.")})
    await fleet.run()
    status = await fleet.world.status()
    assert (status.rejected, status.exit_code) == (None, 3)
    shown = (await fleet.nodes())["w1"]
    assert (shown["pool"], shown["files"]) == (None, "Pending")
    assert shown["reason"].startswith("is in the pools infra, worker, all with priority 0")
    both = document.replace("labels: {", 'labels: {node-role.kubernetes.io/infra: "", ')
    fleet.world.repository.commit({"w1.yaml": both})
    await fleet.run()
    assert (await fleet.world.status()).rejected is not None


async def test_a_document_takes_a_discovered_node_over_and_leaves_it_again(fleet: Fleet) -> None:
    await fleet.world.sync()
    documents = {f"{name}.yaml": node_document(name, "{transport: memory}") for name in ("w1", "x1", "x2")}
    fleet.world.repository.commit(documents)
    types = await fleet.run()
    assert (types.count("NodeChanged"), types.count("NodeRemoved")) == (1, 0)
    shown = (await fleet.nodes())["w1"]
    assert (shown["discovered"], shown["transport"], shown["files"]) == (False, "memory", "Converged")
    fleet.world.repository.commit({"w1.yaml": None})
    types = await fleet.run()
    assert types[-3:] == ["NodeRemoved", "NodeRegistered", "NodeConditionChanged"]
    assert (await fleet.nodes())["w1"]["files"] == "Converged"


async def test_discovered_nodes_do_not_count_as_removed_by_a_commit(fleet: Fleet) -> None:
    """No commit brought them: none takes them away, and over a third of nodes is of those of documents."""
    fleet.world.repository.commit({"w9.yaml": node_document("w9", "{transport: memory}")})
    await fleet.world.sync()
    fleet.world.repository.commit({"w9.yaml": None})
    assert "MassRemovalDetected" in await fleet.run()


async def test_a_hold_on_a_node_that_left_keeps_no_commit_out(fleet: Fleet) -> None:
    """No commit took the node away, so that none can bring it back."""
    await fleet.world.sync()
    fleet.world.repository.commit({"image.yaml": IMAGE.replace("untrusted.", "worse.")})
    await fleet.world.sync()
    await commands.rollback(fleet.context, to="previous", node="w2", reason="x")
    await fleet.world.sync()
    fleet.world.repository.commit({"image.yaml": IMAGE.replace("untrusted.", "third.")})
    await fleet.run()
    assert (await fleet.world.status()).rejected is None
    fleet.cluster.remove("w2")
    await fleet.run()
    fleet.world.repository.commit({"image.yaml": IMAGE.replace("untrusted.", "fourth.")})
    await fleet.run()
    assert (await fleet.world.status()).rejected is None


async def test_a_plan_needs_no_cluster(fleet: Fleet) -> None:
    await fleet.world.sync()
    fleet.now("w2", unschedulable=True)
    await fleet.run()
    fleet.world.repository.commit({"image.yaml": IMAGE.replace("untrusted.", "worse.")})
    fleet.cluster.failure = DOWN
    before = await fleet.world.head()
    planned = await plan(fleet.context, Asked())
    assert await fleet.world.head() == before
    (worker,) = planned["pools"]
    assert {"reason": "cordoned by somebody else", "nodes": ["w2"]} in worker["waits"]
    assert planned["clusterUnreachable"].endswith("connection refused")
    fleet.cluster.failure = None
    fleet.cluster.put(node("w4"))
    planned = await plan(fleet.context, Asked())
    assert await fleet.world.head() == before
    assert ("NodeRegistered", "w4") in {(item["type"], item["subject"]) for item in planned["content"]}
    assert planned["pools"][0]["nodes"] == 4


async def test_replay_gives_the_same_rows(fleet: Fleet) -> None:
    await fleet.world.sync()
    fleet.now("w2", unschedulable=True)
    fleet.cluster.remove("w3")
    await fleet.run()
    fleet.cluster.failure = DOWN
    await fleet.run()
    live = dict((await fleet.context.snapshot()).rows)
    await fleet.world.reads.rebuild()
    assert dict((await fleet.context.snapshot()).rows) == live
