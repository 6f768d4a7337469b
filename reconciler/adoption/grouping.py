"""Hosts by behaviour: which are alike, which stand out, and which resources they share. Pure."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from reconciler.registries.adopt import Adoption, Keep, infer
from reconciler.registries.behaviour import contrast, differences, fingerprint
from reconciler.registries.disruption import Files
from reconciler.registries.facts import Facts, resources, shared_rows, without_rows
from reconciler.registries.model import BASE_PATHS, RenderOptions
from reconciler.registries.render import render

COMMON = "common"
"""Directory of what all groups share."""
OUTLIER_SIZE = 2
OUTLIER_RATIO = 3
"""A group of at most OUTLIER_SIZE hosts stands out beside one OUTLIER_RATIO times as large."""


@dataclass(frozen=True)
class HostFiles:
    """The registry files of a host. `unread` maps further ones to their hashes; `modes` are known over SSH only."""

    name: str
    files: Files
    unread: Mapping[str, str] = field(default_factory=dict)
    modes: Mapping[str, int] = field(default_factory=dict)
    machine: str = ""
    """Its machine-id, where it is known."""


@dataclass(frozen=True)
class Group:
    """Hosts that behave alike. `own` is what its directory says, `common` whether it takes the common one before.

    `whole`: resources say all of it, so that the hosts would behave alike with `base: openshift` too.
    For an outlier, `nearest` is the group most like it, and `differs` what its hosts say differently.
    """

    name: str
    hosts: tuple[str, ...]
    adoption: Adoption
    own: Facts
    common: bool
    whole: bool
    outlier: bool = False
    nearest: str = ""
    differs: tuple[str, ...] = ()

    @property
    def directory(self) -> str:
        return f"groups/{self.name}"

    @property
    def paths(self) -> list[str]:
        return [COMMON, self.directory] if self.common else [self.directory]


@dataclass(frozen=True)
class Layout:
    """All groups, the largest first, and what the common directory says."""

    common: Facts
    groups: tuple[Group, ...]


def group_hosts(hosts: Sequence[HostFiles], keep: Keep) -> Layout:
    """Group at least one host. Deterministic: the order of the hosts does not count."""
    ordered = sorted(_alike(hosts), key=lambda some: (-len(some), some[0].name))
    largest = len(ordered[0])
    outliers = [len(some) <= OUTLIER_SIZE and len(some) * OUTLIER_RATIO <= largest for some in ordered]
    adoptions = [_infer(some, keep) for some in ordered]
    common = _common([found.facts for found, out in zip(adoptions, outliers, strict=True) if not out])
    names = [f"{'outlier' if out else 'group'}-{_number(outliers, place)}" for place, out in enumerate(outliers)]
    main = [(name, some[0].files) for name, some, out in zip(names, ordered, outliers, strict=True) if not out]
    groups = [
        _group(names[place], ordered[place], adoptions[place], common, main if out else None)
        for place, out in enumerate(outliers)
    ]
    return Layout(common, tuple(groups))


def _group(
    name: str, hosts: Sequence[HostFiles], adoption: Adoption, common: Facts, main: Sequence[tuple[str, Files]] | None
) -> Group:
    """One group; `main` are the others to compare an outlier with, by a host's files, None for a group of its own."""
    facts = adoption.facts
    takes = _takes(facts, common)
    own = _own(facts, common) if takes else facts
    nearest, differs = _nearest(hosts[0].files, main) if main else ("", ())
    members = tuple(host.name for host in hosts)
    return Group(name, members, adoption, own, takes, _whole(hosts, facts), main is not None, nearest, differs)


def _alike(hosts: Sequence[HostFiles]) -> Collection[list[HostFiles]]:
    """The hosts by behaviour, each list sorted by name. The same bytes are judged once."""
    known: dict[Any, str] = {}
    found: dict[str, list[HostFiles]] = {}
    for host in sorted(hosts, key=lambda host: host.name):
        key = frozenset(host.files.items()), frozenset(host.unread.items())
        if key not in known:
            known[key] = fingerprint(host.files, host.unread)
        found.setdefault(known[key], []).append(host)
    return found.values()


def _number(outliers: Sequence[bool], place: int) -> int:
    """Counted among its like."""
    return outliers[: place + 1].count(outliers[place])


def _infer(hosts: Sequence[HostFiles], keep: Keep) -> Adoption:
    """Once for hosts whose files are the same byte for byte."""
    distinct = {frozenset(host.files.items()): host for host in hosts}
    return infer([host.files for host in distinct.values()], keep, hosts[0].unread)


def _whole(hosts: Sequence[HostFiles], facts: Facts) -> bool:
    """Whether the resources alone, over MCO's templates, make the hosts behave as they do."""
    adopted = resources(facts)
    rendered = render(adopted or (), RenderOptions(base="openshift"))
    files = {path: content for path, content in hosts[0].files.items() if path not in BASE_PATHS}
    written = {file.path: file.content for file in rendered.files}
    return adopted is not None and rendered.ok and not differences(hosts[0].files, {**files, **written})


def _common(facts: Sequence[Facts]) -> Facts:
    """Mirror rows that all have; the Image where all have the same, since it exists only whole."""
    images = {some.image_part for some in facts}
    image = images.pop() if len(images) == 1 else Facts()
    return shared_rows(facts) | image


def _takes(facts: Facts, common: Facts) -> bool:
    """Whether a group can begin with the common directory: nothing of it may be too much for the group."""
    fits = not without_rows(common, facts).rows_part
    return bool(common) and fits and (not common.image_part or bool(facts.image_part))


def _own(facts: Facts, common: Facts) -> Facts:
    """What is left to say; an Image of its own replaces the common one whole."""
    image = Facts() if facts.image_part == common.image_part else facts.image_part
    return without_rows(facts, common) | image


def _nearest(files: Files, others: Sequence[tuple[str, Files]]) -> tuple[str, tuple[str, ...]]:
    compared = [(name, contrast(other, files)) for name, other in others]
    return min(compared, key=lambda found: (len(found[1]), found[0]), default=("", ()))
