"""What work costs this process: wall and CPU seconds, and memory."""

from __future__ import annotations

import gc
import resource
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Cost:
    """Seconds of wall time, and CPU seconds of this process and of its children that ended meanwhile."""

    wall: float
    cpu: float

    def __sub__(self, other: Cost) -> Cost:
        return Cost(self.wall - other.wall, self.cpu - other.cpu)


async def cost(work: Callable[[], Awaitable[object]]) -> Cost:
    """Run it once."""
    before, begun = _cpu(), time.perf_counter()
    await work()
    return Cost(time.perf_counter() - begun, _cpu() - before)


def busy_of(process: int) -> float:
    """Milliseconds that a process of this machine had a processor."""
    return int(Path(f"/proc/{process}/schedstat").read_text().split()[0]) / 1e6


async def growth(work: Callable[[], Awaitable[object]]) -> int:
    """KiB by which it makes this process grow."""
    gc.collect()
    before = _resident_kib()
    await work()
    gc.collect()
    return _resident_kib() - before


def _resident_kib() -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS:"))


def _cpu() -> float:
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in used)
