"""`simulate` from beginning to end: a world is made, lives in virtual time, and is reported on."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

from reconciler.errors import InputRejected, UsageError
from reconciler.ports import ManifestFile
from reconciler.projections.openshift import cluster_pools
from reconciler.projections.tables import FLEETS, NODES
from reconciler.simulation.faults import Fault, some_unreachable
from reconciler.simulation.report import report
from reconciler.simulation.run import Terms, run
from reconciler.simulation.world import Standing, World, commit_of, continued, converge, make_world
from reconciler.source.directory import read_directory
from reconciler.stages.context import FleetSettings
from reconciler.stages.preview import judge_manifests
from reconciler.transport.simulated import Pace
from reconciler.work.virtual import run_virtual


@dataclass(frozen=True)
class Script:
    """What happens meanwhile: how long things take, which nodes have trouble, when it is over."""

    pace: Pace = field(default_factory=Pace)
    faults: Sequence[Fault] = ()
    unreachable: int = 0
    """Percent of the nodes."""
    seed: int = 0
    terms: Terms = field(default_factory=Terms)


def pace_of(**seconds: float) -> Pace:
    """How long things take on the nodes; see Pace."""
    return Pace(**seconds)


def simulate_directory(
    after: Path, before: Path | None, mode: Literal["default", "strict"], start: datetime, script: Script
) -> dict[str, Any]:
    """Bring the nodes of the manifests below `after` to them, from those below `before`, or from untouched hosts.

    Raises InputRejected, UsageError.
    """
    files = read_directory(after)
    old = read_directory(before) if before else None
    pools = {**(_pools(old, mode, start) if old else {}), **_pools(files, mode, start)}
    fleet = FleetSettings("default", after.absolute().as_uri(), "main", ".", mode)

    async def live() -> dict[str, Any]:
        world = make_world(fleet, pools, script.pace, start)
        if old is not None:
            world.source.history.append((commit_of(old, None, start, "Before"), old))
            await converge(world)
        parent = world.source.history[-1][0].sha if old is not None else None
        world.source.history.append((commit_of(files, parent, start, "After"), files))
        return await _live(world, tuple(pools), script)

    return run_virtual(live())


def simulate_fleet(stands: Standing, start: datetime, script: Script) -> dict[str, Any]:
    """Go on from where a fleet stands, with the commit that comes next there. Raises InputRejected, UsageError."""
    _refuse_clusters(cluster_pools(stands.fleet.name, stands.snapshot.rows))
    files = stands.files
    pools = _pools(files, stands.fleet.validation, start) if files is not None else {}

    async def live() -> dict[str, Any]:
        world = continued(stands, pools, script.pace, start)
        head = (stands.snapshot.one(FLEETS, stands.fleet.name) or {}).get("head")
        world.source.history.append((commit_of(files or (), head, start, "Simulated"), files or ()))
        return await _live(world, tuple(pools), script, source=files is not None)

    return run_virtual(live())


def _pools(files: Sequence[ManifestFile], mode: Literal["default", "strict"], now: datetime) -> dict[str, str | None]:
    """Each node of the manifests with its pool. Raises InputRejected where a commit with them would be rejected."""
    judgement, _ = judge_manifests(files, mode, now)
    if judgement.problems:
        raise InputRejected("\n".join(str(problem) for problem in judgement.problems))
    _refuse_clusters(name for name, pool in judgement.inventory.pools.items() if pool.in_cluster)
    return {name: node.pool for name, node in judgement.inventory.nodes.items()}


def _refuse_clusters(pools: Iterable[str]) -> None:
    """Raises UsageError where somebody else rolls out: how that goes is not simulated."""
    for name in pools:
        what = f"pool {name} is rolled out by the Machine Config Operator (manage: cluster), which is not simulated"
        raise UsageError(what, remedy=f"`reconciler plan --pool {name}` shows what changes there")


async def _live(world: World, coming: tuple[str, ...], script: Script, *, source: bool = True) -> dict[str, Any]:
    names = sorted({*coming, *(key[1] for key in (await world.context.snapshot()).table(NODES))})
    faults = [*script.faults, *some_unreachable(names, script.unreachable, script.seed)]
    return await report(world, await run(world, faults, names, script.terms, source=source))
