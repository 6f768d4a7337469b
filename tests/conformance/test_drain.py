"""drain.jsonl: what MCO decides about a change of files, with no deviation."""

from __future__ import annotations

from typing import Any

import pytest

from tests.conformance.drain_answer import answer
from tests.conformance.load import cases


def _comparable(decision: dict[str, Any]) -> dict[str, Any]:
    """Without what MCO does at first boot only; the wording of an error is ours."""
    kept = {key: value for key, value in decision.items() if key != "first_boot"}
    return kept | {"actions": sorted(kept["actions"]), "error": "error" in kept}


@pytest.mark.parametrize("case", cases("drain"), ids=lambda case: str(case["name"]))
def test_drain(case: dict[str, Any]) -> None:
    assert _comparable(answer(case["input"])) == _comparable(case["expect"])
