"""Nodes that are drained by commands: what their exit status says, what they know, and which are run at all."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from reconciler.ports import DrainAnswer, DrainTask, Target
from reconciler.transport.drainers import CommandDrainer
from reconciler.transport.memory import MemoryTransport
from tests.nodes import FixedClock


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
