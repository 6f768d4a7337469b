"""A log that its nodes contradict: restored from a backup, forked, or rewritten.

Each request names the end of the log as it was, and the node keeps it. A node that was told of what the log does not
hold, or of a higher fence epoch than the log's, has served another copy. So has one that was given back by a request
which the log does not hold.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from reconciler.events.catalogue import RestoreAccepted, RestoreDetected
from reconciler.events.envelope import fleet_stream
from reconciler.ports import EventFilter, Observation, Owner, Snapshot
from reconciler.projections.tables import RESTORES
from reconciler.stages.context import EPOCH, Context, anew
from reconciler.stages.sight import Sight

MOST_EVIDENCE = 20
"""Items of evidence that one event names; the others are counted."""

RELEASED = "released node"
"""`source` of evidence from a node that was given back."""

REMEDY = "`reconciler accept --restore --reason TEXT`"


def epoch_of(snapshot: Snapshot) -> int:
    """The fence epoch in force: the one that a person's acceptance began last."""
    row = snapshot.one(RESTORES, snapshot.fleet) or {}
    return int(row.get("epoch") or EPOCH)


async def accepted_epoch(context: Context) -> int:
    """The highest fence epoch that was accepted for any fleet of the log: nodes move between them."""
    events = await context.log.read(EventFilter(types=(RestoreAccepted.__name__,)))
    return max((event.body.epoch for event in events if isinstance(event.body, RestoreAccepted)), default=EPOCH)


def epoch_to_send(context: Context, snapshot: Snapshot, sights: Iterable[Sight]) -> int:
    """The fence epoch of requests: the fleet's, or the higher one under which another fleet of the log wrote to a node
    that is here by now; the node would refuse a lower one. Where nothing is contradicted, that is one of this log."""
    stamps = [stamp_of(sight.observation, context.log.log_id) for sight in sights]
    return max(epoch_of(snapshot), *(stamp.epoch for stamp in stamps if stamp is not None), EPOCH)


def contradicted(snapshot: Snapshot) -> str:
    """What contradicts the log and waits for a person, in words; empty: nothing."""
    row = snapshot.one(RESTORES, snapshot.fleet) or {}
    evidence = row.get("evidence")
    return evidence_text(evidence["items"], evidence["more"]) if evidence else ""


def evidence_text(items: Iterable[Mapping[str, Any]], more: int = 0) -> str:
    """The first item of the evidence in words, and how many others there are."""
    first, *others = items
    more += len(others)
    return _said(first) + (f" (and {more} more)" if more else "")


def _said(item: Mapping[str, Any]) -> str:
    source, name, place = item["source"], item["name"], f"#{item['position']}"
    if source == "backup":
        return f"the database was restored from {name}, up to {place}"
    who = f"{source} {name}"
    if not item["hash"] and not item["position"]:
        return f"{who} has served another copy of this log, of epoch {item['epoch']}"
    if not item["found"]:
        return f"{who} knows this log up to {place}, which it does not reach"
    return f"{who} knows another event at {place} than this log has"


async def detect(context: Context, snapshot: Snapshot, sights: Iterable[Sight]) -> list[RestoreDetected]:
    """One event where nodes contradict the log; none while an earlier one waits for a person. One query for all."""
    if contradicted(snapshot):
        return []
    evidence = await evidence_of(context, epoch_of(snapshot), sights)
    return [detected(evidence)] if evidence else []


def detected(evidence: list[dict[str, Any]]) -> RestoreDetected:
    """The event; the highest epochs and positions come first."""
    ordered = sorted(evidence, key=lambda item: (-item["epoch"], -item["position"], item["source"], item["name"]))
    return RestoreDetected(tuple(ordered[:MOST_EVIDENCE]), max(0, len(ordered) - MOST_EVIDENCE))


async def record_restore(context: Context, evidence: list[dict[str, Any]]) -> None:
    """Append what others than nodes tell, unless an earlier contradiction waits for a person already."""

    async def attempt() -> None:
        now = await context.snapshot()
        if not contradicted(now):
            await context.append(context.events(now, [detected(evidence)]), now, [fleet_stream(context.name)])

    await anew(attempt)


async def evidence_of(context: Context, epoch: int, sights: Iterable[Sight]) -> list[dict[str, Any]]:
    """What the stamps of nodes say against the log. Those of lower epochs were answered by a person's acceptance; a
    higher one may be another fleet's of this log."""
    sources, stamps = {}, {}
    for sight in sights:
        if sight.observation is not None and (stamp := stamp_of(sight.observation, context.log.log_id)) is not None:
            sources[sight.name] = "node" if sight.observation.owner else RELEASED
            stamps[sight.name] = stamp
    told = {name: _told(stamp) for name, stamp in stamps.items()}
    here = {position for name, (position, _) in told.items() if stamps[name].epoch >= epoch and position}
    hashes = await context.log.hashes(here) if here else {}
    above = any(stamp.epoch > epoch for stamp in stamps.values())
    highest = max(epoch, await accepted_epoch(context)) if above else epoch
    found = []
    for name, stamp in sorted(stamps.items()):
        position, own = told[name]
        item = {"source": sources[name], "name": name, "epoch": stamp.epoch}
        if stamp.epoch > highest:
            found.append({**item, "position": 0, "hash": "", "found": ""})
        elif stamp.epoch >= epoch and position and (position not in hashes or (own and hashes[position] != own)):
            found.append({**item, "position": position, "hash": own, "found": hashes.get(position, "")})
    return found


def stamp_of(seen: Observation | None, log_id: str) -> Owner | None:
    """The stamp of this log that the node has, or had when this log gave it back."""
    stamp = (seen.owner or seen.released) if seen is not None else None
    return stamp if stamp is not None and stamp.log_id == log_id else None


def _told(owner: Owner) -> tuple[int, str]:
    """The furthest event that the node knows of; a stamp of an older program has no hash, only the fence."""
    return (owner.head.position, owner.head.hash) if owner.head.position >= owner.fence else (owner.fence, "")
