"""The states that nodes should have been in, one after the other, told from the log. Nothing is recorded or asked.

A state begins with an append group that changes what is in force: a commit, a rollback, the end of a hold, another
host. One pass may record many commits and render the last one only; here each is a state of its own. Its files are
those recorded for exactly its inputs; only where there are none are they rendered, by today's renderer.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from reconciler.errors import ContentRedacted, UsageError
from reconciler.events.catalogue import BaselineCaptured, CommitObserved, FilesRendered, HoldLifted, RolledBack
from reconciler.events.codec import plain
from reconciler.events.envelope import StoredEvent
from reconciler.ports import EventFilter, Snapshot
from reconciler.projections.desired import Desired, base_files_of, base_of
from reconciler.projections.tables import HOLDS, NODE_STATES, NODES, POOLS, RESOURCES
from reconciler.registries.disruption import Files
from reconciler.registries.evidence import Origins
from reconciler.registries.lint_hosts import is_drop_in_read
from reconciler.stages.context import Context, Progress
from reconciler.stages.host_files import Blobs
from reconciler.stages.points import STATE_TYPES, resolve_position
from reconciler.stages.project import Unit, decode_origins, inputs_of, render_unit
from reconciler.stages.traces import Scope

BEGINNINGS = (
    *STATE_TYPES, "BaselineCaptured", "NodeReset", "NodeRenamed", "NodeReleased", "CommitRejected",
)  # fmt: skip
"""The events that may begin a state (what one pool rejects may change the inventory all the same); of those in one
append group the first here stands for it."""

PROBING = "bisect from #"
"""How the reasons of holds begin under which a probe is run. Those are no states to be found: a second bisection would
find the first one."""

MANY = 100
"""After so many states people are told how far it is."""

_TABLES = (RESOURCES, POOLS, NODES, NODE_STATES, HOLDS)


@dataclass(frozen=True)
class Ours:
    """What is wanted over one base: (path, digest) pairs, and the provenance, as a blob or as it was just rendered."""

    files: Blobs
    origins: str = ""
    rendered: Origins = field(default_factory=dict)


@dataclass(frozen=True)
class Wish:
    """A node's files as they should have been: all of the host's, ours among them. `complete`: no other file there adds
    to them."""

    scope: Scope
    files: Blobs
    complete: bool
    ours: Ours = field(compare=False)


@dataclass(frozen=True)
class State:
    """What was wanted after `event`, whose append group ends at `position`, by node; and what was just before."""

    event: StoredEvent
    position: int
    wishes: Mapping[str, Wish]
    earlier: Mapping[str, Wish]

    @property
    def before(self) -> int:
        """The end of the append group before this one."""
        return self.event.group - 1


async def between(context: Context, good: str, bad: str | None, pool: str | None) -> tuple[int, int]:
    """The positions of two points in time; `bad` None: now. Raises UsageError where the first is not the earlier."""
    first = await resolve_position(context, good, pool=pool)
    last = (await context.snapshot()).position if bad is None else await resolve_position(context, bad, pool=pool)
    if first >= last:
        raise UsageError(
            f"#{first} is not before #{last}",
            where="--good and --bad",
            remedy="--good is the earlier point; where something was mended, it is the broken one",
        )
    return first, last


class Past:
    """What nodes should have had at positions of the log. What is not recorded is rendered once, and kept here only."""

    def __init__(
        self,
        context: Context,
        recorded: Mapping[tuple[str, str, str], FilesRendered],
        baselines: Mapping[str, Sequence[tuple[int, BaselineCaptured]]],
        probing: Collection[str],
    ) -> None:
        self._context = context
        self._recorded = recorded
        self._baselines = baselines
        self._probing = probing
        self._rendered: dict[tuple[str, str, str], Ours | None] = {}
        self._contents: dict[str, bytes] = {}

    @classmethod
    async def of(cls, context: Context) -> Past:
        """With all file sets that the log has, by pool, base and inputs; all baselines, by node; and the holds of
        probes."""
        types = (FilesRendered.__name__, BaselineCaptured.__name__, RolledBack.__name__)
        recorded: dict[tuple[str, str, str], FilesRendered] = {}
        baselines: dict[str, list[tuple[int, BaselineCaptured]]] = {}
        probing: set[str] = set()
        for event in await context.log.read(EventFilter(context.name, types=types)):
            if isinstance(event.body, FilesRendered):
                recorded[event.body.pool, event.body.base, event.body.inputs] = event.body
            elif isinstance(event.body, BaselineCaptured):
                baselines.setdefault(event.body.node, []).append((event.position, event.body))
            elif isinstance(event.body, RolledBack) and event.body.reason.startswith(PROBING):
                probing.add(event.body.hold)
        return cls(context, recorded, baselines, probing)

    async def at(self, position: int, names: Iterable[str] | None = None) -> tuple[Snapshot, dict[str, Wish]]:
        """The wishes at the end of the append group of `position`, for these nodes or all; a node of which the wish is
        not known, or does not render, has none."""
        snapshot = await self._context.reads.snapshot(self._context.name, position, _TABLES)
        desired = Desired(self._context.name, snapshot.rows)
        held = {name for pool in desired.pools for name in desired.held_nodes(pool)}
        found: dict[str, Wish] = {}
        once: dict[tuple[str, str, str], Ours | None] = {}
        for name in desired.nodes if names is None else names:
            state = self._state(snapshot, name)
            unit = _unit(snapshot, desired, name, state, held)
            if unit is None:
                continue
            key = (unit.pool, unit.node, unit.base)
            if key not in once:
                once[key] = await self._known(desired, unit)
            if ours := once[key]:
                found[name] = _wish(unit, state, ours)
        return snapshot, found

    async def states(self, after: int, until: int, names: Collection[str]) -> list[State]:
        """The states that began in between, each with a file of some of these nodes changed by it."""
        _, last = await self.at(after, names)
        found: list[State] = []
        events = await self._beginnings(after, until, names)
        for number, event in enumerate(events, start=1):
            snapshot, wishes = await self.at(event.position, names)
            now = {**last, **wishes}  # where nothing renders, or something was redacted, what was wanted before stays
            if any(now[name].files != last[name].files for name in names):
                found.append(State(event, snapshot.position, now, last))
            last = now
            if number % MANY == 0:
                self._context.progress(Progress("bisect", "states looked at", number, len(events)))
        return found

    async def contents(self, wish: Wish) -> Files:
        """The bytes of a host's files."""
        digests = [digest for _, digest in wish.files]
        known = await self._context.load(digest for digest in digests if digest not in self._contents)
        return {
            path: self._contents[digest] if digest in self._contents else known[digest] for path, digest in wish.files
        }

    async def origins(self, wish: Wish) -> Origins:
        """Where each line of ours comes from."""
        if not wish.ours.origins:
            return wish.ours.rendered
        known = await self._context.load_known([wish.ours.origins])
        return decode_origins(known[wish.ours.origins]) if known else {}

    async def is_file_set(self, wish: Wish, name: str | None) -> bool:
        """Whether the file set with this digest is what is wanted of us."""
        if name is None:
            return False
        entries = (await self._context.load_file_set(name)).entries
        return tuple((entry.path, entry.sha256) for entry in entries) == wish.ours.files

    async def _beginnings(self, after: int, until: int, names: Collection[str]) -> list[StoredEvent]:
        """One event for each append group that may begin a state."""
        wanted = EventFilter(self._context.name, after=after, until=until, types=BEGINNINGS)
        groups: dict[int, StoredEvent] = {}
        for event in await self._context.log.read(wanted):
            about = event.columns.get("node")
            probing = isinstance(event.body, (RolledBack, HoldLifted)) and event.body.hold in self._probing
            if probing or (about and about not in names):
                continue
            first = groups.setdefault(event.group, event)
            groups[event.group] = min(first, event, key=lambda one: BEGINNINGS.index(one.type))
        return [groups[group] for group in sorted(groups)]

    def _state(self, snapshot: Snapshot, name: str) -> Mapping[str, Any]:
        """The node's state; before its first observation with the base that was found then, since nobody but us
        changes that: a commit that was recorded before the nodes were seen is a state of theirs, too."""
        state = snapshot.one(NODE_STATES, snapshot.fleet, name) or {}
        later = (body for position, body in self._baselines.get(name, ()) if position > snapshot.position)
        if state.get("base") or state.get("released") or (first := next(later, None)) is None:
            return state
        return {**state, "base": first.base, "base_files": plain(first.files)}

    async def _known(self, desired: Desired, unit: Unit) -> Ours | None:
        """None also where a part of it was redacted."""
        try:
            return await self._ours(desired, unit)
        except ContentRedacted:
            return None

    async def _ours(self, desired: Desired, unit: Unit) -> Ours | None:
        chosen, inputs = await inputs_of(self._context, desired, unit)
        key = (unit.pool, unit.base, inputs)
        if recorded := self._recorded.get(key):
            entries = (await self._context.load_file_set(recorded.files)).entries
            await self._context.load(entry.sha256 for entry in entries)
            return Ours(tuple((entry.path, entry.sha256) for entry in entries), recorded.origins)
        if key not in self._rendered:
            outcome = await render_unit(self._context, desired.pools[unit.pool], chosen, unit)
            self._contents |= {file.sha256: file.content for file in outcome.files}
            files = tuple((file.path, file.sha256) for file in outcome.files)
            origins = {file.path: file.origins for file in outcome.files}
            self._rendered[key] = Ours(files, rendered=origins) if outcome.ok else None
        return self._rendered[key]


def _unit(
    snapshot: Snapshot, desired: Desired, name: str, state: Mapping[str, Any], held: Collection[str]
) -> Unit | None:
    """What the node's files are rendered from; None where it was never observed, or before its pool took a commit."""
    node = desired.nodes.get(name)
    if node is None or node.pool not in desired.pools:
        return None
    row = snapshot.one(POOLS, snapshot.fleet, node.pool) or {}
    base = base_of(snapshot.fleet, snapshot.rows, node.pool, state)
    if base is None or row.get("commit") is None:
        return None
    return Unit(node.pool, name if name in held else "", base, base_files_of(row, state))


def _wish(unit: Unit, state: Mapping[str, Any], ours: Ours) -> Wish:
    base = {path: digest for path, digest in (state.get("base_files") or {}).items() if digest}
    files = tuple(sorted({**base, **dict(ours.files)}.items()))
    complete = not any(is_drop_in_read(path) for path in state.get("strays") or ())
    return Wish(Scope(unit.pool, unit.node), files, complete, ours)


async def _commit(context: Context, event: StoredEvent) -> CommitObserved | None:
    body = event.body
    ended_by = body.commit if isinstance(body, HoldLifted) and not body.is_a_persons else None
    wanted = EventFilter(context.name, after=event.group - 1, until=event.group)
    if ended_by:
        wanted = EventFilter(context.name, until=event.position, types=(CommitObserved.__name__,), commit=ended_by)
    found = await context.log.read(wanted)
    return found[0].body if found and isinstance(found[0].body, CommitObserved) else None


async def event_data(context: Context, event: StoredEvent) -> dict[str, Any]:
    """Who began a state, and with what: the event, and the commit, rollback or lifted hold behind it. A hold that ended
    by itself, for what a commit says, has both."""
    commit = await _commit(context, event)
    return {
        "position": event.position,
        "type": event.type,
        "recordedAt": event.recorded_at.isoformat().replace("+00:00", "Z"),
        "actor": event.actor.subject,
        "commit": commit.commit if commit else None,
        "author": commit.author if commit else None,
        "pullRequest": commit.pull_request if commit else None,
        "subject": commit.subject if commit else getattr(event.body, "reason", ""),
        "hold": getattr(event.body, "hold", None),
        "node": event.columns.get("node"),
    }
