"""What must hold of the pools of a commit together, and of pools that stand for MachineConfigPools."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from reconciler.registries.model import Document, Problem
from reconciler.rollout.fields import problem

if TYPE_CHECKING:
    from reconciler.rollout.pools import Pool

CLUSTER = "cluster"
"""spec.manage of a pool that stands for the MachineConfigPool of its name: its resources are applied to the cluster."""

_MCO = "the Machine Config Operator rolls out there, by its own settings"
_WITHOUT_EFFECT: Mapping[str, str] = {
    "after": "all pools of a cluster get its resources at once",
    "approval": "use windows, or approve the pull request",
    "canary": _MCO,
    "confirm": _MCO,
    "disruption": "the class of a change is what MCO does, as profile: openshift has it",
    "drain": _MCO,
    "failureThreshold": _MCO,
    "healthChecks": _MCO,
    "maxParallel": _MCO,
    "maxUnavailable": "set it in the MachineConfigPool",
    "maxUnavailableTotal": "set maxUnavailable in the MachineConfigPool",
    "mirrorSyntax": "MCO decides how mirrors are written",
    "onFailure": "roll back with `reconciler rollback`",
    "runtime": "nodes that MCO manages run CRI-O",
    "strays": "files on nodes are MCO's",
}
"""Fields that do nothing in such a pool, and why."""

_SAME = ("paths", "mode", "drift")
"""Fields in which all pools of a cluster must agree: it has one set of resources."""


def of_cluster(document: Document, given: Any, spec: dict[str, Any]) -> list[Problem]:
    """What is wrong with a pool of `manage: cluster`. What such a pool means is filled into `spec`: MCO's templates and
    policies, and drift that is only told unless `given`, the spec as written, says otherwise."""
    if spec["manage"] != CLUSTER:
        return []
    given = given if isinstance(given, Mapping) else {}
    problems = [
        problem(document, f"spec.{name}", "without-effect", f"{name} does nothing with manage: cluster", why)
        for name, why in _WITHOUT_EFFECT.items()
        if name in given
    ]
    if given.get("base", "openshift") != "openshift":
        message = "nodes that MCO manages have its templates as their base"
        problems.append(problem(document, "spec.base", "without-effect", message, "leave base out"))
    if isinstance(spec["drift"], list):
        message = "drift wants one policy with manage: cluster, since files on nodes are MCO's"
        problems.append(problem(document, "spec.drift", "type", message, "write alert, heal, stop or ignore"))
    spec["base"] = "openshift"
    spec["disruption"] = {"profile": "openshift", "files": []}
    if "drift" not in given or isinstance(spec["drift"], list):
        spec["drift"] = "alert"
    return problems


def check_together(pools: Mapping[str, Pool]) -> list[Problem]:
    """`after` names pools that are there, and no pool comes after itself; pools of a cluster agree."""
    return [*_check_order(pools), *_check_agreement([pool for pool in pools.values() if pool.in_cluster])]


def _check_agreement(pools: Sequence[Pool]) -> list[Problem]:
    problems = []
    for pool in pools[1:]:
        for name in _SAME:
            mine, other = pool.spec[name], pools[0].spec[name]
            if mine != other:
                place = f", at {pools[0].location}" if pools[0].location else ""
                message = f"{name} is {_shown(mine)} here and {_shown(other)} in pool {pools[0].name}{place}"
                remedy = "a cluster has one set of resources: write the same in all its pools"
                where = pool.at(f"spec.{name}")
                found = Problem("pools-of-one-cluster", message, where, f"NodePool/{pool.name}", f"spec.{name}", remedy)
                problems.append(found)
    return problems


def _shown(value: Any) -> str:
    return f"[{', '.join(map(str, value))}]" if isinstance(value, list) else str(value)


def _check_order(pools: Mapping[str, Pool]) -> list[Problem]:
    problems = []
    for name, pool in pools.items():
        identity, field = f"NodePool/{name}", "spec.after"
        for other in pool.spec["after"]:
            if other not in pools:
                message, remedy = f"there is no pool {other}", f"known: {', '.join(sorted(pools))}"
                problems.append(Problem("unknown-pool", message, pool.location, identity, field, remedy))
            elif pools[other].in_cluster:
                message = f"pool {other} is rolled out by MCO (manage: cluster): nothing waits for it"
                remedy = "take it out of after"
                problems.append(Problem("without-effect", message, pool.location, identity, field, remedy))
        if name in _before(name, pools):
            message = f"pool {name} comes after itself"
            problems.append(Problem("pool-order", message, pool.location, identity, field, "break the circle"))
    return problems


def _before(name: str, pools: Mapping[str, Pool]) -> set[str]:
    """Every pool that must have completed before this one, directly or not."""
    found: set[str] = set()
    ahead = list(pools[name].spec["after"])
    while ahead:
        other = ahead.pop()
        if other not in found and other in pools:
            found.add(other)
            ahead.extend(pools[other].spec["after"])
    return found
