"""Pods of ours: made, waited for by one watch, taken away. What keeps one from its work becomes its node's error."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any, TypeVar, cast

from lightkube import ApiError, AsyncClient
from lightkube.resources.core_v1 import Pod, Secret
from lightkube.types import PatchType

from reconciler.errors import ClusterError, ClusterRefused, NodeRefused, NodeUnreachable
from reconciler.kubernetes.client import errors
from reconciler.kubernetes.janitor import Janitor, Living
from reconciler.kubernetes.pod_spec import MAIN, OURS, Errand, Json, Origin
from reconciler.kubernetes.pod_status import Ended, ended, has_started, pull_failure, why_waiting
from reconciler.kubernetes.watch import Mirror
from reconciler.ports import Target

START_TIMEOUT = 90.0
"""Seconds until a container of a pod must run."""

LATE = 30.0
"""Seconds by which news of a pod may come later than its own time limit."""

FORBIDDEN = 403

K = TypeVar("K", Pod, Secret)


class PodRunner:
    """Runs errands in one namespace. Errors are NodeUnreachable where time may help, else NodeRefused."""

    def __init__(self, client: AsyncClient, origin: Origin, living: Living) -> None:
        self.origin = origin
        asked = f"pods of namespace {origin.namespace}"
        self.pods = Mirror(client, Pod, asked, namespace=origin.namespace, labels=OURS)
        self._client = client
        self._busy: set[str] = set()
        self._janitor = Janitor(client, origin, self.pods, living, self._busy)
        self._critical = True

    async def run(self, target: Target, errand: Errand) -> Ended:
        """How the pod's main container ended. Then a look's pod, and one that waits for a confirmation, is the caller's
        to `take`; every other goes, also after an error. What has begun to write ends by itself when nobody waits."""
        if not self.origin.image:
            raise NodeRefused(
                "no helper image is configured",
                where=f"node {target.name}",
                remedy=f"set fleets.{target.fleet}.helper_image to an image by digest",
            )
        with told(target, self.origin):
            await self.pods.synced()
            if self.pods.failure is not None:
                raise self.pods.failure  # nobody would hear how the pod ended
        await self.sweep()
        self._busy.add(errand.name)
        try:
            await self._make(target, errand)
            end = await self._wait(errand, MAIN)
        except asyncio.CancelledError:
            if errand.looks:
                self._janitor.take(errand.name)
            raise
        except BaseException:
            self._janitor.take(errand.name)
            raise
        finally:
            self._busy.discard(errand.name)
        if errand.look is None and not errand.looks:
            self._janitor.take(errand.name)
        return end

    async def sweep(self) -> None:
        """Take away what others left, where it is known what there is."""
        with suppress(ClusterError):
            await self._janitor.sweep()

    async def order(self, target: Target, errand: Errand, patch: Json, container: str) -> Ended:
        """How another container of a pod that is still there ended, after the pod was patched; then it goes."""
        self._busy.add(errand.name)
        try:
            with told(target, self.origin):
                await self._client.patch(
                    Pod, errand.name, patch, namespace=self.origin.namespace, patch_type=PatchType.MERGE
                )
            return await self._wait(errand, container)
        finally:
            self._busy.discard(errand.name)
            self._janitor.take(errand.name)

    def take(self, errand: Errand) -> None:
        """The errand is over: its pod may go."""
        self._janitor.take(errand.name)

    async def log(self, target: Target, errand: Errand) -> str:
        """What the main container wrote, without its last line's end."""
        with told(target, self.origin):
            lines = self._client.log(errand.name, namespace=self.origin.namespace, container=MAIN, newlines=False)
            return "\n".join([line async for line in lines])

    async def close(self) -> None:
        await self._janitor.close()
        await self.pods.close()

    async def _make(self, target: Target, errand: Errand) -> None:
        """The pod, and then what it waits for: a Secret without its pod would be left by whoever dies in between."""
        secret = None if errand.in_pod else errand.secret(self.origin)
        with told(target, self.origin):
            pod = await self._create(errand)
            if secret is not None and pod.metadata is not None:
                secret["metadata"]["ownerReferences"][0]["uid"] = pod.metadata.uid
                await self._client.create(_made(Secret, secret))

    async def _create(self, errand: Errand) -> Pod:
        """With the priority that keeps it from being evicted, as long as the namespace permits it."""
        try:
            return await self._client.create(_made(Pod, errand.pod(self.origin, critical=self._critical)))
        except ApiError as error:
            if not (
                self._critical and error.status.code == FORBIDDEN and "priorit" in str(error.status.message).lower()
            ):
                raise
        self._critical = False
        return await self._client.create(_made(Pod, errand.pod(self.origin, critical=False)))

    async def _wait(self, errand: Errand, container: str) -> Ended:
        """Wait for a container's end."""
        now, where = asyncio.get_running_loop().time, f"node {errand.node}"
        deadline, known, started, pull, why = now() + START_TIMEOUT, False, False, "", "nothing was heard of it"
        while True:
            revision, pod = self.pods.revision, self.pods.get(errand.name, self.origin.namespace)
            if pod is None and known:
                raise NodeUnreachable("its pod was deleted by somebody else", where=where, remedy="it is tried again")
            if pod is not None:
                known, pull, why = True, pull_failure(pod) or pull, why_waiting(pod)
                if (end := ended(pod, container, pull)) is not None:
                    return end
                if not started and has_started(pod):
                    started, deadline = True, now() + errand.seconds + LATE
            try:
                async with asyncio.timeout(deadline - now()):
                    await self.pods.changed(revision)
            except TimeoutError:
                late = "has not ended in time" if started else f"does not start: {why}"
                raise NodeUnreachable(f"its pod {late}", where=where, remedy="look at the node's kubelet") from None


def _made(kind: type[K], manifest: Json) -> K:
    made: Any = kind.from_dict(manifest)
    return cast("K", made)


@contextmanager
def told(target: Target, origin: Origin) -> Iterator[None]:
    """What the API server says to a request becomes the node's error."""
    where = f"node {target.name}"
    try:
        with errors(f"pods of namespace {origin.namespace}"):
            yield
    except ClusterRefused as error:
        raise NodeRefused(error.what, where=where, remedy=_remedy(error, origin)) from None
    except ClusterError as error:
        raise NodeUnreachable(error.what, where=where, remedy=error.remedy) from None


def _remedy(error: ClusterRefused, origin: Origin) -> str:
    if "PodSecurity" in error.what:
        return f"kubectl label namespace {origin.namespace} pod-security.kubernetes.io/enforce=privileged"
    if "security context constraint" in error.what:
        return f"let the service accounts of namespace {origin.namespace} use the SCC privileged"
    if "namespaces" in error.what and "not found" in error.what:
        return f"kubectl create namespace {origin.namespace}"
    return error.remedy
