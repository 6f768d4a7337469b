"""What a NodePool of `manage: cluster` means, and which settings it refuses: by cases."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import yaml

from reconciler.ports import ManifestFile
from reconciler.rollout.acceptance import judge
from reconciler.stages.record import parse_manifest

CASES = yaml.safe_load((Path(__file__).parents[1] / "cases" / "cluster" / "pools.yaml").read_text())


def _document(kind: str, name: str, spec: Any) -> dict[str, Any]:
    group = "config.openshift.io/v1" if kind == "Image" else "reconciler.dev/v1alpha1"
    return {"apiVersion": group, "kind": kind, "metadata": {"name": name}, "spec": spec}


@pytest.mark.parametrize("case", CASES, ids=lambda case: str(case["name"]))
def test_pools_of_a_cluster(case: dict[str, Any]) -> None:
    documents = [_document("NodePool", name, spec) for name, spec in case["pools"].items()]
    documents += [_document("Image", "cluster", case["image"])] if "image" in case else []
    text = yaml.safe_dump_all(documents, sort_keys=False).encode()
    judged = judge([parse_manifest(ManifestFile("fleet.yaml", "1", text))], "default", datetime(2026, 1, 1, tzinfo=UTC))
    assert [str(problem).partition("\n")[0] for problem in judged.problems] == case.get("problems", [])
    assert sorted({problem.name for problem in judged.warnings}) == case.get("warnings", [])
    for name, wanted in case.get("spec", {}).items():
        spec = judged.inventory.pools[name].spec
        assert {field: spec[field] for field in wanted} == wanted
