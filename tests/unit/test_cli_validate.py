"""`validate` and `render`: what they print and end with, bad input above all (tests/cases/cli/bad_input.yaml)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner, Result

from reconciler.cli import main

CASES = yaml.safe_load((Path(__file__).parents[1] / "cases" / "cli" / "bad_input.yaml").read_text())

IMAGE = """\
apiVersion: config.openshift.io/v1
kind: Image
metadata: {name: cluster}
spec: {registrySources: {blockedRegistries: [untrusted.example.com]}}
"""
POOL = """\
apiVersion: reconciler.dev/v1alpha1
kind: NodePool
metadata: {name: NAME}
spec: {nodeSelector: {matchLabels: {pool: NAME}}}
---
apiVersion: reconciler.dev/v1alpha1
kind: Node
metadata: {name: NAME-1, labels: {pool: NAME}}
spec: {address: 192.0.2.1}
"""
HOSTS_OWN = 'unqualified-search-registries = ["host.example.com"]\n'


def run(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """A fleet's directory with one pool."""
    (tmp_path / "image.yaml").write_text(IMAGE)
    (tmp_path / "worker.yaml").write_text(POOL.replace("NAME", "worker"))
    return tmp_path


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["name"])
def test_bad_input_is_named_with_its_place_and_remedy(case: dict[str, Any], tmp_path: Path) -> None:
    for name, content in case.get("files", {}).items():
        (tmp_path / name).write_text(content)
    for name, target in case.get("links", {}).items():
        (tmp_path / name).symlink_to(target)
    result = run("validate", tmp_path)
    lines = [line.strip() for line in result.stdout.splitlines()]
    assert [line for line in case["says"] if line not in lines] == [], result.stdout
    assert result.exit_code == case.get("exit", 4)
    assert result.stderr == ""
    assert not [text for text in case.get("never", ()) if text in result.output]


def test_render_refuses_what_validate_refuses(directory: Path) -> None:
    (directory / "image.yaml").write_text(IMAGE.replace("cluster", "production"))
    result = run("render", directory)
    assert result.exit_code == 4
    assert result.stdout == ""
    assert "image.yaml:3: Image/production metadata.name: the only Image that counts is named cluster" in result.stderr


@pytest.mark.parametrize(
    ("named", "known"), [("", "NOT ARMED"), ("requiredImages: [quay.io/a/app, b.corp/app:1], ", "2 images required")]
)
def test_what_is_valid(directory: Path, named: str, known: str) -> None:
    pool = directory / "worker.yaml"
    pool.write_text(pool.read_text().replace("nodeSelector", f"{named}nodeSelector"))
    result = run("validate", directory)
    guard = f"guard of pool worker: {known}; what its nodes run is not known here"
    said = f"valid: 1 resource, 1 pool, 1 node, 0 warnings\nsignatures: not checked\n{guard}\n"
    assert (result.exit_code, result.stdout) == (0, said)


def test_strict_is_todays_api(directory: Path) -> None:
    with_a_tag = IMAGE.replace(
        "blockedRegistries: [untrusted.example.com]", "allowedRegistries: [example.com/team/app:v1]"
    )
    (directory / "image.yaml").write_text(with_a_tag)
    assert run("validate", directory).exit_code == 0
    assert run("validate", "--strict", directory).exit_code == 4


def test_the_verdict_as_data(directory: Path) -> None:
    (directory / "build.yaml").write_text("apiVersion: v1\nkind: Secret\nmetadata: {name: a}\n")
    result = run("validate", directory, "-o", "json")
    data = json.loads(result.stdout)
    assert result.exit_code == 4
    assert (data["apiVersion"], data["kind"], data["valid"]) == ("reconciler.dev/v1alpha1", "Validation", False)
    assert [(problem["file"], problem["line"], problem["name"]) for problem in data["problems"]] == [
        ("build.yaml", 2, "unknown-kind")
    ]
    assert yaml.safe_load(run("validate", directory, "-o", "yaml").stdout) == data


def test_a_directory_that_is_not_there(tmp_path: Path) -> None:
    for verb in ("validate", "render"):
        result = run(verb, tmp_path / "nowhere")
        assert result.exit_code == 4
        assert result.stderr.startswith("error: ")
        assert "nowhere" in result.stderr


def test_rendered_files_stand_one_after_the_other(directory: Path) -> None:
    result = run("render", directory)
    assert result.exit_code == 0
    headings = [line for line in result.stdout.splitlines() if line.startswith("==>")]
    assert headings == ["==> /etc/containers/policy.json <==", "==> /etc/containers/registries.conf <=="]
    assert 'location = "untrusted.example.com"' in result.stdout
    names = run("render", directory, "-o", "name").stdout.splitlines()
    assert names == ["/etc/containers/policy.json", "/etc/containers/registries.conf"]


def test_rendered_files_as_data_and_as_files_are_the_same(directory: Path, tmp_path: Path) -> None:
    items = json.loads(run("render", directory, "-o", "json").stdout)["items"]
    out = tmp_path / "out"
    written = run("render", directory, "--out", out).stdout.splitlines()
    assert written == [f"{out}{item['path']}" for item in items]
    assert {item["path"]: item["content"] for item in items} == {
        item["path"]: (out / item["path"].lstrip("/")).read_text() for item in items
    }


def test_files_are_laid_over_the_hosts_own(directory: Path, tmp_path: Path) -> None:
    root = tmp_path / "host"
    (root / "etc/containers").mkdir(parents=True)
    (root / "etc/containers/registries.conf").write_text(HOSTS_OWN)
    (directory / ".reconcilerignore").write_text("/host/\n")
    text = run("render", directory, "--base-dir", root).stdout
    assert 'location = "untrusted.example.com"' in text
    assert "host.example.com" in text
    assert "host.example.com" not in run("render", directory).stdout


def test_files_are_laid_over_the_templates_of_the_pool(directory: Path, tmp_path: Path) -> None:
    template = directory / "edge/etc/containers/registries.conf"
    template.parent.mkdir(parents=True)
    template.write_text(HOSTS_OWN)
    (directory / "worker.yaml").write_text(POOL.replace("spec: {node", "spec: {base: edge, node").replace("NAME", "w"))
    text = run("render", directory).stdout
    assert 'location = "untrusted.example.com"' in text
    assert "host.example.com" in text
    refused = run("render", directory, "--base-dir", tmp_path)
    assert (refused.exit_code, "do not count for a pool with base: edge" in refused.stderr) == (2, True)
    template.write_text("[[registry]\n")
    broken = run("validate", directory)
    assert broken.exit_code == 4
    assert broken.stdout.startswith("error: edge/etc/containers/registries.conf:1: the base's own /etc/containers")


def test_a_base_directory_that_is_not_there(directory: Path, tmp_path: Path) -> None:
    result = run("render", directory, "--base-dir", tmp_path / "nowhere")
    assert result.exit_code == 2
    assert "there is no such directory" in result.stderr


def test_of_several_pools_one_must_be_named(directory: Path) -> None:
    (directory / "infra.yaml").write_text(POOL.replace("NAME", "infra"))
    unnamed, named, unknown = (run("render", directory, *pool) for pool in ([], ["--pool", "infra"], ["--pool", "x"]))
    assert (unnamed.exit_code, named.exit_code, unknown.exit_code) == (2, 0, 2)
    assert "infra, worker" in unnamed.stderr
    assert "there is no pool x" in unknown.stderr


def test_a_place_that_cannot_be_written(directory: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    result = run("render", directory, "--out", tmp_path / "file")
    assert result.exit_code == 2
    assert "cannot be written" in result.stderr
