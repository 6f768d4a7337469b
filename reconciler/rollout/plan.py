"""The planner: desired + node states + pools + time → rollout events and steps, and why each other node waits.

One pure function per pool; preview, `plan`, `simulate` and the service use the same (DESIGN §7).
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from reconciler.events.catalogue import (
    ContentRefused,
    Event,
    MassDriftDetected,
    RolloutCompleted,
    RolloutHalted,
    RolloutStarted,
    RolloutSuperseded,
    StepStarted,
)
from reconciler.events.envelope import EVENT_NAMESPACE
from reconciler.registries.model import DISRUPTION_ORDER, digest
from reconciler.rollout.budget import Budget
from reconciler.rollout.drift import is_mass, same_drift
from reconciler.rollout.views import NodeView, PoolView, RolloutView
from reconciler.rollout.waves import is_held, next_turn
from reconciler.rollout.windows import closed

EFFECTIVE_ORDER = ("none", "reload", "restart", "drain")
STOPPED = ("halted", "aborted")


@dataclass(frozen=True)
class Planner:
    """Who plans, where: the fleet, the process's lease name, and the fence epoch."""

    fleet: str
    owner: str
    epoch: int


@dataclass(frozen=True)
class Plan:
    """What to append and begin for one pool, and for each node that waits, why. `digest` names the plan."""

    events: tuple[Event, ...] = ()
    steps: tuple[StepStarted, ...] = ()
    waits: Mapping[str, str] = field(default_factory=dict)
    digest: str = ""


def plan_pool(view: PoolView, planner: Planner, now: datetime) -> Plan:
    """The next events and steps of a pool. Deterministic: the same view gives the same plan."""
    return _PoolPlan(view, planner, now).make()


class _PoolPlan:
    def __init__(self, view: PoolView, planner: Planner, now: datetime) -> None:
        self.view, self.planner, self.now = view, planner, now
        self.pool = view.pool
        self.behind = [node for node in view.nodes if node.behind and node.back is None]
        self.targets = {node.key: node.target for node in view.nodes if node.target is not None}
        self.digest = plan_digest(view.nodes, self.targets)
        self.events: list[Event] = []
        self.steps: list[StepStarted] = []
        self.waits = {
            node.name: node.out for node in view.nodes if node.out and (node.behind or node.drifted or node.back)
        }
        self.budget = Budget(view)

    def make(self) -> Plan:
        if not self.pool.enforces:
            self._observe(self.view.rollout)
        else:
            self._roll()
            self._go_back()
            self._repair()
        self._give()
        self._uncordon()
        return Plan(tuple(self.events), tuple(self.steps), self.waits, self.digest)

    def _observe(self, rollout: RolloutView | None) -> None:
        """Nothing is begun; a rollout that was under way ends, and would begin with its canaries again."""
        self.waits = {node.name: "pool is in observe mode" for node in self.behind}
        if rollout and rollout.state == "progressing" and not any(node.step for node in self.view.nodes):
            self.events.append(RolloutSuperseded(self.pool.name, rollout.rollout, "mode: observe"))

    # --- The rollout ------------------------------------------------------------------------------------------------

    def _roll(self) -> None:
        rollout = self._supersede(self.view.rollout)
        stopped = self._stopped(rollout)
        if stopped:
            self._wait([node for node in self.behind if not node.own], stopped)
        self._leave_out_refused()
        ready = [node for node in self.behind if node.idle and node.name not in self.waits]
        if gate := self._gate():
            self._wait(ready, gate)
            ready = []
        if stopped:
            self._begin(ready)  # nodes with a hold of their own: what was stopped says nothing of their files
            return
        if ready and (rollout is None or rollout.state != "progressing"):
            rollout = self._start(ready)
        if rollout is None or rollout.state != "progressing":
            return
        self._begin_next(rollout, ready)
        if not self.events and not self.steps and self._finished(rollout):
            self.events.append(self._completed(rollout))

    def _supersede(self, rollout: RolloutView | None) -> RolloutView | None:
        """A rollout of other content ends when that content is no longer wanted."""
        if rollout and rollout.state in ("progressing", *STOPPED) and rollout.conflicts(self.targets):
            self.events.append(RolloutSuperseded(self.pool.name, rollout.rollout, digest(self.targets)))
            return None
        return rollout

    def _stopped(self, rollout: RolloutView | None) -> str:
        """Why this content is begun on no node, or nothing; said once when the failure threshold is reached."""
        if rollout is None or (rollout.state != "progressing" and rollout.state not in STOPPED):
            return ""
        if rollout.state in STOPPED:
            return f"rollout {rollout.state}" if not rollout.conflicts(self.targets) else ""
        if rollout.kind != "rollout":
            return ""  # the others have this content and are well
        blamed = [node for node in self.view.nodes if node.content_failed and node.target not in self.view.refused]
        if len(blamed) < self.pool.spec["failureThreshold"]:
            return ""
        failed = ", ".join(node.name for node in blamed[:3])
        reason = f"{failed} failed with the new files: {(blamed[0].failed or {}).get('reason', '')}"
        new = {node.target for node in self.view.nodes if not (node.own or self._is_completed(node))}
        files = tuple(sorted(str(target) for target in new | {node.target for node in blamed} if target))
        self.events.append(RolloutHalted(self.pool.name, rollout.rollout, reason))
        self.events.append(ContentRefused(self.pool.name, rollout.rollout, files, reason))
        return "rollout halted"

    def _is_completed(self, node: NodeView) -> bool:
        return self.view.completed.get(node.key) == node.target

    def _leave_out_refused(self) -> None:
        """Files known as bad are begun on no node, and those that failed on a node not again on it."""
        for node in self.behind:
            if node.name in self.waits:
                continue
            if why := self.view.refused.get(str(node.target)):
                self.waits[node.name] = f"these files were refused: {why}"
            elif node.content_failed:
                self.waits[node.name] = f"failed with these files: {(node.failed or {}).get('reason', '')}"
            elif node.blocked:
                self.waits[node.name] = node.blocked

    def _gate(self) -> str:
        """Why no node of the pool is begun now."""
        view = self.view
        return self._paused() or view.stop or view.ahead or self._window()

    def _paused(self) -> str:
        return f"paused {'; '.join(self.view.locks)}" if self.view.locks else ""

    def _window(self) -> str:
        until = self.view.window_until
        return "" if until and self.now < until else closed(self.pool.spec["windows"], self.now)

    def _wait(self, nodes: Sequence[NodeView], why: str) -> None:
        for node in nodes:
            self.waits.setdefault(node.name, why)

    def _start(self, ready: Sequence[NodeView]) -> RolloutView:
        changes = [node.change for node in ready if node.change]
        disruption = max((change.disruption for change in changes), key=DISRUPTION_ORDER.index, default="none")
        effective = max((change.effective for change in changes), key=EFFECTIVE_ORDER.index, default="none")
        key = f"rollout\n{self.planner.fleet}\n{self.pool.name}\n{self.view.version}\n{self.digest}"
        started = RolloutStarted(
            pool=self.pool.name,
            rollout=str(uuid.uuid5(EVENT_NAMESPACE, key)),
            plan=self.digest,
            targets=self.targets,
            nodes=len(self.behind),
            disruption=disruption,
            effective=effective,
            reasons=tuple(sorted({reason for change in changes for reason in change.reasons})),
            commit=self.view.commit,
            kind=rollout_kind(self.view, ready),
        )
        self.events.append(started)
        return RolloutView(started.rollout, "progressing", self.targets, self.now, started.kind)

    def _begin_next(self, rollout: RolloutView, ready: Sequence[NodeView]) -> None:
        turn = next_turn(self.view, rollout, ready, self.now)
        if turn.wave is not None:
            self.events.append(turn.wave)
        chosen = {node.name for node in turn.nodes}
        self._wait([node for node in ready if node.name not in chosen], turn.why)
        self._begin([node for node in ready if node.name in chosen], rollout.rollout)

    def _begin(self, nodes: Sequence[NodeView], rollout: str = "") -> None:
        for node in nodes:
            if why := self.budget.spend(node):
                self.waits[node.name] = why
            else:
                self.steps.append(self._step(node, "rollout", str(node.target), rollout))

    def _finished(self, rollout: RolloutView) -> bool:
        """Nothing runs, and whoever is still behind is out of reach, refused or failed: not waiting for its turn.

        Nodes that come back after the end of a rollout are caught up without canaries, soak or approval: it does not
        end before these are through while somebody may still come.
        """
        nodes, refused = self.view.nodes, self.view.refused
        coming = [node for node in nodes if node.behind and not (node.content_failed or node.target in refused)]
        if any(node.step for node in nodes) or (coming and is_held(self.view, rollout, self.now)):
            return False
        return all(node.out or node.tried for node in coming)

    def _completed(self, rollout: RolloutView) -> RolloutCompleted:
        failed = tuple(node.name for node in self.behind if node.content_failed)
        deferred = tuple(node.name for node in self.behind if not node.content_failed)
        converged = sum(
            not node.behind and node.converged_at is not None and node.converged_at >= rollout.started_at
            for node in self.view.nodes
        )
        return RolloutCompleted(self.pool.name, rollout.rollout, converged, deferred, failed)

    # --- Beside the rollout -----------------------------------------------------------------------------------------

    def _go_back(self) -> None:
        """With onFailure: revert, nodes return from refused files to those last completed. Undoing needs no window."""
        for node in self.view.nodes:
            if node.back is None or node.applied == node.back or node.out or not node.idle:
                continue
            if why := self._paused() or self.budget.spend(node):
                self.waits[node.name] = why
            else:
                self.steps.append(self._step(node, "revert", node.back))

    def _repair(self) -> None:
        """Drifted nodes that have the wanted content go back to what their receipt proved, within the same budgets."""
        gate, mass = self._paused() or self._window(), self._mass()
        for node in self.view.nodes:
            if node.behind or node.back or node.out or node.target is None or not node.idle:
                continue
            if not node.drifted:
                if node.left:
                    self.waits[node.name] = node.left
                continue
            stop = "" if node.allowed else self.view.stop or mass.get(node.signature, "")
            if why := gate or stop or node.blocked or self.budget.spend(node):
                self.waits[node.name] = why
            else:
                self.steps.append(self._step(node, "repair", str(node.target)))

    def _mass(self) -> dict[str, str]:
        """Signature → why nobody is repaired of it: too many nodes have it, until a person decides. Said once."""
        same: dict[str, list[str]] = {}
        for node in self.view.nodes:
            if node.signature and not node.allowed:
                same.setdefault(node.signature, []).append(node.name)
        for signature in sorted(self.view.mass - set(same)):
            self.events.append(MassDriftDetected(self.pool.name, signature, ()))
        stopped = {}
        for signature, names in sorted(same.items()):
            known = signature in self.view.mass
            if not known and is_mass(len(names), len(self.view.nodes)):
                self.events.append(MassDriftDetected(self.pool.name, signature, tuple(names)))
                known = True
            if known:
                stopped[signature] = same_drift(len(names), self.pool.name)
        return stopped

    def _give(self) -> None:
        """Nodes that a person gives back, or takes from another log: in every mode, since it was asked for by name."""
        for node in self.view.nodes:
            if not (node.asked and node.idle):
                continue
            if why := self._paused() or self.budget.spend(node):
                self.waits[node.name] = why
            else:
                self.waits.pop(node.name, None)
                self.steps.append(self._step(node, node.asked, node.applied or ""))

    def _uncordon(self) -> None:
        """A node that we cordoned and whose turn is over must not stay cordoned, whatever else holds."""
        on_node = self.pool.spec["drain"]["runOn"] == "node"
        for node in self.view.nodes:
            if not node.left_cordoned or node.tried:
                continue
            if why := node.rest or (node.out if on_node else ""):
                self.waits[node.name] = f"is still cordoned: {why}"
            else:
                self.steps.append(self._step(node, "uncordon", node.applied or ""))

    def _step(self, node: NodeView, purpose: str, files: str, rollout: str = "") -> StepStarted:
        change = node.change if purpose != "uncordon" else None
        # With the epoch: a node may have finished a step of another copy of this log at the same version.
        place = f"{self.pool.name}\n{self.view.version}\n{self.planner.epoch}"
        key = f"step\n{place}\n{node.name}\n{purpose}\n{files}\n{node.start}"
        return StepStarted(
            pool=self.pool.name,
            node=node.name,
            rollout=rollout,
            step=str(uuid.uuid5(EVENT_NAMESPACE, key)),
            purpose=purpose,
            files=files,
            base=node.base,
            start=node.start,
            restore=node.restore,
            actions=change.actions if change else (),
            disruption=change.disruption if change else "none",
            owner=self.planner.owner,
            epoch=self.planner.epoch,
            effective=change.effective if change else "none",
            keep=node.keep if purpose == "repair" else (),
            remove=node.remove,
        )


def rollout_kind(view: PoolView, ready: Sequence[NodeView]) -> str:
    """`catch-up` where the nodes get what a completed rollout brought to others, else `rollout`."""
    known = all(view.completed.get(node.key) == node.target for node in ready)
    return "catch-up" if known else "rollout"


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
