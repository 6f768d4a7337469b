"""Merging the rows of all mirror sets into one list of mirrors per source.

Source: runtime-utils pkg/registries (registries.go `mergedMirrorSets`, topo.go `Sorted`) and
machine-config-operator helpers.go `validateRegistriesConfScopes`.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, pairwise

from reconciler.registries import scopes
from reconciler.registries.inputs import NEVER_CONTACT, MirrorRow, rows_of
from reconciler.registries.model import Origin, Problem, Resource


@dataclass(frozen=True, slots=True)
class MirrorSet:
    """All mirrors of one source for pulls by digest, or for pulls by tag, in the order in which they are tried."""

    source: str
    mirrors: tuple[str, ...]
    by_tag: bool
    never_contact: bool
    origins: tuple[Origin, ...]
    mirror_origins: Mapping[str, tuple[Origin, ...]]


def check_rows(mirror_sets: Sequence[Resource]) -> list[Problem]:
    """What MCO refuses in the rows of mirror sets, in its order.

    `mirror-source`, `mirror-location`: not a registry name. `mirror-policy-conflict`: one source with two
    mirrorSourcePolicies in any of the three kinds (an ImageContentSourcePolicy always allows contacting it).
    `mirror-policy-self`: NeverContactSource, and the source is among the mirrors.
    """
    return [] if _sound(mirror_sets) else list(_flaws(chain.from_iterable(each.once(rows_of) for each in mirror_sets)))


def _sound(mirror_sets: Iterable[Resource]) -> bool:
    """Whether nothing is wrong: each set is sound, which stays known, and no two differ about a source."""
    policies: dict[str, str] = {}
    for mirror_set in mirror_sets:
        own = mirror_set.once(_policies)
        if own is None or any(policies[source] != own[source] for source in policies.keys() & own.keys()):
            return False
        policies.update(own)
    return True


def _policies(mirror_set: Resource) -> Mapping[str, str] | None:
    """The policy of each source of a mirror set; None when something is wrong with it by itself."""
    rows = mirror_set.once(rows_of)
    return None if any(_flaws(rows)) else {row.source.text: row.policy for row in rows}


def _flaws(rows: Iterable[MirrorRow]) -> Iterator[Problem]:
    first: dict[str, MirrorRow] = {}
    for row in rows:
        source = row.source.text
        if not scopes.SOURCE.fullmatch(source):
            message = f"{source!r} is not a registry, namespace or repository" if source else "the source is missing"
            yield row.source.problem("mirror-source", message, "write HOST[:PORT][/PATH] or *.DOMAIN")
            continue
        earlier = first.setdefault(source, row)
        if earlier.policy != row.policy:
            yield _conflict(row, earlier)
        for mirror in row.mirrors:
            if not scopes.MIRROR.fullmatch(mirror.text):
                message = f"{mirror.text!r} is not a registry, namespace or repository"
                yield mirror.problem("mirror-location", message, "write HOST[:PORT][/PATH]")
            elif row.policy == NEVER_CONTACT and mirror.text == source:
                message = f"{source} must never be contacted, and is one of its own mirrors"
                yield mirror.problem("mirror-policy-self", message, "remove it from the mirrors")


def _conflict(row: MirrorRow, earlier: MirrorRow) -> Problem:
    place = earlier.source.resource.at(earlier.field)
    message = (
        f"mirrorSourcePolicy is {row.policy} for {row.source.text}, "
        f"and {earlier.policy} in {earlier.origin.resource} {earlier.field} ({place})"
    )
    remedy = "give every row of this source the same mirrorSourcePolicy (an ImageContentSourcePolicy has none)"
    return row.source.problem("mirror-policy-conflict", message, remedy)


def counts(row: MirrorRow) -> bool:
    """Whether a row has any mirror but the source itself; else it is dropped with its policy, as MCO does."""
    return any(mirror.text != row.source.text for mirror in row.mirrors)


def merge(rows: Iterable[MirrorRow]) -> tuple[MirrorSet, ...]:
    """One set per source, sorted by source: those for digests first, then those for tags.

    Rows that do not count (`counts`) are left out.
    """
    grouped: dict[tuple[bool, str], list[MirrorRow]] = {}
    for row in rows:
        if counts(row):
            grouped.setdefault((row.by_tag, row.source.text), []).append(row)
    return tuple(_merged(source, by_tag, grouped[by_tag, source]) for by_tag, source in sorted(grouped))


def _merged(source: str, by_tag: bool, rows: Sequence[MirrorRow]) -> MirrorSet:
    mirror_origins: dict[str, list[Origin]] = {}
    for row in rows:
        for mirror in row.mirrors:
            mirror_origins.setdefault(mirror.text, []).append(mirror.origin)
    return MirrorSet(
        source=source,
        mirrors=pull_order(source, [tuple(mirror.text for mirror in row.mirrors) for row in rows]),
        by_tag=by_tag,
        never_contact=any(row.policy == NEVER_CONTACT for row in rows),
        origins=tuple(row.origin for row in rows),
        mirror_origins={mirror: tuple(origins) for mirror, origins in mirror_origins.items()},
    )


def pull_order(source: str, lists: Sequence[Sequence[str]]) -> tuple[str, ...]:
    """One order of all mirrors that keeps the order of each list where that is possible.

    The source comes last and is then left out, since the runtime tries it last anyway. Lists that contradict
    each other form a loop, which is broken at the first unused name in sorted order; the source may then come
    first, so that it is contacted before any mirror, and stays in the result.
    """
    if len(lists) == 1 and source not in lists[0] and len(set(lists[0])) == len(lists[0]):
        return tuple(lists[0])
    following: dict[str, set[str]] = {}
    waiting_for: dict[str, set[str]] = {}
    for names in lists:
        chain = [*names] if source in names else [*names, source]
        for name in chain:
            following.setdefault(name, set())
            waiting_for.setdefault(name, set())
        for before, after in pairwise(chain):
            following[before].add(after)
            waiting_for[after].add(before)
    ordered = _sorted(following, waiting_for)
    return tuple(ordered[:-1] if ordered[-1] == source else ordered)


def _sorted(following: Mapping[str, set[str]], waiting_for: Mapping[str, set[str]]) -> list[str]:
    names = sorted(following)
    ready = deque(name for name in names if not waiting_for[name])
    rest = iter(names)
    ordered: dict[str, None] = {}
    while len(ordered) < len(names):
        name = ready.popleft() if ready else next(name for name in rest if name not in ordered)
        ordered[name] = None
        freed = []
        for after in following[name]:
            waiting_for[after].discard(name)
            if not waiting_for[after] and after not in ordered:
                freed.append(after)
        ready.extend(sorted(freed))
    return list(ordered)
