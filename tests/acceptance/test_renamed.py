"""A Node gets another name: the machine keeps its past, and our files there stay ours."""

from __future__ import annotations

from pathlib import Path

import pytest

from reconciler.projections.tables import NODE_STATES
from reconciler.registries.model import REGISTRIES_CONF
from reconciler.transport.memory import MemoryTransport
from reconciler.transport.memory_parts import Entry
from tests.world import IMAGE, POOL, ManualClock, make_world, memory_nodes, mirrors

OTHERS = ["n2", "n3", "n4"]
THEIRS = Entry(b'unqualified-search-registries = ["theirs.corp"]\n')


@pytest.mark.parametrize("lost", ["", "done"])
async def test_a_renamed_node(tmp_path: Path, lost: str) -> None:
    clock = ManualClock()
    transport = MemoryTransport(clock)
    world = make_world(tmp_path, transport, clock)
    for name in ("n1", *OTHERS):
        transport.node(name).files[REGISTRIES_CONF] = THEIRS
        transport.node(name).machine_id = f"machine-{name}"
    world.repository.commit({"pool.yaml": POOL, "mirrors.yaml": mirrors("a", "quay.io/a", "mirror.corp/a")})
    world.repository.commit({"image.yaml": IMAGE, **memory_nodes(["n1", *OTHERS])})
    transport.node("n1").faults.lose = lost
    await world.run()

    transport.nodes["new"] = transport.nodes.pop("n1")
    world.repository.commit(memory_nodes(["new", *OTHERS]), "Rename n1")
    assert (await world.sync()).exit_code == 0

    assert transport.nodes["new"].actions == ["reload crio.service"]
    rows = (await world.context.snapshot()).table(NODE_STATES)
    assert sorted(key[1] for key in rows) == [*OTHERS, "new"]
    assert len({row["base"] for row in rows.values()}) == 1
    live = {table: dict(found) for table, found in world.log.rows.now.items()}
    await world.reads.rebuild()
    assert world.log.rows.now == live
