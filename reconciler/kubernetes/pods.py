"""Nodes through the Kubernetes API: each request is carried out by a pod bound to the node; no exec, no agent.

A node is looked at only when something may have happened there: at first, around its changes, when its Node object
says so, and when the last look is old. Else what was seen is answered again, and the cluster is not asked at all.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import gzip
import hashlib
import secrets
import zlib
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from typing import Any

from lightkube.resources.core_v1 import Node, Pod

from reconciler.errors import NodeError, NodeFault, NodeUnreachable
from reconciler.kubernetes.connection import Connection
from reconciler.kubernetes.janitor import LOOKS, Living, owner_of, verb_of
from reconciler.kubernetes.looks import Memory
from reconciler.kubernetes.pod_runner import PodRunner, told
from reconciler.kubernetes.pod_spec import CONFIRMER, OBSERVER, Errand, Origin, order
from reconciler.kubernetes.pod_status import Ended, times_ended
from reconciler.kubernetes.watch import Mirror
from reconciler.ports import (
    HELPER_CHECK,
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
    StepRequest,
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
    unheard,
)

VERB_SECONDS = 300
"""Seconds of a pod, the pull of its image included; health checks, restarts, hooks and confirmations have their own
time on top."""

GRACE = 30
"""Seconds after which a change that nobody confirmed is undone by its pod, should the node's own timer be gone."""

MCO = "machineconfiguration.openshift.io/currentConfig"
"""Annotation of Nodes that the Machine Config Operator manages."""


class PodTransport:
    """ports.Transport of one fleet's cluster. `nodes` gives its Nodes, watched by the caller. `look_interval`: seconds
    after which a look is too old to be answered again; 0: never."""

    def __init__(
        self,
        connection: Connection,
        nodes: Callable[[], Mirror[Node]],
        origin: Origin,
        living: Living,
        look_interval: float,
    ) -> None:
        self._connection, self._nodes, self._origin, self._living = connection, nodes, origin, living
        self._interval = look_interval
        self._memory = Memory()
        self._runner: PodRunner | None = None
        self._waiting: dict[str, tuple[str, Errand, ObserveRequest]] = {}
        """Node → the step whose pod waits for a confirmation, that pod, and at what it looks then."""

        self._following: asyncio.Task[None] | None = None

    # --- Looks ------------------------------------------------------------------------------------------------------

    async def observe(self, target: Target, request: ObserveRequest) -> Observation:
        stamp = _stamp(await self._node(target))
        if self._runner is not None:
            await self._runner.sweep()
        known = self._memory.answer(_name(target), request, self._since, stamp)
        if known is not None:
            return known
        began, changes = self._now, self._memory.changes(_name(target))
        seen = decode_observation(await self._look(target, observe_call(request)), request, target)
        if changes == self._memory.changes(_name(target)):
            self._memory.keep(_name(target), request, seen, began, stamp)
        return seen

    async def images(self, target: Target, request: ImagesRequest) -> NodeImages:
        await self._node(target)
        return decode_images(await self._look(target, images_call(request)), target)

    async def _look(self, target: Target, call: Call) -> bytes:
        runner, errand = self._opened(target), self._errand(target, call)
        end = await runner.run(target, errand)
        try:
            form, _, rest = _answer(target, end).decode(errors="replace").partition(" ")
            if form != "log":
                return _unpacked(target, rest)
            text = await runner.log(target, errand)
        finally:
            runner.take(errand)
        if hashlib.sha256(text.encode()).hexdigest() != rest:
            what = f"the pod's log is not what it wrote: {len(text)} characters arrived"
            remedy = "see that nothing rotates container logs at once"
            raise NodeFault(what, where=f"node {target.name}", remedy=remedy)
        return _unpacked(target, text)

    # --- Steps ------------------------------------------------------------------------------------------------------

    async def apply(self, target: Target, request: ApplyRequest) -> Receipt:
        receipt = await self._apply(target, request)
        if receipt.reason == "unhealthy-before" and receipt.check == HELPER_CHECK:
            # an image that could not be pulled before says nothing about the change
            health = tuple(check for check in request.health if check.name != HELPER_CHECK)
            receipt = await self._apply(target, replace(request, health=health))
        return receipt

    async def _apply(self, target: Target, request: ApplyRequest) -> Receipt:
        call = apply_call(request)
        if not request.confirm:
            return await self._step(target, request, call)
        after = self._seen_after(target, request)
        errand = self._errand(target, call, request.step, observe_call(after), request.confirm)
        try:
            receipt = await self._step(target, request, call, errand)
        except NodeError:
            self._opened(target).take(errand)
            raise
        if receipt.result == "applied" and receipt.confirm_by:
            self._waiting[target.name] = request.step, errand, after
        else:
            self._opened(target).take(errand)
        return receipt

    async def revert(self, target: Target, request: RevertRequest) -> Receipt:
        return await self._step(target, request, revert_call(request))

    async def release(self, target: Target, request: ReleaseRequest) -> Receipt:
        return await self._step(target, request, release_call(request))

    async def confirm(self, target: Target, request: ConfirmRequest) -> Receipt:
        """By the pod of the change, for the node may be unable to start another; where it is gone, by a new one."""
        call = confirm_call(request)
        step, errand, after = self._waiting.pop(target.name, ("", None, None))
        if step == request.step and errand and after:
            receipt = await self._order(target, request, call, errand, after)
            if receipt is not None:
                return receipt
        return await self._step(target, request, call)

    async def _order(
        self, target: Target, request: ConfirmRequest, call: Call, errand: Errand, after: ObserveRequest
    ) -> Receipt | None:
        """The receipt; None where the pod waits no longer."""
        stamp = _stamp(await self._node(target))
        self._memory.change(_name(target))
        try:
            end = await self._opened(target).order(target, errand, order(call), CONFIRMER)
            output, _, looked = _answer(target, end).partition(b"\n")
        except NodeError:
            return None
        if not output:
            return None  # its time was over first
        receipt = decode_receipt(output + b"\n", request, target)
        form, _, packed = looked.decode(errors="replace").partition(" ")
        if form == "gzip":
            with suppress(NodeError):  # then the next look is made by a pod of its own
                seen = decode_observation(_unpacked(target, packed), after, target)
                self._memory.keep(_name(target), after, seen, self._now, stamp)
        return receipt

    async def hook(self, target: Target, request: HookRequest) -> HookResult:
        await self._node(target)
        errand = self._errand(target, hook_call(request), request.step)
        self._memory.change(_name(target))
        try:
            return decode_hook(_answer(target, await self._opened(target).run(target, errand)), target)
        finally:
            self._memory.change(_name(target))

    async def close(self) -> None:
        if self._following is not None:
            self._following.cancel()
        if self._runner is not None:
            await self._runner.close()

    async def _step(self, target: Target, request: StepRequest, call: Call, errand: Errand | None = None) -> Receipt:
        node = await self._node(target)
        if MCO in (node.metadata.annotations or {}):
            return unheard(request, "refused", "mco", "the Machine Config Operator manages this node")
        errand = errand or self._errand(target, call, request.step)
        self._memory.change(_name(target))
        try:
            return decode_receipt(_answer(target, await self._opened(target).run(target, errand)), request, target)
        finally:
            self._memory.change(_name(target))

    # --- Parts ------------------------------------------------------------------------------------------------------

    def _errand(self, target: Target, call: Call, step: str = "", look: Call | None = None, confirm: int = 0) -> Errand:
        wait = confirm + GRACE if look else 0
        seconds = VERB_SECONDS + call.patience + (wait + VERB_SECONDS if look else 0)
        name = f"reconciler-{secrets.token_hex(8)}"
        return Errand(name, _name(target), call, seconds, step, look, wait)

    def _opened(self, target: Target) -> PodRunner:
        """What runs pods; made when it is first needed."""
        if self._runner is None:
            with told(target, self._origin):
                self._runner = PodRunner(self._connection.client(), self._origin, self._living)
            self._following = asyncio.create_task(self._follow(self._runner.pods), name=f"pods of {target.fleet}")
        return self._runner

    async def _node(self, target: Target) -> Any:
        """The Node object. Raises NodeUnreachable where a pod could not start there."""
        name, where = _name(target), f"node {target.name}"
        with told(target, self._origin):
            nodes = self._nodes()
            await nodes.synced()
            if nodes.failure is not None:
                raise nodes.failure  # what happens there is not told now
            node = nodes.get(name)
        if node is None:
            remedy = "set spec.nodeName of its Node document to a name that `kubectl get nodes` shows"
            raise NodeUnreachable(f"the cluster has no Node {name}", where=where, remedy=remedy)
        ready = _ready(node)
        if ready is not None and ready.status == "Unknown":
            said = f"its kubelet is silent: {ready.reason}: {ready.message}"
            raise NodeUnreachable(said, where=where, remedy="it is tried again when the Node object changes")
        return node

    def _seen_after(self, target: Target, request: ApplyRequest) -> ObserveRequest:
        """The look with which the change ends: at what was looked at before, and at what was changed."""
        paths = {*(file.path for file in request.files), *request.restore, *request.remove}
        look = self._memory.nearest(_name(target), paths)
        known = dict.fromkeys(paths, "")
        if look is not None and look.request.runtime == request.runtime:
            seen = look.observation.files
            known |= {path: seen[path].sha256 or before for path, before in look.request.known.items()}
        known |= {file.path: file.sha256 for file in request.files}
        return ObserveRequest(request.log_id, request.runtime, known)

    async def _follow(self, pods: Mirror[Pod]) -> None:
        """What others write to a node makes its looks out of date; so do observers, and what may have been missed."""
        revision, known = pods.revision, set[tuple[str, str]]()
        while True:
            revision = await pods.changed(revision)
            if pods.failure is not None:
                self._memory.change_all()
                continue
            signs = {sign for pod in pods.items() if (sign := self._sign(pod))}
            for node in {node for node, _ in signs ^ known}:
                self._memory.change(node)
            known = signs

    def _sign(self, pod: Any) -> tuple[str, str] | None:
        """The node on which a pod is, and what changes when something happened there; None where it tells nothing."""
        if OBSERVER in pod.metadata.labels:
            return str(pod.spec.nodeName), f"{pod.metadata.uid} {times_ended(pod)}"
        own = self._origin.owns(pod) and owner_of(pod) == self._origin.owner
        if own or verb_of(pod) in LOOKS:
            return None
        return str(pod.spec.nodeName), f"{pod.metadata.uid} {pod.status.phase if pod.status is not None else ''}"

    @property
    def _now(self) -> float:
        return asyncio.get_running_loop().time()

    @property
    def _since(self) -> float:
        return self._now - self._interval if self._interval else 0.0


def _name(target: Target) -> str:
    """Of its Node object."""
    return target.node_name or target.name


def _answer(target: Target, end: Ended) -> bytes:
    """What node.sh said. Raises what is wrong where it said nothing."""
    output, complaint = (end.message, b"") if end.status == 0 else (b"", end.message)
    check_answered(target, end.status, output, complaint)
    return output


def _unpacked(target: Target, packed: str) -> bytes:
    try:
        return gzip.decompress(base64.b64decode(packed, validate=True))
    except (binascii.Error, OSError, EOFError, zlib.error):
        raise NodeFault("the pod's message is cut or damaged", where=f"node {target.name}") from None


def _ready(node: Any) -> Any:
    conditions = (node.status.conditions if node.status is not None else None) or ()
    return next((condition for condition in conditions if condition.type == "Ready"), None)


def _stamp(node: Any) -> object:
    """Changes when the node was started again, or its kubelet away."""
    info = node.status.nodeInfo if node.status is not None else None
    ready = _ready(node)
    since = (ready.status, str(ready.lastTransitionTime)) if ready is not None else ()
    return node.metadata.uid, info.bootID if info is not None else "", since
