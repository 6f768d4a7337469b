"""The history of a registry entry, as data: who brought it, from when until when, and on which nodes."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from reconciler.events.catalogue import (
    CommitObserved,
    HoldExtended,
    HoldLifted,
    HoldReinstated,
    ResourceAdded,
    ResourceChanged,
    RolledBack,
)
from reconciler.events.envelope import StoredEvent
from reconciler.ports import EventFilter
from reconciler.projections.entry_history import (
    EFFECT,
    INVENTORY,
    STATE,
    Effect,
    Interval,
    Said,
    entries_about,
    entry_history,
)
from reconciler.projections.tables import NODE_STATES, NODES
from reconciler.stages.context import Context

_HOLDING = (RolledBack, HoldReinstated, HoldLifted)
"""What a person did about a hold, with a reason."""


async def history_of_entry(context: Context, registry: str) -> list[dict[str, Any]]:
    """Each time that an entry about `registry` was in force, the latest first.

    `from` and `until` (None: it still is) have the position and time at which the fleet accepted it, and the commit
    with author, pull request and time, or the hold; `effective` has the nodes that proved to have it. What stood in
    content that was redacted since, nobody can tell.
    """
    events = await context.log.read(EventFilter(context.name, types=STATE))
    named = dict(_contents(events))
    gone = await context.blobs.redacted(named)
    contents = {content: names for content, names in named.items() if content not in gone}
    loaded = await context.load(contents)
    about = {
        (name, content): entries_about(name, json.loads(loaded[content]), registry)
        for content, names in contents.items()
        for name in names
    }
    saying = {key for key, said in about.items() if said}
    if not saying:
        return []
    first = next(event.position for event in events if _names(event) & saying)
    effects = await context.log.read(EventFilter(context.name, after=first, types=EFFECT))
    relevant = sorted([*_relevant(events, {name for name, _ in saying}), *effects], key=lambda event: event.position)
    found = entry_history(
        context.name,
        relevant,
        lambda resource, content: about.get((resource, content), frozenset()),
        await _nodes_before(context, first),
    )
    commits = await commits_of(context, found)
    holds = {event.body.hold: event for event in events if isinstance(event.body, RolledBack)}
    return _merged(found, commits, holds)[::-1]


async def _nodes_before(context: Context, position: int) -> dict[str, tuple[str, str]]:
    """What each node had before `position`: its pool and file set."""
    if position == 1:
        return {}
    snapshot = await context.reads.snapshot(context.name, position - 1, (NODES, NODE_STATES))
    pools = {key[1]: row["pool"] for key, row in snapshot.table(NODES).items()}
    states = snapshot.table(NODE_STATES).items()
    return {key[1]: (pools.get(key[1]) or "", row["files"]) for key, row in states if row["files"]}


def _relevant(events: Sequence[StoredEvent], resources: set[str]) -> list[StoredEvent]:
    """Without resources that neither say anything of it nor replace one that does, and without the inventory where no
    hold sets nodes apart: what is left is walked through group by group."""
    names = {_last(resource) for resource in resources}
    apart = any(isinstance(event.body, RolledBack) and event.body.node for event in events)
    kept = [event for event in events if apart or event.type not in INVENTORY]
    return [event for event in kept if (name := event.columns.get("resource")) is None or _last(name) in names]


def _last(resource: str) -> str:
    """KIND/NAME, by which the same in a later path replaces the earlier."""
    return resource.rpartition(":")[2]


def _contents(events: Iterable[StoredEvent]) -> Mapping[str, set[str]]:
    """Content → the resources that have it."""
    found: dict[str, set[str]] = {}
    for event in events:
        for resource, content in _names(event):
            found.setdefault(content, set()).add(resource)
    return found


def _names(event: StoredEvent) -> set[tuple[str, str]]:
    """The resources to which the event gives a content, each with it."""
    body = event.body
    if isinstance(body, ResourceAdded | ResourceChanged):
        return {(body.resource, body.content)}
    if isinstance(body, RolledBack | HoldReinstated | HoldExtended):
        return {(entry["resource"], entry["restored"]["content"]) for entry in body.entries if entry["restored"]}
    return set()


async def commits_of(context: Context, found: Sequence[Interval]) -> Mapping[str, CommitObserved]:
    """The commits that are named, by id, in one read."""
    ends = [event.columns.get("commit") for one in found for event in (one.since, one.until) if event]
    names = sorted({name for name in (*ends, *(one.commit for one in found)) if name})
    types = (CommitObserved.__name__,)
    events = await context.log.read(EventFilter(context.name, types=types, commits=names)) if names else ()
    return {event.body.commit: event.body for event in events if isinstance(event.body, CommitObserved)}


def _merged(
    found: Sequence[Interval], commits: Mapping[str, CommitObserved], holds: Mapping[str, StoredEvent]
) -> list[dict[str, Any]]:
    """One item for pools of which the same is true."""
    items: dict[tuple[Said, int, int], dict[str, Any]] = {}
    for one in found:
        key = (one.said, one.since.position, one.until.position if one.until else 0)
        item = items.setdefault(
            key,
            {
                **one.said._asdict(),
                "pools": [],
                "nodes": [],
                "from": _end(one.since, one.commit, one.hold, commits, holds),
                "until": _end(one.until, one.until.columns.get("commit") or "", "", commits, holds)
                if one.until
                else None,
                "effective": [],
            },
        )
        item["nodes" if one.node else "pools"].append(one.node or one.pool)
        item["effective"] = sorted([*item["effective"], *map(_effect, one.effects)], key=_in_order)
    return list(items.values())


def _in_order(effect: Mapping[str, Any]) -> tuple[str, int]:
    return effect["node"], effect["from"]["position"]


def _end(
    event: StoredEvent,
    commit: str,
    hold: str,
    commits: Mapping[str, CommitObserved],
    holds: Mapping[str, StoredEvent],
) -> dict[str, Any]:
    """An event that brought or ended an entry: the commit whose content it is, and who held or let go."""
    known = commits.get(commit)
    rollback = holds.get(hold) or (event if isinstance(event.body, _HOLDING) else None)
    return {
        "position": event.position,
        "acceptedAt": _time(event),
        "type": event.type,
        "commit": commit or None,
        "author": known.author if known else None,
        "pullRequest": known.pull_request if known else None,
        "committedAt": known.committed_at if known else None,
        "hold": getattr(rollback.body, "hold", None) if rollback else None,
        "reason": getattr(rollback.body, "reason", None) if rollback else None,
        "actor": (rollback or event).actor.subject,
    }


def _effect(effect: Effect) -> dict[str, Any]:
    return {
        "node": effect.node,
        "from": _point(effect.since),
        "until": _point(effect.until) if effect.until else None,
    }


def _point(event: StoredEvent) -> dict[str, Any]:
    return {"position": event.position, "effectiveAt": _time(event)}


def _time(event: StoredEvent) -> str:
    return event.recorded_at.isoformat().replace("+00:00", "Z")
