"""GitSource over a real sshd on this machine: login, host keys, and what it says when they are refused."""

from __future__ import annotations

import getpass
import shutil
import socket
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from reconciler.errors import SourceError
from reconciler.ports import Proposal
from reconciler.source.git_source import GitSource
from tests.integration.git_repository import GitRepository

SSHD = shutil.which("sshd", path="/usr/sbin:/usr/local/sbin:/usr/bin")


@dataclass(frozen=True)
class Server:
    port: int
    key: Path
    known_hosts: Path

    def ssh(self, *options: str) -> str:
        own = ["-F", "none", "-i", str(self.key), "-o", f"UserKnownHostsFile={self.known_hosts}"]
        return " ".join(["ssh", *own, "-o IdentitiesOnly=yes -o IdentityAgent=none", *options])


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as chosen:
        return int(chosen.getsockname()[1])


def make_key(path: Path) -> str:
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", path], check=True)
    return path.with_suffix(".pub").read_text()


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    if SSHD is None:
        pytest.skip("sshd is not installed")
    if not Path("/run/sshd").is_dir():
        try:
            Path("/run/sshd").mkdir()
        except OSError:
            pytest.skip("sshd wants /run/sshd, and only root may make it")
    host_key = make_key(tmp_path / "host")
    (tmp_path / "authorized").write_text(make_key(tmp_path / "login"))
    port = free_port()
    (tmp_path / "known_hosts").write_text(f"[127.0.0.1]:{port} {host_key}")
    options = {
        "ListenAddress": f"127.0.0.1:{port}",
        "HostKey": tmp_path / "host",
        "AuthorizedKeysFile": tmp_path / "authorized",
        "PidFile": "none",
        "StrictModes": "no",
        "UsePAM": "no",
        "PasswordAuthentication": "no",
    }
    (tmp_path / "sshd_config").write_text("".join(f"{name} {value}\n" for name, value in options.items()))
    with subprocess.Popen([SSHD, "-D", "-e", "-f", tmp_path / "sshd_config"], stderr=subprocess.PIPE) as daemon:
        assert daemon.stderr is not None
        assert b"Server listening" in daemon.stderr.readline()
        yield Server(port, tmp_path / "login", tmp_path / "known_hosts")
        daemon.terminate()


def source_of(repository: GitRepository, server: Server, tmp_path: Path) -> GitSource:
    url = f"ssh://{getpass.getuser()}@127.0.0.1:{server.port}{repository.directory}"
    return GitSource(url, "main", ".", tmp_path / "mirror", 20)


async def test_a_fetch_over_ssh(tmp_path: Path, server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    repository = GitRepository(tmp_path / "fleet")
    head = repository.commit(a="1")
    monkeypatch.setenv("GIT_SSH_COMMAND", server.ssh())
    source = source_of(repository, server, tmp_path)
    assert await source.head() == head
    assert [file.data for file in await source.manifests(head)] == [b"1"]
    moved = repository.commit(a="2")
    assert await source.head() == moved


async def test_an_unknown_host_key_is_not_asked_about(
    tmp_path: Path, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    repository = GitRepository(tmp_path / "fleet")
    repository.commit(a="1")
    server.known_hosts.write_text("")
    monkeypatch.setenv("GIT_SSH_COMMAND", server.ssh())
    with pytest.raises(SourceError, match=r"(?s)the host key of the Git server is not known.*known_hosts"):
        await source_of(repository, server, tmp_path).head()


async def test_a_refused_login_is_not_asked_about(
    tmp_path: Path, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    repository = GitRepository(tmp_path / "fleet")
    repository.commit(a="1")
    (tmp_path / "authorized").write_text("")
    monkeypatch.setenv("GIT_SSH_COMMAND", server.ssh())
    with pytest.raises(SourceError, match="the Git server refused the login"):
        await source_of(repository, server, tmp_path).head()


async def test_a_push_with_the_same_login(tmp_path: Path, server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    repository = GitRepository(tmp_path / "fleet")
    head = repository.commit(a="1", b="1")
    files = {"a.yaml": b"0", "b.yaml": None, "c/d.yaml": b"2"}
    monkeypatch.setenv("GIT_SSH_COMMAND", server.ssh())
    source = source_of(repository, server, tmp_path)
    await source.head()
    commit = await source.push("take-back", Proposal(head, files, "Back\n", "alice@host"))
    assert repository.git("rev-parse", "take-back") == commit
    assert [(file.path, file.data) for file in await source.manifests(commit)] == [("a.yaml", b"0"), ("c/d.yaml", b"2")]
    (made,) = await source.commits(head, commit) or ()
    assert (made.parent, made.author, made.author_email, made.message) == (head, "alice", "alice@host", "Back")
