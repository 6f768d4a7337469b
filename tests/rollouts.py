"""Rollouts under fire: a fleet in memory, two replicas on one log, faults, people and deaths, all in virtual time."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from contextvars import ContextVar
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from random import Random
from typing import Any

import yaml

from reconciler import control
from reconciler.cycle import Pass, run_pass
from reconciler.errors import UsageError, WrongExpectation
from reconciler.events.envelope import NewEvent, StoredEvent
from reconciler.ports import EventFilter, ManifestFile, Snapshot
from reconciler.projections.status import fleet_status
from reconciler.projections.tables import FLEETS, NODE_STATES, POOLS, ROLLOUTS, Table
from reconciler.registries.model import POLICY_JSON, REGISTRIES_CONF
from reconciler.simulation.world import World, commit_of, make_world
from reconciler.stages.context import Context, FleetSettings
from reconciler.transport.memory_parts import Entry
from reconciler.transport.simulated import Pace
from reconciler.work.inline import InlineRunner
from reconciler.work.virtual import run_virtual

START = datetime(2026, 1, 1, tzinfo=UTC)
EVERY, LEASE = 300, 120
"""Seconds between two passes of a replica, and how long one that died is taken for alive."""

FAULTS_END, LONGEST = 90 * 60, 4 * 24 * 3600
"""When everything that fails is mended, and when the fleet must have come to rest for good."""

ENDED = ("completed", "superseded")

BY_HAND = b"# by hand\n"
ACCEPT_ALL = b'{"default": [{"type": "insecureAcceptAnything"}]}\n'

CONTENTS: tuple[Mapping[str, Any], ...] = (
    {"blockedRegistries": ["a.corp"]},
    {"blockedRegistries": ["b.corp"], "containerRuntimeSearchRegistries": ["search.corp"]},
    {"allowedRegistries": ["c.corp", "needed.example.com"]},
    {"insecureRegistries": ["d.corp"]},
)


@dataclass(frozen=True)
class Scenario:
    """All that happens. Times are seconds after the start; nodes and pools are named by their numbers."""

    pools: Sequence[tuple[Mapping[str, Any], int]]
    """Each pool's spec, and how many nodes it has."""
    commits: Sequence[tuple[int, int]]
    """When which of CONTENTS is committed; the first one is there from the start."""
    faults: Sequence[tuple[int, str, int, int]] = ()
    """Which node has which trouble, when, for how long."""
    asks: Sequence[tuple[int, str, int]] = ()
    """When somebody does what (approve, pause, resume, abort, retry) to which pool."""
    deaths: Sequence[tuple[str, int] | None] = (None, None)
    """Per replica: it is killed at which pass of which fault point."""
    pace: Pace = field(default_factory=Pace)
    seed: int = 0

    @property
    def nodes(self) -> Mapping[str, str]:
        """Node → pool."""
        return {f"p{p}-{n}": f"p{p}" for p, (_, count) in enumerate(self.pools) for n in range(count)}


class Slow:
    """A log or a read model that takes its time, so that replicas overtake one another."""

    def __init__(self, port: Any, random: Random) -> None:
        self._port, self._random = port, random

    def __getattr__(self, name: str) -> Any:
        return getattr(self._port, name)

    async def append(self, events: Sequence[NewEvent], expect: Mapping[str, int]) -> Sequence[StoredEvent]:
        await self._wait()
        found: Sequence[StoredEvent] = await self._port.append(events, expect)
        await self._wait()
        return found

    async def snapshot(self, fleet: str, at: int | None = None, tables: Sequence[Table] | None = None) -> Snapshot:
        await self._wait()
        found: Snapshot = await self._port.snapshot(fleet, at, tables)
        await self._wait()
        return found

    async def _wait(self) -> None:
        await asyncio.sleep(self._random.choice((0, 0, 0.001, 0.01)))


RUNNING: ContextVar[Replica | None] = ContextVar("RUNNING", default=None)


class Replica:
    """A process that makes passes until it is killed; what it began on nodes goes on there."""

    def __init__(self, stage: Stage, name: str, death: tuple[str, int] | None) -> None:
        random = Random(f"{stage.scenario.seed} {name}")
        world = stage.world
        self.name, self.death, self.passed = name, death, 0
        self.tasks: set[asyncio.Task[Any]] = set()
        self.latest: Pass | None = None
        self.context: Context = replace(
            world.context,
            owner=name,
            log=Slow(world.log, random),
            reads=Slow(world.context.reads, random),
            runner=InlineRunner(world.transport),
            parsed={},
            contents={},
            resources={},
        )

    async def live(self) -> None:
        RUNNING.set(self)
        renewal = asyncio.create_task(self._renew())
        try:
            while True:
                with suppress(WrongExpectation):  # it was overtaken too often: the next pass tries again
                    self.latest = await run_pass(self.context)
                await asyncio.sleep(EVERY)
        finally:
            renewal.cancel()

    async def _renew(self) -> None:
        while True:
            await self.context.leases.acquire(f"owner/{self.name}", self.name, LEASE)
            await asyncio.sleep(LEASE / 3)

    def reached(self, point: str) -> None:
        """Called at each fault point."""
        if self.death and self.death[0] == point:
            self.passed += 1
            if self.passed == self.death[1]:
                self.kill()
                raise asyncio.CancelledError

    def kill(self) -> None:
        for task in self.tasks:
            task.cancel()


def reached(point: str) -> None:
    """Stands in for faults.fault_point."""
    if replica := RUNNING.get():
        replica.reached(point)


def _new_task(loop: asyncio.AbstractEventLoop, work: Any, **kwargs: Any) -> asyncio.Task[Any]:
    """A task that dies with the replica that it belongs to, unless it is what a node does."""
    task = asyncio.Task(work, loop=loop, **kwargs)
    replica = RUNNING.get()
    if replica is not None and getattr(work, "__qualname__", "") != "SimulatedTransport._last":
        replica.tasks.add(task)
        task.add_done_callback(replica.tasks.discard)
    return task


class Stage:
    """A scenario being played. `watch` is called at each change of who is unavailable."""

    def __init__(self, scenario: Scenario, watch: Callable[[World], None]) -> None:
        self.scenario = scenario
        self.world = make_world(FleetSettings("default", "memory:", "main", "."), scenario.nodes, scenario.pace, START)
        for name in scenario.nodes:
            self.world.transport.node(name).files[POLICY_JSON] = Entry(ACCEPT_ALL)
        self.world.availability.watch = lambda: watch(self.world)
        self.replicas: list[Replica] = []
        self._actors: list[asyncio.Task[None]] = []

    def commit(self, content: int) -> None:
        """Commit one of CONTENTS, with the pools and nodes of the scenario."""
        history = self.world.source.history
        parent = history[-1][0].sha if history else None
        documents = [
            _image(CONTENTS[content]),
            *(_pool(f"p{n}", spec) for n, (spec, _) in enumerate(self.scenario.pools)),
        ]
        documents += [_node(name, pool) for name, pool in self.scenario.nodes.items()]
        data = yaml.safe_dump_all(documents).encode()
        files = [ManifestFile("fleet.yaml", f"{content}", data)]
        history.append((commit_of(files, parent, self.world.clock.now(), f"Commit {len(history)}"), files))

    async def play(self) -> None:
        """From the start until everything is mended."""
        scenario = self.scenario
        self.commit(scenario.commits[0][1])
        for time, content in scenario.commits[1:]:
            self._at(time, self._commit, content)
        for node, kind, time, lasts in scenario.faults:
            name = list(scenario.nodes)[node % len(scenario.nodes)]
            self._at(time, self._trouble, name, kind, min(lasts, FAULTS_END - time))
        for time, ask, pool in scenario.asks:
            self._at(time, self.ask, ask, f"p{pool % len(scenario.pools)}")
        for number, death in enumerate(scenario.deaths):
            self._at(number * 7, self._start, f"replica-{number}", death)
        await asyncio.sleep(FAULTS_END + 1)

    async def rest(self) -> None:
        """People do what is asked of them, and passes are made, until every node has what it should have."""
        self._at(0, self._start, "last", None)
        while not await self.is_done():
            assert self.world.clock.elapsed < LONGEST, await self.describe()
            for (_, pool), row in (await self.world.context.snapshot()).table(POOLS).items():
                for lock in row["locks"] or ():
                    await control.resume(self.world.context, pool, lock=lock["lock"], reason="x")
                await self.ask("approve", pool)
                await self.ask("retry", pool)
            await asyncio.sleep(1800)
        await asyncio.sleep(2 * EVERY)  # and what is done stays so

    async def end(self) -> None:
        for replica in self.replicas:
            replica.kill()
        for actor in self._actors:
            actor.cancel()
        for end in await asyncio.gather(*self._actors, return_exceptions=True):
            if isinstance(end, Exception):
                raise end

    async def is_done(self) -> bool:
        """Whether every node has the newest content, every rollout has ended, and nobody is set apart."""
        snapshot = await self.world.context.snapshot()
        status = fleet_status(snapshot.fleet, snapshot.rows)
        head = (snapshot.one(FLEETS, snapshot.fleet) or {}).get("head")
        open_rollouts = [row for row in snapshot.table(ROLLOUTS).values() if row["state"] not in ENDED]
        cordoned = [row for row in snapshot.table(NODE_STATES).values() if row["cordoned"]]
        newest = head == self.world.source.history[-1][0].sha
        return newest and status.converged and not open_rollouts and not cordoned

    async def describe(self) -> str:
        """How it stands, for a test that fails."""
        snapshot = await self.world.context.snapshot()
        status = fleet_status(snapshot.fleet, snapshot.rows)
        nodes = [f"{node.name} {node.files}: {node.reason}" for node in status.nodes]
        rollouts = [f"{row['pool']} {row['rollout'][:8]} {row['state']}" for row in snapshot.table(ROLLOUTS).values()]
        waits = [rolled.waits for replica in self.replicas[-1:] if replica.latest for rolled in replica.latest.pools]
        newest = [f"{e.position} {e.recorded_at:%dT%H:%M:%S} {e.type} {e.stream}" for e in await self.events()][-40:]
        return "\n".join([*nodes, *rollouts, str(waits), *newest])

    async def events(self) -> Sequence[StoredEvent]:
        return await self.world.log.read(EventFilter())

    async def ask(self, what: str, pool: str) -> None:
        """What a person may ask for, where it makes sense now."""
        context, verb = self.world.context, {"approve": control.approve_pool}.get(what) or getattr(control, what)
        with suppress(UsageError):
            await verb(context, pool, reason="x")

    # --- What happens -----------------------------------------------------------------------------------------------

    def _at(self, time: float, act: Callable[..., Awaitable[None]], *arguments: Any) -> None:
        async def wait() -> None:
            await asyncio.sleep(time)
            await act(*arguments)

        self._actors.append(asyncio.create_task(wait()))

    async def _commit(self, content: int) -> None:
        self.commit(content)

    async def _start(self, name: str, death: tuple[str, int] | None) -> None:
        replica = Replica(self, name, death)
        self.replicas.append(replica)
        with suppress(asyncio.CancelledError):
            await asyncio.create_task(replica.live())

    async def _trouble(self, name: str, kind: str, lasts: int) -> None:
        node = self.world.transport.node(name)
        if kind.startswith("lose-"):
            node.faults.lose = kind.removeprefix("lose-")
        elif kind == "drift":
            node.files[REGISTRIES_CONF] = Entry(BY_HAND)
        else:
            self.world.trouble(name, kind, on=True)
            await asyncio.sleep(lasts)
            self.world.trouble(name, kind, on=False)


def _image(sources: Mapping[str, Any]) -> dict[str, Any]:
    spec = {"registrySources": dict(sources)}
    return {"apiVersion": "config.openshift.io/v1", "kind": "Image", "metadata": {"name": "cluster"}, "spec": spec}


def _pool(name: str, spec: Mapping[str, Any]) -> dict[str, Any]:
    selector = {"matchLabels": {"pool": name}}
    return {
        "apiVersion": "reconciler.dev/v1alpha1",
        "kind": "NodePool",
        "metadata": {"name": name},
        "spec": {
            "mode": "enforce",
            "requiredImages": ["needed.example.com/app:1"],
            "nodeSelector": selector,
            **spec,
        },
    }


def _node(name: str, pool: str) -> dict[str, Any]:
    return {
        "apiVersion": "reconciler.dev/v1alpha1",
        "kind": "Node",
        "metadata": {"name": name, "labels": {"pool": pool}},
        "spec": {"transport": "memory"},
    }


def play(scenario: Scenario, check: Callable[[Stage], Awaitable[None]], watch: Callable[[World], None]) -> None:
    """Play a scenario; `check` is called when everything is mended, before anybody acts, and again when all is done."""

    async def live() -> None:
        asyncio.get_running_loop().set_task_factory(_new_task)
        stage = Stage(scenario, watch)
        try:
            await stage.play()
            await check(stage)
            await stage.rest()
            await check(stage)
        finally:
            await stage.end()

    run_virtual(live())
