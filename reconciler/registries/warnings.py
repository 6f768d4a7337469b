"""What is accepted but doubtful: each warning with its name, field, reason and remedy, and how it is silenced.

A warning is silenced by the annotation `reconciler.dev/silence.NAME: "reason"` on the resource it is about.
Sources: the OpenShift documentation on image registries; what MCO and containers/image were seen to do.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple
from weakref import WeakKeyDictionary

from reconciler.registries import scopes
from reconciler.registries.inputs import Entry, Inputs, MirrorRow, collect, rows_of
from reconciler.registries.model import Problem, Resource

SILENCE = "reconciler.dev/silence."
WARNINGS: Mapping[str, str] = {
    "platform-registry-not-allowed": "the allow list leaves out a registry that OpenShift itself pulls from",
    "platform-registry-blocked": "the block list covers a registry that OpenShift itself pulls from",
    "mirror-not-allowed": "the allow list leaves out a mirror, or the source it mirrors",
    "insecure-registry": "TLS is not verified for a registry",
    "insecure-not-allowed": "an insecure registry is not in the allow list",
    "public-search-registry": "credentials and short names reach a public registry",
    "search-registry-not-allowed": "a search registry may not be pulled from",
    "search-list-empty": "no short name works at all",
    "ambiguous-short-names": "newer runtimes refuse short names that several registries could serve",
    "port-missing": "an entry without port does not cover the same host with a port",
    "entry-has-tag": "a tag or digest in a list does less than it seems",
    "import-list-without-effect": "allowedRegistriesForImport does nothing on nodes",
    "payload-not-blocked": "a blocked entry is left out to keep the release image pullable",
    "policy-scope-conflict": "an ImagePolicy scope is overruled by a ClusterImagePolicy",
    "ca-not-ca": "a certificate is no CA certificate",
    "ca-expires": "a certificate expires soon",
}
"""Every warning and what it says in short."""

INTERNAL_REGISTRY = "image-registry.openshift-image-registry.svc:5000"
_PLATFORM = ("registry.redhat.io", "quay.io")
_PAYLOAD = "quay.io/openshift-release-dev"
_PUBLIC = frozenset(
    {
        "docker.io",
        "gcr.io",
        "ghcr.io",
        "lscr.io",
        "mcr.microsoft.com",
        "public.ecr.aws",
        "quay.io",
        "registry.access.redhat.com",
        "registry.gitlab.com",
        "registry.k8s.io",
        "registry.redhat.io",
    }
)
_PORT = re.compile(r":[0-9]+(?=/|$)")


def silenced(problems: Iterable[Problem], annotations: Mapping[str, str]) -> Iterator[Problem]:
    """`problems` less the warnings that `annotations` silence with a reason. Errors always stay."""
    for problem in problems:
        reason = annotations.get(SILENCE + problem.name, "")
        if problem.severity == "error" or not reason.strip():
            yield problem


def annotations_of(resource: Resource) -> Mapping[str, str]:
    metadata = resource.document.get("metadata") or {}
    return metadata.get("annotations") or {}


def check_silences(annotations: Mapping[str, str]) -> Iterator[tuple[str, str, str]]:
    """Annotations that silence nothing: (key, what is wrong, what to do)."""
    for key, reason in annotations.items():
        if key.startswith(SILENCE) and key.removeprefix(SILENCE) not in WARNINGS:
            known = ", ".join(WARNINGS)
            yield key, f"there is no warning {key.removeprefix(SILENCE)!r}", f"one of: {known}"
        elif key.startswith(SILENCE) and not reason.strip():
            yield key, "a warning is only silenced with a reason", "say why, as the value of the annotation"


def _warn(entry: Entry, name: str, message: str, remedy: str) -> Problem:
    return replace(entry.problem(name, message, remedy), severity="warning")


class _Listed:
    """The allow list. `scopes.enclosing` of each entry is kept, so that no question looks at every entry."""

    def __init__(self, inputs: Inputs) -> None:
        self.entries = {entry.text for entry in inputs.allowed or ()}
        self._around = {outer for entry in self.entries for outer in scopes.enclosing(entry)}

    def __bool__(self) -> bool:
        return bool(self.entries)

    def touches(self, name: str) -> bool:
        """Whether the list says something about `name`: covers it, or names a part of it."""
        return scopes.covered(name, self.entries) is not None or name in self._around


def of_image(image: Resource, internal_registry: str) -> Iterator[Problem]:
    """The warnings that an Image gives by itself. `internal_registry` is status.internalRegistryHostname."""
    inputs = collect([image])
    platform = (*_PLATFORM, internal_registry or INTERNAL_REGISTRY)
    yield from _allow_list(image, inputs, platform)
    yield from _block_list(inputs, platform)
    yield from _insecure_list(inputs)
    yield from _search_list(image, inputs)
    yield from _tags(inputs)
    if (image.document.get("spec") or {}).get("allowedRegistriesForImport"):
        yield _warn(
            Entry("", image, "spec.allowedRegistriesForImport"),
            "import-list-without-effect",
            "only the OpenShift API server reads this list, when image streams are imported; nodes do not",
            "use registrySources to restrict what nodes pull",
        )


def _allow_list(image: Resource, inputs: Inputs, platform: Sequence[str]) -> Iterator[Problem]:
    allowed = _Listed(inputs)
    for name in platform if allowed else ():
        if not allowed.touches(name):
            yield _warn(
                Entry(name, image, "spec.registrySources.allowedRegistries"),
                "platform-registry-not-allowed",
                f"{name} is not in the list, so OpenShift's own images from it are refused",
                f"add {name}, or silence the warning where no OpenShift runs",
            )


def _block_list(inputs: Inputs, platform: Sequence[str]) -> Iterator[Problem]:
    for entry in inputs.blocked or ():
        hit = next((name for name in (*platform, _PAYLOAD) if scopes.nested(name, entry.text)), None)
        if hit:
            yield _warn(
                entry,
                "platform-registry-blocked",
                f"{entry.text} covers {hit}, from which OpenShift pulls its own images",
                "block narrower, or mirror it with mirrorSourcePolicy: NeverContactSource",
            )


def _insecure_list(inputs: Inputs) -> Iterator[Problem]:
    allowed = _Listed(inputs)
    for entry in inputs.insecure or ():
        if scopes.tag_of(entry.text):
            continue  # it has no effect, see `_tags`
        yield _warn(
            entry,
            "insecure-registry",
            f"certificates of {entry.text} are not verified and plain HTTP is used where TLS fails",
            "put the registry's CA into additionalTrustedCA instead",
        )
        if allowed and not allowed.touches(entry.text):
            message = f"{entry.text} is not in allowedRegistries, so nothing is pulled from it by that name"
            yield _warn(entry, "insecure-not-allowed", message, f"add {entry.text} to allowedRegistries")


def _search_list(image: Resource, inputs: Inputs) -> Iterator[Problem]:
    if inputs.search is None:
        return
    listed = Entry("", image, "spec.registrySources.containerRuntimeSearchRegistries")
    if not inputs.search:
        message = "the empty list takes the default list away; no image can be pulled by a short name"
        yield _warn(listed, "search-list-empty", message, "remove the field to keep the default list")
    if len(inputs.search) > 1:
        yield _warn(
            listed,
            "ambiguous-short-names",
            "CRI-O 1.34 and newer refuses every short name when there are several search registries",
            'keep one, or set short_name_mode = "disabled" in crio.conf on every node',
        )
    allowed = _Listed(inputs)
    blocked = {entry.text for entry in inputs.blocked or ()}
    for entry in inputs.search:
        if _PORT.sub("", entry.text).partition("/")[0] in _PUBLIC:
            message = f"every short name is asked for at {entry.text} too, with the credentials that nodes have for it"
            yield _warn(entry, "public-search-registry", message, "use full image names for public registries")
        refused = (allowed and not allowed.touches(entry.text)) or scopes.covered(entry.text, blocked) is not None
        if refused:
            message = f"{entry.text} is searched for short names, and no image may be pulled from it"
            yield _warn(entry, "search-registry-not-allowed", message, "allow it, or remove it from the search list")


_TAG_EFFECT = {
    "allowedRegistries": "only this very tag or digest may be pulled; other tags and digests of it are refused",
    "blockedRegistries": "only this very tag or digest is refused, by policy.json; the same image under another "
    "tag or by digest is not, and registries.conf never matches the entry",
    "insecureRegistries": "the entry has no effect: registries.conf is asked by repository, without tag or digest",
}


def _tags(inputs: Inputs) -> Iterator[Problem]:
    for entry in (*(inputs.allowed or ()), *(inputs.blocked or ()), *(inputs.insecure or ())):
        if scopes.tag_of(entry.text):
            name = entry.field.rpartition(".")[2].partition("[")[0]
            bare = entry.text.removesuffix(scopes.tag_of(entry.text))
            yield _warn(entry, "entry-has-tag", f"{entry.text}: {_TAG_EFFECT[name]}", f"list {bare} instead")


class _Uncovered(NamedTuple):
    """A name with a port, and the entry of each list that covers it but for the port."""

    name: str
    allowed: str | None
    insecure: str | None


@dataclass(frozen=True, slots=True)
class _Doubts:
    """What an Image's lists make of one mirror set. `with_port`: each name with a port, by the name without it."""

    not_allowed: tuple[Problem, ...]
    with_port: Mapping[str, _Uncovered | None]


class _Lists:
    """The allow list and the insecure list of one Image, and what they were found to say about mirror sets.

    Ask for it with `Resource.once`: a mirror set is looked at again only when it or the Image changes.
    """

    def __init__(self, image: Resource) -> None:
        inputs = collect([image])
        self._listed = _Listed(inputs)
        self.allowed = {entry.text: entry for entry in inputs.allowed or ()}
        self.insecure = {entry.text: entry for entry in inputs.insecure or ()}
        lists = (inputs.search, inputs.insecure, inputs.allowed, inputs.blocked)
        self.with_port = self._ports(entry.text for entries in lists for entry in entries or ())

    def about(self, mirror_set: Resource) -> _Doubts:
        """What is doubtful about a mirror set, worked out once."""
        known = mirror_set.once(_by_lists)
        if self not in known:
            rows = mirror_set.once(rows_of)
            names = (entry.text for row in rows for entry in (row.source, *row.mirrors))
            not_allowed = tuple(_not_allowed(rows, self._listed)) if self._listed else ()
            known[self] = _Doubts(not_allowed, self._ports(names))
        return known[self]

    def _ports(self, names: Iterable[str]) -> dict[str, _Uncovered | None]:
        """By the name without its port; None where the lists cover both or neither."""
        found: dict[str, _Uncovered | None] = {}
        for name in names:
            bare = _PORT.sub("", name, count=1)
            if bare != name:
                allowed, insecure = (
                    outer if (outer := scopes.covered(bare, listed)) and scopes.covered(name, listed) is None else None
                    for listed in (self.allowed, self.insecure)
                )
                found[bare] = _Uncovered(name, allowed, insecure) if allowed or insecure else None
        return found


def _by_lists(_: Resource) -> WeakKeyDictionary[_Lists, _Doubts]:
    """For the answers about one mirror set: each is kept as long as the Image that it depends on."""
    return WeakKeyDictionary()


def of_set(inputs: Inputs) -> list[Problem]:
    """The warnings that only several resources together give."""
    if inputs.image is None or not (inputs.allowed or inputs.insecure):
        return []
    lists = inputs.image.once(_Lists)
    found: list[Problem] = []
    with_port = dict(lists.with_port)
    for mirror_set in inputs.mirror_sets:
        doubts = lists.about(mirror_set)
        found += doubts.not_allowed
        with_port.update(doubts.with_port)
    return [*found, *_port_missing(lists, with_port)]


def _not_allowed(rows: Iterable[MirrorRow], allowed: _Listed) -> Iterator[Problem]:
    for row in rows:
        if row.mirrors and not allowed.touches(row.source.text):
            message = f"{row.source.text} is not in allowedRegistries, so its mirrors are never asked"
            yield _warn(row.source, "mirror-not-allowed", message, f"add {row.source.text} to allowedRegistries")
        for mirror in row.mirrors:
            if not allowed.touches(mirror.text):
                message = (
                    f"{mirror.text} is not in allowedRegistries: it serves {row.source.text}, "
                    "but no image may be pulled by the mirror's own name"
                )
                yield _warn(mirror, "mirror-not-allowed", message, f"add {mirror.text} to allowedRegistries")


def _port_missing(lists: _Lists, with_port: Mapping[str, _Uncovered | None]) -> Iterator[Problem]:
    uncovered = [port for _, port in sorted((bare, port) for bare, port in with_port.items() if port is not None)]
    pairs = [(lists.allowed, port.allowed, port.name) for port in uncovered]
    pairs += [(lists.insecure, port.insecure, port.name) for port in uncovered]
    for listed, outer, name in pairs:
        if outer is not None:
            message = f"{outer} does not cover {name}, which is named elsewhere: a port makes another registry"
            yield _warn(listed[outer], "port-missing", message, f"list {name.partition('/')[0]} too")
