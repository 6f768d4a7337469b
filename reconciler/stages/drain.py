"""The part of a node's turn that empties it and gives it work again: tries, pauses, deadlines, and what is recorded.

Nothing is kept here that a turn needs: killed anywhere, another process asks the drainer again, who looks at the node.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any, Literal

from reconciler.events.catalogue import (
    DrainBlocked,
    Event,
    NodeCordoned,
    NodeDrained,
    PoolConfigured,
    StepStarted,
)
from reconciler.events.envelope import node_stream
from reconciler.faults import fault_point
from reconciler.ports import Blocker, DrainAnswer, Drainer, DrainTask, EventFilter
from reconciler.projections.drain_fold import cause_of
from reconciler.projections.tables import NODE_STATES
from reconciler.rollout.pools import Pool
from reconciler.stages.context import Context, Progress, anew
from reconciler.stages.inventory import another_cluster
from reconciler.stages.sight import Sight

AGAIN = 5
LATER = 60
"""Seconds between two tries to empty a node while nothing moves: at first, and at most."""

MOVING = 2
"""Seconds between two tries while all that is left is on its way."""

AWAKE = 5
"""Seconds after which a pause looks whether the process is about to end."""

UNCORDON_TRIES = 3
MOST_PODS = 20
"""Pods that one event names; it counts all."""


@dataclass(frozen=True)
class Emptied:
    """How emptying a node ended. `blocked`: why the turn ends untouched, or nothing; `said` is the event for it, where
    the cause is not in the log yet. `left`: the process is about to end, and the turn goes on with the next."""

    blocked: str = ""
    said: DrainBlocked | None = None
    left: bool = False


def is_ours(context: Context, state: Mapping[str, Any], step: StepStarted) -> bool:
    """Whether the node's row still says that this process carries out the step."""
    return state.get("step") == step.step and state.get("step_owner") == context.owner


class NodeDrain:
    """Empties the node of one step, by its pool's drainer. `taken`: the step was begun by another process."""

    def __init__(
        self, context: Context, pool: Pool, step: StepStarted, sight: Sight, *, phase: str, taken: bool
    ) -> None:
        self.context, self.step, self.phase, self.taken = context, step, phase, taken
        self.settings: Mapping[str, Any] = pool.spec["drain"]
        self.task = DrainTask(sight.target, pool.name, step.step, context.log.log_id, self.settings, step.step)
        self.since: dict[str, str] = dict((sight.state.get("drain_blocked") or {}).get("said") or {}) if taken else {}
        """When the turn first waited for each cause; all of them are in the log."""
        self.forced: list[str] = []

    async def state(self) -> Mapping[str, Any]:
        """The node's row now."""
        return (await self.context.snapshot()).one(NODE_STATES, self.context.name, self.step.node) or {}

    async def empty(self) -> Emptied:
        """Cordon and drain, and record what is not in the log yet."""
        deadline = self.context.clock.now() + timedelta(seconds=self.settings["timeout"])
        answer = await self._until("cordon", self.task, deadline)
        if answer.state != "done":
            return self._not("cordoned", answer, deadline)
        if self.phase == "begun":
            await self._record(NodeCordoned(self.step.node, self.step.pool, self.step.step))
            fault_point("after-cordon")
        answer = await self._until("drain", self.task, deadline)
        if answer.state == "again" and self.settings["onTimeout"] == "force" and not self._ends(deadline):
            deadline = self.context.clock.now() + timedelta(seconds=self.settings["timeout"])
            answer = await self._until("drain", replace(self.task, force=True), deadline)
        if answer.state != "done" and (self.settings["onTimeout"] != "skip" or self._ends(deadline, answer)):
            return self._not("drained", answer, deadline)
        if self.phase != "drained":
            skipped = "" if answer.state == "done" else self._why(answer)
            forced = tuple(sorted(set(self.forced)))
            await self._record(NodeDrained(self.step.node, self.step.pool, self.step.step, skipped, forced))
            fault_point("after-drain")
        return Emptied()

    async def uncordon(self) -> DrainAnswer:
        """A few tries; where they fail, the planner makes another turn of it."""
        mark = self.step.step
        if self.step.purpose == "uncordon":
            mark = (await self.state()).get("cordoned") or mark
        done = DrainAnswer("done", "nobody cordoned it")
        for settings in await self._ways(mark):
            drainer = self.context.drainers.get(settings["via"])
            if drainer is None or (why := await self._forbidden(settings["via"])):
                return DrainAnswer("failed", self._lacking(settings["via"]) if drainer is None else why)
            answer = await self._uncordon(drainer, replace(self.task, settings=settings, mark=mark))
            if answer.state != "done":
                return answer
            done = answer
        return done

    async def _uncordon(self, drainer: Drainer, task: DrainTask) -> DrainAnswer:
        answer = await drainer.uncordon(task)
        for _ in range(UNCORDON_TRIES - 1):
            if answer.state == "done":
                break
            await self.context.clock.sleep(AGAIN)
            answer = await drainer.uncordon(task)
        return answer

    async def _ways(self, mark: str) -> Sequence[Mapping[str, Any]]:
        """How the node may have been cordoned: as the pool drained when the turn `mark` began, and as it drains now."""
        ways = {self.settings["via"]: self.settings}
        if self.taken or self.step.purpose == "uncordon" or self.settings["via"] == "none":
            then = await self._drained_with(mark)
            ways = {then["via"]: then, **ways}
        return [settings for via, settings in ways.items() if via != "none"]

    async def _drained_with(self, mark: str) -> Mapping[str, Any]:
        """How the pool drained its nodes when the turn began; as it does now where nobody knows."""
        begun = EventFilter(self.context.name, types=("StepStarted",), node=self.step.node, newest_first=True)
        for event in await self.context.log.read(begun):
            if isinstance(event.body, StepStarted) and event.body.step == mark:
                wanted = EventFilter(
                    self.context.name, types=("PoolConfigured",), pool=event.body.pool, until=event.position
                )
                found = await self.context.log.read(replace(wanted, newest_first=True, limit=1))
                spec = found[0].body.spec if found and isinstance(found[0].body, PoolConfigured) else {}
                return {**self.settings, **spec.get("drain", {})}
        return self.settings

    async def _until(self, verb: Literal["cordon", "drain"], task: DrainTask, deadline: datetime) -> DrainAnswer:
        """Try until it is done, cannot be done, the time is up, the step is another process's, or this one is about to
        end: the last answer."""
        drainer = self.context.drainers.get(self.settings["via"])
        if drainer is None:
            return DrainAnswer("failed", self._lacking(self.settings["via"]))
        tries = 0
        while True:
            if why := await self._forbidden(self.settings["via"]):
                return DrainAnswer("failed", why)
            if not is_ours(self.context, await self.state(), self.step):
                return DrainAnswer("failed", "another process has taken the step over")
            answer: DrainAnswer = await getattr(drainer, verb)(task)
            self.forced += answer.forced
            if answer.state != "again":
                return answer
            await self._tell(answer)
            if self._ends(deadline) or self.context.clock.now() >= deadline:
                return answer
            tries = 0 if answer.moving else tries + 1
            pause = MOVING if answer.moving and not answer.blockers else self._pause(max(tries - 1, 0))
            await self._rest(max(pause, answer.after), deadline)

    async def _rest(self, seconds: float, deadline: datetime) -> None:
        """Sleep so long, or until the deadline, or until the process is about to end."""
        until = min(deadline, self.context.clock.now() + timedelta(seconds=seconds))
        while not self.context.stopping and (left := (until - self.context.clock.now()).total_seconds()) > 0:
            await self.context.clock.sleep(min(left, AWAKE))

    def _pause(self, tries: int) -> float:
        """Longer each time, and another on each node: those that wait for one budget do not come back together."""
        pause = min(AGAIN << min(tries, 8), LATER)
        draw = hashlib.sha256(f"{self.step.node}\n{tries}".encode()).digest()[0]
        return pause + pause * draw / 1024

    def _ends(self, deadline: datetime, answer: DrainAnswer | None = None) -> bool:
        """Whether the process is about to end while there would be time left."""
        waits = answer is None or answer.state == "again"
        return waits and self.context.stopping and self.context.clock.now() < deadline

    async def _tell(self, answer: DrainAnswer) -> None:
        """Show what is waited for; record each cause once, when the first try comes to nothing for it."""
        self.context.progress(Progress(f"drain {self.step.node}", answer.detail, passing=True))
        if not answer.moving and (said := self._blocked(answer, answer.detail)) is not None:
            await self._record(said)

    def _blocked(self, answer: DrainAnswer, reason: str) -> DrainBlocked | None:
        """The event; None where its causes are known."""
        pods = self._pods(answer.blockers)
        causes = {cause_of(pod) for pod in pods}
        if causes <= self.since.keys():
            return None
        self.since.update({cause: str(pod["since"]) for pod in pods if (cause := cause_of(pod)) not in self.since})
        named = tuple(pods[:MOST_PODS])
        return DrainBlocked(self.step.node, self.step.pool, self.step.step, reason, named, len(pods) - len(named))

    def _pods(self, blockers: Sequence[Blocker]) -> list[dict[str, Any]]:
        now, pods = f"{self.context.clock.now():%Y-%m-%dT%H:%M:%SZ}", []
        for one in blockers:
            names = ("pod", "owner", "budget", "allowed", "why")
            pod: dict[str, Any] = {name: getattr(one, name) for name in names}
            pods.append({**pod, "since": self.since.get(cause_of(pod), now)})
        return pods

    def _not(self, what: str, answer: DrainAnswer, deadline: datetime) -> Emptied:
        """The turn ends here, untouched; or it goes on with the next process."""
        if self._ends(deadline, answer):
            return Emptied(left=True)
        reason = f"not {what}: {self._why(answer)}"
        if not answer.blockers:
            return Emptied(reason, DrainBlocked(self.step.node, self.step.pool, self.step.step, reason))
        return Emptied(reason, self._blocked(answer, reason))

    def _why(self, answer: DrainAnswer) -> str:
        if answer.state == "failed":
            return answer.detail
        return f"not within {self.settings['timeout']} s: {answer.detail}"

    async def _forbidden(self, via: str) -> str:
        """Why the drainer is not asked, or nothing. What was judged when the turn began may be otherwise by now."""
        return another_cluster(await self.context.snapshot()) if via == "kubernetes" else ""

    def _lacking(self, via: str) -> str:
        return self.context.lacking.get(via) or "the pool does not drain any more"

    async def _record(self, body: Event) -> None:
        """Append what is done so far, unless somebody else has taken the step over."""

        async def attempt() -> None:
            snapshot = await self.context.snapshot()
            state = snapshot.one(NODE_STATES, self.context.name, self.step.node) or {}
            if is_ours(self.context, state, self.step):
                events = self.context.events(snapshot, [body], correlation=state.get("step_cause"))
                await self.context.append(events, snapshot, [node_stream(self.context.name, self.step.node)])

        await anew(attempt)
