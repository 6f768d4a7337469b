"""The drawing docs/rollout.dot and the machine say the same."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from reconciler.errors import LogCorrupt
from reconciler.faults import FAULT_POINTS
from reconciler.rollout.machine import NEW, ROLLOUT, TURN, follow

DRAWING = (Path(__file__).parents[2] / "docs" / "rollout.dot").read_text()


def drawn(cluster: str) -> dict[tuple[str, str], str]:
    """(state, event) → next state, from the edges of a cluster."""
    part = DRAWING.partition(f"subgraph cluster_{cluster} {{")[2].partition("subgraph")[0]
    found = {}
    for before, after, label in re.findall(r'(\w+) -> (\w+) \[label="([^"]*)"\]', part):
        for event in label.split("\\n"):
            found[NEW if before == "new" else before, event] = after
    return found


@pytest.mark.docs
def test_the_drawing_is_the_machine() -> None:
    assert drawn("rollout") == dict(ROLLOUT)
    assert drawn("turn") == dict(TURN)


def test_an_event_that_cannot_follow_is_found() -> None:
    with pytest.raises(LogCorrupt, match="RolloutCompleted cannot follow in the state superseded"):
        follow(ROLLOUT, "superseded", "RolloutCompleted")


@pytest.mark.docs
def test_the_page_has_every_state_and_every_fault_point() -> None:
    page = (Path(__file__).parents[2] / "docs/explanation/rollouts.md").read_text()
    first = {line.split("`")[1] for line in page.splitlines() if line.startswith("| `")}
    assert first == set(ROLLOUT.values()) | set(FAULT_POINTS)
