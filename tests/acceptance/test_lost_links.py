"""The link to a node is lost in a step: whatever the step did there, our files are never taken for the host's own."""

from __future__ import annotations

from pathlib import Path

import pytest

from reconciler import commands
from reconciler.ports import EventFilter
from reconciler.projections.tables import NODE_STATES
from reconciler.registries.model import POLICY_JSON, REGISTRIES_CONF
from reconciler.transport.memory import MemoryTransport
from reconciler.transport.memory_parts import Entry
from tests.world import IMAGE, POOL, ManualClock, MemoryWorld, image, make_world, memory_nodes, mirrors

MOMENTS = ("before", "placing", "placed", "done")
THEIRS = Entry(b'unqualified-search-registries = ["theirs.corp"]\n')


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def transport(clock: ManualClock) -> MemoryTransport:
    return MemoryTransport(clock)


@pytest.fixture
def world(transport: MemoryTransport, clock: ManualClock, tmp_path: Path) -> MemoryWorld:
    """Two nodes with a registries.conf of their own; nothing was written yet."""
    world = make_world(tmp_path, transport, clock)
    for name in ("n1", "n2"):
        transport.node(name).files[REGISTRIES_CONF] = THEIRS
    world.repository.commit({"pool.yaml": POOL, "image.yaml": IMAGE, **memory_nodes(["n1", "n2"])})
    return world


async def bases(world: MemoryWorld) -> set[str]:
    snapshot = await world.context.snapshot()
    return {row["base"] for row in snapshot.table(NODE_STATES).values()}


@pytest.mark.parametrize("moment", MOMENTS)
async def test_the_first_step(world: MemoryWorld, transport: MemoryTransport, moment: str) -> None:
    transport.node("n1").faults.lose = moment
    await world.run()
    assert (await world.status()).nodes[0].files == "Pending"

    assert (await world.sync()).exit_code == 0

    assert len(await bases(world)) == 1
    assert len(await world.log.read(EventFilter(types=("BaselineCaptured",)))) == 2
    assert transport.nodes["n1"].actions == ["reload crio.service"]
    assert transport.nodes["n1"].files == transport.nodes["n2"].files


@pytest.mark.parametrize("moment", MOMENTS)
async def test_a_newer_content_takes_away_what_the_lost_step_may_have_written(
    world: MemoryWorld, transport: MemoryTransport, moment: str
) -> None:
    """The step wrote policy.json, which the next content does not have."""
    transport.node("n1").faults.lose = moment
    await world.run()
    world.repository.commit({"image.yaml": None, "mirrors.yaml": mirrors("a", "quay.io/a", "mirror.corp/a")})
    commit = world.repository.git("rev-parse", "HEAD")
    await world.run()
    await commands.approve(world.context, commit, reason="agreed")

    assert (await world.sync()).exit_code == 0

    assert POLICY_JSON not in transport.nodes["n1"].files
    assert transport.nodes["n1"].files[REGISTRIES_CONF] == transport.nodes["n2"].files[REGISTRIES_CONF]
    assert len(await bases(world)) == 1


@pytest.mark.parametrize("moment", MOMENTS)
async def test_the_content_before_comes_back_while_the_node_is_away(
    world: MemoryWorld, transport: MemoryTransport, moment: str
) -> None:
    """What the receipt proved is wanted again; whether it still stands there only a step can tell."""
    assert (await world.sync()).exit_code == 0
    good = dict(transport.nodes["n1"].files)
    world.repository.commit({"image.yaml": image(blockedRegistries=["all.corp"])}, "Bad")
    for name in ("n1", "n2"):
        transport.node(name).faults.lose = moment
    await world.run()
    world.repository.commit({"image.yaml": IMAGE}, "Good again")

    assert (await world.sync()).exit_code == 0

    assert {path: entry.content for path, entry in transport.nodes["n1"].files.items()} == {
        path: entry.content for path, entry in good.items()
    }
    assert await world.log.read(EventFilter(types=("DriftDetected",))) == []
    head = await world.head()
    await world.sync()
    assert await world.head() == head
