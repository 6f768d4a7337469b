"""What the planner looks at: a pool, its nodes, its rollout, all values taken from rows and from this pass's look."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from reconciler.registries.model import DisruptionClass
from reconciler.rollout.pools import Pool

DOWN = ("restart", "drain")
"""Effective actions that take a node down: they spend maxUnavailable; all others spend maxParallel."""


@dataclass(frozen=True)
class Change:
    """What bringing one node to its files means: class in MCO's terms, what we will really do (none, reload, restart,
    drain), the actions sent to the node, and why."""

    disruption: DisruptionClass
    effective: str
    actions: tuple[str, ...]
    reasons: tuple[str, ...]


@dataclass(frozen=True)
class NodeView:
    """All the planner needs to know of a node.

    `target` is the digest of the file set wanted over its `base` (None: unknown, not rendered yet), `applied` what its
    last receipt proved. `start` is the manifest hash it shows now. `out` says why it cannot be acted on now
    (unreachable, refused, busy), or is empty. `tried` nodes were acted on in this pass already.
    """

    name: str
    base: str
    target: str | None
    applied: str | None
    change: Change | None = None
    start: str = ""
    restore: tuple[str, ...] = ()
    remove: tuple[str, ...] = ()
    """Strays that its pool has removed."""
    zone: str = ""
    unproven: bool = False
    """A step was sent and its outcome is not known: only the next receipt tells what the node has."""
    drifted: bool = False
    """It has drift, or strays to remove, that a repair sets right."""
    heal: tuple[str, ...] = ()
    """Drifted paths that a repair sets right."""
    keep: tuple[str, ...] = ()
    """Drifted paths that a repair leaves as they are."""
    left: str = ""
    """Why drift of it is left as it is, or nothing."""
    stop: str = ""
    """Why its drift stops the whole pool, or nothing."""
    signature: str = ""
    """Names what there is to repair: equal on nodes with the same drift."""
    allowed: bool = False
    """A person wants its drift repaired, whatever holds."""
    drift_cause: str | None = None
    converged_at: datetime | None = None
    step: str | None = None
    step_effective: str = "none"
    """What its open step does."""
    failed: Mapping[str, Any] | None = None
    out: str = ""
    blocked: str = ""
    """Why its target must not be rolled out (the lock-out guard), or nothing."""
    tried: bool = False
    own: bool = False
    """A hold of node scope gives it a target of its own."""
    back: str | None = None
    """Its files were refused, and its pool goes back: the file set it should return to."""
    rest: str = ""
    """Until when it is left alone after steps that came to nothing, or nothing."""
    cordoned: bool = False
    """We cordoned it and did not uncordon it yet."""
    away: bool = False
    """Unavailable whatever we do: unreachable, not ready, or cordoned by somebody else."""
    healthy: bool = True
    asked: str = ""
    """What a person asked for that can be done now: `release` or `adopt`; then it is `out` of everything else."""

    @property
    def key(self) -> str:
        """Under which a rollout's targets hold this node's."""
        return f"node:{self.name}" if self.own else self.base

    @property
    def behind(self) -> bool:
        return self.target is not None and (self.target != self.applied or self.unproven)

    @property
    def content_failed(self) -> bool:
        """It was healthy, got these files and failed: the content is to blame."""
        return bool(self.failed and self.failed["blame"] == "content" and self.failed["files"] == self.target)

    @property
    def left_cordoned(self) -> bool:
        """Its turn is over, but it could not be uncordoned: that comes before anything else."""
        return self.cordoned and self.step is None

    @property
    def idle(self) -> bool:
        """Nothing is done to it now, and nothing of an earlier turn is left to do."""
        return not (self.step or self.tried or self.left_cordoned)

    @property
    def goes_down(self) -> bool:
        return self.change is not None and self.change.effective in DOWN

    @property
    def is_down(self) -> bool:
        """We have taken it down, or are about to."""
        return self.cordoned or (self.step is not None and self.step_effective in DOWN)


@dataclass(frozen=True)
class Wave:
    """Nodes that go together: `canary`, which soaks, or `wave`."""

    kind: str
    nodes: frozenset[str]


@dataclass(frozen=True)
class RolloutView:
    """The pool's latest rollout, from its row. `approved` holds the stages a person let pass."""

    rollout: str
    state: str
    targets: Mapping[str, str]
    started_at: datetime
    kind: str = "rollout"
    waves: tuple[Wave, ...] = ()
    approved: frozenset[str] = frozenset()

    def conflicts(self, targets: Mapping[str, str]) -> bool:
        """Whether the content is another one by now. A new base alone is no new content."""
        return any(key in self.targets and self.targets[key] != target for key, target in targets.items())

    @property
    def begun(self) -> frozenset[str]:
        """The nodes of all waves so far."""
        return frozenset().union(*(wave.nodes for wave in self.waves))


@dataclass(frozen=True)
class PoolView:
    """A pool, its nodes in the order of their turns, its stream's version, and what caused its present content.

    `locks` say who paused it, `refused` which file sets failed and why, `completed` the targets of its last completed
    rollouts, `ahead` what a pool of `after` still lacks, `stop` why drift stops it, `mass` the signatures of drift that
    too many nodes have.
    """

    pool: Pool
    nodes: Sequence[NodeView]
    version: int
    rollout: RolloutView | None = None
    commit: str | None = None
    locks: tuple[str, ...] = ()
    refused: Mapping[str, str] = field(default_factory=dict)
    completed: Mapping[str, str] = field(default_factory=dict)
    ahead: str = ""
    stop: str = ""
    mass: frozenset[str] = frozenset()
    window_until: datetime | None = None


def in_turn(node: NodeView) -> tuple[bool, str, str]:
    """Sort key of the order of turns: by zone, those without one last, then by name (MCO goes by zone and age)."""
    return not node.zone, node.zone, node.name
