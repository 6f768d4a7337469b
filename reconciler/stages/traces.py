"""Where a resource in force comes from: the commit, its author and pull request, and the event since which it is."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from reconciler.events.catalogue import CommitObserved, RolledBack
from reconciler.events.envelope import StoredEvent
from reconciler.ports import EventFilter, Snapshot
from reconciler.projections.desired import Desired, Version, shadowed_out
from reconciler.projections.tables import HOLDS, RESOURCES, Row
from reconciler.registries.model import Resource
from reconciler.stages.context import Context


class Scope(NamedTuple):
    """A pool, or one node of it that a hold sets apart."""

    pool: str
    node: str = ""


async def in_force(
    context: Context, desired: Desired, scopes: Iterable[Scope]
) -> dict[Scope, dict[str, tuple[Version, Resource]]]:
    """The resources that each scope uses, by identity, in one query."""
    versions = {scope: shadowed_out(desired.in_force(*scope), desired.pools[scope.pool]) for scope in scopes}
    resources = await context.load_resources({version for some in versions.values() for version in some})
    return {
        scope: {version.resource: (version, resources[version]) for version in some} for scope, some in versions.items()
    }


async def traces(
    context: Context, snapshot: Snapshot, named: Mapping[Scope, Mapping[str, Version]]
) -> dict[Scope, dict[str, dict[str, Any]]]:
    """Per scope and resource: commit, author, subject, pullRequest, and position, time and hold since which.

    Three queries at most, however many are asked for.
    """
    versions = [version for by_name in named.values() for version in by_name.values()]
    log = context.log
    positions = {row["position"] for scope, names in named.items() for row in _rows(snapshot, scope, names.values())}
    events = await log.read(EventFilter(context.name, positions=sorted(positions))) if positions else ()
    commits = {version.commit for version in versions}
    types = ("CommitObserved",)
    observed = await log.read(EventFilter(context.name, types=types, commits=sorted(commits))) if commits else ()
    held = any(version.hold for version in versions)
    rolled = await log.read(EventFilter(context.name, types=("RolledBack",))) if held else ()
    known = _Log(
        {event.position: event for event in events},
        {event.body.commit: event.body for event in observed if isinstance(event.body, CommitObserved)},
        {event.body.hold: event for event in rolled if isinstance(event.body, RolledBack)},
    )
    return {
        scope: {name: known.trace(snapshot, scope, version) for name, version in by_name.items()}
        for scope, by_name in named.items()
    }


def _rows(snapshot: Snapshot, scope: Scope, versions: Iterable[Version]) -> list[Row]:
    """Git's rows of those versions that no hold keeps."""
    keys = [(snapshot.fleet, scope.pool, version.resource) for version in versions if not version.hold]
    return [row for key in keys if (row := snapshot.one(RESOURCES, *key))]


class _Log(NamedTuple):
    """What was read: events by position, commits by id, rollbacks by hold."""

    events: Mapping[int, StoredEvent]
    commits: Mapping[str, CommitObserved]
    rollbacks: Mapping[str, StoredEvent]

    def trace(self, snapshot: Snapshot, scope: Scope, version: Version) -> dict[str, Any]:
        commit = self.commits.get(version.commit)
        hold = snapshot.one(HOLDS, snapshot.fleet, version.hold) if version.hold else None
        if version.hold:
            event = self.rollbacks.get(version.hold)
        else:
            event = next((self.events.get(row["position"]) for row in _rows(snapshot, scope, [version])), None)
        return {
            "commit": version.commit,
            "author": commit.author if commit else None,
            "subject": commit.subject if commit else None,
            "pullRequest": commit.pull_request if commit else None,
            "position": event.position if event else None,
            "since": event.recorded_at.isoformat().replace("+00:00", "Z") if event else None,
            "hold": {"name": version.hold, "reason": hold["reason"], "actor": hold["actor"]} if hold else None,
        }
