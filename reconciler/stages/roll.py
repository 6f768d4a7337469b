"""Roll out: plan each pool, begin its steps by one append, carry them out, append outcomes; until nothing is left.

A step is begun by StepStarted, appended expecting the pool's and the node's stream: of two replicas one loses and
plans again. A step whose owner died is sent again under the same step id (DESIGN §6, §7). Nodes are independent: as
soon as some are done, their outcomes are recorded together and the pool is planned again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from reconciler.errors import WrongExpectation
from reconciler.events.catalogue import (
    AdoptionAsked,
    Event,
    NodeDeferred,
    ReleaseAsked,
    StepStarted,
    StepTakenOver,
    WaveStarted,
)
from reconciler.events.codec import decode
from reconciler.events.envelope import node_stream, pool_stream
from reconciler.faults import fault_point
from reconciler.ports import EventFilter, LogHead, Snapshot
from reconciler.projections.openshift import cluster_pools
from reconciler.projections.tables import NODE_STATES, POOLS
from reconciler.registries.model import canonical_json
from reconciler.rollout.plan import Plan, Planner, plan_pool
from reconciler.rollout.pools import Pool
from reconciler.rollout.views import PoolView
from reconciler.stages.context import Context, Progress, anew
from reconciler.stages.drain import is_ours
from reconciler.stages.inventory import kept_from_cluster
from reconciler.stages.restores import REMEDY, contradicted, epoch_of, epoch_to_send
from reconciler.stages.sight import Sight
from reconciler.stages.turn import GIVING, Begun, Ended, take_turn
from reconciler.stages.view import Look, view_pool

GATHER = 4
GATHER_MOST = 1.0
"""After a step has ended, others get this many times as long to end, too, as recording and planning took last time, at
most so many seconds: their outcomes are one append, and a fleet whose nodes end one by one is not planned for each."""

PASSING = ("waits for maxParallel", "waits for maxUnavailable", "waits for the canary", "waits for its wave")
"""Reasons to wait that pass by themselves."""

BRINGS_NOTHING = ("uncordon", *GIVING)
"""Purposes of steps that bring no file set."""


@dataclass
class Rolled:
    """What a pass did to one pool, and what waits. `moving`: something is under way that will need another pass."""

    pool: str
    acted: int = 0
    settled: int = 0
    total: int = 0
    failed: dict[str, str] = field(default_factory=dict)
    waits: Mapping[str, str] = field(default_factory=dict)
    moving: bool = False


async def roll(context: Context, sights: Mapping[str, Sight]) -> list[Rolled]:
    """Roll all pools at once, each at its own pace. What goes wrong in one is raised when all have come to an end."""
    snapshot = await context.snapshot()
    apart = cluster_pools(context.name, snapshot.rows)  # rolled out by MCO
    names = sorted(key[1] for key, row in snapshot.table(POOLS).items() if row["spec"] and key[1] not in apart)
    pools = [_PoolRoll(context, name, sights) for name in names]
    ends = await asyncio.gather(*(pool.run() for pool in pools), return_exceptions=True)
    rolled = []
    for end in ends:
        if isinstance(end, BaseException):
            raise end
        rolled.append(end)
    _follow_those_ahead(snapshot, rolled)
    return rolled


def _follow_those_ahead(snapshot: Snapshot, rolled: Sequence[Rolled]) -> None:
    """A pool that waits for one that moved needs another pass, too."""
    moved = {done.pool for done in rolled if done.moving or done.acted}
    for done in rolled:
        after = snapshot.table(POOLS)[snapshot.fleet, done.pool]["spec"]["after"]
        done.moving = done.moving or bool(done.waits and moved & set(after))


class _PoolRoll:
    """One pool in one pass."""

    def __init__(self, context: Context, name: str, sights: Mapping[str, Sight]) -> None:
        self.context, self.name, self.sights = context, name, sights
        self.look = Look(context, sights)
        self.done = Rolled(name)
        self.running: set[asyncio.Task[Ended]] = set()
        self.outdated = False
        self.wave = ""
        self.clock = asyncio.get_running_loop().time
        self.since = self.clock()
        """When the last outcomes came in, or the pass began."""

    async def run(self) -> Rolled:
        try:
            while await self._advance() or self.running:
                if self.running:
                    await self._collect()
        except asyncio.CancelledError:
            self.context.stopping = True  # a drain that waits is left to the next process
            raise
        finally:
            if self.running:  # something went wrong: what nodes are doing is not cut off in the middle
                await asyncio.gather(*self.running, return_exceptions=True)
        return self.done

    async def _advance(self) -> bool:
        """Plan, and begin what may be begun; whether planning again at once may find more."""
        if self.context.stopping:
            return False
        snapshot = await self.context.snapshot()
        if not (snapshot.one(POOLS, self.context.name, self.name) or {}).get("spec"):
            return False  # the pool was removed meanwhile; what its nodes are doing is brought to an end
        if why := contradicted(snapshot):
            mine = [name for name, sight in self.sights.items() if sight.pool == self.name]
            self.done.waits = dict.fromkeys(mine, f"{why}: {REMEDY}")
            return False
        view = await view_pool(self.look, snapshot, self.name)
        epoch = epoch_to_send(self.context, snapshot, self.sights.values())
        planner = Planner(self.context.name, self.context.owner, epoch)
        plan = plan_pool(view, planner, self.context.clock.now())
        self.done.settled = sum(not (node.behind or node.drifted) for node in view.nodes)
        self.done.total, self.done.waits = len(view.nodes), plan.waits
        try:
            begun = await self._begin(snapshot, view, plan)
        except WrongExpectation:
            self.done.moving = True
            await asyncio.sleep(0)
            return True
        self.wave = _latest_wave(view, plan)
        self.look.tried.update(one.step.node for one in begun)
        wanted = {node.name: node.back or node.target for node in view.nodes}
        # A step that was taken over may bring what nobody wants any more; the node's turn comes in the next pass.
        # So does that of one that was taken from another log: what stands there is its base only from then on.
        steps = [one.step for one in begun if one.step.purpose not in ("uncordon", "release")]
        self.outdated |= any(step.purpose == "adopt" or step.files != wanted[step.node] for step in steps)
        self.running |= {asyncio.create_task(self._turn(view.pool, one)) for one in begun}
        if not begun:
            self.done.moving = self.outdated or _moving(snapshot, view, plan)
        return bool(plan.events) and not begun

    async def _turn(self, pool: Pool, begun: Begun) -> Ended:
        return await take_turn(self.context, pool, begun, self.sights[begun.step.node])

    async def _collect(self) -> None:
        """Wait until some steps have ended, and append the outcomes of all that have by then as one group."""
        patience = min(GATHER_MOST, GATHER * (self.clock() - self.since))
        await asyncio.wait(self.running, return_when=asyncio.FIRST_COMPLETED)
        ended, self.running = await asyncio.wait(self.running, timeout=patience)
        self.since = self.clock()
        errors = [error for task in ended if (error := task.exception())]  # asked of each: none is reported by asyncio
        ends = [task.result() for task in ended if not task.exception()]
        fault_point("before-receipt-recorded")
        await anew(lambda: self._record(ends))
        if errors:
            raise errors[0]
        for end in ends:
            node = end.step.node
            if end.failed:
                self.done.failed[node] = end.failed
            self.done.acted += 1
            self.done.settled = min(self.done.total, self.done.settled + (not end.failed))
            message = f"{node}: {end.failed}" if end.failed else f"{node} {end.said} ({end.step.purpose})"
            stage = f"pool {self.name}"
            self.context.progress(Progress(stage, message, self.done.settled, self.done.total, self.wave))
        fault_point("between-nodes")

    async def _record(self, ends: Sequence[Ended]) -> None:
        """Append the outcomes as one group, less those of steps that others took over meanwhile."""
        snapshot = await self.context.snapshot()
        events, streams = [], []
        for end in ends:
            state = snapshot.one(NODE_STATES, self.context.name, end.step.node) or {}
            if is_ours(self.context, state, end.step):
                bodies = end.events(state.get("drift") or ())
                events += self.context.events(snapshot, bodies, correlation=state.get("step_cause"))
                streams.append(node_stream(self.context.name, end.step.node))
        await self.context.append(events, snapshot, streams)

    async def _begin(self, snapshot: Snapshot, view: PoolView, plan: Plan) -> Sequence[Begun]:
        """Append the plan's events and StepStarted in one group; the steps to run, taken-over ones included."""
        orphans = await self._orphans(snapshot, view)
        ends = {step.step: _ends(view.pool, step, epoch_of(snapshot)) for step in orphans}
        taken = [step for step in orphans if not ends[step.step]]
        bodies: list[Event] = [*plan.events, *_orphan_events(orphans, ends, self.context.owner), *plan.steps]
        if not bodies:
            return ()
        events, asked = [], await self._asked_for(plan.steps)
        for body in bodies:
            cause = asked.get(body.step) if isinstance(body, StepStarted) else None
            events += self.context.events(snapshot, [body], correlation=cause or self._cause(snapshot, body))
        nodes = [body.node for body in bodies if isinstance(body, (StepStarted, StepTakenOver, NodeDeferred))]
        streams = [pool_stream(self.context.name, self.name), *(node_stream(self.context.name, node) for node in nodes)]
        stored = await self.context.append(events, snapshot, streams)
        fault_point("after-step-started")
        fences = {e.body.step: e.position for e in stored if isinstance(e.body, (StepStarted, StepTakenOver))}
        head = LogHead(stored[-1].position, stored[-1].hash.hex())
        return [
            Begun(step, fences[step.step], head, _phase(snapshot, step), _asked(snapshot, step), step in taken)
            for step in (*plan.steps, *taken)
        ]

    async def _asked_for(self, steps: Sequence[StepStarted]) -> Mapping[str, str]:
        """By step, the root of the person's word that it carries out."""
        found: dict[str, str] = {}
        for step in steps:
            if step.purpose in GIVING:
                types = (ReleaseAsked.__name__, AdoptionAsked.__name__)
                asked = EventFilter(self.context.name, node=step.node, types=types, newest_first=True, limit=1)
                for event in await self.context.log.read(asked):
                    found[step.step] = str(event.correlation_id)
        return found

    def _cause(self, snapshot: Snapshot, body: Event) -> str | None:
        """The root of what is begun: the drift that a repair repairs, or what last changed the pool's content."""
        if isinstance(body, StepStarted) and body.purpose == "repair":
            state = snapshot.one(NODE_STATES, self.context.name, body.node)
            return state["drift_cause"] if state else None
        row = snapshot.one(POOLS, self.context.name, self.name)
        return row["cause"] if row else None

    async def _orphans(self, snapshot: Snapshot, view: PoolView) -> list[StepStarted]:
        """Open steps whose owner's lease ran out, to be sent again as they were.

        Also our own that are not in hand: they were forgotten when a pass failed in the middle.
        """
        free = [n.name for n in view.nodes if not (n.tried or kept_from_cluster(snapshot, view.pool, n.name))]
        rows = [snapshot.one(NODE_STATES, self.context.name, name) for name in free]
        states = [row for row in rows if row is not None and row["step"] is not None]
        if not states:
            return []
        live = set((await self.context.leases.live("owner/")).values()) - {self.context.owner}
        found = []
        for state in states:
            if state["step_owner"] in live:
                continue
            data = canonical_json({**state["step_data"], "owner": self.context.owner})
            step = decode(StepStarted.__name__, StepStarted.schema_version, data)
            assert isinstance(step, StepStarted)  # noqa: S101  decoded as such
            found.append(step)
        return found


def _ends(pool: Pool, step: StepStarted, epoch: int) -> str:
    """Why an orphan is not taken over, or nothing. A pool that only observes by now has nothing written any more, but
    for what a person asked for by name. What a step was to a restored log, its node may have long left behind."""
    if not pool.enforces and step.purpose not in BRINGS_NOTHING:
        return "its owner ended, and the pool only observes now"
    if step.epoch < epoch and step.purpose != "uncordon":
        return "it was begun before the log was restored"
    return ""


def _orphan_events(steps: Sequence[StepStarted], ends: Mapping[str, str], owner: str) -> list[Event]:
    """An orphan is taken over, or ends as it is."""
    return [
        NodeDeferred(step.node, step.pool, step.step, reason, lost=True)
        if (reason := ends[step.step])
        else StepTakenOver(step.pool, step.node, step.step, owner)
        for step in steps
    ]


def _phase(snapshot: Snapshot, step: StepStarted) -> str:
    """How far a step that is taken over had come; a new one has only begun."""
    state = snapshot.one(NODE_STATES, snapshot.fleet, step.node) or {}
    return str(state["phase"]) if state.get("step") == step.step else "begun"


def _latest_wave(view: PoolView, plan: Plan) -> str:
    """The wave that the pool's nodes are in, in words; empty where there is none."""
    begun = [wave for wave in plan.events if isinstance(wave, WaveStarted)]
    if begun:
        return "canary" if begun[-1].kind == "canary" else f"wave {begun[-1].wave}"
    rollout = view.rollout
    if rollout is None or rollout.state != "progressing" or not rollout.waves:
        return ""
    return "canary" if rollout.waves[-1].kind == "canary" else f"wave {len(rollout.waves)}"


def _asked(snapshot: Snapshot, step: StepStarted) -> Mapping[str, Any]:
    state = snapshot.one(NODE_STATES, snapshot.fleet, step.node) or {}
    return state.get("asked") or {} if step.purpose in GIVING else {}


def _moving(snapshot: Snapshot, view: PoolView, plan: Plan) -> bool:
    """Whether waiting (a canary's soak, somebody else's step) will change something."""
    soon = any(why in PASSING or why.startswith("canary soaks") for why in plan.waits.values())
    goes_back = any(node.back and node.back != node.applied and not node.out for node in view.nodes)
    steps = any(node.step and not kept_from_cluster(snapshot, view.pool, node.name) for node in view.nodes)
    return soon or (goes_back and not view.locks) or steps
