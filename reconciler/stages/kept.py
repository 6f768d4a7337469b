"""Whether the bytes that a state needs are still there: some may have been redacted."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from reconciler.events.catalogue import Event, PoolConfigured, ResourceAdded, ResourceChanged
from reconciler.registries.model import Location, Problem
from reconciler.stages.context import Context, decode_file_set


async def require_kept(
    context: Context, entries: Iterable[Mapping[str, Any]], files: Iterable[Mapping[str, Any]]
) -> None:
    """Of a rollback's entries and recorded file sets. Raises ContentRedacted for the first that is gone."""
    restored = [entry["restored"] for entry in entries if entry["restored"]]
    sets = [item["files"] for item in files]
    named = {item[name] for item in restored for name in ("content", "text", "lines")}
    await _require(context, {*named, *sets, *(item["origins"] for item in files)})
    contents = await context.load(sets)
    await _require(context, {entry.sha256 for name in sets for entry in decode_file_set(contents[name]).entries})


async def brought_back(context: Context, events: Iterable[Event]) -> list[Problem]:
    """What of a commit's events needs bytes that were taken away: they do not come back, not from Git either."""
    needs = [need for event in events for need in _needed(event)]
    gone = await context.blobs.redacted({blob for _, _, blobs in needs for blob in blobs})
    found = []
    for name, place, blobs in needs:
        if blob := next((blob for blob in blobs if blob in gone), None):
            message = (
                f"{name} needs blob {blob[:12]}, which was redacted at #{gone[blob].position}: {gone[blob].reason}"
            )
            found.append(Problem("redacted-content", message, place, "", "", "write it otherwise, or take it out"))
    return found


def _needed(event: Event) -> Iterator[tuple[str, Location | None, tuple[str, ...]]]:
    """What an event brings, where that stands, and the blobs that it names."""
    match event:
        case ResourceAdded() | ResourceChanged():
            place = Location(event.file, event.line)
            yield event.resource, place, (event.content, event.text, event.lines)
        case PoolConfigured():
            for path, blob in event.base_files.items():
                yield f"the base of pool {event.pool}", Location(path, 0), (blob,)
        case _:
            pass


async def _require(context: Context, digests: set[str]) -> None:
    for digest, why in (await context.blobs.redacted(digests)).items():
        raise why.error(digest)
