"""One transport for the core, which picks the right one for each node."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

from reconciler.errors import NodeRefused
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
    Transport,
)


class TransportRouter:
    """Hands each verb to the transport that Target.transport names; an unknown name raises NodeRefused."""

    def __init__(self, transports: Mapping[str, Transport]) -> None:
        self._transports = dict(transports)

    def and_kubernetes(self, transport: Transport) -> TransportRouter:
        """The same, and the pods of a fleet's cluster; those the caller closes."""
        return TransportRouter({**self._transports, "kubernetes": transport})

    async def observe(self, target: Target, request: ObserveRequest) -> Observation:
        return await self._for(target).observe(target, request)

    async def images(self, target: Target, request: ImagesRequest) -> NodeImages:
        return await self._for(target).images(target, request)

    async def apply(self, target: Target, request: ApplyRequest) -> Receipt:
        return await self._for(target).apply(target, request)

    async def revert(self, target: Target, request: RevertRequest) -> Receipt:
        return await self._for(target).revert(target, request)

    async def confirm(self, target: Target, request: ConfirmRequest) -> Receipt:
        return await self._for(target).confirm(target, request)

    async def release(self, target: Target, request: ReleaseRequest) -> Receipt:
        return await self._for(target).release(target, request)

    async def hook(self, target: Target, request: HookRequest) -> HookResult:
        return await self._for(target).hook(target, request)

    async def close(self) -> None:
        await asyncio.gather(*(transport.close() for transport in self._transports.values()))

    def _for(self, target: Target) -> Transport:
        try:
            return self._transports[target.transport]
        except KeyError:
            remedy = f"set spec.transport to one of: {', '.join(sorted(self._transports))}"
            if target.transport == "kubernetes":
                remedy = f"set fleets.{target.fleet}.kubernetes, so that the fleet has a cluster"
            what = f"no transport {target.transport!r} here"
            raise NodeRefused(what, where=f"node {target.name}", remedy=remedy) from None
