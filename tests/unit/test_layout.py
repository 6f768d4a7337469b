"""The tree keeps its form: packages say what they may do, modules and functions stay short, nothing is left open."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "reconciler"
MODULES = sorted(PACKAGE.rglob("*.py"))
PACKAGES = sorted(module for module in MODULES if module.name == "__init__.py" and module.parent != PACKAGE)
LISTS = {"reconciler/ports.py"}
"""Declarations with their docstrings, one after the other; a reader looks one up and follows nothing."""

LEFT_OPEN = re.compile(r"\b(TO" r"DO|FIX" r"ME|XX" r"X)\b")


def name_of(path: Path) -> str:
    return str(path.relative_to(ROOT))


@pytest.mark.parametrize("module", PACKAGES, ids=name_of)
def test_a_package_says_what_it_is_whether_it_is_pure_and_who_calls_it(module: Path) -> None:
    text = ast.get_docstring(ast.parse(module.read_text())) or ""
    assert re.search(r"^(Pure|I/O)\b", text, re.MULTILINE), "says Pure or I/O at the start of a line"
    assert re.search(r"\b[Cc]all(s|ed)\b", text), "says who calls it, or, at the top, whom it calls"
    assert 3 <= len(text.splitlines()) <= 6


@pytest.mark.parametrize("module", MODULES, ids=name_of)
def test_a_module_is_short_and_says_what_it_is(module: Path) -> None:
    text = module.read_text()
    assert len(text.splitlines()) <= 400 or name_of(module) in LISTS
    assert ast.get_docstring(ast.parse(text))


@pytest.mark.parametrize("module", MODULES, ids=name_of)
def test_functions_are_short(module: Path) -> None:
    long = [
        f"{node.name}: {node.end_lineno - node.lineno + 1} lines"
        for node in ast.walk(ast.parse(module.read_text()))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and node.end_lineno is not None
        and node.end_lineno - node.lineno + 1 > 60
    ]
    assert long == []


def test_nothing_is_left_open() -> None:
    kinds = {".py", ".sh", ".sql", ".toml", ".md", ".yml", ".yaml", ""}
    folders = [ROOT / name for name in ("reconciler", "migrations", "tests", "docs", "config", "benchmarks", "deploy")]
    files = [file for folder in folders for file in folder.rglob("*") if file.suffix in kinds and file.is_file()]
    files += [ROOT / name for name in ("Makefile", "Dockerfile", "docker-compose.yml", "pyproject.toml", ".ci/run")]
    assert [name_of(file) for file in files if LEFT_OPEN.search(file.read_text(errors="replace"))] == []


def test_every_module_of_the_tree_is_in_a_layer() -> None:
    text = (ROOT / "pyproject.toml").read_text()
    layers = text.partition('name = "layers')[2].partition("[[")[0]
    named = set(re.findall(r"reconciler\.(\w+)", layers))
    present = {path.stem for path in PACKAGE.iterdir() if path.suffix == ".py" or (path / "__init__.py").exists()}
    assert present - {"__init__", "__main__"} <= named
