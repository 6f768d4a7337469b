"""Rollbacks, holds and the commits that follow: tests/cases/rollback/*.yaml, one sequence after the other."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from reconciler.stages import settle
from reconciler.stages.project import render_unit
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


async def test_what_the_guard_keeps_held_is_rendered_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many passes ask whether what is fixed in Git may come."""
    (found,) = [param.values[0] for param in CASES if param.id == "what is fixed stays held while the guard refuses it"]
    case: Any = found
    rendered: list[Any] = []

    async def counted(*asked: Any) -> Any:
        rendered.append(asked)
        return await render_unit(*asked)

    monkeypatch.setattr(settle, "render_unit", counted)
    sequence = Sequence.begin(tmp_path)
    for step in case["steps"][:-1]:
        await sequence.do(step)
    await sequence.world.run()
    await sequence.world.run()
    assert len(rendered) == 1
