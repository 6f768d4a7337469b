"""The shipped fake: a fleet of nodes in memory, for tests, demos and `simulate`. Faults are scripted per node."""

from __future__ import annotations

import asyncio

from reconciler.errors import NodeUnreachable
from reconciler.ports import (
    ApplyRequest,
    Clock,
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
from reconciler.transport.header import check_lines, checked, heading, hook_lines, readable
from reconciler.transport.memory_node import MemoryNode


class MemoryTransport:
    """Nodes by Target.name; one that nobody put here is made empty at first sight."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self.nodes: dict[str, MemoryNode] = {}

    def node(self, name: str) -> MemoryNode:
        return self.nodes.setdefault(name, MemoryNode(name))

    async def observe(self, target: Target, request: ObserveRequest) -> Observation:
        for path in request.known:
            readable(path)
        return (await self._reached(target)).observe(request, self._now())

    async def images(self, target: Target, request: ImagesRequest) -> NodeImages:
        return (await self._reached(target)).needs(request, self._now())

    async def apply(self, target: Target, request: ApplyRequest) -> Receipt:
        heading(request)
        check_lines(request.health)
        for path in [*(file.path for file in request.files), *request.restore, *request.remove]:
            checked(path)
        return (await self._reached(target)).apply(request, self._now())

    async def revert(self, target: Target, request: RevertRequest) -> Receipt:
        heading(request)
        return (await self._reached(target)).revert(request, self._now())

    async def confirm(self, target: Target, request: ConfirmRequest) -> Receipt:
        return (await self._reached(target)).confirm(request, self._now())

    async def release(self, target: Target, request: ReleaseRequest) -> Receipt:
        heading(request)
        return (await self._reached(target)).release(request, self._now())

    async def hook(self, target: Target, request: HookRequest) -> HookResult:
        hook_lines(request)
        return (await self._reached(target)).hook(request)

    async def close(self) -> None:
        """Nothing is held open."""

    async def _reached(self, target: Target) -> MemoryNode:
        await asyncio.sleep(0)
        node = self.node(target.name)
        if node.faults.unreachable:
            raise NodeUnreachable("no connection (scripted)", where=f"node {target.name}")
        return node

    def _now(self) -> int:
        return int(self._clock.now().timestamp())
