"""Nodes in memory whose work takes time on the clock, and who of them is unavailable meanwhile: for `simulate`."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal

from reconciler.ports import (
    ApplyRequest,
    Clock,
    DrainAnswer,
    DrainTask,
    Observation,
    ObserveRequest,
    Receipt,
    Target,
)
from reconciler.transport.memory import MemoryTransport

Reason = Literal["cordoned", "restarting", "touched", "away"]
"""What is the matter with a node: emptied by us, its runtime restarting, written without going down, not reachable."""

DOWN: tuple[Reason, ...] = ("cordoned", "restarting")


@dataclass(frozen=True)
class Pace:
    """Seconds that a node takes to answer, to write files, to reload or restart its runtime, and to be drained."""

    answer: float = 0.0
    write: float = 0.0
    reload: float = 0.0
    restart: float = 0.0
    drain: float = 0.0


class Availability:
    """Who is unavailable now, and the most that ever were at once: per pool, and under "" of all.

    `down` counts nodes that we have taken down, `unavailable` those and the ones that are away. `watch` is called
    after each change.
    """

    def __init__(self, pools: Mapping[str, str | None], watch: Callable[[], None] = lambda: None) -> None:
        self.reasons: dict[str, set[Reason]] = {}
        self.now: Counter[tuple[str, str]] = Counter()
        self.most: Counter[tuple[str, str]] = Counter()
        self._pools = pools
        self.watch = watch

    def mark(self, node: str, reason: Reason, *, on: bool) -> None:
        """The reason holds of the node from now on, or no more."""
        reasons = self.reasons.setdefault(node, set())
        before = _counted(reasons)
        (reasons.add if on else reasons.discard)(reason)
        for kind in before ^ _counted(reasons):
            for scope in {"", self._pools.get(node) or ""}:
                self.now[scope, kind] += 1 if kind not in before else -1
                self.most[scope, kind] = max(self.most[scope, kind], self.now[scope, kind])
        self.watch()


def _counted(reasons: set[Reason]) -> set[str]:
    down = not reasons.isdisjoint(DOWN)
    found = {"down": down, "touched": "touched" in reasons and not down, "unavailable": down or "away" in reasons}
    return {kind for kind, holds in found.items() if holds}


class SimulatedTransport(MemoryTransport):
    """A MemoryTransport on which verbs take their time. What a node has begun it finishes, whoever waits for it."""

    def __init__(self, clock: Clock, pace: Pace, availability: Availability) -> None:
        super().__init__(clock)
        self._pace = pace
        self._availability = availability
        self._under_way: set[asyncio.Task[None]] = set()

    async def observe(self, target: Target, request: ObserveRequest) -> Observation:
        await self._clock.sleep(self._pace.answer)
        return await super().observe(target, request)

    async def apply(self, target: Target, request: ApplyRequest) -> Receipt:
        repeated = request.step in self.node(target.name).receipts
        receipt = await super().apply(target, request)
        if repeated:  # the node only says again what it did then
            await self._clock.sleep(self._pace.answer)
            return receipt
        restarts = any(action.startswith("restart:") for action in request.actions)
        acted = bool(receipt.action)
        # One that was to restart and failed before it did was never down, nor is it touched without going down.
        reason: Reason | None = "touched" if not restarts else "restarting" if acted else None
        seconds = self._pace.answer + (self._pace.write if receipt.written or receipt.restored else 0)
        if acted:  # twice where the old files were put back
            action = self._pace.restart if restarts else self._pace.reload
            seconds += action * (1 if receipt.result == "applied" else 2)
        task = asyncio.create_task(self._last(target.name, reason, seconds))
        self._under_way.add(task)
        task.add_done_callback(self._under_way.discard)
        await asyncio.shield(task)
        return receipt

    async def _last(self, node: str, reason: Reason | None, seconds: float) -> None:
        if reason is not None:
            self._availability.mark(node, reason, on=True)
        await self._clock.sleep(seconds)
        if reason is not None:
            self._availability.mark(node, reason, on=False)


class SimulatedDrainer:
    """ports.Drainer: a node is empty `seconds` after draining began. Nodes in `stuck` never get empty, and those in
    `kept` cannot be given work again."""

    def __init__(self, clock: Clock, seconds: float, availability: Availability) -> None:
        self.stuck: set[str] = set()
        self.kept: set[str] = set()
        self._clock = clock
        self._seconds = seconds
        self._availability = availability
        self._empty: dict[str, datetime] = {}

    async def cordon(self, task: DrainTask) -> DrainAnswer:
        self._availability.mark(task.target.name, "cordoned", on=True)
        return DrainAnswer("done")

    async def drain(self, task: DrainTask) -> DrainAnswer:
        name, now = task.target.name, self._clock.now()
        if name in self.stuck and task.force:
            return DrainAnswer("done", forced=("the work there (scripted)",))
        if name in self.stuck:
            return DrainAnswer("again", "the work there cannot be moved (scripted)")
        empty = self._empty.setdefault(name, now + timedelta(seconds=self._seconds))
        if now < empty:
            left = (empty - now).total_seconds()
            return DrainAnswer("again", f"work is being moved until {empty:%H:%M:%SZ}", after=left)
        return DrainAnswer("done")

    async def uncordon(self, task: DrainTask) -> DrainAnswer:
        if task.target.name in self.kept:
            return DrainAnswer("again", "no work can be put there again (scripted)")
        self._empty.pop(task.target.name, None)
        self._availability.mark(task.target.name, "cordoned", on=False)
        return DrainAnswer("done")
