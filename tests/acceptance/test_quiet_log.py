"""While nothing changes nothing is written: a service may poll a fleet with a node that stays wrong for weeks."""

from __future__ import annotations

from pathlib import Path

import pytest

from reconciler import commands
from reconciler.errors import NodeUnreachable
from reconciler.ports import Observation, ObserveRequest, Target
from reconciler.registries.model import REGISTRIES_CONF
from reconciler.transport.memory import MemoryTransport
from reconciler.transport.memory_parts import Entry
from reconciler.work.inline import InlineRunner
from tests.world import IMAGE, POOL, ManualClock, MemoryWorld, image, make_world, memory_nodes

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


async def test_a_node_that_refuses_each_step(world: MemoryWorld, transport: MemoryTransport) -> None:
    """Only writing finds out that a parent directory is a symlink. It is tried more and more rarely."""
    transport.node("n1").files["/etc/containers"] = Entry(kind="symlink")
    first = await poll(world, 60)
    later = await poll(world, 60)
    assert first.count("StepAbandoned") <= 10
    assert 1 <= later.count("StepAbandoned") <= 2
    del transport.node("n1").files["/etc/containers"]
    await poll(world, 70)
    assert (await world.status()).exit_code == 0


async def test_a_link_that_breaks_in_each_step(world: MemoryWorld, transport: MemoryTransport) -> None:
    deferred = 0
    for _ in range(60):
        transport.node("n1").faults.lose = "before"
        deferred += (await poll(world, 1)).count("NodeDeferred")
    assert deferred <= 10


async def test_a_lost_link_is_tried_again_at_the_next_pass(world: MemoryWorld, transport: MemoryTransport) -> None:
    transport.node("n1").faults.lose = "before"
    assert "NodeDeferred" in await poll(world, 1)
    await poll(world, 1)
    assert (await world.status()).exit_code == 0


async def test_a_repair_that_fails(world: MemoryWorld, transport: MemoryTransport) -> None:
    """The runtime refuses to reload: it is not told every minute. Put right by hand, nothing has failed any more."""
    await poll(world, 1)
    node = transport.node("n1")
    ours = node.files[REGISTRIES_CONF]
    node.files[REGISTRIES_CONF] = Entry(b"# by hand\n")
    node.faults.reload = "fails"
    assert (await poll(world, 60)).count("NodeFailed") <= 8
    assert (await world.status()).exit_code == 1
    node.files[REGISTRIES_CONF] = ours
    await poll(world, 1)
    assert (await world.status()).exit_code == 0


async def test_a_held_node_on_which_the_restored_files_fail(world: MemoryWorld, transport: MemoryTransport) -> None:
    await poll(world, 1)
    first = await world.head()
    world.repository.commit({"image.yaml": image(blockedRegistries=["new.corp"])})
    await poll(world, 1)
    transport.node("n1").faults.reload = "fails"
    await commands.rollback(world.context, to=f"#{first}", reason="try", node="n1")
    assert (await poll(world, 60)).count("NodeFailed") == 1


async def test_a_halted_rollout_ends_when_the_content_before_comes_back(
    world: MemoryWorld, transport: MemoryTransport
) -> None:
    await poll(world, 1)
    transport.node("n1").faults.reload = "fails"
    world.repository.commit({"image.yaml": image(blockedRegistries=["bad.corp"])}, "Bad")
    assert (await poll(world, 60)).count("NodeFailed") == 1
    assert (await world.status()).pools[0].rollout == "halted"
    world.repository.commit({"image.yaml": IMAGE}, "Back")
    await poll(world, 1)
    assert (await world.status()).pools[0].rollout == "superseded"
    assert (await world.status()).exit_code == 0


class Moody(MemoryTransport):
    """n1 never answers, each time for another reason."""

    calls = 0

    async def observe(self, target: Target, request: ObserveRequest) -> Observation:
        if target.name != "n1":
            return await super().observe(target, request)
        self.calls += 1
        raise NodeUnreachable("timed out" if self.calls % 2 else "no route to host", where="node n1")


async def test_a_node_out_of_reach_for_changing_reasons(world: MemoryWorld, clock: ManualClock) -> None:
    world.context.runner = InlineRunner(Moody(clock))
    assert (await poll(world, 1)).count("NodeUnreachable") == 1
    assert await poll(world, 5) == []
