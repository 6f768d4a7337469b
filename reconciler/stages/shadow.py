"""Shadows: would the runtime, with all that it reads beside our files, answer as ours for what our resources name?

Judged with the files that are wanted, before they are rolled out, so that a node is never called converged first and
shadowed later. Bytes are asked for only where nobody has them: an unchanged fleet costs no further round trip.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping

from reconciler.errors import NodeError
from reconciler.events.catalogue import ShadowFound
from reconciler.events.codec import plain
from reconciler.events.envelope import node_stream, pool_stream
from reconciler.ports import ObserveRequest, Snapshot, Target
from reconciler.projections.desired import wanted_row
from reconciler.projections.tables import NODE_STATES
from reconciler.registries.model import BASE_PATHS, digest
from reconciler.registries.shadow import decides, hides, shadows
from reconciler.stages.context import Context
from reconciler.stages.sight import Sight

MOST_SCOPES = 20
"""Scopes of one line that the log names; the others are counted."""


async def find_shadows(context: Context, sights: Mapping[str, Sight]) -> None:
    """Append ShadowFound for every node whose shadows are others by now."""
    snapshot = await context.snapshot()
    chosen = [sight for sight in sights.values() if sight.observation and not sight.out and sight.pool]
    await _fetch(context, chosen)
    bodies = []
    for sight in chosen:
        found = await _judge(context, snapshot, sight)
        before = (snapshot.one(NODE_STATES, context.name, sight.name) or {}).get("shadows") or []
        if found is not None and plain(found) != before:
            bodies.append(ShadowFound(sight.name, sight.pool or "", found))
    streams = {stream for body in bodies for stream in (_node(context, body), pool_stream(context.name, body.pool))}
    await context.append(context.events(snapshot, bodies), snapshot, streams)


def _node(context: Context, body: ShadowFound) -> str:
    return node_stream(context.name, body.node)


async def _fetch(context: Context, sights: Iterable[Sight]) -> None:
    """Get the bytes that nobody here has: each content once, whatever the number of nodes that have it."""
    wanted: dict[str, tuple[Sight, str]] = {}
    for sight in sights:
        for path, sha256 in _others(sight).items():
            if decides(path) and not _is_known(context, sha256):
                wanted.setdefault(sha256, (sight, path))
    missing = await context.blobs.missing(wanted) if wanted else set()
    gone = await context.blobs.redacted(set(wanted) - missing) if wanted else {}
    context.unsent.update(gone)
    await context.load(set(wanted) - missing - gone.keys())
    asked: dict[str, dict[str, str]] = {}
    for sha256 in sorted(missing):
        sight, path = wanted[sha256]
        asked.setdefault(sight.name, {})[path] = ""
    requests: list[tuple[Target, ObserveRequest]] = []
    by_name = {sight.name: sight for sight, _ in wanted.values()}
    for name, paths in asked.items():
        sight = by_name[name]
        runtime = str(sight.spec.get("runtime", "crio"))
        requests.append((sight.target, ObserveRequest(context.log.log_id, runtime, paths)))
    for answer in await context.runner.observe(requests) if requests else ():
        if not isinstance(answer, NodeError):
            files = answer.files.values()
            await context.keep(file.content for file in files if file.content is not None)
            context.unsent.update(file.sha256 for file in files if file.kind == "file" and file.content is None)


def _is_known(context: Context, sha256: str) -> bool:
    """Whether its bytes are here, or it is known that nobody will have them."""
    return sha256 in context.contents or sha256 in context.unsent


def _others(sight: Sight) -> Mapping[str, str]:
    """The files beside ours that may shadow them: path → hash."""
    seen = sight.observation
    effective = seen.effective if seen else {}
    return {path: sha256 for path, sha256 in effective.items() if decides(path) or hides(path)}


async def _judge(context: Context, snapshot: Snapshot, sight: Sight) -> tuple[Mapping[str, object], ...] | None:
    """The shadows as ShadowFound tells them; None where nobody can tell yet."""
    seen = sight.observation
    state = snapshot.one(NODE_STATES, context.name, sight.name) or {}
    row = wanted_row(context.name, snapshot.rows, sight.pool, sight.name, state)
    if seen is None or row is None or not row["files"]:
        return None
    entries = (await context.load_file_set(row["files"])).by_path
    others = {path: sha256 for path, sha256 in _others(sight).items() if path not in entries}
    if not others:
        return ()
    base = {
        path: file.sha256
        for path in BASE_PATHS
        if path not in entries and (file := seen.files.get(path)) and file.kind == "file"
    }
    ours = {**base, **{path: entry.sha256 for path, entry in entries.items()}}
    key = digest([ours, others, row["origins"]])
    if key not in context.judged:
        if any(decides(path) and not _is_known(context, sha256) for path, sha256 in others.items()):
            return None  # the node did not answer when its file was asked for
        contents = await context.load([*ours.values(), row["origins"]])
        named = json.loads(contents[row["origins"]])
        found = shadows(
            {path: contents[sha256] for path, sha256 in ours.items()},
            {path: context.contents.get(sha256) for path, sha256 in others.items()},
            named,
        )
        context.judged[key] = tuple(
            {
                "file": shadow.file,
                "line": shadow.line,
                "scopes": list(shadow.scopes[:MOST_SCOPES]),
                "more": max(0, len(shadow.scopes) - MOST_SCOPES),
            }
            for shadow in found
        )
    return context.judged[key]
