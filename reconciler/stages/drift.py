"""Drift: what a node shows against what its last receipt proved, and what its runtime has loaded of that."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any

from reconciler.events.catalogue import DriftContested, DriftDetected, DriftIgnored, DriftRepaired
from reconciler.events.codec import plain
from reconciler.ports import ABSENT, Observation, ObservedFile
from reconciler.registries.model import REGISTRIES_CONF, REGISTRIES_CONF_D, digest
from reconciler.rollout.drift import CONTESTED_AFTER, RUNTIME, contested, policy_of, repairs_of
from reconciler.stages.sight import Sight, is_unread

Difference = Mapping[str, Any]


def judge_drift(sight: Sight, seen: Observation, now: datetime) -> None:
    """Events for what differs by now, for what does not any more, and for paths that are repaired in vain."""
    setting = sight.spec.get("drift", "heal")
    found = [*_files(sight, seen), *_runtime(sight, seen)]
    ignored = tuple(item for item in found if policy_of(setting, item["path"]) == "ignore")
    differs = tuple(item for item in found if item not in ignored)
    if plain(ignored) != (sight.state.get("ignored") or []):
        sight.bodies.append(DriftIgnored(sight.name, sight.pool or "", ignored))
    if differs and digest(plain(differs)) != sight.state.get("drift_observed"):
        sight.bodies.append(DriftDetected(sight.name, sight.pool or "", digest(plain(differs)), differs))
    elif not differs and sight.state.get("drift"):
        before = tuple(sight.state["drift"])
        sight.bodies.append(DriftRepaired(sight.name, sight.pool or "", "outside", before))
    for item in differs:
        if policy_of(setting, item["path"]) == "heal":
            sight.bodies.extend(_contested(sight, seen, item["path"], now))


def _files(sight: Sight, seen: Observation) -> Iterator[Difference]:
    for entry in sight.applied.entries:
        file = seen.files.get(entry.path)
        if not _proved(file, entry.sha256, entry.mode):
            yield {
                "path": entry.path,
                "expected": entry.sha256,
                "observed": _state(sight, file),
                "mode": file.mode if file else 0,
            }


def _runtime(sight: Sight, seen: Observation) -> Iterator[Difference]:
    """Registries files that are as proved, but were placed after the runtime last loaded any.

    Nothing is said where nobody can tell, and where the last change was one that needs no loading.
    """
    if not seen.loaded_since or sight.state.get("unloaded"):
        return
    for entry in sight.applied.entries:
        if entry.path == REGISTRIES_CONF or entry.path.startswith(f"{REGISTRIES_CONF_D}/"):
            file = seen.files.get(entry.path)
            if file and _proved(file, entry.sha256, entry.mode) and file.mtime > seen.loaded_since:
                yield {"path": RUNTIME, "expected": "loaded", "observed": "written, not loaded", "mode": 0}
                return


def _contested(sight: Sight, seen: Observation, path: str, now: datetime) -> Iterator[DriftContested]:
    count = repairs_of(sight.state, path, now)
    if count < CONTESTED_AFTER or path in contested(sight.state, now):
        return
    file = seen.files.get(path) or ObservedFile(path, ABSENT)
    yield DriftContested(sight.name, sight.pool or "", path, count, file.mtime, file.uid, file.package)


def _state(sight: Sight, file: ObservedFile | None) -> str:
    """The hash of bytes we have, `unread` for others, or the kind of what is no plain file."""
    if file is None:
        return ABSENT
    return "unread" if is_unread(sight, file) else file.state


def _proved(file: ObservedFile | None, sha256: str, mode: int) -> bool:
    return file is not None and file.kind == "file" and file.sha256 == sha256 and file.mode == mode
