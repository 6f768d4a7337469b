"""Maintenance windows: when nodes may be begun. Finishing, undoing and uncordoning know no window (DESIGN §7).

An `allow` window opens at each time of its cron schedule, for its duration; without one it is always open. A `deny`
window closes in the same way, and wins. Argo CD's sync windows have the same form.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from itertools import islice
from typing import Any
from zoneinfo import ZoneInfo

from cronsim import CronSim, CronSimError

from reconciler.rollout.fields import BadValue, Field, duration, list_of, one_of, text

LOOK_AHEAD = 400
"""Times of each window's schedule that are looked at for the next opening."""

FIRST = datetime(1970, 1, 2, tzinfo=UTC)
"""A schedule is asked from here to find out whether it can be read."""


def _zone(value: Any) -> str:
    try:
        ZoneInfo(text(value))
    except (ValueError, KeyError, OSError) as error:
        raise BadValue("wants a time zone such as UTC or Asia/Tokyo") from error
    return str(value)


def _schedule(value: Any) -> str:
    wanted = "wants a cron schedule of five fields, such as '0 22 * * 1-5'"
    if len(text(value).split()) != 5:
        raise BadValue(wanted)
    try:
        CronSim(value, FIRST)
    except CronSimError as error:
        raise BadValue(f"{wanted}: {error}") from error
    return str(value)


def _check(window: Mapping[str, Any]) -> None:
    if window["duration"] < 60:
        raise BadValue("wants a duration of at least 1m")


windows = list_of(
    {
        "kind": Field(one_of("allow", "deny"), required=True),
        "schedule": Field(_schedule, required=True),
        "duration": Field(duration, required=True),
        "timeZone": Field(_zone, "UTC"),
    },
    _check,
)
"""Reads spec.windows; durations become seconds."""


def next_opening(spec: Sequence[Mapping[str, Any]], now: datetime) -> datetime | None:
    """When nodes may next be begun: now where they may; None where, as far as is looked ahead, never.

    Looks at each time at which an allow window opens or a deny window ends, 400 of each.
    """
    if not closed(spec, now):
        return now
    moments = []
    for window in spec:
        length = timedelta(seconds=window["duration"] if window["kind"] == "deny" else 0)
        begun = [_begun(window, now)] if window["kind"] == "deny" else []
        moments += [moment + length for moment in (*begun, *islice(_times(window, now), LOOK_AHEAD))]
    return next(
        (moment for moment in sorted(m.astimezone(UTC) for m in moments if m > now) if not closed(spec, moment)), None
    )


def closed(spec: Sequence[Mapping[str, Any]], now: datetime) -> str:
    """Why nodes may not be begun at `now`, with when that changes; empty where they may."""
    denied = [window for window in spec if window["kind"] == "deny" and _is_open(window, now)]
    if denied:
        end = max(_begun(window, now) + timedelta(seconds=window["duration"]) for window in denied)
        return f"a window denies it until {_text(end)}"
    allowed = [window for window in spec if window["kind"] == "allow"]
    if not allowed or any(_is_open(window, now) for window in allowed):
        return ""
    opens = [next(_times(window, now), None) for window in allowed]
    times = [time for time in opens if time is not None]
    return f"outside of its windows; the next opens at {_text(min(times))}" if times else "its windows never open"


def _is_open(window: Mapping[str, Any], now: datetime) -> bool:
    begun = _begun(window, now)
    return now < begun + timedelta(seconds=window["duration"])


def _begun(window: Mapping[str, Any], now: datetime) -> datetime:
    """The latest time of the schedule that is not after `now`."""
    return next(_times(window, now + timedelta(seconds=1), reverse=True), FIRST).astimezone(UTC)


def _times(window: Mapping[str, Any], start: datetime, *, reverse: bool = False) -> CronSim:
    return CronSim(window["schedule"], start.astimezone(ZoneInfo(window["timeZone"])), reverse=reverse)


def _text(moment: datetime) -> str:
    return f"{moment.astimezone(ZoneInfo('UTC')):%Y-%m-%dT%H:%M:%SZ}"
