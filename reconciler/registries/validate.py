"""Documents to resources: schema, what makes a file unloadable, and rules between resources.

Two modes. `strict` is today's API. `default` differs where the documentation's own examples do: tags and
digests in lists, and an empty search list, are accepted with a warning that says what they do. In both modes
unknown fields and kinds are refused by name, and so is whatever would keep the runtime from loading a file.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any, Literal

from reconciler.registries import certs, mirrors, schema, scopes, warnings
from reconciler.registries.inputs import collect
from reconciler.registries.kinds import KEPT_METADATA, RESOURCE_KINDS, SCHEMAS
from reconciler.registries.model import Document, Problem, Resource

Mode = Literal["default", "strict"]

__all__ = ["RESOURCE_KINDS", "Mode", "validate_document", "validate_set"]

_LAST_APPLIED = "kubectl.kubernetes.io/last-applied-configuration"  # a copy of the document, kept by kubectl
_SEARCH = "spec.registrySources.containerRuntimeSearchRegistries"


def validate_document(
    document: Document, mode: Mode = "default", now: datetime | None = None
) -> tuple[Resource | None, tuple[Problem, ...]]:
    """The resource that a document is, or None, and everything wrong or doubtful with it.

    `now` (UTC) is for certificates that expire soon; without it they are not looked for. Errors: `unknown-kind`,
    `unknown-api-version`, `image-name`, `wrong-namespace`, the schema's (`unknown-field`, `required`, `type`,
    `enum`, `pattern`, `registry-format`, `allowed-and-blocked`, `duplicate`, `min-items`, `max-items`,
    `min-length`, `max-length`, `rule`), `policy-unloadable`, `search-unloadable`, those of
    `certs.check_config_map`. Warnings are those of `warnings.WARNINGS` that one resource gives by itself.
    """
    api_version = RESOURCE_KINDS.get(document.kind)
    if api_version is None:
        return None, (_unknown_kind(document),)
    if document.api_version != api_version:
        message = f"{document.kind} is known in {api_version}, not in {document.api_version}"
        remedy = f"write apiVersion: {api_version}"
        return None, (_problem(document, "unknown-api-version", "apiVersion", message, remedy),)
    problems = [*_identity(document), *_schema(document, mode)]
    if document.kind == "ConfigMap":
        problems += certs.check_config_map(document, now)
    resource = None
    if not _errors(problems):
        resource = _resource(document)
        problems += _unloadable(resource)
        problems += _doubts(document, resource)
    return (None if _errors(problems) else resource), tuple(_silenced(document, problems))


def _errors(problems: Sequence[Problem]) -> bool:
    return any(problem.severity == "error" for problem in problems)


def _problem(document: Document, name: str, field: str, message: str, remedy: str = "") -> Problem:
    return Problem(name, message, document.at(field), document.identity, field, remedy)


def _unknown_kind(document: Document) -> Problem:
    close = difflib.get_close_matches(document.kind, RESOURCE_KINDS, n=1)
    remedy = f"did you mean {close[0]}?" if close else "remove it, or list the file in .reconcilerignore"
    message = f"{document.api_version} {document.kind} is not a kind that is handled here"
    return _problem(document, "unknown-kind", "kind", message, remedy)


def _identity(document: Document) -> Iterator[Problem]:
    if document.kind == "Image" and document.name != "cluster":
        message = "the only Image that counts is named cluster"
        yield _problem(document, "image-name", "metadata.name", message, "name it cluster")
    namespace = document.value["metadata"].get("namespace")
    if document.kind == "ConfigMap" and namespace not in (None, certs.CA_NAMESPACE):
        yield _problem(
            document,
            "wrong-namespace",
            "metadata.namespace",
            f"a ConfigMap here holds registry CAs, which OpenShift reads from {certs.CA_NAMESPACE} only",
            f"write namespace: {certs.CA_NAMESPACE}, leave it out, or list the file in .reconcilerignore",
        )


def _schema(document: Document, mode: Mode) -> Iterator[Problem]:
    for flaw in schema.check(SCHEMAS[document.kind], document.value):
        if mode == "strict" or not _tolerated(flaw):
            yield _problem(document, flaw.kind, flaw.path, flaw.message, flaw.remedy)


def _tolerated(flaw: schema.Flaw) -> bool:
    """What today's API refuses and earlier ones took, and the runtime loads."""
    if flaw.kind == "min-items" and flaw.path == _SEARCH:
        return True
    return flaw.kind == "registry-format" and bool(scopes.tag_of(flaw.value))


def _resource(document: Document) -> Resource:
    """The document without status and without what servers and kubectl put into metadata."""
    kept = {k: v for k, v in document.value["metadata"].items() if k in KEPT_METADATA and v is not None}
    if document.kind not in ("ConfigMap", "ImagePolicy"):
        kept.pop("namespace", None)  # cluster-scoped: the API server clears it
    annotations = {k: v for k, v in kept.pop("annotations", {}).items() if k != _LAST_APPLIED}
    metadata = {**kept, "annotations": annotations} if annotations else kept
    value: dict[str, Any] = {k: v for k, v in document.value.items() if k != "status"}
    return Resource(
        directory=document.directory,
        kind=document.kind,
        name=document.name,
        document={**value, "metadata": metadata},
        location=document.location,
        lines=document.lines,
        text=document.text,
    )


def _unloadable(resource: Resource) -> Iterator[Problem]:
    """Entries that make containers/image refuse the whole file, so that no image can be pulled any more."""
    inputs = collect([resource])
    policies = (*inputs.cluster_policies, *inputs.namespace_policies)
    in_policy = [*(inputs.allowed or ()), *(inputs.blocked or ()), *(e for policy in policies for e in policy.scopes)]
    for entry in in_policy:
        if scopes.belongs_in_atomic(entry.text) and not scopes.loads_in_atomic(entry.text):
            bare = entry.text.removesuffix(scopes.tag_of(entry.text))
            message = (
                f"{entry.text} makes policy.json unloadable, so that every pull on the node fails "
                "(a tag or digest needs at least HOST/NAMESPACE/NAME)"
            )
            yield entry.problem("policy-unloadable", message, f"write {bare}")
    for entry in inputs.search or ():
        if not scopes.SEARCH.fullmatch(entry.text.rstrip("/")):
            message = f"{entry.text!r} makes the registries configuration unloadable: a search registry is HOST[:PORT]"
            remedy = f"write {entry.text.partition('/')[0]}"
            yield entry.problem("search-unloadable", message, remedy)


def _doubts(document: Document, resource: Resource) -> Iterator[Problem]:
    if resource.kind == "Image":
        status = document.value.get("status")
        hostname = status.get("internalRegistryHostname") if isinstance(status, Mapping) else None
        yield from warnings.of_image(resource, str(hostname or ""))


def _silenced(document: Document, problems: Sequence[Problem]) -> Iterator[Problem]:
    annotations = document.value["metadata"].get("annotations")
    if not isinstance(annotations, Mapping):
        yield from problems
        return
    given = {key: value for key, value in annotations.items() if isinstance(value, str)}
    yield from warnings.silenced(problems, given)
    for key, message, remedy in warnings.check_silences(given):
        field = f"metadata.annotations.{key}"
        yield replace(_problem(document, "silence-without-effect", field, message, remedy), severity="warning")


def validate_set(resources: Sequence[Resource]) -> tuple[Problem, ...]:
    """What is wrong or doubtful between the resources of one pool.

    Errors: `duplicate-resource` (one identity twice, or two Images), `dangling-trusted-ca`, and those of
    `mirrors.check_rows`. Warnings: those that only several resources together give.
    """
    problems = [*_duplicates(resources)]
    inputs = collect(resources)
    problems += mirrors.check_rows(inputs.mirror_sets)
    problems += _trusted_ca(inputs.image, inputs.config_maps)
    doubts = warnings.of_set(inputs)
    by_identity = {resource.identity: warnings.annotations_of(resource) for resource in resources} if doubts else {}
    for problem in doubts:
        problems += warnings.silenced([problem], by_identity.get(problem.object, {}))
    return tuple(problems)


def _duplicates(resources: Sequence[Resource]) -> Iterator[Problem]:
    first: dict[str, Resource] = {}
    for resource in resources:
        earlier = first.setdefault("Image" if resource.kind == "Image" else resource.identity, resource)
        if earlier is not resource:
            message = f"{resource.kind} {resource.name} stands at {earlier.location} too"
            remedy = "remove or rename one of the two"
            yield Problem("duplicate-resource", message, resource.location, resource.identity, remedy=remedy)


def _trusted_ca(image: Resource | None, config_maps: Sequence[Resource]) -> Iterator[Problem]:
    _, problems = certs.cert_files(image, config_maps)
    yield from problems
