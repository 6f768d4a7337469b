"""The node protocol, version 1: requests as bytes for node.sh, its one-line answers as values.

Pure. The form is described in docs/reference/node-protocol.md; nodes in the field keep programs and receipts of this
version, so it never changes: another form is another protocol number.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
import re
import zlib
from collections.abc import Mapping, Sequence
from typing import Any, get_args

from reconciler.errors import NodeError, NodeFault, NodeRefused, NodeUnreachable
from reconciler.ports import (
    ABSENT,
    PROTOCOL,
    ApplyRequest,
    ConfirmRequest,
    HookRequest,
    HookResult,
    ImagesRequest,
    LogHead,
    NodeImages,
    Observation,
    ObservedFile,
    ObserveRequest,
    Owner,
    Receipt,
    ReceiptResult,
    ReleaseRequest,
    RevertRequest,
    StepRequest,
    Target,
)
from reconciler.transport.call import Call, Verb
from reconciler.transport.header import check_lines, checked, heading, hook_lines, readable
from reconciler.transport.listing import images_in_use, may_be_asked

RECEIPT_LIMIT = 4096
"""Bytes of a receipt on the wire, its newline included."""

CONTENT_LIMIT = 1024 * 1024
"""Bytes from which a file's content is no longer sent by observe."""

LISTING_LIMIT = 2 * 16 * 1024 * 1024 + 64
"""Bytes of both lists, of containers and of images, and of what is around them."""

FAILURES = frozenset(
    {"payload", "missing-program", "busy", "disk-full", "read-only", "permission", "write-failed", "unreadable"}
)
"""Reasons of an `error` answer that time may cure; any other one waits for a person."""

_RESULTS: tuple[ReceiptResult, ...] = get_args(ReceiptResult)

# --- Requests -------------------------------------------------------------------------------------------------------


def observe_call(request: ObserveRequest) -> Call:
    """Raises NodeRefused for a path that no node would accept."""
    lines = [f"log_id {request.log_id}", f"runtime {request.runtime}", *(["also images"] if request.images else ())]
    lines += [f"observe {known or '-'} {readable(path)}" for path, known in sorted(request.known.items())]
    return _call("observe", lines)


def images_call(request: ImagesRequest) -> Call:
    return _call("images", [f"log_id {request.log_id}", f"runtime {request.runtime}"])


def apply_call(request: ApplyRequest) -> Call:
    """Raises NodeRefused for what no node would accept (header.py), and for a path that stands twice."""
    lines = heading(request)
    if request.start:
        lines.append(f"start {request.start}")
    if request.confirm:
        lines.append(f"confirm {request.confirm}")
    if request.act:
        lines.append("act always")
    lines += check_lines(request.health)
    paths = [*(file.path for file in request.files), *request.restore, *request.remove]
    if len(set(paths)) != len(paths):
        raise NodeRefused("a path stands twice in the request")
    bodies: list[bytes] = []
    offset = 0
    for file in sorted(request.files, key=lambda file: file.path):
        if request.start and file.path in request.same:
            lines.append(f"same {file.mode:04o} {file.sha256} {checked(file.path)}")
            continue
        lines.append(f"file {file.mode:04o} {file.sha256} {offset} {len(file.content)} {checked(file.path)}")
        bodies.append(file.content)
        offset += len(file.content)
    lines += [f"restore {checked(path)}" for path in sorted(request.restore)]
    lines += [f"remove {checked(path)}" for path in sorted(request.remove)]
    return _call("apply", lines, bodies, request.patience)


def revert_call(request: RevertRequest) -> Call:
    return _call("revert", heading(request))


def confirm_call(request: ConfirmRequest) -> Call:
    return _call("confirm", heading(request))


def release_call(request: ReleaseRequest) -> Call:
    return _call("release", [*heading(request), f"baseline {'restore' if request.restore else 'keep'}"])


def hook_call(request: HookRequest) -> Call:
    """Raises NodeRefused for a command that cannot be handed to a program."""
    return _call("hook", hook_lines(request), patience=request.patience)


def _call(verb: Verb, lines: Sequence[str], bodies: Sequence[bytes] = (), patience: int = 0) -> Call:
    return Call(verb, "".join(f"{line}\n" for line in [*lines, ""]).encode(), tuple(bodies), patience)


# --- Answers --------------------------------------------------------------------------------------------------------


def decode_observation(output: bytes, request: ObserveRequest, target: Target, host_key: str = "") -> Observation:
    """Raises NodeRefused or NodeFault for an `error` answer, NodeFault for anything that is no answer."""
    answer = _Answer(output, target)
    if answer.error:
        raise answer.refusal()
    found = {file.path: file for file in (_file(answer.at(item)) for item in answer.items("files"))}
    if found.keys() != request.known.keys():
        raise answer.malformed("files")
    owner, released, images = (answer.inner(name) for name in ("owner", "released", "images"))
    return Observation(
        machine_id=answer.text("machine_id"),
        boot_id=answer.text("boot_id"),
        runtime_version=answer.text("runtime_version"),
        unit=answer.text("unit"),
        active=answer.text("active"),
        owner=_owner(owner) if owner else None,
        mco=answer.flag("mco"),
        hold=answer.text("hold"),
        files=found,
        present=tuple(sorted(answer.names("present"))),
        effective=dict(sorted(_effective(answer))),
        os=answer.text("os"),
        host_key=host_key,
        pending=answer.text("pending"),
        reverted=answer.text("reverted"),
        loaded_since=answer.number("loaded_since"),
        images=_images(images) if images else None,
        released=_owner(released) if released else None,
    )


def decode_hook(output: bytes, target: Target) -> HookResult:
    """Raises NodeRefused or NodeFault for an `error` answer, NodeFault for anything that is no answer."""
    answer = _Answer(output, target)
    if answer.error:
        raise answer.refusal()
    return HookResult(answer.number("status"), answer.encoded("output").decode(errors="replace"))


def decode_images(output: bytes, target: Target) -> NodeImages:
    """Raises NodeRefused or NodeFault for an `error` answer, NodeFault for anything that is no answer."""
    answer = _Answer(output, target)
    if answer.error:
        raise answer.refusal()
    return _images(answer)


def _images(answer: _Answer) -> NodeImages:
    note = "".join(filter(str.isprintable, answer.text("detail")))
    pause = answer.text("pause")
    try:
        used = () if note else images_in_use(**answer.unpacked("lists"))
    except (TypeError, ValueError):
        raise answer.malformed("lists") from None
    return NodeImages(used, pause if may_be_asked(pause) else "", note)


def decode_receipt(output: bytes, request: StepRequest, target: Target) -> Receipt:
    """The receipt; an `error` answer becomes one that is `failed` or `refused`. Raises NodeFault for no answer."""
    answer = _Answer(output, target)
    if answer.error:
        return unheard(
            request, "failed" if answer.error in FAILURES else "refused", answer.error, answer.text("detail")
        )
    if answer.text("step") != request.step or len(output) > RECEIPT_LIMIT:
        raise answer.malformed("step")
    return Receipt(
        result=answer.result(),
        step=request.step,
        log_id=answer.text("log_id"),
        epoch=answer.number("epoch"),
        fence=answer.number("fence"),
        generation=answer.number("generation"),
        machine_id=answer.text("machine_id"),
        boot_id=answer.text("boot_id"),
        manifest=answer.text("manifest"),
        written=answer.paths("written"),
        restored=answer.paths("restored"),
        more=answer.number("more"),
        unit=answer.text("unit"),
        active=answer.text("active"),
        healthy_before=answer.flag("healthy_before"),
        loaded=None if answer.data.get("loaded") is None else answer.flag("loaded"),
        action=answer.text("action"),
        reason=answer.text("reason"),
        detail=answer.text("detail"),
        check=answer.text("check", ""),
        confirm_by=answer.number("confirm_by", 0),
    )


def unheard(request: StepRequest, result: ReceiptResult, reason: str, detail: str) -> Receipt:
    """The receipt of a request that the node could not take: nothing about the node is known."""
    return Receipt(
        result, request.step, request.log_id, request.epoch, request.fence, 0, "", "", "", reason=reason, detail=detail
    )


def check_answered(target: Target, status: int | None, output: bytes, complaint: bytes) -> None:
    """Raises what is wrong when a call ended with `status` (None: unknown) and without an answer."""
    if status == 0 and output:
        return
    said = complaint.decode(errors="replace").strip().replace("\n", "; ")[-300:]
    where = f"node {target.name}"
    if "a password is required" in said or "not in the sudoers" in said or "not allowed to" in said:
        raise NodeRefused(f"sudo refused: {said}", where=where, remedy="allow sudo -n without a password")
    if status is None:
        raise NodeUnreachable("the connection was lost before the answer", where=where)
    if status < 0 or status > 128:
        raise NodeUnreachable("node.sh was killed before its answer", where=where)
    raise NodeFault(f"node.sh ended with status {status} and no answer: {said or 'it said nothing'}", where=where)


class _Answer:
    """One JSON line of a node, every field checked for its type when it is asked for."""

    def __init__(self, output: bytes, target: Target, data: Mapping[str, Any] | None = None) -> None:
        self._output = output
        self.target = target
        self.data: Mapping[str, Any] = self._parsed() if data is None else data
        self.error: str = self.text("error") if "error" in self.data else ""

    def _parsed(self) -> Mapping[str, Any]:
        try:
            data = json.loads(self._output.decode(errors="replace"))
        except ValueError:
            raise self.malformed("JSON") from None
        if not isinstance(data, dict) or data.get("protocol") != PROTOCOL:
            raise self.malformed("protocol")
        return data

    def malformed(self, field: str) -> NodeFault:
        start = self._output[:80].decode(errors="replace")
        return NodeFault(f"the answer of node.sh has no valid {field}: {start!r}", where=f"node {self.target.name}")

    def refusal(self) -> NodeError:
        kind = NodeFault if self.error in FAILURES else NodeRefused
        return kind(f"{self.error}: {self.text('detail')}", where=f"node {self.target.name}")

    def at(self, data: Any) -> _Answer:
        if not isinstance(data, dict):
            raise self.malformed("object")
        return _Answer(self._output, self.target, data)

    def inner(self, field: str) -> _Answer | None:
        return None if self.data.get(field) is None else self.at(self.data[field])

    def _typed(self, field: str, kind: type, default: Any = None) -> Any:
        value = self.data.get(field, default)
        if type(value) is not kind:
            raise self.malformed(field)
        return value

    def text(self, field: str, default: str | None = None) -> str:
        """`default` is for fields that older programs did not send."""
        return str(self._typed(field, str, default))

    def number(self, field: str, default: int | None = None) -> int:
        return int(self._typed(field, int, default))

    def flag(self, field: str) -> bool:
        return bool(self._typed(field, bool))

    def result(self) -> ReceiptResult:
        for known in _RESULTS:
            if self.data.get("result") == known:
                return known
        raise self.malformed("result")

    def items(self, field: str) -> Sequence[Any]:
        return list(self._typed(field, list))

    def paths(self, field: str) -> tuple[str, ...]:
        paths = self.items(field)
        if not all(isinstance(path, str) for path in paths):
            raise self.malformed(field)
        return tuple(paths)

    def encoded(self, field: str) -> bytes:
        try:
            return base64.b64decode(self.text(field), validate=True)
        except binascii.Error:
            raise self.malformed(field) from None

    def unpacked(self, field: str) -> Any:
        """JSON, gzipped. Raises ValueError for anything else."""
        try:
            data = zlib.decompressobj(zlib.MAX_WBITS | 16).decompress(self.encoded(field), LISTING_LIMIT)
        except zlib.error as error:
            raise ValueError(str(error)) from error
        return json.loads(data)

    def names(self, field: str) -> Sequence[str]:
        """Names ended by NUL, of any bytes; what is no UTF-8 is shown as `\\xNN`."""
        return [name.decode(errors="backslashreplace") for name in self.encoded(field).split(b"\0")[:-1]]


def _owner(answer: _Answer) -> Owner:
    numbers = (answer.number("epoch"), answer.number("fence"), answer.number("generation"))
    head = LogHead(answer.number("head", 0), answer.text("head_hash", ""))
    return Owner(answer.text("log_id"), *numbers, answer.text("step"), head)


def _effective(answer: _Answer) -> Sequence[tuple[str, str]]:
    return [(path, state) for state, _, path in (name.partition(" ") for name in answer.names("effective"))]


def _file(answer: _Answer) -> ObservedFile:
    path, kind = answer.text("path"), answer.text("kind")
    if kind not in ("file", ABSENT, "symlink", "directory", "other"):
        raise answer.malformed("kind")
    if kind != "file":
        return ObservedFile(path, kind)
    digest, mode = answer.text("sha256"), answer.text("mode")
    content = answer.encoded("content") if "content" in answer.data else None
    if not re.fullmatch("[0-9a-f]{64}", digest) or not re.fullmatch("[0-7]{4}", mode):
        raise answer.malformed("sha256 or mode")
    if content is not None and hashlib.sha256(content).hexdigest() != digest:
        raise NodeFault(f"{path} changed while it was read", where=f"node {answer.target.name}")
    uid, gid, size, mtime = (answer.number(name) for name in ("uid", "gid", "size", "mtime"))
    return ObservedFile(path, kind, digest, int(mode, 8), uid, gid, size, mtime, content, answer.text("package", ""))
