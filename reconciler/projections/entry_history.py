"""Who allowed, blocked or mirrored a registry, from when until when, and on which nodes it was in effect: of entries
that are long gone, too.

Pure. One walk through the events that change what is in force, what is rendered, and what nodes have.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any, NamedTuple

from reconciler.events.catalogue import (
    FilesRendered,
    HoldExtended,
    HoldLifted,
    HoldReinstated,
    NodeChanged,
    NodeConverged,
    NodeRegistered,
    NodeReleased,
    NodeRemoved,
    NodeRenamed,
    NodeReset,
    PoolConfigured,
    PoolRemoved,
    ResourceAdded,
    ResourceChanged,
    ResourceRemoved,
    RolledBack,
)
from reconciler.events.envelope import StoredEvent
from reconciler.projections import desired_fold, node_fold
from reconciler.projections.desired import Desired, shadowed_out
from reconciler.projections.tables import Working
from reconciler.registries.scopes import nested

INVENTORY = tuple(body.__name__ for body in (NodeRegistered, NodeChanged, NodeRemoved))
"""The types that say which nodes a hold can set apart."""
STATE = (
    *(
        body.__name__
        for body in (
            ResourceAdded,
            ResourceChanged,
            ResourceRemoved,
            PoolConfigured,
            PoolRemoved,
            RolledBack,
            HoldReinstated,
            HoldExtended,
            HoldLifted,
        )
    ),
    *INVENTORY,
)
"""The types that change what is in force."""
EFFECT = tuple(body.__name__ for body in (FilesRendered, NodeConverged, NodeReset, NodeRenamed, NodeReleased))
"""The types that say what nodes have."""


class Said(NamedTuple):
    """An entry of a resource: `field` without the indexes of lists."""

    resource: str
    field: str
    entry: str


@dataclass
class Effect:
    """A node had the entry: a receipt proved it at `since`, and that it is gone at `until` (None: it has it). A node
    that is given back, or becomes another machine, is not known to have anything any more."""

    node: str
    since: StoredEvent
    until: StoredEvent | None = None


@dataclass
class Interval:
    """An entry was in force in a pool, or (`node`) on a node that a hold set apart. `since` and `until` are the events
    that brought and ended it; `commit` is of the content that says it, `hold` keeps that in force."""

    said: Said
    pool: str
    node: str
    since: StoredEvent
    commit: str
    hold: str
    until: StoredEvent | None = None
    effects: list[Effect] = field(default_factory=list)


def entries_about(resource: str, document: Mapping[str, Any], registry: str) -> frozenset[Said]:
    """What a document says about `registry`: the entries that are it, lie in it, or cover it."""
    parts = {name: document[name] for name in ("spec", "data", "binaryData") if name in document}
    return frozenset(Said(resource, path, text) for path, text in _texts(parts, "") if _is_about(text, registry))


def _texts(value: Any, path: str) -> Iterator[tuple[str, str]]:
    """Every text of a document with its field; of a CA bundle the hosts, which are its keys."""
    if isinstance(value, str):
        yield path, value
    elif isinstance(value, Mapping):
        for key, item in value.items():
            if path in ("data", "binaryData"):
                yield f"{path}[{key}]", str(key).replace("..", ":")
            else:
                yield from _texts(item, f"{path}.{key}" if path else str(key))
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _texts(item, path)


def _is_about(text: str, registry: str) -> bool:
    return bool(text) and " " not in text and (nested(registry, text) or nested(text, registry))


def entry_history(
    fleet: str,
    events: Iterable[StoredEvent],
    said: Callable[[str, str], frozenset[Said]],
    nodes: Mapping[str, tuple[str, str]],
) -> list[Interval]:
    """The intervals of all entries that `said` gives for (resource, content), the oldest first.

    `events` are those of the types STATE from the beginning, and those of EFFECT since an entry was first said, in
    order; `nodes` is what nodes had until then: pool and file set.
    """
    walk = _Walk(fleet, said, nodes)
    for _, group in groupby(events, key=lambda event: event.group):
        walk.take(list(group))
    return walk.found


class _Walk:
    """What is in force, rendered and on nodes, as the events go by."""

    def __init__(
        self, fleet: str, said: Callable[[str, str], frozenset[Said]], nodes: Mapping[str, tuple[str, str]]
    ) -> None:
        self.found: list[Interval] = []
        self._fleet, self._said = fleet, said
        self._rows = Working()
        self._open: dict[tuple[str, str, Said], Interval] = {}
        self._apart: set[tuple[str, str]] = set()
        self._sets: dict[tuple[str, str], set[Said]] = {}
        self._nodes = dict(nodes)
        self._effects: dict[tuple[str, Said], Effect] = {}

    def take(self, group: list[StoredEvent]) -> None:
        changed = [event for event in group if event.type in STATE]
        for event in changed:
            handler = desired_fold.HANDLERS.get(event.type) or node_fold.HANDLERS[event.type]
            handler[1](event, self._rows)
        if changed:
            self._compare(changed)
        for event in group:
            self._effect(event)

    def _compare(self, group: list[StoredEvent]) -> None:
        """Open and end intervals, by what is in force at the end of the group."""
        rows = {
            name: {key: row for key, row in table.items() if row is not None} for name, table in self._rows.rows.items()
        }
        desired = Desired(self._fleet, rows)
        now: dict[tuple[str, str, Said], tuple[str, str]] = {}
        self._apart = {(pool, node) for pool in desired.pools for node in desired.held_nodes(pool)}
        for pool, settings in desired.pools.items():
            for node in ("", *desired.held_nodes(pool)):
                for version in shadowed_out(desired.in_force(pool, node), settings):
                    for one in self._said(version.resource, version.content):
                        now[pool, node, one] = (version.commit, version.hold)
        for key in [key for key in self._open if key not in now]:
            self._open.pop(key).until = _cause(group, key[2], key[0])
        for key in sorted(now.keys() - self._open.keys()):
            pool, node, one = key
            self._open[key] = Interval(one, pool, node, _cause(group, one, pool), *now[key])
            self.found.append(self._open[key])

    def _effect(self, event: StoredEvent) -> None:
        body = event.body
        if isinstance(body, FilesRendered):
            # A node that a hold once set apart has files of its own from then on; without the hold they say the pool's.
            whose = body.node if (body.pool, body.node) in self._apart else ""
            entries = {one for pool, node, one in self._open if pool == body.pool and node == whose}
            self._sets[body.pool, body.files] = entries
            for node, files in list(self._nodes.items()):
                if files == (body.pool, body.files):
                    self._has(node, event)
        elif isinstance(body, NodeConverged):
            self._nodes[body.node] = (body.pool, body.files)
            self._has(body.node, event)
        elif isinstance(body, NodeRenamed):
            before = self._nodes.pop(body.previous, None)
            self._has(body.previous, event)
            if before is not None:
                self._nodes[body.node] = before
                self._has(body.node, event)
        elif isinstance(body, NodeReset | NodeReleased):
            self._nodes.pop(body.node, None)
            self._has(body.node, event)

    def _has(self, node: str, event: StoredEvent) -> None:
        """The node has from now on what its file set says."""
        pool, files = self._nodes.get(node, ("", ""))
        entries = self._sets.get((pool, files), set())
        for key in [key for key in self._effects if key[0] == node and key[1] not in entries]:
            self._effects.pop(key).until = event
        for one in sorted(entries):
            if (node, one) not in self._effects:
                interval = self._interval(pool, node, one)
                if interval is not None:
                    self._effects[node, one] = Effect(node, event)
                    interval.effects.append(self._effects[node, one])

    def _interval(self, pool: str, node: str, one: Said) -> Interval | None:
        """The latest that the node's file set can be of."""
        for interval in reversed(self.found):
            if interval.said == one and interval.pool == pool and interval.node in ("", node):
                return interval
        return None


def _cause(group: list[StoredEvent], one: Said, pool: str) -> StoredEvent:
    """The event of the group that is about the resource, in the pool where there are several; else its last."""
    about = [event for event in group if event.columns.get("resource") == one.resource]
    here = [event for event in about if pool in getattr(event.body, "pools", ())]
    return (here or about or group)[-1]
