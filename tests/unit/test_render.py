"""Resources and a base in, files out: every rule of `base: host`, and what has no vector.

cases/render: `base` names the host's files, `files` the text of what comes out (policies in short: the types of
requirement by transport and scope), `problems` what is wrong or doubtful. Where nothing is given, nothing comes.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from reconciler.registries import templates
from reconciler.registries.model import (
    POLICY_JSON,
    REGISTRIES_CONF,
    SEARCH_REGISTRIES,
    Location,
    Origin,
    RenderOptions,
    Resource,
)
from reconciler.registries.parse import parse_file
from reconciler.registries.render import render
from reconciler.registries.runtime_config import load
from reconciler.registries.toml_files import HEADER
from reconciler.registries.validate import validate_document

FOLDER = Path(__file__).parents[1] / "cases" / "render"
CASES = {case["name"]: case for path in sorted(FOLDER.glob("*.yaml")) for case in yaml.safe_load(path.read_text())}
NAMES = {"registries.conf": REGISTRIES_CONF, "policy.json": POLICY_JSON, "search": SEARCH_REGISTRIES}
SHOWN = ("name", "severity", "object", "field", "message", "remedy")
SHORT = {"insecureAcceptAnything": "accept"}


def resources_of(manifests: str) -> list[Resource]:
    documents, problems = parse_file("manifest.yaml", manifests.encode())
    assert problems == ()
    found = [validate_document(document)[0] for document in documents]
    assert None not in found
    return [resource for resource in found if resource is not None]


def options_of(case: dict[str, Any]) -> RenderOptions:
    base = {NAMES[name]: text.encode() for name, text in case.get("base", {}).items()}
    given = {key: case[key] for key in ("mirror_syntax", "release_image") if key in case}
    return RenderOptions(base=case.get("base_kind", "host"), base_files=base, **given)


def _short(policy: dict[str, Any]) -> dict[str, Any]:
    def types(needs: list[dict[str, str]]) -> str:
        return " + ".join(SHORT.get(need["type"], need["type"]) for need in needs)

    transports = policy["transports"].items()
    shown = {name: {scope: types(needs) for scope, needs in scopes.items()} for name, scopes in transports}
    return {"default": types(policy["default"]), **shown}


def outcome(case: dict[str, Any]) -> dict[str, Any]:
    """What a case says under `files` and `problems`."""
    rendered = render(resources_of(case["manifests"]), options_of(case))
    files = {
        file.path: _short(json.loads(file.content)) if file.path.endswith(".json") else file.content.decode()
        for file in rendered.files
    }
    problems = [
        {key: value for key in SHOWN if (value := getattr(p, key))} | ({"line": p.location.line} if p.location else {})
        for p in rendered.problems
    ]
    return {"files": files, "problems": problems}


@pytest.mark.parametrize("name", CASES)
def test_render(name: str) -> None:
    case = CASES[name]
    assert outcome(case) == {"files": case.get("files", {}), "problems": case.get("problems", [])}


@pytest.mark.parametrize("name", [name for name, case in CASES.items() if "files" in case])
def test_the_runtime_loads_what_comes_out(name: str) -> None:
    options = options_of(CASES[name])
    files = {file.path: file.content for file in render(resources_of(CASES[name]["manifests"]), options).files}
    config = load({**options.base_files, **files} if options.base == "host" else files)
    assert config.registries_error == "" or files.get(REGISTRIES_CONF) is None
    assert [policy for path, policy in config.policies.items() if path in files and isinstance(policy, str)] == []


IMAGE_AND_MIRRORS = """\
apiVersion: config.openshift.io/v1
kind: Image
metadata: {name: cluster}
spec:
  registrySources:
    insecureRegistries: [mirror.corp]
    blockedRegistries: [quay.io/team/bad]
    containerRuntimeSearchRegistries: [reg.corp]
---
apiVersion: config.openshift.io/v1
kind: ImageDigestMirrorSet
metadata: {name: b}
spec:
  imageDigestMirrors:
  - {source: quay.io/team, mirrors: [mirror.corp/team]}
---
apiVersion: config.openshift.io/v1
kind: ImageDigestMirrorSet
metadata: {name: a}
spec:
  imageDigestMirrors:
  - {source: quay.io/team, mirrors: [mirror.corp/team]}
"""


@pytest.mark.parametrize("content", [b"\xff", b"[[registry", b"x = " + b"1" * 5000, b"x = " + b"[" * 5000])
def test_a_base_that_cannot_be_read_is_a_problem(content: bytes) -> None:
    rendered = render(resources_of(IMAGE_AND_MIRRORS), RenderOptions(base_files={REGISTRIES_CONF: content}))
    assert [problem.name for problem in rendered.problems] == ["base-unreadable"]
    assert rendered.files == ()


def test_every_table_scope_and_key_names_its_sources() -> None:
    rendered = render(resources_of(IMAGE_AND_MIRRORS), RenderOptions())
    origins = {file.path: file.origins for file in rendered.files}
    sets = tuple(Origin(f"ImageDigestMirrorSet/{name}", "spec.imageDigestMirrors[0]") for name in "ab")
    mirrors = tuple(Origin(f"ImageDigestMirrorSet/{name}", "spec.imageDigestMirrors[0].mirrors[0]") for name in "ab")
    insecure = Origin("Image/cluster", "spec.registrySources.insecureRegistries[0]")
    blocked = Origin("Image/cluster", "spec.registrySources.blockedRegistries[0]")
    assert origins[REGISTRIES_CONF] == {
        "quay.io/team": sets,
        "quay.io/team mirror mirror.corp/team": (insecure, *mirrors),
        "quay.io/team/bad": (blocked, *sets),
        "quay.io/team/bad mirror mirror.corp/team/bad": (insecure, *mirrors),
        "mirror.corp": (insecure,),
    }
    assert origins[POLICY_JSON] == {"quay.io/team/bad": (blocked,)}
    searched = Origin("Image/cluster", "spec.registrySources.containerRuntimeSearchRegistries")
    assert origins[SEARCH_REGISTRIES] == {"unqualified-search-registries": (searched,)}


def test_an_allow_list_is_where_the_default_comes_from() -> None:
    allow = resources_of(
        "apiVersion: config.openshift.io/v1\nkind: Image\nmetadata: {name: cluster}\n"
        "spec: {registrySources: {allowedRegistries: [a.com]}}\n"
    )
    (policy,) = render(allow, RenderOptions()).files
    assert policy.origins["default"] == (Origin("Image/cluster", "spec.registrySources.allowedRegistries"),)


def test_a_base_of_our_own_making_gets_no_second_header() -> None:
    first = {file.path: file.content for file in render(resources_of(IMAGE_AND_MIRRORS), RenderOptions()).files}
    again = render(resources_of(IMAGE_AND_MIRRORS), RenderOptions(base_files=first)).files
    assert {file.path: file.content for file in again} == first
    assert first[REGISTRIES_CONF].decode().count(HEADER) == 1


def test_a_policy_that_says_it_already_stays_byte_for_byte() -> None:
    allow = resources_of(
        "apiVersion: config.openshift.io/v1\nkind: Image\nmetadata: {name: cluster}\n"
        "spec: {registrySources: {allowedRegistries: [a.com]}}\n"
    )
    accept = '[{"type": "insecureAcceptAnything"}]'
    own = f'{{"default": [{{"type":"reject"}}], "transports": {{"docker": {{"a.com":   {accept}}}}}}}'.encode()
    (kept,) = render(allow, RenderOptions(base_files={POLICY_JSON: own})).files
    assert (kept.content, set(kept.origins)) == (own, {"a.com", "default"})
    wider = own.replace(b'"docker"', b'"atomic": {}, "docker"')
    (written,) = render(allow, RenderOptions(base_files={POLICY_JSON: wider})).files
    assert json.loads(written.content)["transports"]["atomic"] == {"a.com": json.loads(accept)}


def test_two_images_are_refused() -> None:
    document = {"apiVersion": "config.openshift.io/v1", "kind": "Image", "metadata": {"name": "cluster"}, "spec": {}}
    images = [Resource(site, "Image", "cluster", document, Location(f"{site}/image.yaml", 1)) for site in ("a", "b")]
    rendered = render(images, RenderOptions(base="openshift"))
    assert rendered.files == ()
    assert [(p.name, p.object) for p in rendered.problems] == [("duplicate-resource", "b:Image/cluster")]


def test_the_templates_are_those_of_the_vectors() -> None:
    base = Path(__file__).parents[1] / "conformance" / "vectors" / "base"
    assert (base / "registries.conf").read_bytes() == templates.REGISTRIES_CONF
    assert (base / "policy.json").read_bytes() == templates.POLICY_JSON
