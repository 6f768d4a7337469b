"""What resources say, statement by statement: what counts between two contents, and what does not."""

from __future__ import annotations

from typing import Any

import pytest
import yaml

from reconciler.registries.model import Location, Resource
from reconciler.registries.statements import statements
from tests.sequences import manifest


def _said(short: Any) -> frozenset[str]:
    document = yaml.safe_load(manifest(short))
    return statements(Resource(".", document["kind"], document["metadata"]["name"], document, Location("f.yaml", 1)))


def _policy(kind: str, scopes: list[str], **more: Any) -> str:
    spec = {"scopes": scopes, "policy": {"rootOfTrust": {"policyType": "PublicKey", "publicKey": {"keyData": "eA=="}}}}
    metadata = {"name": "p", **({"namespace": "team"} if kind == "ImagePolicy" else {})}
    api = "config.openshift.io/v1"
    return yaml.safe_dump({"apiVersion": api, "kind": kind, "metadata": metadata, "spec": {**spec, **more}})


ROW = {"quay.io/a": ["m1.corp/a", "m2.corp/a"]}
CA = {"CA": "ca", "of": ["registry.corp"]}


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (
            {"Image": {"blockedRegistries": ["a", "b"]}},
            {"Image": {"blockedRegistries": ["b", "a"]}, "labels": {"x": "y"}},
        ),
        ({"Image": {}}, {"Image": {"blockedRegistries": []}}),
        ({"IDMS": "m", "rows": ROW}, {"ICSP": "n", "rows": ROW, "comment": "moved"}),
        ({"IDMS": "m", "rows": ROW}, {"IDMS": "m", "rows": ROW, "policy": "AllowContactingSource"}),
        ({"IDMS": "m", "rows": {}}, {"IDMS": "m", "rows": {"quay.io/a": ["quay.io/a"]}}),
        (CA, {**CA, "CA": "ca", "comment": "the same"}),
        (_policy("ClusterImagePolicy", ["a", "b"]), _policy("ClusterImagePolicy", ["b", "a"])),
    ],
)
def test_one_wish_in_other_words(one: Any, other: Any) -> None:
    assert _said(one) == _said(other)


@pytest.mark.parametrize(
    ("short", "brings", "takes"),
    [
        ({"Image": {"allowedRegistries": []}}, {"registrySources.allowedRegistries is set"}, {"a"}),
        ({"Image": {"blockedRegistries": ["a", "b"]}}, {"registrySources.blockedRegistries: b"}, set()),
        ({"Image": {"blockedRegistries": ["a"]}, "ca": "x"}, {"additionalTrustedCA.name: x"}, set()),
    ],
)
def test_what_an_image_brings_and_takes(short: Any, brings: set[str], takes: set[str]) -> None:
    before, after = _said({"Image": {"blockedRegistries": ["a"]}}), _said(short)
    assert after - before == brings
    assert {text.rpartition(" ")[2] for text in before - after} == takes


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (
            {"Image": {"containerRuntimeSearchRegistries": ["a", "b"]}},
            {"Image": {"containerRuntimeSearchRegistries": ["b", "a"]}},
        ),
        ({"IDMS": "m", "rows": ROW}, {"ITMS": "m", "rows": ROW}),
        ({"IDMS": "m", "rows": ROW}, {"IDMS": "m", "rows": ROW, "policy": "NeverContactSource"}),
        ({"IDMS": "m", "rows": ROW}, {"IDMS": "m", "rows": {"quay.io/a": ["m2.corp/a", "m1.corp/a"]}}),
        (CA, {**CA, "CA": "another"}),
        (_policy("ClusterImagePolicy", ["a"]), _policy("ImagePolicy", ["a"])),
    ],
)
def test_other_wishes(one: Any, other: Any) -> None:
    assert _said(one) != _said(other)


def test_a_mirror_beside_a_bad_one_leaves_the_bad_one_bad() -> None:
    bad = _said({"IDMS": "m", "rows": {"quay.io/a": ["bad.corp/a"]}})
    assert bad < _said({"IDMS": "m", "rows": {"quay.io/a": ["bad.corp/a", "m1.corp/a"]}})
