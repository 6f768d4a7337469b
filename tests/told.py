"""A short life of a fleet, told on a real log: pull requests, a drain, drift, a rollback against Git, a lost node.

Nodes are played in memory; the repository, the passes and the database are real. `moments` are times between chapters,
by the clock of the database.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path

from sqlalchemy.ext.asyncio import AsyncEngine

from reconciler import commands, control
from reconciler.ports import DrainAnswer, DrainTask
from reconciler.projections.tables import HOLDS
from reconciler.registries.model import REGISTRIES_CONF
from reconciler.transport.memory import MemoryTransport
from reconciler.wiring import SystemClock
from tests.world import World, image, make_real_world, memory_nodes, mirrors, pool, site

WORKERS = ("worker-1", "worker-2", "worker-3")
ALLOWED = ["needed.example.com", "quay.io"]
MINE = "reg.example.com"

Files = Mapping[str, Mapping[str, bytes]]


class ReadyDrainer:
    """Does at once whatever it is asked."""

    async def _done(self, task: DrainTask) -> DrainAnswer:
        del task
        return DrainAnswer("done")

    cordon = drain = uncordon = _done


@dataclass
class Told:
    """What there is to ask about. `files`: what the nodes had at each moment, all quiet; path → bytes."""

    engine: AsyncEngine
    world: World
    transport: MemoryTransport
    moments: dict[str, datetime] = field(default_factory=dict)
    files: dict[str, Files] = field(default_factory=dict)

    async def mark(self, name: str) -> None:
        """End a chapter."""
        snapshot = await self.world.context.snapshot()
        assert snapshot.at is not None
        self.moments[name] = snapshot.at
        self.files[name] = {
            node: {path: entry.content for path, entry in found.files.items()}
            for node, found in self.transport.nodes.items()
        }


async def tell(directory: Path, engine: AsyncEngine) -> Told:
    """The whole story; the fleet ends not converged, since one node cannot be reached."""
    transport = MemoryTransport(SystemClock())
    world = await make_real_world(directory, transport, engine)
    world.context = replace(world.context, drainers={"command": ReadyDrainer()})
    told = Told(engine, world, transport)
    chapters: tuple[tuple[str, Callable[[Told], Awaitable[None]]], ...] = (
        ("begun", _begin),
        ("allowed", _allow),
        ("drifted", _drift),
        ("held", _roll_back),
        ("lifted", _lift),
        ("forbidden", _forbid),
        ("lost", _lose),
    )
    for name, chapter in chapters:
        await chapter(told)
        await told.mark(name)
    return told


async def _begin(told: Told) -> None:
    selector = {"matchLabels": {"node-role.kubernetes.io/worker": ""}}
    drained = pool(nodeSelector=selector, drain={"via": "command", "drain": ["drain"]}, maxUnavailable=3)
    nodes = memory_nodes(WORKERS)
    files = {"pool.yaml": drained, "image.yaml": image(allowedRegistries=ALLOWED), **nodes, **site("edge", 2)}
    told.world.repository.commit({**files, "mirrors.yaml": mirrors("m", "quay.io/a", "mirror.example.com/a")}, "Begin")
    await _quiet(told)


async def _allow(told: Told) -> None:
    """A pull request allows a registry and adds search registries, which drains."""
    allowed = image(allowedRegistries=[*ALLOWED, MINE], containerRuntimeSearchRegistries=["quay.io"])
    told.world.repository.commit({"image.yaml": allowed}, "Merge pull request #12 from alice/allow-reg\n\nAllow reg")
    await _quiet(told)


async def _drift(told: Told) -> None:
    """Somebody edits a file, twice."""
    for text in (b"# by hand\n", b"# by hand again\n"):
        file = told.transport.nodes["worker-2"].files[REGISTRIES_CONF]
        told.transport.nodes["worker-2"].files[REGISTRIES_CONF] = replace(file, content=text)
        await _quiet(told)


async def _roll_back(told: Told) -> None:
    """Back to the beginning; a pull request that comes meanwhile is held back where the hold is, and else passes."""
    await commands.rollback(told.world.context, to="previous", reason="pulls fail")
    await _quiet(told)
    worse = image(allowedRegistries=[*ALLOWED, MINE], containerRuntimeSearchRegistries=["quay.io", "docker.io"])
    other = mirrors("other", "quay.io/b", "mirror.example.com/b")
    told.world.repository.commit({"image.yaml": worse, "other.yaml": other}, "Search docker.io too (#13)")
    await _quiet(told)


async def _lift(told: Told) -> None:
    (hold,) = (row["hold"] for row in (await told.world.context.snapshot()).table(HOLDS).values())
    await commands.lift_hold(told.world.context, hold, reason="the mirror is back")
    await _quiet(told)


async def _forbid(told: Told) -> None:
    """The registry goes again; a site replaces the Image for its pool."""
    own = image(allowedRegistries=[*ALLOWED, "edge.example.com"])
    files = {"image.yaml": image(allowedRegistries=ALLOWED), "sites/edge/image.yaml": own}
    told.world.repository.commit(files, "Merge pull request #14 from alice/forbid-reg")
    await _quiet(told)


async def _lose(told: Told) -> None:
    """A node is gone when the next change comes; somebody pauses the other pool after it."""
    node = told.transport.nodes["worker-3"]
    node.faults.unreachable = True
    told.world.repository.commit({"other.yaml": None}, "Remove a mirror (#15)")
    await told.world.sync()
    await control.pause(told.world.context, "edge", reason="an audit")


async def _quiet(told: Told) -> None:
    status = await told.world.sync()
    assert status.exit_code == 0, status
