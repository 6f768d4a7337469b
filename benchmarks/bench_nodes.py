"""Nodes over real SSH: the service against pyinfra, and against a bare asyncssh loop, a command per request.

`python -m benchmarks.bench_nodes [--nodes N]` prints Markdown tables. It needs root and sshd, as the sandbox nodes do,
and pyinfra in .venv/bench, where `make bench` installs it; otherwise it says what is missing and ends. Every contestant
begins with nodes that were never managed; after each cell every node is looked at: the same five files, and as many
reloads as there were changes.
"""

from __future__ import annotations

import argparse
import asyncio
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median

from benchmarks.contestants import PYINFRA, Bare, Contestant, Pyinfra, resident
from benchmarks.costs import Cost, cost
from benchmarks.fleet import Link, Place, behind, check, renew, running
from reconciler.transport.sandbox import available

Costs = Mapping[str, Cost]

CHECKS, CHANGES = 5, 3
"""How often a cell is measured; the median counts."""

ONE_WAY = 0.1
"""Seconds that a byte takes in each direction while round trips are counted; much more than a node's work."""

GOALS = {"check": (10, 40, 1.5), "first apply": (3, 10, 2.5), "one change": (3, 10, 2.5)}
"""Cell → how many times less wall time and CPU than pyinfra, and at most how many times the bare loop's CPU."""


async def run(contestant: Contestant, places: Sequence[Place]) -> Costs:
    """Cell → cost, on nodes as if never managed."""
    renew(places)
    costs = {"begin": await cost(contestant.begin)}
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


async def all_costs(directory: Path, count: int) -> None:
    """The service, the bare loop and pyinfra, one after the other on the same nodes."""
    with running(directory / "nodes", count) as places:
        async with resident(directory / "service", places) as service:
            ours = await run(service, places)
        bare = Bare(places, service.history)
        loop = await run(bare, places)
        await bare.close()
        pyinfra = Pyinfra(directory / "pyinfra", places, service.history)
        imports = await cost(pyinfra.version)
        theirs = await run(pyinfra, places)
    _print_costs(count, ours, loop, theirs, imports)
    print()


def _print_costs(count: int, ours: Costs, loop: Costs, theirs: Costs, imports: Cost) -> None:
    print(f"| {count} nodes: wall s / client CPU s | check | first apply | one change |")
    print("| --- | --- | --- | --- |")
    _row("reconciler", ours)
    _row("bare asyncssh loop", loop)
    _row("pyinfra", theirs)
    _row("pyinfra, less imports", {cell: theirs[cell] - imports for cell in GOALS})
    _row("pyinfra, less imports and connecting", {cell: theirs[cell] - theirs["begin"] for cell in GOALS})
    wall = {cell: theirs[cell].wall / ours[cell].wall for cell in GOALS}
    cpu = {cell: theirs[cell].cpu / ours[cell].cpu for cell in GOALS}
    less = {cell: (theirs[cell] - imports).cpu / ours[cell].cpu for cell in GOALS}
    bare = {cell: ours[cell].cpu / loop[cell].cpu for cell in GOALS}
    print("| wall, pyinfra ÷ reconciler (goal) | " + _ratios(wall, "≥", 0))
    print("| CPU, pyinfra ÷ reconciler (goal) | " + _ratios(cpu, "≥", 1))
    print("| CPU, pyinfra less imports ÷ reconciler (goal) | " + _ratios(less, "≥", 1))
    print("| CPU, reconciler ÷ bare loop (goal) | " + _ratios(bare, "≤", 2))
    print(
        "\nApart from that, once: reconciler's first connections and look "
        f"{_figure(ours['begin'])}, the bare loop's {_figure(loop['begin'])}; pyinfra's imports {_figure(imports)}, "
        f"its imports and connections {_figure(theirs['begin'])}."
    )


def _row(name: str, costs: Costs) -> None:
    print(f"| {name} | " + " | ".join(_figure(costs[cell]) for cell in GOALS) + " |")


def _figure(one: Cost) -> str:
    return f"{one.wall:.2f} / {one.cpu:.3f}"


def _ratios(values: Mapping[str, float], sign: str, goal: int) -> str:
    return " | ".join(f"{values[cell]:.1f} ({sign} {goals[goal]:g})" for cell, goals in GOALS.items()) + " |"


async def round_trips(directory: Path) -> None:
    """How often a node is asked and answers, one after the other: by how much longer all takes over a slow link."""
    link = Link()
    with running(directory / "nodes", 1, "far") as places:
        async with behind(link, places[0]) as far, resident(directory / "service", [far]) as service:
            rows = {"reconciler": await _trips(link, service, places, times=3)}
            pyinfra = Pyinfra(directory / "pyinfra", [far], service.history)
            rows["pyinfra, its connection included"] = await _trips(link, pyinfra, places)
    print("| sequential round trips to a node | check | one change |")
    print("| --- | --- | --- |")
    for name, (looking, changing) in rows.items():
        print(f"| {name} | {looking} | {changing} |")


async def _trips(link: Link, contestant: Contestant, places: Sequence[Place], times: int = 1) -> tuple[int, int]:
    """For a look, and for a change; of `times` measurements the fastest counts."""
    renew(places)
    await contestant.begin()
    await contestant.prepare(0)
    await contestant.apply()
    near = await _fastest(contestant, range(1, times + 1))
    link.delay = ONE_WAY
    far = await _fastest(contestant, range(times + 1, 2 * times + 1))
    link.delay = 0
    check(places, contestant.files, reloads=1 + 2 * times)
    looking, changing = (round((slow - fast) / (2 * ONE_WAY)) for slow, fast in zip(far, near, strict=True))
    return looking, changing


async def _fastest(contestant: Contestant, numbers: Sequence[int]) -> tuple[float, float]:
    """Wall seconds of a look and of a change."""
    looks, changes = [], []
    for number in numbers:
        looks.append((await cost(contestant.check)).wall)
        await contestant.prepare(number)
        changes.append((await cost(contestant.apply)).wall)
    return min(looks), min(changes)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--nodes", type=int, default=100)
    count: int = parser.parse_args().nodes
    if missing := available() or ("" if PYINFRA.exists() else f"no {PYINFRA}: run `make bench`"):
        print(f"skipped: {missing}")
        return
    with tempfile.TemporaryDirectory() as folder:
        asyncio.run(all_costs(Path(folder) / "many", count))
        asyncio.run(round_trips(Path(folder) / "one"))


if __name__ == "__main__":
    main()
