"""Guard: before new files go anywhere, judge whether the images that a pool needs stay pullable under them.

Nodes are asked for their images when something is to come, with the look at them where that was foreseen (asking.py);
the images themselves do not enter the log, the judgement does, once. What it says is in force for these files until
content, settings, overrides or annotations change, a node answers that was not asked yet, or a person asks for a
recheck (docs/explanation/lock-out-guard.md).
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from reconciler.errors import NodeError, NodeUnreachable
from reconciler.events.catalogue import FilesRendered, GuardJudged
from reconciler.events.codec import plain
from reconciler.events.envelope import pool_stream
from reconciler.ports import EventFilter, ImagesRequest, NodeImages, Snapshot
from reconciler.projections.desired import Desired, Version, shadowed_out
from reconciler.projections.guard_state import NOT_JUDGED, GuardState
from reconciler.projections.tables import GUARDS, NODE_STATES, POOLS, RENDERS, rollout_of
from reconciler.registries.guard import GuardReport, Override, judge
from reconciler.registries.model import Resource
from reconciler.registries.warnings import annotations_of
from reconciler.rollout.pools import Pool
from reconciler.stages.context import Context, FileSet
from reconciler.stages.observe import file_sets, wanted_files
from reconciler.stages.sight import Sight
from reconciler.stages.ways import Way, Ways

ACCEPT = "reconciler.dev/accept-unpullable"
"""Annotation: globs of images that the resource's change may lock out, separated by blanks or commas."""

Answers = tuple[Mapping[str, NodeImages], dict[str, str]]

MOST_LISTED = 50
"""Images of a change that an event lists; the others are counted."""


@dataclass
class Pending:
    """A way that nodes of a pool are to go, and what annotations give up on it."""

    way: Way
    applied: str
    nodes: list[str] = field(default_factory=list)
    own: str = ""
    """A node of the way that a hold sets apart."""

    accepted: tuple[str, ...] = ()


async def guard(context: Context, sights: Mapping[str, Sight], *, recheck: bool = False, ask_nodes: bool = True) -> int:
    """Append GuardJudged for every pool with something to judge; returns for how many. `recheck`: judge anew.

    Without `ask_nodes` only the images that pools name count.
    """
    snapshot = await context.snapshot()
    desired, sets, judged = Desired(context.name, snapshot.rows), await file_sets(context, snapshot), 0
    for pool in desired.pools.values():
        mine = {name: sight for name, sight in sights.items() if sight.pool == pool.name}
        found = await _pending(context, snapshot, mine, sets) if pool.enforces else []
        state = GuardState.of(context.name, snapshot.rows, pool)
        for pending in found:
            pending.accepted = await _accepted(context, desired, pool, pending)
        if not found or not (recheck or _to_judge(state, found, mine, _helper(context, mine))):
            continue
        told = await _ask(context, pool, mine) if ask_nodes else ({}, {})
        body = _judge(snapshot, state, found, mine, told, _helper(context, mine))
        row = snapshot.one(GUARDS, context.name, pool.name)
        if row is None or _meaning(row) != _meaning(plain(body.as_data())):
            cause = (snapshot.one(POOLS, context.name, pool.name) or {}).get("cause")
            events = context.events(snapshot, [body], correlation=cause)
            await context.append(events, snapshot, [pool_stream(context.name, pool.name)])
            judged += 1
    return judged


async def foreseen_verdict(
    context: Context, then: Snapshot, pool: Pool, sights: Mapping[str, Sight], *, ask_nodes: bool = True
) -> str:
    """Why the file sets that `then` wants on a pool's nodes might not come, or nothing. Appends nothing."""
    desired, sets = Desired(context.name, then.rows), await file_sets(context, then)
    mine = {name: sight for name, sight in sights.items() if sight.pool == pool.name}
    found = await _pending(context, then, mine, sets) if pool.enforces else []
    if not found:
        return ""
    for pending in found:
        pending.accepted = await _accepted(context, desired, pool, pending)
    told = await _ask(context, pool, mine) if ask_nodes else ({}, {})
    state = GuardState.of(context.name, then.rows, pool)
    judged = _judge(then, state, found, mine, told, _helper(context, mine))
    known = {**(then.one(GUARDS, context.name, pool.name) or {}), **plain(judged.as_data())}
    return GuardState(pool, known).reason({pending.way.files for pending in found})


def _meaning(judged: Mapping[str, Any]) -> list[Any]:
    """What a judgement says, without how many images it was judged by: a node that gets another one is no news."""
    said = [judged[name] for name in ("nodes", "untold", "unheard", "judged_with")]
    changes = [{**change, "known": bool(change["known"])} for change in judged["changes"] or ()]
    return [bool(judged["images"]), *said, changes]


async def blocked_targets(
    context: Context, snapshot: Snapshot, pool: Pool, sights: Iterable[Sight], sets: Mapping[str, FileSet], ways: Ways
) -> Mapping[str, str]:
    """The file sets that no node of the pool may be begun with, and why."""
    state, said = GuardState.of(context.name, snapshot.rows, pool), dict[str, list[str]]()
    for sight in sights if pool.enforces else ():
        row = snapshot.one(NODE_STATES, context.name, sight.name) or {}
        way = await ways.of(row, wanted_files(snapshot, sight, row), sets)
        if way is not None:
            verdict = state.verdict(way.change)
            said.setdefault(way.files, []).append(NOT_JUDGED if verdict is None else state.why(verdict))
    return {files: "; ".join(dict.fromkeys(filter(None, why))) for files, why in said.items() if any(why)}


async def _pending(
    context: Context, snapshot: Snapshot, sights: Mapping[str, Sight], sets: Mapping[str, FileSet]
) -> list[Pending]:
    """The ways that the pool's nodes have to go, each with its nodes; sorted."""
    ways, found = Ways(context), dict[str, Pending]()
    own = {key[2] for key in snapshot.table(RENDERS)}
    for name, sight in sorted(sights.items()):
        row = snapshot.one(NODE_STATES, context.name, name) or {}
        way = await ways.of(row, wanted_files(snapshot, sight, row), sets)
        if way is not None:
            pending = found.setdefault(way.change, Pending(way, str(row.get("files") or "")))
            pending.nodes.append(name)
            pending.own = name if name in own else pending.own
    return [found[change] for change in sorted(found)]


def _helper(context: Context, sights: Mapping[str, Sight]) -> str:
    """The image of the pods by which some of the nodes are reached, or nothing."""
    return context.fleet.helper_image if any(s.target.transport == "kubernetes" for s in sights.values()) else ""


def _to_judge(state: GuardState, found: Sequence[Pending], sights: Mapping[str, Sight], helper: str) -> bool:
    """Whether the recorded judgement does not answer for what is to come."""
    if state.helper != helper:
        return True
    verdicts = [state.verdict(pending.way.change) for pending in found]
    same = all(v is not None and list(v["accepted"]) == list(p.accepted) for v, p in zip(verdicts, found, strict=True))
    return not same or not state.answered(name for name, sight in sights.items() if not sight.out)


def _judge(
    snapshot: Snapshot,
    state: GuardState,
    found: Sequence[Pending],
    sights: Mapping[str, Sight],
    answers: Answers,
    helper: str,
) -> GuardJudged:
    """Judge every way with what the nodes of the pool told. The helper image is judged with all of them; as it tells
    nothing of the pool's work, it arms nothing."""
    told, untold = answers
    spec = state.pool.spec
    own = {helper} - {""}
    running = {image for answer in told.values() for image in answer.images} - own
    arms = {*spec["requiredImages"], *filter(None, (spec["releaseImage"],)), *running}
    everything = arms | own | {answer.pause for answer in told.values() if answer.pause}
    established = _established(snapshot, state.pool)
    changes = []
    for pending in found:
        files = pending.way.files
        old = files in established
        images = {i for name in pending.nodes if name in told for i in told[name].needed} | own if old else everything
        overrides = [Override(o["glob"], files) for o in state.overrides if files in o["files"]]
        overrides += [Override(glob, files) for glob in pending.accepted]
        way = pending.way
        ends = way.before, way.after, spec["reachableRegistries"]
        report = judge(sorted(images), *ends, overrides=overrides, content=files, kept=own)
        changes.append(_change(pending, report, known=len(arms & images), weakens=() if old else way.weakens))
    heard = tuple(sorted(name for name in told if name not in untold))
    unheard = tuple(sorted(set(sights) - set(told) - set(untold)))
    count = len(everything) if arms else 0
    settings = " ".join([state.settings({pending.way.files for pending in found}), *own])
    return GuardJudged(state.pool.name, count, heard, untold, unheard, settings, tuple(changes))


async def images_of(context: Context, pool: Pool, sights: Mapping[str, Sight]) -> set[str]:
    """Every image that the pool is known to need: those that it names, and what its nodes tell when asked now."""
    told, _ = await _ask(context, pool, sights)
    named = {*pool.spec["requiredImages"], *filter(None, (pool.spec["releaseImage"],))}
    return named | {image for answer in told.values() for image in answer.needed}


async def _ask(context: Context, pool: Pool, sights: Mapping[str, Sight]) -> Answers:
    """What the nodes that answer need; and who answered, but could not tell. A lost link is asked again."""
    names = sorted(name for name, sight in sights.items() if not sight.out)
    known = {name: seen.images for name in names if (seen := sights[name].observation) and seen.images}
    asked = [name for name in names if name not in known]
    request = ImagesRequest(context.log.log_id, pool.runtime)
    answers = await context.runner.images([(sights[name].target, request) for name in asked]) if asked else ()
    told: dict[str, NodeImages] = {}
    untold: dict[str, str] = {}
    for name, answer in (*known.items(), *zip(asked, answers, strict=True)):
        if isinstance(answer, NodeImages):
            told[name] = answer
        if isinstance(answer, NodeImages) and answer.note:
            untold[name] = answer.note
        elif isinstance(answer, NodeError) and not isinstance(answer, NodeUnreachable):
            untold[name] = answer.what
    return told, untold


def _established(snapshot: Snapshot, pool: Pool) -> Collection[str]:
    """The file sets that the pool has completed: a node that comes later is judged by its own images alone."""
    row = snapshot.one(POOLS, snapshot.fleet, pool.name)
    rollout = (rollout_of(snapshot.rows, row) if row else None) or {}
    return set(rollout["targets"].values()) if rollout.get("state") == "completed" else ()


def _change(pending: Pending, report: GuardReport, *, known: int, weakens: Sequence[str]) -> dict[str, Any]:
    """The judgement of one way, as GuardJudged has it."""
    turned = sorted(report.turned, key=lambda item: (not item.kept, bool(item.override), item.image, item.asked))
    return {
        "change": pending.way.change,
        "files": pending.way.files,
        "known": known,
        "accepted": list(pending.accepted),
        "turned": [item._asdict() for item in turned[:MOST_LISTED]],
        "more": max(0, len(turned) - MOST_LISTED),
        "blocking": len(report.blocking),
        "weakens": list(weakens[:MOST_LISTED]),
        "signed": list(report.signed[:MOST_LISTED]),
    }


async def _accepted(context: Context, desired: Desired, pool: Pool, pending: Pending) -> tuple[str, ...]:
    """The globs of annotations on resources whose content is another one than when the present files were rendered."""
    in_force = shadowed_out(desired.in_force(pool.name, pending.own), pool)
    resources = await context.load_resources(in_force)
    annotated = {version: globs for version in in_force if (globs := _globs(resources[version]))}
    if not annotated:
        return ()
    before = await _rendered_from(context, pool, pending)
    changed = [globs for version, globs in annotated.items() if before.get(version.resource) != version.content]
    return tuple(sorted({glob for globs in changed for glob in globs}))


def _globs(resource: Resource) -> list[str]:
    return annotations_of(resource).get(ACCEPT, "").replace(",", " ").split()


async def _rendered_from(context: Context, pool: Pool, pending: Pending) -> Mapping[str, str]:
    """Resource → content, when the files that the way begins with were last rendered; empty before the first ones."""
    wanted = EventFilter(context.name, types=("FilesRendered",), pool=pool.name, newest_first=True)
    for event in await context.log.read(wanted) if pending.applied else ():
        if isinstance(event.body, FilesRendered) and event.body.files == pending.applied:
            then = Desired(context.name, (await context.snapshot(event.position)).rows)
            return _contents(then.in_force(pool.name, event.body.node))
    return {}


def _contents(versions: Mapping[str, Version]) -> dict[str, str]:
    return {name: version.content for name, version in versions.items()}
