"""A commit that changes one of many manifests, against the first look at all of them.

A real Git repository; log and nodes in memory, so that what is timed is reading, judging and rendering. Times are CPU
seconds of this process and of git, the best of several rounds.
"""

from __future__ import annotations

import asyncio
import resource
import tempfile
from collections.abc import Awaitable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import yaml

from reconciler.events.catalogue import FilesRendered
from reconciler.ports import EventFilter
from reconciler.rollout.acceptance import Judgement, judge
from reconciler.source.git_source import GitSource
from reconciler.stages.context import Context
from reconciler.stages.record import parse
from reconciler.transport.memory import MemoryTransport
from tests.world import POOL, ManualClock, MemoryWorld, image, make_world, memory_nodes

MANIFESTS = 500
ROWS = 4
ROUNDS = 15


def manifest(number: int, version: int = 0) -> str:
    """An ImageDigestMirrorSet with ROWS rows."""
    rows = [
        {"source": f"r{number}.example.com/team{row}", "mirrors": [f"mirror{version}.corp.example:5000/copy{number}"]}
        for row in range(ROWS)
    ]
    document = {
        "apiVersion": "config.openshift.io/v1",
        "kind": "ImageDigestMirrorSet",
        "metadata": {"name": f"set-{number}"},
        "spec": {"imageDigestMirrors": rows},
    }
    return yaml.safe_dump(document)


def cpu() -> float:
    """CPU seconds of this process and of the gits it ran."""
    spent = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(found.ru_utime + found.ru_stime for found in spent)


async def seconds(work: Awaitable[object]) -> float:
    """CPU seconds that `work` takes."""
    start = cpu()
    await work
    return cpu() - start


async def taken(context: Context, commit: str) -> Judgement:
    """The commit read and judged."""
    judgement = judge(await parse(context, commit), "default", datetime(2026, 1, 1, tzinfo=UTC))
    assert judgement.accepted == ("worker",)
    return judgement


def anew(context: Context, mirror: Path) -> Context:
    """The same, of a process that has looked at no commit yet; what was fetched is there."""
    return replace(context, parsed={}, source=GitSource(context.fleet.url, "main", ".", mirror, 30.0))


async def measure(world: MemoryWorld, mirror: Path) -> None:
    files = {f"sets/{number}.yaml": manifest(number) for number in range(MANIFESTS)}
    first = world.repository.commit({**files, "pool.yaml": POOL, "image.yaml": image(), **memory_nodes(["w-1"])})
    assert (await world.sync()).exit_code == 0
    second = world.repository.commit({"sets/7.yaml": manifest(7, version=1)}, "Change one")
    head = await world.head()
    await world.context.source.head()

    cold, warm = [], []
    for _ in range(ROUNDS):
        context = anew(world.context, mirror)
        cold.append(await seconds(taken(context, first)))
        warm.append(await seconds(taken(context, second)))
    assert (await world.sync()).exit_code == 0
    rendered = await world.log.read(EventFilter(after=head, types=(FilesRendered.__name__,)))

    print("| what | figure | goal |")
    print("| --- | --- | --- |")
    print(f"| first look at {MANIFESTS} manifests: parsed and validated | {min(cold) * 1000:.0f} ms | |")
    print(
        f"| a commit that changes one of them | {min(warm) * 1000:.0f} ms, ratio {min(warm) / min(cold):.2f} | ≤ 0.1 |"
    )
    print(f"| renderings of that commit | {len(rendered)} | 1 |")


def main() -> None:
    with tempfile.TemporaryDirectory() as directory:
        clock = ManualClock()
        world = make_world(Path(directory), MemoryTransport(clock), clock)
        asyncio.run(measure(world, Path(directory) / "mirror.git"))


if __name__ == "__main__":
    main()
