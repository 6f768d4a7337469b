"""Drainers: commands that a pool names (`drain.via: command`), run where reconciler runs or on the node itself."""

from __future__ import annotations

import asyncio
import os
import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import PurePosixPath

from reconciler.errors import NodeError, NodeRefused, redacted
from reconciler.ports import DrainAnswer, DrainTask, HookRequest, Transport

AGAIN = 75
"""EX_TEMPFAIL of sysexits.h: the command wants to be run again in a while."""

LONGEST = 120
"""Seconds that one run may take; a command that needs longer ends with AGAIN and is run again."""

KEPT = 300
"""Characters of a command's last output that are kept for people."""

_SECRET = re.compile(
    r"((?:token|password|passwd|secret|authorization)[\"']?\s*[=:]\s*(?:bearer\s+|basic\s+)?)[^\s,;]+", re.IGNORECASE
)


class CommandDrainer:
    """ports.Drainer by commands. Exit status 0: done; 75: try again; any other: it will not work.

    `{node}` in a word is the node's name. RECONCILER_NODE, _ADDRESS, _POOL, _STEP and _FLEET are in the environment;
    nothing else of ours is. A command on the controller must match one of `allowed` (patterns of absolute paths,
    setting hooks.controller): who may merge to a config repository may otherwise run nothing here.
    """

    def __init__(self, transport: Transport, allowed: Sequence[str]) -> None:
        self._transport = transport
        self._allowed = tuple(allowed)

    async def cordon(self, task: DrainTask) -> DrainAnswer:
        return await self._run(task, "cordon")

    async def drain(self, task: DrainTask) -> DrainAnswer:
        return await self._run(task, "drain")

    async def uncordon(self, task: DrainTask) -> DrainAnswer:
        return await self._run(task, "uncordon")

    async def _run(self, task: DrainTask, verb: str) -> DrainAnswer:
        words = task.settings[verb]
        if words is None:
            return DrainAnswer("done", f"the pool has no command to {verb}")
        command = [word.replace("{node}", task.target.name) for word in words]
        if task.settings["runOn"] == "node":
            return await self._on_node(task, command)
        if not self._is_allowed(command[0]):
            return DrainAnswer("failed", f"{command[0]} is not in the setting hooks.controller, so it is not run here")
        return await _on_controller(command, _environment(task))

    def _is_allowed(self, program: str) -> bool:
        """By its plain path alone: `..` must not lead out of an allowed directory, nor `*` into one below it."""
        path = PurePosixPath(program)
        plain = path.is_absolute() and os.path.normpath(program) == program
        return plain and any(pattern.startswith("/") and path.match(pattern) for pattern in self._allowed)

    async def _on_node(self, task: DrainTask, command: Sequence[str]) -> DrainAnswer:
        request = HookRequest(task.log_id, task.step, tuple(command), _environment(task), LONGEST)
        try:
            result = await self._transport.hook(task.target, request)
        except NodeRefused as error:
            return DrainAnswer("failed", error.what)
        except NodeError as error:
            return DrainAnswer("again", error.what)
        return _answer(command[0], result.status, result.output)


def _environment(task: DrainTask) -> Mapping[str, str]:
    return {
        "RECONCILER_FLEET": task.target.fleet,
        "RECONCILER_POOL": task.pool,
        "RECONCILER_NODE": task.target.name,
        "RECONCILER_ADDRESS": task.target.address,
        "RECONCILER_STEP": task.step,
    }


async def _on_controller(command: Sequence[str], environment: Mapping[str, str]) -> DrainAnswer:
    """Run a command here; ended with its whole process group when it takes too long."""
    kept = {name: os.environ[name] for name in ("HOME", "KUBECONFIG", "LANG", "PATH") if name in os.environ}
    try:
        process = await asyncio.create_subprocess_exec(
            *command,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            env={**kept, **environment},
            start_new_session=True,
        )
    except OSError as error:
        return DrainAnswer("failed", f"{command[0]}: {error.strerror}")
    try:
        output, _ = await asyncio.wait_for(process.communicate(), LONGEST)
    except (TimeoutError, asyncio.CancelledError) as error:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, 9)
        await process.wait()
        if isinstance(error, asyncio.CancelledError):
            raise
        return DrainAnswer("again", f"{command[0]} did not end within {LONGEST} s")
    return _answer(command[0], process.returncode or 0, output.decode(errors="replace"))


def _answer(program: str, status: int, output: str) -> DrainAnswer:
    if status == 0:
        return DrainAnswer("done")
    said = _SECRET.sub(r"\1***", redacted(" ".join(output.split())))[-KEPT:]
    detail = f"{program} ended with status {status}{f': {said}' if said else ''}"
    return DrainAnswer("again" if status in (AGAIN, 124) else "failed", detail)
