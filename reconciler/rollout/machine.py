"""The states of a rollout and of a node's turn, and which event leads from one to another (drawn in docs/rollout.dot).

The fold of rollouts asks `follow` for the next state, so that an event that cannot happen there is found at once.
"""

from __future__ import annotations

from collections.abc import Mapping

from reconciler.errors import LogCorrupt

NEW = ""
"""Before the first event of a rollout."""

ROLLOUT: Mapping[tuple[str, str], str] = {
    (NEW, "RolloutStarted"): "progressing",
    ("progressing", "WaveStarted"): "progressing",
    ("progressing", "RolloutApproved"): "progressing",
    ("progressing", "RolloutRetried"): "progressing",
    ("progressing", "RolloutHalted"): "halted",
    ("progressing", "RolloutAborted"): "aborted",
    ("progressing", "RolloutSuperseded"): "superseded",
    ("progressing", "RolloutCompleted"): "completed",
    ("halted", "RolloutAborted"): "aborted",
    ("halted", "RolloutSuperseded"): "superseded",
    ("halted", "RolloutRetried"): "progressing",
    ("aborted", "RolloutSuperseded"): "superseded",
    ("aborted", "RolloutRetried"): "progressing",
    ("completed", "RolloutRetried"): "progressing",
    ("superseded", "RolloutRetried"): "superseded",
}
"""(state, event) → next state of a rollout. superseded is final: retried, it only gives refused content that came back
another chance, in a new rollout. completed is final, too, unless failed nodes are retried."""

UNCORDON = "StepStarted(uncordon)"
"""How StepStarted is named here when the turn is only to uncordon."""

OUTCOMES = ("NodeConverged", "NodeFailed", "NodeDeferred", "StepAbandoned", "NodeReleased", "NodeAdopted")
"""What ends a turn that is not only to uncordon."""

TURN: Mapping[tuple[str, str], str] = {
    ("idle", "StepStarted"): "begun",
    ("idle", UNCORDON): "uncordoning",
    ("begun", "NodeCordoned"): "cordoned",
    ("cordoned", "NodeDrained"): "drained",
    ("cordoned", "NodeUncordoned"): "begun",
    ("drained", "NodeUncordoned"): "begun",
    ("uncordoning", "NodeUncordoned"): "idle",
    **{(state, "StepTakenOver"): state for state in ("begun", "cordoned", "drained", "uncordoning")},
    **{
        (state, outcome): "idle"
        for state in ("begun", "cordoned", "drained", "uncordoning")
        for outcome in OUTCOMES
        if state != "uncordoning" or outcome == "NodeDeferred"
    },
}
"""(state, event) → next state of a node's turn.

A node that was cordoned is uncordoned before its turn ends, in the same append group. Where that did not work the turn
ends all the same, and the planner gives the node another one that only uncordons.
"""


def follow(table: Mapping[tuple[str, str], str], state: str, event: str) -> str:
    """The next state. Raises LogCorrupt when the event cannot happen in `state`."""
    try:
        return table[state, event]
    except KeyError:
        raise LogCorrupt(
            f"{event} cannot follow in the state {state or 'new'}", remedy="run `reconciler log verify`"
        ) from None
