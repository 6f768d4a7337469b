"""The planner's cases: tests/cases/plan/*.yaml hold a pool, its nodes and rollout, and the expected plan."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from reconciler.events.catalogue import Event, RolloutStarted, WaveStarted
from reconciler.rollout.plan import Plan, Planner, plan_pool
from reconciler.rollout.pools import Pool
from reconciler.rollout.views import Change, NodeView, PoolView, RolloutView, Wave, in_turn

PLANNER = Planner("default", "me", 1)
NOW = datetime(2026, 1, 1, 12, 0, tzinfo=UTC)
CASES = sorted(Path(__file__).parent.parent.joinpath("cases", "plan").glob("*.yaml"))
RELOAD = Change("drain", "reload", ("reload:crio.service",), ("registry bad.example.com added as blocked: drain",))


def _pool(settings_: dict[str, Any]) -> Pool:
    pool = Pool.with_defaults()
    spec = {**pool.spec, "mode": "enforce", **settings_}
    spec["canary"] = {"nodes": 1, "soak": 0, **settings_.get("canary", {})}
    return Pool("worker", spec)


def _node(data: dict[str, Any]) -> NodeView:
    values = {"base": "b", "target": "new", "applied": "old", "change": RELOAD, "start": "s", **data}
    if "does" in values:
        values["change"] = Change("drain", values.pop("does"), (), ())
    if "converged" in values:
        values["converged_at"] = NOW - timedelta(seconds=values.pop("converged"))
    return NodeView(**values)


def _view(case: dict[str, Any]) -> PoolView:
    rollout = case.get("rollout")
    view = None
    if rollout:
        started = NOW - timedelta(seconds=rollout.get("started", 600))
        waves = tuple(Wave(kind, frozenset(names)) for wave in rollout.get("waves", ()) for kind, names in wave.items())
        kind, approved = rollout.get("kind", "rollout"), frozenset(rollout.get("approved", ()))
        view = RolloutView("r-1", rollout["state"], rollout["targets"], started, kind, waves, approved)
    nodes = sorted((_node(node) for node in case["nodes"]), key=in_turn)
    more: dict[str, Any] = {**case.get("view", {})}
    more["mass"] = frozenset(more.get("mass", ()))
    return PoolView(_pool(case.get("pool", {})), nodes, 7, view, "c0ffee", **more)


def _event(event: Event) -> str:
    if isinstance(event, WaveStarted):
        return f"{event.kind} {', '.join(event.nodes)}"
    return f"{event.type} {event.kind}" if isinstance(event, RolloutStarted) else event.type


def _summary(plan: Plan) -> dict[str, Any]:
    return {
        "events": [_event(event) for event in plan.events],
        "steps": [f"{step.purpose} {step.node}" for step in plan.steps],
        "waits": dict(plan.waits),
    }


@pytest.mark.parametrize(
    "case",
    [
        pytest.param(case, id=f"{path.stem}: {case['name']}")
        for path in CASES
        for case in yaml.safe_load(path.read_text())
    ],
)
def test_plan(case: dict[str, Any]) -> None:
    plan = plan_pool(_view(case), PLANNER, NOW)
    expected = {"events": [], "steps": [], "waits": {}, **case["expect"]}
    assert _summary(plan) == expected


@st.composite
def views(draw: st.DrawFn) -> PoolView:
    names = [f"w{number}" for number in range(draw(st.integers(0, 8)))]
    nodes = [
        _node(
            {
                "name": name,
                "target": draw(st.sampled_from(["new", None])),
                "applied": draw(st.sampled_from(["new", "old", None])),
                "drifted": draw(st.booleans()),
                "step": draw(st.sampled_from([None, None, "open"])),
                "out": draw(st.sampled_from(["", "", "unreachable"])),
                "blocked": draw(st.sampled_from(["", "", "locked out"])),
                "tried": draw(st.booleans()),
                "cordoned": draw(st.sampled_from([False, False, True])),
                "failed": draw(st.sampled_from([None, {"blame": "content", "files": "new", "reason": "x"}])),
                "converged": draw(st.integers(0, 1000)),
            }
        )
        for name in names
    ]
    nodes = [node if not node.step else _node({"name": node.name, "step": "open", "out": "busy"}) for node in nodes]
    state = draw(st.sampled_from([None, "progressing", "completed", "halted", "superseded"]))
    targets = draw(st.sampled_from([{"b": "new"}, {"b": "older"}]))
    rollout = RolloutView("r-1", state, targets, NOW - timedelta(seconds=500)) if state else None
    settings_ = {
        "mode": draw(st.sampled_from(["enforce", "observe"])),
        "maxParallel": draw(st.sampled_from([1, 3, "10%", "100%"])),
        "canary": {"nodes": draw(st.integers(0, 2)), "soak": draw(st.sampled_from([0, 300]))},
    }
    return PoolView(_pool(settings_), nodes, 7, rollout, None)


@settings(max_examples=150)
@given(views())
def test_a_plan_is_deterministic_keeps_the_budget_and_leaves_out_who_cannot_be_acted_on(view: PoolView) -> None:
    plan = plan_pool(view, PLANNER, NOW)
    assert plan == plan_pool(view, PLANNER, NOW)
    by_name = {node.name: node for node in view.nodes}
    assert len({step.node for step in plan.steps}) == len(plan.steps)
    assert all(by_name[step.node].left_cordoned == (step.purpose == "uncordon") for step in plan.steps)
    writes = [step for step in plan.steps if step.purpose != "uncordon"]
    begun = [by_name[step.node] for step in writes]
    busy = sum(node.step is not None for node in view.nodes)
    assert not begun or busy + len(begun) <= view.pool.max_parallel(len(view.nodes))
    assert all(not node.out and not node.tried and node.target is not None for node in begun)
    assert all(node.behind or node.drifted for node in begun)
    assert not any(node.behind and node.blocked for node in begun)
    if not view.pool.enforces:
        assert not writes
        assert {event.type for event in plan.events} <= {"RolloutSuperseded"}


@settings(max_examples=100)
@given(views())
def test_the_canary_goes_before_the_rest(view: PoolView) -> None:
    plan = plan_pool(view, PLANNER, NOW)
    fresh = (
        view.rollout is None
        or view.rollout.state != "progressing"
        or any(e.type == "RolloutSuperseded" for e in plan.events)
    )
    rolled = [step for step in plan.steps if step.purpose == "rollout"]
    canaries = view.pool.spec["canary"]["nodes"]
    if fresh and canaries:
        assert len(rolled) <= canaries
