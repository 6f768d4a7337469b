"""Discovery against a real API server: what is asked of it, and what its outages, restarts and refusals come to."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from reconciler import queries
from reconciler.errors import ClusterError
from reconciler.kubernetes import watch
from reconciler.ports import EventFilter
from reconciler.transport.memory import MemoryTransport
from reconciler.transport.sandbox import wait_for
from tests.cluster import ApiServer
from tests.clusters import ApiServerRig
from tests.conformance.cluster import until, until_error
from tests.world import IMAGE, ManualClock, MemoryWorld, make_world, pool

WORKER = {"node-role.kubernetes.io/worker": "", "topology.kubernetes.io/zone": "a"}
INFRA = {"node-role.kubernetes.io/infra": "", "node-role.kubernetes.io/worker": None}


@pytest.fixture
async def rig(cluster: ApiServer, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[ApiServerRig]:
    """Waits are cut, so that a test of an outage need not sit it out."""
    monkeypatch.setattr(watch, "LONGEST_WAIT", 0.3)
    rig = ApiServerRig(cluster)
    for name in ("w1", "w2", "w3"):
        rig.add(name, WORKER)
    yield rig
    await rig.close()


@pytest.fixture
def world(rig: ApiServerRig, tmp_path: Path) -> MemoryWorld:
    """Its nodes are reached in memory, whatever their transport."""
    clock = ManualClock()
    world = make_world(tmp_path, MemoryTransport(clock), clock)
    world.context.cluster = rig.cluster
    selector = {"matchLabels": {"node-role.kubernetes.io/worker": ""}}
    infra = pool("infra", nodeSelector={"matchLabels": {"node-role.kubernetes.io/infra": ""}})
    world.repository.commit({"pool.yaml": pool(nodeSelector=selector), "infra.yaml": infra, "image.yaml": IMAGE})
    return world


async def settled(rig: ApiServerRig) -> None:
    await until(rig, lambda found: len(found) == 3 and all(node.ready for node in found.values()))


async def test_discovery_a_move_and_nothing_asked_while_nothing_changes(rig: ApiServerRig, world: MemoryWorld) -> None:
    await settled(rig)
    assert (await world.sync()).exit_code == 0
    shown = {item["name"]: item for item in await queries.list_nodes(world.context)}
    assert [(item["status"], item["zone"], item["pool"]) for item in shown.values()] == [("Ready", "a", "worker")] * 3
    asked, head = rig.calls(), await world.head()
    assert asked == ["list nodes", "watch nodes"]
    for _ in range(5):
        await world.run()
    assert (rig.calls(), await world.head()) == (asked, head)
    rig.label("w2", INFRA)  # type: ignore[arg-type]  # None takes a label away
    await until(rig, lambda found: "node-role.kubernetes.io/infra" in found["w2"].labels)
    await world.run()
    (event,) = await world.log.read(EventFilter(types=("NodeChanged",)))
    assert (event.columns["node"], event.columns["pool"]) == ("w2", "infra")
    assert rig.calls() == asked


async def change(rig: ApiServerRig) -> None:
    """One of each kind of change, seen by nobody yet."""
    rig.remove("w1")
    rig.label("w2", {"tier": "seen"})
    rig.cordon("w2", yes=True)
    rig.add("w4", WORKER)


async def seen(rig: ApiServerRig) -> None:
    await until(rig, lambda found: set(found) == {"w2", "w3", "w4"} and found["w4"].ready)
    await until(rig, lambda found: found["w2"].labels.get("tier") == "seen" and found["w2"].unschedulable)


async def test_a_watch_survives_a_restart_of_the_api_server(rig: ApiServerRig) -> None:
    await settled(rig)
    rig.server.stop()
    await until_error(rig, ClusterError)
    rig.server.start()
    await change(rig)
    await seen(rig)
    assert rig.calls().count("list nodes") == 1


async def test_a_watch_survives_a_compaction(rig: ApiServerRig) -> None:
    """The version it would go on from is no longer known (410): it lists anew, and misses no removal."""
    await settled(rig)
    rig.cut()
    await change(rig)
    rig.server.forget()
    rig.mend()
    await seen(rig)
    assert rig.calls().count("list nodes") == 2


async def test_a_watch_survives_a_link_that_is_cut(rig: ApiServerRig) -> None:
    await settled(rig)
    for _ in range(3):
        rig.link.cut()
    await change(rig)
    await seen(rig)
    assert rig.calls().count("list nodes") == 1


async def test_a_watch_survives_a_link_that_is_lost_without_a_word(
    rig: ApiServerRig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watch, "SILENCE", 1.0)
    await settled(rig)
    connections = rig.link.connections
    rig.link.stall()
    await change(rig)
    await asyncio.to_thread(wait_for, lambda: rig.link.connections > connections, "the watch is not given up")
    rig.link.allow()
    await seen(rig)


async def test_an_outage_is_recorded_once_and_attempts_become_rare(rig: ApiServerRig, world: MemoryWorld) -> None:
    await settled(rig)
    assert (await world.sync()).exit_code == 0
    rig.cut()
    await until_error(rig, ClusterError)
    await change(rig)
    before = await world.head()
    for _ in range(3):
        await world.run()
    assert await world.types(before) == ["ClusterUnreachable"]
    _, data = await queries.status(world.context)
    assert "cannot be reached" in data["cluster"]["unreachable"]
    rig.mend()
    await seen(rig)
    before = await world.head()
    await world.run()
    types = await world.types(before)
    assert types[0] == "ClusterRecovered"
    assert {"NodeRemoved", "NodeRegistered", "NodeConditionChanged"} <= set(types)
    assert {item["name"] for item in await queries.list_nodes(world.context)} == {"w2", "w3", "w4"}


async def test_without_the_right_to_list_nodes_the_pass_goes_on_and_names_it(
    rig: ApiServerRig, world: MemoryWorld
) -> None:
    rig.forbid()
    await world.run()
    _, data = await queries.status(world.context)
    assert data["cluster"]["cause"] == "refused"
    assert 'User "discoverer" cannot list resource "nodes"' in data["cluster"]["unreachable"]
    assert (await world.status()).exit_code == 3
    rig.allow()
    await settled(rig)
    assert (await world.sync()).exit_code == 0
