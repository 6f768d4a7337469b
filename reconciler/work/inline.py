"""The inline runner: node work as tasks of this process, many at once, each with its own time limit."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from functools import partial
from typing import Any, TypeVar

from reconciler.errors import NodeError, NodeUnreachable
from reconciler.ports import (
    ConfirmRequest,
    HookRequest,
    HookResult,
    ImagesRequest,
    Job,
    NodeImages,
    Observation,
    ObserveRequest,
    Receipt,
    ReleaseRequest,
    Target,
    Transport,
)

T = TypeVar("T")
Verb = Callable[[], Coroutine[Any, Any, T]]


class InlineRunner:
    """Runs verbs on nodes concurrently. `limit` bounds connections in use at once, `timeout` (seconds) each verb;
    health checks, restarts and hooks have their own time on top."""

    def __init__(self, transport: Transport, limit: int = 200, timeout: float = 120.0) -> None:
        self._transport = transport
        self._slots = asyncio.Semaphore(limit)
        self._timeout = timeout

    async def observe(self, wanted: Sequence[tuple[Target, ObserveRequest]]) -> Sequence[Observation | NodeError]:
        """Each node's observation, or its error, in the order asked."""
        return await asyncio.gather(
            *(self._one(target, partial(self._transport.observe, target, request)) for target, request in wanted)
        )

    async def images(self, wanted: Sequence[tuple[Target, ImagesRequest]]) -> Sequence[NodeImages | NodeError]:
        """Each node's images, or its error, in the order asked."""
        return await asyncio.gather(
            *(self._one(target, partial(self._transport.images, target, request)) for target, request in wanted)
        )

    async def apply(self, jobs: Sequence[Job]) -> Sequence[Receipt | NodeError]:
        """Each node's receipt, or its error, in the order given."""
        return await asyncio.gather(
            *(
                self._one(job.target, partial(self._transport.apply, job.target, job.request), job.request.patience)
                for job in jobs
            )
        )

    async def confirm(self, wanted: Sequence[tuple[Target, ConfirmRequest]]) -> Sequence[Receipt | NodeError]:
        """Each node's receipt, or its error, in the order given."""
        return await asyncio.gather(
            *(self._one(target, partial(self._transport.confirm, target, request)) for target, request in wanted)
        )

    async def release(self, wanted: Sequence[tuple[Target, ReleaseRequest]]) -> Sequence[Receipt | NodeError]:
        """Each node's receipt, or its error, in the order given."""
        return await asyncio.gather(
            *(self._one(target, partial(self._transport.release, target, request)) for target, request in wanted)
        )

    async def hook(self, wanted: Sequence[tuple[Target, HookRequest]]) -> Sequence[HookResult | NodeError]:
        """How the command ended on each node, or the node's error, in the order given."""
        return await asyncio.gather(
            *(
                self._one(target, partial(self._transport.hook, target, request), request.patience)
                for target, request in wanted
            )
        )

    async def _one(self, target: Target, verb: Verb[T], patience: int = 0) -> T | NodeError:
        async with self._slots:
            try:
                return await asyncio.wait_for(verb(), self._timeout + patience)
            except NodeError as error:
                return error
            except TimeoutError:
                return NodeUnreachable(
                    f"no answer within {self._timeout + patience:g} s",
                    where=f"node {target.name}",
                    remedy="tried again at the next check",
                )
