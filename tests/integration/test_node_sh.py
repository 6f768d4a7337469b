"""node.sh itself, called as a stranger would: what it refuses, what it survives, and what it offers on the host."""

from __future__ import annotations

import base64
import gzip
import hashlib
import json
import os
import subprocess
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from reconciler.errors import NodeFault, NodeRefused
from reconciler.ports import ApplyRequest, FileContent, ObserveRequest, RevertRequest
from reconciler.transport.call import packed_program, program, started
from reconciler.transport.protocol import apply_call, observe_call, revert_call
from reconciler.transport.sandbox import SandboxNode, put_program
from tests.conformance.transport import (
    ACTED,
    CA,
    DROP_IN,
    FIRST,
    MAIN,
    POLICY,
    RELOAD,
    SECOND,
    apply,
    digest,
    manifest,
    observe,
    on_disk,
)
from tests.nodes import DirectoryRig, LocalRig, SshRig, one_node, shell

SHELLS = ("dash", "busybox", "bash")


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SandboxNode]:
    yield from one_node(tmp_path_factory.mktemp("sshd"))


@pytest.fixture
def sh(tmp_path: Path, request: pytest.FixtureRequest) -> list[str]:
    return shell(getattr(request, "param", "dash"), tmp_path / "bin")


@pytest.fixture
async def rig(tmp_path: Path, sh: list[str]) -> AsyncIterator[LocalRig]:
    rig = LocalRig(tmp_path / "nodes", sh)
    yield rig
    await rig.transport.close()


@pytest.fixture
async def real(node: SandboxNode) -> AsyncIterator[SshRig]:
    rig = SshRig(node)
    yield rig
    await rig.transport.close()


def call(rig: LocalRig, sh: Sequence[str], arguments: Sequence[str], stdin: bytes) -> dict[str, Any]:
    """One raw call; the answer as JSON."""
    command = observe_call(ObserveRequest("l", "crio", {})).argv()[2]
    argv = [*sh, "-c", command, "node.sh", *arguments, str(rig.node.root)]
    done = subprocess.run(argv, input=packed_program() + stdin, capture_output=True, check=True)
    assert done.stdout.endswith(b"\n")
    assert done.stdout.count(b"\n") == 1
    answer = json.loads(done.stdout)
    assert isinstance(answer, dict)
    return answer


def asked_in_turn(rig: LocalRig, sh: Sequence[str], *requests: bytes, cut: bytes = b"") -> list[dict[str, Any]]:
    """The answers of one program that is kept running; the last request may be one that is cut short."""
    text = b"".join(b"%d %s" % (number, request) for number, request in enumerate(requests))
    argv = [*started("reside", shell=sh), str(rig.node.root)]
    done = subprocess.run(argv, input=packed_program() + text + cut, capture_output=True, check=True)
    answers = [line.split(b" ", 1) for line in done.stdout.splitlines()]
    assert [int(number) for number, _ in answers] == list(range(len(requests)))
    return [json.loads(answer) for _, answer in answers]


@pytest.mark.parametrize("sh", SHELLS, indirect=True)
def test_looks_one_after_the_other(rig: LocalRig, sh: list[str]) -> None:
    """Each is answered as if it were alone; one that is cut short, not at all."""
    rig.put(MAIN, b"a\n")
    runtime = "log_id l\nruntime crio\n"
    looks = [
        ("observe", f"{runtime}observe - {MAIN}\n\n"),
        ("observe", f"{runtime}observe - /etc/containers/x*\n\n"),
        ("observe", f"{runtime}also images\nobserve {digest(b'a')} {MAIN}\nobserve - {POLICY}\n\n"),
        ("images", f"{runtime}\n"),
        ("hook", "log_id l\nstep s\ntimeout 5\ncommand :dHJ1ZQ==\n\n"),
        ("observe", f"{runtime}observe - {MAIN}\n\n"),
    ]
    requests = [f"{verb}\n{header}".encode() for verb, header in looks]
    answers = asked_in_turn(rig, sh, *requests, cut=f"9 observe\n{runtime}".encode())
    refused = {"protocol": 1, "error": "unknown-verb", "detail": "'hook' is not asked for as text"}
    for (verb, header), answer in zip(looks, answers, strict=True):
        payload, sizes = packed(header)
        assert answer == (call(rig, sh, ["1", verb, *sizes], payload) if verb != "hook" else refused)


@pytest.mark.parametrize("sh", SHELLS, indirect=True)
def test_changes_one_after_the_other(rig: LocalRig, sh: list[str]) -> None:
    """Bodies are the bytes of their files, whatever line breaks they have; none is left for the next request."""
    bodies = {MAIN: b"\n|a \\ b\n\n# $(id) `id` %s\t\n", POLICY: b"{}", DROP_IN: b"", CA: b"\n\n"}
    files = tuple(FileContent(path, body) for path, body in bodies.items())
    first = apply_call(ApplyRequest("l", 1, 1, "s1", "crio", files, actions=RELOAD))
    fewer = (FileContent(MAIN, b"b"), *(file for file in files if file.path != MAIN))
    second = apply_call(ApplyRequest("l", 1, 1, "s2", "crio", fewer, actions=RELOAD))
    assert second.text
    bodiless = second.text.replace(b"step s2", b"step s3").replace(b"|b\n", b"")
    bodiless = bodiless.replace(digest(b"b").encode(), digest(b"c").encode())
    back = revert_call(RevertRequest("l", 1, 1, "s4", "crio", RELOAD)).text
    assert first.text
    assert back
    answers = asked_in_turn(rig, sh, first.text, second.text, bodiless, first.text, cut=back[:-1])
    told = [(answer["step"], answer["result"], answer["reason"]) for answer in answers]
    assert told == [("s1", "applied", ""), ("s2", "applied", ""), ("s3", "failed", "payload"), ("s1", "applied", "")]
    assert on_disk(rig, bodies) == {**bodies, MAIN: b"b"}
    assert asked_in_turn(rig, sh, back)[0]["result"] == "reverted"
    assert on_disk(rig, bodies) == bodies
    assert rig.actions() == [ACTED] * 3


@pytest.mark.parametrize("sh", SHELLS, indirect=True)
def test_files_that_stand_are_not_sent(rig: LocalRig, sh: list[str]) -> None:
    bodies = {MAIN: b"a\n", POLICY: b"{}\n", DROP_IN: b"b\n", CA: b"c\n"}
    files = tuple(FileContent(path, body) for path, body in bodies.items())
    changed = (FileContent(MAIN, b"new\n"), FileContent(POLICY, b"[]\n"), *files[2:])
    begun = ApplyRequest("l", 1, 1, "s1", "crio", files, actions=RELOAD)
    less = ApplyRequest(
        "l", 1, 1, "s2", "crio", changed, start=manifest(bodies), actions=RELOAD, same=frozenset({DROP_IN, CA})
    )
    untrue = replace(less, step="s0", same=frozenset({POLICY}))
    calls = [apply_call(request) for request in (begun, untrue, less, replace(less, step="s3"))]
    texts = [call.text for call in calls]
    assert texts[2] is not None
    assert b"\n|b\n" not in texts[2]
    told = [("applied", ""), ("failed", "payload"), ("applied", ""), ("stale", "")]
    answers = asked_in_turn(rig, sh, *(text or b"" for text in texts))
    assert [(answer["result"], answer["reason"]) for answer in answers] == told
    after = {**bodies, MAIN: b"new\n", POLICY: b"[]\n"}
    assert on_disk(rig, bodies) == after
    asked = [replace(less, step="s4", files=files, start=manifest(after)), replace(less, step="s5", fence=2)]
    for request, result in zip(asked, ("applied", "applied"), strict=True):
        plain = apply_call(request)
        assert call(rig, sh, plain.argv()[-4:], plain.payload)["result"] == result
    assert on_disk(rig, bodies) == after


def packed(text: str) -> tuple[bytes, list[str]]:
    payload = gzip.compress(text.encode())
    return payload, [str(len(payload)), hashlib.sha256(payload).hexdigest()]


HEAD = "log_id l\nepoch 1\nfence 1\nstep s\nruntime crio\n"
HASH = "0" * 64


@pytest.mark.parametrize("sh", SHELLS, indirect=True)
@pytest.mark.parametrize(
    ("verb", "header", "error"),
    [
        ("observe", "log_id l\nruntime crio\nobserve - /etc/passwd\n\n", "path"),
        ("observe", "log_id l\nruntime crio\nobserve - /etc/containers/../passwd\n\n", "path"),
        ("observe", "log_id l\nruntime crio\nobserve - /etc/containers/$(id)\n\n", "path"),
        ("observe", "log_id l\nruntime crio\nobserve - /etc/containers/x*\n\n", "path"),
        ("observe", "log_id l\nruntime crio\nobserve - /etc/containers/é\n\n", "path"),
        ("observe", "log_id l\nruntime crio\nobserve - /etc/docker/certs.d/h/client.key\n\n", "path"),
        ("observe", "log_id l\nruntime docker\n\n", "payload"),
        ("observe", "log_id l\nruntime crio\n", "payload"),
        ("observe", "runtime crio\n\n", "payload"),
        ("images", "log_id l\nruntime docker\n\n", "payload"),
        ("images", "log_id l\nruntime crio\nalso images\n\n", "payload"),
        ("observe", "log_id l\nruntime crio\nalso everything\n\n", "payload"),
        ("apply", HEAD + "restore /etc/shadow\n\n", "path"),
        ("apply", HEAD + "action stop:sshd.service\n\n", "payload"),
        ("apply", HEAD + "action restart:--help.service\n\n", "payload"),
        ("apply", HEAD + "action restart:sshd\n\n", "payload"),
        ("apply", HEAD + "check x command true\n\n", "payload"),
        ("apply", HEAD + "check x image --all\n\n", "payload"),
        ("apply", HEAD + "check x\n\n", "payload"),
        ("apply", HEAD + "confirm -1\n\n", "payload"),
        ("apply", HEAD + "restore /root/.config/containers/policy.json\n\n", "path"),
        ("observe", "log_id l\nruntime crio\nobserve - /home/x/.config/containers/policy.json\n\n", "path"),
        ("release", HEAD + "\n", "payload"),
        ("release", HEAD + "baseline drop\n\n", "payload"),
        ("hook", "log_id l\nstep s\ntimeout 5\n\n", "payload"),
        ("hook", "log_id l\nstep s\ntimeout 0\ncommand :dHJ1ZQ==\n\n", "payload"),
        ("hook", "log_id l\nstep s\ntimeout 5\nenvironment A-B :\ncommand :dHJ1ZQ==\n\n", "payload"),
        ("apply", HEAD + "action reload:crio.service;id\n\n", "payload"),
        ("apply", HEAD + f"file 0644 {HASH} 0 x /etc/containers/a\n\n", "payload"),
        ("apply", HEAD + f"file 9999 {HASH} 0 1 /etc/containers/a\n\n", "payload"),
        ("apply", HEAD + f"same 0644 {HASH} /etc/containers/a\n\n", "payload"),
        ("apply", HEAD + f"start {HASH}\nsame 644 {HASH} /etc/containers/a\n\n", "payload"),
        ("apply", HEAD + "mystery 1\n\n", "payload"),
        ("apply", HEAD.replace("step s", "step ../../x") + "\n", "payload"),
        ("apply", HEAD.replace("fence 1", "fence 01") + "\n", "payload"),
        ("apply", HEAD.replace("step s\n", "") + "\n", "payload"),
    ],
)
def test_what_is_no_request_is_refused(rig: LocalRig, sh: list[str], verb: str, header: str, error: str) -> None:
    payload, numbers = packed(header)
    assert call(rig, sh, ["1", verb, *numbers], payload)["error"] == error


def test_other_verbs_and_protocols_are_refused_by_name(rig: LocalRig, sh: list[str]) -> None:
    payload, numbers = packed("log_id l\nruntime crio\n\n")
    assert call(rig, sh, ["1", "explode", *numbers], payload)["error"] == "unknown-verb"
    answer = call(rig, sh, ["2", "observe", *numbers], payload)
    assert (answer["error"], "protocol 1" in answer["detail"]) == ("protocol", True)


@pytest.mark.parametrize("sh", SHELLS, indirect=True)
def test_a_payload_that_did_not_arrive_whole(rig: LocalRig, sh: list[str]) -> None:
    request = ApplyRequest("l", 1, 1, "s", "crio", (FileContent(MAIN, os.urandom(200_000)),))
    payload = apply_call(request).payload
    numbers = [str(len(payload)), hashlib.sha256(payload).hexdigest()]
    for sent in (b"", payload[:100_000], payload[:-1], b"x" + payload[1:]):
        assert call(rig, sh, ["1", "apply", *numbers], sent)["error"] == "payload"
    for length in ("", "x", "-1", "0123", "999999999"):
        assert call(rig, sh, ["1", "apply", length, numbers[1]], payload)["error"] == "payload"
    assert not rig.state.exists()
    assert rig.read(MAIN) is None


@pytest.mark.parametrize("sh", SHELLS, indirect=True)
def test_a_look_whose_payload_did_not_arrive_whole(rig: LocalRig, sh: list[str]) -> None:
    payload, numbers = packed("log_id l\nruntime crio\n\n")
    assert "error" not in call(rig, sh, ["1", "observe", *numbers], payload)
    for sent in (b"", payload[:5], payload[:-1], b"x" + payload[1:], payload[:-8] + b"x" * 8):
        for verb in ("observe", "images"):
            assert call(rig, sh, ["1", verb, *numbers], sent)["error"] == "payload"


@pytest.mark.parametrize("sh", SHELLS, indirect=True)
def test_a_program_cut_short_does_nothing(rig: LocalRig, sh: list[str]) -> None:
    prepared = apply_call(ApplyRequest("l", 1, 1, "s", "crio", (FileContent(MAIN, b"x"),)))
    argv = prepared.argv(str(rig.node.root), sh)
    whole = program()
    for size in [*range(0, len(whole), 2003), len(whole) - 2]:
        part = gzip.compress(whole[:size])
        shortened = [word.replace(str(len(packed_program())), str(len(part))) for word in argv]
        done = subprocess.run(shortened, input=part + prepared.payload, capture_output=True, check=False)
        assert done.stdout == b""
        cut = prepared.stdin[: size * len(packed_program()) // len(whole)]
        assert subprocess.run(argv, input=cut, capture_output=True, check=False).stdout == b""
    assert rig.read(MAIN) is None
    assert not rig.state.exists()


async def test_staged_bytes_must_match_their_hash(rig: LocalRig, sh: list[str]) -> None:
    header = HEAD + f"file 0644 {HASH} 0 4 {MAIN}\n\n"
    payload, numbers = packed(header + "text")
    answer = call(rig, sh, ["1", "apply", *numbers], payload)
    assert (answer["result"], answer["reason"]) == ("failed", "payload")
    assert rig.read(MAIN) is None
    assert (await apply(rig, "s", FIRST, log_id="l")).result == "applied"


@pytest.mark.parametrize("sh", SHELLS, indirect=True)
async def test_a_missing_program_is_named(tmp_path: Path, sh: list[str]) -> None:
    rig = LocalRig(tmp_path / "nodes", sh)
    few = tmp_path / "few"
    few.mkdir()
    for name in ("dd", "gzip", "base64", "cat", "env", "sh"):
        (few / name).symlink_to(f"/bin/{name}")
    rig.transport = type(rig.transport)(["env", f"PATH={few}", *_absolute(sh)])  # type: ignore[call-arg]  # LocalTransport
    with pytest.raises(NodeFault, match="missing-program"):
        await observe(rig, MAIN)
    done = await apply(rig, "s1", FIRST)
    assert (done.result, done.reason) == ("failed", "missing-program")
    (few / "gzip").unlink()
    with pytest.raises(NodeFault, match="gzip"):
        await observe(rig, MAIN)


def _absolute(sh: Sequence[str]) -> list[str]:
    if sh[0] == "env":
        return list(sh[2:])
    found = subprocess.run(["which", sh[0]], capture_output=True, text=True, check=True).stdout.strip()
    return [found, *sh[1:]]


@pytest.mark.parametrize("root", ["/", "relative", "", "/../"])
async def test_the_root_of_a_local_node_is_never_the_host(rig: LocalRig, root: str) -> None:
    rig.target = type(rig.target)("default", "n", "local", root=root)
    with pytest.raises(NodeRefused, match="root below /"):
        await observe(rig, MAIN)


@pytest.mark.parametrize("sh", SHELLS, indirect=True)
async def test_names_of_any_bytes_are_told(rig: LocalRig, sh: list[str]) -> None:
    names = [b'quo"te', b"back\\slash", b"new\nline", b"\xff\xfe", "日本.crt".encode(), b"blank name", b"*"]
    for name in names:
        place = os.path.join(os.fsencode(rig.at("/etc/docker/certs.d")), b"host " + name)  # noqa: PTH118  # bytes
        os.makedirs(place)  # noqa: PTH103  # bytes
        with open(os.path.join(place, name), "wb") as file:  # noqa: PTH118, PTH123  # bytes
            file.write(name)
    rig.put("/etc/containers/registries.conf.d/.hidden.conf", b"hidden")
    twin = rig.at("/etc/containers/certs.d")
    twin.parent.mkdir(exist_ok=True)
    rig.at("/etc/docker/certs.d").rename(twin)
    seen = await observe(rig, MAIN)
    shown = {name.decode(errors="backslashreplace"): digest(name) for name in names}
    expected = {f"/etc/containers/certs.d/host {name}/{name}": value for name, value in shown.items()}
    hidden = "/etc/containers/registries.conf.d/.hidden.conf"
    assert seen.effective == expected | {hidden: digest(b"hidden")}
    assert seen.present == (hidden,)
    twin.rename(rig.at("/etc/docker/certs.d"))
    seen = await observe(rig, MAIN)
    assert set(seen.present) == {f"/etc/docker/certs.d/host {name}/{name}" for name in shown} | {hidden}


async def test_lingering_users_and_crio_options_are_told(rig: LocalRig) -> None:
    rig.put(
        "/etc/passwd", b"root:x:0:0::/root:/bin/sh\nann:x:1:1:Ann:/home/ann:/bin/sh\nbob:x:2:2::/home/bob:/bin/sh\n"
    )
    rig.put("/var/lib/systemd/linger/ann", b"")
    told = (
        "/home/ann/.config/containers/registries.conf",
        "/root/.config/containers/registries.conf.d/1.conf",
        "/root/.config/containers/certs.d/h/ca.crt",
        "/etc/containers/registries.d/default.yaml",
        "/etc/crio/crio.conf.d/10-mine",
        "/etc/sysconfig/crio",
    )
    for path in told:
        rig.put(path, path.encode())
    rig.put("/home/bob/.config/containers/registries.conf", b"not lingering")
    rig.put("/etc/crio/policies/ns.json", b"{}")
    seen = await observe(rig, "/etc/crio/policies/ns.json")
    assert seen.effective == {path: digest(path.encode()) for path in told}


@pytest.mark.parametrize("sh", SHELLS, indirect=True)
async def test_the_program_of_the_last_change_is_kept(rig: LocalRig, sh: list[str]) -> None:
    kept = rig.state / "node.sh"
    await apply(rig, "s1", FIRST)
    written = kept.stat().st_ino
    await apply(rig, "s2", SECOND)
    assert kept.stat().st_ino == written
    for other in (b"# older\n", b"# sha256 " + b"0" * 64 + b"\nmain\n"):
        kept.write_bytes(other)
        await apply(rig, f"s-{len(other)}", FIRST if rig.read(MAIN) == SECOND[MAIN] else SECOND)
        assert kept.read_bytes() == program()


async def test_receipts_are_kept_for_64_steps(rig: LocalRig) -> None:
    for number in range(80):
        (rig.state / "receipts").mkdir(parents=True, exist_ok=True)
        place = rig.state / f"receipts/old-{number:02}"
        place.write_text("{}\n")
        os.utime(place, (number, number))
    await apply(rig, "s1", FIRST)
    kept = {place.name for place in (rig.state / "receipts").iterdir()}
    assert len(kept) == 64
    assert {"s1", "old-79", "old-17"} <= kept
    assert "old-16" not in kept


async def test_without_systemctl_the_action_is_left_out(rig: LocalRig) -> None:
    for name in ("systemctl", "journalctl", "crio"):
        rig.at(f"/usr/local/bin/{name}").unlink()
    done = await apply(rig, "s1", FIRST)
    assert (done.result, done.loaded) == ("applied", None)
    assert (done.action, done.active) == ("skipped: no systemctl in root", "")


async def test_a_baseline_keeps_owner_and_bytes(rig: LocalRig) -> None:
    rig.put(MAIN, b"mine\n", 0o640)
    if os.geteuid() == 0:
        os.chown(rig.at(MAIN), 4242, 4343)
    before = rig.at(MAIN).stat()
    await apply(rig, "s1", FIRST)
    assert (rig.state / "baseline/files/etc/containers/registries.conf").read_bytes() == b"mine\n"
    assert (rig.state / "baseline/log_id").read_text() == "log-1\n"
    assert rig.state.stat().st_mode & 0o777 == 0o700
    await apply(rig, "s2", {}, restore=(MAIN,))
    after = rig.at(MAIN).stat()
    assert (after.st_uid, after.st_gid, after.st_mode) == (before.st_uid, before.st_gid, before.st_mode)


async def test_directories_that_were_there_stay(rig: LocalRig) -> None:
    rig.put("/etc/docker/certs.d/registry.example.com:5000/client.cert", b"theirs")
    await apply(rig, "s1", {**FIRST, "/etc/docker/certs.d/new:1/ca.crt": b"x"})
    await apply(rig, "s2", {MAIN: FIRST[MAIN]}, restore=(CA, "/etc/docker/certs.d/new:1/ca.crt", DROP_IN, POLICY))
    found = sorted(place.name for place in rig.at("/etc/docker/certs.d").rglob("*"))
    assert found == ["client.cert", "registry.example.com:5000"]
    assert not rig.at("/etc/containers/registries.conf.d").exists()


async def test_mounts_are_somebody_elses(real: SshRig) -> None:
    real.put(MAIN, b"mine\n")
    real.at("/etc/other").write_text("mounted\n")
    real.node.run("mount", "--bind", "/etc/other", MAIN)
    try:
        done = await apply(real, "s1", FIRST)
        assert (done.result, done.reason, done.detail) == ("refused", "mount", MAIN)
        assert real.read(POLICY) is None
    finally:
        real.node.run("umount", MAIN)
    assert (await apply(real, "s1", FIRST)).result == "applied"


async def test_var_without_space(real: SshRig) -> None:
    await apply(real, "s1", FIRST)
    real.node.fill("/var")
    done = await apply(real, "s2", {**SECOND, POLICY: b"x" * 65536})
    assert (done.result, done.reason) == ("failed", "disk-full")
    assert on_disk(real, FIRST) == FIRST
    assert (await observe(real, MAIN)).owner is not None
    real.node.free()
    assert (await apply(real, "s3", SECOND)).result == "applied"


async def test_labels_files_and_modes_on_different_mounts(real: SshRig) -> None:
    await apply(real, "s1", FIRST)
    places = [real.at(path) for path in FIRST]
    assert {place.stat().st_uid for place in places} == {0}
    assert real.at("/etc").stat().st_dev != real.at("/var").stat().st_dev
    assert real.at("/etc/docker/certs.d").stat().st_mode & 0o777 == 0o755
    assert [str(place) for place in real.at("/etc").rglob("*.reconciler")] == []


# --- On the host ----------------------------------------------------------------------------------------------------


def operate(rig: DirectoryRig, sh: Sequence[str], *words: str) -> subprocess.CompletedProcess[str]:
    if isinstance(rig, SshRig):
        return rig.node.run("sh", "/var/lib/reconciler/node.sh", *words)
    program = str(rig.state / "node.sh")
    return subprocess.run([*sh, program, *words], capture_output=True, text=True, check=False)


@pytest.mark.parametrize("sh", [*SHELLS, "sshd"], indirect=False)
async def test_an_operator_on_the_host(sh: str, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    rig: DirectoryRig
    if sh == "sshd":
        rig, command = SshRig(request.getfixturevalue("node")), ["sh"]
    else:
        command = shell(sh, tmp_path / "bin")
        rig = LocalRig(tmp_path / "nodes", command)
    rig.put(MAIN, b"mine\n")
    await apply(rig, "s1", FIRST)
    await apply(rig, "s2", SECOND)
    assert (rig.state / "node.sh").read_bytes() == program()
    status = operate(rig, command, "status")
    assert status.returncode == 0
    for text in ("log-1", "2 (step s2", "hold        none", "unfinished  none", "active"):
        assert text in status.stdout
    assert f"{MAIN}\t0644" in operate(rig, command, "baseline").stdout
    assert f"{CA}\tabsent" in operate(rig, command, "baseline").stdout
    assert operate(rig, command, "hold").returncode == 1
    assert operate(rig, command, "hold", "looking", "into it").returncode == 0
    assert (await observe(rig, MAIN)).hold == "looking into it"
    assert (await apply(rig, "s3", FIRST)).reason == "hold"
    reverted = operate(rig, command, "revert")
    assert (reverted.returncode, reverted.stdout) == (0, "reverted (generation 3)\n")
    assert on_disk(rig, FIRST) == FIRST
    assert len(rig.actions()) == 3
    assert operate(rig, command, "resume").returncode == 0
    assert (await apply(rig, "s4", SECOND)).result == "applied"
    await rig.transport.close()


# --- Text -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", SHELLS)
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(text=st.text(st.characters(min_codepoint=1, exclude_categories=["Cs"]), max_size=120))
def test_any_text_is_quoted_as_json(name: str, text: str, tmp_path: Path) -> None:
    """What a log line or a hold says never breaks the answer; control characters become blanks."""
    source = program().decode().rsplit("main ", 1)[0]
    script = f"{source}\nset -fu\nIFS=' '\nLC_ALL=C\nnewline='\n'\n" + 'quote "$1"\nprintf %s "$quoted"'
    command = [*shell(name, tmp_path / "bin"), "-c", script, "sh", text]
    quoted = subprocess.run(command, capture_output=True, check=True).stdout
    shown = json.loads(f'"{quoted.decode(errors="replace")}"')
    blanks = "".join(" " if ord(char) < 32 or ord(char) == 127 else char for char in text)
    assert shown == blanks.encode()[:300].decode(errors="replace")


@pytest.mark.parametrize("sh", SHELLS, indirect=True)
def test_images_as_the_client_lists_them(rig: LocalRig, sh: list[str]) -> None:
    """A client that fails is told by name and status; the pause image may stand as a commented default."""
    payload, numbers = packed("log_id l\nruntime crio\n\n")
    programs = rig.node.root / "usr/local/bin"
    settings = '# pause_image_command = "/pause"\n# pause_image = "r.io/p:1"\n'
    put_program(programs / "crio", f"#!/bin/sh\nprintf '%s' '{settings}'\n")
    answer = call(rig, sh, ["1", "images", *numbers], payload)
    assert (answer["source"], answer["pause"], answer["detail"]) == ("crictl", "r.io/p:1", "")
    lists = json.loads(gzip.decompress(base64.b64decode(answer["lists"])))
    assert lists == {"containers": {"containers": []}, "images": {"images": []}}
    put_program(programs / "crictl", '#!/bin/sh\necho broken >&2\n[ "$1" != images ] || exit 3\n')
    answer = call(rig, sh, ["1", "images", *numbers], payload)
    assert (answer["detail"], answer["lists"]) == ("crictl images ended with status 3", "")
    assert not rig.state.exists()
