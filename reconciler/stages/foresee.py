"""What a pass would do, up to its plan: the stages themselves, run on an overlay, without the last that acts.

The context given here must stand on an overlay (reconciler.planning makes it): everything is appended as in a pass.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from reconciler.events.catalogue import ChangeApproved
from reconciler.events.envelope import fleet_stream
from reconciler.ports import ABSENT, Commit, Observation, ObservedFile, Snapshot
from reconciler.projections.tables import FLEETS, NODE_STATES, NODES, POOLS
from reconciler.rollout.plan import Plan, Planner, plan_pool
from reconciler.rollout.views import PoolView
from reconciler.stages.cluster_foresee import ClusterForesight, foresee_cluster
from reconciler.stages.cluster_watch import watch_cluster
from reconciler.stages.context import Context, FileSet
from reconciler.stages.discover import discover
from reconciler.stages.guard import guard
from reconciler.stages.inventory import another_cluster
from reconciler.stages.observe import file_sets, look_closer, nodes_of_ours, observe, target_of
from reconciler.stages.project import project
from reconciler.stages.record import fetch, record, record_commit
from reconciler.stages.restores import epoch_to_send
from reconciler.stages.settle import settle
from reconciler.stages.sight import Sight
from reconciler.stages.view import Look, view_pool

NEW_HERE = "not looked at yet: it is first asked when this content is recorded"
NEVER_SEEN = "never looked at"


@dataclass(frozen=True)
class PoolForesight:
    """One pool: what the planner saw, and what it would do first. `unknown`: nodes no files are known for, and those
    that were asked and did not answer (`unanswered`), and why."""

    view: PoolView
    plan: Plan
    sights: Mapping[str, Sight]
    unknown: Mapping[str, str]
    unanswered: Collection[str]


@dataclass(frozen=True)
class Foresight:
    """The fleet as the plan sees it: its rows after recording and rendering, and each pool. `removes`: what the commit
    takes away, so much that it waits for approval; what is not merged yet is told as if that were given."""

    snapshot: Snapshot
    pools: tuple[PoolForesight, ...]
    removes: tuple[str, ...] = ()
    cluster: ClusterForesight | None = None
    """Of a fleet with pools of `manage: cluster`: their cluster."""


async def foresee_pass(context: Context, *, live: bool, source: bool = True) -> Foresight:
    """The next pass. Not `live`: from the log alone, neither Git nor a node is asked; without `source` Git is not."""
    if live and source:
        head = await fetch(context)
        if head is not None:
            await record(context, head)
    if live:
        await discover(context)
        await watch_cluster(context)
    sights = await _sights(context, live=live)
    await settle(context, sights, ask_nodes=live)
    await project(context)
    await guard(context, sights, ask_nodes=live)
    if live:
        await look_closer(context, sights)
    waiting = ((await context.snapshot()).one(FLEETS, context.name) or {}).get("waiting") or {}
    return await _plan(context, sights, waiting.get("removes") or (), live=live)


async def foresee_commit(context: Context, commit: Commit, *, live: bool) -> Foresight:
    """The pass that would record `commit` as the branch's head.

    Only nodes that are in the inventory already are asked, at the addresses recorded there: content that nobody has
    merged yet must not choose whom we log in to.
    """
    if live:
        await watch_cluster(context)
    sights = await _sights(context, live=live)
    before = await context.snapshot()
    await record_commit(context, before, commit)
    removes = await _as_if_approved(context, commit)
    after = await context.snapshot()
    sights = dict(_moved(context, sights, after))
    await settle(context, sights, ask_nodes=live)
    await project(context)
    await guard(context, sights, ask_nodes=live)
    if live:
        same = {name for name in sights if _spec(before, name) == _spec(after, name)}
        await look_closer(context, {name: sights[name] for name in sorted(same)})
    return await _plan(context, sights, removes, live=live)


async def _as_if_approved(context: Context, commit: Commit) -> tuple[str, ...]:
    """What the commit removes, where that makes it wait; it is then recorded as if a person had approved it."""
    snapshot = await context.snapshot()
    waiting = (snapshot.one(FLEETS, context.name) or {}).get("waiting") or {}
    if waiting.get("commit") != commit.sha or waiting.get("reason"):
        return ()
    approved = ChangeApproved(commit.sha, commit.sha, "foreseen")
    await context.append(context.events(snapshot, [approved]), snapshot, [fleet_stream(context.name)])
    await record_commit(context, await context.snapshot(), commit)
    return tuple(waiting["removes"])


def _spec(snapshot: Snapshot, node: str) -> Any:
    return (snapshot.one(NODES, snapshot.fleet, node) or {}).get("spec")


def _moved(context: Context, sights: Mapping[str, Sight], after: Snapshot) -> Iterable[tuple[str, Sight]]:
    """The sights for the inventory that the content brings: nodes gone are left out, new ones were not looked at."""
    for name, row in nodes_of_ours(after).items():
        if name in sights:
            yield name, replace(sights[name], pool=row["pool"])
        else:
            target = target_of(context.name, name, row["spec"])
            yield name, Sight(name, target, row["pool"], {}, FileSet(()), FileSet(()), out=NEW_HERE)


async def _sights(context: Context, *, live: bool) -> dict[str, Sight]:
    return await observe(context) if live else await recorded_sights(context, await context.snapshot())


async def recorded_sights(context: Context, snapshot: Snapshot) -> dict[str, Sight]:
    """What the log knows of each node, in the form of a look at it."""
    sets = await file_sets(context, snapshot)
    return {name: _recorded(context, snapshot, sets, name, row) for name, row in nodes_of_ours(snapshot).items()}


def _recorded(
    context: Context, snapshot: Snapshot, sets: Mapping[str, FileSet], name: str, row: Mapping[str, Any]
) -> Sight:
    state = snapshot.one(NODE_STATES, context.name, name) or {}
    applied = sets.get(state.get("files") or "", FileSet(()))
    unproven = FileSet(tuple(entry for files in state.get("unproven") or () for entry in sets[files].entries))
    sight = Sight(name, target_of(context.name, name, row["spec"]), row["pool"], state, applied, unproven)
    if sight.target.transport == "kubernetes" and (other := another_cluster(snapshot)):
        sight.out = other
    elif not state.get("base"):
        sight.out = state.get("unreachable") or NEVER_SEEN
    elif state.get("unreachable"):
        sight.out = state["unreachable"]
    else:
        files = {file.path: file for file in _files(state, applied)}
        sight.observation = Observation(state["machine_id"] or "", "", "", "", "", None, False, "", files)
    return sight


def _files(state: Mapping[str, Any], applied: FileSet) -> Iterable[ObservedFile]:
    """Base files, over them what the last receipt proved, over that what drifted since.

    The mode of a base file is not in the log and taken as 0644.
    """
    for path, sha256 in (state.get("base_files") or {}).items():
        yield ObservedFile(path, "file", sha256, 0o644) if sha256 else ObservedFile(path, ABSENT)
    for entry in applied.entries:
        yield ObservedFile(entry.path, "file", entry.sha256, entry.mode)
    for item in state.get("drift") or ():
        is_file = len(item["observed"]) == 64
        kind, sha256 = ("file", item["observed"]) if is_file else (item["observed"], "")
        yield ObservedFile(item["path"], kind, sha256, item["mode"])


async def _plan(context: Context, sights: Mapping[str, Sight], removes: Sequence[str], *, live: bool) -> Foresight:
    cluster = await foresee_cluster(context, live=live)
    snapshot = await context.snapshot()
    names = sorted(key[1] for key, row in snapshot.table(POOLS).items() if row["spec"])
    pools = [await _plan_pool(context, snapshot, sights, name, live=live) for name in names]
    return Foresight(snapshot, tuple(pools), tuple(removes), cluster)


async def _plan_pool(
    context: Context, snapshot: Snapshot, sights: Mapping[str, Sight], name: str, *, live: bool
) -> PoolForesight:
    """As a pass plans it."""
    view = await view_pool(Look(context, sights), snapshot, name)
    epoch = epoch_to_send(context, snapshot, sights.values())
    plan = plan_pool(view, Planner(context.name, context.owner, epoch), context.clock.now())
    mine = {
        node.name: replace(sights[node.name], state=snapshot.one(NODE_STATES, context.name, node.name) or {})
        for node in view.nodes
    }
    silent = {node.name for node in view.nodes if live and _is_silent(mine[node.name])}
    unknown = {
        node.name: sights[node.name].out or "nothing is rendered for it"
        for node in view.nodes
        if node.target is None or node.name in silent
    }
    return PoolForesight(view, plan, mine, unknown, silent)


def _is_silent(sight: Sight) -> bool:
    return sight.observation is None and sight.out != NEW_HERE
