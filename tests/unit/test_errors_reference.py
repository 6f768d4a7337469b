"""docs/reference/errors.md has every error with its exit code and whether it is tried again, in the tree's order."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from pathlib import Path

import pytest

from reconciler import errors
from reconciler.errors import ReconcilerError

pytestmark = pytest.mark.docs

TEXT = (Path(__file__).parents[2] / "docs/reference/errors.md").read_text()


def tree() -> Iterator[type[ReconcilerError]]:
    """Every error, in the order of the module."""
    for _, member in inspect.getmembers(errors, inspect.isclass):
        if issubclass(member, ReconcilerError):
            yield member


def test_every_error_is_described_as_it_is() -> None:
    described = []
    for line in TEXT.splitlines():
        if line.startswith("| `"):
            name, code, retry, when, remedy = (cell.strip(" `") for cell in line.strip("|").split("|"))
            assert when, name
            assert remedy, name
            described.append((name, int(code), retry.replace(" ", "_")))
    ordered = sorted(tree(), key=lambda error: inspect.getsourcelines(error)[1])
    assert described == [(error.__name__, error.exit_code, error.retry) for error in ordered]


def test_the_drawing_in_the_module_names_every_error_with_its_code() -> None:
    drawing = inspect.getdoc(errors) or ""
    for error in tree():
        line = next(line for line in drawing.splitlines() if error.__name__ in line.split())
        numbers = [int(word) for word in line.split() if word.isdigit()]
        assert numbers in ([], [error.exit_code]), error.__name__
