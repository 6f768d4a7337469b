"""Roll out: plan each pool, begin its steps by one append, run them, append their outcomes; until nothing is left.

A step is begun by StepStarted, appended expecting the pool's and the node's stream: of two replicas one loses and
plans again. A step whose owner died is sent again under the same step id (DESIGN §6, §7).
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any

from reconciler.errors import NodeError, WrongExpectation
from reconciler.events.catalogue import Event, NodeDeferred, StepStarted, StepTakenOver
from reconciler.events.codec import decode
from reconciler.events.envelope import node_stream, pool_stream
from reconciler.faults import fault_point
from reconciler.ports import ApplyRequest, FileContent, Job, Receipt, Snapshot
from reconciler.projections.desired import base_of
from reconciler.projections.tables import NODE_STATES, POOLS, RENDERS, ROLLOUTS, Row
from reconciler.registries.model import canonical_json
from reconciler.rollout.plan import NodeView, Plan, PoolView, RolloutView, plan_pool
from reconciler.rollout.pools import Pool
from reconciler.stages.changes import Changes
from reconciler.stages.context import EPOCH, Context, FileSet, Progress, anew, decode_file_set
from reconciler.stages.guard import blocked_targets
from reconciler.stages.observe import Sight, file_sets, is_unread, wanted_files
from reconciler.stages.outcome import outcome_events
from reconciler.stages.ways import Ways

RETRY_FIRST = 30
RETRY_DOUBLINGS = 7
"""A node that failed by itself, or a second time refused its step, is tried again after 30 s, doubling up to about an
hour."""


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


@dataclass(frozen=True)
class Begun:
    """A step to send, and its fence: the position of StepStarted or StepTakenOver."""

    step: StepStarted
    fence: int


async def roll(context: Context, sights: Mapping[str, Sight]) -> list[Rolled]:
    """Roll all pools at once, each at its own pace. What goes wrong in one is raised when all have come to an end."""
    snapshot = await context.snapshot()
    names = sorted(key[1] for key, row in snapshot.table(POOLS).items() if row["spec"])
    ends = await asyncio.gather(*(_roll_pool(context, name, sights) for name in names), return_exceptions=True)
    rolled = []
    for end in ends:
        if isinstance(end, BaseException):
            raise end
        rolled.append(end)
    return rolled


async def _roll_pool(context: Context, name: str, sights: Mapping[str, Sight]) -> Rolled:
    done = Rolled(name)
    tried: set[str] = set()
    changes, ways = Changes(context), Ways(context)
    outdated = False
    while not context.stopping:
        snapshot = await context.snapshot()
        view = await view_pool(context, snapshot, name, sights, changes, ways, tried)
        done.settled, done.total = sum(not (n.behind or n.drifted) for n in view.nodes), len(view.nodes)
        plan = plan_pool(view, context.name, context.owner, EPOCH, context.clock.now())
        done.waits = plan.waits
        try:
            begun = await _begin(context, snapshot, view, plan, tried)
        except WrongExpectation:
            done.moving = True
            await asyncio.sleep(0)
            continue
        if not begun:
            done.moving = outdated or _moving(view, plan)
            if plan.events:
                continue
            return done
        tried.update(one.step.node for one in begun)
        wanted = {node.name: node.target for node in view.nodes}
        # A step that was taken over may bring what nobody wants any more; the node's turn comes in the next pass.
        outdated = outdated or any(one.step.files != wanted[one.step.node] for one in begun)
        await _run(context, view.pool, begun, sights, done)
    return done


async def _begin(context: Context, snapshot: Snapshot, view: PoolView, plan: Plan, tried: set[str]) -> Sequence[Begun]:
    """Append the plan's events and StepStarted in one group; the steps to run, taken-over ones included."""
    orphans = await _orphans(context, snapshot, view, tried)
    taken = orphans if view.pool.enforces else []
    bodies: list[Event] = [*plan.events, *_orphan_events(view.pool, orphans, context.owner), *plan.steps]
    if not bodies:
        return ()
    row = snapshot.one(POOLS, context.name, view.pool.name)
    events = []
    for body in bodies:
        cause = row["cause"] if row else None
        if isinstance(body, StepStarted) and body.purpose == "repair":
            state = snapshot.one(NODE_STATES, context.name, body.node)
            cause = state["drift_cause"] if state else cause
        events += context.events(snapshot, [body], correlation=cause)
    nodes = [body.node for body in bodies if isinstance(body, (StepStarted, StepTakenOver, NodeDeferred))]
    streams = [pool_stream(context.name, view.pool.name), *(node_stream(context.name, node) for node in nodes)]
    stored = await context.append(events, snapshot, streams)
    fault_point("after-step-started")
    fences = {
        event.body.step: event.position for event in stored if isinstance(event.body, (StepStarted, StepTakenOver))
    }
    return [Begun(step, fences[step.step]) for step in (*plan.steps, *taken)]


async def _orphans(context: Context, snapshot: Snapshot, view: PoolView, tried: set[str]) -> list[StepStarted]:
    """Open steps whose owner's lease ran out, to be sent again as they were.

    Also our own: this pool has none in hand now, so what is open was forgotten when a pass failed in the middle.
    """
    live = set((await context.leases.live("owner/")).values()) - {context.owner}
    found = []
    for node in view.nodes:
        state = snapshot.one(NODE_STATES, context.name, node.name)
        if state is None or state["step"] is None or state["step_owner"] in live or node.name in tried:
            continue
        data = canonical_json({**state["step_data"], "owner": context.owner})
        step = decode(StepStarted.__name__, StepStarted.schema_version, data)
        assert isinstance(step, StepStarted)  # noqa: S101  decoded as such
        found.append(step)
    return found


def _orphan_events(pool: Pool, steps: Sequence[StepStarted], owner: str) -> list[Event]:
    """An orphan is taken over; in a pool that only observes by now it ends as it is, for that would write."""
    if pool.enforces:
        return [StepTakenOver(pool.name, step.node, step.step, owner) for step in steps]
    reason = "its owner ended, and the pool only observes now"
    return [NodeDeferred(step.node, step.pool, step.step, reason, lost=True) for step in steps]


async def _run(context: Context, pool: Pool, begun: Sequence[Begun], sights: Mapping[str, Sight], done: Rolled) -> None:
    """Send every step, many nodes at once, then append all outcomes as one group."""
    jobs = [await _job(context, pool, one, sights[one.step.node]) for one in begun]
    answers = await context.runner.apply(jobs)
    fault_point("before-receipt-recorded")
    await anew(lambda: _record(context, begun, answers))
    for one, answer in zip(begun, answers, strict=True):
        if isinstance(answer, NodeError) or answer.result not in ("applied", "same"):
            done.failed[one.step.node] = _reason(answer)
    done.acted += len(begun)
    _tell(context, pool.name, begun, done)
    fault_point("between-nodes")


async def _record(context: Context, begun: Sequence[Begun], answers: Sequence[Receipt | NodeError]) -> None:
    """Append the outcomes as one group, less those of steps that others took over and ended meanwhile."""
    snapshot = await context.snapshot()
    events, streams = [], []
    for step, answer in zip((one.step for one in begun), answers, strict=True):
        state = snapshot.one(NODE_STATES, context.name, step.node) or {}
        if state.get("step") == step.step:
            bodies = outcome_events(step, answer, state.get("drift") or ())
            events += context.events(snapshot, bodies, correlation=state.get("step_cause"))
            streams.append(node_stream(context.name, step.node))
    await context.append(events, snapshot, streams)


def _tell(context: Context, pool: str, begun: Sequence[Begun], done: Rolled) -> None:
    for one in begun:
        why = done.failed.get(one.step.node)
        done.settled += why is None
        message = f"{one.step.node}: {why}" if why else f"{one.step.node} converged ({one.step.purpose})"
        context.progress(Progress(f"pool {pool}", message, done.settled, done.total))


def _reason(answer: Receipt | NodeError) -> str:
    if isinstance(answer, NodeError):
        return answer.what
    return f"{answer.reason}: {answer.detail}" if answer.detail else answer.reason


async def _job(context: Context, pool: Pool, begun: Begun, sight: Sight) -> Job:
    step = begun.step
    target = decode_file_set((await context.load([step.files]))[step.files])
    contents = await context.load(entry.sha256 for entry in target.entries)
    files = tuple(FileContent(entry.path, contents[entry.sha256], entry.mode) for entry in target.entries)
    return Job(
        sight.target,
        ApplyRequest(
            context.log.log_id,
            step.epoch,
            begun.fence,
            step.step,
            pool.runtime,
            files,
            step.restore,
            step.start,
            step.actions,
        ),
    )


async def view_pool(
    context: Context,
    snapshot: Snapshot,
    name: str,
    sights: Mapping[str, Sight],
    changes: Changes,
    ways: Ways,
    tried: set[str],
) -> PoolView:
    """The planner's view of a pool: rows of the log, and this pass's observations."""
    row = snapshot.table(POOLS)[context.name, name]
    pool = Pool(name, row["spec"])
    sets = await file_sets(context, snapshot)
    mine = [sight for sight in sights.values() if sight.pool == name]
    blocked = await blocked_targets(context, snapshot, pool, mine, sets, ways)
    own = {key[2] for key in snapshot.table(RENDERS) if key[1] == name and key[2]}
    nodes = []
    for sight in sorted(mine, key=lambda sight: sight.name):
        state = snapshot.one(NODE_STATES, context.name, sight.name) or {}
        present = replace(sight, state=state)
        wanted = wanted_files(snapshot, present)
        if state.get("drift") and wanted in blocked:
            wanted = state.get("files")  # it may not go on, but what it has is kept
        node = await _view_node(context, snapshot, pool, present, wanted, own, sets, changes, tried)
        nodes.append(replace(node, blocked=blocked.get(wanted or "", "")))
    rollout = snapshot.one(ROLLOUTS, context.name, name, row["rollout"]) if row["rollout"] else None
    version = snapshot.version(pool_stream(context.name, name))
    return PoolView(pool, nodes, version, _rollout(rollout) if rollout else None, row["commit"])


def _rollout(row: Row) -> RolloutView:
    return RolloutView(row["rollout"], row["state"], row["targets"], row["started_at"])


async def _view_node(
    context: Context,
    snapshot: Snapshot,
    pool: Pool,
    sight: Sight,
    wanted: str | None,
    own: set[str],
    sets: Mapping[str, FileSet],
    changes: Changes,
    tried: set[str],
) -> NodeView:
    state = sight.state
    view = NodeView(
        name=sight.name,
        base=base_of(snapshot.fleet, snapshot.rows, pool.name, state) or "",
        target=wanted,
        applied=state.get("files"),
        unproven=bool(state.get("unproven")),
        drifted=bool(state.get("drift")),
        drift_cause=state.get("drift_cause"),
        converged_at=state.get("converged_at"),
        step=state.get("step"),
        failed=state.get("failed"),
        out=sight.out or _waits(context, pool, sight),
        tried=sight.name in tried,
        own=sight.name in own,
    )
    if wanted is None or sight.observation is None or sight.out or not (view.behind or view.drifted) or view.tried:
        return view
    target = sets[wanted]
    applied = sets.get(view.applied or "", FileSet(()))
    base_files = state.get("base_files") or {}
    ours = (*applied.entries, *sight.unproven.entries)
    gone = {e.path: base_files.get(e.path) for e in ours if e.path not in target.by_path}
    unread = {path for path, file in sight.observation.files.items() if is_unread(sight, file)}
    start, change = await changes.between(pool, sight.observation, target, gone, unread)
    return replace(view, start=start, change=change, restore=tuple(sorted(gone)))


def _waits(context: Context, pool: Pool, sight: Sight) -> str:
    """Why a node that answers is not begun now, or nothing."""
    state = sight.state
    if state.get("step"):
        return f"step in progress by {state['step_owner']}"
    seen = sight.observation
    if seen is not None and pool.runtime == "crio" and seen.active not in ("active", "reloading", ""):
        return f"{seen.unit} was {seen.active} before the change; it is not begun on an unhealthy node"
    if context.retry_now:
        return ""
    failed, deferred = state.get("failed"), state.get("deferred")
    # A repair has nobody's new content to blame, and no newer commit to wait for.
    if failed and (failed["blame"] == "node" or failed["files"] == state.get("files")):
        return _pause("failed", failed, 1, context.clock.now())
    return _pause("deferred", deferred, 2, context.clock.now()) if deferred else ""


def _pause(what: str, past: Mapping[str, Any], free: int, now: datetime) -> str:
    """Until when a node is left alone that came to nothing `attempts` times, or nothing; `free` begins to wait."""
    attempts = int(past["attempts"])
    if attempts < free:
        return ""
    again = datetime.fromisoformat(past["at"]) + timedelta(
        seconds=RETRY_FIRST * 2 ** min(attempts - free, RETRY_DOUBLINGS)
    )
    return f"{what} {attempts} times ({past['reason']}); next try at {again:%H:%M:%SZ}" if now < again else ""


def _moving(view: PoolView, plan: Plan) -> bool:
    """Whether waiting (a canary's soak, somebody else's step) will change something."""
    open_steps = any(node.step for node in view.nodes)
    soaking = any(why.startswith(("canary soaks", "waits for")) for why in plan.waits.values())
    return open_steps or soaking
