"""The planner: desired + node states + pools + time → rollout events and steps, and why each other node waits.

One pure function per pool; preview and service use the same. The order so far: canaries, their soak, then the rest
by maxParallel (DESIGN §7).
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from reconciler.events.catalogue import (
    Event,
    RolloutCompleted,
    RolloutHalted,
    RolloutStarted,
    RolloutSuperseded,
    StepStarted,
)
from reconciler.events.envelope import EVENT_NAMESPACE
from reconciler.registries.model import DISRUPTION_ORDER, DisruptionClass, digest
from reconciler.rollout.pools import Pool


@dataclass(frozen=True)
class Change:
    """What bringing one node to its target means: class in MCO's terms, the actions we will run, and why."""

    disruption: DisruptionClass
    effective: str
    actions: tuple[str, ...]
    reasons: tuple[str, ...]


@dataclass(frozen=True)
class NodeView:
    """All the planner needs to know of a node.

    `target` is the digest of the file set wanted over its `base` (None: unknown, not rendered yet), `applied` what its
    last receipt proved. `start` is the manifest hash it shows now. `out` says why it cannot be
    acted on now (unreachable, refused, busy), or is empty. `tried` nodes were acted on in this pass already.
    """

    name: str
    base: str
    target: str | None
    applied: str | None
    change: Change | None = None
    start: str = ""
    restore: tuple[str, ...] = ()
    unproven: bool = False
    """A step was sent and its outcome is not known: only the next receipt tells what the node has."""
    drifted: bool = False
    drift_cause: str | None = None
    converged_at: datetime | None = None
    step: str | None = None
    failed: Mapping[str, Any] | None = None
    out: str = ""
    tried: bool = False
    own: bool = False
    """A hold of node scope gives it a target of its own."""
    blocked: str = ""
    """Why nobody may be brought to its target (the lock-out guard), or nothing."""

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


@dataclass(frozen=True)
class RolloutView:
    """The pool's latest rollout, from its row."""

    rollout: str
    state: str
    targets: Mapping[str, str]
    started_at: datetime

    def conflicts(self, targets: Mapping[str, str]) -> bool:
        """Whether the content is another one by now. A new base alone is no new content."""
        return any(key in self.targets and self.targets[key] != target for key, target in targets.items())


@dataclass(frozen=True)
class PoolView:
    """A pool, its nodes sorted by name, its stream's version, and what caused its present content."""

    pool: Pool
    nodes: Sequence[NodeView]
    version: int
    rollout: RolloutView | None = None
    commit: str | None = None


@dataclass(frozen=True)
class Plan:
    """What to append and begin for one pool, and for each node that waits, why. `digest` names the plan."""

    events: tuple[Event, ...] = ()
    steps: tuple[StepStarted, ...] = ()
    waits: Mapping[str, str] = field(default_factory=dict)
    digest: str = ""


def plan_pool(view: PoolView, fleet: str, owner: str, epoch: int, now: datetime) -> Plan:
    """The next events and steps of a pool. Deterministic: the same view gives the same plan."""
    waits = {node.name: node.out for node in view.nodes if node.out and (node.behind or node.drifted)}
    behind = [node for node in view.nodes if node.behind]
    waits |= {node.name: node.blocked for node in behind if node.blocked and not node.out}
    targets = _targets(view.nodes)
    plan = plan_digest(view.nodes, targets)
    if not view.pool.enforces:
        return Plan(waits={node.name: "pool is in observe mode" for node in behind}, digest=plan)
    events: list[Event] = []
    rollout = view.rollout
    if rollout and rollout.state in ("progressing", "halted") and rollout.conflicts(targets):
        events.append(RolloutSuperseded(view.pool.name, rollout.rollout, digest(targets)))
        rollout = None
    halted = rollout is not None and not rollout.conflicts(targets) and _halts(view, rollout, events)
    if halted:
        waits.update({node.name: "rollout halted" for node in behind if not node.own})
    refused = {str(node.target): node.name for node in view.nodes if node.content_failed}
    waits |= {n.name: f"these files failed on {refused[n.target]}" for n in behind if n.own and n.target in refused}
    ready = [node for node in behind if node.name not in waits and not node.tried]
    if (halted or not (rollout and rollout.state == "progressing")) and ready:
        rollout = _start(view, fleet, ready, plan, now, events)
    steps: list[StepStarted] = []
    if rollout and rollout.state == "progressing":
        chosen = _next(view, rollout, ready, now, waits)
        steps += [_step(view, node, rollout.rollout, "rollout", owner, epoch) for node in chosen]
        if not events and not steps and _finished(view):
            events.append(_complete(view, rollout))
    steps += _repairs(view, owner, epoch, len(steps))
    return Plan(tuple(events), tuple(steps), waits, plan)


def _targets(nodes: Sequence[NodeView]) -> dict[str, str]:
    return {node.key: node.target for node in nodes if node.target is not None}


def plan_digest(nodes: Sequence[NodeView], targets: Mapping[str, str]) -> str:
    """Digest of the plan: per starting digest the files, class and reasons; no times, no node names."""
    changes = sorted(
        {
            (node.start, str(node.target), node.change.disruption, node.change.reasons)
            for node in nodes
            if node.behind and node.change
        }
    )
    return digest({"targets": dict(targets), "changes": changes})


def _halts(view: PoolView, rollout: RolloutView, events: list[Event]) -> bool:
    """Whether this content is halted in this pool; says so once (failureThreshold 1)."""
    if rollout.state == "halted":
        return True
    blamed = next((node for node in view.nodes if node.content_failed), None)
    if blamed is None or rollout.state != "progressing":
        return False
    reason = f"{blamed.name} failed with the new files: {(blamed.failed or {}).get('reason', '')}"
    events.append(RolloutHalted(view.pool.name, rollout.rollout, reason))
    return True


def _start(
    view: PoolView, fleet: str, ready: Sequence[NodeView], plan: str, now: datetime, events: list[Event]
) -> RolloutView:
    changes = [node.change for node in ready if node.change]
    disruption = max((change.disruption for change in changes), key=DISRUPTION_ORDER.index, default="none")
    effective = max((change.effective for change in changes), key=lambda e: (e != "none", e), default="none")
    reasons = tuple(sorted({reason for change in changes for reason in change.reasons}))
    identity = str(uuid.uuid5(EVENT_NAMESPACE, f"rollout\n{fleet}\n{view.pool.name}\n{view.version}\n{plan}"))
    targets = _targets(view.nodes)
    canaries = tuple(node.name for node in ready[: view.pool.spec["canary"]["nodes"]])
    events.append(
        RolloutStarted(
            pool=view.pool.name,
            rollout=identity,
            plan=plan,
            targets=targets,
            canaries=canaries,
            nodes=sum(node.behind for node in view.nodes),
            disruption=disruption,
            effective=effective,
            reasons=reasons,
            commit=view.commit,
        )
    )
    return RolloutView(identity, "progressing", targets, now)


def _next(
    view: PoolView, rollout: RolloutView, ready: Sequence[NodeView], now: datetime, waits: dict[str, str]
) -> Sequence[NodeView]:
    """The nodes to begin now: canaries first, after their soak the rest, never more than maxParallel at once."""
    busy = sum(node.step is not None for node in view.nodes)
    canary = view.pool.spec["canary"]
    done = sorted(
        node.converged_at
        for node in view.nodes
        if node.converged_at and not node.behind and node.converged_at >= rollout.started_at
    )
    budget, why = view.pool.max_parallel(len(view.nodes)) - busy, "waits for maxParallel"
    if len(done) < canary["nodes"]:
        budget, why = min(budget, canary["nodes"] - len(done) - busy), "waits for the canary"
    elif canary["nodes"] and now < done[canary["nodes"] - 1] + timedelta(seconds=canary["soak"]):
        until = done[canary["nodes"] - 1] + timedelta(seconds=canary["soak"])
        budget, why = 0, f"canary soaks until {until:%Y-%m-%dT%H:%M:%SZ}"
    chosen = list(ready[: max(0, budget)])
    waits.update({node.name: why for node in ready[len(chosen) :]})
    return chosen


def _finished(view: PoolView) -> bool:
    """Nothing runs, and whoever is still behind is out of reach or failed: deferred, not waiting for its turn."""
    return all(node.step is None and (not node.behind or node.out or node.tried) for node in view.nodes)


def _complete(view: PoolView, rollout: RolloutView) -> RolloutCompleted:
    deferred = tuple(node.name for node in view.nodes if node.behind)
    converged = sum(
        not node.behind and node.converged_at is not None and node.converged_at >= rollout.started_at
        for node in view.nodes
    )
    return RolloutCompleted(view.pool.name, rollout.rollout, converged, deferred)


def _repairs(view: PoolView, owner: str, epoch: int, begun: int) -> list[StepStarted]:
    """Drifted nodes that have the wanted content go back to what their receipt proved, within the same budget."""
    drifted = [
        node
        for node in view.nodes
        if node.drifted and node.target is not None and not (node.behind or node.out or node.tried or node.step)
    ]
    busy = sum(node.step is not None for node in view.nodes)
    budget = view.pool.max_parallel(len(view.nodes)) - busy - begun
    chosen = drifted[: max(0, budget)]
    return [_step(view, node, "", "repair", owner, epoch) for node in chosen]


def _step(view: PoolView, node: NodeView, rollout: str, purpose: str, owner: str, epoch: int) -> StepStarted:
    key = f"step\n{view.pool.name}\n{view.version}\n{node.name}\n{node.target}\n{node.start}"
    return StepStarted(
        pool=view.pool.name,
        node=node.name,
        rollout=rollout,
        step=str(uuid.uuid5(EVENT_NAMESPACE, key)),
        purpose=purpose,
        files=str(node.target),
        base=node.base,
        start=node.start,
        restore=node.restore,
        actions=node.change.actions if node.change else (),
        disruption=node.change.disruption if node.change else "none",
        owner=owner,
        epoch=epoch,
    )
