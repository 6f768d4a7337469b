"""docker-compose.yml is a Compose file, starts things in order, and sets only settings that exist."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonschema import Draft201909Validator

from reconciler.settings import load

ROOT = Path(__file__).parents[2]
SCHEMA = json.loads((ROOT / "tests/data/compose-spec.json").read_text())


@pytest.fixture
def compose() -> dict[str, Any]:
    content: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
    return content


def problems(compose: dict[str, Any]) -> list[str]:
    # `name:` came to Compose after this schema was written.
    known = {key: value for key, value in compose.items() if key != "name"}
    return [error.message for error in Draft201909Validator(SCHEMA).iter_errors(known)]


def test_it_is_a_compose_file(compose: dict[str, Any]) -> None:
    assert problems(compose) == []
    compose["services"]["postgres"]["helthcheck"] = {}
    assert problems(compose) != []


def test_postgres_then_migrations_then_the_service(compose: dict[str, Any]) -> None:
    services = compose["services"]
    assert services["migrate"]["depends_on"] == {"postgres": {"condition": "service_healthy"}}
    assert services["migrate"]["command"] == ["db", "upgrade"]
    assert services["reconciler"]["depends_on"] == {"migrate": {"condition": "service_completed_successfully"}}
    assert [name for name, service in services.items() if "healthcheck" in service] == ["postgres", "reconciler"]
    assert "restart" not in services["migrate"]


def test_every_volume_is_declared(compose: dict[str, Any]) -> None:
    used = {v.partition(":")[0] for service in compose["services"].values() for v in service.get("volumes", [])}
    assert {name for name in used if not name.startswith(("$", ".", "/"))} == set(compose["volumes"])


def test_its_variables_are_settings(compose: dict[str, Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    given = {"POSTGRES_PASSWORD": "s3cret", "FLEET_URL": "https://git.example.com/fleet.git"}
    for name, value in compose["services"]["reconciler"]["environment"].items():
        monkeypatch.setenv(name, re.sub(r"\$\{(\w+)(?::([-?])([^}]*))?\}", lambda m: given.get(m[1]) or m[3], value))
    for name, value in re.findall(r"(RECONCILER_\w+)=(\S+)", (ROOT / "Dockerfile").read_text()):
        monkeypatch.setenv(name, value)
    settings = load()
    assert settings.database.url == "postgresql://reconciler:s3cret@postgres:5432/reconciler"
    assert settings.fleets["default"].url == "https://git.example.com/fleet.git"
    assert settings.fleets["default"].branch == "main"
    assert settings.service.address == ("", 8080)
    assert settings.data_dir == Path("/var/lib/reconciler/data")


def test_the_image_runs_as_nobody_in_particular() -> None:
    stages = (ROOT / "Dockerfile").read_text().split("\nFROM ")
    assert re.search(r"^USER [1-9]\d+$", stages[-1], re.MULTILINE)
