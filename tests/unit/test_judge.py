"""Whether commits are taken: tests/cases/judge/*.yaml hold the files of a commit and its judgement."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import yaml

from reconciler.ports import ManifestFile
from reconciler.rollout.acceptance import effective, judge, mass_removals
from reconciler.stages.record import parse_manifest

CASES = sorted(Path(__file__).parent.parent.joinpath("cases", "judge").glob("*.yaml"))
NOW = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.mark.parametrize(
    "case",
    [
        pytest.param(case, id=f"{path.stem}: {case['name']}")
        for path in CASES
        for case in yaml.safe_load(path.read_text())
    ],
)
def test_judgement(case: dict[str, Any]) -> None:
    files = [parse_manifest(ManifestFile(path, "", text.encode())) for path, text in sorted(case["files"].items())]
    judgement = judge(files, "default", NOW)
    expected = case["expect"]
    assert list(judgement.accepted) == expected["accepted"]
    assert [problem.name for problem in judgement.whole] == expected.get("whole", [])
    rejected = {pool: [problem.name for problem in problems] for pool, problems in judgement.rejected.items()}
    assert rejected == expected.get("rejected", {}) or judgement.whole
    inventory_warnings = [p.name for p in judgement.warnings if p.name == "pool-selects-nothing"]
    assert inventory_warnings == expected.get("warnings", [])
    for pool, names in expected.get("taken", {}).items():
        assert sorted(judgement.resources[pool]) == names
    for pool, names in expected.get("used", {}).items():
        used = effective(judgement.resources[pool], judgement.inventory.pools[pool])
        assert [resource.identity for resource in used] == names
    for pool, contents in expected.get("bases", {}).items():
        templates = judgement.bases.of(judgement.inventory.pools[pool])
        assert {path: content.decode() for path, content in templates.items()} == contents
    shown = {str(problem.location): problem.message for problem in judgement.problems}
    assert expected.get("said", {}).items() <= shown.items()
    for node, pool in expected.get("placed", {}).items():
        assert judgement.inventory.nodes[node].pool == pool
    for problem in judgement.problems:
        assert problem.location is not None
        assert problem.location.file in case["files"]
        assert problem.message


@pytest.mark.parametrize(
    ("before", "after", "nodes", "gone", "found"),
    [
        ([("Image", "cluster")], [], 3, [], ("the Image of pool worker",)),
        ([("Image", "cluster")], [("Image", "cluster")], 3, [], ()),
        ([("ImageDigestMirrorSet", "a"), ("ImageTagMirrorSet", "b")], [("ImageTagMirrorSet", "b")], 3, [], ()),
        ([("ImageDigestMirrorSet", "a"), ("ImageTagMirrorSet", "b")], [], 3, [], ("all mirror sets of pool worker",)),
        ([("ConfigMap", "ca")], [], 3, [], ("all CA ConfigMaps of pool worker",)),
        ([], [], 3, ["w1"], ()),
        ([], [], 3, ["w1", "w2"], ("2 of 3 nodes: w1, w2",)),
    ],
)
def test_mass_removals(
    before: list[tuple[str, str]], after: list[tuple[str, str]], nodes: int, gone: list[str], found: tuple[str, ...]
) -> None:
    assert mass_removals({"worker": before}, {"worker": after}, nodes, gone) == found
