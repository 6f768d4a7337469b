"""`simulate` of manifests: tests/cases/simulate/*.yaml hold a pool, options, and how it ends."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner, Result

from reconciler.cli import main

CASES = sorted(Path(__file__).parents[1].joinpath("cases", "simulate").glob("*.yaml"))


def _write(directory: Path, case: Mapping[str, Any], blocked: Sequence[str]) -> None:
    """The case's manifests, each pool with its nodes."""
    documents = [_document("Image", "cluster", {"registrySources": {"blockedRegistries": list(blocked)}})]
    for name, spec in (case.get("pools") or {"worker": case.get("pool", {})}).items():
        documents.append(
            _document(
                "NodePool",
                name,
                {"mode": "enforce", "requiredImages": ["needed.example.com/app:1"], **spec, **_selects(name)},
            )
        )
        documents += [
            {**_document("Node", f"{name[0]}{number}", {"address": "192.0.2.1"}, {"pool": name})}
            for number in range(case["nodes"])
        ]
    directory.mkdir()
    (directory / "fleet.yaml").write_text(yaml.safe_dump_all(documents))


def _selects(pool: str) -> dict[str, Any]:
    return {"nodeSelector": {"matchLabels": {"pool": pool}}}


def _document(kind: str, name: str, spec: Mapping[str, Any], labels: Mapping[str, str] | None = None) -> dict[str, Any]:
    version = "config.openshift.io/v1" if kind == "Image" else "reconciler.dev/v1alpha1"
    return {"apiVersion": version, "kind": kind, "metadata": {"name": name, "labels": labels or {}}, "spec": spec}


def _simulate(directory: Path, case: Mapping[str, Any], *arguments: str) -> Result:
    _write(directory / "new", case, ["new.corp"])
    given = ["simulate", "--from", str(directory / "new"), "--write", "0s"]
    if "before" in case:
        _write(directory / "old", case, case["before"])
        given += ["--before", str(directory / "old")]
    if "faults" in case:
        (directory / "faults.yaml").write_text(yaml.safe_dump(case["faults"]))
        given += ["--faults", str(directory / "faults.yaml")]
    return CliRunner().invoke(main, [*given, *case.get("options", "").split(), *arguments])


@pytest.mark.parametrize(
    "case", [pytest.param(case, id=case["name"]) for path in CASES for case in yaml.safe_load(path.read_text())]
)
def test_simulate(case: Mapping[str, Any], tmp_path: Path) -> None:
    done = _simulate(tmp_path, case, "-o", "json")
    assert done.exit_code == case["code"], done.output
    if "says" in case:
        assert case["says"] in done.stderr
        return
    data = json.loads(done.stdout)
    for kind in ("failed", "deferred", "waiting"):
        data[kind] = {node["name"]: node["reason"] for node in data[kind]}
    data["halts"] = [f"{halt['pool']} {halt['seconds']}: {halt['reason']}" for halt in data["halts"]]
    assert {name: data[name] for name in case["expect"]} == case["expect"]
    if "waves" in case:
        assert [f"{w['kind']} {w['nodes']} {w['began']}-{w['ended']}" for w in data["waves"]] == case["waves"]
