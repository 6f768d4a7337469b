"""How `history --entry` filters and prints."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from reconciler.cli.events import event_filter
from reconciler.cli.output import Column, Item, moment, short
from reconciler.errors import UsageError

if TYPE_CHECKING:
    from reconciler.ports import EventFilter
    from reconciler.stages.context import Context


def _by(end: Item | None) -> str:
    """Who brought or ended it: the hold that decides, else the commit."""
    if end is None:
        return ""
    return f"{end['hold']} ({end['actor']})" if end["hold"] else short(end["commit"]) or end["type"]


def _first(item: Item) -> str:
    return moment(min((effect["from"]["effectiveAt"] for effect in item["effective"]), default=None))


def _names(item: Item) -> list[str]:
    """The nodes that had it, each once; those that have it no more with the time of it."""
    last = {effect["node"]: effect["until"] for effect in item["effective"]}
    return [f"{node} (until {moment(until['effectiveAt'])})" if until else node for node, until in last.items()]


def _nodes(item: Item) -> str:
    names = {effect["node"] for effect in item["effective"]}
    left = {effect["node"] for effect in item["effective"] if effect["until"] is None}
    return f"{len(left)} of {len(names)}" if len(left) < len(names) else str(len(names))


ENTRY_COLUMNS = (
    Column("ENTRY", lambda item: item["entry"]),
    Column("SOURCE", lambda item: f"{item['resource']}:{item['field']}"),
    Column("POOLS", lambda item: [*item["pools"], *(f"node {name}" for name in item["nodes"])]),
    Column("COMMITTED", lambda item: moment(item["from"]["committedAt"]), wide=True),
    Column("ACCEPTED", lambda item: moment(item["from"]["acceptedAt"])),
    Column("BY", lambda item: _by(item["from"])),
    Column("PR", lambda item: f"#{item['from']['pullRequest']}" if item["from"]["pullRequest"] else ""),
    Column("AUTHOR", lambda item: item["from"]["author"]),
    Column("ENDED", lambda item: moment(item["until"]["acceptedAt"]) if item["until"] else ""),
    Column("ENDED-BY", lambda item: _by(item["until"])),
    Column("EFFECTIVE", _first),
    Column("NODES", _nodes),
    Column("NAMES", _names, wide=True),
)


async def matching_entries(
    context: Context, items: Sequence[dict[str, Any]], filters: Mapping[str, Any]
) -> list[dict[str, Any]]:
    """Those that the filters of events let through; times are of when the entry was in force. Raises UsageError."""
    if filters["type"]:
        raise UsageError("is about events", where="--type", remedy="leave out --type or --entry")
    columns = {name: filters[name] for name in ("since", "until", "limit")}
    wanted = await event_filter(context, type=(), **columns)
    found = [item for item in items if _matches(item, filters) and _in_force(item, wanted)]
    return found[: wanted.limit]


def _matches(item: Item, filters: Mapping[str, Any]) -> bool:
    start, end = item["from"], item["until"] or {"commit": None, "author": None, "pullRequest": None}
    commit, author, request = filters["commit"], filters["author"], filters["pull_request"]
    return (
        (filters["node"] is None or filters["node"] in {*item["nodes"], *(one["node"] for one in item["effective"])})
        and (filters["pool"] is None or filters["pool"] in item["pools"])
        and filters["resource"] in (None, item["resource"])
        and (commit is None or any((side["commit"] or "").startswith(commit) for side in (start, end)))
        and (author is None or any(author.lower() in (side["author"] or "").lower() for side in (start, end)))
        and (request is None or request.lstrip("#") in (start["pullRequest"], end["pullRequest"]))
    )


def _in_force(item: Item, wanted: EventFilter) -> bool:
    """Whether it was at some moment of the filter's."""
    since = wanted.since_time.isoformat() if wanted.since_time else ""
    until = wanted.until_time.isoformat() if wanted.until_time else "9"
    end = item["until"]
    return (
        item["from"]["acceptedAt"] <= until
        and (wanted.until is None or item["from"]["position"] <= wanted.until)
        and (end is None or (end["acceptedAt"] > since and end["position"] > wanted.after))
    )
