"""Which pods of a node an eviction is for, and how one ends. The rules are those of `kubectl drain`.

A pod is left where it would come back to this very node (of a DaemonSet, of the node's own files), or where it is ours.
A finished one goes like any other.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from lightkube import ApiError, AsyncClient
from lightkube.models.meta_v1 import DeleteOptions, ObjectMeta, OwnerReference, Preconditions
from lightkube.resources.core_v1 import Pod, PodEviction

from reconciler.kubernetes.client import delete_with, errors, refusal
from reconciler.kubernetes.pod_spec import MANAGED_BY

OURS = "reconciler"
MIRROR = "kubernetes.io/config.mirror"
"""Annotation of the API's picture of a static pod, which the node runs from its own files."""

FINISHED = ("Succeeded", "Failed")
BUDGET = "DisruptionBudget"
TERMINATING = "NamespaceTerminating"
SEVERAL = "more than one PodDisruptionBudget"
"""In the message (and nowhere else) of the answer 500 to the eviction of a pod that several budgets select."""


@dataclass(frozen=True)
class Verdict:
    """What becomes of a pod: it is left, evicted, waited for (it is on its way), or keeps the node from being drained
    (`refuse`) because the pool's settings say so. `why` is for people."""

    fate: Literal["leave", "evict", "wait", "refuse"]
    why: str = ""


@dataclass(frozen=True)
class Tried:
    """How one eviction ended: the pod is on its way, a budget keeps it (`kept`), somebody else does (`held`: an
    admission webhook, or the API server is busy), or it changed meanwhile (`later`). `said`: what the API server said;
    `after`: seconds that it wants to be left alone."""

    pod: Pod
    outcome: Literal["going", "kept", "held", "later"]
    said: str = ""
    after: float = 0.0


def name_of(pod: Pod) -> str:
    """`namespace/name`."""
    metadata = _metadata(pod)
    return f"{metadata.namespace}/{metadata.name}"


def controller_of(metadata: ObjectMeta | None) -> OwnerReference | None:
    """The owner that starts an object anew where it is missing."""
    owners = (metadata.ownerReferences if metadata else None) or ()
    return next((owner for owner in owners if owner.controller), None)


def judge(pod: Pod, settings: Mapping[str, Any]) -> Verdict:
    """What a drain with these settings (a pool's spec.drain) does with a pod of the node."""
    metadata, controller = _metadata(pod), controller_of(pod.metadata)
    finished = bool(pod.status and pod.status.phase in FINISHED)
    if (metadata.labels or {}).get(MANAGED_BY) == OURS:
        return Verdict("leave", "it is reconciler's own")
    if MIRROR in (metadata.annotations or {}):
        return Verdict("leave", "the node runs it from its own files")
    if controller and controller.kind == "DaemonSet" and not finished:
        return Verdict("leave", "a DaemonSet would start it here again")
    if metadata.deletionTimestamp:
        return Verdict("wait")
    if finished:
        return Verdict("evict", "it has finished")
    scratch = [volume.name for volume in (pod.spec.volumes if pod.spec else None) or () if volume.emptyDir is not None]
    if scratch and settings["emptyDir"] == "abort":
        return Verdict("refuse", f"it would lose its emptyDir volume {scratch[0]} (drain.emptyDir: abort)")
    if controller is None and settings["unmanaged"] == "abort":
        return Verdict("refuse", "nothing would start it elsewhere (drain.unmanaged: abort)")
    return Verdict("evict")


async def evict(client: AsyncClient, pod: Pod, grace: int | None) -> Tried:
    """Ask for the pod to be evicted: this one, not one of the same name. Raises ClusterError."""
    metadata = _metadata(pod)
    options = DeleteOptions(gracePeriodSeconds=grace, preconditions=Preconditions(uid=metadata.uid))
    wanted = PodEviction(metadata=ObjectMeta(name=metadata.name, namespace=metadata.namespace), deleteOptions=options)
    asked = f"eviction of pod {name_of(pod)}"
    with errors(asked):
        try:
            await client.create(wanted, str(metadata.name), namespace=metadata.namespace)
        except ApiError as error:
            return _tried(pod, error, asked)
    return Tried(pod, "going")


async def delete(client: AsyncClient, pod: Pod, grace: int | None) -> bool:
    """Delete the pod, this one and not one of the same name, whatever protects it; False where it is gone already.
    Raises ClusterError."""
    metadata = _metadata(pod)
    options = {"preconditions": {"uid": metadata.uid}, **({} if grace is None else {"gracePeriodSeconds": grace})}
    with errors(f"deletion of pod {name_of(pod)}"):
        try:
            await delete_with(client, Pod, metadata.name, metadata.namespace, options)
        except ApiError as error:
            if error.status.code not in (404, 409):
                raise
            return False
    return True


def _tried(pod: Pod, error: ApiError, asked: str) -> Tried:
    """What a refused eviction means. Raises ClusterError for what no pod is to blame for."""
    status, said = error.status.code, str(error.status.message or "")
    causes = {cause.reason for cause in (error.status.details.causes if error.status.details else None) or ()}
    if status == 404:
        return Tried(pod, "going")
    if (status == 429 and BUDGET in causes) or (status == 500 and SEVERAL in said):
        return Tried(pod, "kept", said, retry_after(error))
    if status == 429:
        return Tried(pod, "held", said, retry_after(error))
    if status == 409 or (status == 403 and TERMINATING in causes):
        return Tried(pod, "later", said)
    raise refusal(error, asked) from None


def retry_after(error: ApiError) -> float:
    """Seconds after which the API server wants to be asked again; 0 where it did not say."""
    told = str(error.response.headers.get("Retry-After", ""))
    details = error.status.details
    return float(told) if told.isdecimal() else float((details.retryAfterSeconds if details else None) or 0)


def _metadata(pod: Pod) -> ObjectMeta:
    return pod.metadata or ObjectMeta()
