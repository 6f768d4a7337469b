"""Which event turned the verdict on an image: judged from the log alone; no node and no registry is asked."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from reconciler.bisection.effect import changed_resources, file_differences, undo
from reconciler.bisection.states import Past, State, Wish, between, event_data
from reconciler.errors import UsageError
from reconciler.ports import Snapshot
from reconciler.projections.desired import Desired
from reconciler.projections.tables import NODE_STATES
from reconciler.registries.lint_hosts import Kind
from reconciler.stages.context import Context
from reconciler.stages.explained import Known, Question, ask
from reconciler.stages.host_files import released_since
from reconciler.stages.traces import in_force, traces

DECIDING: tuple[Kind, ...] = ("registries", "drop-in", "policy")
"""The kinds of files that decide about pulls."""


@dataclass(frozen=True)
class _Turn:
    """A state at which the verdict became another; `nodes` are those of which it is now `verdict`."""

    state: State
    before: str
    verdict: str
    nodes: tuple[str, ...]


class _Judge:
    """The image's verdict on nodes; nodes with the same files are judged once."""

    def __init__(self, past: Past, image: str) -> None:
        self._past = past
        self._question = Question([image])
        self._verdicts: dict[tuple[object, ...], str] = {}

    async def verdict(self, wish: Wish) -> str:
        key = (wish.files, wish.complete)
        if key not in self._verdicts:
            answers = ask(self._question, await self._past.contents(wish), complete=wish.complete)
            self._verdicts[key] = answers.pulls[0].verdict
        return self._verdicts[key]

    async def verdicts(self, wishes: Mapping[str, Wish], names: Iterable[str]) -> dict[str, str]:
        return {name: await self.verdict(wishes[name]) for name in names}


async def bisect_image(
    context: Context, *, good: str, bad: str | None, image: str, pool: str | None = None, node: str | None = None
) -> dict[str, Any]:
    """The first event between two points in time since which nodes give another answer on an image, and every further
    one that turned it. Good is what they answer at `good`, bad what they answer at `bad` (None: now).

    Judged are the nodes (of a pool, or one) that answer otherwise at the two points, by the files they should have had;
    it counts as turned as soon as one of them answers so. Raises UsageError when there is no such node or pool, none
    answers otherwise, or some turned one way and some another.
    """
    first, last = await between(context, good, bad, pool)
    past = await Past.of(context)
    judge = _Judge(past, image)
    ends = (await past.at(first))[1], await past.at(last)
    snapshot, wishes = ends[1]
    names = _asked(snapshot, ends[0].keys() & wishes.keys(), pool, node, (first, last))
    old, new = await judge.verdicts(ends[0], names), await judge.verdicts(wishes, names)
    turned = [name for name in names if old[name] != new[name]]
    good_verdict, bad_verdict = _one_way(image, (first, last), old, new, turned)
    states = await past.states(first, last, turned)
    turns = await _turns(judge, states, turned, good_verdict, bad_verdict)
    found = next(turn for turn in turns if turn.verdict == bad_verdict)
    return {
        "image": image,
        "good": {"position": first, "verdict": good_verdict},
        "bad": {"position": last, "verdict": bad_verdict},
        "nodes": turned,
        "states": len(states),
        "turns": [await _turn_data(context, turn) for turn in turns],
        **await _found_data(context, past, found, image, pool=pool, node=node),
    }


def _asked(
    snapshot: Snapshot, known: Iterable[str], pool: str | None, node: str | None, ends: tuple[int, int]
) -> list[str]:
    """The nodes to judge: those of the scope of which the wish is known at both ends."""
    desired = Desired(snapshot.fleet, snapshot.rows)
    if node is not None and node not in desired.nodes:
        raise UsageError(f"there is no node {node} at #{ends[1]}", where="--node", remedy="see `reconciler get nodes`")
    if pool is not None and pool not in desired.pools:
        raise UsageError(f"there is no pool {pool} at #{ends[1]}", where="--pool", remedy="see `reconciler get pools`")
    if node is not None and (released := released_since(snapshot.one(NODE_STATES, snapshot.fleet, node) or {})):
        raise UsageError(released, where=f"node {node} at #{ends[1]}", remedy="choose an earlier point as --bad")
    found = sorted(name for name in known if node in (None, name) and pool in (None, desired.nodes[name].pool))
    if not found:
        what = f"nothing was wanted at both #{ends[0]} and #{ends[1]}"
        raise UsageError(what, where=f"node {node}" if node else "nodes", remedy="choose a later point as --good")
    return found


def _one_way(
    image: str, ends: tuple[int, int], old: Mapping[str, str], new: Mapping[str, str], turned: Sequence[str]
) -> tuple[str, str]:
    """From which verdict to which the nodes turned."""
    ways: dict[tuple[str, str], list[str]] = {}
    for name in turned:
        ways.setdefault((old[name], new[name]), []).append(name)
    if not ways:
        said = " or ".join(sorted(set(new.values())))
        what = f"{image} is {said} at #{ends[0]} and at #{ends[1]} alike"
        raise UsageError(
            what, where="--good and --bad", remedy="choose points with different answers; see `reconciler why`"
        )
    if len(ways) > 1:
        told = "; ".join(f"{a} → {b} on {', '.join(nodes[:3])}" for (a, b), nodes in sorted(ways.items()))
        raise UsageError(f"nodes turned different ways: {told}", where="nodes", remedy="name --pool or --node")
    return next(iter(ways))


async def _turns(judge: _Judge, states: Iterable[State], names: Sequence[str], good: str, bad: str) -> list[_Turn]:
    """Every state at which the verdict is not that of the state before, oldest first."""
    turns: list[_Turn] = []
    before = good
    for state in states:
        by_node = await judge.verdicts(state.wishes, names)
        found = set(by_node.values())
        verdict = bad if bad in found else next(iter(sorted(found - {good})), good)
        if verdict != before:
            turns.append(_Turn(state, before, verdict, tuple(n for n in names if by_node[n] == verdict)))
        before = verdict
    return turns


async def _turn_data(context: Context, turn: _Turn) -> dict[str, Any]:
    about = await event_data(context, turn.state.event)
    return {**about, "from": turn.before, "to": turn.verdict, "nodes": list(turn.nodes)}


async def _found_data(
    context: Context, past: Past, turn: _Turn, image: str, *, pool: str | None, node: str | None
) -> dict[str, Any]:
    """The first bad event: what decides now and did before, which files differ, and what would undo it."""
    name, state = turn.nodes[0], turn.state
    before, after = state.earlier[name], state.wishes[name]
    was = await _explained(context, past, before, state.before, image)
    item = await _explained(context, past, after, state.position, image)
    deciding = {
        origin["resource"] for told in (was, item) for origin in (told["decidedBy"] or {"origins": ()})["origins"]
    }
    changed = await changed_resources(context, state, before, after)
    about = {"notes": [], "applied": None, "observed": None, "pools": [after.scope.pool], "nodes": list(turn.nodes)}
    return {
        "first": await event_data(context, state.event),
        "before": {key: was[key] for key in ("verdict", "reason", "decidedBy")},
        "explanation": {**item, **about},
        "differences": [{"node": name, **one} for one in await file_differences(past, before, after, DECIDING)],
        "undo": await undo(context, state, sorted(deciding & changed or changed), pool=pool, node=node),
    }


async def _explained(context: Context, past: Past, wish: Wish, position: int, image: str) -> dict[str, Any]:
    """The answer of the files wanted at a position, with the commits behind what it names."""
    snapshot = await context.snapshot(position)
    used = (await in_force(context, Desired(context.name, snapshot.rows), [wish.scope]))[wish.scope]
    answers = ask(Question([image]), await past.contents(wish), await past.origins(wish), complete=wish.complete)
    named = {origin: used[origin.resource][0] for origin in answers.behind() if origin.resource in used}
    told = await traces(context, snapshot, {wish.scope: named})
    known = Known({name: resource for name, (_, resource) in used.items()}, told[wish.scope])
    return answers.data(known)[0]
