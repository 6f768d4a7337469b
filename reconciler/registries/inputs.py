"""What the resources say, sorted out for rendering: lists, mirror rows and policies, each with its origin.

The order is that of MCO (ImageDigestMirrorSets, then ImageContentSourcePolicies, then ImageTagMirrorSets) and
within a kind that of the names, so that no result depends on the order in which resources come.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

from reconciler.registries.model import Origin, Problem, Resource

NEVER_CONTACT = "NeverContactSource"
ALLOW_CONTACT = "AllowContactingSource"
_ROWS: Mapping[str, tuple[str, bool]] = {
    "ImageDigestMirrorSet": ("imageDigestMirrors", False),
    "ImageContentSourcePolicy": ("repositoryDigestMirrors", False),
    "ImageTagMirrorSet": ("imageTagMirrors", True),
}
"""Of each mirror kind: its field of rows, and whether they are for pulls by tag."""


_LISTS = ("allowedRegistries", "blockedRegistries", "insecureRegistries", "containerRuntimeSearchRegistries")


@dataclass(frozen=True, slots=True)
class Entry:
    """A string at a field of a resource: a list entry, a mirror, a policy scope."""

    text: str
    resource: Resource
    field: str

    @property
    def origin(self) -> Origin:
        return Origin(self.resource.identity, self.field)

    def problem(self, name: str, message: str, remedy: str = "") -> Problem:
        """An error at this entry."""
        place = self.resource.at(self.field)
        return Problem(name, message, place, self.resource.identity, self.field, remedy)


@dataclass(frozen=True, slots=True)
class MirrorRow:
    """One row of a mirror set. `policy` is the mirrorSourcePolicy in force (absent: contacting is allowed)."""

    source: Entry
    mirrors: tuple[Entry, ...]
    policy: str
    by_tag: bool
    field: str

    @property
    def origin(self) -> Origin:
        return Origin(self.source.resource.identity, self.field)


@dataclass(frozen=True, slots=True)
class SignaturePolicy:
    """A ClusterImagePolicy, or an ImagePolicy of `namespace`."""

    resource: Resource
    namespace: str
    scopes: tuple[Entry, ...]
    policy: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Inputs:
    """Everything that rendering reads. A list that is None is not set, which differs from an empty one."""

    image: Resource | None
    allowed: tuple[Entry, ...] | None
    blocked: tuple[Entry, ...] | None
    insecure: tuple[Entry, ...] | None
    search: tuple[Entry, ...] | None
    mirror_sets: tuple[Resource, ...]
    rows: tuple[MirrorRow, ...]
    cluster_policies: tuple[SignaturePolicy, ...]
    namespace_policies: tuple[SignaturePolicy, ...]
    config_maps: tuple[Resource, ...]


def collect(resources: Sequence[Resource]) -> Inputs:
    """Sort out `resources`. Of several Images the first counts; `validate_set` and `render` refuse the rest."""
    ordered = sorted(resources, key=lambda resource: (resource.kind, resource.name, resource.directory))
    image = next((resource for resource in ordered if resource.kind == "Image"), None)
    lists: Mapping[str, tuple[Entry, ...]] = image.once(_lists) if image else {}
    mirror_sets = tuple(resource for kind in _ROWS for resource in ordered if resource.kind == kind)
    return Inputs(
        image=image,
        allowed=lists.get("allowedRegistries"),
        blocked=lists.get("blockedRegistries"),
        insecure=lists.get("insecureRegistries"),
        search=lists.get("containerRuntimeSearchRegistries"),
        mirror_sets=mirror_sets,
        rows=tuple(chain.from_iterable(resource.once(rows_of) for resource in mirror_sets)),
        cluster_policies=tuple(_policies(ordered, "ClusterImagePolicy")),
        namespace_policies=tuple(_policies(ordered, "ImagePolicy")),
        config_maps=tuple(resource for resource in ordered if resource.kind == "ConfigMap"),
    )


def _spec(resource: Resource) -> Mapping[str, Any]:
    spec = resource.document.get("spec")
    return spec if isinstance(spec, Mapping) else {}


def _lists(image: Resource) -> dict[str, tuple[Entry, ...]]:
    """The lists of an Image that are set."""
    sources = _spec(image).get("registrySources") or {}
    found = {name: values for name, values in sources.items() if name in _LISTS and values is not None}
    return {name: _texts(image, f"spec.registrySources.{name}", values) for name, values in found.items()}


def _texts(resource: Resource, field: str, values: Sequence[Any]) -> tuple[Entry, ...]:
    return tuple(Entry(str(value), resource, f"{field}[{index}]") for index, value in enumerate(values))


def rows_of(mirror_set: Resource) -> tuple[MirrorRow, ...]:
    """The rows of one mirror set, in its order. Ask with `Resource.once`."""
    name, by_tag = _ROWS[mirror_set.kind]
    return tuple(
        MirrorRow(
            source=Entry(str(row.get("source") or ""), mirror_set, f"spec.{name}[{index}].source"),
            mirrors=_texts(mirror_set, f"spec.{name}[{index}].mirrors", row.get("mirrors") or ()),
            policy=str(row.get("mirrorSourcePolicy") or ALLOW_CONTACT),
            by_tag=by_tag,
            field=f"spec.{name}[{index}]",
        )
        for index, row in enumerate(_spec(mirror_set).get(name) or ())
    )


def _policies(resources: Sequence[Resource], kind: str) -> Iterator[SignaturePolicy]:
    for resource in resources:
        if resource.kind == kind:
            spec = _spec(resource)
            metadata = resource.document.get("metadata") or {}
            namespace = str(metadata.get("namespace") or "") if kind == "ImagePolicy" else ""
            scopes = _texts(resource, "spec.scopes", spec.get("scopes") or ())
            yield SignaturePolicy(resource, namespace, scopes, spec.get("policy") or {})
