"""What manifests would mean, without a database, Git or a node: for `validate` and `render`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Literal

from reconciler.errors import InputRejected, UsageError
from reconciler.ports import ManifestFile
from reconciler.registries.model import NodeFile, Resource
from reconciler.registries.render import render
from reconciler.rollout.acceptance import Judgement, effective, judge
from reconciler.rollout.pools import Pool
from reconciler.stages.record import as_data, parse_manifest


def judge_manifests(
    files: Sequence[ManifestFile], mode: Literal["default", "strict"], now: datetime
) -> tuple[Judgement, dict[str, Any]]:
    """The judgement that a commit with these files would get, and the same as data."""
    judgement = judge([parse_manifest(file) for file in files], mode, now)
    data = {
        "files": len(files),
        "pools": sorted(judgement.inventory.pools),
        "nodes": sorted(judgement.inventory.nodes),
        "resources": sorted({name for resources in judgement.resources.values() for name in resources}),
        "accepted": list(judgement.accepted),
        "rejected": sorted(judgement.rejected),
        "problems": [as_data(problem) for problem in judgement.problems],
        "warnings": [as_data(problem) for problem in judgement.warnings],
        "signatures": "not checked",
        "guard": {name: _guard(pool) for name, pool in sorted(judgement.inventory.pools.items())},
    }
    return judgement, data


def _guard(pool: Pool) -> str:
    """What the guard would judge at least; which images run on nodes is not known here."""
    named = len({*pool.spec["requiredImages"], *filter(None, (pool.spec["releaseImage"],))})
    return f"{named} image{'s' * (named != 1)} required" if named else "NOT ARMED"


def render_manifests(
    judgement: Judgement, pool: str | None, base_files: Mapping[str, bytes | None]
) -> tuple[NodeFile, ...]:
    """The files that a pool's nodes would get over `base_files` of their own, or over the pool's templates; without
    pools, those of all resources.

    Raises InputRejected when the manifests are not acceptable, UsageError when a pool must be named, or has another
    base than the nodes' own files.
    """
    settings, resources = chosen(judgement, pool)
    if base_files and settings.spec["base"] != "host":
        message = f"the nodes' own files do not count for a pool with base: {settings.spec['base']}"
        raise UsageError(message, where="--base-dir", remedy="leave it out")
    outcome = render(resources, settings.render_options(judgement.bases.of(settings) or base_files))
    if not outcome.ok:
        raise InputRejected("\n".join(str(problem) for problem in outcome.problems))
    return outcome.files


def chosen(judgement: Judgement, pool: str | None) -> tuple[Pool, Sequence[Resource]]:
    """The pool (the only one, or one with defaults where there is none) and the resources that it takes.

    Raises as `render_manifests`.
    """
    if judgement.problems:
        raise InputRejected("\n".join(str(problem) for problem in judgement.problems))
    pools = judgement.inventory.pools
    if pool is None and len(pools) > 1:
        raise UsageError(f"there are several pools: {', '.join(sorted(pools))}", where="--pool", remedy="name one")
    if pool is not None and pool not in pools:
        raise UsageError(f"there is no pool {pool}", where="--pool", remedy=f"pools: {', '.join(sorted(pools))}")
    found = pools[pool] if pool else next(iter(pools.values()), None)
    settings = found or Pool.with_defaults()
    return settings, effective(judgement.resources[found.name if found else ""], settings)
