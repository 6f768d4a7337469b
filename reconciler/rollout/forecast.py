"""The waves a rollout would have if every node converged at once: for people who look before they leap."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta

from reconciler.rollout.plan import STOPPED, rollout_kind
from reconciler.rollout.views import NodeView, PoolView, RolloutView, Wave
from reconciler.rollout.waves import next_turn

STAGES = frozenset({"start", "canary"})
"""What may need approval; a forecast takes it as given."""


def waves_to_come(view: PoolView, now: datetime) -> tuple[Wave, ...]:
    """The waves that are still to come, asked of the same function that begins them.

    Nodes that cannot be acted on now are in none. Locks, windows, approvals, soaks and pools of `after` delay waves and
    change none, so they are passed over; a pool that only observes, or whose rollout of this content stopped, has none.
    """
    targets = {node.key: node.target for node in view.nodes if node.target is not None}
    ready = [node for node in view.nodes if _can_begin(view, node)]
    same = view.rollout if view.rollout and not view.rollout.conflicts(targets) else None
    if not view.pool.enforces or not ready or (same and same.state in STOPPED):
        return ()
    rollout = same if same and same.state == "progressing" else None
    rollout = rollout or RolloutView("", "progressing", targets, now, rollout_kind(view, ready))
    return tuple(_play(view, replace(rollout, approved=STAGES), ready, now))


def _can_begin(view: PoolView, node: NodeView) -> bool:
    held_back = node.out or node.tried or node.blocked or node.content_failed or node.target in view.refused
    return node.behind and node.back is None and not held_back


def _play(view: PoolView, rollout: RolloutView, ready: Sequence[NodeView], now: datetime) -> list[Wave]:
    """Let each turn converge before the next; the nodes of a wave that has begun already are a wave of that kind."""
    pause = timedelta(seconds=view.pool.spec["canary"]["soak"] + 1)
    view = _converged(view, {node.name for node in view.nodes if node.step is not None}, now)
    waves: list[Wave] = []
    while ready:
        now += pause
        turn = next_turn(view, rollout, ready, now)
        names = frozenset(node.name for node in turn.nodes)
        if not names:
            break
        if turn.wave is not None:
            wave = Wave(turn.wave.kind, frozenset(turn.wave.nodes))
            rollout = replace(rollout, waves=(*rollout.waves, wave))
        waves.append(Wave(rollout.waves[-1].kind, names))
        view = _converged(view, names, now)
        ready = [node for node in ready if node.name not in names]
    return waves


def _converged(view: PoolView, names: frozenset[str] | set[str], now: datetime) -> PoolView:
    return replace(view, nodes=[_done(node, now) if node.name in names else node for node in view.nodes])


def _done(node: NodeView, now: datetime) -> NodeView:
    return replace(node, applied=node.target, unproven=False, step=None, failed=None, healthy=True, converged_at=now)
