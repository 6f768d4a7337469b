"""config/example-fleet is what it says: accepted as it stands, rendered to all kinds of files, each explained."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest

from reconciler.data import data_path
from reconciler.registries.model import POLICY_JSON, REGISTRIES_CONF, SEARCH_REGISTRIES
from reconciler.source.directory import read_directory
from reconciler.stages.preview import judge_manifests, render_manifests

FLEET = data_path("config") / "example-fleet"
LATER = datetime(2090, 1, 1, tzinfo=UTC)
"""By then the certificates must not have expired."""


@pytest.mark.parametrize("mode", ["default", "strict"])
def test_it_is_accepted_without_a_problem_or_a_warning(mode: str) -> None:
    judgement, data = judge_manifests(read_directory(FLEET), "strict" if mode == "strict" else "default", LATER)
    assert (data["problems"], data["warnings"]) == ([], [])
    assert judgement.accepted == ("worker",)
    assert [node.pool for node in judgement.inventory.nodes.values()] == ["worker"] * 3
    assert judgement.inventory.pools["worker"].enforces


def test_it_renders_every_kind_of_file() -> None:
    judgement, _ = judge_manifests(read_directory(FLEET), "default", LATER)
    files = {file.path: file.content.decode() for file in render_manifests(judgement, "worker", {})}
    assert 'location = "internal-mirror.io/openshift-payload"' in files.pop(REGISTRIES_CONF)
    assert '"reject"' in files.pop(POLICY_JSON)
    assert 'unqualified-search-registries = ["reg1.io"]' in files.pop(SEARCH_REGISTRIES)
    assert sorted(files) == [
        "/etc/docker/certs.d/registry-with-port.example.com:5000/ca.crt",
        "/etc/docker/certs.d/registry.example.com/ca.crt",
    ]


def test_its_readme_explains_every_file() -> None:
    readme = (FLEET / "README.md").read_text()
    named = {line.split("`")[1] for line in readme.splitlines() if line.startswith("| `")}
    assert named == {str(Path(file.path)) for file in read_directory(FLEET)}
