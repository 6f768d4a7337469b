"""What holds and a commit mean for each other (DESIGN §8): judged in the commit's own append group.

Whether a hold ends must not depend on how many commits a fetch brings, so every commit is judged by itself.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from reconciler.events.catalogue import (
    CommitAccepted,
    CommitHeldBack,
    Event,
    HoldExtended,
    HoldLifted,
    NodeChanged,
    NodeRegistered,
    NodeRemoved,
    PoolConfigured,
    PoolRemoved,
    ResourceAdded,
    ResourceChanged,
    ResourceRemoved,
)
from reconciler.events.codec import plain
from reconciler.ports import EventFilter, Snapshot
from reconciler.projections.desired import Desired, Version, shadowed_out
from reconciler.projections.holds import (
    Said,
    Standing,
    carriers,
    keys_of,
    new_entries,
    places_of,
    standings,
    versions_of,
)
from reconciler.projections.tables import HOLDS, NODES, POOLS, RESOURCES, Key, Row
from reconciler.registries.model import Location, Problem, RenderOptions, Resource
from reconciler.registries.render import check
from reconciler.registries.statements import statements
from reconciler.registries.validate import validate_set
from reconciler.rollout.pools import Pool
from reconciler.stages.context import Context

Rows = Mapping[str, Mapping[Key, Row]]
_OF_COMMITS = (
    "CommitAccepted", "ResourceAdded", "ResourceChanged", "ResourceRemoved", "PoolConfigured", "PoolRemoved",
    "NodeRegistered", "NodeChanged", "NodeRemoved",
)  # fmt: skip
"""What the events of an accepted commit are of which `_after` knows."""

Options = Callable[[Pool], RenderOptions]
"""How a pool renders over its base, as far as that is known without a node."""


async def said_of(context: Context, *states: Desired) -> Said:
    """The statements of every version that these states and their holds name.

    A redacted content, which a hold may still refuse, is known by its meaning alone: that is its one statement, and one
    more of every version with the same meaning.
    """
    versions = {v for state in states for pool in (*state.pools, "") for v in state.git(pool).values()}
    versions |= {version for state in states for version in versions_of(state.holds)}
    gone = await context.gone(version.content for version in versions)
    contents = await context.load({version.content for version in versions} - gone.keys())
    unreadable = {version.meaning for version in versions if version.content in gone}
    known: dict[tuple[str, str], frozenset[str]] = {}

    def said(version: Version | None) -> frozenset[str]:
        if version is None:
            return frozenset()
        key = (version.resource, version.content)
        if key not in known:
            told = frozenset[str]() if version.content in gone else _statements(version, contents[version.content])
            same = {f"what was redacted, of meaning {version.meaning[:16]}"} if version.meaning in unreadable else set()
            known[key] = told | same
        return known[key]

    return said


def _statements(version: Version, content: bytes) -> frozenset[str]:
    directory, _, kind_and_name = version.resource.rpartition(":")
    kind, _, name = kind_and_name.partition("/")
    place = Location(version.file, version.line)
    return statements(Resource(directory or ".", kind, name, json.loads(content), place))


async def beside_holds(
    context: Context, snapshot: Snapshot, events: Sequence[Event], options: Options, commit: str
) -> tuple[list[Event], dict[str, tuple[Problem, ...]]]:
    """What becomes of the holds by a commit with these events; and per pool, what is wrong with its state then.

    The blobs that the events name must be known to the context.
    """
    if not snapshot.table(HOLDS) or not any(isinstance(event, CommitAccepted) for event in events):
        return [], {}
    before, rows = Desired(context.name, snapshot.rows), _after(snapshot, events)
    after = Desired(context.name, rows)
    said = await said_of(context, before, after)
    changed = _changed(events)
    added = new_entries(carriers(before, after, changed, said), after)
    bodies: list[Event] = [
        HoldExtended(hold, _pools(after, entries), commit, tuple(entries)) for hold, entries in sorted(added.items())
    ]
    rows = _with_entries(rows, added, ())
    found = standings(Desired(context.name, rows), said)
    agreed = [standing for standing in found if standing.git == "agreed"]
    bodies += lifted(after, agreed, "agreed", commit)
    kept = [s for s in found if s.git != "agreed" and _concerns(s, changed)]
    bodies += _held_back(commit, kept)
    final = Desired(context.name, _with_entries(rows, {}, agreed))
    return bodies, await _wrong(context, final, options)


async def extended_since(
    context: Context, past: Snapshot, now: Snapshot, holds: Collection[str]
) -> dict[str, list[dict[str, Any]]]:
    """The entries that commits since `past` would have added to `holds`, had they stayed in force as they were then.

    Else what they refuse would have come in under another name while a later hold was in their place.
    """
    groups: dict[int, list[Event]] = {}
    for event in await context.log.read(EventFilter(context.name, after=past.position, types=_OF_COMMITS)):
        groups.setdefault(event.group, []).append(event.body)
    rows, added = past.rows, dict[tuple[str, int], dict[str, Any]]()
    for events in groups.values():
        before, rows = Desired(context.name, rows), _after(replace(past, rows=rows), events)
        if not any(isinstance(event, CommitAccepted) for event in events):
            continue
        after = Desired(context.name, rows)
        said = await said_of(context, before, after)
        found = [c for c in carriers(before, after, _changed(events), said) if c.hold in holds]
        entries = new_entries(found, after)
        rows = _with_entries(rows, entries, ())
        added |= {(hold, int(e["id"])): e for hold, mine in entries.items() for e in mine}
        beside = standings(Desired(context.name, rows), said) if added else []
        agreed = [s for s in beside if s.git == "agreed" and (s.hold, s.entry["id"]) in added]
        rows = _with_entries(rows, {}, agreed)
        for standing in agreed:
            del added[standing.hold, standing.entry["id"]]
    desired, left = Desired(context.name, now.rows), dict[str, list[dict[str, Any]]]()
    for (hold, _), entry in added.items():
        if places_of(desired, entry):
            left.setdefault(hold, []).append(entry)
    return left


def held_back_whole(snapshot: Snapshot, commit: str, wrong: Mapping[str, Sequence[Problem]]) -> CommitHeldBack:
    """Why pools do not take a commit beside the holds of now."""
    reason = "\n".join(dict.fromkeys(str(problem) for why in wrong.values() for problem in why))
    return CommitHeldBack(commit, tuple(sorted(wrong)), True, (), reason, keys_of(snapshot.table(HOLDS).values()))


def waits_for_other_holds(snapshot: Snapshot, waiting: Mapping[str, Any]) -> bool:
    """Whether a commit was held back whole beside other holds than there are now."""
    return "beside" in waiting and tuple(waiting["beside"]) != keys_of(snapshot.table(HOLDS).values())


def lifted(desired: Desired, found: Iterable[Standing], cause: str, commit: str | None) -> list[Event]:
    """The end of entries, hold by hold."""
    by_hold: dict[str, list[Standing]] = {}
    for standing in found:
        by_hold.setdefault(standing.hold, []).append(standing)
    why = {"agreed": "Git says what was restored", "fixed": "none of the bad differences is left in Git"}[cause]
    return [
        HoldLifted(hold, _pools(desired, [s.entry for s in some]), _ids(some), cause, commit, why)
        for hold, some in sorted(by_hold.items())
    ]


def _ids(found: Iterable[Standing]) -> tuple[int, ...]:
    return tuple(int(standing.entry["id"]) for standing in found)


def _held_back(commit: str, kept: Sequence[Standing]) -> list[Event]:
    if not kept:
        return []
    entries = [{"hold": s.hold, "id": s.entry["id"], "resource": s.entry["resource"], "git": s.git} for s in kept]
    pools = tuple(sorted({pool for standing in kept for pool, _ in standing.places}))
    return [CommitHeldBack(commit, pools, False, tuple(entries), "", ())]


def _changed(events: Iterable[Event]) -> set[tuple[str, str]]:
    """The (pool, resource) that a commit changes."""
    resources = (ResourceAdded, ResourceChanged, ResourceRemoved)
    return {(pool, event.resource) for event in events if isinstance(event, resources) for pool in event.pools}


def _concerns(standing: Standing, changed: set[tuple[str, str]]) -> bool:
    return any((pool, standing.entry["resource"]) in changed for pool, _ in standing.places)


def _pools(desired: Desired, entries: Iterable[Mapping[str, Any]]) -> tuple[str, ...]:
    """The pools whose state in force entries touch."""
    return tuple(sorted({pool for entry in entries for pool, _ in places_of(desired, entry)}))


async def _wrong(context: Context, desired: Desired, options: Options) -> dict[str, tuple[Problem, ...]]:
    """Per pool that a hold touches, what of its state in force does not hold together; of a node set apart, too."""
    found: dict[str, tuple[Problem, ...]] = {}
    for name, pool in desired.pools.items():
        for node in ("", *desired.held_nodes(name)) if desired.holds_on(name) or desired.held_nodes(name) else ():
            if desired.at_baseline(name, node):
                continue
            resources = await context.load_resources(shadowed_out(desired.in_force(name, node), pool))
            chosen = list(resources.values())
            problems = [problem for problem in validate_set(chosen) if problem.severity == "error"]
            problems = problems or [p for p in check(chosen, options(pool)) if p.severity == "error"]
            if problems:
                found[name] = tuple(problems)
    return found


def _with_entries(rows: Rows, added: Mapping[str, Sequence[Mapping[str, Any]]], gone: Iterable[Standing]) -> Rows:
    """The rows with entries added to holds (by id), and others taken away."""
    ended = {(standing.hold, standing.entry["id"]) for standing in gone}
    holds: dict[Key, Row] = {}
    for key, row in rows.get(HOLDS.name, {}).items():
        entries = [*row["entries"], *added.get(str(row["hold"]), ())]
        left = [entry for entry in entries if (row["hold"], entry["id"]) not in ended]
        if left:
            holds[key] = {**row, "entries": left}
    return {**rows, HOLDS.name: holds}


def without_entries(snapshot: Snapshot, gone: Iterable[Standing]) -> Rows:
    """The rows of a snapshot as they are when these entries have ended."""
    return _with_entries(snapshot.rows, {}, gone)


def _after(snapshot: Snapshot, events: Iterable[Event]) -> Rows:
    """The rows that desired state is made of, as the events of a commit leave them."""
    fleet = snapshot.fleet
    resources, pools, nodes = (dict(snapshot.table(table)) for table in (RESOURCES, POOLS, NODES))
    for event in events:
        match event:
            case ResourceAdded() | ResourceChanged():
                for pool in event.pools:
                    resources[fleet, pool, event.resource] = {**event.as_data(), "pool": pool}
            case ResourceRemoved():
                for pool in event.pools:
                    resources.pop((fleet, pool, event.resource), None)
            case PoolConfigured():
                told = {"spec": plain(event.spec), "base_files": plain(event.base_files)}
                pools[fleet, event.pool] = {**pools.get((fleet, event.pool), {}), **told}
            case PoolRemoved():
                pools.pop((fleet, event.pool), None)
            case NodeRegistered() | NodeChanged():
                told = {"pool": event.pool, "spec": plain(event.spec), "discovered": event.discovered}
                nodes[fleet, event.node] = {"cluster": None, **nodes.get((fleet, event.node), {}), **told}
            case NodeRemoved():
                nodes.pop((fleet, event.node), None)
            case _:
                pass
    return {**snapshot.rows, RESOURCES.name: resources, POOLS.name: pools, NODES.name: nodes}
