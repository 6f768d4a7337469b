"""Two services and a `sync` on one database never act on one node twice."""

from __future__ import annotations

import asyncio
import subprocess
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from reconciler.ports import EventFilter
from reconciler.transport.memory import MemoryTransport
from reconciler.transport.sandbox import SandboxNode
from reconciler.wiring import SystemClock
from tests.machines import machines, ssh_nodes
from tests.program import Program
from tests.world import IMAGE, POOL, make_real_world

NODES = 20
RELOAD = "reload crio.service"
FEW_AT_ONCE = POOL.replace("maxParallel: 50", "maxParallel: 4")


@pytest.mark.timeout(300)
async def test_each_node_is_acted_on_once(engine: AsyncEngine, database_url: str, tmp_path: Path) -> None:
    with machines(tmp_path / "nodes", NODES) as nodes:
        world = await make_real_world(tmp_path, MemoryTransport(SystemClock()), engine)
        world.repository.commit({"pool.yaml": FEW_AT_ONCE, "image.yaml": IMAGE, **ssh_nodes(nodes)})
        url, identity = f"file://{world.repository.directory}", nodes[0].identity
        one, two = (Program(tmp_path / name, database_url, url, identity) for name in ("one", "two"))
        with one.serving() as first, two.serving() as second:
            await _until(lambda: _reloads(nodes) >= NODES, (first, second))
            world.repository.commit({"image.yaml": IMAGE.replace("untrusted", "distrusted")}, "Distrust")
            assert one.run("sync", "--wait").code == 0
            for service in (first, second):
                service.terminate()
            assert [service.wait(60) for service in (first, second)] == [0, 0]
        assert [program.served for program in (one, two)] == ["", ""]
        assert [node.actions() for node in nodes] == [[RELOAD, RELOAD]] * NODES
        assert (await world.status()).exit_code == 0
        begun = await world.log.read(EventFilter(types=("StepStarted", "StepTakenOver")))
        assert Counter(event.columns["node"] for event in begun) == {node.name: 2 for node in nodes}
        assert (await world.log.verify()).problems == ()


def _reloads(nodes: Sequence[SandboxNode]) -> int:
    return sum(len(node.actions()) for node in nodes)


async def _until(holds: Callable[[], bool], services: Sequence[subprocess.Popen[bytes]]) -> None:
    async with asyncio.timeout(90):
        while not holds():
            assert [service.poll() for service in services] == [None] * len(services)
            await asyncio.sleep(0.2)
