"""How Git stands to what holds keep in force against it, entry by entry (DESIGN §8); what contents say is given."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal

from reconciler.projections.desired import Desired, Version, version_of
from reconciler.projections.tables import Row
from reconciler.registries.statements import ADDITIVE

Said = Callable[[Version | None], frozenset[str]]
"""The statements of a version; none of one that is absent."""

Place = tuple[str, str]
"""A pool, and a node where something is about that alone (else "")."""

Git = Literal["agreed", "refused", "other"]
NOTHING = {"content": "", "meaning": ""}
"""A refused content that stands for: absent."""


@dataclass(frozen=True)
class Standing:
    """One entry of a hold beside what Git says now.

    `git`: agreed (it says what was restored), refused (it says what was taken back), other. `left`: the differences
    between restored and refused contents that Git still has, in words; none: the cause is mended.
    """

    hold: str
    entry: Mapping[str, Any]
    places: tuple[Place, ...]
    git: Git
    left: tuple[str, ...]

    @property
    def key(self) -> str:
        """`HOLD/ENTRY`."""
        return key_of(self.hold, self.entry)


def key_of(hold: str, entry: Mapping[str, Any]) -> str:
    """How an entry is named beside those of other holds."""
    return f"{hold}/{entry['id']}"


def keys_of(holds: Iterable[Row]) -> tuple[str, ...]:
    """Every entry in force, by which one knows whether a judgement beside them still counts."""
    return tuple(sorted(key_of(str(hold["hold"]), entry) for hold in holds for entry in hold["entries"]))


def restored_of(entry: Mapping[str, Any]) -> Version | None:
    """What an entry keeps in force; None: absent."""
    return version_of(entry["resource"], entry["restored"]) if entry["restored"] else None


def refused_of(entry: Mapping[str, Any]) -> list[Version | None]:
    """What an entry keeps out; None: absent."""
    return [
        Version(entry["resource"], content["content"], content["meaning"], "", "", "", 0, "")
        if content["content"]
        else None
        for content in entry["refused"]
    ]


def versions_of(holds: Iterable[Row]) -> Iterator[Version]:
    """Every version that the entries of holds name."""
    for hold in holds:
        for entry in hold["entries"]:
            yield from (version for version in (restored_of(entry), *refused_of(entry)) if version)


def places_of(desired: Desired, entry: Mapping[str, Any]) -> tuple[Place, ...]:
    """Where an entry decides what is in force."""
    scope = entry["scope"]
    if scope["kind"] == "node":
        node = desired.nodes.get(scope["name"])
        return ((node.pool, node.name),) if node and node.pool in desired.pools else ()
    if scope["kind"] == "pool":
        return ((scope["name"], ""),) if scope["name"] in desired.pools else ()
    pools = desired.pools if entry.get("baseline") else desired.takers(entry["resource"])
    return tuple((pool, "") for pool in pools)


def standings(desired: Desired, said: Said) -> list[Standing]:
    """Every entry of every hold, the oldest hold first."""

    @cache
    def at(place: Place) -> _At:
        in_force, git = desired.in_force(*place), desired.git(place[0])
        return _At(in_force, _all(in_force.values(), said), git, _all(git.values(), said))

    return [_standing(desired, str(row["hold"]), entry, said, at) for row in desired.holds for entry in row["entries"]]


@dataclass(frozen=True)
class _At:
    """What is in force at a place, and Git's layer there, each also as statements."""

    in_force: Mapping[str, Version]
    said: frozenset[str]
    git: Mapping[str, Version]
    git_said: frozenset[str]


def _standing(
    desired: Desired, hold: str, entry: Mapping[str, Any], said: Said, at: Callable[[Place], _At]
) -> Standing:
    places = places_of(desired, entry)
    if entry.get("baseline"):
        return Standing(hold, entry, places, "other", ("the files from before the first write",))
    found = []
    for place in places:
        without = desired.in_force(*place, without=(hold, entry["id"]))
        found.append(_beside(at(place), without, entry, said))
    git: Git = "other"
    if found and all(verdict == "agreed" for verdict, _ in found):
        git = "agreed"
    elif any(verdict == "refused" for verdict, _ in found):
        git = "refused"
    return Standing(hold, entry, places, git, tuple(sorted({text for _, left in found for text in left})))


def _beside(
    at: _At, without: Mapping[str, Version], entry: Mapping[str, Any], said: Said
) -> tuple[Git, frozenset[str]]:
    """How Git stands to an entry at one of its places, and which of the bad differences it has there.

    `without`: what would be in force there without the entry.
    """
    version, restored = at.git.get(entry["resource"]), said(restored_of(entry))
    git, (brings, takes) = said(version), bad_differences(entry, said)
    brings -= at.said
    left = (brings & at.git_said) | (takes - at.git_said)
    present, beneath = (state.get(entry["resource"]) for state in (at.in_force, without))
    if git == restored:
        return ("agreed" if said(present) == said(beneath) else "other"), left
    moved = entry["resource"].rpartition(":")[2].startswith(ADDITIVE) and beneath == version
    # what only another entry keeps there is no place to move to: each of two would end because the other is there
    elsewhere = _all((found for found in without.values() if not found.hold), said)
    if moved and git <= restored <= elsewhere and not brings & at.git_said:
        return "agreed", left  # what it says stands in another object by now, or in one of another kind
    return ("refused" if _is_refused(version, entry, said) else "other"), left


def _is_refused(version: Version | None, entry: Mapping[str, Any], said: Said) -> bool:
    """By what it says, or by its meaning: a refused content may be redacted."""
    return any(
        said(version) == said(content) or (version and content and version.meaning == content.meaning)
        for content in refused_of(entry)
    )


def bad_differences(entry: Mapping[str, Any], said: Said) -> tuple[frozenset[str], frozenset[str]]:
    """What the refused contents of an entry brought, and what they took away."""
    restored = said(restored_of(entry))
    refused = [said(content) for content in refused_of(entry)]
    brings = frozenset[str]().union(*refused) - restored
    return brings, frozenset[str]().union(*(restored - content for content in refused))


def _all(versions: Iterable[Version], said: Said) -> frozenset[str]:
    return frozenset[str]().union(*map(said, versions))


@dataclass(frozen=True)
class Carrier:
    """A resource that a commit brings, or changes, so that it says what an entry of `hold` keeps out; and where."""

    hold: str
    scope: str
    place: Place
    resource: str
    restored: Version | None
    content: Version


def carriers(before: Desired, after: Desired, changed: Iterable[tuple[str, str]], said: Said) -> list[Carrier]:
    """Contents that holds refuse under another name: `changed` are the (pool, resource) that a commit brings.

    What a resource said before is not held against it, nor is one that an entry is about.
    """
    found = []
    for pool, resource in sorted(set(changed)):
        version = after.git(pool).get(resource)
        for node in ("", *after.held_nodes(pool)) if version and pool in after.pools else ():
            old = before.in_force(pool, node).get(resource)
            hold = _refusing(before, (pool, node), resource, said(version) - said(old), said)
            if hold is not None and version is not None:
                found.append(Carrier(*hold, (pool, node), resource, old, version))
    return found


def _refusing(
    desired: Desired, place: Place, resource: str, brought: frozenset[str], said: Said
) -> tuple[str, str] | None:
    """The hold that keeps one of the statements out of a place, and its scope there; None where there is none, or an
    entry decides about the resource anyway."""
    in_force = _all(desired.in_force(*place).values(), said)
    found = None
    for hold, entry in desired.entries_at(*place):
        if entry["resource"] == resource:
            return None
        if place[1] and entry["scope"]["kind"] != "node":
            continue  # said of the whole pool already
        if brought & (bad_differences(entry, said)[0] - in_force):
            found = hold, str(entry["scope"]["kind"])
    return found


def new_entries(found: Sequence[Carrier], desired: Desired) -> dict[str, list[dict[str, Any]]]:
    """Hold → the entries that keep the carriers out as well; one for the fleet where all its pools agree."""
    entries: dict[str, list[dict[str, Any]]] = {}
    groups: dict[tuple[str, str, str], list[Carrier]] = {}
    for carrier in found:
        groups.setdefault((carrier.hold, carrier.scope, carrier.resource), []).append(carrier)
    for (hold, scope, resource), some in sorted(groups.items()):
        same = len({(c.restored and c.restored.content, c.content.content) for c in some}) == 1
        wide = scope == "fleet" and same and {c.place[0] for c in some} == set(desired.takers(resource))
        for carrier in some[: 1 if wide else None]:
            pool, node = carrier.place
            name = "" if wide else node or pool
            kind = "fleet" if wide else "node" if node else "pool"
            content = {"content": carrier.content.content, "meaning": carrier.content.meaning}
            mine = entries.setdefault(hold, [])
            row = next(row for row in desired.holds if row["hold"] == hold)
            first = max((int(e["id"]) for e in row["entries"]), default=-1) + 1
            mine.append(
                {
                    "id": first + len(mine),
                    "resource": resource,
                    "scope": {"kind": kind, "name": name},
                    "restored": carrier.restored.as_data() if carrier.restored else None,
                    "refused": [content],
                }
            )
    return entries
