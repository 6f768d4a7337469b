"""Cordon, drain and uncordon through the Kubernetes API (`drain.via: kubernetes`).

Every verb is one look at the cluster and what follows from it, so it may be repeated, by anybody: what a turn has done
stands on the Node and its pods. Pauses are the caller's.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from datetime import timedelta
from typing import TypeVar

from lightkube import ApiError, AsyncClient
from lightkube.resources.core_v1 import Node, Pod
from lightkube.types import PatchType

from reconciler.errors import ClusterError, ClusterRefused
from reconciler.kubernetes.budgets import Budgets
from reconciler.kubernetes.client import PAGE, errors
from reconciler.kubernetes.eviction import Tried, delete, evict, judge, name_of
from reconciler.kubernetes.nodes import CORDONED_BY
from reconciler.ports import Blocker, Clock, DrainAnswer, DrainTask

PATCH_TRIES = 5
"""How often a patch is made anew because the Node changed meanwhile: its kubelet and controllers write to it, too."""

CALLS = 32
"""Calls under way at once, of all nodes together. A queue of calls passes; what a budget keeps waits outside of it."""

CALLS_PER_NODE = 8
"""Of these, the most of one node: one with many pods leaves others their turn."""

STUCK = timedelta(seconds=60)
"""How long after its grace period a pod that still is there counts as one that does not end."""

SHOWN = 3
"""Pods that a sentence names; it counts all."""

DONE = DrainAnswer("done")

T = TypeVar("T")


class KubernetesDrainer:
    """ports.Drainer of one cluster. `connected` gives its client, or raises ClusterError. It keeps nothing but how many
    calls are under way."""

    def __init__(self, connected: Callable[[], AsyncClient], clock: Clock) -> None:
        self._connected = connected
        self._clock = clock
        self._calls = asyncio.Semaphore(CALLS)

    async def cordon(self, task: DrainTask) -> DrainAnswer:
        """Unschedulable and our mark, in one patch that does nothing if the Node changed since it was looked at."""
        return await self._answered(self._cordon(task, over=True))

    async def drain(self, task: DrainTask) -> DrainAnswer:
        """One round: keep it cordoned, evict what may be evicted, and say what is left."""
        return await self._answered(self._drain(task))

    async def uncordon(self, task: DrainTask) -> DrainAnswer:
        """The reverse of cordon, where our mark of this turn stands; else the node stays as it is."""
        return await self._answered(self._uncordon(task))

    @property
    def _client(self) -> AsyncClient:
        return self._connected()

    async def _answered(self, work: Awaitable[DrainAnswer]) -> DrainAnswer:
        try:
            return await work
        except ClusterRefused as error:
            return DrainAnswer("failed", f"{error.where}: {error.what}; {error.remedy}")
        except ClusterError as error:
            return DrainAnswer("again", f"{error.where}: {error.what}")

    # --- The Node -----------------------------------------------------------------------------------------------------

    async def _cordon(self, task: DrainTask, *, over: bool) -> DrainAnswer:
        """`over`: the turn begins here, and another step's mark is taken over; else that step has the node now, and an
        open node without our mark is one that was given back."""
        name = _node_name(task)
        for _ in range(PATCH_TRIES):
            node = await self._node(name)
            if node is None:
                said = f"the cluster has no node {name}: spec.nodeName of the Node document says how it is called there"
                return DrainAnswer("failed", said)
            mark, closed = _mark(node), _is_closed(node)
            if closed and mark in ("", task.mark):
                return DrainAnswer("done", "" if mark else "somebody else cordoned it")
            if closed and not over:
                return DrainAnswer("failed", f"another step has cordoned it ({mark})")
            if not over and mark != task.mark:  # `kubectl uncordon` leaves it; whoever ended the turn took it away
                return DrainAnswer("failed", "the turn is over: its mark is gone")
            if await self._patch(node, {CORDONED_BY: task.mark}, closed=True):
                return DONE
        return DrainAnswer("again", f"node {name} changed each time it was to be cordoned")

    async def _uncordon(self, task: DrainTask) -> DrainAnswer:
        name = _node_name(task)
        for _ in range(PATCH_TRIES):
            node = await self._node(name)
            if node is None:
                return DrainAnswer("done", kept=f"the cluster has no node {name}")
            mark, closed = _mark(node), _is_closed(node)
            if mark != task.mark:
                why = f"another step cordoned it ({mark})" if mark else "somebody else cordoned it"
                return DrainAnswer("done", kept=why if closed else "")
            if await self._patch(node, {CORDONED_BY: None}, closed=False):
                return DONE
        return DrainAnswer("again", f"node {name} changed each time it was to be uncordoned")

    async def _node(self, name: str) -> Node | None:
        with errors(f"node {name}"):
            async with self._calls:
                try:
                    return await self._client.get(Node, name)
                except ApiError as error:
                    if error.status.code == 404:
                        return None
                    raise

    async def _patch(self, node: Node, annotations: dict[str, str | None], *, closed: bool) -> bool:
        """Both at once, or False where the Node is not any more as it was read."""
        metadata = node.metadata
        if metadata is None or metadata.name is None:
            return False
        wanted = {"resourceVersion": metadata.resourceVersion, "annotations": annotations}
        patch = {"metadata": wanted, "spec": {"unschedulable": True if closed else None}}
        with errors(f"node {metadata.name}"):
            async with self._calls:
                try:
                    await self._client.patch(Node, metadata.name, patch, patch_type=PatchType.MERGE)
                except ApiError as error:
                    if error.status.code == 409:
                        return False
                    raise
        return True

    # --- Its pods -----------------------------------------------------------------------------------------------------

    async def _drain(self, task: DrainTask) -> DrainAnswer:
        cordoned = await self._cordon(task, over=False)
        if cordoned.state != "done":
            return cordoned
        judged = [(pod, judge(pod, task.settings)) for pod in await self._pods(_node_name(task))]
        budgets = Budgets(self._client)
        if refused := [(pod, verdict.why) for pod, verdict in judged if verdict.fate == "refuse"]:
            async with self._calls:
                blockers = [Blocker(name_of(pod), await budgets.owner(pod), why=why) for pod, why in refused]
            return DrainAnswer("failed", _said(blockers, (), ()), tuple(blockers))
        leaving = [pod for pod, verdict in judged if verdict.fate == "wait"]
        evicted = [pod for pod, verdict in judged if verdict.fate == "evict"]
        if not leaving and not evicted:
            return DONE
        grace = task.settings["gracePeriod"]
        tried = await self._each(evicted, lambda pod: evict(self._client, pod, grace))
        return await self._left(task, budgets, leaving, tried)

    async def _left(
        self, task: DrainTask, budgets: Budgets, leaving: Sequence[Pod], tried: Sequence[Tried]
    ) -> DrainAnswer:
        """What is left after a round, and what is waited for."""
        kept = [one for one in tried if one.outcome in ("kept", "held")]
        against = [one.pod for one in kept if one.outcome == "kept"] if task.force else []
        forced: tuple[str, ...] = ()
        if against:
            grace = task.settings["gracePeriod"]
            deleted = await self._each(against, lambda pod: delete(self._client, pod, grace))
            kept = [one for one in kept if one.outcome == "held"]
            forced = tuple(name_of(pod) for pod, done in zip(against, deleted, strict=True) if done)
        stuck = [pod for pod in leaving if self._is_stuck(pod)]
        async with self._calls:
            blockers = [await budgets.blocker(one) for one in kept]
            blockers += [Blocker(name_of(pod), await budgets.owner(pod), why=_unended(pod)) for pod in stuck]
        going = [name_of(one.pod) for one in tried if one.outcome == "going"]
        going += [*map(name_of, against), *(name_of(pod) for pod in leaving if pod not in stuck)]
        later = [f"pod {name_of(one.pod)}: {one.said}" for one in tried if one.outcome == "later"]
        after = max((one.after for one in tried), default=0.0)
        return DrainAnswer("again", _said(blockers, going, later), tuple(blockers), bool(going), after, forced)

    async def _pods(self, node: str) -> Sequence[Pod]:
        with errors(f"pods of node {node}"):
            async with self._calls:
                listed = self._client.list(Pod, namespace="*", fields={"spec.nodeName": node}, chunk_size=PAGE)
                return [pod async for pod in listed]

    async def _each(self, pods: Sequence[Pod], act: Callable[[Pod], Awaitable[T]]) -> list[T]:
        """Act on all pods, a few at a time; then raise what the first of them raised that did."""
        mine = asyncio.Semaphore(CALLS_PER_NODE)

        async def one(pod: Pod) -> T:
            async with mine, self._calls:
                return await act(pod)

        ends = await asyncio.gather(*map(one, pods), return_exceptions=True)
        done = []
        for end in ends:
            if isinstance(end, BaseException):
                raise end
            done.append(end)
        return done

    def _is_stuck(self, pod: Pod) -> bool:
        """Whether it should be gone for a while by now: deletionTimestamp is when its grace period ends."""
        end = pod.metadata.deletionTimestamp if pod.metadata else None
        return end is not None and self._clock.now() - end > STUCK


def _node_name(task: DrainTask) -> str:
    return task.target.node_name or task.target.name


def _mark(node: Node) -> str:
    return str(((node.metadata.annotations if node.metadata else None) or {}).get(CORDONED_BY, ""))


def _is_closed(node: Node) -> bool:
    return bool(node.spec and node.spec.unschedulable)


def _unended(pod: Pod) -> str:
    metadata = pod.metadata
    since = f"{metadata.deletionTimestamp:%H:%M:%SZ}" if metadata and metadata.deletionTimestamp else ""
    finalizers = ", ".join((metadata.finalizers if metadata else None) or ())
    return f"it should have ended at {since}" + (f", and has the finalizers {finalizers}" if finalizers else "")


def _said(blockers: Sequence[Blocker], going: Sequence[str], later: Sequence[str]) -> str:
    """What is left, in words: what blocks first."""
    parts = []
    if blockers:
        first, others = blockers[0], len(blockers) - 1
        owner = f" ({first.owner})" if first.owner else ""
        budget = f"PodDisruptionBudget {first.budget}: " if first.budget else ""
        parts.append(f"pod {first.pod}{owner}: {budget}{first.why}{f'; and {others} more pods' if others else ''}")
    if going:
        more = f" and {len(going) - SHOWN} more" if len(going) > SHOWN else ""
        parts.append(f"waits for pods to end: {', '.join(going[:SHOWN])}{more}")
    return "; ".join([*parts, *later[:1]])
