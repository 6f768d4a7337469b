"""The examples of OpenShift's documentation: each accepted, rendered as its vector, and as the text prints it.

cases/seed holds each example CR (numbered callouts removed, certificates filled in). `printed` are the files
that the text shows, at the CR they really belong to; docs/reference/seed-examples.md tells the differences.
`shows: part` is a file of which the text prints some tables only.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from reconciler.registries.model import CERTS_D, RenderOptions, Resource
from reconciler.registries.parse import parse_file
from reconciler.registries.render import render
from reconciler.registries.validate import validate_document, validate_set
from tests.conformance.load import cases
from tests.conformance.test_render import meaning

SEED = sorted((Path(__file__).parents[1] / "cases" / "seed").glob("*.yaml"))
CASES = {path.stem: yaml.safe_load(path.read_text()) for path in SEED}
VECTORS = {case["name"]: case for case in cases("render") if case["category"] == "seed"}
PRINTED = [(name, index) for name, case in CASES.items() for index in range(len(case.get("printed", ())))]


def _resources(case: dict[str, Any]) -> list[Resource]:
    documents, problems = parse_file("seed.yaml", case["manifests"].encode())
    assert problems == ()
    accepted = [validate_document(document, "default") for document in documents]
    assert [p for _, found in accepted for p in found if p.severity == "error"] == []
    return [resource for resource, _ in accepted if resource is not None]


def _files(case: dict[str, Any], **options: Any) -> dict[str, str]:
    wanted = RenderOptions(base="openshift", release_image=case.get("release_image"), **options)
    rendered = render(_resources(case), wanted)
    assert rendered.ok, rendered.problems
    return {file.path: file.content.decode() for file in rendered.files}


def test_every_example_with_a_vector_is_here() -> None:
    assert {case["vector"] for case in CASES.values() if "vector" in case} == set(VECTORS)


@pytest.mark.parametrize("name", CASES)
def test_accepted(name: str) -> None:
    assert [p for p in validate_set(_resources(CASES[name])) if p.severity == "error"] == []


@pytest.mark.parametrize("name", VECTORS)
def test_renders_as_the_vector(name: str) -> None:
    found = {path: text for path, text in _files(CASES[name]).items() if not path.startswith(CERTS_D)}
    expected = VECTORS[name]["expect"]["files"]
    assert {path: meaning(path, text) for path, text in found.items()} == {
        path: meaning(path, text) for path, text in expected.items()
    }


@pytest.mark.parametrize(("name", "index"), PRINTED)
def test_renders_as_printed(name: str, index: int) -> None:
    printed = CASES[name]["printed"][index]
    files = _files(CASES[name], **({"mirror_syntax": printed["syntax"]} if "syntax" in printed else {}))
    path = printed["path"]
    found, expected = meaning(path, files[path]), meaning(path, printed["content"])
    if printed["shows"] == "part":
        for part, shown in zip(found, expected, strict=True):
            assert shown.items() <= part.items()
    else:
        assert found == expected


def test_certificates_of_the_last_section() -> None:
    files = _files(CASES["seed-9.2.5-trusted-ca"])
    certificates = [path.removeprefix(CERTS_D) for path in files if path.startswith(CERTS_D)]
    assert certificates == ["/registry-with-port.example.com:5000/ca.crt", "/registry.example.com/ca.crt"]
    assert all("BEGIN CERTIFICATE" in files[CERTS_D + path] for path in certificates)


def test_the_payload_block_locks_everything_else_out() -> None:
    """What the documentation does not say: with the payload's own repository blocked, the default is reject."""
    policy = json.loads(_files(CASES["seed-9.2.2.1-payload-blocked-is-release"])["/etc/containers/policy.json"])
    assert policy["default"] == [{"type": "reject"}]
    assert set(policy["transports"]["docker"]) == {"quay.io/openshift-payload"}
