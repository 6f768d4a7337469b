"""Rollbacks, holds and the commits that follow: tests/cases/rollback/*.yaml, one sequence after the other."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.sequences import Sequence

FOLDER = Path(__file__).parents[1] / "cases" / "rollback"
CASES = [
    pytest.param(case, id=case["name"])
    for path in sorted(FOLDER.glob("*.yaml"))
    for case in yaml.safe_load(path.read_text())
]


@pytest.mark.parametrize("case", CASES)
async def test_sequence(case: dict[str, Any], tmp_path: Path) -> None:
    sequence = Sequence.begin(tmp_path)
    for step in case["steps"]:
        await sequence.do(step)
    head, live = await sequence.world.head(), await sequence.world.context.snapshot()
    await sequence.world.run()
    assert await sequence.world.head() == head, "an unchanged poll appended something"
    await sequence.world.reads.rebuild()
    assert (await sequence.world.context.snapshot()).rows == live.rows
    assert (await sequence.world.log.verify()).problems == ()
