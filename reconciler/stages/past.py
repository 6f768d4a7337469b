"""The fleet as the log had it at a point in time: the ports of a context, ending there. Every question that is asked of
the log alone is asked of it unchanged.

What is no part of the log (when nodes last answered, what they have now) is not there.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, NoReturn

from reconciler.errors import ContentRedacted, UsageError
from reconciler.events.catalogue import BaselineCaptured, FilesRendered
from reconciler.events.envelope import StoredEvent
from reconciler.ports import EventFilter, EventLog, ReadModel, Seen, Snapshot
from reconciler.projections.desired import Desired
from reconciler.projections.tables import NODE_STATES, NODES, RENDERS, TABLES, Key, Row, Table
from reconciler.stages.context import Context
from reconciler.stages.points import resolve_position
from reconciler.stages.project import inputs_of, units

Rows = Mapping[Key, Row]


@dataclass(frozen=True)
class Past:
    """`context` ends at `position`, which was recorded at `at`. `unrendered`: the pools whose state in force there was
    never rendered, so that their files are those of the state before it; `redacted`: those of which it is not known any
    more, so that their files are those recorded by then."""

    context: Context
    position: int
    at: datetime | None
    unrendered: tuple[str, ...] = ()
    redacted: tuple[str, ...] = ()

    @property
    def notes(self) -> list[str]:
        """Which pools' files are not those of the state in force at the point, and why."""
        never = "was never rendered; files are those before it"
        gone = "was redacted; files are those recorded by then"
        about = [*((pool, never) for pool in self.unrendered), *((pool, gone) for pool in self.redacted)]
        return [f"pool {pool}: what was in force at #{self.position} {why}" for pool, why in about]

    def as_data(self) -> dict[str, Any]:
        """As answers name it."""
        return {"position": self.position, "at": self.at.isoformat().replace("+00:00", "Z") if self.at else None}


async def past(context: Context, point: str, *, settled: bool = False) -> Past:
    """The fleet at the end of the append group that `point` names. Raises UsageError when it names none.

    A commit is recorded before its files are rendered, and the first one before a node was ever seen. With `settled`,
    the wanted files are those of the state in force at the point, as they were recorded then or soon after, over the
    base that a node was first seen to have; else those that the log had by then.
    """
    return await past_at(context, await resolve_position(context, point), settled=settled)


async def past_at(context: Context, position: int, *, settled: bool = False) -> Past:
    """As `past`; `position` ends an append group."""
    snapshot = await context.snapshot(position)
    clock = _StoppedClock(snapshot.at) if snapshot.at else context.clock
    ended = replace(
        context,
        log=_EndedLog(context.log, position),
        reads=_EndedReads(context.reads, snapshot),
        clock=clock,
        as_of=position,
    )
    if not settled:
        return Past(ended, position, snapshot.at)
    seen = await _first_seen(context, snapshot)
    renders, unrendered, redacted = await _settled(context, replace(snapshot, rows={**snapshot.rows, **seen}))
    rows = {**snapshot.rows, **seen, RENDERS.name: renders}
    ended.reads = _EndedReads(context.reads, replace(snapshot, rows=rows))
    return Past(ended, position, snapshot.at, unrendered, redacted)


async def _first_seen(context: Context, snapshot: Snapshot) -> Mapping[str, Rows]:
    """NODE_STATES, with the nodes that were not seen yet as they first were."""
    states = dict(snapshot.table(NODE_STATES))
    known = {key for key, state in states.items() if state["base"] or state["released"]}
    unseen = set(snapshot.table(NODES)) - known
    types = (BaselineCaptured.__name__,)
    wanted = EventFilter(context.name, after=snapshot.position, types=types, newest_first=True)
    for event in await context.log.read(wanted) if unseen else ():
        body = event.body
        if isinstance(body, BaselineCaptured) and (key := (context.name, body.node)) in unseen:
            row = states.get(key) or {**dict.fromkeys(NODE_STATES.columns), "fleet": context.name, "node": body.node}
            states[key] = {**row, "base": body.base, "base_files": dict(body.files)}
    return {NODE_STATES.name: states}


async def _settled(context: Context, snapshot: Snapshot) -> tuple[Rows, tuple[str, ...], tuple[str, ...]]:
    """The rows of RENDERS that the state in force comes to, and the pools of which some were never rendered, or are
    redacted."""
    desired = Desired(context.name, snapshot.rows)
    rows = dict(snapshot.table(RENDERS))
    late: dict[Key, str] = {}
    redacted: set[str] = set()
    for unit in units(snapshot, desired):
        key: Key = (context.name, unit.pool, unit.node, unit.base)
        try:
            inputs = (await inputs_of(context, desired, unit))[1]
        except ContentRedacted:
            redacted.add(unit.pool)
            continue
        if key in rows and rows[key]["inputs"] == inputs:
            continue
        recorded = desired.recorded_files(unit.pool, unit.node, unit.base, inputs)
        if recorded is not None:
            rows[key] = _row(key, recorded)
        else:
            late[key] = inputs
    found = await _rendered(context, snapshot.position) if late else {}
    bodies = {key: found.get((key[1], key[3], inputs)) for key, inputs in late.items()}
    rows |= {key: _row(key, body.as_data()) for key, body in bodies.items() if body}
    unrendered = {key[1] for key, body in bodies.items() if not body}
    return rows, tuple(sorted(unrendered)), tuple(sorted(redacted))


async def _rendered(context: Context, position: int) -> dict[tuple[str, str, str], FilesRendered]:
    """By pool, base and inputs: the first rendering after `position`, else the last before it."""
    events = await context.log.read(EventFilter(context.name, types=(FilesRendered.__name__,)))
    before = [event for event in events if event.position <= position]
    found: dict[tuple[str, str, str], FilesRendered] = {}
    for event in (*before, *reversed(events[len(before) :])):  # of two that are equal, the later in this order counts
        if isinstance(event.body, FilesRendered):
            found[event.body.pool, event.body.base, event.body.inputs] = event.body
    return found


def _row(key: Key, recorded: Mapping[str, Any]) -> Row:
    row = {**dict.fromkeys(RENDERS.columns), **dict(zip(RENDERS.key, key, strict=True))}
    return {**row, **{name: recorded[name] for name in RENDERS.columns if name in recorded}}


@dataclass(frozen=True)
class _StoppedClock:
    """ports.Clock at which it is always that moment."""

    moment: datetime

    def now(self) -> datetime:
        return self.moment

    async def sleep(self, *_: Any, **__: Any) -> NoReturn:
        raise _refusal()


class _EndedLog:
    """ports.EventLog up to a position."""

    def __init__(self, below: EventLog, position: int) -> None:
        self.log_id = below.log_id
        self.below, self.position = below, position

    async def append(self, *_: Any, **__: Any) -> NoReturn:
        raise _refusal()

    async def read(self, wanted: EventFilter) -> Sequence[StoredEvent]:
        last = self.position if wanted.until is None else min(wanted.until, self.position)
        return await self.below.read(replace(wanted, until=last))

    def follow(self, *_: Any, **__: Any) -> NoReturn:
        raise _refusal()

    async def hashes(self, positions: Iterable[int]) -> Mapping[int, str]:
        return await self.below.hashes([position for position in positions if position <= self.position])

    async def verify(self, *_: Any, **__: Any) -> NoReturn:
        raise _refusal()

    async def verify_after(self, *_: Any, **__: Any) -> NoReturn:
        raise _refusal()


@dataclass(frozen=True)
class _EndedReads:
    """ports.ReadModel as of a position. `last`: the snapshot there, so that a large fleet is not read twice."""

    below: ReadModel
    last: Snapshot

    async def snapshot(self, fleet: str, at: int | None = None, tables: Sequence[Table] | None = None) -> Snapshot:
        position = self.last.position if at is None else min(at, self.last.position)
        if (fleet, position) != (self.last.fleet, self.last.position):
            found = await self.below.snapshot(fleet, position, tables)
            if (fleet, found.position) != (self.last.fleet, self.last.position):
                return found
        names = (table.name for table in (TABLES if tables is None else tables))
        return replace(self.last, rows={name: self.last.rows[name] for name in names})

    async def fleets(self) -> Sequence[str]:
        return await self.below.fleets()

    async def rebuild(self, *_: Any, **__: Any) -> NoReturn:
        raise _refusal()

    async def seen(self, *_: Any, **__: Any) -> Mapping[str, Seen]:
        return {}

    async def touch(self, *_: Any, **__: Any) -> NoReturn:
        raise _refusal()


def _refusal() -> UsageError:
    return UsageError("the past cannot be changed, followed or waited for", where="--at", remedy="leave out --at")
