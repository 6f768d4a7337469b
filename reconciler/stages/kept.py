"""Whether the bytes that a state needs are still there: some may have been redacted."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

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


async def _require(context: Context, digests: set[str]) -> None:
    for digest, why in (await context.blobs.redacted(digests)).items():
        raise why.error(digest)
