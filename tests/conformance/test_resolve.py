"""resolve.jsonl: how containers/image reads files for image references, with no deviation."""

from __future__ import annotations

from typing import Any

import pytest

from tests.conformance.load import cases
from tests.conformance.resolve_answer import answer


def _comparable(value: Any) -> Any:
    """The wording of an error is ours; that there is one, and everything else, must agree."""
    if isinstance(value, dict):
        return {key: bool(item) if key.endswith("error") else _comparable(item) for key, item in value.items()}
    return [_comparable(item) for item in value] if isinstance(value, list) else value


@pytest.mark.parametrize("case", cases("resolve"), ids=lambda case: str(case["name"]))
def test_resolve(case: dict[str, Any]) -> None:
    assert _comparable(answer(case["input"])) == _comparable(case["expect"])
