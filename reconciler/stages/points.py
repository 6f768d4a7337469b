"""Points in time: `#POSITION`, COMMIT, TIME, previous, last-good → the end of an append group."""

from __future__ import annotations

import re
from collections.abc import Iterable
from datetime import UTC, datetime

from reconciler.errors import UsageError
from reconciler.events.catalogue import RolloutCompleted
from reconciler.events.envelope import StoredEvent
from reconciler.ports import EventFilter
from reconciler.stages.context import Context

STATE_TYPES = ("CommitAccepted", "RolledBack", "HoldLifted")
"""The events that begin a new state in force."""

_COMMIT = re.compile(r"[0-9a-f]{7,40}")


async def resolve_position(context: Context, text: str, *, pool: str | None = None) -> int:
    """The last position of the append group that `text` names. Raises UsageError when it names none."""
    if re.fullmatch(r"#?\d{1,6}|#\d+", text):
        return await _end_of_group(context, int(text.lstrip("#")))
    if text in ("previous", "last-good"):
        states = await states_in_force(context, pool=pool, limit=50)
        wanted = states[1:2] if text == "previous" else await _last_good(context, states, pool)
        if not wanted:
            raise UsageError(f"there is no {text} state yet", where="point in time", remedy="see `reconciler history`")
        return await _end_of_group(context, wanted[0].position)
    if _COMMIT.fullmatch(text):
        found = await context.log.read(
            EventFilter(context.name, commit=text, types=("CommitAccepted",), newest_first=True, limit=1)
        )
        if found:
            return await _end_of_group(context, found[0].position)
    return await _at_time(context, text)


async def states_in_force(context: Context, *, pool: str | None = None, limit: int = 10) -> list[StoredEvent]:
    """The latest events that began a state in force (for one pool, when given), newest first."""
    found = await context.log.read(EventFilter(context.name, types=STATE_TYPES, newest_first=True, limit=limit * 5))
    if pool is not None:
        found = [event for event in found if pool in getattr(event.body, "pools", ())]
    return list(found)[:limit]


async def _last_good(context: Context, states: Iterable[StoredEvent], pool: str | None) -> list[StoredEvent]:
    """The newest that is good, if any; those before it are not asked about."""
    for state in states:
        if await _completed_under(context, state, pool):
            return [state]
    return []


async def _completed_under(context: Context, state: StoredEvent, pool: str | None) -> bool:
    """Whether some rollout that this state caused was completed without a failed node."""
    completed = await context.log.read(
        EventFilter(context.name, types=("RolloutCompleted",), pool=pool, correlation_id=state.correlation_id)
    )
    bodies = [done.body for done in completed if isinstance(done.body, RolloutCompleted)]
    return any(body.converged and not body.failed for body in bodies)


async def _end_of_group(context: Context, position: int) -> int:
    found = await context.log.read(EventFilter(after=position - 1, until=position))
    if not found:
        raise UsageError(
            f"the log has no position {position}", where="point in time", remedy="see `reconciler history`"
        )
    return (await context.reads.snapshot(context.name, position, tables=())).position


async def _at_time(context: Context, text: str) -> int:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise UsageError(
            f"{text!r} is no point in time",
            where="point in time",
            remedy="give #POSITION, a commit (7 digits or more), a time (2026-01-31T09:00:00Z), previous or last-good",
        ) from None
    moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    found = await context.log.read(EventFilter(context.name, until_time=moment, newest_first=True, limit=1))
    if not found:
        raise UsageError(
            f"nothing was recorded before {text}", where="point in time", remedy="see `reconciler history`"
        )
    return await _end_of_group(context, found[0].position)
