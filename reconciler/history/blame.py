"""Whose each line of a node's file is: the field that it was rendered from, the commit that brought what the field
says, and the event since which it is so; or the base that it was laid over."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from reconciler.errors import UsageError
from reconciler.events.catalogue import BaselineCaptured, PoolConfigured
from reconciler.events.envelope import StoredEvent
from reconciler.history.events import about, commits_behind
from reconciler.history.files import chosen_nodes, wanted
from reconciler.ports import EventFilter, Snapshot
from reconciler.projections.desired import Desired, base_files_of, render_inputs
from reconciler.projections.openshift import OPENSHIFT_BASE, in_cluster
from reconciler.projections.status import fleet_status
from reconciler.projections.tables import NODE_STATES, POOLS, Row
from reconciler.registries import templates
from reconciler.registries.blame import By, Line, base_path, blame, origins_of
from reconciler.registries.model import POLICY_JSON, REGISTRIES_CONF, digest
from reconciler.stages.context import Context
from reconciler.stages.explained import Known
from reconciler.stages.project import beside, decode_origins
from reconciler.stages.traces import Scope, in_force, traces

TEMPLATES = {POLICY_JSON: templates.POLICY_JSON, REGISTRIES_CONF: templates.REGISTRIES_CONF}
"""MCO's, which pools with `base: openshift` are laid over."""


async def blame_file(context: Context, node: str, path: str) -> dict[str, Any]:
    """The lines of the file at `path` that a node is to have, each with what it comes from.

    A line is `of` a resource (its `origins`, each with field, commit, author, pull request, and position and time since
    which it is in force, and the hold that keeps it), of the base (`base` says which, and the event that captured
    it), or of the renderer. Raises UsageError for a node or a file that is not there.
    """
    snapshot = await context.snapshot()
    desired = Desired(context.name, snapshot.rows)
    chosen_nodes(desired, [node])
    state = snapshot.one(NODE_STATES, context.name, node) or {}
    row = wanted(snapshot, desired, node)
    content, origins, gap = await _file(context, row, path)
    base, kind = await _base(context, snapshot, desired, node, base_path(path))
    if content is None:
        content = base if row is None or kind == "host" else None
    if content is None:
        released = "the node was given back: what it has is no longer ours" if state.get("released") else ""
        remedy = released or _given_back(desired, _scope(desired, node, row)) or await _paths(context, row)
        raise UsageError("the node is to have no such file", where=f"{node}:{path}", remedy=remedy)
    lines = blame(path, content, base, origins)
    known, note = await _known(context, snapshot, desired, node, row, lines)
    captured = await _captured(context, snapshot, desired, node, base_path(path), kind) if kind else None
    applied = state.get("files")
    if in_cluster(context.name, snapshot.rows, desired.nodes[node].pool):
        applied = next((n.applied for n in fleet_status(context.name, snapshot.rows).nodes if n.name == node), None)
    behind = row is not None and applied != row["files"]
    return {
        "node": node,
        "path": path,
        "position": snapshot.position,
        "notes": [*gap, *note, *(["the node does not have these files yet"] if behind else [])],
        "lines": [_item(line, known, captured) for line in lines],
    }


async def _file(context: Context, row: Row | None, path: str) -> tuple[bytes | None, By, list[str]]:
    """The rendered bytes and their provenance, and what of that was redacted; None where nothing is rendered there."""
    if row is None:
        return None, {}, []
    known = await context.load_known([row["files"], row["origins"]])
    entry = (await context.load_file_set(row["files"])).by_path.get(path)
    if entry is None:
        return None, {}, []
    content = (await context.load([entry.sha256]))[entry.sha256]
    if row["origins"] not in known:
        return content, {}, ["where its lines come from was redacted: those of resources count as the renderer's"]
    return content, origins_of(path, decode_origins(known[row["origins"]])), []


async def _paths(context: Context, row: Row | None) -> str:
    """Which files there are, for people."""
    if row is None:
        return "nothing was rendered for it yet: see `reconciler status`"
    entries = (await context.load_file_set(row["files"])).entries
    return f"there are: {', '.join(entry.path for entry in entries) or 'none'}"


async def _base(
    context: Context, snapshot: Snapshot, desired: Desired, node: str, path: str
) -> tuple[bytes | None, str]:
    """What the file was laid over, and of what kind that is: `openshift`, `pool` or `host`; none: nobody knows."""
    state = snapshot.one(NODE_STATES, context.name, node) or {}
    row = snapshot.one(POOLS, context.name, desired.nodes[node].pool or "")
    if row is not None and row["spec"] and row["spec"]["base"] == OPENSHIFT_BASE:
        return TEMPLATES.get(path), OPENSHIFT_BASE
    if not state.get("base"):
        return None, ""
    files = base_files_of(row, state) if row and row["spec"] else state["base_files"]
    name = files.get(path)
    content = (await context.load([name]))[name] if name else None
    return content, "pool" if row and row["base_files"] else "host"


async def _captured(
    context: Context, snapshot: Snapshot, desired: Desired, node: str, path: str, kind: str
) -> dict[str, Any]:
    """The base, and the event (of a pool's templates also the commit) since which it says at `path` what it says."""
    if kind == OPENSHIFT_BASE:
        return {"base": kind, "position": None, "since": None, "commit": None, **about(None)}
    pool = desired.nodes[node].pool
    whose: dict[str, Any] = {"node": node} if kind == "host" else {"pool": pool}
    types = (BaselineCaptured.__name__ if kind == "host" else PoolConfigured.__name__,)
    events = await context.log.read(
        EventFilter(context.name, until=snapshot.position, types=types, newest_first=True, **whose)
    )
    since = _unchanged(events, path)
    commits = await commits_behind(context, [since]) if since and kind == "pool" else {}
    return {
        "base": kind,
        "position": since.position if since else None,
        "since": since.recorded_at.isoformat().replace("+00:00", "Z") if since else None,
        "commit": since.columns.get("commit") if since else None,
        **about(commits.get(since.correlation_id) if since else None),
    }


def _unchanged(events: Iterable[StoredEvent], path: str) -> StoredEvent | None:
    """The oldest of `events` (newest first) up to which the file stays what it is in the newest."""
    found: StoredEvent | None = None
    said: str | None = None
    for event in events:
        body = event.body
        files = body.files if isinstance(body, BaselineCaptured) else getattr(body, "base_files", {})
        if found is not None and files.get(path) != said:
            break
        found, said = event, files.get(path)
    return found


async def _known(
    context: Context, snapshot: Snapshot, desired: Desired, node: str, row: Row | None, lines: Sequence[Line]
) -> tuple[Known, list[str]]:
    """What is known of the fields behind the lines; and a note where they are of a newer state than the file."""
    pool = desired.nodes[node].pool
    if row is None or pool not in desired.pools:
        return Known(), []
    scope = _scope(desired, node, row)
    used = (await in_force(context, desired, [scope]))[scope]
    named = {o: used[o.resource][0] for line in lines for o in line.origins if o.resource in used}
    told = (await traces(context, snapshot, {scope: named}))[scope]
    bodies = [(name, digest(resource.body)) for name, (_, resource) in used.items()]
    bodies += [(r.identity, digest(r.body)) for r in await beside(context, desired, desired.pools[pool])]
    late = render_inputs(desired.pools[pool], bodies, row["base"]) != row["inputs"]
    note = ["the newest state is not rendered yet; these are the files of the one before it"] if late else []
    if back := _given_back(desired, scope):
        note = [back]
    return Known({name: resource for name, (_, resource) in used.items()}, told), note


def _scope(desired: Desired, node: str, row: Row | None) -> Scope:
    """What decides about a node: its pool, or itself where a hold sets it apart."""
    pool = desired.nodes[node].pool or ""
    held = pool in desired.pools and node in desired.held_nodes(pool)
    return Scope(pool, node if held or (row and row["node"]) else "")


def _given_back(desired: Desired, scope: Scope) -> str:
    """Which hold left nothing of ours in force, in words; empty where none did."""
    if scope.pool not in desired.pools or not desired.at_baseline(*scope):
        return ""
    hold = [name for name, entry in desired.entries_at(*scope) if entry.get("baseline")][-1]
    return f"hold {hold} gave the files from before the first write back: nothing of ours is wanted"


def _item(line: Line, known: Known, captured: Mapping[str, Any] | None) -> dict[str, Any]:
    return {
        "line": line.number,
        "text": line.text,
        "of": line.of,
        "origins": [known.origin(origin) for origin in line.origins],
        "base": captured if line.of == "base" else None,
    }
