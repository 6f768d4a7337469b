"""Virtual time: sleeps and timeouts of many tasks interleave as in real time, and cost none."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import pytest

from reconciler.work.virtual import VirtualClock, run_virtual


def test_the_earliest_sleeper_is_next() -> None:
    async def work() -> list[tuple[str, float]]:
        clock, woken = VirtualClock(), list[tuple[str, float]]()

        async def sleeper(name: str, *naps: float) -> None:
            for nap in naps:
                await clock.sleep(nap)
                woken.append((name, clock.elapsed))

        await asyncio.gather(sleeper("a", 3600, 1), sleeper("b", 1, 86_400 * 30), sleeper("c", 0))
        assert clock.now() - clock.start == timedelta(days=30, seconds=1)
        return woken

    expected = [("c", 0), ("b", 1), ("a", 3600), ("a", 3601), ("b", 86_400 * 30 + 1)]
    assert run_virtual(work()) == expected


def test_timeouts_are_virtual_too() -> None:
    async def work() -> float:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(asyncio.sleep(1000), 120)
        return VirtualClock().elapsed

    assert run_virtual(work()) == 120


def test_waiting_for_ever_is_found() -> None:
    with pytest.raises(RuntimeError, match="no timer will wake one"):
        run_virtual(asyncio.Event().wait())
