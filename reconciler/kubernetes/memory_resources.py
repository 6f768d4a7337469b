"""The shipped fake of a cluster's resources: server-side apply in memory, for tests and demos. Faults are scripted."""

from __future__ import annotations

import copy
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from reconciler.errors import ClusterError, ClusterRefused, FieldConflict
from reconciler.ports import Clock, ClusterLook
from reconciler.rollout.cluster_objects import key_of
from reconciler.rollout.managed_fields import FIELD_MANAGER, ClusterObject, FieldManager, Path

Who = tuple[str, str]
"""Manager and operation."""


@dataclass
class _Stored:
    document: dict[str, Any]
    uid: str
    version: int
    generation: int = 1
    owned: dict[Who, set[Path]] = field(default_factory=dict)
    times: dict[Who, str] = field(default_factory=dict)


class MemoryResources:
    """Objects by key, as an API server would keep them. `failure`: why it cannot be asked now; `refuse`: key → why it
    takes no such object; `unserved`: kinds it does not know; `pods`: node → images; `before_apply` is called first."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.failure: ClusterError | None = None
        self.refuse: dict[str, str] = {}
        self.unserved: set[str] = set()
        self.pools: dict[str, dict[str, Any]] = {}
        self.machine_configs: dict[str, Mapping[str, bytes]] = {}
        self.pods: dict[str, Sequence[str]] = {}
        self.before_apply: Callable[[str], None] = lambda _: None
        self.calls: list[str] = []
        """What was asked for, looks apart."""
        self._objects: dict[str, _Stored] = {}
        self._version = 0

    # --- the port -----------------------------------------------------------------------------------------------------

    async def look(self) -> ClusterLook:
        self._check()
        found = {key: self._object(key) for key in sorted(self._objects) if key.partition("/")[0] not in self.unserved}
        return ClusterLook(found, copy.deepcopy(self.pools), frozenset(self.unserved))

    async def apply(
        self, document: Mapping[str, Any], live: ClusterObject | None, against: Collection[str] = ()
    ) -> ClusterObject:
        key = key_of(document)
        self.calls.append(f"apply {key}")
        self.before_apply(key)
        self._check()
        if key.partition("/")[0] in self.unserved:
            raise ClusterRefused(f"the cluster does not serve {key.partition('/')[0]}", where=key, remedy="install it")
        if key in self.refuse:
            raise ClusterRefused(self.refuse[key], where=key, remedy="correct what the message names")
        stored = self._objects.get(key)
        if live is not None and (stored is None or str(stored.version) != live.resource_version):
            raise ClusterError("somebody else changed it at the same time", where=key, remedy="it is tried again")
        self._set(key, document, stored, against)
        return self._object(key)

    async def read(self, document: Mapping[str, Any]) -> ClusterObject | None:
        key = key_of(document)
        self.calls.append(f"get {key}")
        self._check()
        return self._object(key) if key in self._objects else None

    async def delete(self, live: ClusterObject) -> None:
        self.calls.append(f"delete {live.key}")
        self._check()
        stored = self._objects.get(live.key)
        if stored is not None and (stored.uid, str(stored.version)) != (live.uid, live.resource_version):
            raise ClusterError("somebody else changed it at the same time", where=live.key, remedy="it is tried again")
        self._objects.pop(live.key, None)

    async def machine_config(self, name: str) -> Mapping[str, bytes] | None:
        self.calls.append(f"get MachineConfig/{name}")
        self._check()
        return self.machine_configs.get(name)

    async def images(self) -> Mapping[str, Sequence[str]]:
        self.calls.append("list pods")
        self._check()
        return dict(self.pods)

    async def close(self) -> None:
        """Nothing is held open."""

    # --- hands --------------------------------------------------------------------------------------------------------

    def put(self, document: Mapping[str, Any], manager: str) -> None:
        """Somebody else creates or replaces an object, as `kubectl edit` does."""
        key, who = key_of(document), (manager, "Update")
        old = self._objects.get(key)
        stored = old or _Stored({}, f"uid-{self._next()}", 0, 0)
        before, after = dict(_leaves(stored.document)), dict(_leaves(document))
        changed = {path for path in {*before, *after} if before.get(path) != after.get(path)}
        for paths in stored.owned.values():
            paths.difference_update(changed)
        if gained := changed & after.keys():
            stored.owned.setdefault(who, set()).update(gained)
            stored.times[who] = self._now()
        self._store(key, stored, copy.deepcopy(dict(document)), changed)

    def remove(self, key: str) -> None:
        """Somebody else deletes an object."""
        del self._objects[key]

    def document(self, key: str) -> dict[str, Any]:
        """An object's document; a copy."""
        return copy.deepcopy(self._objects[key].document)

    def stored(self) -> list[str]:
        return sorted(self._objects)

    # --- as an API server does it -------------------------------------------------------------------------------------

    def _check(self) -> None:
        if self.failure is not None:
            raise self.failure

    def _set(self, key: str, document: Mapping[str, Any], stored: _Stored | None, against: Collection[str]) -> None:
        stored = stored or _Stored({}, f"uid-{self._next()}", 0, 0)
        who, before, wanted = (FIELD_MANAGER, "Apply"), dict(_leaves(stored.document)), dict(_leaves(document))
        conflicts = [
            (other[0], path)
            for other, paths in sorted(stored.owned.items())
            for path in sorted(paths & wanted.keys())
            if other != who and wanted[path] not in ({}, before.get(path))
        ]
        if any(manager not in against for manager, _ in conflicts):
            raise _conflict(key, conflicts)
        for other, paths in stored.owned.items():
            if other != who:
                paths.difference_update(path for _, path in conflicts)
        theirs = {path for other, paths in stored.owned.items() if other != who for path in paths}
        gone = stored.owned.get(who, set()) - wanted.keys() - theirs
        after = {path: value for path, value in {**before, **wanted}.items() if path not in gone}
        if stored.owned.get(who) != wanted.keys() or after != before:
            stored.owned[who], stored.times[who] = set(wanted), self._now()
        changed = {path for path in {*before, *after} if before.get(path) != after.get(path)}
        self._store(key, stored, _built(after), changed)

    def _store(self, key: str, stored: _Stored, document: dict[str, Any], changed: Collection[Path]) -> None:
        stored.document = document
        if changed:
            stored.version = self._next()
            stored.generation += any(path[0] != "metadata" for path in changed)
        self._objects[key] = stored

    def _object(self, key: str) -> ClusterObject:
        stored = self._objects[key]
        managers = [
            FieldManager(who[0], who[1], stored.times[who], _fields(paths))
            for who, paths in sorted(stored.owned.items())
            if paths
        ]
        version = str(stored.version)
        return ClusterObject(
            key, copy.deepcopy(stored.document), stored.uid, version, stored.generation, tuple(managers)
        )

    def _next(self) -> int:
        self._version += 1
        return self._version

    def _now(self) -> str:
        return f"{self.clock.now():%Y-%m-%dT%H:%M:%SZ}"


def _conflict(key: str, conflicts: Sequence[tuple[str, Path]]) -> FieldConflict:
    found = tuple((manager, ".".join(path)) for manager, path in conflicts)
    said = ", ".join(f"{name} is managed by {manager}" for manager, name in found)
    error = FieldConflict(f"{said}, with another value than Git's", where=key, remedy="`reconciler retry` takes it")
    error.conflicts = found
    return error


_SETTLED = {("apiVersion",), ("kind",), ("metadata", "name"), ("metadata", "namespace")}


def _leaves(value: Any, path: Path = ()) -> Iterator[tuple[Path, Any]]:
    """The fields that are owned each by itself: lists are one."""
    if isinstance(value, Mapping) and value:
        for name, below in value.items():
            yield from _leaves(below, (*path, name))
    elif path:
        yield path, value


def _built(leaves: Mapping[Path, Any]) -> dict[str, Any]:
    document: dict[str, Any] = {}
    for path, value in leaves.items():
        here = document
        for name in path[:-1]:
            below = here.get(name)
            if not isinstance(below, dict):
                below = here[name] = {}
            here = below
        if path[-1] not in here or value != {}:
            here[path[-1]] = copy.deepcopy(value)
    return document


def _fields(paths: Collection[Path]) -> dict[str, Any]:
    """As fieldsV1 has them."""
    found: dict[str, Any] = {}
    for path in sorted(paths):
        here = found
        for name in path if path not in _SETTLED else ():
            here = here.setdefault(f"f:{name}", {})
    return found
