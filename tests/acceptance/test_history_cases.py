"""Questions about the past, asked of histories that are data: tests/cases/history."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from reconciler.cli.blame import _printed as blame_lines
from reconciler.history.blame import blame_file
from reconciler.stages.past import past
from tests.histories import History, cases, played

CASES = cases(Path(__file__).parents[1] / "cases/history")


async def ask_blame(history: History, question: Mapping[str, Any]) -> list[str]:
    node, _, path = question["blame"].partition(":")
    context = history.world.context
    if "at" in question:
        context = (await past(context, history.named(question["at"]), settled=True)).context
    data = await blame_file(context, node, path)
    return [*data["notes"], *blame_lines(data["lines"], wide=False)]


ASK = {"blame": ask_blame}


@pytest.mark.parametrize("name", CASES)
async def test_answers(name: str, tmp_path: Path) -> None:
    case = CASES[name]
    history = await played(tmp_path, case["steps"])
    for question in case["questions"]:
        (verb,) = question.keys() & ASK.keys()
        shown = await history.shown(await ASK[verb](history, question))
        print("\n".join(shown))
