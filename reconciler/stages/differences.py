"""What differs between files that are and files that are wanted, both sides as text for people."""

from __future__ import annotations

from typing import Any

from reconciler.ports import ObservedFile
from reconciler.stages.context import Context
from reconciler.stages.project import set_contents
from reconciler.stages.sight import Sight, is_unread, not_read


async def file_differences(context: Context, sight: Sight, wanted: str) -> list[dict[str, Any]]:
    """Each path that differs between what a node was seen to have and a file set, both sides as text.

    Paths that were ours and are no longer wanted go back to the base. A file that was not read has `error` instead.
    """
    seen = sight.observation
    if seen is None:
        return []
    after = await wanted_paths(context, sight, wanted)
    items = []
    for path, digest in sorted(after.items()):
        file = seen.files.get(path)
        before = file.sha256 if file and file.kind == "file" else ""
        if before == digest:
            continue
        if is_unread(sight, file):
            items.append({"path": path, "error": not_read(path)})
            continue
        old = await _bytes_of(context, file) if before and file else None
        items.append(difference(path, old, (await context.load([digest]))[digest] if digest else None))
    return items


async def _bytes_of(context: Context, file: ObservedFile) -> bytes:
    return file.content if file.content is not None else (await context.load_past([file.sha256]))[file.sha256]


def difference(path: str, old: bytes | None, new: bytes | None) -> dict[str, Any]:
    """One path, both sides as text (None: nothing stands there)."""
    return {
        "path": path,
        "kind": "removed" if new is None else "added" if old is None else "changed",
        "from": (old or b"").decode(errors="replace"),
        "to": (new or b"").decode(errors="replace"),
    }


async def set_differences(context: Context, old: str, new: str) -> list[dict[str, Any]]:
    """Each path that differs between two file sets (`old` may be empty: none), as `difference` gives it."""
    before, after = await set_contents(context, old) if old else {}, await set_contents(context, new)
    return [
        difference(path, before.get(path), after.get(path))
        for path in sorted(set(before) | set(after))
        if before.get(path) != after.get(path)
    ]


async def wanted_paths(context: Context, sight: Sight, wanted: str) -> dict[str, str]:
    """Path → digest of what should stand there ("" for nothing), those given back to the base included."""
    target = (await context.load_file_set(wanted)).by_path
    base = sight.state.get("base_files") or {}
    ours = (*sight.applied.entries, *sight.unproven.entries)
    gone = {entry.path: base.get(entry.path) or "" for entry in ours if entry.path not in target}
    return {**gone, **{path: entry.sha256 for path, entry in target.items()}}
