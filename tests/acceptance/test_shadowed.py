"""Nodes on which a file that is not ours decides otherwise: their rollout is delivered, and they are not converged."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from reconciler.errors import NodeError
from reconciler.events.catalogue import ShadowFound
from reconciler.ports import EventFilter, Observation, ObserveRequest, Target
from reconciler.registries.model import REGISTRIES_CONF, REGISTRIES_CONF_D
from reconciler.transport.memory import MemoryTransport
from reconciler.transport.memory_parts import Entry
from reconciler.work.inline import InlineRunner
from tests.world import IMAGE, POOL, ManualClock, MemoryWorld, make_world, memory_nodes

DROP_IN = f"{REGISTRIES_CONF_D}/90-mine.conf"
UNBLOCKS = Entry(b"# mine\n[[registry]]\nlocation = 'untrusted.example.com'\n")
HARMLESS = Entry(b"[[registry]]\nlocation = 'elsewhere.example.com'\nblocked = true\n")


class CountingRunner(InlineRunner):
    """Counts the looks at nodes."""

    looks = 0

    async def observe(self, wanted: Sequence[tuple[Target, ObserveRequest]]) -> Sequence[Observation | NodeError]:
        self.looks += len(wanted)
        return await super().observe(wanted)


@pytest.fixture
def transport() -> MemoryTransport:
    return MemoryTransport(ManualClock())


@pytest.fixture
def world(tmp_path: Path, transport: MemoryTransport) -> MemoryWorld:
    world = make_world(tmp_path, transport)
    world.context.runner = CountingRunner(transport)
    world.repository.commit({"pool.yaml": POOL, "image.yaml": IMAGE, **memory_nodes(["w1", "w2"])})
    return world


async def test_a_drop_in_that_unblocks_is_found_before_the_first_rollout_is_called_done(
    world: MemoryWorld, transport: MemoryTransport
) -> None:
    transport.node("w1").files[DROP_IN] = UNBLOCKS
    status = await world.sync()
    assert status.exit_code == 3
    assert [(node.files, node.reason) for node in status.nodes] == [
        ("Shadowed", f"{DROP_IN}:2 decides untrusted.example.com"),
        ("Converged", ""),
    ]
    assert b"untrusted.example.com" in transport.node("w1").files[REGISTRIES_CONF].content
    (event,) = await world.log.read(EventFilter(types=["ShadowFound"]))
    item = {"file": DROP_IN, "line": 2, "scopes": ["untrusted.example.com"], "more": 0}
    assert event.body == ShadowFound("w1", "worker", (item,))
    head = await world.head()
    await world.run()
    assert await world.types(after=head) == []
    del transport.node("w1").files[DROP_IN]
    assert (await world.sync()).exit_code == 0


async def test_each_content_is_fetched_once(world: MemoryWorld, transport: MemoryTransport) -> None:
    runner = world.context.runner
    assert isinstance(runner, CountingRunner)
    assert (await world.sync()).exit_code == 0
    for name in ("w1", "w2"):
        transport.node(name).files[DROP_IN] = HARMLESS
    runner.looks = 0
    await world.run()
    assert runner.looks == 2 + 1
    world.context.contents.clear()
    world.context.judged.clear()
    runner.looks = 0
    head = await world.head()
    await world.run()
    assert runner.looks == 2
    assert await world.types(after=head) == []


async def test_bytes_that_the_node_keeps_are_asked_for_once_and_shadow_everything(
    world: MemoryWorld, transport: MemoryTransport
) -> None:
    runner = world.context.runner
    assert isinstance(runner, CountingRunner)
    transport.node("w1").files[DROP_IN] = Entry(b"# PRIVATE KEY\n")
    assert (await world.sync()).exit_code == 3
    runner.looks = 0
    assert (await world.status()).nodes[0].files == "Shadowed"
    await world.run()
    assert runner.looks == 2


async def test_what_the_host_decided_otherwise_before_us_is_not_ours_to_judge(
    world: MemoryWorld, transport: MemoryTransport
) -> None:
    """A table of the host's own file, over which ours are laid, is no wish of ours."""
    transport.node("w1").files[REGISTRIES_CONF] = HARMLESS
    transport.node("w1").files[DROP_IN] = Entry(b"[[registry]]\nlocation = 'elsewhere.example.com'\n")
    assert (await world.sync()).exit_code == 0
