"""Drift, shadows and custody on real sshd nodes, where time, tools and operators are real."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import asyncssh
import pytest

from reconciler import control, custody
from reconciler.events.catalogue import DriftContested, HostKeyChanged, MassDriftDetected
from reconciler.ports import EventFilter
from reconciler.registries.model import POLICY_JSON, REGISTRIES_CONF, REGISTRIES_CONF_D
from reconciler.transport.router import TransportRouter
from reconciler.transport.sandbox import SandboxNode
from tests.machines import at, machines, put, renew, ssh_nodes, transport
from tests.world import IMAGE, POOL, MemoryWorld, make_world

RELOAD = "reload crio.service"
MINE = "# mine\n"
DROP_IN = f"{REGISTRIES_CONF_D}/90-mine.conf"


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[SandboxNode]]:
    with machines(tmp_path_factory.mktemp("nodes"), 8) as nodes:
        yield nodes


@pytest.fixture
async def router(fleet: list[SandboxNode]) -> AsyncIterator[TransportRouter]:
    for node in fleet:
        renew(node)
    router = transport(fleet)
    yield router
    await router.close()


async def begin(directory: Path, router: TransportRouter, nodes: Sequence[SandboxNode]) -> MemoryWorld:
    """A converged fleet of these nodes."""
    world = make_world(directory, router)
    world.repository.commit({"pool.yaml": POOL, "image.yaml": IMAGE, **ssh_nodes(nodes)})
    assert (await world.sync()).exit_code == 0
    return world


@asynccontextmanager
async def writing(node: SandboxNode, text: str) -> AsyncIterator[None]:
    """Another tool, which puts its registries.conf in place whenever it finds another one."""
    place = at(node, REGISTRIES_CONF)

    async def tool() -> None:
        while True:
            if place.read_text() != text:
                beside = place.with_name("tool")
                beside.write_text(text)
                beside.chmod(0o644)
                beside.rename(place)
            await asyncio.sleep(0.3)

    task = asyncio.create_task(tool())
    try:
        yield
    finally:
        task.cancel()


async def test_a_tool_that_writes_a_file_back_is_left_alone_after_three_repairs(
    tmp_path: Path, router: TransportRouter, fleet: list[SandboxNode]
) -> None:
    node = fleet[0]
    world = await begin(tmp_path, router, [node])
    async with writing(node, MINE):
        for _ in range(12):
            await asyncio.sleep(0.4)
            status = await world.sync()
            if "DriftContested" in await world.types():
                break
        assert (status.exit_code, status.nodes[0].files) == (3, "Drifted")
        (event,) = await world.log.read(EventFilter(types=["DriftContested"]))
        assert isinstance(event.body, DriftContested)
        assert (event.body.path, event.body.count, event.body.uid) == (REGISTRIES_CONF, 3, 0)
        assert event.body.mtime > 0
        actions, head = node.actions(), await world.head()
        await asyncio.sleep(0.4)
        await world.run()
        assert (node.actions(), await world.types(after=head)) == (actions, [])
    await control.retry(world.context, "worker", reason="the tool is stopped")
    assert (await world.sync()).exit_code == 0


async def test_the_same_drift_on_half_the_pool_is_repaired_on_none(
    tmp_path: Path, router: TransportRouter, fleet: list[SandboxNode]
) -> None:
    world = await begin(tmp_path, router, fleet)
    for node in fleet[:4]:
        put(node, REGISTRIES_CONF, MINE)
    status = await world.sync()
    assert status.exit_code == 3
    assert [node.actions() for node in fleet] == [[RELOAD]] * 8
    (event,) = await world.log.read(EventFilter(types=["MassDriftDetected"]))
    assert isinstance(event.body, MassDriftDetected)
    assert event.body.nodes == tuple(node.name for node in fleet[:4])
    await control.retry(world.context, "worker", reason="a mistake of ours")
    assert (await world.sync()).exit_code == 0
    assert len({at(node, REGISTRIES_CONF).read_bytes() for node in fleet}) == 1


async def test_a_drop_in_that_unblocks_what_we_block_and_root_s_own_files(
    tmp_path: Path, router: TransportRouter, fleet: list[SandboxNode]
) -> None:
    world = await begin(tmp_path, router, fleet[:2])
    put(fleet[0], DROP_IN, "\n[[registry]]\nlocation = 'untrusted.example.com'\n")
    put(fleet[1], "/root/.config/containers/registries.conf", MINE)
    status = await world.sync()
    assert status.exit_code == 3
    assert [node.files for node in status.nodes] == ["Shadowed", "Shadowed"]
    assert status.nodes[0].reason == f"{DROP_IN}:2 decides untrusted.example.com"
    assert status.nodes[1].reason == "/root/.config/containers/registries.conf:1 decides untrusted.example.com"
    at(fleet[0], DROP_IN).unlink()
    at(fleet[1], "/root/.config/containers/registries.conf").unlink()
    assert (await world.sync()).exit_code == 0


async def test_a_hold_at_the_console_while_the_service_is_down(
    tmp_path: Path, router: TransportRouter, fleet: list[SandboxNode]
) -> None:
    world = await begin(tmp_path, router, fleet[:2])
    fleet[0].run("sh", "/var/lib/reconciler/node.sh", "hold", "on call: me")
    world.repository.commit({"image.yaml": IMAGE.replace("untrusted", "worse")})
    status = await world.sync()
    assert status.exit_code == 3
    assert [(node.files, node.reason) for node in status.nodes] == [
        ("HeldLocally", "held locally: on call: me"),
        ("Converged", ""),
    ]
    assert "worse" not in at(fleet[0], REGISTRIES_CONF).read_text()
    fleet[0].run("sh", "/var/lib/reconciler/node.sh", "resume")
    assert (await world.sync()).exit_code == 0
    assert "worse" in at(fleet[0], REGISTRIES_CONF).read_text()


async def test_release_and_restore_gives_the_bytes_back(
    tmp_path: Path, router: TransportRouter, fleet: list[SandboxNode]
) -> None:
    node = fleet[0]
    put(node, REGISTRIES_CONF, MINE)
    world = await begin(tmp_path, router, [node])
    await custody.release(world.context, node.name, restore=True, reason="x")
    status = await world.sync()
    assert (status.exit_code, status.nodes[0].files) == (3, "Released")
    assert at(node, REGISTRIES_CONF).read_text() == MINE
    assert not at(node, POLICY_JSON).exists()
    assert node.actions() == [RELOAD, RELOAD]
    await custody.adopt(world.context, node.name, reason="y")
    assert (await world.sync()).exit_code == 0


async def test_a_node_is_taken_from_a_log_that_is_lost(
    tmp_path: Path, router: TransportRouter, fleet: list[SandboxNode]
) -> None:
    node = fleet[0]
    lost = await begin(tmp_path / "lost", router, [node])
    world = make_world(tmp_path / "new", router)
    image = IMAGE.replace("untrusted", "worse")
    world.repository.commit({"pool.yaml": POOL, "image.yaml": image, **ssh_nodes([node])})
    status = await world.sync()
    assert status.exit_code == 3
    assert f"belongs to another log ({lost.log.log_id})" in status.nodes[0].reason
    await custody.adopt(world.context, node.name, reason="the old database is gone")
    assert (await world.sync()).exit_code == 0
    text = at(node, REGISTRIES_CONF).read_text()
    assert "worse.example.com" in text
    assert "untrusted.example.com" in text  # what stood there is the base


async def test_files_that_are_right_but_not_loaded_cost_one_reload_and_no_write(
    tmp_path: Path, router: TransportRouter, fleet: list[SandboxNode]
) -> None:
    node = fleet[0]
    world = await begin(tmp_path, router, [node])
    place = at(node, REGISTRIES_CONF)
    loaded = int((node.directory / "control/loaded").read_text().strip().removeprefix("@"))
    (node.directory / "control/loaded").write_text(f"@{loaded - 60}\n")
    before = place.stat()
    assert (await world.sync()).exit_code == 0
    after = place.stat()
    assert (after.st_ino, after.st_mtime_ns) == (before.st_ino, before.st_mtime_ns)
    assert node.actions() == [RELOAD, RELOAD]
    types = await world.types()
    assert types[-5:] == ["DriftDetected", "StepStarted", "RuntimeReloaded", "DriftRepaired", "NodeConverged"]


async def test_a_host_that_was_given_another_key(
    tmp_path: Path, router: TransportRouter, fleet: list[SandboxNode]
) -> None:
    node = fleet[7]
    world = await begin(tmp_path, router, [node])
    old = asyncssh.import_public_key(node.host_key).get_fingerprint()
    key = asyncssh.generate_private_key("ssh-ed25519")
    key.write_private_key(str(node.directory / "control/host_key"))
    node.restart()
    status = await world.sync()
    assert status.exit_code == 3
    (event,) = await world.log.read(EventFilter(types=["HostKeyChanged"]))
    assert isinstance(event.body, HostKeyChanged)
    assert (event.body.old, event.body.new) == (old, key.get_fingerprint())
    assert "NodeUnreachable" not in await world.types()
    node.host_key = key.export_public_key().decode().strip()
    world.repository.commit(ssh_nodes([node]))
    assert (await world.sync()).exit_code == 0
