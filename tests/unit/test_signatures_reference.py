"""docs/reference/signatures.md has every problem that a signature may be refused for, and only those."""

from __future__ import annotations

from pathlib import Path
from typing import get_args

import pytest

from reconciler.ports import SignatureVerdict

pytestmark = pytest.mark.docs

PAGE = Path(__file__).parents[2] / "docs/reference/signatures.md"


def test_every_problem_is_described() -> None:
    described = [line.split("`")[1] for line in PAGE.read_text().splitlines() if line.startswith("| `")]
    assert described == [verdict for verdict in get_args(SignatureVerdict) if verdict != "good"]
