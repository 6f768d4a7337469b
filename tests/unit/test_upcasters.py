"""Data that an older schema version of a type wrote is read as today's: tests/cases/upcasters, one case a version."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from reconciler.events.catalogue import CATALOGUE
from reconciler.events.codec import UPCASTERS, canonical, decode, encode

FOLDER = Path(__file__).parents[1] / "cases" / "upcasters"
CASES = [case for path in sorted(FOLDER.glob("*.yaml")) for case in yaml.safe_load(path.read_text())]
OLDER = {(name, version) for name, body in CATALOGUE.items() for version in range(1, body.schema_version)}


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case['type']}-{case['version']}")
def test_older_data_becomes_todays_body(case: dict[str, Any]) -> None:
    body = decode(case["type"], case["version"], case["data"])
    assert encode(body) == canonical(case["body"])
    assert decode(body.type, body.schema_version, encode(body)) == body


def test_every_older_version_has_its_upcaster_and_its_case() -> None:
    assert sorted((case["type"], case["version"]) for case in CASES) == sorted(OLDER)
    assert UPCASTERS.keys() == OLDER
