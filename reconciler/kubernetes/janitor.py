"""Pods that have had their day are taken away, our own in batches, and those that a dead process left.

Their Secrets go with them: each is owned by its pod, and the cluster's garbage collector sees to it.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Collection, Sequence
from typing import Any

from lightkube import AsyncClient
from lightkube.resources.core_v1 import Pod

from reconciler.errors import ClusterError, ReconcilerError
from reconciler.kubernetes.client import errors
from reconciler.kubernetes.pod_spec import MAIN, OWNER, REQUEST, VERB, Origin
from reconciler.kubernetes.pod_status import has_ended, is_over
from reconciler.kubernetes.watch import Mirror
from reconciler.logs import Log

GATHER, LONGEST = 2.0, 60.0
"""Seconds between two looks at what is done; doubled while it cannot be taken away."""

PATIENCE = 30.0
"""Seconds that what is done waits for what is not: one call takes away many."""

BATCH = 50
"""Pods that one call names."""

SWEEP, SOON = 60.0, 5.0
"""Seconds between two searches for what was left; where somebody else is at work, who may end, fewer."""

LOOKS = ("observe", "images")

Living = Callable[[], Awaitable[Collection[str]]]

log = Log(__name__)


class Janitor:
    """Of one fleet's pods. `living` names the processes (lease names) that are alive: what is theirs is left alone, and
    so is whatever bears other labels than `origin`'s, and what of our own is in `busy`."""

    def __init__(
        self, client: AsyncClient, origin: Origin, pods: Mirror[Pod], living: Living, busy: Collection[str]
    ) -> None:
        self._http: Any = client._client  # noqa: SLF001 - its own deletecollection() takes no selector
        self._origin, self._pods, self._living, self._busy = origin, pods, living, busy
        self._done: set[str] = set()
        self._swept = -SWEEP
        self._task: asyncio.Task[None] | None = None

    def take(self, name: str) -> None:
        """A request that is over: its pod goes soon."""
        self._done.add(name)
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._later(), name="pods that are done")

    async def sweep(self) -> None:
        """Take what was left, as far as it does nothing any more. No call is made to find it."""
        now = asyncio.get_running_loop().time()
        if now < self._swept + SWEEP:
            return
        self._swept = now
        pods = [pod for pod in self._pods.items() if self._origin.owns(pod)]
        others = any(owner_of(pod) != self._origin.owner for pod in pods)
        living = await self._living() if others else ()
        if others:
            self._swept -= SWEEP - SOON
        for pod in pods:
            name, owner = request_of(pod), owner_of(pod)
            if owner == self._origin.owner:
                over = name not in self._busy and has_ended(pod)
            else:
                over = owner not in living and (verb_of(pod) in LOOKS or is_over(pod, MAIN))
            if over:
                self.take(name)

    async def close(self) -> None:
        """Take away all that is done, and what was left, now."""
        self._swept = -SWEEP
        with contextlib.suppress(ReconcilerError):
            await self.sweep()
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
        await self._flush()

    async def _later(self) -> None:
        pause, waited = GATHER, 0.0
        while self._done:
            await asyncio.sleep(pause)
            waited += pause
            if self._busy and len(self._done) < BATCH and waited < PATIENCE:
                continue
            waited = 0.0
            pause = GATHER if await self._flush() else min(2 * pause, LONGEST)

    async def _flush(self) -> bool:
        names = sorted(self._done)
        for start in range(0, len(names), BATCH):
            batch = names[start : start + BATCH]
            try:
                await self._delete(batch)
            except ClusterError as error:
                log.warning("pods", "cannot be taken away now", reason=error.what, pods=len(names) - start)
                return False
            self._done.difference_update(batch)
        return True

    async def _delete(self, names: Sequence[str]) -> None:
        """Those of these names that bear our labels; also of ones that are gone."""
        namespace = self._origin.namespace
        selector = f"{self._origin.selector},{REQUEST} in ({','.join(names)})"
        with errors(f"pods of namespace {namespace} that are done"):
            params = {"labelSelector": selector, "propagationPolicy": "Background"}
            await self._http.request("deletecollection", Pod, namespace=namespace, params=params)


def request_of(pod: Any) -> str:
    """The request that the pod carries out: its own name, as a label."""
    return str(pod.metadata.labels[REQUEST])


def owner_of(pod: Any) -> str:
    """The process that made the pod."""
    return _annotation(pod, OWNER)


def verb_of(pod: Any) -> str:
    """What the pod does."""
    return _annotation(pod, VERB)


def _annotation(pod: Any, key: str) -> str:
    return str((pod.metadata.annotations or {}).get(key, ""))
