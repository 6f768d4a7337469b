"""Whatever happens during rollouts: budgets, order, windows and approval hold, and everything comes to an end."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from copy import deepcopy
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from reconciler import cycle, faults
from reconciler.events.catalogue import FilesRendered, StepStarted
from reconciler.events.envelope import StoredEvent
from reconciler.projections.tables import NODE_STATES
from reconciler.registries.model import Document, Location
from reconciler.rollout.fields import read_fields
from reconciler.rollout.machine import NEW, ROLLOUT, TURN, UNCORDON, follow
from reconciler.rollout.plan import Planner, plan_pool
from reconciler.rollout.pools import POOL_SCHEMA, Pool
from reconciler.rollout.windows import closed
from reconciler.simulation.world import World
from reconciler.stages import roll, turn
from reconciler.stages.context import EPOCH, decode_file_set
from reconciler.stages.view import Look, view_pool
from reconciler.transport.simulated import Pace
from tests.rollouts import ACCEPT_ALL, BY_HAND, FAULTS_END, Scenario, Stage, play, reached

TURN_EVENTS = {event for _, event in TURN}
ROLLOUT_EVENTS = {event for _, event in ROLLOUT}
TO_APPEND = timedelta(seconds=1)
"""From a decision to its record, on the Slow log."""

RESTART = {"type": "Restart", "restart": {"serviceName": "crio.service"}}
RESTARTS = {"files": [{"path": "/etc/containers/registries.conf", "actions": [RESTART]}]}


@pytest.fixture(autouse=True, scope="module")
def _deaths() -> Iterator[None]:
    """Fault points kill a replica of the scenario, not this process."""
    with pytest.MonkeyPatch.context() as patch:
        for module in (cycle, roll, turn):
            patch.setattr(module, "fault_point", reached)
        yield


# --- Scenarios ------------------------------------------------------------------------------------------------------

ALLOW = {"kind": "allow", "schedule": "0 * * * *", "duration": "30m"}
DENY = {"kind": "deny", "schedule": "*/30 * * * *", "duration": "10m"}
DRAIN = {"via": "command", "drain": ["/bin/true"], "timeout": "2m"}


def specs(number: int) -> st.SearchStrategy[Mapping[str, Any]]:
    """The spec of pool `number`; it may come after those before it."""
    amounts = st.sampled_from([1, 2, "50%", "100%"])
    optional = {
        "maxUnavailable": amounts,
        "maxUnavailableTotal": amounts,
        "maxParallel": amounts,
        "failureThreshold": st.integers(1, 2),
        "onFailure": st.sampled_from(["halt", "revert"]),
        "approval": st.sampled_from(["none", "afterCanary", "always"]),
        "windows": st.sampled_from([[ALLOW], [DENY], [ALLOW, DENY]]),
        "drain": st.sampled_from([DRAIN, {**DRAIN, "onTimeout": "skip"}]),
        "disruption": st.sampled_from(
            [
                {"profile": "minimal"},
                {"profile": "openshift"},
                RESTARTS,
            ]
        ),
        "after": st.lists(st.sampled_from([f"p{n}" for n in range(number)]), unique=True) if number else st.just([]),
    }
    canary = st.fixed_dictionaries({"nodes": st.integers(0, 2), "soak": st.sampled_from(["0s", "2m", "10m"])})
    return st.fixed_dictionaries({"canary": canary}, optional=optional)


@st.composite
def scenarios(draw: st.DrawFn, most_nodes: int = 5, most: int = 4) -> Scenario:
    pools = [(draw(specs(n)), draw(st.integers(1, most_nodes))) for n in range(draw(st.integers(1, 2)))]
    times, nodes = st.integers(0, FAULTS_END - 600), st.integers(0, 9)
    kinds = ["reload", "health", "disk-full", "drain", "uncordon", "unreachable", "drift"]
    kinds += [f"lose-{moment}" for moment in ("before", "placing", "placed", "done")]
    asks = ["approve", "approve", "pause", "resume", "abort", "retry"]
    death = st.none() | st.tuples(st.sampled_from(sorted(faults.FAULT_POINTS)), st.integers(1, 4))
    commits = draw(st.lists(st.tuples(times, st.integers(0, 3)), min_size=1, max_size=3))
    return Scenario(
        pools=pools,
        commits=[(0, commits[0][1]), *sorted(commits[1:])],
        faults=draw(st.lists(st.tuples(nodes, st.sampled_from(kinds), times, st.integers(60, 7200)), max_size=most)),
        asks=draw(st.lists(st.tuples(times, st.sampled_from(asks), st.integers(0, 1)), max_size=most)),
        deaths=(draw(death), draw(death)),
        pace=Pace(*(draw(st.sampled_from(choice)) for choice in ((0, 2), (0, 1), (0, 5), (20,), (0, 30, 100)))),
        seed=draw(st.integers(0, 99)),
    )


# --- What must hold -------------------------------------------------------------------------------------------------


def pools_of(scenario: Scenario) -> Mapping[str, tuple[Pool, int]]:
    """Each pool as the program reads it (durations in seconds), and how many nodes it has."""
    found = {}
    for number, (spec, count) in enumerate(scenario.pools):
        values, problems = read_fields(Document({}, Location("", 0)), {"mode": "enforce", **spec}, POOL_SCHEMA, "spec")
        assert not problems
        found[f"p{number}"] = (Pool(f"p{number}", values), count)
    return found


class Judge:
    """Holds a scenario to what was promised."""

    def __init__(self, scenario: Scenario) -> None:
        self.scenario = scenario
        self.pools = pools_of(scenario)
        self.exceeded: list[str] = []
        self.steady = not any(kind == "unreachable" and time for _, kind, time, _ in scenario.faults)
        """Nobody goes away while another is taken down, which no plan could foresee."""

    def watch(self, world: World) -> None:
        """At any moment: no more nodes are down, or touched, than the owner allows."""
        now = world.availability.now
        for name, (pool, count) in self.pools.items():
            at = f"{world.clock.now():%H:%M:%S} {name}:"
            limits = {"down": pool.max_unavailable(count), "touched": pool.max_parallel(count)}
            self.exceeded += [f"{at} {now[name, k]} {k}" for k, most in limits.items() if now[name, k] > most]
            total = pool.max_unavailable_total(count)
            if self.steady and total is not None and now[name, "down"] and now[name, "unavailable"] > total:
                self.exceeded.append(f"{at} {now[name, 'unavailable']} unavailable")

    async def check(self, stage: Stage) -> None:
        assert self.exceeded == []
        await self._folds(stage)
        events = await stage.events()
        self._machines(events)
        self._order(events)
        await self._plans_again(stage)
        await self._whole(stage)

    async def _folds(self, stage: Stage) -> None:
        """Rebuilt from the events alone, the read tables are the same."""
        log = stage.world.log
        live = deepcopy((log.rows.now, log.rows.since))
        log.replay()
        assert (log.rows.now, log.rows.since) == live

    def _machines(self, events: Sequence[StoredEvent]) -> None:
        """No event that the machine does not know in that state; a step only of a rollout that goes on."""
        rollouts: dict[str, str] = defaultdict(lambda: NEW)
        turns: dict[str, str] = defaultdict(lambda: "idle")
        for event in events:
            body: Any = event.body
            if event.type in ROLLOUT_EVENTS and body.rollout is not None:
                rollouts[body.rollout] = follow(ROLLOUT, rollouts[body.rollout], event.type)
            if isinstance(body, StepStarted) and body.purpose == "rollout":
                assert rollouts[body.rollout] == "progressing"
            name = UNCORDON if isinstance(body, StepStarted) and body.purpose == "uncordon" else event.type
            if name in TURN_EVENTS:
                turns[body.node] = follow(TURN, turns[body.node], name)

    def _order(self, events: Sequence[StoredEvent]) -> None:
        """Canaries, soak, approval, pools after others, and windows."""
        past = _Past()
        for event in events:
            if isinstance(event.body, StepStarted) and event.body.purpose in ("rollout", "repair"):
                pool, _ = self.pools[event.body.pool]
                said = [closed(pool.spec["windows"], event.recorded_at - early) for early in (TO_APPEND * 0, TO_APPEND)]
                assert not all(said), f"#{event.position} begins outside of a window"
                if event.body.purpose == "rollout":
                    past.check(event, event.body, pool)
            past.take(event)

    async def _plans_again(self, stage: Stage) -> None:
        """A fresh look at the same log gives the same plan."""
        for replica in stage.replicas:
            if replica.latest is None:
                continue
            snapshot = await stage.world.context.snapshot()
            for name in self.pools:
                plans = []
                for _ in range(2):
                    context = stage.world.context
                    look = Look(context, replica.latest.sights)
                    view = await view_pool(look, snapshot, name)
                    plans.append(plan_pool(view, Planner("default", "me", EPOCH), context.clock.now()))
                assert plans[0] == plans[1]

    async def _whole(self, stage: Stage) -> None:
        """No node has a mixture of file sets, whatever befell it."""
        context = stage.world.context
        snapshot = await context.snapshot()
        names = {e.body.files for e in await stage.events() if isinstance(e.body, FilesRendered)}
        blobs = await context.blobs.get(names)
        sets = {name: decode_file_set(blobs[name]).by_path for name in names}
        ours = {path for files in sets.values() for path in files}
        for (_, name), state in snapshot.table(NODE_STATES).items():
            node = stage.world.transport.node(name)
            by_hand = any(entry.content == BY_HAND for entry in node.files.values())
            if by_hand or node.journal is not None or state["step"]:
                continue  # somebody wrote there, or it is in the middle of a step
            own = {path for path, entry in node.files.items() if entry.content == ACCEPT_ALL}
            wanted = [{p: (e.sha256, e.mode) for p, e in sets[files].items()} for files in sets]
            proven = {p: (e.sha256, e.mode) for p, e in sets[state["files"]].items()} if state["files"] else {}
            whole = [proven, *([{}, *wanted] if state["unproven"] else [])]
            has = {p: e.state for p, e in node.files.items() if p in ours}
            # A file of its own, from before us, stands where a set says nothing of it.
            left = [{p: has[p] for p in has if p in files or p not in own} for files in whole]
            assert any(a == b for a, b in zip(left, whole, strict=True)), f"{name} has a mixture"


class _Past:
    """What the log said so far of rollouts, and what it lets a step of one do now."""

    def __init__(self) -> None:
        self.started: dict[str, Any] = {}
        self.canaries: dict[str, set[str]] = defaultdict(set)
        self.converged: dict[str, dict[str, Any]] = defaultdict(dict)
        self.approved: dict[str, set[str]] = defaultdict(set)
        self.open: dict[str, str] = {}
        self.step: dict[str, str] = {}

    def take(self, event: StoredEvent) -> None:
        body: Any = event.body
        match event.type:
            case "RolloutStarted":
                self.started[body.rollout] = body
                self.open[body.pool] = body.rollout
            case "RolloutCompleted" | "RolloutSuperseded":
                self.open.pop(body.pool, None)
            case "RolloutRetried":
                self.open[body.pool] = body.rollout
            case "WaveStarted" if body.kind == "canary":
                self.canaries[body.rollout] |= set(body.nodes)
            case "RolloutApproved":
                self.approved[body.rollout].add(body.stage)
            case "StepStarted":
                self.step[body.step] = body.rollout
            case "NodeConverged":
                # The first time: a canary whose files are repaired later does not soak again.
                self.converged[self.step[body.step]].setdefault(body.node, event.recorded_at)

    def check(self, event: StoredEvent, step: StepStarted, pool: Pool) -> None:
        rollout = self.started[step.rollout]
        if rollout.kind != "rollout":
            return
        for other in pool.spec["after"]:
            ahead = self.started.get(self.open.get(other, ""))
            waits = ahead is not None and ahead.kind == "rollout" and ahead.commit == rollout.commit
            assert not waits, f"#{event.position} overtakes {other}"
        approval = pool.spec["approval"]
        assert approval != "always" or "start" in self.approved[step.rollout]
        canary = pool.spec["canary"]
        if step.node in self.canaries[step.rollout] or not canary["nodes"]:
            return
        done = [at for node, at in self.converged[step.rollout].items() if node in self.canaries[step.rollout]]
        assert len(done) >= canary["nodes"], f"#{event.position} goes before the canaries"
        soaked = sorted(done)[canary["nodes"] - 1] + timedelta(seconds=canary["soak"])
        assert event.recorded_at >= soaked, f"#{event.position} does not wait for the soak"
        assert approval != "afterCanary" or "canary" in self.approved[step.rollout]


def judged(scenario: Scenario) -> None:
    judge = Judge(scenario)
    play(scenario, judge.check, judge.watch)


REFUSED_AND_BACK = Scenario(
    [({"canary": {"nodes": 0, "soak": "0s"}}, 3)], commits=[(0, 1), (17, 3), (842, 1)], faults=[(0, "reload", 0, 996)]
)
"""Content is refused, gives way to another one, and is wanted again: a person may let it be tried."""

AWAY = Scenario(
    [({"canary": {"nodes": 0}, "maxUnavailable": "100%", "maxUnavailableTotal": 2, "drain": DRAIN}, 5)],
    commits=[(0, 1)],
    faults=[(0, "unreachable", 0, 7200)],
    pace=Pace(drain=30),
)
KEPT = Scenario([({"canary": {"nodes": 0}, "drain": DRAIN}, 2)], commits=[(0, 1)], faults=[(0, "uncordon", 0, 600)])
"""A node that cannot be uncordoned in its turn must get another one."""

PAUSED = Scenario([({}, 2)], commits=[(0, 0), (600, 1)], asks=[(500, "pause", 0), (900, "resume", 0)])

LOST = Scenario(
    [({"canary": {"nodes": 0}, "drain": DRAIN, "disruption": {"profile": "minimal"}, "maxUnavailable": 1}, 6)],
    commits=[(0, 0), (188, 3)],
    faults=[(0, "lose-placed", 60, 93), (3, "reload", 0, 777)],
)
"""A node got content that says nothing of a file of its own, and nobody heard of it before the rollout was halted."""

FULL = Scenario(
    [({"canary": {"nodes": 0}, "disruption": RESTARTS}, 3)],
    commits=[(0, 0), (8, 1)],
    faults=[(0, "lose-placed", 1, 60), (1, "disk-full", 0, 341)],
    pace=Pace(restart=20),
)
"""A node that was to restart fails before it does, while another one is touched."""

AGAIN = Scenario(
    [
        ({"canary": {"nodes": 0}, "drain": DRAIN, "maxUnavailable": 1}, 3),
        ({"canary": {"nodes": 0}, "after": ["p0"]}, 2),
    ],
    commits=[(0, 0), (2268, 1), (3920, 0)],
    asks=[(298, "pause", 0), (318, "pause", 1)],
    deaths=(("between-nodes", 1), None),
    pace=Pace(drain=100),
    seed=2,
)
"""Content whose rollout was superseded is wanted again: nobody has completed it yet."""

REPAIRED = Scenario(
    [({"canary": {"nodes": 2, "soak": "10m"}, "disruption": {"profile": "minimal"}}, 9)],
    commits=[(0, 0)],
    faults=[
        (1, "lose-placed", 60, 210),
        (1, "drift", 2553, 134),
        (5, "unreachable", 256, 5156),
        (8, "health", 320, 1924),
    ],
    pace=Pace(answer=2),
)
"""A canary is repaired long after its soak, while the rollout that it led is halted."""


@example(AGAIN)
@example(REPAIRED)
@example(LOST)
@example(FULL)
@example(REFUSED_AND_BACK)
@example(AWAY)
@example(KEPT)
@example(PAUSED)
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(scenarios())
def test_rollouts(scenario: Scenario) -> None:
    judged(scenario)


@pytest.mark.slow
@pytest.mark.timeout(3600)
@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(scenarios(most_nodes=9, most=8))
def test_long_rollouts(scenario: Scenario) -> None:
    judged(scenario)
