"""The SSH transport against real sshd nodes: keys, logins, lost links, jump hosts, sudo, many at once."""

from __future__ import annotations

import asyncio
import re
import shutil
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import replace
from pathlib import Path

import asyncssh
import pytest

from reconciler.errors import NodeFault, NodeRefused, NodeUnreachable
from reconciler.ports import ImagesRequest, Observation, ObserveRequest, Target
from reconciler.transport.call import Call
from reconciler.transport.router import TransportRouter
from reconciler.transport.sandbox import SandboxNode, put_program, running_nodes, wait_for
from reconciler.transport.ssh import SshTransport
from tests.conformance.transport import ACTED, FIRST, MAIN, SECOND, apply, manifest, on_disk
from tests.nodes import SshRig, need_sshd

REQUEST = ObserveRequest("log-1", "crio", {MAIN: ""})
Connect = Callable[..., SshTransport]


@pytest.fixture(scope="module")
def nodes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[SandboxNode]]:
    need_sshd()
    with running_nodes(tmp_path_factory.mktemp("sshd"), 20) as nodes:
        yield nodes


@pytest.fixture
async def connect(nodes: list[SandboxNode]) -> AsyncIterator[Connect]:
    made: list[SshTransport] = []

    def transport(
        known_hosts: Path | None = None,
        identity: Path | None = nodes[0].identity,
        config: Path | None = None,
        max_connections: int = 1000,
        timeout: float = 10,
    ) -> SshTransport:
        identities = [str(identity)] if identity else []
        known, file = (str(path) if path else None for path in (known_hosts, config))
        made.append(SshTransport(known, identities, file, timeout, max_connections))
        return made[-1]

    yield transport
    for each in made:
        await each.close()


async def every(transport: SshTransport, targets: list[Target]) -> list[Observation | BaseException]:
    return await asyncio.gather(*(transport.observe(target, REQUEST) for target in targets), return_exceptions=True)


async def test_many_at_once_and_one_bad_apple(nodes: list[SandboxNode], connect: Connect) -> None:
    nodes[7].stop()
    try:
        answers = await every(connect(), [node.target() for node in nodes])
    finally:
        nodes[7].start()
    assert isinstance(answers.pop(7), NodeUnreachable)
    seen = [answer for answer in answers if isinstance(answer, Observation)]
    assert len(seen) == 19
    assert len({observation.machine_id for observation in seen}) == 19
    assert len({observation.host_key for observation in seen}) == 19
    key = asyncssh.import_public_key(nodes[0].host_key)
    assert seen[0].host_key == key.get_fingerprint()


async def test_a_wrong_host_key_is_refused(nodes: list[SandboxNode], connect: Connect) -> None:
    rig = SshRig(nodes[0])
    target = replace(rig.target, host_keys=(nodes[1].host_key,))
    with pytest.raises(NodeRefused) as caught:
        await connect().observe(target, REQUEST)
    shown = asyncssh.import_public_key(nodes[0].host_key).get_fingerprint()
    assert shown in caught.value.what
    assert "spec.hostKeys" in caught.value.remedy
    rig.transport = connect()
    rig.target = target
    with pytest.raises(NodeRefused):
        await apply(rig, "s1", FIRST)
    assert on_disk(rig, FIRST) == dict.fromkeys(FIRST)


async def test_a_host_key_of_another_kind_is_refused(nodes: list[SandboxNode], connect: Connect) -> None:
    other = asyncssh.generate_private_key("ecdsa-sha2-nistp256").export_public_key().decode()
    shown = asyncssh.import_public_key(nodes[0].host_key).get_fingerprint()
    with pytest.raises(NodeRefused, match=re.escape(shown)):
        await connect().observe(replace(nodes[0].target(), host_keys=(other,)), REQUEST)
    with pytest.raises(NodeRefused, match=r"spec\.hostKeys"):
        await connect().observe(replace(nodes[0].target(), host_keys=("ssh-ed25519 no",)), REQUEST)


async def test_known_hosts_vouches_and_is_read_again(
    nodes: list[SandboxNode], connect: Connect, tmp_path: Path
) -> None:
    node, file = nodes[0], tmp_path / "known_hosts"
    target = replace(node.target(), host_keys=())
    transport = connect(file)
    with pytest.raises(NodeRefused):
        await transport.observe(target, REQUEST)
    file.write_text(f"[{node.address}]:{node.port} {nodes[1].host_key}\n")
    with pytest.raises(NodeRefused):
        await transport.observe(target, REQUEST)
    file.write_text(f"# ours\n[{node.address}]:{node.port} {node.host_key}\n")
    assert (await transport.observe(target, REQUEST)).machine_id


async def test_a_refused_login(nodes: list[SandboxNode], connect: Connect, tmp_path: Path) -> None:
    stranger = tmp_path / "stranger"
    asyncssh.generate_private_key("ssh-ed25519").write_private_key(str(stranger))
    with pytest.raises(NodeRefused, match="refused the login of root"):
        await connect(identity=stranger).observe(nodes[0].target(), REQUEST)
    with pytest.raises(NodeRefused, match="identity files"):
        await connect(identity=tmp_path / "missing").observe(nodes[0].target(), REQUEST)


async def test_a_kept_connection_that_died_is_replaced(nodes: list[SandboxNode], connect: Connect) -> None:
    transport = connect()
    first = await transport.observe(nodes[0].target(), REQUEST)
    nodes[0].restart()
    second = await transport.observe(nodes[0].target(), REQUEST)
    assert first.machine_id == second.machine_id
    assert first.boot_id != second.boot_id


async def test_a_kept_connection_on_which_nothing_comes_back_is_replaced(
    nodes: list[SandboxNode], connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("reconciler.transport.ssh.KEEPALIVE", 3600)
    async with relay(nodes[0]) as link:
        target = replace(nodes[0].target(), address="127.0.0.1", port=link.port)
        rig, transport = SshRig(nodes[0]), connect(timeout=2)
        rig.transport, rig.target = transport, target
        await transport.observe(target, REQUEST)
        link.drop()
        assert (await transport.observe(target, REQUEST)).machine_id
        link.drop()
        assert (await apply(rig, "s1", FIRST)).result == "applied"
    assert link.opened == 3


class Relay:
    """A way to a node; what was opened before `drop` stays open, and carries nothing any more."""

    def __init__(self, node: SandboxNode) -> None:
        self._node = node
        self._writers: list[asyncio.StreamWriter] = []
        self._dropped = 0
        self.opened = self.port = 0

    def drop(self) -> None:
        self._dropped = self.opened

    async def carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.opened += 1
        far_reader, far_writer = await asyncio.open_connection(self._node.address, self._node.port)
        self._writers += [writer, far_writer]
        number = self.opened
        await asyncio.gather(self._pass(number, reader, far_writer), self._pass(number, far_reader, writer))

    async def _pass(self, number: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError):
            while data := await reader.read(65536):
                if number > self._dropped:
                    writer.write(data)
        writer.close()

    def close(self) -> None:
        for writer in self._writers:
            writer.close()


@asynccontextmanager
async def relay(node: SandboxNode) -> AsyncIterator[Relay]:
    link = Relay(node)
    server = await asyncio.start_server(link.carry, "127.0.0.1", 0)
    link.port = server.sockets[0].getsockname()[1]
    try:
        yield link
    finally:
        server.close()
        link.close()


async def test_looks_share_a_process_that_is_replaced_when_it_dies(nodes: list[SandboxNode], connect: Connect) -> None:
    node, transport = nodes[5], connect()
    target = node.target()
    looks: list[Callable[[], Awaitable[object]]] = [
        lambda: transport.observe(target, REQUEST),
        lambda: transport.images(target, ImagesRequest("log-1", "crio")),
        lambda: transport.observe(target, replace(REQUEST, images=True)),
    ]
    for look in looks:
        assert await look()
        assert (first := residents(node)) == residents(node)
    assert len(first) <= 2  # the login shell may stand before it
    for look in looks:
        before = residents(node)
        node.run("kill", "-9", *before)
        assert await look()
        assert not before & residents(node)
    await transport.close()
    await asyncio.to_thread(wait_for, lambda: not residents(node), "the program outlives its connection")


TELLING = """#!/bin/sh
printf '%s\\n' "$1" >>/run/sandbox/asked
[ "$1" = config ] && printf 'pause_image = "pause:VERSION"\\n' || printf 'crio version VERSION\\n'
"""


async def test_the_runtime_is_asked_once_what_it_tells_of_itself(nodes: list[SandboxNode], connect: Connect) -> None:
    """Until it is started anew; of its pause image, until its settings change, too."""
    node, transport, crio = nodes[9], connect(), nodes[9].root / "usr/local/bin/crio"
    asked, started = (node.runtime.control / name for name in ("asked", "started"))

    async def told(images: bool = True) -> tuple[str, str]:
        seen = await transport.observe(node.target(), replace(REQUEST, images=images))
        return seen.runtime_version, seen.images.pause if seen.images else ""

    def questions() -> list[str]:
        words = asked.read_text().split()
        asked.unlink()
        return words

    put_program(crio, TELLING.replace("VERSION", "1"))
    assert [await told(False), await told(False)] == [("crio version 1", "")] * 2
    assert [await told(), await told()] == [("crio version 1", "pause:1")] * 2
    assert questions() == ["--version", "config"]
    put_program(crio, TELLING.replace("VERSION", "2"))
    SshRig(node).put("/etc/crio/crio.conf", b"[crio]\n")
    assert [await told(), await told()] == [("crio version 1", "pause:2")] * 2
    assert questions() == ["config"]
    started.write_text("@2000\n")
    assert [await told(), await told(False), await told()] == [
        ("crio version 2", "pause:2"), ("crio version 2", ""), ("crio version 2", "pause:2"),
    ]  # fmt: skip
    assert questions() == ["--version", "config"]
    started.write_text("\n")
    assert [await told(), await told()] == [("crio version 2", "pause:2")] * 2
    assert questions() == ["--version", "config"] * 2
    started.unlink()
    put_program(crio, (node.runtime.control / "bin/crio").read_text())


async def test_several_looks_at_once_have_an_answer_each(nodes: list[SandboxNode], connect: Connect) -> None:
    transport, target = connect(), nodes[5].target()
    paths = [MAIN, *(f"/etc/containers/registries.conf.d/{n}.conf" for n in range(4))]
    requests = [ObserveRequest("log-1", "crio", {path: ""}) for path in paths]
    for _ in range(2):
        answers = await asyncio.gather(*(transport.observe(target, request) for request in requests))
        assert [list(answer.files) for answer in answers] == [[path] for path in paths]


async def test_a_look_at_very_many_files(nodes: list[SandboxNode], connect: Connect) -> None:
    paths = [f"/etc/containers/registries.conf.d/{n:0100}.conf" for n in range(200)]
    answer = await connect().observe(nodes[5].target(), ObserveRequest("log-1", "crio", dict.fromkeys(paths, "")))
    assert list(answer.files) == paths


async def test_a_look_that_hangs_is_given_up_and_the_next_one_is_answered(
    nodes: list[SandboxNode], connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    node, transport = nodes[8], connect()
    target = node.target()
    await transport.observe(target, REQUEST)
    [kept] = transport._kept.values()
    with stuck(node):
        monkeypatch.setattr("reconciler.transport.ssh.VERB_TIMEOUT", 1)
        with pytest.raises(NodeUnreachable, match="timed out"):
            await transport.observe(target, REQUEST)
        monkeypatch.undo()
    connection = kept.connection
    assert (await transport.observe(target, REQUEST)).runtime_version
    assert kept.connection is connection


async def test_a_caller_who_goes_away_leaves_no_answer_to_the_next(nodes: list[SandboxNode], connect: Connect) -> None:
    node, transport = nodes[9], connect()
    target = node.target()
    await transport.observe(target, REQUEST)
    with stuck(node) as started:
        gone = asyncio.create_task(transport.observe(target, REQUEST))
        await asyncio.to_thread(wait_for, started, "no look")
        gone.cancel()
        with pytest.raises(asyncio.CancelledError):
            await gone
    assert (await transport.images(target, ImagesRequest("log-1", "crio"))).note == ""
    assert (await transport.observe(target, REQUEST)).runtime_version


async def test_a_killed_look_is_asked_again_once(nodes: list[SandboxNode], connect: Connect) -> None:
    node, transport = nodes[10], connect()
    target = node.target()
    await transport.observe(target, REQUEST)
    known = residents(node)

    async def kill_look() -> None:
        await asyncio.to_thread(wait_for, started, "no look")
        node.run("kill", "-9", *(residents(node) - known))

    with stuck(node) as started:
        running = asyncio.create_task(transport.observe(target, REQUEST))
        await kill_look()
        put_program(node.root / "usr/local/bin/systemctl", "#!/bin/sh\necho ActiveState=again\n")
        assert (await running).active == "again"
    assert not known & residents(node)
    fresh = connect()
    with stuck(node) as started:
        known = residents(node)
        running = asyncio.create_task(fresh.observe(target, REQUEST))
        await kill_look()
        with pytest.raises(NodeUnreachable, match=r"killed|lost"):
            await running


async def test_a_login_that_prints_something_is_no_answer(nodes: list[SandboxNode], connect: Connect) -> None:
    """Neither before the first answer nor behind it, where it would be taken for the next one."""
    node, transport = nodes[11], connect()
    shell, passwd = node.root / "usr/local/bin/noisy", node.root / "etc/passwd"
    put_program(shell, '#!/bin/sh\necho "welcome"\nexec /bin/sh "$@"\n')
    text = passwd.read_text()
    passwd.write_text(re.sub("^(root:.*:).*$", r"\1/usr/local/bin/noisy", text, flags=re.MULTILINE))
    try:
        for _ in range(3):
            with pytest.raises(NodeFault, match="no valid JSON: 'welcome"):
                await transport.observe(node.target(), REQUEST)
    finally:
        passwd.write_text(text)


def residents(node: SandboxNode) -> set[str]:
    """The processes of programs that answer requests on a node."""
    found = set()
    for place in (node.root / "proc").glob("[0-9]*/cmdline"):
        with suppress(OSError):
            if place.read_bytes().rstrip(b"\0").endswith((b"node.sh\x001\0reside", b"node.sh 1 reside")):
                found.add(place.parent.name)
    return found


@contextmanager
def stuck(node: SandboxNode) -> Iterator[Callable[[], bool]]:
    """While a look at the node does not come to its end; what it yields says that one is under way."""
    systemctl, mark = node.root / "usr/local/bin/systemctl", node.root / "run/stuck"
    mark.unlink(missing_ok=True)
    put_program(systemctl, "#!/bin/sh\n: >/run/stuck\nexec sleep 1000\n")
    yield mark.exists
    put_program(systemctl, (node.runtime.control / "bin/systemctl").read_text())


async def test_few_connections_serve_many_nodes(nodes: list[SandboxNode], connect: Connect) -> None:
    transport = connect(max_connections=2)
    for _ in range(2):
        for node in nodes[:4]:
            assert (await transport.observe(node.target(), REQUEST)).machine_id
    answers = await every(transport, [node.target() for node in nodes[:6]])
    assert all(isinstance(answer, Observation) for answer in answers)
    await transport.observe(nodes[0].target(), REQUEST)
    assert len(transport._kept) == 2


async def test_a_link_lost_in_the_middle(nodes: list[SandboxNode], connect: Connect) -> None:
    """The node goes on by itself; the same step sent again gets the receipt, and nothing happens twice."""
    rig = SshRig(nodes[0])
    rig.transport = transport = connect()
    nodes[0].runtime.set_delay(1)
    running = asyncio.create_task(apply(rig, "s1", FIRST))
    await asyncio.to_thread(wait_for, lambda: rig.actions() == [ACTED], "no reload")
    for kept in transport._kept.values():
        assert kept.connection is not None
        kept.connection.abort()
    with pytest.raises(NodeUnreachable, match="lost"):
        await running
    done = await apply(rig, "s1", FIRST)
    assert (done.result, done.manifest, done.loaded) == ("applied", manifest(FIRST), True)
    assert rig.actions() == [ACTED]


async def test_a_node_switched_off_in_the_middle(nodes: list[SandboxNode], connect: Connect) -> None:
    rig = SshRig(nodes[0])
    rig.transport = connect()
    await apply(rig, "s1", FIRST)
    nodes[0].runtime.set_delay(30)
    running = asyncio.create_task(apply(rig, "s2", SECOND))
    await asyncio.to_thread(wait_for, lambda: rig.actions() == [ACTED] * 2, "no reload")
    await asyncio.to_thread(nodes[0].stop)
    with pytest.raises(NodeUnreachable):
        await running
    with pytest.raises(NodeUnreachable):
        await apply(rig, "s2", SECOND)
    nodes[0].runtime.set_delay(0)
    await asyncio.to_thread(nodes[0].start)
    done = await apply(rig, "s2", SECOND)
    assert (done.result, done.manifest) == ("applied", manifest(SECOND))
    assert on_disk(rig, SECOND) == SECOND


@pytest.mark.parametrize(
    ("content", "alone"), [(b"a\n|b\n\n", False), ("é\n".encode(), True), (b"a\0b\x01", True), (b"a\n" * 20_000, True)]
)
async def test_a_change_shares_the_process_that_looks_have(
    nodes: list[SandboxNode], connect: Connect, monkeypatch: pytest.MonkeyPatch, content: bytes, alone: bool
) -> None:
    """Unless a shell could not read its files, or not soon."""
    rig = SshRig(nodes[12])
    rig.transport = transport = connect()
    await transport.observe(rig.target, REQUEST)
    calls = []
    run = SshTransport._run

    async def counted(self: SshTransport, target: Target, call: Call) -> tuple[bytes, str]:
        calls.append(call.verb)
        return await run(self, target, call)

    monkeypatch.setattr(SshTransport, "_run", counted)
    assert (await apply(rig, "s1", {MAIN: content})).result == "applied"
    assert rig.read(MAIN) == content
    assert calls == ["apply"] * alone


async def test_a_killed_change_is_not_begun_again(nodes: list[SandboxNode], connect: Connect) -> None:
    """On a connection that lives it is for the caller to send the step again."""
    rig = SshRig(nodes[13])
    rig.transport = transport = connect()
    await transport.observe(rig.target, REQUEST)
    nodes[13].runtime.set_delay(1)
    running = asyncio.create_task(apply(rig, "s1", FIRST))
    await asyncio.to_thread(wait_for, lambda: rig.actions() == [ACTED], "no reload")
    nodes[13].run("kill", "-9", *residents(nodes[13]))
    with pytest.raises(NodeUnreachable, match="killed"):
        await running
    assert rig.actions() == [ACTED]
    done = await apply(rig, "s1", FIRST)
    assert (done.result, done.manifest) == ("applied", manifest(FIRST))


async def test_two_at_once_on_one_node_take_turns(nodes: list[SandboxNode], connect: Connect) -> None:
    rig = SshRig(nodes[0])
    nodes[0].runtime.set_delay(0.3)
    rig.transport = connect()
    answers = await asyncio.gather(*(apply(rig, f"s{n}", {MAIN: b"%d" % n}, fence=1) for n in range(4)))
    assert [answer.result for answer in answers] == ["applied"] * 4
    assert sorted(answer.generation for answer in answers) == [1, 2, 3, 4]
    last = max(range(4), key=lambda n: answers[n].generation)
    assert rig.read(MAIN) == b"%d" % last


async def test_the_clients_configuration_file_and_a_jump_host(
    nodes: list[SandboxNode], connect: Connect, tmp_path: Path
) -> None:
    target, jump = nodes[1], nodes[2]
    known = tmp_path / "known_hosts"
    known.write_text(f"[{jump.address}]:{jump.port} {jump.host_key}\n")
    config = tmp_path / "config"
    config.write_text(
        f"""Host far
  HostName {target.address}
  Port {target.port}
  User root
  IdentityFile {target.identity}
  ProxyJump jump
Host jump
  HostName {jump.address}
  Port {jump.port}
  User root
  IdentityFile {jump.identity}
  UserKnownHostsFile {known}
"""
    )
    wanted = Target("default", "node", "ssh", "far", host_keys=(target.host_key,))
    seen = await connect(identity=None, config=config).observe(wanted, REQUEST)
    assert seen.machine_id == (target.root / "etc/machine-id").read_text().strip()
    known.write_text(f"[{jump.address}]:{jump.port} {target.host_key}\n")
    with pytest.raises(NodeRefused, match="host key"):
        await connect(identity=None, config=config).observe(wanted, REQUEST)


@pytest.mark.parametrize(
    ("text", "cipher"), [("", "aes128-gcm@openssh.com"), ("Host *\n    Ciphers aes256-ctr\n", "aes256-ctr")]
)
async def test_the_users_ciphers_come_before_ours(
    nodes: list[SandboxNode], connect: Connect, tmp_path: Path, text: str, cipher: str
) -> None:
    (tmp_path / "config").write_text(text)
    transport = connect(config=tmp_path / "config")
    await transport.observe(nodes[0].target(), REQUEST)
    [kept] = transport._kept.values()
    assert kept.connection is not None
    assert kept.connection.get_extra_info("send_cipher") == cipher


async def test_sudo(nodes: list[SandboxNode], connect: Connect) -> None:
    if not shutil.which("sudo"):
        pytest.skip("needs sudo")
    rig = SshRig(nodes[3])
    rig.transport = connect()
    rig.target = nodes[3].target(user="core", become="sudo")
    with pytest.raises(NodeRefused, match="sudo refused"):
        await apply(rig, "s1", FIRST)
    rule = rig.at("/etc/sudoers.d/core")
    rule.write_text("core ALL=(root) NOPASSWD: ALL\n")
    rule.chmod(0o440)
    done = await apply(rig, "s1", FIRST)
    assert (done.result, done.manifest) == ("applied", manifest(FIRST))
    assert rig.at(MAIN).stat().st_uid == 0
    rig.target = nodes[3].target(user="core", become="sudo -i")
    with pytest.raises(NodeRefused, match="cannot become root"):
        await apply(rig, "s2", FIRST)


async def test_without_root_nothing_is_done(nodes: list[SandboxNode], connect: Connect) -> None:
    with pytest.raises(NodeRefused, match="not-root"):
        await connect().observe(nodes[3].target(user="core"), REQUEST)


async def test_a_node_without_a_shell_that_answers(nodes: list[SandboxNode], connect: Connect) -> None:
    shell = nodes[4].root / "etc/passwd"
    text = shell.read_text()
    shell.write_text(text.replace("core:/bin/sh", "core:/bin/false"))
    try:
        with pytest.raises(NodeFault, match="ended with status 1"):
            await connect().observe(nodes[4].target(user="core"), REQUEST)
    finally:
        shell.write_text(text)


async def test_the_router_picks_by_name(nodes: list[SandboxNode], connect: Connect) -> None:
    router = TransportRouter({"ssh": connect()})
    assert (await router.observe(nodes[0].target(), REQUEST)).machine_id
    with pytest.raises(NodeRefused, match="no transport 'telnet'"):
        await router.observe(replace(nodes[0].target(), transport="telnet"), REQUEST)
    await router.close()
