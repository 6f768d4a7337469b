"""Whether a commit is taken: judged whole, per pool, with every problem at file, line and field (DESIGN §4)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import cache
from typing import Literal

from reconciler.registries.model import Location, Problem, Resource
from reconciler.registries.render import check
from reconciler.registries.validate import validate_set
from reconciler.rollout.bases import Bases, ParsedFile, take_bases
from reconciler.rollout.nodes import Node
from reconciler.rollout.pools import (
    Inventory,
    Pool,
    home_of,
    homes,
    later_path_wins,
    read_inventory,
    takers,
)

NO_POOL = ""
"""Stands for: no pool takes this resource's directory."""

MIRROR_KINDS = ("ImageContentSourcePolicy", "ImageDigestMirrorSet", "ImageTagMirrorSet")


@dataclass(frozen=True)
class Judgement:
    """What a commit says and which pools may take it.

    `resources` maps each pool ("" for none) to what it would take, shadowed ones included. `rejected` maps a pool to
    its problems. With `whole` (a problem in the inventory, or in a directory that no pool takes) nobody takes it.
    """

    inventory: Inventory
    resources: Mapping[str, Mapping[str, Resource]]
    bases: Bases
    rejected: Mapping[str, tuple[Problem, ...]] = field(default_factory=dict)
    whole: tuple[Problem, ...] = ()
    warnings: tuple[Problem, ...] = ()

    @property
    def accepted(self) -> tuple[str, ...]:
        """The pools that take the commit."""
        return () if self.whole else tuple(sorted(set(self.inventory.pools) - set(self.rejected)))

    @property
    def problems(self) -> tuple[Problem, ...]:
        """Every error, once, in the order of the files."""
        found = {str(item): item for item in (*self.whole, *(p for some in self.rejected.values() for p in some))}
        return tuple(sorted(found.values(), key=_by_place))


def _by_place(problem: Problem) -> tuple[str, int, str]:
    place = problem.location or Location("", 0)
    return place.file, place.line, str(problem)


class _Gathered:
    """Problems by the pools they concern."""

    def __init__(self, inventory: Inventory) -> None:
        named = homes(inventory.pools.values())
        self.home = cache(lambda directory: home_of(directory, named))
        self.takers = cache(lambda directory: takers(self.home(directory), inventory.pools.values()))
        self.rejected: dict[str, list[Problem]] = {}
        self.first: dict[tuple[str | None, str, str], Resource] = {}
        self.whole = [problem for problem in inventory.problems if problem.severity == "error"]
        self.warnings = [problem for problem in inventory.problems if problem.severity == "warning"]

    def add(self, problems: Iterable[Problem], pools: Sequence[str]) -> None:
        for problem in problems:
            if problem.severity == "warning":
                self.warnings.append(problem)
            elif not pools:
                self.whole.append(problem)
            for pool in pools if problem.severity == "error" else ():
                self.rejected.setdefault(pool, []).append(problem)


def judge(
    files: Sequence[ParsedFile],
    mode: Literal["default", "strict"],
    now: datetime,
    known: Mapping[str, Node] | None = None,
) -> Judgement:
    """Judge a commit's files. `now` is the commit's time for expiry warnings; no other clock is read. `known`: the
    nodes by then (see read_inventory)."""
    inventory = read_inventory((document for parsed in files for document in parsed.inventory), known)
    gathered = _Gathered(inventory)
    bases, manifests = take_bases(files, inventory.pools.values())
    resources: dict[str, dict[str, Resource]] = {name: {} for name in (*inventory.pools, NO_POOL)}
    for parsed in manifests:
        pools = gathered.takers(parsed.path.rpartition("/")[0] or ".")
        gathered.add(parsed.problems, pools)
        for document in parsed.manifests:
            resource, problems = parsed.validated(document, mode, now)
            gathered.add(problems, pools)
            if resource is not None:
                _take(resource, pools, resources, gathered)
    for pool in inventory.pools.values():
        gathered.add(bases.check(pool), [pool.name])
        gathered.add(_check_pool(pool, effective(resources[pool.name], pool), bases), [pool.name])
    return Judgement(
        inventory,
        resources,
        bases,
        {pool: _once(problems) for pool, problems in gathered.rejected.items()},
        _once(gathered.whole),
        _once(gathered.warnings),
    )


def _take(
    resource: Resource, pools: Sequence[str], resources: Mapping[str, dict[str, Resource]], gathered: _Gathered
) -> None:
    """Give a resource to its pools; the same kind and name twice in one home is an error."""
    home = gathered.home(resource.directory)
    other = gathered.first.setdefault((home, resource.kind, resource.name), resource)
    if other is not resource:
        message = f"{resource.kind} {resource.name} stands twice, the other at {other.location}"
        remedy = "remove one of them"
        problem = Problem("duplicate", message, resource.location, resource.identity, "metadata.name", remedy)
        gathered.add([problem], pools)
    for pool in pools or (NO_POOL,):
        resources[pool][resource.identity] = resource


def effective(resources: Mapping[str, Resource], pool: Pool) -> list[Resource]:
    """What a pool really uses of the resources it takes."""
    return [resources[identity] for identity in later_path_wins(resources, pool)]


def _check_pool(pool: Pool, resources: Sequence[Resource], bases: Bases) -> list[Problem]:
    """What is wrong with the resources together: first the rules between objects, then whether they render."""
    problems = list(validate_set(resources))
    if not any(problem.severity == "error" for problem in problems):
        problems.extend(check(resources, pool.render_options(bases.of(pool))))
    return problems


def _once(problems: Iterable[Problem]) -> tuple[Problem, ...]:
    return tuple({str(problem): problem for problem in problems}.values())


def mass_removals(
    before: Mapping[str, Iterable[tuple[str, str]]],
    after: Mapping[str, Iterable[tuple[str, str]]],
    nodes_before: int,
    nodes_removed: Sequence[str],
) -> tuple[str, ...]:
    """What a commit takes away wholesale: per pool the Image, all mirror sets or all CAs; or over a third of nodes.

    `before` and `after` map each pool to (kind, name) pairs. Emptiness is no wish: these wait for a person.
    """
    found: list[str] = []
    groups = (
        ("the Image", ("Image",)),
        ("all mirror sets", MIRROR_KINDS),
        ("all CA ConfigMaps", ("ConfigMap",)),
    )
    for pool in sorted(set(before) & set(after)):
        kinds_before = {kind for kind, _ in before[pool]}
        kinds_after = {kind for kind, _ in after[pool]}
        for label, kinds in groups:
            if kinds_before & set(kinds) and not kinds_after & set(kinds):
                found.append(f"{label} of pool {pool}" if pool else label)
    if nodes_removed and len(nodes_removed) * 3 > nodes_before:
        found.append(f"{len(nodes_removed)} of {nodes_before} nodes: {', '.join(sorted(nodes_removed)[:5])}")
    return tuple(found)
