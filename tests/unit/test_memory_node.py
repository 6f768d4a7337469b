"""The memory transport's scripted faults: what a caller sees, and what is true afterwards."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import pytest

from reconciler.errors import NodeRefused, NodeUnreachable
from reconciler.ports import ObserveRequest, Target
from tests.conformance.transport import ACTED, FIRST, SECOND, apply, manifest, observe, on_disk, revert
from tests.conformance.verbs import release
from tests.nodes import MemoryRig


@pytest.fixture
def rig() -> MemoryRig:
    return MemoryRig()


async def test_unreachable(rig: MemoryRig) -> None:
    rig.node.faults.unreachable = True
    with pytest.raises(NodeUnreachable):
        await observe(rig, *FIRST)
    with pytest.raises(NodeUnreachable):
        await apply(rig, "s1", FIRST)
    rig.node.faults.unreachable = False
    assert (await apply(rig, "s1", FIRST)).result == "applied"


async def test_lost_before_anything_happened(rig: MemoryRig) -> None:
    rig.node.faults.lose = "before"
    with pytest.raises(NodeUnreachable):
        await apply(rig, "s1", FIRST)
    assert on_disk(rig, FIRST) == dict.fromkeys(FIRST)
    assert (await apply(rig, "s1", FIRST)).result == "applied"


async def test_lost_while_placing_is_undone(rig: MemoryRig) -> None:
    await apply(rig, "s1", FIRST)
    rig.node.faults.lose = "placing"
    with pytest.raises(NodeUnreachable):
        await apply(rig, "s2", SECOND)
    assert on_disk(rig, FIRST) not in (FIRST, SECOND)
    await observe(rig, *FIRST)
    assert on_disk(rig, FIRST) == FIRST
    assert (await apply(rig, "s2", SECOND)).result == "applied"
    assert rig.actions() == [ACTED] * 2


async def test_lost_before_the_action_is_finished(rig: MemoryRig) -> None:
    await apply(rig, "s1", FIRST)
    rig.node.faults.lose = "placed"
    with pytest.raises(NodeUnreachable):
        await apply(rig, "s2", SECOND)
    done = await apply(rig, "s2", SECOND)
    assert (done.result, done.generation, done.manifest) == ("applied", 2, manifest(SECOND))
    assert rig.actions() == [ACTED] * 2
    await revert(rig, "s3")
    assert on_disk(rig, FIRST) == FIRST


async def test_lost_before_the_answer_is_answered_again(rig: MemoryRig) -> None:
    rig.node.faults.lose = "done"
    with pytest.raises(NodeUnreachable):
        await apply(rig, "s1", FIRST)
    assert (await apply(rig, "s1", FIRST)).result == "applied"
    assert rig.actions() == [ACTED]


async def test_time_is_the_clocks(rig: MemoryRig) -> None:
    """A pending change ends at its time and not before, whatever is asked."""
    await apply(rig, "s1", FIRST)
    done = await apply(rig, "s2", SECOND, confirm=90)
    rig.clock.time += timedelta(seconds=89)
    assert done.confirm_by == int(rig.clock.now().timestamp()) + 1
    assert (await observe(rig, *FIRST)).pending == "s2"
    rig.clock.time += timedelta(seconds=1)
    assert (await apply(rig, "s3", FIRST)).result == "same"
    assert (await observe(rig, *FIRST)).loaded_since == int(rig.clock.now().timestamp())


async def test_lost_around_a_change_to_be_confirmed(rig: MemoryRig) -> None:
    """However it died, once it is finished it is pending, and undoes itself."""
    for number, moment in enumerate(("placed", "done")):
        rig.node.faults.lose = moment
        with pytest.raises(NodeUnreachable):
            await apply(rig, f"s{number}", SECOND, confirm=90)
        assert (await observe(rig, *FIRST)).pending == f"s{number}"
        rig.expire()
        assert (await observe(rig, *FIRST)).reverted == f"s{number}"
        assert on_disk(rig, FIRST) == dict.fromkeys(FIRST)


async def test_lost_while_releasing(rig: MemoryRig) -> None:
    await apply(rig, "s1", FIRST)
    for moment in ("placing", "placed"):
        rig.node.faults.lose = moment
        with pytest.raises(NodeUnreachable):
            await release(rig, "s2", restore=True)
    done = await release(rig, "s2", restore=True)
    assert (done.result, on_disk(rig, FIRST)) == ("released", dict.fromkeys(FIRST))


async def test_one_node_does_not_disturb_another(rig: MemoryRig) -> None:
    rig.node.faults.unreachable = True
    targets = [Target("default", name, "memory") for name in ("node-1", "node-2", "node-3")]
    request = ObserveRequest("log-1", "crio", {})
    answers = await asyncio.gather(
        *(rig.transport.observe(target, request) for target in targets), return_exceptions=True
    )
    assert [type(answer).__name__ for answer in answers] == ["NodeUnreachable", "Observation", "Observation"]


async def test_paths_are_those_of_real_nodes(rig: MemoryRig) -> None:
    with pytest.raises(NodeRefused):
        await observe(rig, "/etc/passwd")
