"""What a resource says, statement by statement: by these its contents are compared (DESIGN §8).

Names, labels, annotations, comments and the order of lists whose order nobody can tell make no statement. A mirror's
row makes the same statements in every object and kind that may hold it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from itertools import pairwise
from typing import Any

from reconciler.registries.inputs import NEVER_CONTACT, collect, rows_of
from reconciler.registries.mirrors import counts
from reconciler.registries.model import Resource, canonical_json, digest

ADDITIVE = ("ImageContentSourcePolicy", "ImageDigestMirrorSet", "ImageTagMirrorSet", "ClusterImagePolicy")
"""The kinds of which any number of objects say together what one of them could."""

_ORDERED = "containerRuntimeSearchRegistries"
_SET = ("allowedRegistries", "containerRuntimeSearchRegistries")
"""Lists that say something by being there, whatever they hold."""


def statements(resource: Resource) -> frozenset[str]:
    """Every statement of a resource, in words. Ask with `Resource.once`."""
    if resource.kind in ADDITIVE[:3]:
        return frozenset(_mirrors(resource))
    if resource.kind == "ConfigMap":
        return frozenset(_authorities(resource))
    if resource.kind in ("ClusterImagePolicy", "ImagePolicy"):
        return frozenset(_policies(resource))
    return frozenset(_fields("", resource.body.get("spec")))


def _mirrors(resource: Resource) -> Iterator[str]:
    for row in filter(counts, resource.once(rows_of)):
        about = f"{row.source.text} by {'tag' if row.by_tag else 'digest'}"
        mirrors = [mirror.text for mirror in row.mirrors]
        yield from (f"{about}: mirror {mirror}" for mirror in mirrors)
        yield from (f"{about}: {first} before {second}" for first, second in pairwise(mirrors))
        if row.policy == NEVER_CONTACT:
            yield f"{about}: {NEVER_CONTACT}"


def _authorities(resource: Resource) -> Iterator[str]:
    for part in ("data", "binaryData"):
        for key, value in (resource.document.get(part) or {}).items():
            yield f"{key}: {part} {hashlib.sha256(str(value).strip().encode()).hexdigest()[:16]}"


def _policies(resource: Resource) -> Iterator[str]:
    inputs = collect([resource])
    for policy in (*inputs.cluster_policies, *inputs.namespace_policies):
        about = f"policy of namespace {policy.namespace}" if policy.namespace else "policy"
        said = digest(policy.policy)[:16]
        yield from (f"{scope.text}: {about} {said}" for scope in policy.scopes)


def _fields(path: str, value: Any) -> Iterator[str]:
    if isinstance(value, Mapping):
        for key, item in value.items():
            yield from _fields(f"{path}.{key}" if path else str(key), item)
    elif isinstance(value, (list, tuple)):
        texts = [item if isinstance(item, str) else canonical_json(item) for item in value]
        yield from (f"{path}: {text}" for text in texts)
        name = path.rpartition(".")[2]
        if name in _SET:
            yield f"{path} is set"
        if name == _ORDERED:
            yield from (f"{path}: {first} before {second}" for first, second in pairwise(texts))
    elif value not in (None, ""):
        yield f"{path}: {value if isinstance(value, str) else canonical_json(value)}"
