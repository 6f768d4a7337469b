"""Whatever happens to a fleet: the read tables are what the log says, passes come to rest, rollbacks give back files.

A history is a list of steps (commits, hands on nodes, failing nodes, a killed controller, rollbacks, Git gone). After
each one, passes are made until they append nothing.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from reconciler import commands
from reconciler.errors import InputRejected, NodeError, UsageError
from reconciler.ports import Job, Receipt
from reconciler.projections.status import NodeStatus, fleet_status
from reconciler.projections.tables import HOLDS, NODE_STATES, POOLS
from reconciler.registries.model import POLICY_JSON, REGISTRIES_CONF, SEARCH_REGISTRIES
from reconciler.stages.context import decode_file_set
from reconciler.transport.memory import MemoryTransport
from reconciler.transport.memory_parts import Entry
from reconciler.work.inline import InlineRunner
from tests.world import FLEET, ManualClock, MemoryWorld, ScriptedSource, image, make_world, mirrors, site

NODES = ("eu-1", "eu-2", "us-1", "us-2")
REST = 5
"""Passes after which everything must have come to rest, whatever a step was."""

FILES: dict[str, str | None] = {
    "a": image(blockedRegistries=["a.corp"]),
    "b": image(blockedRegistries=["b.corp"], containerRuntimeSearchRegistries=["search.corp"]),
    "c": image(allowedRegistries=["c.corp"]),
    "broken": "kind: [Image",
    "refused": image(allowedRegistries=["a.corp"], blockedRegistries=["b.corp"]),
    "absent": None,
}


class Killed(Exception):
    """The controller died here."""


class DyingRunner(InlineRunner):
    """`dies`: the process is killed when the nodes have acted, before anything of it is recorded."""

    dies = False

    async def apply(self, jobs: Sequence[Job]) -> Sequence[Receipt | NodeError]:
        answers = await super().apply(jobs)
        if self.dies:
            self.dies = False
            raise Killed
        return answers


@dataclass
class Life:
    """A fleet in memory, and what can happen to it."""

    world: MemoryWorld
    source: ScriptedSource
    transport: MemoryTransport
    runner: DyingRunner
    clock: ManualClock
    rests: list[int]
    """Positions at which everything had come to rest."""

    @classmethod
    def begin(cls, directory: Path) -> Life:
        clock = ManualClock()
        transport = MemoryTransport(clock)
        world, source, runner = make_world(directory, transport, clock), ScriptedSource(), DyingRunner(transport)
        world.context = replace(world.context, source=source, runner=runner)
        source.commit({**site("eu"), **site("us"), "m.yaml": mirrors("m", "quay.io/a", "mirror.corp/a")})
        return cls(world, source, transport, runner, clock, [])

    async def rest(self) -> None:
        """Make passes until one appends nothing, or the controller is killed; another one goes on at the next step."""
        for _ in range(REST):
            before = await self.world.head()
            try:
                await self.world.run()
            except Killed:
                self.world.context.owner += "+"
                return
            if await self.world.head() == before:
                self.rests.append(before)
                return
        raise AssertionError(f"no rest after {REST} passes: {(await self.world.types())[-20:]}")

    # --- Steps ------------------------------------------------------------------------------------------------------

    async def commit(self, path: str, name: str) -> None:
        self.source.commit({path: FILES[name]})

    async def touch(self, node: str, path: str, how: str) -> None:
        files = self.transport.node(node).files
        if how == "delete" or path not in files:
            files.pop(path, None)
        elif how == "mode":
            files[path] = replace(files[path], mode=0o600)
        else:
            files[path] = Entry(how.encode())

    async def fault(self, node: str, kind: str, lose: str) -> None:
        faults = self.transport.node(node).faults
        if kind == "lose":
            faults.lose = lose
        elif kind == "reload":
            faults.reload = "unable"
        elif kind == "heal":
            faults.unreachable = faults.disk_full = False
            faults.reload = faults.lose = ""
        else:
            setattr(faults, kind, True)

    async def kill(self) -> None:
        self.runner.dies = True

    async def git(self, *, gone: bool) -> None:
        self.source.gone = gone

    async def wait(self) -> None:
        self.clock.advance(3 * 3600)

    async def rollback(self, fraction: float, scope: str, *, at_rest: bool) -> None:
        head = await self.world.head()
        to = self.rests[int(fraction * len(self.rests))] if at_rest else max(1, int(head * fraction))
        kind, _, name = scope.partition(":")
        pool, node = (name if kind == "pool" else None), (name if kind == "node" else None)
        try:
            done = await commands.rollback(self.world.context, to=f"#{to}", reason="x", pool=pool, node=node)
        except (UsageError, InputRejected):
            assert await self.world.head() == head
            return
        await self.rest()
        if at_rest:
            await self._check_restored(done["position"], done["nodes"], scope)

    async def lift(self) -> None:
        snapshot = await self.world.context.snapshot()
        if holds := sorted(snapshot.table(HOLDS)):
            await commands.lift_hold(self.world.context, holds[0][1], reason="x")

    # --- What must hold ---------------------------------------------------------------------------------------------

    async def _check_restored(self, position: int, nodes: Sequence[str], scope: str) -> None:
        """Each node of the scope wants the file set it wanted then, where its base is still the same."""
        now, then = await self._wanted(None), await self._wanted(position)
        for name in set(nodes) & set(then):
            if now[name][0] == then[name][0] and not await self._set_apart(name, position, scope):
                assert now[name] == then[name]

    async def _wanted(self, at: int | None) -> dict[str, tuple[str | None, str | None]]:
        """Node → its base and the file set it should have."""
        snapshot = await self.world.context.snapshot(at)
        states = snapshot.table(NODE_STATES)
        nodes = fleet_status(FLEET, snapshot.rows).nodes
        return {node.name: (states[FLEET, node.name]["base"], node.wanted) for node in nodes if node.wanted}

    async def _set_apart(self, node: str, position: int, scope: str) -> bool:
        """Whether a hold of node scope, narrower than this rollback, is about the node now or was then."""
        if scope.startswith("node"):
            return False
        for at in (None, position):
            snapshot = await self.world.context.snapshot(at)
            entries = [entry for hold in snapshot.table(HOLDS).values() for entry in hold["entries"]]
            if any(entry["scope"] == {"kind": "node", "name": node} for entry in entries):
                return True
        return False

    async def check(self) -> None:
        """The read tables are what replaying the log gives, the log verifies, converged nodes have the bytes."""
        log = self.world.log
        live = deepcopy((log.rows, log.past))
        await self.world.reads.rebuild()
        assert (log.rows.now, log.rows.since) == (live[0].now, live[0].since)
        assert sorted(map(repr, log.past)) == sorted(map(repr, live[1]))
        assert (await log.verify()).problems == ()
        for node in (await self.world.status()).nodes:
            if node.files == "Converged" and node.ready:
                await self._check_bytes(node)

    async def _check_bytes(self, node: NodeStatus) -> None:
        assert node.wanted is not None
        contents = await self.world.context.blobs.get([node.wanted])
        files = self.transport.node(node.name).files
        for entry in decode_file_set(contents[node.wanted]).entries:
            assert files[entry.path].state == (entry.sha256, entry.mode)


nodes = st.sampled_from(NODES)
commits = st.tuples(
    st.just("commit"),
    st.sampled_from(["image.yaml", "sites/eu/image.yaml", "sites/us/image.yaml"]),
    st.sampled_from(sorted(FILES)),
)
touches = st.tuples(
    st.just("touch"),
    nodes,
    st.sampled_from([REGISTRIES_CONF, POLICY_JSON, SEARCH_REGISTRIES]),
    st.sampled_from(["# by hand\n", "delete", "mode"]),
)
faults = st.tuples(
    st.just("fault"),
    nodes,
    st.sampled_from(["unreachable", "disk_full", "reload", "lose", "heal", "heal"]),
    st.sampled_from(["before", "placing", "placed", "done"]),
)
scopes = st.sampled_from(["fleet:", "fleet:", "pool:eu", "pool:us", "node:eu-1", "node:us-2"])
rollbacks = st.tuples(st.just("rollback"), st.floats(0, 1, exclude_max=True), scopes, st.booleans())
simple = st.sampled_from([("kill",), ("lift",), ("wait",), ("git-gone",), ("git-back",)])
steps = st.one_of(commits, commits, commits, touches, faults, rollbacks, simple)


async def live(life: Life, step: Sequence[object]) -> None:
    match step:
        case ("git-gone",):
            await life.git(gone=True)
        case ("git-back",):
            await life.git(gone=False)
        case ("rollback", float(fraction), str(scope), bool(at_rest)):
            await life.rollback(fraction, scope, at_rest=at_rest)
        case (name, *arguments):
            await getattr(life, str(name))(*arguments)


async def _history(taken: Sequence[Sequence[object]]) -> None:
    with TemporaryDirectory() as directory:
        life = Life.begin(Path(directory))
        await life.rest()
        for step in taken:
            await live(life, step)
            await life.rest()
            await life.check()
        await _mend(life)


async def _mend(life: Life) -> None:
    """When nothing fails any more and the repository is good, every node converges on what is in force, but where a
    hold keeps a content in force that failed on one of its nodes."""
    for name in NODES:
        await life.fault(name, "heal", "")
    life.source.gone, life.runner.dies = False, False
    life.source.commit({"image.yaml": image(blockedRegistries=["end.corp"]), "sites/eu/image.yaml": None})
    life.source.commit({"sites/us/image.yaml": None})
    for _ in range(2):  # a failure that a node tells of only now lets it rest for a while
        await life.wait()
        await life.rest()
    await life.check()
    status = await life.world.status()
    halted = {pool.name for pool in status.pools if pool.rollout == "halted"}
    pools = (await life.world.context.snapshot()).table(POOLS)
    for node in status.nodes:
        assert node.ready
        refused = node.pool in halted or node.wanted in (pools[FLEET, str(node.pool)]["refused"] or ())
        assert node.files == "Converged" or (status.holds and (refused or node.files == "Failed"))


@example([("kill",), ("commit", "image.yaml", "a"), ("commit", "image.yaml", "b")])
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(steps, min_size=3, max_size=8))
def test_histories(taken: Sequence[Sequence[object]]) -> None:
    asyncio.run(_history(taken))


@pytest.mark.slow
@pytest.mark.timeout(1800)
@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(steps, min_size=5, max_size=25))
def test_long_histories(taken: Sequence[Sequence[object]]) -> None:
    asyncio.run(_history(taken))
