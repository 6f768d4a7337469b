"""The waves to come: every node that can be begun is in one, canaries first, whatever delays them."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reconciler.events.catalogue import WaveStarted
from reconciler.rollout.forecast import STAGES, waves_to_come
from reconciler.rollout.plan import plan_pool
from reconciler.rollout.views import PoolView, RolloutView, Wave
from tests.unit.test_plan import NOW, PLANNER, _node, _pool


@st.composite
def pools(draw: st.DrawFn) -> PoolView:
    """A pool whose nodes mostly can be begun; delays of every kind."""
    state: dict[str, Any] = draw(
        st.sampled_from([{}, {}, {}, {}, {"applied": "new"}, {"out": "unreachable"}, {"tried": True}, {"target": None}])
    )
    nodes = [_node({"name": f"w{number}", **(state if number % 4 == 3 else {})}) for number in range(draw(SIZES))]
    spec = {
        "canary": {"nodes": draw(st.integers(0, 3)), "soak": draw(st.sampled_from([0, 300]))},
        "maxParallel": draw(st.sampled_from([1, 3, "100%"])),
        "approval": draw(st.sampled_from(["none", "afterCanary", "always"])),
    }
    completed = draw(st.sampled_from([{}, {"b": "new"}]))
    locks = draw(st.sampled_from([(), ("by somebody",)]))
    return PoolView(_pool(spec), nodes, 7, completed=completed, locks=locks)


SIZES = st.integers(0, 12)


@settings(max_examples=150)
@given(pools())
def test_each_node_that_can_be_begun_is_in_one_wave_and_canaries_go_first(view: PoolView) -> None:
    waves = waves_to_come(view, NOW)
    names = [name for wave in waves for name in sorted(wave.nodes)]
    free = [n.name for n in view.nodes if n.behind and not n.out and not n.tried]
    assert sorted(names) == sorted(free)
    kinds = [wave.kind for wave in waves]
    assert kinds == sorted(kinds)  # canary before wave
    canaries = sum(len(wave.nodes) for wave in waves if wave.kind == "canary")
    assert canaries == (0 if view.completed else min(view.pool.spec["canary"]["nodes"], len(free)))


@pytest.mark.parametrize("state", ["halted", "aborted"])
def test_a_pool_that_only_observes_or_was_stopped_has_no_waves(state: str) -> None:
    nodes = [_node({"name": "w1"})]
    assert waves_to_come(PoolView(_pool({}), nodes, 7), NOW)
    assert waves_to_come(PoolView(_pool({"mode": "observe"}), nodes, 7), NOW) == ()
    stopped = RolloutView("r-1", state, {"b": "new"}, NOW)
    assert waves_to_come(PoolView(_pool({}), nodes, 7, stopped), NOW) == ()
    other = replace(stopped, targets={"b": "older"})
    assert waves_to_come(PoolView(_pool({}), nodes, 7, other), NOW)


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
            view = replace(view, rollout=replace(rollout, approved=STAGES) if rollout else None)
        done = {step.node for step in plan.steps}
        view = replace(
            view,
            nodes=[replace(n, applied=n.target, converged_at=now) if n.name in done else n for n in view.nodes],
        )
        now += timedelta(hours=1)  # whatever soaks has soaked
        if not plan.events and not plan.steps:
            return found
    raise AssertionError("the planner does not come to an end")


@settings(max_examples=100)
@given(pools())
def test_the_forecast_is_what_the_planner_does(view: PoolView) -> None:
    view = replace(view, locks=())
    assert list(waves_to_come(view, NOW)) == played(view)
