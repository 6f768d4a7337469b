"""What the API tells of a pod of ours: how its container ended, or why it never will."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from reconciler.errors import NodeRefused, NodeUnreachable

PULL_FAILED = "ErrImagePull"

NEVER_STARTS = frozenset({"InvalidImageName", "ErrImageNeverPull", "CreateContainerConfigError"})
"""Reasons of a waiting container that only another pod can mend."""

STARTS_LATER = frozenset({"ImagePullBackOff", "ImageInspectError", "RegistryUnavailable", "SignatureValidationFailed"})
"""Reasons that time may mend: not that of this request."""


@dataclass(frozen=True, slots=True)
class Ended:
    """How a container ended: exit status, and its termination message."""

    status: int
    message: bytes


def ended(pod: Any, container: str, told: str = "") -> Ended | None:
    """How a container ended, or None where it may still end.

    Raises NodeUnreachable or NodeRefused, with the reason in the kubelet's words, where it will not. `told` is what was
    said of pulling the image before.
    """
    where = f"node {pod.spec.nodeName}"
    for status in _statuses(pod):
        end = _terminated(status) if status.name == container else None
        if end and not _is_unknown(end) and (end.exitCode == 0 or not _reason(pod)):
            return Ended(int(end.exitCode), str(end.message or "").encode())
    if reason := _reason(pod):
        raise NodeUnreachable(f"its pod was ended: {reason}", where=where, remedy="it is tried again")
    for status in _statuses(pod):
        if status.name == container and (end := _terminated(status)):
            raise NodeUnreachable(f"its pod was lost: {end.reason}", where=where, remedy="it is tried again")
    for reason, message in _waiting(pod):
        said = f"its pod does not start: {reason}: {told or message}"
        if reason in NEVER_STARTS:
            raise NodeRefused(said, where=where, remedy="check fleets.*.helper_image")
        if reason in STARTS_LATER:
            raise NodeUnreachable(said, where=where, remedy="see that the node can pull fleets.*.helper_image")
    if pod.metadata.deletionTimestamp is not None:
        raise NodeUnreachable("its pod was deleted by somebody else", where=where, remedy="it is tried again")
    return None


def is_over(pod: Any, container: str) -> bool:
    """Whether the container does nothing any more, whatever became of it."""
    return has_ended(pod) or any(status.name == container and _terminated(status) for status in _statuses(pod))


def has_ended(pod: Any) -> bool:
    """Whether none of its containers does anything any more."""
    return bool(pod.status is not None and pod.status.phase in ("Succeeded", "Failed"))


def has_started(pod: Any) -> bool:
    """Whether a container ran."""
    return any(s.state is not None and (s.state.running or s.state.terminated) for s in _statuses(pod))


def pull_failure(pod: Any) -> str:
    """What the kubelet said when a pull of the image failed just now, or nothing."""
    return next((message for reason, message in _waiting(pod) if reason == PULL_FAILED), "")


def why_waiting(pod: Any) -> str:
    """Why no container runs, in the kubelet's words."""
    said = [f"{reason}: {message}" if message else reason for reason, message in _waiting(pod)]
    return "; ".join(dict.fromkeys(said)) or "its kubelet has said nothing of it"


def _statuses(pod: Any) -> Iterable[Any]:
    return (pod.status.containerStatuses if pod.status is not None else None) or ()


def _terminated(status: Any) -> Any:
    return status.state.terminated if status.state is not None else None


def _is_unknown(end: Any) -> bool:
    """Nobody saw how it ended."""
    return bool(end.reason == "ContainerStatusUnknown")


def _reason(pod: Any) -> str:
    """Why its kubelet, or who is in charge of a lost node, ended the pod; empty where it ended by itself."""
    if pod.status is None or pod.status.phase != "Failed" or not pod.status.reason:
        return ""
    return f"{pod.status.reason}: {pod.status.message}" if pod.status.message else str(pod.status.reason)


def _waiting(pod: Any) -> Iterator[tuple[str, str]]:
    for status in _statuses(pod):
        if status.state is not None and (waiting := status.state.waiting):
            yield str(waiting.reason or ""), str(waiting.message or "")
