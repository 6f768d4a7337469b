"""Whether a file set can be brought to a node at all: what carries it there may have a limit of its own."""

from __future__ import annotations

import gzip

from reconciler.stages.context import Context
from reconciler.stages.sight import Sight

POD_LIMIT = 960 * 1024
"""Bytes that the contents of a file set may have, gzipped, on the way to a node by a pod: its request stands in a Secret,
which holds 1 MiB, with the program and the names and hashes of the files."""


class Carriage:
    """Judges each file set once."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._sizes: dict[str, int] = {}

    async def too_large(self, sight: Sight, files: str | None) -> str:
        """Why a file set cannot be brought to the node, or nothing."""
        if sight.target.transport != "kubernetes" or files is None:
            return ""
        if files not in self._sizes:
            entries = (await self._context.load_file_set(files)).entries
            contents = await self._context.load_past(entry.sha256 for entry in entries)
            self._sizes[files] = len(gzip.compress(b"".join(contents[entry.sha256] for entry in entries), 6))
        if (size := self._sizes[files]) <= POD_LIMIT:
            return ""
        return (
            f"its files have {size} bytes gzipped, and a pod can be given {POD_LIMIT} at most: have fewer entries in the "
            "pool's resources, or reach its nodes over SSH"
        )
