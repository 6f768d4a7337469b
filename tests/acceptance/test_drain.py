"""Nodes that are emptied before they are taken down: in order, within the budget, and never left cordoned."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import yaml

from reconciler.events.catalogue import CommitRejected, DrainBlocked, NodeDrained, StepTakenOver
from reconciler.planning.plan import Asked, plan
from reconciler.ports import Blocker, DrainAnswer, DrainTask, EventFilter
from reconciler.projections.tables import NODE_STATES
from reconciler.transport.memory import MemoryTransport
from reconciler.work.inline import InlineRunner
from tests.world import IMAGE, ManualClock, MemoryWorld, make_world, memory_nodes, pool

NODES = ("w1", "w2", "w3")
DONE = DrainAnswer("done")


def drained(via: str = "command", **spec: Any) -> str:
    """A pool whose nodes are drained, by a command or otherwise."""
    command = {"drain": ["drain"]} if via == "command" else {}
    return pool(drain={"via": via, **command, **spec.pop("drain", {})}, **spec)


@dataclass
class ScriptedDrainer:
    """Writes down who asks for what, beside what nodes are sent; `answers` says what a verb on a node gives."""

    did: list[str] = field(default_factory=list)
    answers: dict[str, list[DrainAnswer]] = field(default_factory=dict)
    cordoned: set[str] = field(default_factory=set)
    most: int = 0

    def _answer(self, verb: str, node: str) -> DrainAnswer:
        self.did.append(f"{verb} {node}")
        given = self.answers.get(f"{verb} {node}")
        return given.pop(0) if given else DONE

    async def cordon(self, task: DrainTask) -> DrainAnswer:
        self.cordoned.add(task.target.name)
        self.most = max(self.most, len(self.cordoned))
        return self._answer("cordon", task.target.name)

    async def drain(self, task: DrainTask) -> DrainAnswer:
        return self._answer("drain", task.target.name)

    async def uncordon(self, task: DrainTask) -> DrainAnswer:
        answer = self._answer("uncordon", task.target.name)
        if answer.state == "done":
            self.cordoned.discard(task.target.name)
        return answer


class NotingRunner(InlineRunner):
    """Notes which node is sent files, among what the drainer was asked."""

    drainer: ScriptedDrainer

    async def apply(self, jobs: Any) -> Any:
        self.drainer.did += [f"apply {job.target.name}" for job in jobs]
        return await super().apply(jobs)


@dataclass
class Drained:
    world: MemoryWorld
    transport: MemoryTransport
    drainer: ScriptedDrainer

    async def begin(self, **spec: Any) -> None:
        self.world.repository.commit({"pool.yaml": drained(**spec), "image.yaml": IMAGE, **memory_nodes(NODES)})
        await self.world.sync()
        self.drainer.did.clear()

    async def change(self) -> None:
        """A change of class drain."""
        self.world.repository.commit({"image.yaml": IMAGE.replace("untrusted", "worse")})

    async def types(self, node: str) -> list[str]:
        return [event.type for event in await self.world.log.read(EventFilter(node=node))]


@pytest.fixture
def fleet(tmp_path: Path) -> Drained:
    clock = ManualClock()
    transport, drainer = MemoryTransport(clock), ScriptedDrainer()
    world = make_world(tmp_path, transport, clock)
    runner = NotingRunner(transport)
    runner.drainer = drainer
    world.context = replace(world.context, drainers={"command": drainer, "kubernetes": drainer}, runner=runner)
    return Drained(world, transport, drainer)


async def test_each_node_is_cordoned_drained_changed_and_uncordoned_one_at_a_time(fleet: Drained) -> None:
    await fleet.begin()
    await fleet.change()
    assert (await fleet.world.sync()).exit_code == 0
    verbs = ("cordon", "drain", "apply", "uncordon")
    assert fleet.drainer.did == [f"{verb} {node}" for node in NODES for verb in verbs]
    assert fleet.drainer.most == 1
    turn = ["StepStarted", "NodeCordoned", "NodeDrained", "FilesApplied", "RuntimeReloaded", "NodeUncordoned"]
    assert (await fleet.types("w2"))[-7:] == [*turn, "NodeConverged"]


async def test_as_many_as_may_be_unavailable_go_at_once(fleet: Drained) -> None:
    await fleet.begin(maxUnavailable=2, canary={"nodes": 0, "soak": "0s"})
    fleet.world.repository.commit({"pool.yaml": drained(maxUnavailable=2, canary={"nodes": 3, "soak": "0s"})})
    await fleet.change()
    assert (await fleet.world.sync()).exit_code == 0
    assert fleet.drainer.most == 2


async def test_a_drain_that_may_work_later_is_tried_again(fleet: Drained) -> None:
    await fleet.begin()
    await fleet.change()
    fleet.drainer.answers["drain w1"] = [DrainAnswer("again", "a pod is left"), DrainAnswer("again", "a pod is left")]
    assert (await fleet.world.sync()).exit_code == 0
    assert fleet.drainer.did[:5] == ["cordon w1", "drain w1", "drain w1", "drain w1", "apply w1"]


async def test_a_pool_is_not_given_to_the_cluster_while_we_have_a_node_of_it_cordoned(fleet: Drained) -> None:
    await fleet.begin()
    await fleet.change()
    fleet.drainer.answers["uncordon w1"] = [DrainAnswer("again", "the API does not answer")] * 3
    await fleet.world.run()
    spec = {"nodeSelector": {"matchLabels": {"node-role.kubernetes.io/worker": ""}}, "manage": "cluster"}
    document = {"apiVersion": "reconciler.dev/v1alpha1", "kind": "NodePool", "metadata": {"name": "worker"}}
    fleet.world.repository.commit({"pool.yaml": yaml.safe_dump({**document, "spec": spec})})
    await fleet.world.run()
    [refused] = await fleet.world.log.read(EventFilter(types=["CommitRejected"]))
    assert isinstance(refused.body, CommitRejected)
    [problem] = refused.body.problems
    said = "the commit gives node w1 of pool worker, which reconciler cordoned, to a pool of manage: cluster"
    assert (problem["name"], problem["message"], problem["file"]) == ("node-cordoned", said, "pool.yaml")
    fleet.world.clock.advance(60)
    await fleet.world.run()
    assert not fleet.drainer.cordoned


@pytest.mark.parametrize("answer", ["again", "failed"])
async def test_a_node_that_cannot_be_emptied_is_uncordoned_and_deferred_untouched(fleet: Drained, answer: Any) -> None:
    await fleet.begin()
    await fleet.change()
    before = dict(fleet.transport.node("w2").files)
    fleet.drainer.answers["drain w2"] = [DrainAnswer(answer, "pod db-0 is protected")] * 50
    await fleet.world.run()
    assert dict(fleet.transport.node("w2").files) == before
    assert (await fleet.types("w2"))[-4:] == ["NodeCordoned", "DrainBlocked", "NodeUncordoned", "NodeDeferred"]
    assert not fleet.drainer.cordoned
    status = await fleet.world.status()
    assert {node.name: node.files for node in status.nodes} == {"w1": "Converged", "w2": "Pending", "w3": "Converged"}
    fleet.drainer.answers.clear()
    fleet.world.context.retry_now = True
    assert (await fleet.world.sync()).exit_code == 0


async def test_on_timeout_skip_the_change_is_made_all_the_same(fleet: Drained) -> None:
    await fleet.begin(drain={"onTimeout": "skip"})
    await fleet.change()
    fleet.drainer.answers["drain w1"] = [DrainAnswer("failed", "pod db-0 is protected")]
    assert (await fleet.world.sync()).exit_code == 0
    drained = await fleet.world.log.read(EventFilter(node="w1", types=["NodeDrained"]))
    assert isinstance(drained[-1].body, NodeDrained)
    assert drained[-1].body.skipped == "pod db-0 is protected"


async def test_a_failed_change_is_undone_and_the_node_uncordoned(fleet: Drained) -> None:
    await fleet.begin()
    await fleet.change()
    fleet.transport.node("w1").faults.reload = "unable"
    assert (await fleet.world.sync()).exit_code == 1
    assert (await fleet.types("w1"))[-3:] == ["NodeReverted", "NodeUncordoned", "NodeFailed"]
    assert not fleet.drainer.cordoned
    assert "cordon w2" not in fleet.drainer.did


async def test_a_node_that_could_not_be_uncordoned_is_uncordoned_by_a_turn_of_its_own(fleet: Drained) -> None:
    await fleet.begin()
    await fleet.change()
    fleet.drainer.answers["uncordon w1"] = [DrainAnswer("again", "the API does not answer")] * 3
    await fleet.world.run()
    assert fleet.drainer.cordoned == {"w1"}
    assert "cordon w2" not in fleet.drainer.did  # w1 spends the budget
    fleet.world.clock.advance(60)
    await fleet.world.run()
    assert not fleet.drainer.cordoned
    assert (await fleet.types("w1"))[-2:] == ["StepStarted", "NodeUncordoned"]


async def test_a_node_is_uncordoned_as_it_was_cordoned_when_its_pool_drains_no_more(fleet: Drained) -> None:
    await fleet.begin()
    await fleet.change()
    fleet.drainer.answers["uncordon w1"] = [DrainAnswer("again", "the API does not answer")] * 3
    await fleet.world.run()
    fleet.world.repository.commit({"pool.yaml": pool()})
    fleet.world.clock.advance(60)
    await fleet.world.run()
    assert not fleet.drainer.cordoned
    assert (await fleet.world.sync()).exit_code == 0


@pytest.mark.parametrize("verb", ["cordon", "drain", "uncordon"])
async def test_a_turn_is_taken_over_where_it_was(fleet: Drained, verb: str) -> None:
    """The owner dies in the middle of a verb; another goes on, and repeats only what is not in the log."""
    await fleet.begin()
    await fleet.change()

    class Killed(Exception):
        pass

    async def die(task: DrainTask) -> DrainAnswer:
        raise Killed

    alive = getattr(fleet.drainer, verb)
    setattr(fleet.drainer, verb, die)
    with pytest.raises(Killed):
        await fleet.world.run()
    setattr(fleet.drainer, verb, alive)
    fleet.drainer.did.clear()
    fleet.world.context = replace(fleet.world.context, owner="another")
    assert (await fleet.world.sync()).exit_code == 0
    first = {"cordon": "cordon w1", "drain": "cordon w1", "uncordon": "cordon w1"}[verb]
    assert fleet.drainer.did[0] == first
    assert not fleet.drainer.cordoned
    assert len(fleet.transport.node("w1").actions) == 2  # one reload for each change


@pytest.mark.parametrize(("verb", "rounds"), [("cordon", 0), ("drain", 1)])
async def test_a_step_that_another_took_over_is_left_alone_between_two_tries(
    fleet: Drained, verb: str, rounds: int
) -> None:
    """Ours was frozen for longer than its lease: the other has the node now, or is done with it."""
    await fleet.begin()
    await fleet.change()

    async def lose(task: DrainTask) -> DrainAnswer:
        fleet.drainer.did.append(f"{verb} {task.target.name}")
        snapshot = await fleet.world.context.snapshot()
        taken = StepTakenOver("worker", task.target.name, task.step, "another")
        await fleet.world.context.append(fleet.world.context.events(snapshot, [taken]), snapshot)
        return DrainAnswer("again", "a pod is left")

    setattr(fleet.drainer, verb, lose)
    await fleet.world.run()
    assert [did for did in fleet.drainer.did if did.endswith("w1")] == ["cordon w1", "drain w1"][: rounds + 1]


async def test_a_pool_that_observes_by_now_uncordons_what_it_left(fleet: Drained) -> None:
    await fleet.begin()
    await fleet.change()

    async def die(task: DrainTask) -> DrainAnswer:
        raise RuntimeError

    fleet.drainer.drain = die  # type: ignore[method-assign]  # the owner dies there
    with pytest.raises(RuntimeError):
        await fleet.world.run()
    fleet.world.repository.commit({"pool.yaml": drained(mode="observe")})
    fleet.world.context = replace(fleet.world.context, owner="another")
    await fleet.world.run()
    await fleet.world.run()
    assert not fleet.drainer.cordoned


# --- What a drainer that knows pods says ------------------------------------------------------------------------------


def kept(*budgets: str, allowed: int = 0) -> DrainAnswer:
    """The pods of these budgets are left; nothing moves."""
    blockers = tuple(
        Blocker(f"shop/{name}-0", f"StatefulSet/{name}", f"shop/{name}", allowed, "kept") for name in budgets
    )
    return DrainAnswer("again", f"kept by {', '.join(budgets)}", blockers)


MOVING = DrainAnswer("again", "on its way", moving=True)


async def blocked(fleet: Drained, node: str = "w1") -> list[list[str]]:
    """The budgets that each DrainBlocked names."""
    found = await fleet.world.log.read(EventFilter(node=node, types=["DrainBlocked"]))
    return [[pod["budget"] for pod in event.body.pods] for event in found if isinstance(event.body, DrainBlocked)]


async def test_each_cause_is_said_once_in_a_turn(fleet: Drained) -> None:
    await fleet.begin()
    await fleet.change()
    tries = [kept("db"), kept("db"), MOVING, kept("db"), kept("db", "web"), kept("web"), MOVING]
    fleet.drainer.answers["drain w1"] = list(tries)
    assert (await fleet.world.sync()).exit_code == 0
    assert await blocked(fleet) == [["shop/db"], ["shop/db", "shop/web"]]
    events = await fleet.world.log.read(EventFilter(node="w1", types=["DrainBlocked"]))
    first, second = (event.body.pods for event in events if isinstance(event.body, DrainBlocked))
    assert first[0]["since"] == second[0]["since"] < second[1]["since"]
    assert {**first[0], "since": ""} == {
        "pod": "shop/db-0", "owner": "StatefulSet/db", "budget": "shop/db", "allowed": 0, "why": "kept", "since": "",
    }  # fmt: skip


async def test_what_moves_is_no_cause(fleet: Drained) -> None:
    await fleet.begin()
    await fleet.change()
    fleet.drainer.answers["drain w1"] = [replace(kept("db"), moving=True)] * 3
    assert (await fleet.world.sync()).exit_code == 0
    assert await blocked(fleet) == []


async def test_a_drainer_is_left_alone_as_long_as_it_wants(fleet: Drained) -> None:
    await fleet.begin()
    await fleet.change()
    before = fleet.world.clock.moment
    fleet.drainer.answers["drain w1"] = [replace(MOVING, after=240.0)]
    assert (await fleet.world.sync()).exit_code == 0
    assert fleet.drainer.did.count("drain w1") == 2
    assert (fleet.world.clock.moment - before).total_seconds() > 240


async def test_nodes_that_wait_for_one_budget_come_back_at_other_times(fleet: Drained) -> None:
    """And later each time, up to the pool's timeout."""
    await fleet.begin()
    await fleet.change()
    times: dict[str, list[float]] = {node: [] for node in NODES}

    async def drain(task: DrainTask) -> DrainAnswer:
        times[task.target.name].append(fleet.world.clock.moment.timestamp())
        return kept("db")

    fleet.drainer.drain = drain  # type: ignore[method-assign]
    await fleet.world.run()
    pauses = {node: [after - before for before, after in pairwise(found)][:3] for node, found in times.items()}
    assert all(first < second < third for first, second, third in pauses.values())
    assert len({round(found[0], 2) for found in pauses.values()}) == 3


@pytest.mark.parametrize("answer", [kept("db"), DrainAnswer("failed", "no right", kept("db").blockers)])
async def test_on_timeout_force_is_for_what_a_budget_keeps_alone(fleet: Drained, answer: DrainAnswer) -> None:
    await fleet.begin(via="kubernetes", drain={"onTimeout": "force"})
    await fleet.change()
    forced: list[bool] = []

    async def drain(task: DrainTask) -> DrainAnswer:
        forced.append(task.force)
        return DrainAnswer("done", forced=("shop/db-0",)) if task.force else answer

    fleet.drainer.drain = drain  # type: ignore[method-assign]
    await fleet.world.run()
    assert any(forced) == (answer.state == "again")
    drained = await fleet.world.log.read(EventFilter(node="w1", types=["NodeDrained"]))
    named = [event.body.forced for event in drained if isinstance(event.body, NodeDrained)]
    assert named == ([(), ("shop/db-0",)] if answer.state == "again" else [()])


async def test_a_node_is_given_back_in_every_way_that_it_may_have_been_cordoned(fleet: Drained) -> None:
    """Its pool drains in another way by the time the step is taken over."""
    await fleet.begin(via="kubernetes")
    await fleet.change()

    async def die(task: DrainTask) -> DrainAnswer:
        raise RuntimeError

    before, commands = fleet.drainer, ScriptedDrainer()
    before.drain = die  # type: ignore[method-assign]
    with pytest.raises(RuntimeError):
        await fleet.world.run()
    fleet.world.repository.commit({"pool.yaml": drained()})
    drainers = {"kubernetes": before, "command": commands}
    fleet.world.context = replace(fleet.world.context, owner="another", drainers=drainers)
    assert (await fleet.world.sync()).exit_code == 0
    assert "uncordon w1" in before.did
    assert not before.cordoned | commands.cordoned


async def test_without_a_cluster_nodes_wait_untouched_and_the_plan_says_why(fleet: Drained) -> None:
    why = "it would have to be drained: the fleet has no cluster"
    fleet.world.context = replace(
        fleet.world.context, drainers={}, lacking={"kubernetes": "the fleet has no cluster", "x": "of no interest"}
    )
    await fleet.begin(via="kubernetes")
    done = await fleet.world.run()
    assert [found.waits for found in done.pools] == [dict.fromkeys(NODES, why)]
    assert "StepStarted" not in await fleet.world.types()
    [planned] = (await plan(fleet.world.context, Asked()))["pools"]
    assert [(group["reason"], group["nodes"]) for group in planned["waits"]] == [(why, list(NODES))]
    fleet.world.repository.commit({"pool.yaml": drained(via="none")})
    assert (await fleet.world.sync()).exit_code == 0


async def test_a_node_that_nobody_here_can_uncordon_stays_cordoned_for_the_log_too(fleet: Drained) -> None:
    await fleet.begin(via="kubernetes")
    await fleet.change()
    fleet.drainer.answers["uncordon w1"] = [DrainAnswer("again", "the API does not answer")] * 3
    await fleet.world.run()
    why, drainers = "the fleet has no cluster", fleet.world.context.drainers
    fleet.world.context = replace(fleet.world.context, drainers={}, lacking={"kubernetes": why})
    fleet.world.clock.advance(60)
    await fleet.world.run()
    state = (await fleet.world.context.snapshot()).one(NODE_STATES, "default", "w1") or {}
    assert (state["cordoned"] is None, state["deferred"]["reason"]) == (False, f"not uncordoned: {why}")
    fleet.world.context = replace(fleet.world.context, drainers=drainers, lacking={}, retry_now=True)
    assert (await fleet.world.sync()).exit_code == 0
    assert not fleet.drainer.cordoned
