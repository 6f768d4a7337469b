"""What the OpenShift API server says of an import: cases/why/import.yaml."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from reconciler.registries.image_import import FIELD, ImportAnswer, explain_import
from reconciler.registries.inputs import Inputs, collect
from tests.unit.test_render import resources_of
from tests.world import mirrors

CASES = yaml.safe_load((Path(__file__).parents[1] / "cases" / "why" / "import.yaml").read_text())


def inputs_of(case: dict[str, Any]) -> Inputs:
    sources = {"blockedRegistries": case["blocked"]} if "blocked" in case else {}
    spec = {"allowedRegistriesForImport": case["list"], "registrySources": sources}
    image = {"apiVersion": "config.openshift.io/v1", "kind": "Image", "metadata": {"name": "cluster"}, "spec": spec}
    texts = [yaml.safe_dump(image)]
    if "mirrored" in case:
        texts.append(mirrors("m", case["mirrored"], "mirror.corp"))
    return collect([resource for text in texts for resource in resources_of(text)])


def told(one: ImportAnswer) -> list[str | None]:
    field = one.origin.field if one.origin else None
    if field:
        field = "blocked" if "blockedRegistries" in field else field.removeprefix(FIELD)
    return [one.verdict, one.insecure, one.registry, field]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["name"])
def test_import(case: dict[str, Any]) -> None:
    inputs = inputs_of(case)
    answers = {reference: explain_import(inputs, reference) for reference in case["asks"]}
    assert {reference: told(one) for reference, one in answers.items()} == case["asks"]
    for one in answers.values():
        assert one.reason
        assert bool(one.changes) == (one.verdict != "allowed")


def test_without_an_image_all_are_allowed() -> None:
    assert explain_import(collect([]), "quay.io/app").verdict == "allowed"


def test_what_would_have_to_change() -> None:
    inputs = inputs_of({"list": [{"domainName": "quay.io:80"}]})
    one = explain_import(inputs, "quay.io/app")
    assert one.changes == (
        "import with importPolicy.insecure: an entry is for port 80",
        "add quay.io to spec.allowedRegistriesForImport of Image/cluster",
    )
    assert one.reason == "no entry of spec.allowedRegistriesForImport is for quay.io:443"
