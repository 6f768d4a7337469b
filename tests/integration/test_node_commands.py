"""What node.sh runs for its caller (hooks, health checks), and what it looks up: exactly as it was asked, bounded."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from reconciler.errors import NodeError, NodeUnreachable
from reconciler.ports import HealthCheck, HookRequest, ObserveRequest, Target
from reconciler.transport.memory import MemoryTransport
from reconciler.transport.sandbox import SandboxNode
from reconciler.work.inline import InlineRunner
from tests.conformance.transport import FIRST, MAIN, POLICY, SECOND, apply, observe, on_disk
from tests.conformance.verbs import hook
from tests.integration.test_node_crash import spring, trap
from tests.nodes import DirectoryRig, FixedClock, LocalRig, SshRig, one_node, rig_of, shell

ODD = ("", "two  words", "*", "$(id)", "a'b\"c\\d", "日本", "line\n", "-n", "~")
SAY = 'for word; do printf "<%s>" "$word"; done'


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SandboxNode]:
    yield from one_node(tmp_path_factory.mktemp("sshd"))


@pytest.fixture(params=["dash", "busybox", "bash", "sshd"])
async def rig(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[DirectoryRig]:
    async for rig in rig_of(request.param, request, tmp_path):
        yield rig


@pytest.fixture
async def local(tmp_path: Path) -> AsyncIterator[LocalRig]:
    rig = LocalRig(tmp_path / "root", shell("dash", tmp_path / "bin"))
    yield rig
    await rig.transport.close()


# --- Hooks ----------------------------------------------------------------------------------------------------------


async def test_a_hook_gets_its_words_and_environment_as_they_are(rig: DirectoryRig) -> None:
    rig.put_command("drain", f'{SAY}\nprintf "%s|%s|%s" "$NODE" "$status" "$(umask)" >&2\nexit 7')
    done = await hook(rig, "drain", *ODD, NODE="node 1\n$HOME", status="")
    expected = "".join(f"<{word}>" for word in ODD) + "node 1\n$HOME||0022"
    assert (done.status, done.output) == (7, expected)


async def test_a_hook_is_bounded(rig: DirectoryRig) -> None:
    rig.put_command("drain", "trap 'kill $! 2>/dev/null; echo ended; exit 1' TERM\necho begun\nsleep 30 &\nwait")
    done = await hook(rig, "drain", seconds=1)
    assert (done.status, done.output) == (124, "begun\nended")
    rig.put_command("drain", "i=0\nwhile [ $i -lt 900 ]; do printf '%s,' $i; i=$((i + 1)); done")
    done = await hook(rig, "drain")
    assert (done.status, len(done.output), done.output[-8:]) == (0, 1000, "898,899,")


async def test_a_hook_that_is_not_there(rig: DirectoryRig) -> None:
    done = await hook(rig, "no-such-drain")
    assert (done.status, "no-such-drain" in done.output) == (127, True)
    assert not rig.state.exists()


async def test_a_local_node_never_runs_the_hosts_programs(local: LocalRig) -> None:
    for program in ("touch", "/usr/bin/touch", "/bin/sh"):
        assert (await hook(local, program, str(local.at("/touched")))).status == 127
    local.put_command("drain", f"echo done >{local.etc}/drained")
    assert (await hook(local, "/usr/local/bin/drain")).status == 0
    assert local.read("/etc/drained") == b"done\n"


async def test_a_runner_asks_many_nodes_and_tells_their_errors() -> None:
    transport = MemoryTransport(FixedClock())
    transport.node("b").faults.unreachable = True
    transport.node("c").faults.hooks["drain"] = 75
    wanted = [
        (Target("default", name, "memory"), HookRequest("log-1", "s", ("drain",), {}, 5)) for name in ("a", "b", "c")
    ]
    answers = await InlineRunner(transport).hook(wanted)
    assert [a if isinstance(a, NodeError) else a.status for a in answers[::2]] == [0, 75]
    assert isinstance(answers[1], NodeError)


# --- Health checks --------------------------------------------------------------------------------------------------


async def test_a_check_gets_its_words_as_they_are_and_tells_its_end(rig: DirectoryRig) -> None:
    rig.put_command("probe", "printf '%0300d end' 1\nexit 9")
    done = await apply(rig, "s1", FIRST, health=(HealthCheck("odd", ("probe", *ODD)),))
    assert (done.reason, done.check) == ("unhealthy-before", "odd")
    assert done.detail == f"status 9: {'0' * 195}1 end; no file was touched"
    rig.put_command("probe", f"{SAY} >{rig.etc}/words")
    assert (await apply(rig, "s2", FIRST, health=(HealthCheck("odd", ("probe", *ODD)),))).result == "applied"
    assert (rig.read("/etc/words") or b"").decode() == "".join(f"<{word}>" for word in ODD)


async def test_images_are_pulled_by_the_runtime_that_needs_them(rig: DirectoryRig) -> None:
    check = HealthCheck("app", image="quay.io/a/app@sha256:" + "0" * 64)
    await apply(rig, "s1", FIRST, health=(check,))
    assert rig.node.runtime.pulls() == [f"crictl pull {check.image}"] * 2
    await apply(rig, "s2", SECOND, runtime="podman", actions=(), health=(check,))
    assert rig.node.runtime.pulls()[2:] == [f"podman pull -q {check.image}"] * 2
    rig.node.runtime.set_pull("registry is blocked")
    done = await apply(rig, "s3", FIRST, health=(check,))
    assert (done.reason, done.check, "registry is blocked" in done.detail) == ("unhealthy-before", "app", True)
    assert on_disk(rig, FIRST) == SECOND


async def test_a_check_without_its_program_fails_by_name(local: LocalRig) -> None:
    local.at("/usr/local/bin/crictl").unlink()
    done = await apply(local, "s1", FIRST, health=(HealthCheck("app", image="quay.io/a/app:1"),))
    assert (done.reason, done.check) == ("unhealthy-before", "app")
    assert "this host has no crictl" in done.detail


async def test_checks_are_done_again_after_a_crash(local: LocalRig) -> None:
    """The journal keeps them: a change that died after its action is judged by them, not waved through."""
    await apply(local, "s1", FIRST)
    trap(local, "journalctl", 'case "$*" in *cursor=*) ;; *) false ;; esac')
    local.put_command(
        "probe", f"grep -q second {local.etc}/containers/registries.conf || exit 0\necho $*\necho 'no \"x\"'\nexit 3"
    )
    check = HealthCheck("probe", ("probe", "--deep"))
    with pytest.raises(NodeUnreachable):
        await apply(local, "s2", SECOND, health=(check,))
    spring(local)
    await observe(local, MAIN)
    done = await apply(local, "s2", SECOND, health=(check,))
    assert (done.reason, done.check, done.detail) == ("health-check-failed", "probe", 'status 3: --deep no "x"')
    assert on_disk(local, FIRST) == FIRST


# --- What is looked up ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("started", "loaded", "since"),
    [
        ("@1700000000", "", 1700000000),
        ("@1700000000", "@1700000050", 1700000050),
        ("@1700000000", "n/a", 1700000000),
        ("Tue 2023-11-14 22:13:20 UTC", "Tue 2023-11-14 22:14:10 UTC", 1700000050),
        ("", "", 0),
        ("n/a", "", 0),
    ],
)
async def test_since_when_the_runtime_has_loaded(rig: DirectoryRig, started: str, loaded: str, since: int) -> None:
    control = rig.node.runtime.control
    (control / "started").write_text(f"{started}\n")
    (control / "loaded").write_text(f"{loaded}\n")
    assert (await observe(rig, MAIN)).loaded_since == since
    assert (await observe(rig, MAIN, runtime="podman")).loaded_since == 0


async def test_a_failed_reload_loads_nothing(local: LocalRig) -> None:
    local.put_command(
        "systemctl",
        'echo "ActiveEnterTimestamp=@5"\n'
        'echo "ExecReload={ path=/bin/kill ; start_time=[@9] ; stop_time=[@9] ; pid=7 ; code=exited ; status=1 }"\n'
        'echo "ExecReload={ path=/bin/kill ; start_time=[n/a] ; stop_time=[n/a] ; pid=0 ; code=(null) ; status=0/0 }"',
    )
    assert (await observe(local, MAIN)).loaded_since == 5


async def test_dpkg_is_asked_where_there_is_no_rpm(local: LocalRig) -> None:
    local.put(MAIN, b"mine\n")
    local.put(POLICY, b"{}")
    local.put_command("dpkg", f'[ "$2" = {MAIN} ] && echo "golang-common:amd64: {MAIN}" || exit 1')
    seen = await observe(local, MAIN, POLICY)
    assert (seen.files[MAIN].package, seen.files[POLICY].package) == ("golang-common", "")


async def test_homes_are_looked_at_only_where_the_runtime_does(rig: DirectoryRig) -> None:
    rig.put("/home/ann/.config/containers/registries.conf", b"ann")
    path = "/home/ann/.config/containers/registries.conf"
    with pytest.raises(NodeError, match="path"):
        await observe(rig, path)
    rig.put("/var/lib/systemd/linger/ann", b"")
    text = rig.read("/etc/passwd") or b""
    rig.put("/etc/passwd", text + b"ann:x:1001:1001::/home/ann:/bin/sh\n")
    assert (await observe(rig, path)).files[path].content == b"ann"
    rig.put("/etc/secret/registries.conf", b"not for ann")
    place = rig.at("/home/ann/.config/containers")
    place.rename(place.with_name("old"))
    place.symlink_to("/etc/secret" if isinstance(rig, SshRig) else rig.at("/etc/secret"))
    assert (await observe(rig, path)).files[path].state == "symlink"
    rig.put("/etc/passwd", text)


async def test_keys_in_homes_are_not_sent(local: LocalRig) -> None:
    path = "/root/.config/containers/certs.d/h/client.crt"
    local.put(path, b"-----BEGIN RSA PRIVATE KEY-----")
    seen = await local.transport.observe(local.target, ObserveRequest("log-1", "crio", {path: ""}))
    assert (seen.files[path].kind, seen.files[path].content) == ("file", None)
    with pytest.raises(NodeError):
        await observe(local, path.replace("client.crt", "client.key"))


def test_what_a_request_allows_itself_is_added_to_the_time() -> None:
    request = HookRequest("log-1", "s", ("drain",), {}, 600)
    assert request.patience > 600
    assert replace(request, timeout=5).patience < 60
