"""Nodes reached by pods: how many calls of the Kubernetes API a node costs, and what that costs the client.

`python -m benchmarks.bench_kubernetes [--nodes N]` prints a Markdown table. It needs root and sandbox nodes, and
Kubernetes' programs (`make kubernetes`); otherwise it says what is missing and ends. The kubelets are those of the
tests, which run the pods' commands on the same machine, so that no wall time is told. Calls are the API server's own
count of what the service's user asked, watches apart: one list and one watch per process each for nodes and for pods.
"""

from __future__ import annotations

import argparse
import asyncio
import tempfile
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path

from reconciler.kubernetes.trial import find_programs
from reconciler.registries.model import POLICY_JSON
from reconciler.transport.router import TransportRouter
from reconciler.transport.sandbox import available, wait_for
from reconciler.work.inline import InlineRunner
from tests.cluster import ApiServer
from tests.machines import put
from tests.pod_nodes import IMAGE, ORIGIN, PodNodes, by_pods, pod_nodes
from tests.world import MemoryWorld, image, make_world, node_document, pool

USER = "reconciler-service"
ACCEPT_ALL = '{"default": [{"type": "insecureAcceptAnything"}]}'


async def run(nodes: PodNodes, directory: Path) -> None:
    """First contact with the first content, one change that is reloaded, and polls in which nothing changed."""
    config = nodes.cluster.kubeconfig_for(USER, ["system:masters"])
    async with by_pods(config, replace(ORIGIN, owner="bench:1:aa")) as transport:
        world = make_world(directory, TransportRouter({}))
        runner = InlineRunner(TransportRouter({"kubernetes": transport}))
        world.context = replace(world.context, runner=runner, fleet=replace(world.context.fleet, helper_image=IMAGE))
        documents = {f"{m.name}.yaml": node_document(m.name, "{transport: kubernetes}") for m in nodes.machines}
        commit(world, "first.example.com", {"pool.yaml": pool(maxParallel=50), **documents})
        print(f"| {len(nodes.machines)} nodes | calls a node | of them | client CPU s |")
        print("| --- | --- | --- | --- |")
        await cell(nodes, world, "first contact, first content")
        commit(world, "second.example.com", {})
        await cell(nodes, world, "a change that is reloaded")
        await cell(nodes, world, "a poll in which nothing changed")


def commit(world: MemoryWorld, blocked: str, files: dict[str, str | None]) -> None:
    world.repository.commit({"image.yaml": image(blockedRegistries=[blocked]), **files})


async def cell(nodes: PodNodes, world: MemoryWorld, name: str) -> None:
    """One row: until nothing moves, and nothing of it is left in the cluster."""
    since = len(nodes.cluster.calls(USER))
    begun = time.thread_time()  # the kubelets are other threads
    assert (await world.sync(within=600)).exit_code == 0
    spent = time.thread_time() - begun
    await asyncio.to_thread(wait_for, lambda: not nodes.left(), "something is left", 120)
    calls = Counter(f"{c.verb} {c.resource}" for c in nodes.cluster.calls(USER)[since:] if c.verb != "watch")
    each = sum(calls.values()) / len(nodes.machines)
    told = ", ".join(f"{count} {call}" for call, count in sorted(calls.items(), key=lambda one: (-one[1], one[0])))
    print(f"| {name} | {each:.2f} | {told or 'none'} | {spent:.2f} |")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--nodes", type=int, default=20)
    count: int = parser.parse_args().nodes
    if missing := available() or ("" if find_programs() else "no Kubernetes here: run `make kubernetes`"):
        print(f"skipped: {missing}")
        return
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "cluster").mkdir()
        with ApiServer(Path(folder) / "cluster") as cluster, pod_nodes(cluster, Path(folder) / "nodes", count) as nodes:
            cluster.controller_manager()
            for machine in nodes.machines:
                put(machine, POLICY_JSON, ACCEPT_ALL)
            asyncio.run(run(nodes, Path(folder)))


if __name__ == "__main__":
    main()
