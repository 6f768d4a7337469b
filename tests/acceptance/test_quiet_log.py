"""While nothing changes nothing is written: a service may poll a fleet with a node that stays wrong for weeks."""

from __future__ import annotations

from pathlib import Path

import pytest

from reconciler.registries.model import REGISTRIES_CONF
from reconciler.transport.memory import MemoryTransport
from reconciler.transport.memory_node import Entry
from tests.world import IMAGE, POOL, ManualClock, MemoryWorld, make_world, memory_nodes

INTERVAL = 60


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def transport(clock: ManualClock) -> MemoryTransport:
    return MemoryTransport(clock)


@pytest.fixture
def world(transport: MemoryTransport, clock: ManualClock, tmp_path: Path) -> MemoryWorld:
    world = make_world(tmp_path, transport, clock)
    world.repository.commit({"pool.yaml": POOL, "image.yaml": IMAGE, **memory_nodes(["n1", "n2", "n3"])})
    return world


async def poll(world: MemoryWorld, passes: int) -> list[str]:
    """The types of the events that so many passes of a service append."""
    before = await world.head()
    for _ in range(passes):
        world.clock.advance(INTERVAL)
        await world.run()
    return await world.types(after=before)


async def test_two_nodes_whose_own_files_cannot_be_laid_under(world: MemoryWorld, transport: MemoryTransport) -> None:
    """Each blocks the plan for a reason of its own: that is one reason of the pool, said once, and taken back."""
    transport.node("n1").files[REGISTRIES_CONF] = Entry(b"x = [\n")
    transport.node("n2").files[REGISTRIES_CONF] = Entry(b"\n\ny = = \n")
    assert (await poll(world, 1)).count("PlanBlocked") == 1
    assert await poll(world, 5) == []
    assert (await world.status()).pools[0].blocked

    del transport.node("n1").files[REGISTRIES_CONF], transport.node("n2").files[REGISTRIES_CONF]
    await world.sync()
    assert (await world.status()).exit_code == 0


async def test_a_plan_is_unblocked_where_nothing_has_to_be_rendered(
    world: MemoryWorld, transport: MemoryTransport
) -> None:
    """The pool observes, so that no rollout follows when the node shows again what it showed before."""
    world.repository.commit({"pool.yaml": POOL.replace("mode: enforce", "mode: observe")})
    await poll(world, 1)
    transport.node("n1").files[REGISTRIES_CONF] = Entry(b"x = [\n")
    await poll(world, 1)
    assert (await world.status()).exit_code == 3
    del transport.node("n1").files[REGISTRIES_CONF]
    await poll(world, 1)
    assert (await world.status()).exit_code == 0
