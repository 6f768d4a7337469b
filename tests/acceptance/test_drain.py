"""Nodes that are emptied before they are taken down: in order, within the budget, and never left cordoned."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from reconciler.events.catalogue import NodeDrained
from reconciler.ports import DrainAnswer, DrainTask, EventFilter, Target
from reconciler.transport.drainers import CommandDrainer
from reconciler.transport.memory import MemoryTransport
from reconciler.work.inline import InlineRunner
from tests.nodes import FixedClock
from tests.world import IMAGE, ManualClock, MemoryWorld, make_world, memory_nodes, pool

NODES = ("w1", "w2", "w3")
DONE = DrainAnswer("done")


def drained(**spec: Any) -> str:
    """A pool whose nodes are drained by a command."""
    return pool(drain={"via": "command", "drain": ["drain"], **spec.pop("drain", {})}, **spec)


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
    world.context = replace(world.context, drainers={"command": drainer}, runner=runner)
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


# --- Commands -------------------------------------------------------------------------------------------------------


def task(**settings: Any) -> DrainTask:
    target = Target("default", "w1", "memory", address="10.0.0.1")
    spec = {"runOn": "controller", "cordon": None, "drain": None, "uncordon": None, **settings}
    return DrainTask(target, "worker", "step-1", "log-1", spec)


@pytest.fixture
def script(tmp_path: Path) -> Callable[[str], str]:
    def write(text: str) -> str:
        path = tmp_path / "hook.sh"
        path.write_text(f"#!/bin/sh\n{text}\n")
        path.chmod(0o755)
        return str(path)

    return write


@pytest.mark.parametrize(
    ("text", "state", "detail"),
    [
        ("exit 0", "done", ""),
        ("echo a pod is left; exit 75", "again", "ended with status 75: a pod is left"),
        ("echo no rights >&2; exit 1", "failed", "ended with status 1: no rights"),
    ],
)
async def test_the_exit_status_of_a_command_is_its_answer(
    script: Callable[[str], str], text: str, state: str, detail: str
) -> None:
    path = script(text)
    drainer = CommandDrainer(MemoryTransport(FixedClock()), [f"{Path(path).parent}/*"])
    answer = await drainer.drain(task(drain=[path]))
    assert (answer.state, answer.detail.endswith(detail)) == (state, True)


async def test_a_command_knows_its_node_and_nothing_of_ours(
    script: Callable[[str], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DATABASE_URL", "postgresql://secret")
    path = script('echo "$1 $RECONCILER_NODE $RECONCILER_ADDRESS $RECONCILER_POOL [$DATABASE_URL]"; exit 75')
    drainer = CommandDrainer(MemoryTransport(FixedClock()), [path])
    answer = await drainer.cordon(task(cordon=[path, "node/{node}"]))
    assert answer.detail.endswith(": node/w1 w1 10.0.0.1 worker []")


async def test_the_controller_runs_only_what_its_owner_lets_through(script: Callable[[str], str]) -> None:
    path = script("exit 0")
    for allowed in ([], ["/usr/bin/*"]):
        answer = await CommandDrainer(MemoryTransport(FixedClock()), allowed).drain(task(drain=[path]))
        assert answer == DrainAnswer("failed", f"{path} is not in the setting hooks.controller, so it is not run here")


async def test_on_the_node_the_node_runs_it() -> None:
    transport = MemoryTransport(FixedClock())
    node = transport.node("w1")
    node.faults.hooks["drain-it"] = 75
    drainer = CommandDrainer(transport, [])
    answer = await drainer.drain(task(runOn="node", drain=["drain-it", "{node}"]))
    assert (answer.state, answer.detail) == ("again", "drain-it ended with status 75")
    node.hold = "mine"
    assert (await drainer.drain(task(runOn="node", drain=["drain-it"]))).state == "failed"
