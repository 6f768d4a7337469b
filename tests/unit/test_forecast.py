"""The waves to come: every node that can be begun is in one, canaries first, whatever delays them."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

from hypothesis import given, settings

from reconciler.events.catalogue import WaveStarted
from reconciler.rollout.forecast import waves_to_come
from reconciler.rollout.plan import plan_pool
from reconciler.rollout.views import PoolView, RolloutView, Wave
from tests.unit.test_plan import NOW, PLANNER, views


@settings(max_examples=150)
@given(views())
def test_the_forecast_has_each_node_that_can_be_begun_once_and_canaries_first(view: PoolView) -> None:
    waves = waves_to_come(view, NOW)
    names = [name for wave in waves for name in sorted(wave.nodes)]
    assert len(set(names)) == len(names)
    kinds = [wave.kind for wave in waves]
    assert kinds == sorted(kinds)  # canary before wave
    if view.pool.enforces and not (view.rollout and view.rollout.state == "halted"):
        free = {n.name for n in view.nodes if n.behind and not n.out and not n.tried and not n.content_failed}
        assert set(names) == free
    if not view.pool.enforces:
        assert not waves


def played(view: PoolView) -> list[Wave]:
    """The waves that the planner itself begins, when every step converges at once."""
    found: list[Wave] = []
    now = NOW
    for _ in range(1000):
        plan = plan_pool(view, PLANNER, now)
        for event in plan.events:
            rollout = view.rollout
            if event.type == "RolloutStarted":
                targets = {node.key: str(node.target) for node in view.nodes if node.target}
                rollout = RolloutView("r-2", "progressing", targets, now, event.kind)  # type: ignore[attr-defined]
            elif isinstance(event, WaveStarted):
                assert rollout is not None
                found.append(Wave(event.kind, frozenset(event.nodes)))
                rollout = replace(rollout, waves=(*rollout.waves, found[-1]))
            elif event.type == "RolloutCompleted":
                return found
            view = replace(view, rollout=rollout)
        now += timedelta(hours=1)
        done = {step.node for step in plan.steps}
        view = replace(
            view,
            nodes=[replace(n, applied=n.target, converged_at=now) if n.name in done else n for n in view.nodes],
        )
        if not plan.events and not plan.steps:
            return found
    raise AssertionError("the planner does not come to an end")


@settings(max_examples=100)
@given(views())
def test_the_forecast_is_what_the_planner_does(view: PoolView) -> None:
    nodes = [node for node in view.nodes if not (node.out or node.tried or node.step or node.content_failed)]
    view = replace(view, nodes=[replace(node, drifted=False, failed=None) for node in nodes], rollout=None)
    if view.pool.enforces:
        assert list(waves_to_come(view, NOW)) == played(view)
