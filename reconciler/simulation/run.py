"""Pass after pass in virtual time until nothing more will happen by itself."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from reconciler import commands, control
from reconciler.cycle import Pass, run_pass
from reconciler.errors import UsageError
from reconciler.ports import Snapshot
from reconciler.projections.tables import FLEETS, POOLS, rollout_of
from reconciler.rollout.plan import Planner, plan_pool
from reconciler.simulation.faults import Fault
from reconciler.simulation.world import OWNER, World
from reconciler.stages.restores import epoch_to_send
from reconciler.stages.view import Look, view_pool

PRECISION = 60
"""The longer nothing happens, the rarer it is looked whether something would; a wait is exact to 1/60 of it, and
no window is missed."""


@dataclass(frozen=True)
class Terms:
    """`every`: seconds from pass to pass. `longest`: seconds after which it is over. `approve`: people say yes."""

    every: float = 60
    longest: float = 24 * 3600
    approve: bool = False


@dataclass(frozen=True)
class End:
    """`begun` and `position`: where the simulation began. `seconds`: from there to the last event. `waits`: per pool,
    why nodes wait at the end. `late`: time ran out while more was to come."""

    begun: datetime
    position: int
    seconds: float
    waits: Mapping[str, Mapping[str, str]]
    late: bool


@dataclass(frozen=True)
class _Standstill:
    """ports.Clock that stands at one moment."""

    moment: datetime

    def now(self) -> datetime:
        return self.moment

    async def sleep(self, seconds: float) -> None:
        """At a moment nothing is waited for."""


async def run(world: World, faults: Sequence[Fault], names: Sequence[str], terms: Terms, *, source: bool = True) -> End:
    """Make passes from now on, the faults coming and going on nodes of `names`, until no further one would act.

    Without `source` the repository is left alone.
    """
    log, clock, context = world.log, world.clock, world.context
    begun, position, start = clock.now(), log.position, clock.elapsed
    switches = [asyncio.create_task(_switch(world, fault, fault.chosen(names))) for fault in faults]
    waits, late = dict[str, Mapping[str, str]](), False
    wake: float | None = start
    try:
        async with asyncio.timeout(terms.longest):
            while wake is not None:
                await clock.sleep(wake - clock.elapsed)
                before, waits = log.position, {}
                done = await run_pass(context, source=source)
                if terms.approve:
                    await _approve(world)
                waits = {rolled.pool: dict(rolled.waits) for rolled in done.pools if rolled.waits}
                ahead = [start + moment for moment in _moments(faults) if start + moment > clock.elapsed]
                wake = await _wake(world, done, terms, ahead, moved=log.position != before)
    except TimeoutError:
        late = True
    finally:
        for switch in switches:
            switch.cancel()
        await asyncio.gather(*switches, return_exceptions=True)
    last = (log.moment(log.position) or begun) if log.position > position else begun
    return End(begun, position, (last - begun).total_seconds(), waits, late)


def _moments(faults: Sequence[Fault]) -> Iterator[int]:
    """When a fault comes or goes, in seconds after the beginning."""
    for fault in faults:
        yield fault.after
        if fault.lasts is not None:
            yield fault.after + fault.lasts


async def _switch(world: World, fault: Fault, nodes: Sequence[str]) -> None:
    await world.clock.sleep(fault.after)
    for name in nodes:
        world.trouble(name, fault.kind, on=True)
    if fault.lasts is not None:
        await world.clock.sleep(fault.lasts)
        for name in nodes:
            world.trouble(name, fault.kind, on=False)


async def _approve(world: World) -> None:
    """What people are asked for, they grant."""
    snapshot = await world.context.snapshot()
    if (snapshot.one(FLEETS, snapshot.fleet) or {}).get("waiting"):
        await commands.approve(world.context, None, reason=OWNER)
    for (_, pool), row in snapshot.table(POOLS).items():
        if row["spec"]:
            with suppress(UsageError):  # nothing waits there
                await control.approve_pool(world.context, pool, reason=OWNER)


async def _wake(world: World, done: Pass, terms: Terms, ahead: Sequence[float], *, moved: bool) -> float | None:
    """When the next pass is worth its while (seconds of the clock); None: never."""
    now, snapshot = world.clock.elapsed, await world.context.snapshot()
    if not ahead and _is_over(world, snapshot, done):
        return None
    if moved:
        return now + terms.every
    specs = [row["spec"] for row in snapshot.table(POOLS).values() if row["spec"]]
    shortest = min((window["duration"] for spec in specs for window in spec["windows"]), default=terms.longest)
    later = now + terms.every
    while later <= min([now + terms.longest, *ahead]):
        if await _would_act(world, done, snapshot, later):
            return later
        later += max(terms.every, min(shortest, (later - now) / PRECISION))
    return min(ahead, default=None)


def _is_over(world: World, snapshot: Snapshot, done: Pass) -> bool:
    """Every rollout is complete, and whoever waits is in trouble that does not end."""
    for rolled in done.pools:
        rollout = rollout_of(snapshot.rows, snapshot.table(POOLS)[snapshot.fleet, rolled.pool])
        if rollout is not None and rollout["state"] == "progressing":
            return False
        if not rolled.waits.keys() <= world.troubled.keys():
            return False
    return True


async def _would_act(world: World, done: Pass, snapshot: Snapshot, elapsed: float) -> bool:
    """Whether the planner would do something then, if nothing changes until then."""
    clock = _Standstill(world.clock.start + timedelta(seconds=elapsed))
    context = replace(world.context, clock=clock)
    for rolled in done.pools:
        if rolled.waits:
            look = Look(context, done.sights)
            planner = Planner("", OWNER, epoch_to_send(context, snapshot, done.sights.values()))
            plan = plan_pool(await view_pool(look, snapshot, rolled.pool), planner, clock.now())
            if plan.events or plan.steps:
                return True
    return False
