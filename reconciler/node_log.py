"""One node: each action on it with its cause, and whether it is now what its receipts say. Nothing is recorded."""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from reconciler.errors import UsageError
from reconciler.events.catalogue import CommitObserved, MachineConfigChanged, StepStarted
from reconciler.events.envelope import StoredEvent
from reconciler.events.summaries import summary
from reconciler.ports import EventFilter, Observation, ObservedFile, Snapshot
from reconciler.projections.tables import NODE_STATES, NODES
from reconciler.stages.context import Context
from reconciler.stages.differences import difference
from reconciler.stages.observe import look, not_ours, wanted_files
from reconciler.stages.sight import Sight, is_unread

ENDS = ("NodeConverged", "NodeFailed", "NodeDeferred", "StepAbandoned", "NodeUncordoned")
"""The events that may end an action; where there are several, the last one did."""


async def node_log(context: Context, node: str, wanted: EventFilter, *, diff: bool = False) -> list[dict[str, Any]]:
    """The actions on a node, newest first; of `wanted` the position, time and limit count. Of a node whose files are
    the Machine Config Operator's, what that reports of it. Raises UsageError."""
    await _check(context, node)
    steps = await context.log.read(replace(wanted, fleet=context.name, node=node, types=("StepStarted",)))
    if not steps:
        return await _by_mco(context, node, wanted)
    after = min(step.position for step in steps)
    told: dict[str, list[StoredEvent]] = {}
    for event in await context.log.read(EventFilter(context.name, after=after, node=node)):
        if event.type != "StepStarted":
            told.setdefault(str(getattr(event.body, "step", "")), []).append(event)
    causes: dict[uuid.UUID, dict[str, Any]] = {}
    items = []
    for event in steps:
        assert isinstance(event.body, StepStarted)  # noqa: S101  asked for
        if event.correlation_id not in causes:
            causes[event.correlation_id] = await _cause(context, event.correlation_id)
        item = _action(event, event.body, told.get(event.body.step, ()), causes[event.correlation_id])
        items.append({**item, "diff": await _diff(context, event, event.body)} if diff else item)
    return items


async def _by_mco(context: Context, node: str, wanted: EventFilter) -> list[dict[str, Any]]:
    types, items = (MachineConfigChanged.__name__,), []
    for event in await context.log.read(replace(wanted, fleet=context.name, node=node, types=types)):
        assert isinstance(event.body, MachineConfigChanged)  # noqa: S101  asked for
        nothing = dict.fromkeys(("rollout", "files", "endedAt", "seconds"))
        said = {"step": "", "disruption": "", "effective": "", "actions": [], "told": [], "diff": []}
        items.append(
            {
                **nothing,
                **said,
                "position": event.position,
                "startedAt": _time(event),
                "purpose": "mco",
                "pool": event.body.pool,
                "outcome": event.body.state,
                "summary": summary(event.body),
                "cause": await _cause(context, event.correlation_id),
            }
        )
    return items


async def _check(context: Context, node: str) -> None:
    """A node that was removed from the repository keeps its log."""
    snapshot = await context.snapshot()
    if not (snapshot.one(NODES, context.name, node) or snapshot.one(NODE_STATES, context.name, node)):
        raise UsageError(f"there is no node {node}", where="node", remedy="see `reconciler get nodes`")


def _action(
    event: StoredEvent, step: StepStarted, told: Sequence[StoredEvent], cause: Mapping[str, Any]
) -> dict[str, Any]:
    end = next((other for other in reversed(told) if other.type in ENDS), None)
    return {
        "position": event.position,
        "startedAt": _time(event),
        "purpose": step.purpose,
        "pool": step.pool,
        "rollout": step.rollout or None,
        "step": step.step,
        "files": step.files or None,
        "disruption": step.disruption,
        "effective": step.effective,
        "actions": list(step.actions),
        "outcome": end.type if end else "",
        "summary": summary(end.body) if end else "under way",
        "endedAt": _time(end) if end else None,
        "seconds": round((end.recorded_at - event.recorded_at).total_seconds(), 3) if end else None,
        "cause": dict(cause),
        "told": [
            {"position": other.position, "type": other.type, "at": _time(other), "summary": summary(other.body)}
            for other in told
        ],
    }


async def _cause(context: Context, correlation: uuid.UUID) -> dict[str, Any]:
    """The event that an action goes back to: a commit with its author and pull request, a rollback, drift, a person."""
    (root,) = await context.log.read(EventFilter(context.name, correlation_id=correlation, limit=1))
    body = root.body
    commit = body if isinstance(body, CommitObserved) else None
    return {
        "position": root.position,
        "type": root.type,
        "at": _time(root),
        "actor": root.actor.subject,
        "commit": root.columns.get("commit"),
        "author": f"{commit.author} <{commit.author_email}>" if commit else None,
        "pullRequest": commit.pull_request if commit else None,
        "summary": summary(body),
    }


async def _diff(context: Context, event: StoredEvent, step: StepStarted) -> list[dict[str, Any]]:
    """From the files that the log knew the node to have when the step began, to those it brings."""
    if not step.files:
        return []
    snapshot = await context.reads.snapshot(context.name, event.position, (NODE_STATES,))
    state = snapshot.one(NODE_STATES, context.name, step.node) or {}
    base = state.get("base_files") or {}
    drifted = {item["path"]: item["observed"] for item in state.get("drift") or ()}
    before = {**base, **await _entries(context, state.get("files")), **drifted}
    after = {**before, **{path: base.get(path) for path in step.restore}, **await _entries(context, step.files)}
    names = {name for name in (*before.values(), *after.values()) if name and len(name) == 64}
    contents = await context.load_past(names)
    changed = [path for path in sorted(after) if before.get(path) != after[path]]
    return [difference(path, contents.get(before.get(path) or ""), contents.get(after[path] or "")) for path in changed]


async def _entries(context: Context, files: str | None) -> dict[str, str]:
    if not files:
        return {}
    found = await context.load_file_set(files)
    return {entry.path: entry.sha256 for entry in found.entries}


def _time(event: StoredEvent) -> str:
    return event.recorded_at.isoformat().replace("+00:00", "Z")


# --- Verify ---------------------------------------------------------------------------------------------------------


async def verify_node(context: Context, node: str) -> dict[str, Any]:
    """Ask a node now and hold the answer against the log. `verdict`: as proved, differs, or unreachable.

    Each check is `ok`, `differs` or `unknown` (it cannot be told, and counts for nothing). Raises UsageError.
    """
    snapshot = await context.snapshot()
    sight = (await look(context, snapshot, [node])).get(node)
    if sight is None:
        raise UsageError(f"there is no node {node}", where="node", remedy="see `reconciler get nodes`")
    seen = sight.observation
    if seen is None:
        return {"node": node, "verdict": "unreachable", "reason": sight.out, "checks": [], "effective": []}
    checks = [
        {"check": name, "state": state, "detail": detail}
        for name, state, detail in _checks(snapshot, sight, seen, context.log.log_id)
    ]
    differs = any(check["state"] == "differs" for check in checks)
    return {
        "node": node,
        "verdict": "differs" if differs else "as proved",
        "reason": "",
        "checks": checks,
        "effective": sorted(seen.effective),
    }


Check = tuple[str, str, str]

_LOADED = {
    True: ("ok", "the last receipt saw the files loaded"),
    False: ("differs", "written, not loaded"),
    None: ("unknown", "whether the files are loaded cannot be told"),
}


def _checks(snapshot: Snapshot, sight: Sight, seen: Observation, log_id: str) -> Iterator[Check]:
    state, receipt = sight.state, sight.state.get("receipt") or {}
    for entry in sight.applied.entries:
        yield _file(sight, entry.path, entry.sha256, entry.mode, seen.files.get(entry.path))
    known = state.get("machine_id")
    yield _compared("machine", known or seen.machine_id, seen.machine_id)
    refused = not_ours(sight, seen, log_id)
    yield "ownership", "differs" if refused else "ok", refused or (f"log {log_id}" if seen.owner else "nobody's yet")
    if seen.owner is not None and state.get("generation") is not None:
        yield _compared("generation", str(state["generation"]), str(seen.owner.generation))
    if seen.unit:
        yield "runtime", "ok" if seen.active == "active" else "differs", f"{seen.unit} is {seen.active}"
    yield ("loaded", *_LOADED[receipt.get("loaded")])
    wanted = wanted_files(snapshot, sight)
    behind = wanted is not None and (wanted != state.get("files") or bool(state.get("unproven")))
    yield "wanted", "differs" if behind else "ok", "newer files wait to be applied" if behind else "has what is wanted"
    if state.get("step"):
        yield "step", "unknown", f"step by {state['step_owner']}: what is seen may be in between"
    strays = sorted(path for path in seen.present if path not in sight.applied.by_path)
    yield "strays", "differs" if strays else "ok", ", ".join(strays) or "none"


def _file(sight: Sight, path: str, sha256: str, mode: int, file: ObservedFile | None) -> Check:
    if file is None or file.kind != "file":
        return path, "differs", f"is {file.state if file else 'absent'}"
    if is_unread(sight, file):
        return path, "differs", "other bytes, which were not read"
    if file.sha256 != sha256:
        return path, "differs", f"has {file.sha256[:12]}, proved was {sha256[:12]}"
    if file.mode != mode:
        return path, "differs", f"has mode {file.mode:04o}, proved was {mode:04o}"
    return path, "ok", f"{sha256[:12]} mode {mode:04o}"


def _compared(name: str, proved: str, seen: str) -> Check:
    if proved == seen:
        return name, "ok", seen
    return name, "differs", f"is {seen}, proved was {proved}"
