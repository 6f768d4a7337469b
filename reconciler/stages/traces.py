"""Where a field in force comes from: the commit, its author and pull request, and the event since which it is."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Iterator, Mapping
from datetime import datetime
from itertools import takewhile
from typing import Any, NamedTuple

from reconciler.events.catalogue import CommitObserved, ResourceAdded, ResourceChanged, RolledBack
from reconciler.events.envelope import StoredEvent
from reconciler.ports import EventFilter, Snapshot
from reconciler.projections.desired import Desired, Version, shadowed_out
from reconciler.projections.field_history import unchanged
from reconciler.projections.tables import HOLDS
from reconciler.registries.model import Origin, Resource
from reconciler.stages.context import Context


class Scope(NamedTuple):
    """A pool, or one node of it that a hold sets apart."""

    pool: str
    node: str = ""


async def in_force(
    context: Context, desired: Desired, scopes: Iterable[Scope]
) -> dict[Scope, dict[str, tuple[Version, Resource]]]:
    """The resources that each scope uses, by identity; of a past state without what was redacted since."""
    versions = {scope: shadowed_out(desired.in_force(*scope), desired.pools[scope.pool]) for scope in scopes}
    resources = await context.known_resources({version for some in versions.values() for version in some})
    return {
        scope: {version.resource: (version, resources[version]) for version in some if version in resources}
        for scope, some in versions.items()
    }


async def traces(
    context: Context, snapshot: Snapshot, named: Mapping[Scope, Mapping[Origin, Version]]
) -> dict[Scope, dict[Origin, dict[str, Any]]]:
    """Per scope and field: commit, author, subject, pullRequest, committedAt, and position, time and hold since which.

    `named` has the version in force of each field's resource. Where that is Git's, commit and event are those that
    brought what the field says; where a hold keeps it, the commit is the version's and the event is the rollback.
    Three reads of the log at most and two of blobs, however many are asked for.
    """
    log = context.log
    versions = [version for by_origin in named.values() for version in by_origin.values()]
    brought = await _brought(context, snapshot, named)
    commits = {version.commit for version in versions} | {setting.commit for setting in brought.values()}
    types = (CommitObserved.__name__,)
    observed = await log.read(EventFilter(context.name, types=types, commits=sorted(commits))) if commits else ()
    held = any(version.hold for version in versions)
    rolled = await log.read(EventFilter(context.name, types=(RolledBack.__name__,))) if held else ()
    known = _Log(
        brought,
        {event.body.commit: event.body for event in observed if isinstance(event.body, CommitObserved)},
        {event.body.hold: event for event in rolled if isinstance(event.body, RolledBack)},
    )
    return {
        scope: {origin: known.trace(snapshot, scope, origin, version) for origin, version in by_origin.items()}
        for scope, by_origin in named.items()
    }


class _Setting(NamedTuple):
    """An event that gave a resource the content `content`."""

    position: int
    recorded_at: datetime
    commit: str
    content: str


_History = tuple[_Setting, ...]
"""Newest first, back to where the resource was added last."""


async def _brought(
    context: Context, snapshot: Snapshot, named: Mapping[Scope, Mapping[Origin, Version]]
) -> dict[tuple[str, Origin], _Setting]:
    """Per pool and field of Git's state: since when the field says what it says."""
    asked = {
        (scope.pool, origin)
        for scope, by_origin in named.items()
        for origin, version in by_origin.items()
        if not version.hold
    }
    histories = await _histories(context, snapshot, {(pool, origin.resource) for pool, origin in asked})
    fields: dict[_History, set[str]] = {}  # pools that share a directory share its histories
    for pool, origin in asked:
        fields.setdefault(histories[pool, origin.resource], set()).add(origin.field)
    versions = {setting.content for history in fields for setting in history}
    gone = await context.gone(versions)
    contents = await context.load(versions - gone.keys())

    def readable(history: _History) -> Iterator[Any]:
        """What a redacted version said is not known: the fields are of the version after it."""
        known = takewhile(lambda setting: setting.content not in gone, history)
        return (json.loads(contents[setting.content]) for setting in known)

    oldest = {history: unchanged(some, readable(history)) for history, some in fields.items()}
    found = {(pool, origin): histories[pool, origin.resource] for pool, origin in asked}
    return {key: history[oldest[history][key[1].field]] for key, history in found.items()}


async def _histories(
    context: Context, snapshot: Snapshot, asked: Collection[tuple[str, str]]
) -> dict[tuple[str, str], _History]:
    """By pool and resource."""
    if not asked:
        return {}
    wanted = EventFilter(
        context.name,
        until=snapshot.position,
        types=(ResourceAdded.__name__, ResourceChanged.__name__),
        resources=sorted({resource for _, resource in asked}),
        newest_first=True,
    )
    found: dict[tuple[str, str], list[_Setting]] = {key: [] for key in asked}
    complete: set[tuple[str, str]] = set()
    for event in await context.log.read(wanted):
        body = event.body
        assert isinstance(body, ResourceAdded | ResourceChanged)  # noqa: S101  what was asked for
        setting = _Setting(event.position, event.recorded_at, body.commit, body.content)
        for key in ((pool, body.resource) for pool in body.pools):
            if key in found and key not in complete:
                found[key].append(setting)
                if isinstance(body, ResourceAdded):
                    complete.add(key)
    return {key: tuple(settings) for key, settings in found.items()}


class _Log(NamedTuple):
    """What was read: settings by pool and field, commits by id, rollbacks by hold."""

    brought: Mapping[tuple[str, Origin], _Setting]
    commits: Mapping[str, CommitObserved]
    rollbacks: Mapping[str, StoredEvent]

    def trace(self, snapshot: Snapshot, scope: Scope, origin: Origin, version: Version) -> dict[str, Any]:
        hold = snapshot.one(HOLDS, snapshot.fleet, version.hold) if version.hold else None
        since = self.rollbacks.get(version.hold) if version.hold else self.brought[scope.pool, origin]
        commit_id = since.commit if isinstance(since, _Setting) else version.commit
        commit = self.commits.get(commit_id)
        return {
            "commit": commit_id,
            "author": commit.author if commit else None,
            "subject": commit.subject if commit else None,
            "pullRequest": commit.pull_request if commit else None,
            "committedAt": commit.committed_at if commit else None,
            "position": since.position if since else None,
            "since": since.recorded_at.isoformat().replace("+00:00", "Z") if since else None,
            "hold": {"name": version.hold, "reason": hold["reason"], "actor": hold["actor"]} if hold else None,
        }
