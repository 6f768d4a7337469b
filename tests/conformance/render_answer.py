"""The `render` topic: objects in, the API server's verdict and the files on the node out."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from reconciler.registries import schema, templates
from reconciler.registries.kinds import SCHEMAS
from reconciler.registries.model import CERTS_D, POLICY_JSON, REGISTRIES_CONF, Location, RenderOptions, Resource
from reconciler.registries.render import render

KINDS = {
    "image": "Image",
    "icsp": "ImageContentSourcePolicy",
    "idms": "ImageDigestMirrorSet",
    "itms": "ImageTagMirrorSet",
    "cluster_image_policies": "ClusterImagePolicy",
    "image_policies": "ImagePolicy",
}
NO_PAYLOAD = "release.invalid/"
TEMPLATES = {REGISTRIES_CONF: templates.REGISTRIES_CONF, POLICY_JSON: templates.POLICY_JSON}


def answer(given: Mapping[str, Any]) -> dict[str, Any]:
    """`admission` as in strict mode, then `files`, or `error_kind` and `error`."""
    documents = {name: {"kind": KINDS[name.partition("[")[0]], **document} for name, document in _documents(given)}
    result: dict[str, Any] = {"admission": [flaw for name in documents for flaw in _admission(name, documents[name])]}
    release = given.get("release_image")
    release = None if release is None or release.startswith(NO_PAYLOAD) else release
    rendered = render([_resource(document) for document in documents.values()], _options(release))
    errors = [problem for problem in rendered.problems if problem.severity == "error"]
    if errors:
        return {**result, "error_kind": errors[0].name, "error": str(errors[0])}
    result["files"] = {
        file.path: {"base": file.path.rpartition("/")[2]}
        if file.content == TEMPLATES.get(file.path)
        else file.content.decode()
        for file in rendered.files
        if not file.path.startswith(CERTS_D)
    }
    warnings = [str(problem) for problem in rendered.problems]
    return {**result, "warnings": warnings} if warnings else result


def _options(release: str | None) -> RenderOptions:
    return RenderOptions(base="openshift", release_image=release)


def _documents(given: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    image = given.get("image")
    if image is None and given.get("path") == "bootstrap":
        # At bootstrap MCO renders mirror sets without an Image; in a running cluster it does nothing.
        image = {"apiVersion": "config.openshift.io/v1", "kind": "Image", "metadata": {"name": "cluster"}, "spec": {}}
    if image is not None:
        yield "image", image
    for name in list(KINDS)[1:]:
        for index, document in enumerate(given.get(name) or ()):
            yield f"{name}[{index}]", document


def _admission(name: str, document: Mapping[str, Any]) -> Iterator[dict[str, str]]:
    for flaw in schema.check(SCHEMAS[document["kind"]], document):
        yield {"object": name, "path": flaw.path, "kind": flaw.kind}


def _resource(document: Mapping[str, Any]) -> Resource:
    """The object as stored, also where today's admission would refuse it. CAs are the topic `certs`."""
    spec = {key: value for key, value in (document.get("spec") or {}).items() if key != "additionalTrustedCA"}
    name = (document.get("metadata") or {}).get("name") or ""
    return Resource(".", document["kind"], name, {**document, "spec": spec}, Location("vector", 1))
