"""Which holds a rollback replaces, and what of them goes on as a part of its own."""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING, Any

from reconciler.projections.desired import Desired
from reconciler.projections.holds import places_of
from reconciler.projections.tables import Row

if TYPE_CHECKING:
    from reconciler.stages.rollback import Scope


def replaced_holds(desired: Desired, scope: Scope, untouched: Collection[str]) -> tuple[str, ...]:
    """The holds of which the new one says everything; those that decide about none but `untouched` pools stay."""
    return tuple(str(h["hold"]) for h in desired.holds if _covers(scope, h) and not _only_on(desired, h, untouched))


def carried_on(desired: Desired, replaced: Collection[str], untouched: Collection[str]) -> list[dict[str, Any]]:
    """What the replaced holds say of pools that the rollback leaves as they are, narrowed to these; of two entries the
    one that decides, with what both refuse."""
    places = [(pool, node) for pool in untouched for node in ("", *desired.held_nodes(pool))]
    found: dict[tuple[str, str, str], dict[str, Any]] = {}
    for pool, node in places:
        for hold, entry in desired.entries_at(pool, node):
            if hold in replaced and (pool, node) in places_of(desired, entry):
                key = (entry["resource"], pool, node)
                refused = [*found.get(key, {"refused": []})["refused"], *entry["refused"]]
                scope = {"kind": "node", "name": node} if node else {"kind": "pool", "name": pool}
                found[key] = {**entry, "scope": scope, "refused": list({c["content"]: c for c in refused}.values())}
    return [found[key] for key in sorted(found)]


def _covers(scope: Scope, hold: Row) -> bool:
    """Whether the new hold says everything the old one said, so that it replaces it."""
    asked = ("node", hold["node"]) if hold["node"] else ("pool", hold["pool"])
    for entry in hold["entries"]:
        about = (entry["scope"]["kind"], entry["scope"]["name"])
        inside = scope.kind == "fleet" or (scope.kind, scope.name) in (asked, about)
        if not inside or (scope.resource is not None and entry["resource"] != scope.resource):
            return False
    return True


def _only_on(desired: Desired, hold: Row, pools: Collection[str]) -> bool:
    """Whether a hold decides about none but these pools."""
    found = {pool for entry in hold["entries"] for pool, _ in places_of(desired, entry)}
    return bool(found) and found <= set(pools)
