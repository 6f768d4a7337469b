"""Git is gone for the whole test: a rollback of 20 nodes converges, a hand edit is repaired, status says since when."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

from sqlalchemy.ext.asyncio import AsyncEngine

from reconciler import queries
from reconciler.ports import EventFilter
from reconciler.registries.model import POLICY_JSON, REGISTRIES_CONF, SEARCH_REGISTRIES
from reconciler.transport.sandbox import SandboxNode
from tests.machines import at, machines, put, ssh_nodes, transport
from tests.program import Program
from tests.world import IMAGE, POOL, make_real_world

NODES = 20
RELOAD = "reload crio.service"
BAD = """
    apiVersion: config.openshift.io/v1
    kind: Image
    metadata: {name: cluster}
    spec:
      registrySources:
        allowedRegistries: [only.example.com]
        containerRuntimeSearchRegistries: [evil.example.com]
"""


async def test_git_gone(engine: AsyncEngine, database_url: str, tmp_path: Path) -> None:
    with machines(tmp_path / "nodes", NODES) as nodes:
        router = transport(nodes)
        world = await make_real_world(tmp_path, router, engine)
        world.repository.commit({"pool.yaml": POOL, "image.yaml": IMAGE, **ssh_nodes(nodes)})
        assert (await world.sync()).exit_code == 0
        good = [_files(node) for node in nodes]
        world.repository.commit({"image.yaml": BAD}, "Allow nothing")
        assert (await world.sync()).exit_code == 0
        assert all(SEARCH_REGISTRIES in _files(node) for node in nodes)

        world.repository.directory.rename(tmp_path / "gone")
        program = Program(tmp_path / "home", database_url, f"file://{world.repository.directory}", nodes[0].identity)
        assert program.run("rollback", "--to", "previous", "--reason", "locked out", "--yes").code == 0

        assert [_files(node) for node in nodes] == good
        put(nodes[7], REGISTRIES_CONF, "# by hand\n")
        assert (await world.sync()).exit_code == 0
        assert [_files(node) for node in nodes] == good
        assert [node.actions() for node in nodes] == [[RELOAD] * (4 if node is nodes[7] else 3) for node in nodes]

        _, status = await queries.status(world.context)
        since = status["source"]["unreachableSince"]
        lost = await world.log.read(EventFilter(types=("SourceUnreachable",)))
        assert [event.recorded_at for event in lost] == [datetime.fromisoformat(since)]
        said = program.run("status")
        assert said.code == 0
        assert f"unreachable since {since[:19]}Z" in said.out
        assert (await world.log.verify()).problems == ()
        await router.close()


def _files(node: SandboxNode) -> dict[str, bytes]:
    """The managed files, byte for byte."""
    paths = (REGISTRIES_CONF, POLICY_JSON, SEARCH_REGISTRIES)
    return {path: place.read_bytes() for path in paths if (place := at(node, path)).exists()}
