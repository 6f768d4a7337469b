"""What a host's files say that resources can say too, and the resources that say it."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from typing import Any, NamedTuple

from reconciler.registries.inputs import NEVER_CONTACT
from reconciler.registries.model import Document, Location, Resource
from reconciler.registries.validate import validate_document, validate_set

CA_CONFIG_MAP = "registry-cas"
"""Name of the ConfigMap that holds adopted certificates."""


class Row(NamedTuple):
    """A row of a mirror set. `never`: the source itself is never contacted."""

    source: str
    mirrors: tuple[str, ...]
    never: bool = False


@dataclass(frozen=True, slots=True)
class Facts:
    """Entries of an Image, rows of mirror sets, and CA files.

    `search` holds at most one list. `certificates` are pairs of HOST[:PORT] and the bytes of ca.crt.
    """

    search: frozenset[tuple[str, ...]] = frozenset()
    allowed: frozenset[str] = frozenset()
    blocked: frozenset[str] = frozenset()
    insecure: frozenset[str] = frozenset()
    digest_rows: frozenset[Row] = frozenset()
    tag_rows: frozenset[Row] = frozenset()
    certificates: frozenset[tuple[str, bytes]] = frozenset()

    def __or__(self, other: Facts) -> Facts:
        return Facts(*(getattr(self, field.name) | getattr(other, field.name) for field in fields(Facts)))

    def __bool__(self) -> bool:
        return self != Facts()

    @property
    def image_part(self) -> Facts:
        """What an Image says, which only exists whole; the CA ConfigMap belongs to it."""
        return Facts(self.search, self.allowed, self.blocked, self.insecure, certificates=self.certificates)

    @property
    def rows_part(self) -> Facts:
        """What mirror sets say, of which several add up."""
        return Facts(digest_rows=self.digest_rows, tag_rows=self.tag_rows)


def union(facts: Iterable[Facts]) -> Facts:
    """All of them together."""
    result = Facts()
    for some in facts:
        result |= some
    return result


def shared_rows(facts: Sequence[Facts]) -> Facts:
    """The mirror rows that all of them have."""
    return Facts(
        digest_rows=frozenset.intersection(*(some.digest_rows for some in facts)),
        tag_rows=frozenset.intersection(*(some.tag_rows for some in facts)),
    )


def without_rows(facts: Facts, known: Facts) -> Facts:
    """The mirror rows of `facts` that `known` does not have."""
    return Facts(digest_rows=facts.digest_rows - known.digest_rows, tag_rows=facts.tag_rows - known.tag_rows)


def documents(facts: Facts, name: str) -> list[dict[str, Any]]:
    """The resources that say `facts`: Image, mirror sets called `name`, CA ConfigMap. In stable order."""
    found = []
    if facts.image_part:
        found.append(_resource("Image", "cluster", _image_spec(facts)))
    for kind, field, rows in (
        ("ImageDigestMirrorSet", "imageDigestMirrors", facts.digest_rows),
        ("ImageTagMirrorSet", "imageTagMirrors", facts.tag_rows),
    ):
        if rows:
            found.append(_resource(kind, name, {field: [_row(row) for row in sorted(rows)]}))
    if facts.certificates:
        found.append(_config_map(sorted(facts.certificates)))
    return found


def _resource(kind: str, name: str, spec: dict[str, Any]) -> dict[str, Any]:
    return {"apiVersion": "config.openshift.io/v1", "kind": kind, "metadata": {"name": name}, "spec": spec}


def _image_spec(facts: Facts) -> dict[str, Any]:
    lists: dict[str, list[str]] = {
        "allowedRegistries": sorted(facts.allowed),
        "blockedRegistries": sorted(facts.blocked),
        "insecureRegistries": sorted(facts.insecure),
        "containerRuntimeSearchRegistries": [name for names in sorted(facts.search) for name in names],
    }
    sources = {name: entries for name, entries in lists.items() if entries}
    spec: dict[str, Any] = {"registrySources": sources} if sources else {}
    return spec | ({"additionalTrustedCA": {"name": CA_CONFIG_MAP}} if facts.certificates else {})


def _row(row: Row) -> dict[str, Any]:
    policy = {"mirrorSourcePolicy": NEVER_CONTACT} if row.never else {}
    return {"source": row.source, "mirrors": list(row.mirrors), **policy}


def _config_map(certificates: Sequence[tuple[str, bytes]]) -> dict[str, Any]:
    """Text goes into `data`, anything else into `binaryData`."""
    parts: dict[str, dict[str, str]] = {"data": {}, "binaryData": {}}
    for host, content in certificates:
        key = host.replace(":", "..")
        try:
            parts["data"][key] = content.decode()
        except UnicodeDecodeError:
            parts["binaryData"][key] = base64.b64encode(content).decode()
    metadata = {"name": CA_CONFIG_MAP, "namespace": "openshift-config"}
    filled = {name: values for name, values in parts.items() if values}
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, **filled}


def resources(facts: Facts) -> list[Resource] | None:
    """The same as validated resources; None where the API refuses one of them."""
    found = []
    for document in documents(facts, "adopted"):
        resource, problems = validate_document(Document(document, Location("", 0)), "strict", None)
        if resource is None or any(problem.severity == "error" for problem in problems):
            return None
        found.append(resource)
    if any(problem.severity == "error" for problem in validate_set(found)):
        return None
    return found
