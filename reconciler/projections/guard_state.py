"""How the lock-out guard stands for a pool, from its row: what may come, and why something else may not."""

from __future__ import annotations

import shlex
from collections.abc import Collection, Iterable, Mapping, Sequence
from functools import cached_property
from typing import Any

from reconciler.projections.tables import GUARDS, Key, Row
from reconciler.registries.model import digest
from reconciler.rollout.pools import Pool

NOT_JUDGED = "waits for the lock-out guard, which has not judged these files yet"


class GuardState:
    """The latest judgement of one pool, what people gave up or approved, and what follows for each file set."""

    def __init__(self, pool: Pool, row: Row | None) -> None:
        self.pool = pool
        self._row: Mapping[str, Any] = row or {}

    @classmethod
    def of(cls, fleet: str, rows: Mapping[str, Mapping[Key, Row]], pool: Pool) -> GuardState:
        return cls(pool, rows.get(GUARDS.name, {}).get((fleet, pool.name)))

    @property
    def changes(self) -> Sequence[Mapping[str, Any]]:
        """The ways from files to files that were judged, as GuardJudged has them; none in a pool that only observes."""
        return (self._row.get("changes") or ()) if self.pool.enforces else ()

    @property
    def overrides(self) -> Sequence[Mapping[str, Any]]:
        return self._row.get("overrides") or ()

    @property
    def images(self) -> int:
        """How many images were known at the latest judgement; before the first one, those that the pool names."""
        named = {*self.pool.spec["requiredImages"], *filter(None, (self.pool.spec["releaseImage"],))}
        return max(int(self._row.get("images") or 0), len(named))

    @property
    def text(self) -> str:
        """As lists show it."""
        if not self.images:
            return "NOT ARMED"
        silent = len(self._row.get("untold") or ()) + len(self._row.get("unheard") or ())
        told = f", {silent} node{'s' * (silent != 1)} did not tell" if silent else ""
        return f"{self.images} image{'s' * (self.images != 1)}{told}"

    def settings(self, files: Collection[str]) -> str:
        """Digest of what a judgement of these file sets depends on besides files and images."""
        names = ("requiredImages", "reachableRegistries", "releaseImage")
        given = [(override["glob"], sorted(override["files"])) for override in self.overrides]
        overrides = sorted([glob, *named] for glob, named in given if not set(named).isdisjoint(files))
        return digest({**{name: self.pool.spec[name] for name in names}, "overrides": overrides})

    @cached_property
    def current(self) -> bool:
        """Whether the judgement was made with the settings and overrides of now."""
        with_what = str(self._row.get("judged_with") or "").partition(" ")[0]
        return with_what == self.settings({item["files"] for item in self.changes})

    @property
    def helper(self) -> str:
        """The image of our own pods that was judged with the others, or nothing."""
        return str(self._row.get("judged_with") or "").partition(" ")[2]

    def answered(self, nodes: Iterable[str]) -> bool:
        """Whether all of these nodes were asked for the judgement."""
        return set(nodes) <= {*(self._row.get("nodes") or ()), *(self._row.get("untold") or {})}

    def verdict(self, change: str) -> Mapping[str, Any] | None:
        """What was judged of a way from files to files, unless it is to be judged anew."""
        found = next((item for item in self.changes if item["change"] == change), None)
        return found if self.current else None

    def waiting(self, files: Collection[str]) -> list[Mapping[str, Any]]:
        """The judged changes to these file sets that wait for a person's approval."""
        return [item for item in self.changes if item["files"] in files and self._waits(item)]

    def blocking(self, files: Collection[str]) -> list[Mapping[str, Any]]:
        """The judged changes to these file sets that lose images which nobody gave up."""
        return [item for item in self.changes if item["files"] in files and item["blocking"]]

    def reason(self, files: Collection[str]) -> str:
        """Why these file sets may not come, and what a person can do; empty where they may."""
        said = [self.why(item) for item in self.changes if item["files"] in files]
        return "; ".join(dict.fromkeys(filter(None, said)))

    def why(self, item: Mapping[str, Any]) -> str:
        """The same for one judged change."""
        if item["blocking"]:
            return self._lost(item)
        if self._waits(item):
            what, more = item["weakens"][:3], len(item["weakens"]) - 3
            change = ", ".join(what) + (f" and {more} more" if more > 0 else "")
            command = f"reconciler approve --pool {self.pool.name} --reason TEXT"
            return f"guard: NOT ARMED, since no image is known, and the change {change}: look at it, then `{command}`"
        return ""

    def _waits(self, item: Mapping[str, Any]) -> bool:
        return not item["known"] and bool(item["weakens"]) and item["files"] not in (self._row.get("approved") or ())

    def _lost(self, item: Mapping[str, Any]) -> str:
        first = item["turned"][0]
        more = f" (and {item['blocking'] - 1} more)" if item["blocking"] > 1 else ""
        remedy = f"; {first['remedy']}" if first["remedy"] else ""
        said = f"guard: {first['image']} {first['asked']}{more} could no longer be pulled: {first['reason']}{remedy}"
        if first.get("kept"):
            return f"{said}; it is the helper image, by which nodes are reached: nobody can give it up"
        image = shlex.quote(first["image"])
        return f"{said}; to give it up: `reconciler override --pool {self.pool.name} --image {image} --reason TEXT`"
