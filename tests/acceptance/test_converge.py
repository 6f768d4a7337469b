"""A large fleet converges at once, and then nothing is written any more, neither on a node nor in the log."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from sqlalchemy.ext.asyncio import AsyncEngine

from reconciler.transport.memory import MemoryTransport
from tests.machines import at, machines, ssh_nodes, transport, written
from tests.world import IMAGE, POOL, make_real_world, memory_nodes

MEMORY_NODES, SSHD_NODES = 100, 20


async def test_120_nodes_converge_in_one_sync(engine: AsyncEngine, tmp_path: Path) -> None:
    with machines(tmp_path / "nodes", SSHD_NODES) as nodes:
        router = transport(nodes)
        world = await make_real_world(tmp_path, router, engine)
        names = [f"memory-{number:03}" for number in range(MEMORY_NODES)]
        documents = "---".join([memory_nodes(names)["nodes.yaml"], ssh_nodes(nodes)["nodes.yaml"]])
        world.repository.commit({"pool.yaml": POOL, "image.yaml": IMAGE, "nodes.yaml": documents})

        status = await world.sync()

        assert status.exit_code == 0
        assert Counter(node.files for node in status.nodes) == {"Converged": MEMORY_NODES + SSHD_NODES}
        for node in nodes:
            assert "untrusted.example.com" in at(node, "/etc/containers/registries.conf").read_text()
            assert node.actions() == ["reload crio.service"]
        memory = router._transports["memory"]
        assert isinstance(memory, MemoryTransport)
        assert len(memory.nodes) == MEMORY_NODES
        assert {tuple(node.actions) for node in memory.nodes.values()} == {("reload crio.service",)}

        head, before = await world.head(), {node.name: written(node) for node in nodes}
        writes = {name: node.writes for name, node in memory.nodes.items()}
        assert (await world.sync()).exit_code == 0

        assert await world.head() == head
        assert {node.name: written(node) for node in nodes} == before
        assert {name: node.writes for name, node in memory.nodes.items()} == writes
        assert (await world.log.verify()).problems == ()
        await router.close()
