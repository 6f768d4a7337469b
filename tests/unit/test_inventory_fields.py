"""Values that NodePool and Node fields take, and those that they refuse with a message, never with a traceback."""

from __future__ import annotations

from typing import Any

import pytest
import yaml

from reconciler.registries.parse import parse_file
from reconciler.rollout.nodes import Node
from reconciler.rollout.pools import Inventory, Pool, read_inventory


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
        ("NodePool", {"requiredImages": "x"}, {}, "requiredImages wants a list of texts"),
        (
            "NodePool",
            {"requiredImages": ["quay.io/a", "a b"]},
            {},
            "requiredImages names 'a b', which is no image reference: invalid reference format",
        ),
        (
            "NodePool",
            {"reachableRegistries": ["mirror.corp:5000/a", "https://b.corp"]},
            {},
            "reachableRegistries names 'https://b.corp', which is no HOST[:PORT], namespace or repository",
        ),
        (
            "NodePool",
            {"reachableRegistries": ["mirror.corp/a:1"]},
            {},
            "reachableRegistries names 'mirror.corp/a:1', which is no HOST[:PORT], namespace or repository",
        ),
        ("Node", "x", {}, "wants a mapping"),
        ("Node", {"transport": "memory"}, {"é": ""}, "labels wants keys in ASCII"),
        ("Node", {"transport": "kubernetes", "nodeName": "Worker_1"}, {}, "nodeName 'Worker_1' is no name of a Node"),
    ],
)
def test_refused(kind: str, spec: Any, labels: dict[str, str], said: str) -> None:
    assert said in [problem.message for problem in read(kind, spec, labels).problems]


def test_a_spec_that_was_recorded_without_a_field_reads_with_its_default() -> None:
    pool = Pool("x", {"mode": "enforce", "canary": {"nodes": 3}, "gone": 1})
    assert pool.spec == {**Pool.with_defaults().spec, "mode": "enforce", "canary": {"nodes": 3, "soak": 300}}
    node = Node("x", {"transport": "memory", "labels": {"a": ""}})
    assert node.spec == {**read("Node", {"transport": "memory"}, {"a": ""}).nodes["x"].spec}


@pytest.mark.parametrize(
    ("given", "read_as"), [(["./sites/eu"], ["sites/eu"]), (["./", "a//b/"], [".", "a/b"]), (["."], ["."])]
)
def test_one_directory_has_one_spelling(given: list[str], read_as: list[str]) -> None:
    assert read("NodePool", {"paths": given}).pools["x"].paths == read_as
