"""Nodes that cannot be reached or written: what is said, the exit code, and that nothing is changed on them."""

from __future__ import annotations

import stat
from collections.abc import Iterator, Mapping
from pathlib import Path

import asyncssh
import pytest

from reconciler.registries.model import REGISTRIES_CONF
from reconciler.transport.sandbox import SandboxNode
from tests.machines import at, connection, machines, put, renew, ssh_document, visible, written
from tests.program import Done, Program
from tests.world import IMAGE, POOL, Repository, node_document

RELOAD = "reload crio.service"
HAND_MADE = 'unqualified-search-registries = ["reg.corp"]\n'


@pytest.fixture(scope="module")
def machine_room(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[SandboxNode]]:
    with machines(tmp_path_factory.mktemp("nodes"), 2) as nodes:
        yield nodes


@pytest.fixture
def nodes(machine_room: list[SandboxNode]) -> list[SandboxNode]:
    """The first one is bad in each test; the other must not suffer from that."""
    for node in machine_room:
        renew(node)
        put(node, REGISTRIES_CONF, HAND_MADE)
    return machine_room


class Fleet:
    """The nodes as a fleet, by default as they are."""

    def __init__(self, nodes: list[SandboxNode], directory: Path, database_url: str) -> None:
        self.nodes = nodes
        self.repository = Repository(directory / "config")
        url = f"file://{self.repository.directory}"
        self.program = Program(directory / "home", database_url, url, nodes[0].identity)

    def begin(self, bad: str = "") -> Done:
        """The first `sync --wait`; `bad` is another document for the first node."""
        one, two = (ssh_document(node) for node in self.nodes)
        files = {"pool.yaml": POOL, "image.yaml": IMAGE, "one.yaml": bad or one, "two.yaml": two}
        self.repository.commit(files, "Begin")
        return self.program.call("sync", "--wait")

    def status(self) -> dict[str, Mapping[str, object]]:
        """Nodes that need attention."""
        data = self.program.call("status", "-o", "json").data
        return {item["name"]: item for item in data["nodes"]["attention"]}

    def check_other(self) -> None:
        assert "untrusted.example.com" in at(self.nodes[1], REGISTRIES_CONF).read_text()
        assert self.nodes[1].actions() == [RELOAD]


@pytest.fixture
def fleet(nodes: list[SandboxNode], tmp_path: Path, database_url: str) -> Fleet:
    return Fleet(nodes, tmp_path, database_url)


def _files(node: SandboxNode) -> dict[str, tuple[int, ...]]:
    """Every file below the node's /etc; a copy that found no space moved its directory's mtime."""
    return {path: fields for path, fields in visible(node, "/etc").items() if not stat.S_ISDIR(fields[1])}


def _with(node: SandboxNode, **changed: object) -> str:
    fields = {**connection(node), **changed}
    return node_document(node.name, str(fields))


def test_wrong_host_key(fleet: Fleet) -> None:
    bad = fleet.nodes[0]
    before = written(bad)
    other = asyncssh.generate_private_key("ssh-ed25519").export_public_key().decode().strip()

    done = fleet.begin(bad=_with(bad, hostKeys=[other]))

    assert done.code == 3
    said = f"{bad.address}:{bad.port} shows the host key SHA256:"
    assert said in done.out
    assert "which is not one of its known keys" in done.out
    assert str(fleet.status()[bad.name]["reason"]).startswith(said)
    assert written(bad) == before
    fleet.check_other()
    assert fleet.program.call("diff").code == 2


def test_refused_login(fleet: Fleet) -> None:
    bad = fleet.nodes[0]
    before = written(bad)
    keys = bad.directory / "control/authorized_keys"
    text = keys.read_text()
    keys.write_text("")
    try:
        done = fleet.begin()
    finally:
        keys.write_text(text)
    assert done.code == 3
    assert f"{bad.address}:{bad.port} refused the login of root: " in done.out
    assert written(bad) == before
    fleet.check_other()


def test_login_without_the_right_to_write(fleet: Fleet) -> None:
    """`core` may log in, but is not root and has no sudo."""
    bad = fleet.nodes[0]
    before = written(bad)
    done = fleet.begin(bad=_with(bad, user="core"))
    assert done.code == 3
    assert "needs root on the host; set spec.become: sudo" in done.out
    assert written(bad) == before
    fleet.check_other()


def test_nobody_there(fleet: Fleet) -> None:
    bad = fleet.nodes[0]
    done = fleet.begin(bad=_with(bad, port=9))
    assert done.code == 3
    assert f"no connection to {bad.address}:9: " in done.out
    fleet.check_other()


@pytest.mark.parametrize("place", ["/etc", "/var"])
def test_full_disk(fleet: Fleet, place: str) -> None:
    bad = fleet.nodes[0]
    bad.fill(place)
    try:
        before = _files(bad)
        done = fleet.begin()
        assert done.code == 1
        assert "disk-full: " in done.out
        assert _files(bad) == before
        assert bad.actions() == []
        fleet.check_other()
    finally:
        bad.free()
    assert fleet.program.call("sync", "--wait").code == 0
    assert bad.actions() == [RELOAD]
    assert HAND_MADE in at(bad, REGISTRIES_CONF).read_text()


def test_read_only_etc(fleet: Fleet) -> None:
    bad = fleet.nodes[0]
    bad.read_only()
    try:
        before = _files(bad)
        done = fleet.begin()
        assert done.code == 1
        assert "read-only: " in done.out
        assert _files(bad) == before
        assert bad.actions() == []
        fleet.check_other()
    finally:
        bad.read_only(False)
    assert fleet.program.call("sync", "--wait").code == 0
    assert bad.actions() == [RELOAD]


def test_a_reload_that_fails_takes_the_old_files_back(fleet: Fleet) -> None:
    """The content is to blame: the rollout halts, the others keep what they have."""
    bad = fleet.nodes[0]
    bad.runtime.set_reload("unable")
    done = fleet.begin()
    assert done.code == 1
    assert "Unable to reload configuration" in done.out
    for node in fleet.nodes:
        assert at(node, REGISTRIES_CONF).read_text() == HAND_MADE
    assert bad.actions() == [RELOAD, RELOAD]
    assert fleet.nodes[1].actions() == []
    (pool,) = fleet.program.call("get", "pools", "-o", "json").data["items"]
    assert pool["rollout"] == "halted"


def test_a_node_of_mco(fleet: Fleet) -> None:
    bad = fleet.nodes[0]
    put(bad, "/etc/machine-config-daemon/currentconfig", "{}")
    before = written(bad)
    done = fleet.begin()
    assert done.code == 3
    assert "managed by the Machine Config Operator: use `manage: cluster`, or take the node out of MCO" in done.out
    assert written(bad) == before
    fleet.check_other()


def test_a_node_of_another_log(fleet: Fleet) -> None:
    bad = fleet.nodes[0]
    put(bad, "/var/lib/reconciler/owner", "log_id other\nepoch 1\nfence 7\ngeneration 1\nstep s\n")
    put(bad, "/var/lib/reconciler/lock", "")
    before = written(bad)
    done = fleet.begin()
    assert done.code == 3
    assert "belongs to another log (other): release it there, or take it with" in done.out
    assert written(bad) == before
    fleet.check_other()
