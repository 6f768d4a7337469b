"""config/reconciler.toml, the settings and docs/reference/settings.md say the same."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest

from reconciler.settings import Settings, load
from reconciler.settings.model import fields
from reconciler.settings.shown import written

pytestmark = pytest.mark.docs

ROOT = Path(__file__).parents[2]
CONFIG = ROOT / "config" / "reconciler.toml"
REFERENCE = ROOT / "docs" / "reference" / "settings.md"
REQUIRED = {"fleets.*.url"}


def described() -> dict[str, tuple[str, str]]:
    """Key → default as written in TOML (`` if required), and the text of its docstring on one line."""
    found = {}
    for key, field in fields():
        default = "" if field.is_required() else written(field.default if field.default != () else [])
        found[key] = (default, " ".join((field.description or "").split()))
    return found


def uncommented() -> str:
    """The file as if each commented key and table were in force."""
    return re.sub(r"^# (?=\[[a-z.]+\]$|[a-z_]+ = )", "", CONFIG.read_text(), flags=re.MULTILINE)


def flat(table: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    found = {}
    for name, value in table.items():
        nested = flat(value, f"{prefix}{name}.") if isinstance(value, dict) else {f"{prefix}{name}": value}
        found.update(nested)
    return found


def test_the_file_has_every_key_with_its_default_and_its_text() -> None:
    in_file = {
        key.replace("fleets.default", "fleets.*"): value for key, value in flat(tomllib.loads(uncommented())).items()
    }
    expected = {key: default for key, (default, _) in described().items()}
    assert list(in_file) == list(expected)
    assert {key: written(value) for key, value in in_file.items() if key not in REQUIRED} == {
        key: default for key, default in expected.items() if key not in REQUIRED
    }
    comments = " ".join(line.removeprefix("# ") for line in CONFIG.read_text().splitlines() if line.startswith("# "))
    for key, (_, text) in described().items():
        sentence = text.replace("`", "").split(". ")[0].removesuffix(".").removesuffix(". Required")
        assert sentence in comments, key


def test_the_file_as_it_is_shipped_sets_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DATABASE_URL", raising=False)
    assert load(CONFIG).model_dump() == Settings().model_dump()


def test_every_setting_is_in_the_reference() -> None:
    rows = []
    for key, (default, text) in described().items():
        variable = "RECONCILER_" + key.upper().replace(".", "__").replace("*", "NAME")
        shown = f"`{default}`" if default else "required"
        rows.append(f"| `{key.replace('*', 'NAME')}` | {shown} | `{variable}` | {text} |")
    in_reference = [line for line in REFERENCE.read_text().splitlines() if line.startswith("| `")]
    assert in_reference == rows
