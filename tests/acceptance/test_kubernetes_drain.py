"""Rollouts whose nodes are drained through a real API server: budgets, time-outs, killed replicas, 500 pods."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from reconciler.cycle import Pass
from reconciler.describe import describe_node
from reconciler.events.catalogue import DrainBlocked, NodeDrained
from reconciler.kubernetes.client import connect
from reconciler.kubernetes.drainer import KubernetesDrainer
from reconciler.ports import DrainAnswer, DrainTask, EventFilter
from reconciler.stages.context import Progress
from reconciler.transport.memory import MemoryTransport
from reconciler.wiring import SystemClock
from tests.cluster import ApiServer
from tests.kubelet import Kubelet
from tests.workloads import WITHIN, Workloads, at_work
from tests.world import IMAGE, ManualClock, MemoryWorld, make_world, memory_nodes, pool

NODES = ("w1", "w2", "w3")
SPARE = ("spare-1", "spare-2", "spare-3", "spare-4")
"""Nodes of the cluster that are none of the fleet's."""

MANY = tuple(f"m{number}" for number in range(1, 21))


class HurriedClock(ManualClock):
    """Moves when told to; who sleeps waits a little, so that the cluster gets on."""

    async def sleep(self, seconds: float) -> None:
        self.advance(seconds)
        await asyncio.sleep(seconds / 40)


@dataclass
class Fleet:
    world: MemoryWorld
    workloads: Workloads
    transport: MemoryTransport
    drainer: MortalDrainer

    async def begin(self, nodes: Sequence[str] = NODES, **spec: Any) -> None:
        """Converged, and a change of class drain to come."""
        drain = {"via": "kubernetes", **spec.pop("drain", {})}
        files = {"pool.yaml": pool(drain=drain, **spec), "image.yaml": IMAGE, **memory_nodes(nodes)}
        self.world.repository.commit(files)
        await self.world.sync()
        self.world.repository.commit({"image.yaml": IMAGE.replace("untrusted", "worse")})

    async def events(self, node: str, *types: str) -> list[Any]:
        return [event.body for event in await self.world.log.read(EventFilter(node=node, types=types or None))]

    async def turn(self, node: str) -> list[str]:
        """The types of the events of its last turn."""
        types = [body.type for body in await self.events(node)]
        return types[len(types) - types[::-1].index("StepStarted") - 1 :]

    async def when(self, what: str, node: str = "w1") -> asyncio.Task[Pass]:
        """A pass under way, once the node has such an event."""
        known = len(await self.events(node, what))
        running = asyncio.create_task(self.world.run())
        async with asyncio.timeout(WITHIN):
            while len(await self.events(node, what)) == known:
                assert not running.done(), await self.turn(node)
                await asyncio.sleep(0.05)
        return running

    def reloads(self, node: str) -> int:
        return len(self.transport.node(node).actions)


class Killed(Exception):
    pass


class MortalDrainer(KubernetesDrainer):
    """Once it is told to, the process that asks it ends: nothing is said any more, not even that it ended."""

    dies = False

    async def drain(self, task: DrainTask) -> DrainAnswer:
        if self.dies:
            raise Killed
        return await super().drain(task)


@pytest.fixture(scope="module")
def kubelet(cluster: ApiServer) -> Iterator[Kubelet]:
    with at_work(cluster, (*NODES, *SPARE, *MANY)) as running:
        yield running


@pytest.fixture
async def fleet(cluster: ApiServer, kubelet: Kubelet, tmp_path: Path) -> AsyncIterator[Fleet]:
    clock = HurriedClock()
    transport, workloads = MemoryTransport(clock), Workloads(cluster)
    client = connect("default", "kubeconfig", str(cluster.kubeconfig), "")
    world = make_world(tmp_path, transport, clock)
    drainer = MortalDrainer(lambda: client, SystemClock())
    world.context = replace(world.context, drainers={"kubernetes": drainer})
    yield Fleet(world, workloads, transport, drainer)
    await client.close()
    workloads.clear()
    workloads.uncordon((*NODES, *MANY))


async def test_each_node_is_emptied_changed_and_given_back(fleet: Fleet) -> None:
    await fleet.begin()
    fleet.workloads.deploy("web", 6, {"maxUnavailable": 2}, [*NODES, *SPARE])
    before = {node: fleet.workloads.written(node) for node in NODES}
    assert (await fleet.world.sync()).exit_code == 0
    for node in NODES:
        turn = [name for name in await fleet.turn(node) if name != "DrainBlocked"]
        assert turn[:3] == ["StepStarted", "NodeCordoned", "NodeDrained"]
        assert turn[-2:] == ["NodeUncordoned", "NodeConverged"]
        assert fleet.workloads.node(node) == (False, "")
        assert fleet.workloads.written(node) == before[node] + 2
        assert fleet.reloads(node) == 2  # one for each content


async def test_a_foreign_cordon_is_kept_and_said(fleet: Fleet) -> None:
    await fleet.begin()
    fleet.workloads.cluster.kubectl("cordon", "w2")
    assert (await fleet.world.sync()).exit_code == 0
    kept = [[body.kept for body in await fleet.events(node, "NodeUncordoned")] for node in ("w1", "w2")]
    assert kept == [["", ""], ["", "somebody else cordoned it"]]
    assert fleet.workloads.node("w2") == (True, "")


async def test_what_blocks_is_named_while_it_lasts_and_frees(fleet: Fleet) -> None:
    """By the event (once), status, `describe node` and the progress that people who wait see."""
    told: list[Progress] = []
    fleet.world.context.progress = told.append
    await fleet.begin(drain={"timeout": "100h"})
    fleet.workloads.deploy("db", 1, {"minAvailable": 1}, ["w1"])
    running = await fleet.when("DrainBlocked")
    await asyncio.sleep(1)  # further tries say nothing new
    [said] = await fleet.events("w1", "DrainBlocked")
    assert isinstance(said, DrainBlocked)
    kept = {"owner": "Deployment/db", "budget": "default/db", "allowed": 0}
    assert said.pods
    assert all({name: one[name] for name in kept} == kept for one in said.pods)
    status = {node.name: node.reason for node in (await fleet.world.status()).nodes}
    since = said.pods[0]["since"]
    assert status["w1"].startswith(f"drain blocked since {since}: pod default/db-")
    described = (await describe_node(fleet.world.context, "w1"))["status"]["drainBlocked"]
    assert described["pods"][0]["budget"] == "default/db"
    assert any(news.stage == "drain w1" and "PodDisruptionBudget default/db" in news.message for news in told)
    fleet.workloads.allow("db", minAvailable=0)
    await running
    assert (await fleet.turn("w1"))[:4] == ["StepStarted", "NodeCordoned", "DrainBlocked", "NodeDrained"]
    assert (await describe_node(fleet.world.context, "w1"))["status"]["drainBlocked"] is None


async def test_a_node_that_is_kept_holds_up_no_other(fleet: Fleet) -> None:
    both = {"maxUnavailable": 2, "canary": {"nodes": 2, "soak": "0s"}}
    await fleet.begin(["w1", "w2"], drain={"timeout": "100h"}, **both)
    fleet.workloads.deploy("db", 1, {"minAvailable": 1}, ["w1"])
    fleet.workloads.deploy("web", 4, {"maxUnavailable": 1}, ["w2", "spare-1"])
    running = await fleet.when("DrainBlocked")
    async with asyncio.timeout(WITHIN):
        while (await fleet.turn("w2"))[-1] != "NodeConverged" or fleet.reloads("w2") < 2:
            assert not running.done()
            await asyncio.sleep(0.05)
    assert (await fleet.turn("w1"))[-1] == "DrainBlocked"
    assert not running.done()
    fleet.workloads.allow("db", minAvailable=0)
    await running
    assert (await fleet.turn("w1"))[-1] == "NodeConverged"


async def on_timeout(fleet: Fleet, policy: str) -> str:
    """Rolls one node whose only pod is kept by its budget; the pod's name."""
    await fleet.begin(["w1"], drain={"timeout": "1m", "onTimeout": policy})
    fleet.workloads.deploy("db", 1, {"minAvailable": 1}, ["w1"])
    [name] = fleet.workloads.ready("db")
    await fleet.world.run()
    assert len(await fleet.events("w1", "DrainBlocked")) == 1
    assert fleet.workloads.node("w1") == (False, "")
    return f"default/{name}"


async def test_on_timeout_abort_the_node_is_uncordoned_and_deferred_untouched(fleet: Fleet) -> None:
    name = await on_timeout(fleet, "abort")
    assert (await fleet.turn("w1"))[1:] == ["NodeCordoned", "DrainBlocked", "NodeUncordoned", "NodeDeferred"]
    *_, deferred = await fleet.events("w1", "NodeDeferred")
    assert deferred.reason.startswith(f"not drained: not within 60 s: pod {name} (Deployment/db): PodDisruptionBudget")
    assert fleet.reloads("w1") == 1
    assert fleet.workloads.on("w1") == ["db"]


async def test_on_timeout_skip_the_change_is_made_all_the_same(fleet: Fleet) -> None:
    name = await on_timeout(fleet, "skip")
    *_, drained = await fleet.events("w1", "NodeDrained")
    assert isinstance(drained, NodeDrained)
    assert name in drained.skipped
    assert (fleet.reloads("w1"), fleet.workloads.on("w1")) == (2, ["db"])


async def test_on_timeout_force_the_pods_are_deleted_and_named(fleet: Fleet) -> None:
    name = await on_timeout(fleet, "force")
    *_, drained = await fleet.events("w1", "NodeDrained")
    assert (drained.skipped, drained.forced) == ("", (name,))
    assert fleet.reloads("w1") == 2


async def test_another_replica_takes_over_from_one_that_was_killed_while_it_drained(fleet: Fleet) -> None:
    await fleet.begin(["w1"], drain={"timeout": "100h"})
    fleet.workloads.deploy("db", 1, {"minAvailable": 1}, ["w1"])
    before = fleet.workloads.written("w1")
    killed = await fleet.when("DrainBlocked")
    fleet.drainer.dies = True
    with pytest.raises(Killed):
        await killed
    fleet.drainer.dies = False
    step = (await fleet.events("w1", "NodeCordoned"))[-1].step
    assert fleet.workloads.node("w1") == (True, step)
    fleet.world.context = replace(fleet.world.context, owner="another")
    fleet.workloads.allow("db", minAvailable=0)
    assert (await fleet.world.sync()).exit_code == 0
    assert [body.owner for body in await fleet.events("w1", "StepTakenOver")] == ["another"]
    kinds = ("NodeCordoned", "DrainBlocked", "NodeDrained", "NodeUncordoned", "NodeConverged")
    assert [(body.type, body.step) for body in (await fleet.events("w1", *kinds))[-5:]] == [(k, step) for k in kinds]
    assert fleet.workloads.node("w1") == (False, "")
    assert fleet.workloads.written("w1") == before + 2  # cordoned once, uncordoned once
    assert fleet.reloads("w1") == 2


@pytest.mark.parametrize("how", ["asked", "cancelled"])
async def test_a_process_that_is_to_end_leaves_the_step_to_the_next(fleet: Fleet, how: str) -> None:
    await fleet.begin(["w1"], drain={"timeout": "100h", "onTimeout": "skip"})
    fleet.workloads.deploy("db", 1, {"minAvailable": 1}, ["w1"])
    before = fleet.workloads.written("w1")
    running = await fleet.when("DrainBlocked")
    if how == "asked":
        fleet.world.context.stopping = True
    else:
        running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    assert await fleet.turn("w1") == ["StepStarted", "NodeCordoned", "DrainBlocked"]
    assert fleet.reloads("w1") == 1
    fleet.world.context = replace(fleet.world.context, owner="another", stopping=False)
    fleet.workloads.allow("db", minAvailable=0)
    assert (await fleet.world.sync()).exit_code == 0
    assert fleet.workloads.node("w1") == (False, "")
    assert fleet.workloads.written("w1") == before + 2
    assert len(await fleet.events("w1", "DrainBlocked")) == 1  # the same cause, after the take-over


async def test_a_change_that_needs_no_drain_asks_nothing_of_the_cluster(fleet: Fleet) -> None:
    await fleet.begin(disruption={"profile": "minimal"})
    before = len(fleet.workloads.cluster.calls("admin"))
    assert (await fleet.world.sync()).exit_code == 0
    assert len(fleet.workloads.cluster.calls("admin")) == before


@pytest.mark.slow
@pytest.mark.timeout(900)
async def test_500_pods_over_20_nodes_are_evicted_within_their_budget(fleet: Fleet, kubelet: Kubelet) -> None:
    drain = {"timeout": "1000h"}
    await fleet.begin(MANY, canary={"nodes": 20, "soak": "0s"}, maxUnavailable=20, drain=drain)
    fleet.workloads.cluster.kubectl("cordon", *SPARE)
    fleet.workloads.deploy("many", 500, {"maxUnavailable": "5%"}, [*MANY, *SPARE])
    fleet.workloads.cluster.kubectl("uncordon", *SPARE)
    least = [500]

    async def watch() -> None:
        while True:
            least.append(await asyncio.to_thread(fleet.workloads.healthy, "many"))
            await asyncio.sleep(0.05)

    watching = asyncio.create_task(watch())
    kubelet.faults.starting = 1.0  # slower than evictions are: the budget is what holds them
    begun = asyncio.get_running_loop().time()
    await fleet.world.run()
    print(f"drained after {asyncio.get_running_loop().time() - begun:.1f} s; {min(least)} healthy at least")
    watching.cancel()
    kubelet.faults.starting = 0.0
    answers = [call.status for call in fleet.workloads.cluster.calls("admin") if call.resource == "pods/eviction"]
    print(f"{answers.count(201)} evicted, {answers.count(429)} refused by the budget")
    assert answers.count(201) >= 500
    assert answers.count(429) > 0
    assert [fleet.reloads(node) for node in MANY] == [2] * 20
    assert 475 <= min(least) < 500
    drained = [body for node in MANY for body in await fleet.events(node, "NodeDrained")]
    assert [body.skipped or body.forced for body in drained] == [()] * 40
    assert [fleet.workloads.node(node) for node in MANY] == [(False, "")] * 20
