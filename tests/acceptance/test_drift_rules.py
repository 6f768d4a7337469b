"""What becomes of drift, in memory: policies per path, drift that many have, and paths that somebody keeps writing."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from reconciler import control, custody
from reconciler.errors import UsageError
from reconciler.events.catalogue import DriftContested, MassDriftDetected
from reconciler.events.envelope import StoredEvent
from reconciler.ports import EventFilter
from reconciler.projections.status import NodeStatus
from reconciler.registries.model import POLICY_JSON, REGISTRIES_CONF
from reconciler.transport.memory import MemoryTransport
from reconciler.transport.memory_parts import Entry
from tests.world import IMAGE, ManualClock, MemoryWorld, make_world, memory_nodes, pool

NODES = tuple(f"w{number}" for number in range(1, 9))
HAND = b"# by hand\n"
POLICY = b'{"default": [{"type": "reject"}]}'


def all_at_once(**spec: Any) -> dict[str, str | None]:
    """pool.yaml with a pool that has no canary."""
    return {"pool.yaml": pool(**{"maxParallel": 50, "canary": {"nodes": 0, "soak": "0s"}, **spec})}


@dataclass
class Fleet:
    world: MemoryWorld
    transport: MemoryTransport

    async def begin(self, **spec: Any) -> None:
        self.world.repository.commit({**all_at_once(**spec), "image.yaml": IMAGE, **memory_nodes(NODES)})
        assert (await self.world.sync()).exit_code == 0

    def write(self, node: str, path: str = REGISTRIES_CONF, content: bytes = HAND) -> None:
        now = int(self.world.clock.now().timestamp())
        self.transport.node(node).files[path] = Entry(content, mtime=now)

    def content(self, node: str, path: str = REGISTRIES_CONF) -> bytes:
        return self.transport.node(node).files[path].content

    async def node(self, name: str) -> NodeStatus:
        return next(node for node in (await self.world.status()).nodes if node.name == name)

    async def events(self, *types: str) -> list[StoredEvent]:
        return list(await self.world.log.read(EventFilter(types=types)))

    async def rests(self) -> None:
        """Another pass appends nothing."""
        head = await self.world.head()
        await self.world.run()
        assert await self.world.types(after=head) == []


@pytest.fixture
def fleet(tmp_path: Path) -> Fleet:
    clock = ManualClock()
    transport = MemoryTransport(clock)
    return Fleet(make_world(tmp_path, transport, clock), transport)


async def test_alert_tells_and_leaves_the_file_until_a_person_has_it_repaired(fleet: Fleet) -> None:
    await fleet.begin(drift="alert")
    fleet.write("w1")
    status = await fleet.world.sync()
    assert status.exit_code == 3
    assert (await fleet.node("w1")).files == "Drifted"
    assert (await fleet.node("w1")).reason == f"{REGISTRIES_CONF} differs and is not put right by itself (drift: alert)"
    assert fleet.content("w1") == HAND
    await fleet.rests()
    with pytest.raises(UsageError, match="nothing to retry"):
        await control.retry(fleet.world.context, "worker", reason="x")
    with pytest.raises(UsageError, match="there is no node w9 in pool worker"):
        await control.retry(fleet.world.context, "worker", reason="x", nodes=["w9"])
    await control.retry(fleet.world.context, "worker", reason="it was a mistake", nodes=["w1"])
    assert (await fleet.world.sync()).exit_code == 0
    assert fleet.content("w1") == fleet.content("w2")


async def test_the_longest_path_counts_and_a_repair_leaves_the_others(fleet: Fleet) -> None:
    await fleet.begin(
        drift=[{"path": "/etc/containers", "policy": "alert"}, {"path": REGISTRIES_CONF, "policy": "heal"}]
    )
    fleet.write("w1")
    fleet.write("w1", POLICY_JSON, POLICY)
    assert (await fleet.world.sync()).exit_code == 3
    assert (fleet.content("w1"), fleet.content("w1", POLICY_JSON)) == (fleet.content("w2"), POLICY)
    assert (await fleet.node("w1")).drift == (POLICY_JSON,)
    await fleet.rests()


async def test_what_is_ignored_is_said_once_and_does_not_count(fleet: Fleet) -> None:
    await fleet.begin(drift=[{"path": POLICY_JSON, "policy": "ignore"}])
    fleet.write("w1", POLICY_JSON, POLICY)
    assert (await fleet.world.sync()).exit_code == 0
    assert len(await fleet.events("DriftIgnored")) == 1
    assert await fleet.events("DriftDetected") == []
    assert fleet.content("w1", POLICY_JSON) == POLICY
    await fleet.rests()
    fleet.write("w1")
    assert (await fleet.world.sync()).exit_code == 0
    assert (fleet.content("w1"), fleet.content("w1", POLICY_JSON)) == (fleet.content("w2"), POLICY)


async def test_stop_lets_the_pool_begin_nothing_until_the_drift_is_gone(fleet: Fleet) -> None:
    await fleet.begin(drift="stop")
    proved = fleet.content("w1")
    fleet.write("w1")
    fleet.world.repository.commit({"image.yaml": IMAGE.replace("untrusted", "worse")})
    done = await fleet.world.run()
    assert done.pools[0].waits["w2"].startswith("stopped by drift of w1: /etc/containers/registries.conf differs")
    assert b"worse" not in fleet.content("w2")
    fleet.write("w1", content=proved)
    assert (await fleet.world.sync()).exit_code == 0
    assert b"worse" in fleet.content("w1")


async def test_the_same_drift_on_half_the_pool_is_repaired_on_none_until_a_person_decides(fleet: Fleet) -> None:
    await fleet.begin()
    for name in NODES[:4]:
        fleet.write(name)
    fleet.write("w8", content=b"# something else\n")
    status = await fleet.world.sync()
    assert status.exit_code == 3
    assert [fleet.content(name) == HAND for name in NODES] == [True] * 4 + [False] * 4
    assert fleet.content("w8") == fleet.content("w7")
    (mass,) = await fleet.events("MassDriftDetected")
    assert isinstance(mass.body, MassDriftDetected)
    assert mass.body.nodes == NODES[:4]
    assert (await fleet.node("w1")).reason == "4 nodes have the same drift: `reconciler retry worker`"
    await fleet.rests()
    await control.retry(fleet.world.context, "worker", reason="our own mistake")
    assert (await fleet.world.sync()).exit_code == 0
    assert len({fleet.content(name) for name in NODES}) == 1


async def test_a_path_that_somebody_keeps_writing_is_left_after_three_repairs(fleet: Fleet) -> None:
    await fleet.begin()
    fleet.transport.node("w1").packages[REGISTRIES_CONF] = "puppet"
    for _ in range(3):
        fleet.write("w1")
        assert (await fleet.world.sync()).exit_code == 0
        fleet.world.clock.advance(600)
    fleet.write("w1")
    moment = fleet.transport.node("w1").files[REGISTRIES_CONF].mtime
    assert (await fleet.world.sync()).exit_code == 3
    assert fleet.content("w1") == HAND
    (event,) = await fleet.events("DriftContested")
    assert event.body == DriftContested("w1", "worker", REGISTRIES_CONF, 3, moment, 0, "puppet")
    reason = (await fleet.node("w1")).reason
    assert (
        reason == f"{REGISTRIES_CONF} is contested: written by uid 0, package puppet again after 3 repairs within 24 h"
    )
    await fleet.rests()
    fleet.world.clock.advance(24 * 3600)
    assert (await fleet.world.sync()).exit_code == 0


async def test_a_person_may_have_a_contested_path_repaired_at_once(fleet: Fleet) -> None:
    await fleet.begin()
    for _ in range(4):
        fleet.write("w1")
        await fleet.world.sync()
        fleet.world.clock.advance(60)
    assert fleet.content("w1") == HAND
    await control.retry(fleet.world.context, "worker", reason="puppet is stopped")
    assert (await fleet.world.sync()).exit_code == 0
    fleet.write("w1")
    assert (await fleet.world.sync()).exit_code == 0


async def test_repairs_a_day_apart_are_not_contested(fleet: Fleet) -> None:
    await fleet.begin()
    for _ in range(5):
        fleet.write("w1")
        assert (await fleet.world.sync()).exit_code == 0
        fleet.world.clock.advance(13 * 3600)
    assert await fleet.events("DriftContested") == []


async def test_files_that_the_runtime_has_not_loaded_are_loaded_by_a_reload_alone(fleet: Fleet) -> None:
    await fleet.begin()
    node = fleet.transport.node("w1")
    writes, actions = node.writes, list(node.actions)
    fleet.world.clock.advance(60)
    entry = node.files[REGISTRIES_CONF]
    node.files[REGISTRIES_CONF] = replace(entry, mtime=int(fleet.world.clock.now().timestamp()))
    await fleet.world.run()
    assert (node.writes, node.actions) == (writes, [*actions, "reload crio.service"])
    last = [event.type for event in await fleet.world.log.read(EventFilter(node="w1"))][-5:]
    assert last == ["DriftDetected", "StepStarted", "RuntimeReloaded", "DriftRepaired", "NodeConverged"]
    assert (await fleet.world.status()).exit_code == 0
    await fleet.rests()


async def test_a_change_that_needs_no_loading_is_no_drift_of_the_runtime(fleet: Fleet) -> None:
    paths = (REGISTRIES_CONF, POLICY_JSON)
    quiet = {"files": [{"path": path, "actions": [{"type": "None"}]} for path in paths]}
    await fleet.begin()
    fleet.world.clock.advance(60)
    fleet.world.repository.commit({**all_at_once(disruption=quiet), "image.yaml": IMAGE.replace("untrusted", "worse")})
    assert (await fleet.world.sync()).exit_code == 0
    assert fleet.transport.node("w1").actions == ["reload crio.service"]
    await fleet.rests()


STRAY = "/etc/containers/registries.conf.d/90-mine.conf"
OTHER = "/etc/docker/certs.d/lab.corp/ca.crt"


async def test_listed_strays_are_removed_and_come_back_with_the_baseline(fleet: Fleet) -> None:
    for path in (STRAY, OTHER):
        fleet.write("w1", path)
    await fleet.begin(strays={"remove": ["/etc/containers/registries.conf.d/*.conf"]})
    assert STRAY not in fleet.transport.node("w1").files
    assert fleet.content("w1", OTHER) == HAND
    await fleet.world.run()
    assert (await fleet.node("w1")).strays == (OTHER,)
    fleet.write("w1", STRAY)
    link = "/etc/containers/registries.conf.d/91-link.conf"
    fleet.transport.node("w1").files[link] = Entry(kind="symlink")
    assert (await fleet.world.sync()).exit_code == 0
    assert fleet.transport.node("w1").files.pop(link).kind == "symlink"  # what is no file is left
    assert STRAY not in fleet.transport.node("w1").files
    await fleet.world.run()
    await fleet.rests()
    await custody.release(fleet.world.context, "w1", restore=True, reason="x")
    await fleet.world.sync()
    assert fleet.content("w1", STRAY) == HAND


async def test_strays_may_block_a_node(fleet: Fleet) -> None:
    await fleet.begin(strays="block")
    fleet.write("w1", OTHER)
    fleet.world.repository.commit({"image.yaml": IMAGE.replace("untrusted", "worse")})
    done = await fleet.world.run()
    assert done.pools[0].waits["w1"] == f"{OTHER} is not ours (strays: block)"
    assert b"worse" in fleet.content("w2")
    assert b"worse" not in fleet.content("w1")
    del fleet.transport.node("w1").files[OTHER]
    await fleet.world.run()
    assert (await fleet.world.sync()).exit_code == 0
