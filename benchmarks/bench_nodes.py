"""Nodes over real SSH: the service against pyinfra, and against a bare asyncssh loop that makes the same calls.

`python -m benchmarks.bench_nodes [--nodes N]` prints Markdown tables. It needs root and sshd, as the sandbox nodes do,
and pyinfra in .venv/bench, where `make bench` installs it. Every contestant begins with nodes that were never managed;
after each cell every node is looked at: the same five files, and as many reloads as there were changes.
"""

from __future__ import annotations

import argparse
import asyncio
import tempfile
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from statistics import median

from benchmarks.contestants import Bare, Contestant, Pyinfra, Resident
from benchmarks.costs import Cost, cost
from benchmarks.fleet import Link, Place, behind, check, renew, running
from reconciler.transport.sandbox import available

CHECKS, CHANGES = 5, 3
"""How often a cell is measured; the median counts."""

CELLS = ("check", "first apply", "one change")

ONE_WAY = 0.1
"""Seconds that a byte takes in each direction while round trips are counted."""

GOALS = {"check": (10, 40, 1.5, 3), "first apply": (3, 10, 2.5, 5), "one change": (3, 10, 2.5, 5)}
"""Cell → how many times less wall and CPU than pyinfra, how many times the bare loop's CPU, and how many round trips."""


async def run(contestant: Contestant, places: Sequence[Place]) -> dict[str, Cost]:
    """Cell → cost, on nodes as if never managed."""
    renew(places)
    costs = {"before": await cost(contestant.begin)}
    await contestant.prepare(0)
    costs["first apply"] = await cost(contestant.apply)
    check(places, contestant.files, reloads=1)
    costs["check"] = _median([await cost(contestant.check) for _ in range(CHECKS)])
    changes = []
    for number in range(1, CHANGES + 1):
        await contestant.prepare(number)
        changes.append(await cost(contestant.apply))
        check(places, contestant.files, reloads=1 + number)
    costs["one change"] = _median(changes)
    return costs


def _median(costs: Sequence[Cost]) -> Cost:
    return Cost(median(one.wall for one in costs), median(one.cpu for one in costs))
