"""docs/reference says what the program says: command line, exit codes, metrics."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from reconciler import errors
from reconciler.cli.failures import INTERRUPTED
from reconciler.cli.reference import reference
from reconciler.metrics import Metrics

pytestmark = pytest.mark.docs

REFERENCE = Path(__file__).parents[2] / "docs" / "reference"


def rows(page: str) -> list[list[str]]:
    """The cells of a page's tables, without their heads."""
    lines = [
        line for line in (REFERENCE / page).read_text().splitlines() if line.startswith("| `") or line[2:3].isdigit()
    ]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def test_the_command_line() -> None:
    assert (REFERENCE / "cli.md").read_text() == reference(), "run python -m reconciler.cli.reference"


def test_every_error_has_its_exit_code() -> None:
    documented = {name: int(code) for code, _, names in rows("exit-codes.md") for name in re.findall(r"`(\w+)`", names)}
    raised = {error.__name__: error.exit_code for error in errors.ReconcilerError.__subclasses__()}
    assert documented == raised
    assert str(INTERRUPTED) in [row[0] for row in rows("exit-codes.md")]


def test_every_metric() -> None:
    families = text_string_to_metric_families(Metrics("0").text().decode())
    offered = {
        (f"{family.name}_total" if family.type == "counter" else family.name, family.type, family.documentation)
        for family in families
    }
    documented = {(name.strip("`"), kind, text) for name, kind, _, text in rows("metrics.md")}
    assert documented == offered
