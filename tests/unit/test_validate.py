"""Bad and doubtful input: each problem with its name, place, field, message and remedy.

cases/validate: parse (no documents come out), schema and warnings (of one document), sets (between documents).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from reconciler.registries import parse
from reconciler.registries.model import Location, Problem
from reconciler.registries.parse import MAX_DEPTH, parse_file
from reconciler.registries.validate import RESOURCE_KINDS, validate_document, validate_set
from reconciler.registries.warnings import SILENCE, WARNINGS

FOLDER = Path(__file__).parents[1] / "cases" / "validate"
CASES = {
    f"{path.stem}:{case['name']}": case
    for path in sorted(FOLDER.glob("*.yaml"))
    for case in yaml.safe_load(path.read_text())
}
FILE = "site/manifest.yaml"
CERTIFICATE_WARNINGS = {"ca-not-ca", "ca-expires"}  # in cases/certs
RENDER_WARNINGS = {"payload-not-blocked", "policy-scope-conflict"}  # in cases/render


def found(case: dict[str, Any]) -> list[Problem]:
    """Every problem of a case's input, as `reconciler validate` would list them."""
    documents, problems = parse_file(FILE, case["input"].encode())
    result = list(problems)
    resources = []
    for document in documents:
        resource, flaws = validate_document(document, case.get("mode", "default"))
        result += flaws
        resources += [resource] if resource else []
    return [*result, *validate_set(resources)]


def _shown(problem: Problem) -> dict[str, Any]:
    assert problem.location is not None
    assert problem.location.file == FILE
    shown: dict[str, Any] = {"name": problem.name, "line": problem.location.line, "message": problem.message}
    if problem.severity != "error":
        shown["severity"] = problem.severity
    return shown | {key: value for key in ("object", "field", "remedy") if (value := getattr(problem, key))}


@pytest.mark.parametrize("name", CASES)
def test_problems(name: str) -> None:
    assert [_shown(problem) for problem in found(CASES[name])] == CASES[name]["problems"]


def test_every_warning_has_a_case() -> None:
    shown = {p["name"] for case in CASES.values() for p in case["problems"] if p.get("severity") == "warning"}
    assert shown - {"silence-without-effect"} == set(WARNINGS) - CERTIFICATE_WARNINGS - RENDER_WARNINGS


@pytest.mark.parametrize("name", [n for n in CASES if any(p.get("severity") for p in CASES[n]["problems"])])
def test_each_warning_is_silenced_by_its_name_with_a_reason(name: str) -> None:
    """On the object that it is about, alone: every other problem stays."""
    before = found(CASES[name])
    for warning in {(p.name, p.object) for p in before if p.name in WARNINGS}:
        for reason, heard in (("a lab registry, OPS-7", False), (" ", True)):
            documents = list(yaml.safe_load_all(CASES[name]["input"]))
            for document in documents:
                if f"site:{document['kind']}/{document['metadata']['name']}" == warning[1]:
                    annotations = document["metadata"].setdefault("annotations", {})
                    annotations[f"{SILENCE}{warning[0]}"] = reason
            after = found({**CASES[name], "input": yaml.safe_dump_all(documents)})
            kept = [p for p in _told(before) if heard or p[:2] != warning]
            assert [p for p in _told(after) if p[0] != "silence-without-effect"] == kept


def _told(problems: list[Problem]) -> list[tuple[str, str, str]]:
    told = [(p.name, p.object, p.message) for p in problems if p.name != "silence-without-effect"]
    return sorted(told)


def test_every_error_says_what_to_do() -> None:
    assert [p for case in CASES.values() for p in case["problems"] if not p.get("remedy")] == []


@pytest.mark.parametrize("name", ["kustomization.yaml", "a/kustomization.yml", "b/Kustomization"])
def test_kustomization_is_refused_by_name(name: str) -> None:
    documents, (problem,) = parse_file(name, b"resources: [a.yaml]\n")
    assert (documents, problem.name, problem.location) == ((), "kustomization", Location(name, 1))


def test_text_that_is_not_utf8() -> None:
    _, (problem,) = parse_file("a.yaml", b"a: b\nc: \xff\n")
    assert (problem.name, problem.location) == ("not-utf8", Location("a.yaml", 2))


@pytest.mark.parametrize("opening", ["[", "{a: ", "- "])
def test_deep_nesting_is_refused(opening: str) -> None:
    _, (problem,) = parse_file("a.yaml", (opening * (MAX_DEPTH * 100)).encode())
    assert problem.name == "too-deep"


def test_documents_with_their_lines_and_text() -> None:
    text = """\
# é: characters of more than one byte do not shift anything
---
apiVersion: config.openshift.io/v1
kind: Image
metadata:
  name: cluster
  creationTimestamp: 2019-05-17T13:44:26Z  # unquoted
---
---
apiVersion: v1
kind: List
items:
- {apiVersion: v1, kind: ConfigMap, metadata: {name: é}, data: {a.b..5000: x}}
- apiVersion: reconciler.dev/v1alpha1
  kind: NodePool
  metadata: {name: worker}
  spec:
    canary: {soak: 1:30}
    values: [on, 0o7, 0x1F, 1.5, ~, .inf, "1", 010]
"""
    documents, problems = parse_file("site/all.yaml", text.encode())
    assert problems == ()
    image, config_map, pool = documents
    assert image.value["metadata"]["creationTimestamp"] == "2019-05-17T13:44:26Z"
    assert (image.location.line, image.lines["metadata.name"]) == (3, 6)
    assert (config_map.identity, config_map.location.line) == ("site:ConfigMap/é", 13)
    assert config_map.text == "{apiVersion: v1, kind: ConfigMap, metadata: {name: é}, data: {a.b..5000: x}}\n"
    assert config_map.at("data.a.b..5000").line == 13
    assert pool.value["spec"]["canary"] == {"soak": "1:30"}
    assert pool.value["spec"]["values"] == [True, "0o7", 31, 1.5, None, ".inf", "1", 8]
    assert (pool.location.line, pool.at("spec.values[3]").line) == (14, 19)
    assert pool.at("spec.canary.nodes").line == 18
    assert pool.text.startswith("apiVersion: reconciler.dev/v1alpha1\n  kind: NodePool\n")


def test_json_and_aliases_and_merge_keys() -> None:
    json_documents, problems = parse_file(
        "a.json", b'{"apiVersion": "v1", "kind": "X",\n "metadata": {"name": "\\u00e9\\/"}}'
    )
    assert (problems, json_documents[0].name, json_documents[0].lines["metadata.name"]) == ((), "é/", 2)
    text = "apiVersion: v1\nkind: &k X\nmetadata: &m {name: n, a: b}\nspec: {<<: *m, a: c, kind: *k}\n"
    (document,), problems = parse_file("a.yaml", text.encode())
    assert (problems, document.value["spec"]) == ((), {"a": "c", "kind": "X", "name": "n"})


def test_server_set_metadata_and_status_are_dropped() -> None:
    text = """\
apiVersion: config.openshift.io/v1
kind: Image
metadata:
  name: cluster
  namespace: default
  labels: {team: a}
  annotations:
    release.openshift.io/create-only: "true"
    kubectl.kubernetes.io/last-applied-configuration: "{}"
  creationTimestamp: "2019-05-17T13:44:26Z"
  generation: 1
  resourceVersion: "8302"
  selfLink: /apis/config.openshift.io/v1/images/cluster
  uid: e34555da-78a9-11e9-b92b-06d6c7da38dc
  managedFields: [{manager: oc}]
  ownerReferences: [{kind: X}]
  finalizers: [a]
spec: {}
status: {anything: goes}
"""
    (document,), _ = parse_file("image.yaml", text.encode())
    resource, problems = validate_document(document, "strict")
    assert resource is not None
    assert problems == ()
    assert resource.identity == "Image/cluster"
    assert resource.document == {
        "apiVersion": "config.openshift.io/v1",
        "kind": "Image",
        "metadata": {
            "name": "cluster",
            "labels": {"team": "a"},
            "annotations": {"release.openshift.io/create-only": "true"},
        },
        "spec": {},
    }


def test_kinds_and_their_api_versions() -> None:
    assert RESOURCE_KINDS["ImageContentSourcePolicy"] == "operator.openshift.io/v1alpha1"
    assert RESOURCE_KINDS["ConfigMap"] == "v1"
    others = {
        version for kind, version in RESOURCE_KINDS.items() if kind not in ("ImageContentSourcePolicy", "ConfigMap")
    }
    assert others == {"config.openshift.io/v1"}


def test_without_libyaml_the_same_comes_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """PyYAML may be built without libyaml; only the wording of syntax errors may differ."""
    inputs = [case["input"].encode() for case in CASES.values()]
    with_libyaml = [parse_file("a.yaml", data) for data in inputs]
    monkeypatch.setattr(parse, "_Loader", yaml.SafeLoader)
    for data, (documents, problems) in zip(inputs, with_libyaml, strict=True):
        found, flaws = parse_file("a.yaml", data)
        assert (found, [flaw.name for flaw in flaws]) == (documents, [problem.name for problem in problems])
