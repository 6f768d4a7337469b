"""What becomes of drift: each path's policy, the same drift on many nodes, and paths that somebody keeps writing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from reconciler.registries.model import digest
from reconciler.rollout.fields import BadValue, one_of, text

RUNTIME = "runtime"
"""Stands for a path where the files are right, but the runtime has not loaded them."""

POLICIES = ("heal", "alert", "stop", "ignore")

CONTESTED_AFTER = 3
CONTESTED_WITHIN = timedelta(hours=24)
"""A path repaired so often within this time is contested, and left alone for as long."""

MASS_NODES, MASS_PERCENT = 3, 10
"""The same drift on more nodes than either of these is no accident of single nodes."""


def drift_setting(value: Any) -> Any:
    """NodePool spec.drift: one policy for all paths, or `[{path, policy}]`; a path that no entry covers is healed."""
    if not isinstance(value, list):
        if isinstance(value, str):
            return one_of(*POLICIES)(value)
        raise BadValue(f"wants one of {', '.join(POLICIES)}, or a list of {{path, policy}}")
    return [_entry(f"[{index}]", item) for index, item in enumerate(value)]


def _entry(where: str, item: Any) -> dict[str, str]:
    if not isinstance(item, Mapping) or set(item) != {"path", "policy"}:
        raise BadValue(f"{where} wants path and policy, and nothing else")
    try:
        path, policy = text(item["path"]), one_of(*POLICIES)(item["policy"])
    except BadValue as error:
        raise BadValue(f"{where} {error}") from error
    if path != RUNTIME and not path.startswith("/"):
        raise BadValue(f"{where}.path wants an absolute path, or {RUNTIME}")
    return {"path": path.rstrip("/"), "policy": policy}


def policy_of(setting: Any, path: str) -> str:
    """The policy of a path: that of the longest entry that equals it or is a parent directory of it."""
    if isinstance(setting, str):
        return setting
    policies = {entry["path"]: str(entry["policy"]) for entry in setting}
    while path not in policies:
        if not path:
            return "heal"
        path = path.rpartition("/")[0]
    return policies[path]


def contested(state: Mapping[str, Any], now: datetime | None) -> Mapping[str, Mapping[str, Any]]:
    """The node's contested paths that are left alone at `now` (None: at any time), and what is known of each."""
    found: Mapping[str, Mapping[str, Any]] = state.get("contested") or {}
    if now is None:
        return found
    return {path: why for path, why in found.items() if now < datetime.fromisoformat(why["at"]) + CONTESTED_WITHIN}


def repairs_of(state: Mapping[str, Any], path: str, now: datetime) -> int:
    """How often a path was repaired within the time that counts."""
    times = (state.get("repairs") or {}).get(path) or ()
    return sum(now - datetime.fromisoformat(moment) < CONTESTED_WITHIN for moment in times)


def is_mass(same: int, nodes: int) -> bool:
    """Whether `same` nodes of a pool of `nodes` with one drift are too many to be repaired unasked."""
    return same > MASS_NODES and same * 100 > nodes * MASS_PERCENT


def same_drift(nodes: int, pool: str) -> str:
    """What is said of nodes that are not repaired since many had the same drift."""
    return f"{nodes} node{'s have' if nodes > 1 else ' has'} the same drift: `reconciler retry {pool}`"


@dataclass(frozen=True)
class Drift:
    """A node's drift: the paths that a repair sets right, those that it leaves as they are, and why it leaves them.

    `stop` names what stops the whole pool. `signature` is the digest of what there is to heal, (path, state) by
    (path, state), the same on every node with the same drift. `allowed`: a person wants it repaired, whatever holds.
    """

    heal: tuple[str, ...] = ()
    keep: tuple[str, ...] = ()
    why: str = ""
    stop: str = ""
    signature: str = ""
    allowed: bool = False


def _dispute(path: str, why: Mapping[str, Any]) -> str:
    package = f", package {why['package']}" if why["package"] else ""
    by = f"written by uid {why['uid']}{package}" if why["mtime"] else "removed"
    return f"{path} is contested: {by} again after {why['count']} repairs within 24 h"


def read_drift(setting: Any, state: Mapping[str, Any], now: datetime | None) -> Drift:
    """A node's drift, from its row in NODE_STATES, under its pool's policy."""
    items: Sequence[Mapping[str, Any]] = state.get("drift") or ()
    if not items:
        return Drift()
    allowed = state.get("drift_allowed") is not None and state["drift_allowed"] == state.get("drift_observed")
    disputed = contested(state, now)
    heal, why = [], {}
    stop = ""
    for item in items:
        path, policy = str(item["path"]), policy_of(setting, item["path"])
        if allowed:
            heal.append(item)
        elif path in disputed:
            why[path] = _dispute(path, disputed[path])
        elif policy in ("alert", "stop"):
            why[path] = f"{path} differs and is not put right by itself (drift: {policy})"
            stop = stop or (why[path] if policy == "stop" else "")
        else:
            heal.append(item)
    signature = digest(sorted([item["path"], item["observed"]] for item in heal)) if heal else ""
    paths = tuple(str(item["path"]) for item in heal)
    ignored = tuple(str(item["path"]) for item in state.get("ignored") or ())
    return Drift(paths, (*why, *ignored), next(iter(why.values()), ""), stop, signature, allowed)
