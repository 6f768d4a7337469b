"""What one cause led to, as a tree: commit or decision → what was appended with it → rollouts → waves → nodes.

Pure: from the events of one correlation id, in one walk.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from reconciler.events.catalogue import StepStarted, WaveStarted
from reconciler.events.envelope import StoredEvent
from reconciler.events.summaries import summary

ENDS = ("NodeConverged", "NodeFailed", "NodeDeferred", "StepAbandoned", "NodeUncordoned", "NodeReleased", "NodeAdopted")
"""The events that may end a step; where there are several, the last one did."""


@dataclass
class Branch:
    """An event with what followed from it; or a wave, or one node's turn, which stand for several events.

    `outcome`: of a node's turn, the type of the event that ended it, or empty while it goes on. `positions`: all events
    that the branch itself stands for.
    """

    kind: str
    label: str
    position: int
    outcome: str = ""
    node: str = ""
    positions: list[int] = field(default_factory=list)
    children: list[Branch] = field(default_factory=list)


def consequences(family: Sequence[StoredEvent]) -> Branch:
    """The tree of the events with one correlation id, in order; the first one is its root."""
    root = _event(family[0])
    growth = _Growth(root)
    for event in family[1:]:
        growth.take(event)
    return root


class _Growth:
    """Rollouts by pool and id, waves by rollout and node, turns by step, as the events go by."""

    def __init__(self, root: Branch) -> None:
        self._root = root
        self._rollouts: dict[tuple[str, str], Branch] = {}
        self._waves: dict[tuple[str, str, str], Branch] = {}
        self._turns: dict[str, Branch] = {}

    def take(self, event: StoredEvent) -> None:
        body = event.body
        pool, rollout = event.columns.get("pool") or "", str(getattr(body, "rollout", None) or "")
        step = str(getattr(body, "step", None) or "")
        if isinstance(body, StepStarted):
            above = self._waves.get((pool, rollout, body.node)) or self._rollouts.get((pool, rollout)) or self._root
            self._turns[step] = _add(above, Branch("node", body.node, event.position, "", body.node, [event.position]))
        elif step in self._turns:
            _tell(self._turns[step], event)
        elif isinstance(body, WaveStarted):
            label = "canary" if body.kind == "canary" else f"wave {body.wave}"
            above = self._rollouts.get((pool, rollout), self._root)
            wave = _add(above, Branch("wave", label, event.position, positions=[event.position]))
            self._waves |= {(pool, rollout, node): wave for node in body.nodes}
        elif event.type == "RolloutStarted":
            self._rollouts[pool, rollout] = _add(self._root, _event(event))
        else:
            _add(self._rollouts.get((pool, rollout), self._root), _event(event))


def _event(event: StoredEvent) -> Branch:
    about = event.columns.get("node") or event.columns.get("pool") or event.columns.get("resource") or ""
    words = f"{event.type} {about}: {summary(event.body)}" if about else f"{event.type}: {summary(event.body)}"
    return Branch("event", words, event.position, event.type, positions=[event.position])


def _add(above: Branch, below: Branch) -> Branch:
    above.children.append(below)
    return below


def _tell(turn: Branch, event: StoredEvent) -> None:
    turn.positions.append(event.position)
    if event.type in ENDS:
        turn.outcome = event.type
        turn.label = f"{turn.node}: {summary(event.body)}"
