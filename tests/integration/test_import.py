"""`import` and `hostkeys scan` on real sshd nodes: which hosts are trusted and read, and what is written down."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from reconciler.registries.model import REGISTRIES_CONF
from reconciler.transport.sandbox import SandboxNode
from tests.machines import machines, put, renew, written
from tests.program import Done, Program

INSECURE = '[[registry]]\nlocation = "lab.corp:5000"\ninsecure = true\n'


@pytest.fixture(scope="module")
def started(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[SandboxNode]]:
    with machines(tmp_path_factory.mktemp("nodes"), 3) as nodes:
        yield nodes


@pytest.fixture
def nodes(started: list[SandboxNode]) -> list[SandboxNode]:
    for node in started:
        renew(node)
        put(node, REGISTRIES_CONF, INSECURE)
    return started


@pytest.fixture
def program(nodes: list[SandboxNode], tmp_path: Path) -> Program:
    """It knows the first two nodes."""
    program = Program(tmp_path / "program", "", str(tmp_path / "config"), nodes[0].identity)
    know(program, nodes[:2])
    (program.directory / "hosts").write_text("".join(f"{node.address}:{node.port}\n" for node in nodes))
    return program


def know(program: Program, nodes: list[SandboxNode]) -> None:
    lines = [f"[{node.address}]:{node.port} {node.host_key}\n" for node in nodes]
    (program.directory / "known_hosts").write_text("".join(lines))


def imported(program: Program, *arguments: str) -> Done:
    return program.call("import", "--nodes", str(program.directory / "hosts"), *arguments)


def documents(program: Program) -> dict[str, dict[str, Any]]:
    """The Node documents that were written, by address."""
    texts = [path.read_text() for path in Path(program.url).glob("groups/*/nodes.yaml")]
    return {document["spec"]["address"]: document for text in texts for document in yaml.safe_load_all(text)}


def test_a_host_that_nobody_vouches_for_is_not_contacted(program: Program, nodes: list[SandboxNode]) -> None:
    done = imported(program, "--to", program.url, "-o", "json")
    assert done.code == 3
    (unread,) = done.data["unread"]
    assert unread["host"] == nodes[2].address
    assert "its host key is not known, so it was not contacted" in unread["reason"]
    assert set(documents(program)) == {node.address for node in nodes[:2]}
    assert [len(group["hosts"]) for group in done.data["groups"]] == [2]


def test_new_host_keys_are_marked(program: Program, nodes: list[SandboxNode]) -> None:
    done = imported(program, "--to", program.url, "--accept-new-host-keys")
    assert done.code == 0, done.said
    assert f"{nodes[2].address}: its host key was seen at first contact" in done.out
    found = documents(program)
    for node in nodes:
        (key,) = found[node.address]["spec"]["hostKeys"]
        assert key.split()[:2] == node.host_key.split()[:2]
    marked = [address for address, document in found.items() if "annotations" in document["metadata"]]
    assert marked == [nodes[2].address]
    assert program.call("validate", program.url).code == 0


def test_a_host_with_another_key_is_not_read_even_when_new_keys_are_accepted(
    program: Program, nodes: list[SandboxNode]
) -> None:
    (program.directory / "known_hosts").write_text(f"[{nodes[0].address}]:{nodes[0].port} {nodes[1].host_key}\n")
    done = imported(program, "--accept-new-host-keys", "-o", "json")
    assert done.code == 3
    assert [item["host"] for item in done.data["unread"]] == [nodes[0].address]
    assert "which is not one of its known keys" in done.data["unread"][0]["reason"]


def test_hosts_of_others_and_hosts_that_cannot_be_judged_are_listed(program: Program, nodes: list[SandboxNode]) -> None:
    know(program, nodes)
    put(nodes[0], "/etc/machine-config-daemon/currentconfig", "{}")
    put(nodes[1], f"{REGISTRIES_CONF}.d/50-key.conf", "# -----BEGIN PRIVATE KEY-----\n")
    before = [written(node) for node in nodes]
    done = imported(program, "-o", "json")
    reasons = {item["host"]: item["reason"] for item in done.data["unread"]}
    (nodes[0].root / "etc/machine-config-daemon/currentconfig").unlink()
    assert done.code == 3
    assert "managed by the Machine Config Operator" in reasons[nodes[0].address]
    assert "50-key.conf was not read: it is over 1 MiB or holds a private key" in reasons[nodes[1].address]
    assert [group["hosts"] for group in done.data["groups"]] == [[nodes[2].address]]
    assert "PRIVATE KEY" not in done.said
    assert [written(node) for node in nodes[1:]] == before[1:]


def test_drop_ins_and_certificates_are_read_too(program: Program, nodes: list[SandboxNode]) -> None:
    know(program, nodes)
    put(nodes[0], f"{REGISTRIES_CONF}.d/50-mine.conf", '[aliases]\n"tools" = "reg.corp/tools"\n')
    put(nodes[1], "/etc/docker/certs.d/reg.corp/client.cert", "x")
    put(nodes[2], "/root/.config/containers/policy.json", "{}")
    done = imported(program, "-o", "json")
    (nodes[2].root / "root/.config/containers/policy.json").unlink()
    stays = {item["file"]: item["name"] for group in done.data["groups"] for item in group["stays"]}
    assert stays == {
        f"{REGISTRIES_CONF}.d/50-mine.conf": "drop-in",
        "/etc/docker/certs.d/reg.corp/client.cert": "certificate",
        "/root/.config/containers/policy.json": "other-file",
    }
    assert len(done.data["groups"]) == 3


def test_nothing_is_overwritten_and_nothing_is_half_written(program: Program) -> None:
    Path(program.url).mkdir()
    (Path(program.url) / "mine").write_text("")
    done = imported(program, "--to", program.url)
    assert (done.code, "is there already, and not empty" in done.err) == (2, True)
    gone = program.call("import", "--from-node", "127.0.0.2:1", "--accept-new-host-keys", "--to", f"{program.url}-2")
    assert (gone.code, "not read: no host key from 127.0.0.2:1" in gone.out) == (3, True)
    assert not Path(f"{program.url}-2").exists()
    assert program.call("import").code == 2


def test_a_host_with_a_certificate_of_a_known_authority(program: Program, nodes: list[SandboxNode]) -> None:
    """It is contacted; this one has no certificate to show, and hangs up."""
    (program.directory / "known_hosts").write_text(f"@cert-authority * {nodes[1].host_key}\n")
    done = program.call("import", "--from-node", f"{nodes[0].address}:{nodes[0].port}")
    assert (done.code, f"not read: no connection to {nodes[0].address}" in done.out) == (3, True)


def test_hosts_of_the_ssh_configuration(program: Program, nodes: list[SandboxNode]) -> None:
    know(program, nodes)
    (program.directory / "ssh_config").write_text(
        f"Host first second\n  HostName {nodes[0].address}\n  Port {nodes[0].port}\n  User root\n"
    )
    done = program.call("import", "--ssh-config", "--sudo", "--to", program.url)
    assert done.code == 3, done.said
    assert "second: not read: is the same machine as first\n" in done.out
    (document,) = documents(program).values()
    assert document["metadata"]["name"] == "first"
    assert (document["spec"]["address"], document["spec"]["port"]) == (nodes[0].address, nodes[0].port)
    assert (document["spec"]["user"], document["spec"]["become"]) == ("root", "sudo")


def test_scanned_host_keys(program: Program, nodes: list[SandboxNode]) -> None:
    hosts = str(program.directory / "hosts")
    keys = [" ".join(node.host_key.split()[:2]) for node in nodes]
    done = program.call("hostkeys", "scan", "--nodes", hosts)
    assert done.code == 0, done.said
    rows = {line.split()[0]: line.split()[1:] for line in done.out.splitlines()[1:]}
    assert {name: row[2] for name, row in rows.items()} == {
        nodes[0].address: "yes", nodes[1].address: "yes", nodes[2].address: "no",
    }  # fmt: skip
    assert all(row[1].startswith("SHA256:") for row in rows.values())
    lines = program.call("hostkeys", "scan", "--nodes", hosts, "-o", "known_hosts").out.splitlines()
    assert sorted(lines) == sorted(f"[{n.address}]:{n.port} {key}" for n, key in zip(nodes, keys, strict=True))
    one = program.call("hostkeys", "scan", f"{nodes[0].address}:{nodes[0].port}", "-o", "hostkeys").out
    assert yaml.safe_load(one) == {"hostKeys": [keys[0]]}


def test_a_host_key_that_changed_is_told(program: Program, nodes: list[SandboxNode]) -> None:
    (program.directory / "known_hosts").write_text(f"[{nodes[0].address}]:{nodes[0].port} {nodes[1].host_key}\n")
    done = program.call("hostkeys", "scan", f"{nodes[0].address}:{nodes[0].port}", "127.0.0.2:1", "-o", "json")
    first, gone = sorted(done.data["items"], key=lambda item: item["error"])
    assert (done.code, first["strange"], first["keys"][0]["known"]) == (1, True, "other")
    assert "shows none of its known keys" in done.err
    assert gone["error"].startswith("no host key from 127.0.0.2:1")
