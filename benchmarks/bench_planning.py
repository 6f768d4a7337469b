"""Planning at size, on a memory log: a fleet planned, a pass with nothing to do, and a large set of mirrors.

`python -m benchmarks.bench_planning` prints a Markdown table. Times are CPU seconds of one run in one process. Nodes
are in memory and answer at once; what they cost beside is measured apart, so that the rest is reconciler's own.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import yaml

from reconciler.cycle import run_pass
from reconciler.errors import NodeError
from reconciler.ports import ManifestFile, Observation, ObserveRequest, Target
from reconciler.rollout.plan import Planner, plan_pool
from reconciler.simulation.world import World, commit_of, converge, make_world
from reconciler.stages.context import EPOCH, FleetSettings
from reconciler.stages.observe import look_closer, observe
from reconciler.stages.project import project
from reconciler.stages.record import fetch, record
from reconciler.stages.view import Look, view_pool
from reconciler.transport.simulated import Pace
from reconciler.work.inline import InlineRunner

START = datetime(2026, 1, 1, tzinfo=UTC)
SETS = 50


def manifests(nodes: int, entries: int, blocked: str) -> list[ManifestFile]:
    """A pool with `nodes` nodes, `entries` mirror entries, and one blocked registry."""
    documents: list[dict[str, Any]] = [
        _document("NodePool", "worker", {"mode": "enforce", "nodeSelector": {"matchLabels": {"worker": ""}}}),
        *(_document("Node", f"worker-{n}", {"transport": "memory"}) for n in range(nodes)),
    ]
    files = {"fleet": documents, "image": [_image(blocked)], "mirrors": [_mirrors(n, entries) for n in range(SETS)]}
    found = []
    for name, content in files.items():
        data = yaml.dump_all(content, Dumper=yaml.CSafeDumper).encode()
        found.append(ManifestFile(f"{name}.yaml", f"{name} {blocked}", data))
    return found


def _document(kind: str, name: str, spec: dict[str, Any]) -> dict[str, Any]:
    metadata = {"name": name, "labels": {"worker": ""}}
    return {"apiVersion": "reconciler.dev/v1alpha1", "kind": kind, "metadata": metadata, "spec": spec}


def _image(blocked: str) -> dict[str, Any]:
    spec = {"registrySources": {"blockedRegistries": [blocked]}}
    return {"apiVersion": "config.openshift.io/v1", "kind": "Image", "metadata": {"name": "cluster"}, "spec": spec}


def _mirrors(number: int, entries: int) -> dict[str, Any]:
    rows = [
        {"source": f"r{i % 500}.example.com/team{i // 500}/app{i}", "mirrors": [f"mirror{i % 7}.corp:5000/copy/app{i}"]}
        for i in range(number, entries, SETS)
    ]
    kind, name = "ImageDigestMirrorSet", f"set-{number}"
    metadata, spec = {"name": name}, {"imageDigestMirrors": rows}
    return {"apiVersion": "config.openshift.io/v1", "kind": kind, "metadata": metadata, "spec": spec}


async def world_of(nodes: int, entries: int) -> World:
    """A fleet that has converged, and that has one more commit to take."""
    names: dict[str, str | None] = {f"worker-{n}": "worker" for n in range(nodes)}
    world = make_world(FleetSettings("default", "memory:", "main", "."), names, Pace(), START)
    for blocked in ("a.corp", "b.corp"):
        files = manifests(nodes, entries, blocked)
        parent = world.source.history[-1][0].sha if world.source.history else None
        world.source.history.append((commit_of(files, parent, START, blocked), files))
        if parent is None:
            await converge(world)
    return world


class Timed(InlineRunner):
    """A runner that counts what the nodes themselves cost."""

    seconds = 0.0

    async def observe(self, wanted: Sequence[tuple[Target, ObserveRequest]]) -> Sequence[Observation | NodeError]:
        start = time.process_time()
        answers = await super().observe(wanted)
        self.seconds += time.process_time() - start
        return answers


async def seconds(work: Callable[[], Awaitable[object]]) -> float:
    """CPU seconds of `work`."""
    start = time.process_time()
    await work()
    return time.process_time() - start


async def quiet(world: World) -> tuple[float, float]:
    """CPU seconds of a pass with nothing to do, and what of it the nodes cost."""
    runner = Timed(world.transport, limit=1_000_000)
    context = replace(world.context, runner=runner)
    newest = world.source.history.pop()
    await run_pass(context)
    head, runner.seconds = world.log.position, 0.0
    whole = await seconds(lambda: run_pass(context))
    assert world.log.position == head
    world.source.history.append(newest)
    return whole, runner.seconds


async def planned(world: World) -> tuple[float, float, float]:
    """CPU seconds of recording the commit, of what the nodes cost, and of all from their answers to the plan."""
    runner = Timed(world.transport, limit=1_000_000)
    context = replace(world.context, runner=runner)

    async def take() -> None:
        head = await fetch(context)
        assert head is not None
        await record(context, head)

    taking = await seconds(take)

    async def plan() -> None:
        sights = await observe(context)
        await project(context)
        await look_closer(context, sights)
        view = await view_pool(Look(context, sights), await context.snapshot(), "worker")
        found = plan_pool(view, Planner("default", "me", EPOCH), START)
        assert found.steps
        assert len(found.steps) + len(found.waits) == len(view.nodes)

    planning = await seconds(plan)
    return taking, runner.seconds, planning - runner.seconds


async def measure() -> None:
    print("| what | nodes × entries | CPU | nodes beside | goal |")
    print("| --- | --- | --- | --- | --- |")
    for nodes, entries, goal in ((10_000, 50, "≤ 1 s"), (2_000, 5_000, "")):
        world = await world_of(nodes, entries)
        size = f"{nodes:,} × {entries:,}"
        whole, asking = await quiet(world)
        print(f"| a pass with nothing to do | {size} | {whole - asking:.2f} s | {asking:.2f} s | {goal} |")
        taking, asking, planning = await planned(world)
        print(f"| judge and record a commit | {size} | {taking:.2f} s | | |")
        print(f"| observe, render, compare, plan | {size} | {planning:.2f} s | {asking:.2f} s | ≤ 10 s |")


if __name__ == "__main__":
    asyncio.run(measure())
