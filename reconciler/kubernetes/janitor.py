"""Pods and Secrets that have had their day are taken away: our own in batches, and those that a dead process left."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Collection, Sequence
from typing import Any

from lightkube import AsyncClient
from lightkube.resources.core_v1 import Pod, Secret

from reconciler.errors import ClusterError
from reconciler.kubernetes.client import errors
from reconciler.kubernetes.pod_spec import MAIN, OWNER, REQUEST, VERB, Origin
from reconciler.kubernetes.pod_status import has_ended, is_over
from reconciler.kubernetes.watch import Mirror
from reconciler.logs import Log

GATHER, LONGEST = 1.0, 60.0
"""Seconds that what is done waits for company, since one call takes away many; doubled while that fails."""

BATCH = 50
"""Pods that one call names."""

SWEEP = 60.0
"""Seconds between two searches for what was left."""

LOOKS = ("observe", "images")

Living = Callable[[], Awaitable[Collection[str]]]

log = Log(__name__)


class Janitor:
    """Of one fleet's pods. `living` names the processes (lease names) that are alive: what is theirs is left alone, and
    so is whatever bears other labels than `origin`'s."""

    def __init__(self, client: AsyncClient, origin: Origin, pods: Mirror[Pod], living: Living) -> None:
        self._http: Any = client._client  # noqa: SLF001 - its own deletecollection() takes no selector
        self._origin, self._pods, self._living = origin, pods, living
        self._done: set[str] = set()
        self._swept = -SWEEP
        self._task: asyncio.Task[None] | None = None

    def take(self, name: str) -> None:
        """A request that is over: its pod and its Secret go soon."""
        self._done.add(name)
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._later(), name="pods that are done")

    async def sweep(self, busy: Collection[str]) -> None:
        """Take what was left, as far as it does nothing any more; nothing of our own that is `busy`. No call is made to
        find it."""
        now = asyncio.get_running_loop().time()
        if now < self._swept + SWEEP:
            return
        self._swept = now
        pods: Sequence[Any] = self._pods.items()
        living = await self._living() if any(owner_of(pod) != self._origin.owner for pod in pods) else ()
        for pod in pods:
            name, owner = pod.metadata.labels[REQUEST], owner_of(pod)
            if owner == self._origin.owner:
                over = name not in busy and has_ended(pod)
            else:
                over = owner not in living and (verb_of(pod) in LOOKS or is_over(pod, MAIN))
            if over:
                self.take(name)

    async def close(self) -> None:
        """Take away all that is done, now."""
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
        await self._flush()

    async def _later(self) -> None:
        pause = GATHER
        while self._done:
            await asyncio.sleep(pause)
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
        for kind in (Pod, Secret):
            with errors(f"{kind.__name__.lower()}s of namespace {namespace} that are done"):
                params = {"labelSelector": selector, "propagationPolicy": "Background"}
                await self._http.request("deletecollection", kind, namespace=namespace, params=params)


def owner_of(pod: Any) -> str:
    """The process that made the pod."""
    return _annotation(pod, OWNER)


def verb_of(pod: Any) -> str:
    """What the pod does."""
    return _annotation(pod, VERB)


def _annotation(pod: Any, key: str) -> str:
    return str((pod.metadata.annotations or {}).get(key, ""))
