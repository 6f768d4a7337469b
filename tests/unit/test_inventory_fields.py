"""Values that NodePool and Node fields take, and those that they refuse with a message, never with a traceback."""

from __future__ import annotations

from typing import Any

import pytest
import yaml

from reconciler.registries.parse import parse_file
from reconciler.rollout.pools import Inventory, read_inventory


def read(kind: str, spec: Any, labels: dict[str, str] | None = None) -> Inventory:
    document = {
        "apiVersion": "reconciler.dev/v1alpha1",
        "kind": kind,
        "metadata": {"name": "x", "labels": labels or {}},
        "spec": spec,
    }
    documents, problems = parse_file("x.yaml", yaml.safe_dump(document).encode())
    assert not problems
    return read_inventory(documents)


@pytest.mark.parametrize(
    ("kind", "spec", "labels", "said"),
    [
        ("NodePool", [], {}, "wants a mapping"),
        ("NodePool", {"nodeSelector": []}, {}, "wants a mapping"),
        ("NodePool", {"canary": {"soak": "8785h"}}, {}, "soak wants at most a year (8784h)"),
        ("NodePool", {"canary": {"soak": f"{'9' * 30}h"}}, {}, "soak wants at most a year (8784h)"),
        ("NodePool", {"paths": ["/a"]}, {}, "paths wants directories inside the repository, without '..'"),
        ("NodePool", {"paths": ["a", "./a/"]}, {}, "paths names a directory twice"),
        ("NodePool", {"nodeSelector": {"matchLabels": {"é": ""}}}, {}, "matchLabels wants keys in ASCII"),
        ("Node", "x", {}, "wants a mapping"),
        ("Node", {"transport": "memory"}, {"é": ""}, "labels wants keys in ASCII"),
    ],
)
def test_refused(kind: str, spec: Any, labels: dict[str, str], said: str) -> None:
    assert said in [problem.message for problem in read(kind, spec, labels).problems]


@pytest.mark.parametrize(
    ("given", "read_as"), [(["./sites/eu"], ["sites/eu"]), (["./", "a//b/"], [".", "a/b"]), (["."], ["."])]
)
def test_one_directory_has_one_spelling(given: list[str], read_as: list[str]) -> None:
    assert read("NodePool", {"paths": given}).pools["x"].paths == read_as
