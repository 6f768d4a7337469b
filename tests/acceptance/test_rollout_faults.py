"""Rollouts on real sshd nodes when something goes wrong: who is blamed, what is undone, that the next commit mends."""

from __future__ import annotations

import asyncio
import shlex
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from reconciler.ports import EventFilter
from reconciler.projections.status import FleetStatus
from reconciler.registries.model import REGISTRIES_CONF
from reconciler.transport.drainers import CommandDrainer
from reconciler.transport.memory import MemoryTransport
from reconciler.transport.sandbox import SandboxNode, put_program, wait_for
from reconciler.work.inline import InlineRunner
from tests.machines import Watcher, at, machines, renew, ssh_nodes, transport
from tests.world import IMAGE, World, make_real_world, pool

COUNT = 4
RELOAD = "reload crio.service"
PAUSING_MV = """#!/bin/sh
# Of a test: stops the request that renames registries.conf until it is told to go on.
case $2 in
    */.registries.conf.reconciler)
        [ ! -e /run/sandbox/pause ] || { rm /run/sandbox/pause; : >/run/sandbox/paused; }
        while [ -e /run/sandbox/paused ]; do sleep 0.02; done
        ;;
esac
exec /bin/mv "$@"
"""


@dataclass
class Fleet:
    """Nodes that have the first content, and what can happen to them."""

    world: World
    nodes: list[SandboxNode]

    async def begin(self, **spec: Any) -> None:
        self.world.repository.commit({"pool.yaml": pool(**spec), "image.yaml": IMAGE, **ssh_nodes(self.nodes)})
        status = await self.world.sync()
        assert status.exit_code == 0, status.nodes

    def commit(self, registry: str) -> None:
        self.world.repository.commit({"image.yaml": IMAGE.replace("untrusted.example.com", registry)}, registry)

    async def change(self, registry: str = "second.example.com") -> FleetStatus:
        self.commit(registry)
        return await self.world.sync()

    def blocked(self) -> list[str]:
        """The registry that each node blocks."""
        names = ("untrusted", "second", "third")
        texts = [at(node, REGISTRIES_CONF).read_text() for node in self.nodes]
        return [name for text in texts for name in names if f"{name}.example.com" in text]

    def reloads(self) -> list[int]:
        return [len(node.actions()) for node in self.nodes]

    async def again(self) -> FleetStatus:
        """As a person would: do not wait for the back-off."""
        self.world.context.retry_now = True
        return await self.world.sync()

    async def check(self, registry: str) -> None:
        assert self.blocked() == [registry] * COUNT
        assert (await self.world.log.verify()).problems == ()


@pytest.fixture(scope="module")
def machines_(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[SandboxNode]]:
    with machines(tmp_path_factory.mktemp("nodes"), COUNT) as nodes:
        for node in nodes:
            put_program(at(node, "/usr/local/bin/mv"), PAUSING_MV)
        yield nodes


@pytest.fixture
async def fleet(machines_: list[SandboxNode], engine: AsyncEngine, tmp_path: Path) -> AsyncIterator[Fleet]:
    for node in machines_:
        renew(node)
    router = transport(machines_)
    world = await make_real_world(tmp_path, router, engine)
    world.context = replace(world.context, drainers={"command": CommandDrainer(router, [])})
    yield Fleet(world, machines_)
    await router.close()


async def test_reload_fails_on_the_canary(fleet: Fleet) -> None:
    await fleet.begin()
    (fleet.nodes[0].runtime.control / "refuse").write_text("second.example.com")
    with Watcher(fleet.nodes) as watcher:
        status = await fleet.change()
    assert status.exit_code == 1
    assert fleet.blocked() == ["untrusted"] * COUNT
    assert fleet.reloads() == [3, 1, 1, 1]  # the canary was told of the new files, and of the old ones again
    assert [node.files for node in status.nodes] == ["Failed", "Pending", "Pending", "Pending"]
    assert watcher.problems == []
    assert (await fleet.change("third.example.com")).exit_code == 0
    await fleet.check("third")


async def test_a_health_check_fails_on_the_third_node_and_all_go_back(fleet: Fleet) -> None:
    """The check looks at the node's own file, so that it fails there and only with the new content."""
    script = f"! [ -e /run/sandbox/sick ] || ! grep -q second {REGISTRIES_CONF}"
    await fleet.begin(onFailure="revert", healthChecks=[{"name": "pulls", "command": ["sh", "-c", script]}])
    (fleet.nodes[2].runtime.control / "sick").touch()
    assert (await fleet.change()).exit_code == 1
    await fleet.check("untrusted")
    types = await fleet.world.types()
    assert types.count("ContentRefused") == 1
    assert fleet.reloads() == [3, 3, 3, 1]
    (fleet.nodes[2].runtime.control / "sick").unlink()
    assert (await fleet.change("third.example.com")).exit_code == 0
    await fleet.check("third")


async def test_unhealthy_before_the_change_is_no_fault_of_the_content(fleet: Fleet) -> None:
    await fleet.begin()
    (fleet.nodes[1].runtime.control / "active").write_text("failed\n")
    status = await fleet.change()
    assert status.exit_code == 3
    assert fleet.blocked() == ["second", "untrusted", "second", "second"]
    assert status.pools[0].outcome == "3 converged, 1 deferred"
    assert "NodeFailed" not in await fleet.world.types()
    (fleet.nodes[1].runtime.control / "active").write_text("active\n")
    assert (await fleet.again()).exit_code == 0
    await fleet.check("second")


async def test_a_node_that_is_down_before_is_caught_up(fleet: Fleet) -> None:
    await fleet.begin()
    fleet.nodes[0].stop()
    status = await fleet.change()
    assert status.exit_code == 3
    assert status.pools[0].outcome == "3 converged, 1 deferred"
    fleet.nodes[0].start()
    assert (await fleet.again()).exit_code == 0
    await fleet.check("second")
    kinds = [event.body.kind for event in await _events(fleet.world, "RolloutStarted")]
    assert kinds[-2:] == ["rollout", "catch-up"]


@pytest.mark.parametrize("fate", ["power", "link"])
async def test_a_node_is_lost_in_the_middle_of_an_apply(fleet: Fleet, fate: str) -> None:
    """Its power, or only the link to it: then the node ends the change alone."""
    await fleet.begin()
    node = fleet.nodes[1]
    (node.runtime.control / "pause").touch()
    fleet.commit("second.example.com")
    with Watcher(fleet.nodes) as watcher:
        running = asyncio.create_task(fleet.world.sync())
        await _until((node.runtime.control / "paused").exists)
        if fate == "power":
            node.stop()
            (node.runtime.control / "paused").unlink()
            node.start()
        else:
            node.run("sh", "-c", "for p in $(pgrep -f 'sshd.*root@'); do kill -9 $p; done")
            (node.runtime.control / "paused").unlink()
        await running
        assert (await fleet.again()).exit_code == 0
    await fleet.check("second")
    assert watcher.problems == []
    assert "NodeFailed" not in await fleet.world.types()


async def test_a_node_is_lost_after_it_applied(fleet: Fleet) -> None:
    """It had ended the step when it went down: it has the files, and is not reloaded again."""
    await fleet.begin()
    runner = fleet.world.context.runner
    apply = runner.apply

    async def then_down(jobs: Any) -> Any:
        answers = await apply(jobs)
        if jobs[0].target.name == fleet.nodes[1].name:
            fleet.nodes[1].stop()
        return answers

    runner.apply = then_down  # type: ignore[method-assign]  # of this test
    assert (await fleet.change()).exit_code == 0
    status = await fleet.again()
    assert (status.exit_code, status.nodes[1].ready) == (3, False)
    fleet.nodes[1].start()
    runner.apply = apply  # type: ignore[method-assign]  # as it was
    assert (await fleet.again()).exit_code == 0
    assert fleet.reloads() == [2] * COUNT
    await fleet.check("second")


async def test_a_full_disk_is_a_failure_of_the_node(fleet: Fleet) -> None:
    await fleet.begin()
    fleet.nodes[1].fill("/var")
    status = await fleet.change()
    assert fleet.blocked() == ["second", "untrusted", "second", "second"]
    assert status.nodes[1].reason.startswith("disk-full")
    assert status.pools[0].rollout == "completed"
    fleet.nodes[1].free()
    assert (await fleet.again()).exit_code == 0
    await fleet.check("second")


async def test_two_commits_while_a_rollout_runs(fleet: Fleet) -> None:
    """The node in hand is finished; the others go straight to the newest content, one reload each."""
    await fleet.begin(maxParallel=1)
    node = fleet.nodes[0]
    (node.runtime.control / "pause").touch()
    fleet.commit("second.example.com")
    running = asyncio.create_task(fleet.world.run())
    await _until((node.runtime.control / "paused").exists)
    fleet.commit("between.example.com")
    fleet.commit("third.example.com")
    # A second process takes the commits in, as the service would at its next pass.
    other = await make_other(fleet)
    await other.run()
    (node.runtime.control / "paused").unlink()
    await running
    assert (await fleet.world.sync()).exit_code == 0
    await fleet.check("third")
    assert fleet.reloads() == [3, 2, 2, 2]


async def test_an_unconfirmed_node_reverts_itself(fleet: Fleet) -> None:
    await fleet.begin(confirm="3s")
    runner = fleet.world.context.runner
    confirm = runner.confirm

    async def cut_off(wanted: Any) -> Any:
        node = next(node for node in fleet.nodes if node.name == wanted[0][0].name)
        if node is not fleet.nodes[0]:
            return await confirm(wanted)
        await _until(lambda: "untrusted" in at(node, REGISTRIES_CONF).read_text())
        return await confirm(wanted)

    runner.confirm = cut_off  # type: ignore[method-assign]  # of this test
    await fleet.change()
    runner.confirm = confirm  # type: ignore[method-assign]  # as it was
    assert "NodeFailed" not in await fleet.world.types()
    assert "NodeReverted" in await fleet.world.types()
    assert (await fleet.again()).exit_code == 0
    await fleet.check("second")


async def test_commands_on_the_node_drain_it(fleet: Fleet) -> None:
    note = "printf '%s\\n' \"$1 $RECONCILER_NODE\" >>/run/sandbox/actions"
    commands = {verb: ["sh", "-c", note, "-", verb] for verb in ("cordon", "drain", "uncordon")}
    await fleet.begin(drain={"via": "command", "runOn": "node", **commands})
    assert (await fleet.change()).exit_code == 0
    for node in fleet.nodes:
        name = shlex.quote(node.name)
        turn = [f"cordon {name}", f"drain {name}", RELOAD, f"uncordon {name}"]
        assert node.actions()[-4:] == turn
    await fleet.check("second")


async def make_other(fleet: Fleet) -> World:
    """Another process on the same log, which reaches no node."""

    nobody = MemoryTransport(fleet.world.clock)
    for node in fleet.nodes:
        nobody.node(node.name).faults.unreachable = True
    context = replace(fleet.world.context, owner="other", runner=InlineRunner(nobody))
    return replace(fleet.world, context=context)


async def _events(world: World, kind: str) -> Any:

    return await world.log.read(EventFilter(types=[kind]))


async def _until(holds: Callable[[], bool]) -> None:
    await asyncio.to_thread(wait_for, holds, "it did not come to this")
