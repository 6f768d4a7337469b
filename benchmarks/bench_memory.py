"""What managed nodes and open connections cost in memory: growth of this process, in which nothing else runs.

`python -m benchmarks.bench_memory` prints a Markdown table; the row of connections needs root and sshd.
"""

from __future__ import annotations

import asyncio
import tempfile
from pathlib import Path

from benchmarks.contestants import FLEET, Bare, running_service
from benchmarks.costs import growth
from benchmarks.fleet import Repository, memory_document, running
from reconciler.service import Service
from reconciler.transport.sandbox import available

NODES = 2_000
MACHINES, EACH = 20, 10
"""sshd nodes, and connections to each of them."""


async def managed(directory: Path) -> int:
    """KiB by which the service grows when its fleet grows to NODES, all brought to their five files."""
    repository = Repository(directory / "config", [memory_document("node-0")])
    repository.enforce()
    async with running_service(directory, repository) as service:
        await service.look(FLEET)
        repository.commit({"nodes.yaml": "---\n".join(memory_document(f"node-{n}") for n in range(NODES))})
        return await growth(lambda: _converge(service))


async def _converge(service: Service) -> None:
    await service.look(FLEET)
    updated = f'reconciler_updated_machine_count{{fleet="{FLEET}",pool="worker"}} {float(NODES)}'
    assert updated in service.metrics.text().decode(), "not every node has its files"


async def connected(directory: Path) -> int:
    """KiB by which a process grows with MACHINES x EACH open connections."""
    with running(directory, MACHINES) as places:
        first, rest = Bare(places, ()), Bare(places * EACH, ())
        await first.connect()
        grown = await growth(rest.connect)
        await first.close()
        await rest.close()
    return grown


def main() -> None:
    print("| what | memory |")
    print("| --- | --- |")
    with tempfile.TemporaryDirectory() as folder:
        if missing := available():
            print(f"| an open asyncssh connection | skipped: {missing} |")
        else:
            each = asyncio.run(connected(Path(folder) / "nodes")) / (MACHINES * EACH)
            print(f"| an open asyncssh connection | {each:.0f} KiB |")
        grown = asyncio.run(managed(Path(folder) / "service"))
        print(f"| 1,000 managed nodes, without their connections | {grown / NODES * 1000 / 1024:.0f} MiB |")


if __name__ == "__main__":
    main()
