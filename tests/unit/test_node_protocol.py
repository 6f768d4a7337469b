"""The node protocol's form, frozen: requests byte by byte, answers field by field."""

from __future__ import annotations

import base64
import gzip
import hashlib
import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reconciler.errors import NodeFault, NodeRefused, NodeUnreachable
from reconciler.ports import (
    ApplyRequest,
    ConfirmRequest,
    FileContent,
    HealthCheck,
    HookRequest,
    HookResult,
    ImagesRequest,
    NodeImages,
    ObserveRequest,
    Owner,
    ReleaseRequest,
    RevertRequest,
    Target,
)
from reconciler.transport.call import packed_program, program
from reconciler.transport.header import checked
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
)

TARGET = Target("default", "node-1", "ssh")
MAIN = "/etc/containers/registries.conf"
CA = "/etc/docker/certs.d/[::1]:5000/ca.crt"
HASH = hashlib.sha256(b"text\n").hexdigest()
APPLY = ApplyRequest(
    "log-1",
    2,
    7,
    "step-1",
    "crio",
    (FileContent(CA, b"ca"), FileContent(MAIN, b"text\n", 0o600)),
    ("/etc/containers/policy.json",),
    "a" * 64,
    ("reload:crio.service",),
)
REVERT = RevertRequest("log-1", 2, 7, "step-1", "podman")
OBSERVE = ObserveRequest("log-1", "crio", {MAIN: "", CA: "absent"})

RECEIPT: dict[str, Any] = {
    "protocol": 1, "result": "applied", "step": "step-1", "log_id": "log-1", "epoch": 2, "fence": 7, "generation": 3,
    "machine_id": "m", "boot_id": "b", "manifest": "f" * 64, "written": [MAIN], "restored": [], "more": 0,
    "unit": "crio.service", "active": "active", "healthy_before": True, "loaded": None,
    "action": "reload:crio.service", "reason": "", "detail": "", "check": "", "confirm_by": 0,
}  # fmt: skip
LATER = {"check": "", "confirm_by": 0}
"""Fields that the first programs did not send: stored receipts may lack them."""

FILE = {
    "path": MAIN, "kind": "file", "sha256": HASH, "mode": "0644", "uid": 0, "gid": 0, "size": 5, "mtime": 9,
    "content": base64.b64encode(b"text\n").decode(),
}  # fmt: skip
OBSERVATION: dict[str, Any] = {
    "protocol": 1, "machine_id": "m", "boot_id": "b", "os": "O", "runtime_version": "v", "unit": "u", "active": "a",
    "owner": {"log_id": "l", "epoch": 1, "fence": 2, "generation": 3, "step": "s"}, "mco": False, "hold": "",
    "present": base64.b64encode(b"/b\xff\0/a\0").decode(), "effective": base64.b64encode(b"unread /x y\0").decode(),
    "files": [FILE, {"path": CA, "kind": "absent"}], "pending": "s", "reverted": "", "loaded_since": 9,
}  # fmt: skip


def line(answer: object) -> bytes:
    return json.dumps(answer, ensure_ascii=False).encode() + b"\n"


def test_requests_have_the_documented_form() -> None:
    assert gzip.decompress(observe_call(OBSERVE).payload).decode() == (
        f"log_id log-1\nruntime crio\nobserve - {MAIN}\nobserve absent {CA}\n\n"
    )
    asked = ObserveRequest("log-1", "podman", {MAIN: ""}, images=True)
    assert gzip.decompress(observe_call(asked).payload).decode() == (
        f"log_id log-1\nruntime podman\nalso images\nobserve - {MAIN}\n\n"
    )
    heading = "log_id log-1\nepoch 2\nfence 7\nstep step-1\n"
    assert gzip.decompress(revert_call(REVERT).payload).decode() == f"{heading}runtime podman\n\n"
    digest = hashlib.sha256(b"ca").hexdigest()
    assert gzip.decompress(apply_call(APPLY).payload).decode() == (
        f"{heading}runtime crio\naction reload:crio.service\nstart {'a' * 64}\n"
        f"file 0600 {HASH} 0 5 {MAIN}\nfile 0644 {digest} 5 2 {CA}\nrestore /etc/containers/policy.json\n\ntext\nca"
    )


def test_later_requests_have_the_documented_form() -> None:
    heading = "log_id log-1\nepoch 2\nfence 7\nstep step-1\nruntime crio\n"
    asked = ConfirmRequest("log-1", 2, 7, "step-1", "crio")
    assert gzip.decompress(confirm_call(asked).payload).decode() == f"{heading}\n"
    given = ReleaseRequest("log-1", 2, 7, "step-1", "crio", True, ("daemon-reload", "restart:crio.service"))
    actions = "action daemon-reload\naction restart:crio.service\n"
    assert gzip.decompress(release_call(given).payload).decode() == f"{heading}{actions}baseline restore\n\n"
    checks = (HealthCheck("a", ("true", "", "x y")), HealthCheck("b", image="quay.io/a:1"))
    careful = ApplyRequest("log-1", 2, 7, "step-1", "crio", (), health=checks, confirm=90)
    assert gzip.decompress(apply_call(careful).payload).decode() == (
        f"{heading}confirm 90\ncheck a command :dHJ1ZQ== : :eCB5\ncheck b image quay.io/a:1\n\n"
    )
    hook = HookRequest("log-1", "step-1", ("drain",), {"B": "2", "A": ""}, 9)
    assert gzip.decompress(hook_call(hook).payload).decode() == (
        "log_id log-1\nstep step-1\ntimeout 9\nenvironment A :\nenvironment B :Mg==\ncommand :ZHJhaW4=\n\n"
    )


def test_how_a_hook_ended() -> None:
    output = base64.b64encode(b"text\n\xff").decode()
    assert decode_hook(line({"protocol": 1, "status": 75, "output": output}), TARGET) == HookResult(75, "text\n\ufffd")
    with pytest.raises(NodeRefused, match="hold: on call"):
        decode_hook(line({"protocol": 1, "error": "hold", "detail": "on call"}), TARGET)
    for change in ({"status": "0"}, {"output": "*"}, {"output": None}):
        with pytest.raises(NodeFault, match="no valid"):
            decode_hook(line({"protocol": 1, "status": 0, "output": "", **change}), TARGET)


def test_a_call_is_one_short_command_and_its_input() -> None:
    less = apply_call(replace(APPLY, same=frozenset({MAIN})))
    assert f"\nsame 0600 {HASH} {MAIN}\n".encode() in less.header
    assert less.bodies == (b"ca",)
    assert apply_call(replace(APPLY, same=frozenset({MAIN}), start="")).bodies == (b"text\n", b"ca")
    call = apply_call(APPLY)
    argv = call.argv("/some root", ("busybox", "sh"))
    assert argv[:3] == ["busybox", "sh", "-c"]
    assert argv[4:7] == ["node.sh", "1", "apply"]
    assert argv[7:] == [str(len(call.payload)), hashlib.sha256(call.payload).hexdigest(), "/some root"]
    assert call.command("sudo -n ").startswith("sudo -n sh -c ")
    assert len(call.command()) < 400
    assert call.stdin == packed_program() + call.payload
    assert gzip.decompress(packed_program()) == program()


def test_equal_requests_are_equal_bytes() -> None:
    assert apply_call(APPLY).stdin == apply_call(APPLY).stdin


@pytest.mark.parametrize(
    "path",
    ["", "/", "/etc", "/etc/containers", "/etc/containers/", "/etc/containers//a", "/etc/containers/./a", "/etc/crio/x",
     "/etc/containers/a/..", "/etc/containers/a\n", "/etc/containers/\x01", "/etc/docker/certs.d/h/client.key",
     "/etc/containers/.policy.json.reconciler", "/etc/containers/" + "x" * 600, "etc/containers/a",
     "/etc/containers/é"],
)  # fmt: skip
def test_paths_that_no_node_accepts_are_not_sent(path: str) -> None:
    with pytest.raises(NodeRefused, match="may be managed"):
        checked(path)


def test_a_path_stands_once_in_a_request() -> None:
    twice = ApplyRequest("l", 1, 1, "s", "crio", (FileContent(MAIN, b""),), (MAIN,))
    with pytest.raises(NodeRefused, match="twice"):
        apply_call(twice)


def test_an_observation() -> None:
    seen = decode_observation(line(OBSERVATION), OBSERVE, TARGET, "SHA256:x")
    assert (seen.owner, seen.host_key) == (Owner("l", 1, 2, 3, "s"), "SHA256:x")
    assert (seen.present, seen.effective) == (("/a", "/b\\xff"), {"/x y": "unread"})
    assert (seen.files[MAIN].content, seen.files[MAIN].mode, seen.files[CA].state) == (b"text\n", 0o644, "absent")
    assert decode_observation(line({**OBSERVATION, "owner": None}), OBSERVE, TARGET).owner is None


def test_a_receipt() -> None:
    receipt = decode_receipt(line(RECEIPT), APPLY, TARGET)
    assert (receipt.result, receipt.written, receipt.loaded, receipt.fence) == ("applied", (MAIN,), None, 7)
    assert decode_receipt(line({**RECEIPT, "later": 1}), APPLY, TARGET) == receipt
    assert decode_receipt(line(RECEIPT).replace(b'"m"', b'"\xff"'), APPLY, TARGET).machine_id == "�"


@pytest.mark.parametrize(
    "change",
    [{"protocol": 2}, {"protocol": "1"}, {"result": "done"}, {"result": 1}, {"step": "other"}, {"epoch": "2"},
     {"epoch": True}, {"fence": None}, {"written": "x"}, {"written": [1]}, {"healthy_before": 1}, {"loaded": "true"},
     {"detail": None}, {"machine_id": 1}, {"detail": "x" * 4096}, {"check": None}, {"confirm_by": "9"}],
)  # fmt: skip
def test_what_is_no_receipt_is_a_fault(change: dict[str, Any]) -> None:
    with pytest.raises(NodeFault, match="no valid"):
        decode_receipt(line(RECEIPT | change), APPLY, TARGET)


def test_a_receipt_of_an_older_program() -> None:
    receipt = decode_receipt(line({key: value for key, value in RECEIPT.items() if key not in LATER}), APPLY, TARGET)
    assert (receipt.check, receipt.confirm_by) == ("", 0)


@pytest.mark.parametrize("field", sorted(RECEIPT.keys() - {"loaded"} - LATER.keys()))
def test_every_field_of_a_receipt_is_needed(field: str) -> None:
    with pytest.raises(NodeFault, match="no valid"):
        decode_receipt(line({key: value for key, value in RECEIPT.items() if key != field}), APPLY, TARGET)


@pytest.mark.parametrize(
    "change",
    [{"files": [FILE]}, {"files": [FILE, FILE]}, {"files": [1, 2]}, {"owner": 1}, {"owner": {}}, {"mco": "no"},
     {"present": "*"}, {"effective": 1}, {"hold": None}, {"files": [{**FILE, "kind": "socket"}, FILE]},
     {"files": [{**FILE, "mode": "644"}]}, {"files": [{**FILE, "mode": 420}]}, {"files": [{**FILE, "sha256": "x"}]},
     {"files": [{**FILE, "content": "dGV4dA"}]}, {"files": [{**FILE, "size": "5"}]}, {"pending": None},
     {"reverted": 1}, {"loaded_since": "9"}, {"files": [{**FILE, "package": 1}, FILE]}],
)  # fmt: skip
def test_what_is_no_observation_is_a_fault(change: dict[str, Any]) -> None:
    with pytest.raises(NodeFault, match="no valid"):
        decode_observation(line(OBSERVATION | change), OBSERVE, TARGET)


def test_content_that_changed_while_it_was_read_is_a_fault() -> None:
    changed = {**FILE, "content": base64.b64encode(b"other").decode()}
    with pytest.raises(NodeFault, match="changed while"):
        decode_observation(line({**OBSERVATION, "files": [changed, {"path": CA, "kind": "absent"}]}), OBSERVE, TARGET)


@given(st.binary(max_size=200))
def test_no_output_makes_a_traceback(output: bytes) -> None:
    with pytest.raises(NodeFault):
        decode_receipt(output, REVERT, TARGET)
    with pytest.raises(NodeFault):
        decode_observation(output, OBSERVE, TARGET)


@pytest.mark.parametrize(
    ("error", "kind", "result"),
    [("payload", NodeFault, "failed"), ("busy", NodeFault, "failed"), ("missing-program", NodeFault, "failed"),
     ("path", NodeRefused, "refused"), ("not-root", NodeRefused, "refused"), ("protocol", NodeRefused, "refused"),
     ("unknown-verb", NodeRefused, "refused")],
)  # fmt: skip
def test_error_answers(error: str, kind: type[Exception], result: str) -> None:
    answer = line({"protocol": 1, "error": error, "detail": "why"})
    with pytest.raises(kind, match=f"{error}: why"):
        decode_observation(answer, OBSERVE, TARGET)
    receipt = decode_receipt(answer, APPLY, TARGET)
    assert (receipt.result, receipt.reason, receipt.detail, receipt.step) == (result, error, "why", "step-1")


@pytest.mark.parametrize(
    ("status", "complaint", "kind"),
    [(None, b"", NodeUnreachable), (-9, b"", NodeUnreachable), (137, b"", NodeUnreachable), (0, b"", NodeFault),
     (127, b"sh: gzip: not found", NodeFault), (1, b"sudo: a password is required", NodeRefused),
     (1, b"core is not in the sudoers file.", NodeRefused)],
)  # fmt: skip
def test_calls_without_an_answer(status: int | None, complaint: bytes, kind: type[Exception]) -> None:
    with pytest.raises(kind):
        check_answered(TARGET, status, b"", complaint)


def listing(value: object) -> str:
    return base64.b64encode(gzip.compress(json.dumps(value).encode())).decode()


CONTAINERS = {"containers": [{"image": {"image": "quay.io/a/app:1"}}]}
IMAGES: dict[str, Any] = {
    "protocol": 1, "source": "crictl", "pause": "registry.k8s.io/pause:3.10", "detail": "",
    "lists": listing({"containers": CONTAINERS, "images": {"images": []}}),
}  # fmt: skip


def test_images_form() -> None:
    call = images_call(ImagesRequest("log-1", "podman"))
    assert (call.verb, gzip.decompress(call.payload)) == ("images", b"log_id log-1\nruntime podman\n\n")
    told = decode_images(json.dumps(IMAGES).encode(), TARGET)
    assert told == NodeImages(("quay.io/a/app:1",), "registry.k8s.io/pause:3.10")
    note = {**IMAGES, "detail": "crictl ps ended with status 1", "lists": ""}
    assert decode_images(json.dumps(note).encode(), TARGET).note == "crictl ps ended with status 1"


@pytest.mark.parametrize(
    "change",
    [
        {"lists": base64.b64encode(b"no gzip").decode()},
        {"lists": "no base64"},
        {"lists": listing("no lists")},
        {"lists": listing({"containers": []})},
        {"lists": listing({"containers": "no list", "images": []})},
        {"lists": listing({"containers": [], "images": [1]})},
        {"pause": None},
        {"protocol": 2},
    ],
)
def test_images_of_another_form(change: dict[str, Any]) -> None:
    with pytest.raises(NodeFault, match="has no valid"):
        decode_images(json.dumps({**IMAGES, **change}).encode(), TARGET)


def test_images_refused() -> None:
    with pytest.raises(NodeRefused, match="not-root"):
        decode_images(b'{"protocol":1,"error":"not-root","detail":"x"}', TARGET)
