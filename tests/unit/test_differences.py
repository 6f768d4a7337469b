"""docs/reference/differences-from-mco.md: every difference has a reason, and a case that is there."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from tests.conformance.test_certs import DEVIATIONS

pytestmark = pytest.mark.docs

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs/reference/differences-from-mco.md"
ROWS = [
    [cell.strip() for cell in line.strip("|").split("|")]
    for line in PAGE.read_text().splitlines()
    if line.startswith("| ") and not line.startswith(("| MCO", "| ---"))
]


@pytest.mark.parametrize("row", ROWS, ids=lambda row: str(row[1]))
def test_the_case_of_each_difference_is_there(row: list[str]) -> None:
    _, here, why, case = row
    assert here
    assert why
    place, _, name = case.strip("`").partition(": ")
    if place == "vectors/certs":
        assert name in DEVIATIONS
    elif place.endswith(".py"):
        assert f"def {name}(" in (ROOT / "tests/unit" / place).read_text()
    else:
        cases = yaml.safe_load((ROOT / "tests/cases" / f"{place}.yaml").read_text())
        assert name in [found["name"] for found in cases]


def test_every_kind_of_deviation_of_certificates_is_described() -> None:
    told = {DEVIATIONS[row[3].strip("`").partition(": ")[2]] for row in ROWS if "vectors/certs" in row[3]}
    assert told == set(DEVIATIONS.values())
