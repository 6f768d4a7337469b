"""A directory of manifests judged and rendered before it is committed: no database, no Git, no node."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Any, Literal

from reconciler.errors import UsageError
from reconciler.registries.model import BASE_PATHS, NodeFile
from reconciler.source.directory import read_directory
from reconciler.stages.preview import judge_manifests, render_manifests

Mode = Literal["default", "strict"]


def judge_directory(directory: Path, mode: Mode, now: datetime) -> dict[str, Any]:
    """How a commit with exactly the files below `directory` would be judged. Raises InputRejected."""
    return judge_manifests(read_directory(directory), mode, now)[1]


def render_directory(
    directory: Path, pool: str | None, base_directory: Path | None, mode: Mode, now: datetime
) -> tuple[NodeFile, ...]:
    """The files of a pool's nodes over the host's own below `base_directory`. Raises InputRejected, UsageError."""
    judgement, _ = judge_manifests(read_directory(directory), mode, now)
    return render_manifests(judgement, pool, _base_files(base_directory) if base_directory else {})


def _base_files(root: Path) -> dict[str, bytes | None]:
    """The base files below a directory that stands for /."""
    if not root.is_dir():
        raise UsageError("there is no such directory", where=str(root), remedy="check --base-dir")
    try:
        places = {path: root / path.lstrip("/") for path in BASE_PATHS}
        return {path: place.read_bytes() if place.exists() else None for path, place in places.items()}
    except OSError as error:
        raise UsageError(f"cannot be read: {error.strerror}", where=str(error.filename)) from None
