"""Nodes that are directories on this machine: node.sh with a root. For demos, tests and images being built."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path

from reconciler.errors import NodeFault, NodeRefused, NodeUnreachable
from reconciler.ports import (
    ApplyRequest,
    ConfirmRequest,
    HookRequest,
    HookResult,
    ImagesRequest,
    NodeImages,
    Observation,
    ObserveRequest,
    Receipt,
    ReleaseRequest,
    RevertRequest,
    Target,
)
from reconciler.transport.call import Call
from reconciler.transport.protocol import (
    apply_call,
    check_answered,
    confirm_call,
    decode_hook,
    decode_images,
    decode_observation,
    decode_receipt,
    hook_call,
    images_call,
    observe_call,
    release_call,
    revert_call,
)


class LocalTransport:
    """Runs node.sh with Target.root as its root, which is never /. `shell` is the POSIX shell to run it with.

    A caller that gives up does not stop a verb: node.sh ends by itself, and `close` waits for it.
    """

    def __init__(self, shell: Sequence[str] = ("sh",)) -> None:
        self._shell = tuple(shell)
        self._running: set[asyncio.Task[bytes]] = set()

    async def observe(self, target: Target, request: ObserveRequest) -> Observation:
        return decode_observation(await self._run(target, observe_call(request)), request, target)

    async def images(self, target: Target, request: ImagesRequest) -> NodeImages:
        return decode_images(await self._run(target, images_call(request)), target)

    async def apply(self, target: Target, request: ApplyRequest) -> Receipt:
        return decode_receipt(await self._run(target, apply_call(request)), request, target)

    async def revert(self, target: Target, request: RevertRequest) -> Receipt:
        return decode_receipt(await self._run(target, revert_call(request)), request, target)

    async def confirm(self, target: Target, request: ConfirmRequest) -> Receipt:
        return decode_receipt(await self._run(target, confirm_call(request)), request, target)

    async def release(self, target: Target, request: ReleaseRequest) -> Receipt:
        return decode_receipt(await self._run(target, release_call(request)), request, target)

    async def hook(self, target: Target, request: HookRequest) -> HookResult:
        return decode_hook(await self._run(target, hook_call(request)), target)

    async def close(self) -> None:
        await asyncio.gather(*self._running, return_exceptions=True)

    async def _run(self, target: Target, call: Call) -> bytes:
        argv = call.argv(str(await asyncio.to_thread(_root, target)), self._shell)
        task = asyncio.create_task(_answer(target, argv, call.stdin))
        self._running.add(task)
        task.add_done_callback(self._running.discard)
        return await asyncio.shield(task)


def _root(target: Target) -> Path:
    where = f"node {target.name}"
    root = Path(target.root)
    if not root.is_absolute() or root.resolve() == Path("/"):
        raise NodeRefused(f"a local node needs a root below /, not {target.root!r}", where=where)
    if not root.is_dir():
        raise NodeUnreachable(f"no directory {root}", where=where)
    return root.resolve()


async def _answer(target: Target, argv: Sequence[str], stdin: bytes) -> bytes:
    try:
        process = await asyncio.create_subprocess_exec(
            *argv,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            start_new_session=True,  # Ctrl-C in a terminal is for the caller, not for a node in the middle of a change
        )
    except OSError as error:
        raise NodeFault(f"cannot run {argv[0]}: {error.strerror}", where=f"node {target.name}") from error
    output, complaint = await process.communicate(stdin)
    check_answered(target, process.returncode, output, complaint)
    return output
