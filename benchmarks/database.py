"""The database that benchmarks measure on, and what they print."""

from __future__ import annotations

import asyncio
import os
import tempfile
from collections.abc import Callable, Coroutine, Sequence
from pathlib import Path
from typing import Any

from reconciler.events.envelope import StoredEvent
from reconciler.projections.tables import Touched, Working
from reconciler.store.embedded import EmbeddedPostgres
from reconciler.store.upgrade import upgrade

Rows = Sequence[tuple[str, str]]
"""What was measured, and its figure."""


class NoReadTables:
    """A fold that makes nothing of events."""

    def handles(self, event_type: str, /) -> bool:
        del event_type
        return False

    def touches(self, event: StoredEvent, /) -> Sequence[Touched]:
        del event
        return ()

    def apply(self, event: StoredEvent, working: Working, /) -> None:
        """Nothing."""


def run(measure: Callable[[str], Coroutine[Any, Any, Rows]], *, apart: bool = False) -> None:
    """Measure on the server of DATABASE_URL, or else on an embedded one, and print the figures.

    `apart`: the embedded one has every other processor to itself, so that it is not up to the scheduler whether it and
    its clients share one.
    """
    if url := os.environ.get("DATABASE_URL"):
        upgrade(url)
        rows = asyncio.run(measure(url))
    else:
        processors = sorted(os.sched_getaffinity(0))
        if apart:
            os.sched_setaffinity(0, processors[::2])
        with tempfile.TemporaryDirectory() as folder, EmbeddedPostgres(Path(folder)) as server:
            os.sched_setaffinity(0, processors[1::2] if apart else processors)
            upgrade(server.url)
            rows = asyncio.run(measure(server.url))
    print_figures(rows)


def print_figures(rows: Rows) -> None:
    """As a Markdown table."""
    print("| what | figure |")
    print("| --- | --- |")
    for what, figure in rows:
        print(f"| {what} | {figure} |")
