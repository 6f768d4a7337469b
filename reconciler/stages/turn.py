"""One node's turn: cordon and drain where its pool does so, apply, uncordon; and what that means in events.

Every part may be repeated. A turn that is taken over cordons and drains again, for its owner may have uncordoned the
node just before it ended; the node answers a step that it has finished with its stored receipt.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from reconciler.errors import NodeError
from reconciler.events.catalogue import (
    DrainBlocked,
    Event,
    NodeDeferred,
    NodeUncordoned,
    StepStarted,
)
from reconciler.faults import fault_point
from reconciler.ports import (
    HELPER_CHECK,
    ApplyRequest,
    ConfirmRequest,
    DrainAnswer,
    FileContent,
    HealthCheck,
    Job,
    LogHead,
    Receipt,
    ReleaseRequest,
    manifest_hash,
)
from reconciler.rollout.pools import Pool
from reconciler.stages.changes import shown
from reconciler.stages.context import Context, FileEntry
from reconciler.stages.drain import NodeDrain, is_ours
from reconciler.stages.outcome import outcome_events
from reconciler.stages.sight import Sight

TAKEN_OVER = "another process has taken the step over"
LEFT = "this process is about to end; the step goes on with the next"
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
    taken: bool = False
    """It was begun by a process that has ended."""


@dataclass(frozen=True)
class Ended:
    """How a turn ended: the node's answer, or why it was not asked. `failed` is empty where all went well."""

    step: StepStarted
    answer: Receipt | NodeError | None
    blocked: str = ""
    drain: DrainBlocked | None = None
    """What kept the node from getting empty, where that is not in the log yet."""
    open: bool = False
    """Nothing ended: the process is about to, and the step goes on with the next."""
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
        if self.open:
            return []
        uncordoned: list[Event] = []
        if self.uncordon is not None and self.uncordon.state == "done":
            uncordoned.append(NodeUncordoned(step.node, step.pool, step.step, self.uncordon.kept))
        if self.blocked:
            why = [self.drain] if self.drain else []
            return [*why, *uncordoned, NodeDeferred(step.node, step.pool, step.step, self.blocked, self.sent)]
        if self.answer is None:
            return uncordoned or [NodeDeferred(step.node, step.pool, step.step, self.failed)]
        repaired = [item for item in drift if item["path"] not in step.keep]
        *before, end = outcome_events(step, self.answer, self.confirmation, self.checks, repaired, self.asked)
        return [*before, *uncordoned, end]


async def take_turn(context: Context, pool: Pool, begun: Begun, sight: Sight) -> Ended:
    """Carry out one step. Node trouble is an answer, never an exception."""
    turn, step = _Turn(context, pool, begun, sight), begun.step
    drain = NodeDrain(context, pool, step, sight, phase=begun.phase, taken=begun.taken)
    if step.purpose == "uncordon":
        return Ended(step, None, uncordon=await drain.uncordon())
    if step.effective != "drain":
        return await turn.apply()
    emptied = await drain.empty()
    if emptied.left:
        return Ended(step, None, LEFT, open=True)
    # A drain takes long enough for our lease to run out: what another has taken over by now is left to it.
    if not is_ours(context, await drain.state(), step):
        return Ended(step, None, TAKEN_OVER)
    if emptied.blocked:
        uncordoned = await drain.uncordon()
        sent = begun.phase == "drained"
        return Ended(step, None, emptied.blocked, emptied.said, uncordon=uncordoned, sent=sent)
    ended = await turn.apply()
    fault_point("before-uncordon")
    if not is_ours(context, await drain.state(), step):
        return ended
    return replace(ended, uncordon=await drain.uncordon())


class _Turn:
    def __init__(self, context: Context, pool: Pool, begun: Begun, sight: Sight) -> None:
        self.context, self.pool, self.begun, self.sight = context, pool, begun, sight
        self.step = begun.step

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

    def _checks(self) -> Iterator[HealthCheck]:
        """The pool's own, and that a node can still be reached in the way that needs an image."""
        for check in self.pool.spec["healthChecks"]:
            yield HealthCheck(check["name"], tuple(check["command"] or ()), check["image"] or "")
        if self.sight.target.transport == "kubernetes" and self.context.fleet.helper_image:
            yield HealthCheck(HELPER_CHECK, image=self.context.fleet.helper_image)

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
            tuple(self._checks()),
            self.pool.confirm_within(self.sight.target.transport),
            act=step.purpose == "repair",
            remove=step.remove,
            head=self.begun.head,
            same=self._same(sent),
        )
        return Job(self.sight.target, request)

    def _same(self, sent: Sequence[FileEntry]) -> frozenset[str]:
        """Where the node has its file already, if it was last seen as the step wants it to begin."""
        seen, step = self.sight.observation, self.step
        if seen is None:
            return frozenset()
        states = shown(seen, (*(entry.path for entry in sent), *step.restore, *step.remove))
        if manifest_hash(states) != step.start:
            return frozenset()
        return frozenset(entry.path for entry in sent if states[entry.path] == (entry.sha256, entry.mode))
