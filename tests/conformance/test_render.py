"""render.jsonl: MCO's admission, files and errors, compared by meaning (../../docs names the differences)."""

from __future__ import annotations

import json
import tomllib
from typing import Any

import pytest
import yaml

from tests.conformance.load import base, cases
from tests.conformance.render_answer import answer

CASES = cases("render")
_ABSENT: tuple[Any, ...] = ("", False, [], None)


def _registries(text: str) -> Any:
    data = tomllib.loads(text)
    tables = {}
    for table in data.pop("registry", []):
        kept = {key: value for key, value in table.items() if value not in _ABSENT}
        kept["mirror"] = [{k: v for k, v in m.items() if v not in _ABSENT} for m in kept.get("mirror", [])]
        scope = kept.pop("prefix", None) or kept["location"]
        assert scope not in tables, f"two tables for {scope}"
        tables[scope] = kept
    return {key: value for key, value in data.items() if value not in _ABSENT}, tables


def _policy(text: str) -> Any:
    policy = json.loads(text)
    for scopes in policy.get("transports", {}).values():
        for scope, needs in scopes.items():
            scopes[scope] = sorted(json.dumps(need, sort_keys=True) for need in needs)
    return policy


def meaning(path: str, content: Any) -> Any:
    """What the runtime reads from a file of an answer or an expectation."""
    text = base(content["base"]).decode() if isinstance(content, dict) else content
    if path.endswith(".json"):
        return _policy(text)
    return yaml.safe_load(text) if path.endswith(".yaml") else _registries(text)


def test_all_vectors_are_here() -> None:
    assert len(CASES) == 491


@pytest.mark.parametrize("case", CASES, ids=lambda case: str(case["name"]))
def test_render(case: dict[str, Any]) -> None:
    found, expected = answer(case["input"]), case["expect"]
    assert _refused(found) == _refused(expected)
    assert ("error_kind" in found) == ("error_kind" in expected)
    if "error_kind" in expected:
        assert case["category"] == "random" or found["error_kind"] == expected["error_kind"]
        return
    assert set(found["files"]) == set(expected["files"])
    for path, content in expected["files"].items():
        assert meaning(path, found["files"][path]) == meaning(path, content), path


def _refused(answered: dict[str, Any]) -> set[tuple[str, str, str]]:
    return {(flaw["object"], flaw["path"], flaw["kind"]) for flaw in answered["admission"]}
