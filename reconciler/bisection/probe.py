"""Which event broke it, told by a probe: one node is taken through earlier states by holds, and given back at the end.

Everything is done as people do it, and recorded: rollbacks of that node, their rollouts with windows, guard, drains
and health checks, and at the end the lifting of the hold. Killed in between, the hold stays, with its reason.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from reconciler import commands, control
from reconciler.bisection.effect import changed_resources, file_differences, undo
from reconciler.bisection.search import Judgement, Search
from reconciler.bisection.states import PROBING, Past, State, between, event_data
from reconciler.cycle import run_pass
from reconciler.errors import InputRejected, NotConverged, TimedOut, UsageError
from reconciler.ports import Snapshot
from reconciler.projections.desired import Desired
from reconciler.projections.guard_state import GuardState
from reconciler.projections.status import NodeStatus, node_status
from reconciler.projections.tables import HOLDS, NODE_STATES, NODES, POOLS
from reconciler.stages.context import Context, Progress
from reconciler.stages.host_files import released_since

GOOD, SKIP, WORST = 0, 125, 127
"""Exit statuses of a probe, as `git bisect run` takes them; all others up to the last are bad."""

NOT_RUN = (126, 127)
"""What a shell ends with that cannot run a command; of the command itself it may be a verdict all the same."""


@dataclass(frozen=True)
class Candidate:
    """A state to be probed: what `--dry-run` lists, and what a probe is told of. `position` is that of the event that
    began it, `event` (see `event_data`) is empty for the good point itself."""

    node: str
    pool: str
    address: str
    position: int
    event: Mapping[str, Any]


Probe = Callable[[Candidate], Awaitable[int]]
"""Gives an exit status."""


@dataclass
class _Run:
    """One bisection; `probed` grows."""

    context: Context
    node: str
    ends: tuple[int, int]
    past: Past
    states: list[State]
    now: bool
    within: float
    probed: list[dict[str, Any]] = field(default_factory=list)

    @property
    def reason(self) -> str:
        """By which the holds of this bisection are known."""
        return f"{PROBING}{self.ends[0]} to #{self.ends[1]} with a probe; left over if no bisect runs: lift it"

    def candidate(self, number: int, snapshot: Snapshot, about: Mapping[str, Any]) -> Candidate:
        row = snapshot.one(NODES, snapshot.fleet, self.node) or {}
        return Candidate(self.node, row["pool"], row["spec"]["address"], self.position(number), about)

    def position(self, number: int) -> int:
        """What state `number` is known by: the event that began it; 0 is the good point itself."""
        return self.states[number - 1].event.position if number else self.ends[0]


async def probe_candidates(
    context: Context, *, good: str, bad: str | None, node: str
) -> tuple[tuple[int, int], list[Candidate]]:
    """The positions of the two points, and the states between them in which other files were wanted on the node, oldest
    first: the first of them is the earliest that may have broken it.

    Raises UsageError where the node cannot be taken through them.
    """
    run = await _begin(context, good, bad, node, now=False, within=0)
    snapshot = await context.snapshot()
    about = [await event_data(context, state.event) for state in run.states]
    return run.ends, [run.candidate(number, snapshot, one) for number, one in enumerate(about, start=1)]


async def bisect_probe(
    context: Context,
    probe: Probe,
    *,
    good: str,
    bad: str | None,
    node: str,
    now: bool = False,
    within: float = 1800.0,
) -> dict[str, Any]:
    """The first event between two points since which `probe` fails with the node's files of then.

    The points are taken at their word, as `git bisect` does. `now`: begin outside of windows, too; `within`: seconds
    that the node may take for each state. A state that the guard or the node refuses is skipped. Whatever happens, the
    hold is lifted and the node brought back; `returned` says how far that came.

    Raises UsageError where the node cannot be taken through them or the probe cannot be run, NotConverged or TimedOut
    when the node does not come to a state.
    """
    run = await _begin(context, good, bad, node, now=now, within=within)
    search = Search(len(run.states))
    try:
        while (number := search.next) is not None:
            search.judged(number, await _judge(run, number, probe))
    finally:  # a cancelled one as well: that is how Ctrl-C gets here
        back = await _give_back(run)
    suspects = [await event_data(context, run.states[number - 1].event) for number in search.suspects]
    found = await _found(run, run.states[search.suspects[0] - 1]) if len(suspects) == 1 else {"first": None}
    return {
        "node": node,
        "good": {"position": run.ends[0]},
        "bad": {"position": run.ends[1]},
        "states": len(run.states),
        "probed": run.probed,
        "suspects": suspects,
        **found,
        "returned": back,
    }


async def _begin(context: Context, good: str, bad: str | None, node: str, *, now: bool, within: float) -> _Run:
    """Everything known before the first step. Raises UsageError where there is nothing to find, or it is not safe."""
    snapshot = await context.snapshot()
    desired = Desired(context.name, snapshot.rows)
    one = desired.nodes.get(node)
    if one is None or one.pool not in desired.pools:
        raise UsageError(f"there is no node {node} in a pool", where="--node", remedy="see `reconciler get nodes`")
    if not desired.pools[one.pool].enforces:
        raise UsageError(f"pool {one.pool} only observes: nothing is written to {node}", where="--node")
    if released := released_since(snapshot.one(NODE_STATES, context.name, node) or {}):
        raise UsageError(released, where=f"node {node}", remedy=f"`reconciler adopt {node}` takes it back")
    held = [str(hold["hold"]) for hold in desired.holds if hold["node"] == node]
    if held or node in desired.held_nodes(one.pool):
        remedy = f"lift it first: `reconciler hold lift {held[0]}`" if held else "see `reconciler hold list`"
        raise UsageError(f"a hold sets {node} apart already", where="--node", remedy=remedy)
    ends = await between(context, good, bad, one.pool)
    past = await Past.of(context)
    if node not in (await past.at(ends[0], [node]))[1]:
        raise UsageError(f"nothing was wanted on {node} at #{ends[0]}", where="--good", remedy="choose a later point")
    states = await past.states(*ends, [node])
    if not states:
        what = f"the files wanted on {node} are the same from #{ends[0]} to #{ends[1]}"
        raise UsageError(what, where="--good and --bad", remedy="see `reconciler history`")
    return _Run(context, node, ends, past, states, now, within)


async def _judge(run: _Run, number: int, probe: Probe) -> Judgement:
    """Take the node to a state and probe it there."""
    status, why = await _probed(run, number, probe)
    judgement: Judgement = "good" if status == GOOD else "skip" if status in (None, SKIP) else "bad"
    first = not any(one["status"] is not None for one in run.probed)
    run.probed.append({"position": run.position(number), "judgement": judgement, "status": status, "reason": why})
    said = "was skipped" if judgement == "skip" else f"is {judgement}"
    run.context.progress(Progress("bisect", f"#{run.position(number)} {said}{f': {why}' if why else ''}"))
    if first and status in NOT_RUN and (await _probed(run, 0, probe))[0] == status:
        what = f"the probe ended with status {status} at #{run.ends[0]}, too, which is good"
        raise UsageError(what, where="--probe", remedy="give a command that can be run here")
    return judgement


async def _probed(run: _Run, number: int, probe: Probe) -> tuple[int | None, str]:
    """The probe's exit status with the node in this state; or None, and why the node cannot have it."""
    refused = await _take_to(run, number)
    if refused:
        return None, refused
    about = await event_data(run.context, run.states[number - 1].event) if number else {}
    status = await probe(run.candidate(number, await run.context.snapshot(), about))
    if not 0 <= status <= WORST:
        remedy = f"0: good, {SKIP}: skip, any other up to {WORST}: bad"
        raise UsageError(f"the probe ended with status {status}", where="--probe", remedy=remedy)
    return status, ""


async def _take_to(run: _Run, number: int) -> str:
    """Bring the node to a state, under a hold; or say why it cannot have it."""
    position = run.position(number)
    try:
        await commands.rollback(run.context, to=f"#{position}", node=run.node, reason=run.reason)
    except InputRejected as error:
        return error.what
    return await _settle(run, f"#{position}")


async def _settle(run: _Run, what: str) -> str:
    """Make passes until the node has what it should have; why it cannot, where guard, renderer or node refuse that.

    Raises NotConverged where something else is in the way, TimedOut.
    """
    context = run.context
    context.retry_now = True
    deadline = context.clock.now() + timedelta(seconds=run.within)
    await _open_windows(run)
    while True:
        done = await run_pass(context, source=False)
        snapshot = await context.snapshot()
        status = node_status(context.name, snapshot.rows, Desired(context.name, snapshot.rows), run.node)
        if status.files == "Converged" and status.ready and await _is_newest(run, snapshot, status):
            return ""
        if not done.moving:
            if refused := _refused(snapshot, status):
                return refused
            waits = [why for pool in done.pools for name, why in pool.waits.items() if name == run.node]
            raise NotConverged(
                f"it does not come to {what}: {'; '.join(waits) or status.reason or status.files}",
                where=f"node {run.node}",
                remedy="see `reconciler status`; with --now nodes begin outside of windows, too",
            )
        if context.clock.now() >= deadline:
            raise TimedOut(f"{run.node} did not come to {what} in time", remedy="give it longer with --timeout")
        await context.clock.sleep(commands.POLL)


async def _is_newest(run: _Run, snapshot: Snapshot, status: NodeStatus) -> bool:
    """Whether what the node should have was rendered from what is in force, not from what was before."""
    wish = (await run.past.at(snapshot.position, [run.node]))[1].get(run.node)
    return wish is not None and await run.past.is_file_set(wish, status.wanted)


async def _open_windows(run: _Run) -> None:
    row = (await run.context.snapshot()).one(NODES, run.context.name, run.node)
    if run.now and row:
        await control.override_windows(run.context, row["pool"], reason=f"bisect of {run.node}")


def _refused(snapshot: Snapshot, status: NodeStatus) -> str:
    """Why these files are not to be had: the guard, a mixture that does not render, or the node failed with them."""
    if status.files == "Failed":
        return status.reason
    desired = Desired(snapshot.fleet, snapshot.rows)
    if status.pool not in desired.pools:
        return ""
    row = snapshot.one(POOLS, snapshot.fleet, status.pool) or {}
    guard = GuardState.of(snapshot.fleet, snapshot.rows, desired.pools[status.pool])
    return str(row.get("blocked") or "") or guard.reason({status.wanted} if status.wanted else set())


async def _give_back(run: _Run) -> dict[str, Any]:
    """Lift what holds the node and bring it to what it has without; `reason`: why it did not come there."""
    context = run.context
    holds = (await context.snapshot()).table(HOLDS).values()
    mine = [str(hold["hold"]) for hold in holds if hold["node"] == run.node and hold["reason"] == run.reason]
    for hold in mine:
        await commands.lift_hold(context, hold, reason="the bisection ended", own=True)
    try:
        why = await _settle(run, "what it had") if run.probed or mine else ""
    except (NotConverged, TimedOut) as error:
        why = error.what
    if why:
        context.progress(Progress("bisect", f"{run.node} is not back yet: {why}"))
    return {"lifted": mine, "reason": why}


async def _found(run: _Run, state: State) -> dict[str, Any]:
    """The first bad state: its event, which files it changed, and what would undo it."""
    before, after = state.earlier[run.node], state.wishes[run.node]
    changed = await changed_resources(run.context, state, before, after)
    return {
        "first": await event_data(run.context, state.event),
        "differences": [{"node": run.node, **one} for one in await file_differences(run.past, before, after)],
        "undo": await undo(run.context, state, sorted(changed), pool=None, node=None),
    }
