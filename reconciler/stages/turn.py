"""One node's turn: cordon and drain where its pool does so, apply, uncordon; and what that means in events.

Every part may be repeated. A turn that is taken over cordons and drains again, for its owner may have uncordoned the
node just before it ended; the node answers a step that it has finished with its stored receipt.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Any, Literal

from reconciler.errors import NodeError
from reconciler.events.catalogue import (
    DrainBlocked,
    Event,
    NodeCordoned,
    NodeDeferred,
    NodeDrained,
    NodeUncordoned,
    PoolConfigured,
    StepStarted,
)
from reconciler.events.envelope import node_stream
from reconciler.faults import fault_point
from reconciler.ports import (
    ApplyRequest,
    ConfirmRequest,
    DrainAnswer,
    Drainer,
    DrainTask,
    EventFilter,
    FileContent,
    HealthCheck,
    Job,
    LogHead,
    Receipt,
    ReleaseRequest,
)
from reconciler.projections.tables import NODE_STATES
from reconciler.rollout.pools import Pool
from reconciler.stages.context import Context, anew
from reconciler.stages.outcome import outcome_events
from reconciler.stages.sight import Sight

DRAIN_AGAIN = 5
DRAIN_LATER = 60
"""Seconds between two tries to empty a node: at first, and at most."""

UNCORDON_TRIES = 3
TAKEN_OVER = "another process has taken the step over"
GOOD = ("applied", "same", "confirmed", "released")
GIVING = ("release", "adopt")
"""Purposes of steps that end who owns a node."""


@dataclass(frozen=True)
class Begun:
    """A step to carry out, its fence (the position of StepStarted or StepTakenOver), the end of the log then, and how
    far the step had come."""

    step: StepStarted
    fence: int
    head: LogHead
    phase: str = "begun"
    asked: Mapping[str, Any] = field(default_factory=dict)
    """What a person asked for, where the step is about that."""


@dataclass(frozen=True)
class Ended:
    """How a turn ended: the node's answer, or why it was not asked. `failed` is empty where all went well."""

    step: StepStarted
    answer: Receipt | NodeError | None
    blocked: str = ""
    confirmation: Receipt | NodeError | None = None
    checks: tuple[str, ...] = ()
    uncordon: DrainAnswer | None = None
    sent: bool = False
    """Although it was not asked now, the node may have been before."""
    asked: Mapping[str, Any] = field(default_factory=dict)

    @property
    def failed(self) -> str:
        if self.blocked:
            return self.blocked
        for answer in (self.answer, self.confirmation):
            if isinstance(answer, NodeError):
                return answer.what
            if answer is not None and answer.result not in GOOD:
                return f"{answer.reason}: {answer.detail}" if answer.detail else answer.reason
        return f"not uncordoned: {self.uncordon.detail}" if self.uncordon and self.uncordon.state != "done" else ""

    @property
    def said(self) -> str:
        if self.answer is None:
            return "uncordoned"
        return {"release": "released", "adopt": "adopted"}.get(self.step.purpose, "converged")

    def events(self, drift: Sequence[Mapping[str, Any]]) -> list[Event]:
        """What happened, in order; the last event ends the step. `drift` is what a repair set right."""
        step = self.step
        uncordoned: list[Event] = [NodeUncordoned(step.node, step.pool, step.step)] if self._is_uncordoned else []
        if self.blocked:
            blocked = DrainBlocked(step.node, step.pool, step.step, self.blocked)
            return [blocked, *uncordoned, NodeDeferred(step.node, step.pool, step.step, self.blocked, self.sent)]
        if self.answer is None:
            return uncordoned or [NodeDeferred(step.node, step.pool, step.step, self.failed)]
        repaired = [item for item in drift if item["path"] not in step.keep]
        *before, end = outcome_events(step, self.answer, self.confirmation, self.checks, repaired, self.asked)
        return [*before, *uncordoned, end]

    @property
    def _is_uncordoned(self) -> bool:
        return self.uncordon is not None and self.uncordon.state == "done"


async def take_turn(context: Context, pool: Pool, begun: Begun, sight: Sight) -> Ended:
    """Carry out one step. Node trouble is an answer, never an exception."""
    turn = _Turn(context, pool, begun, sight)
    if begun.step.purpose == "uncordon":
        return Ended(begun.step, None, uncordon=await turn.uncordon())
    if begun.step.effective != "drain":
        return await turn.apply()
    if blocked := await turn.empty():
        if not await turn.is_ours():
            return Ended(begun.step, None, TAKEN_OVER)
        uncordoned = await turn.uncordon()
        return Ended(begun.step, None, blocked, uncordon=uncordoned, sent=begun.phase == "drained")
    if not await turn.is_ours():
        return Ended(begun.step, None, TAKEN_OVER)
    ended = await turn.apply()
    fault_point("before-uncordon")
    if not await turn.is_ours():
        return ended
    return replace(ended, uncordon=await turn.uncordon())


def is_ours(context: Context, state: Mapping[str, Any], step: StepStarted) -> bool:
    """Whether the node's row still says that this process carries out the step."""
    return state.get("step") == step.step and state.get("step_owner") == context.owner


class _Turn:
    def __init__(self, context: Context, pool: Pool, begun: Begun, sight: Sight) -> None:
        self.context, self.pool, self.begun, self.sight = context, pool, begun, sight
        self.step = begun.step
        settings = pool.spec["drain"]
        self.drainer = context.drainers.get(settings["via"])
        self.task = DrainTask(sight.target, pool.name, self.step.step, context.log.log_id, settings)

    async def is_ours(self) -> bool:
        """A drain takes long enough for our lease to run out: what another has taken over by now is left to it."""
        snapshot = await self.context.snapshot()
        return is_ours(self.context, snapshot.one(NODE_STATES, self.context.name, self.step.node) or {}, self.step)

    async def empty(self) -> str:
        """Cordon and drain, and record what is not in the log yet; why it cannot be done, or nothing."""
        settings = self.pool.spec["drain"]
        deadline = self.context.clock.now() + timedelta(seconds=settings["timeout"])
        if why := await self._until("cordon", deadline):
            return f"not cordoned: {why}"
        if self.begun.phase == "begun":
            await self._record(NodeCordoned(self.step.node, self.step.pool, self.step.step))
            fault_point("after-cordon")
        why = await self._until("drain", deadline)
        if why and settings["onTimeout"] == "abort":
            return f"not drained: {why}"
        if self.begun.phase != "drained":
            await self._record(NodeDrained(self.step.node, self.step.pool, self.step.step, why))
            fault_point("after-drain")
        return ""

    async def uncordon(self) -> DrainAnswer:
        """A few tries; where they fail, the planner makes another turn of it."""
        drainer, task = await self._uncordoner()
        if drainer is None:
            return DrainAnswer("done", "nobody cordoned it")
        answer = await drainer.uncordon(task)
        for _ in range(UNCORDON_TRIES - 1):
            if answer.state == "done":
                break
            await self.context.clock.sleep(DRAIN_AGAIN)
            answer = await drainer.uncordon(task)
        return answer

    async def _uncordoner(self) -> tuple[Drainer | None, DrainTask]:
        """As the pool drains now; where it does not any more, as it did when the node was last cordoned."""
        if self.drainer is not None:
            return self.drainer, self.task
        latest = EventFilter(self.context.name, types=("StepStarted",), node=self.step.node, newest_first=True)
        for event in await self.context.log.read(latest):
            if isinstance(event.body, StepStarted) and event.body.effective == "drain":
                settings = await self._drained_by(event.body.pool, event.position)
                return self.context.drainers.get(settings["via"]), replace(self.task, settings=settings)
        return None, self.task

    async def _drained_by(self, pool: str, position: int) -> Mapping[str, Any]:
        """How the pool drained its nodes at a position."""
        wanted = EventFilter(self.context.name, types=("PoolConfigured",), pool=pool, until=position)
        found = await self.context.log.read(replace(wanted, newest_first=True, limit=1))
        spec = found[0].body.spec if found and isinstance(found[0].body, PoolConfigured) else {}
        return {**self.pool.spec["drain"], **spec.get("drain", {})}

    async def apply(self) -> Ended:
        """Send the files; where the node would undo them by itself, confirm them over a look of its own."""
        if self.step.purpose in GIVING:
            return await self._give()
        answer = (await self.context.runner.apply([await self._job()]))[0]
        confirmation = None
        if isinstance(answer, Receipt) and answer.result == "applied" and answer.confirm_by:
            fault_point("before-confirm")
            step = self.step
            request = ConfirmRequest(
                self.context.log.log_id, step.epoch, self.begun.fence, step.step, self.pool.runtime, self.begun.head
            )
            confirmation = (await self.context.runner.confirm([(self.sight.target, request)]))[0]
        return Ended(self.step, answer, confirmation=confirmation, checks=self.pool.check_names)

    async def _give(self) -> Ended:
        """Let the node be nobody's: ours, or the other log's that owned it when a person took it."""
        step, asked, log_id = self.step, self.begun.asked, self.context.log.log_id
        if step.purpose == "adopt":
            owner = (asked["log_id"], asked["epoch"], asked["fence"])
            request = ReleaseRequest(*owner, step.step, self.pool.runtime, restore=False)
        else:
            runtime, restore = self.pool.runtime, bool(asked["restore"])
            order = (log_id, step.epoch, self.begun.fence, step.step)
            request = ReleaseRequest(*order, runtime, restore, step.actions, self.begun.head)
        answer = (await self.context.runner.release([(self.sight.target, request)]))[0]
        return Ended(step, answer, asked=asked)

    async def _until(self, verb: Literal["cordon", "drain"], deadline: Any) -> str:
        """Try until it is done, cannot be done, or the time is up; why not, or nothing."""
        if self.drainer is None:
            return "the pool does not drain any more"
        pause = DRAIN_AGAIN
        while True:
            answer: DrainAnswer = await getattr(self.drainer, verb)(self.task)
            if answer.state == "done":
                return ""
            if answer.state == "failed":
                return answer.detail
            left = (deadline - self.context.clock.now()).total_seconds()
            if left <= 0 or self.context.stopping:
                return f"not within {self.pool.spec['drain']['timeout']} s: {answer.detail}"
            await self.context.clock.sleep(min(pause, left))
            pause = min(pause * 2, DRAIN_LATER)

    async def _record(self, body: Event) -> None:
        """Append what is done so far, unless somebody else has taken the step over."""

        async def attempt() -> None:
            snapshot = await self.context.snapshot()
            state = snapshot.one(NODE_STATES, self.context.name, self.step.node) or {}
            if is_ours(self.context, state, self.step):
                events = self.context.events(snapshot, [body], correlation=state.get("step_cause"))
                await self.context.append(events, snapshot, [node_stream(self.context.name, self.step.node)])

        await anew(attempt)

    async def _job(self) -> Job:
        step, context = self.step, self.context
        target = await context.load_file_set(step.files)
        contents = await context.load(entry.sha256 for entry in target.entries)
        sent = [entry for entry in target.entries if entry.path not in step.keep]
        files = tuple(FileContent(entry.path, contents[entry.sha256], entry.mode) for entry in sent)
        request = ApplyRequest(
            context.log.log_id,
            step.epoch,
            self.begun.fence,
            step.step,
            self.pool.runtime,
            files,
            step.restore,
            step.start,
            step.actions,
            tuple(
                HealthCheck(check["name"], tuple(check["command"] or ()), check["image"] or "")
                for check in self.pool.spec["healthChecks"]
            ),
            self.pool.confirm_within(self.sight.target.transport),
            act=step.purpose == "repair",
            remove=step.remove,
            head=self.begun.head,
        )
        return Job(self.sight.target, request)
