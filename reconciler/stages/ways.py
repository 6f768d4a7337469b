"""From which effective files to which others a node is to be brought, and whether a pull can tell the difference."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from reconciler.ports import Snapshot
from reconciler.projections.openshift import OPENSHIFT_BASE, applied_files
from reconciler.projections.tables import RENDERS
from reconciler.registries.guard import weakens
from reconciler.registries.model import digest
from reconciler.registries.runtime_config import RuntimeConfig, load
from reconciler.stages.context import Context, FileSet


@dataclass(frozen=True)
class Way:
    """`change` names it: the digest of the files before and after. `files` is the wanted file set."""

    change: str
    files: str
    before: RuntimeConfig
    after: RuntimeConfig
    weakens: tuple[str, ...]


class Ways:
    """Works out each distinct way once: many nodes that look alike share one."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._known: dict[tuple[str, str, str], Way | None] = {}

    async def of(self, state: Mapping[str, Any], wanted: str | None, sets: Mapping[str, FileSet]) -> Way | None:
        """The way of the node with this row of NODE_STATES to the file set `wanted`; None where no pull can tell.

        Before: what the last receipt proved over the captured base. After: the file set over the same base. Files
        that are neither ours nor the base's are not known here, and stand on both sides.
        """
        applied = str(state.get("files") or "")
        if wanted is None or wanted == applied:
            return None
        key = (str(state.get("base")), applied, wanted)
        if key not in self._known:
            self._known[key] = await self._way(wanted, *_ends(state, wanted, sets))
        return self._known[key]

    async def _way(self, wanted: str, before: Mapping[str, str], after: Mapping[str, str]) -> Way | None:
        contents = await self._context.load({*before.values(), *after.values()})
        old = {path: contents[name] for path, name in before.items()}
        new = {path: contents[name] for path, name in after.items()}
        loaded, weaker = (load(old), load(new)), weakens(old, new)
        if loaded[0] == loaded[1] and not weaker:
            return None
        return Way(_name(before, after), wanted, *loaded, weaker)


async def way_of_cluster(
    context: Context, snapshot: Snapshot, pool: str, ways: Ways, sets: Mapping[str, FileSet]
) -> Way | None:
    """The way of a pool of `manage: cluster`: from what MCO renders now to what it is to render."""
    render = snapshot.one(RENDERS, context.name, pool, "", OPENSHIFT_BASE)
    applied = applied_files(context.name, snapshot.rows, pool)
    state = {"base": OPENSHIFT_BASE, "files": applied, "base_files": {}}
    return await ways.of(state, str(render["files"]) if render else None, sets)


def change_of(state: Mapping[str, Any], wanted: str | None, sets: Mapping[str, FileSet]) -> str:
    """What the way of a node would be called, if a pull could tell; empty where it has no way to go."""
    if wanted is None or wanted == (state.get("files") or ""):
        return ""
    return _name(*_ends(state, wanted, sets))


def _ends(
    state: Mapping[str, Any], wanted: str, sets: Mapping[str, FileSet]
) -> tuple[Mapping[str, str], Mapping[str, str]]:
    """The hashes of the effective files before and after, by path."""
    base = {path: name for path, name in (state.get("base_files") or {}).items() if name}
    applied = sets.get(str(state.get("files") or ""), FileSet(()))
    return base | _hashes(applied), base | _hashes(sets[wanted])


def _name(before: Mapping[str, str], after: Mapping[str, str]) -> str:
    return digest({"before": before, "after": after})


def _hashes(file_set: FileSet) -> dict[str, str]:
    return {entry.path: entry.sha256 for entry in file_set.entries}
