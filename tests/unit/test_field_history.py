"""Since which version a field says what it says: cases/why/since.yaml."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from reconciler.projections.field_history import unchanged

CASES = yaml.safe_load((Path(__file__).parents[1] / "cases" / "why" / "since.yaml").read_text())


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["name"])
def test_since(case: dict[str, Any]) -> None:
    newest_first = case["versions"][::-1]
    last = len(newest_first) - 1
    found = unchanged(case["since"], newest_first)
    assert {field: last - number for field, number in found.items()} == case["since"]


def test_no_more_versions_are_taken_than_are_needed() -> None:
    versions = iter([{"data": {"a": "new"}}, {"data": {"a": "old"}}, {"data": {"a": "new"}}])
    assert unchanged(["data[a]"], versions) == {"data[a]": 0}
    assert len(list(versions)) == 1
