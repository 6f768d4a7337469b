"""Judges: skopeo and podman on an sshd node, pulling from two real registries, on a network of their own.

A judge is a sandbox node whose programs run in a network namespace that has nothing but `lo`: no name and no packet
can leave this machine. One registry speaks TLS with a certificate of its own CA, the other plain HTTP; each answers
on several ports, under every name in `HOSTS`. What they are asked is read from their logs.
"""

from __future__ import annotations

import json
import re
import shlex
import shutil
import subprocess
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, NamedTuple

import pytest

from reconciler.transport.sandbox import SandboxNode, available, start_nodes, wait_for
from tests.judge_parts import IMAGE, write_certificates

Server = Literal["tls", "plain"]
ADDRESSES: Mapping[Server, str] = {"tls": "198.51.100.1", "plain": "198.51.100.2"}
"""Of a range for documentation; not 127.0.0.0/8, where runtimes do not insist on TLS."""
_PORTS: Mapping[Server, tuple[int, ...]] = {"tls": (443, 5000), "plain": (80, 443, 5000)}
HOSTS: Mapping[str, Server] = {
    **dict.fromkeys(("a.io", "x.a.io", "m.lan", "docker.io"), "tls"),
    **dict.fromkeys(("b.corp", "x.b.corp", "p.lan"), "plain"),
}
"""Which server stands behind a name, without port and with port 5000. Other names resolve to nothing."""
DOCKER_HUB = "registry-1.docker.io"
"""The host that stands behind the name docker.io."""
REFUSED, REFUSED_ADDRESS = "refused.lan", "198.51.100.3"
"""A registry whose host refuses the connection. Podman asks such a one four times, a second apart."""
ACCEPT = b'{"default": [{"type": "insecureAcceptAnything"}]}'

_PODMAN = "podman --root /run/judge/podman --runroot /run/judge/run --tmpdir /run/judge/tmp --storage-driver vfs"
_SOURCE = "podman --root /run/judge/source --runroot /run/judge/run --tmpdir /run/judge/tmp --storage-driver vfs"
_COMMANDS: Mapping[str, str] = {
    "skopeo": "skopeo copy -q docker://{image} dir:/run/judge/out",
    "podman": f"rm -rf /run/judge/podman; {_PODMAN} pull -q {{image}}",
    "skopeo push": "skopeo copy -q oci:/run/sandbox/image:v1 docker://{image}",
    "skopeo copy": "skopeo copy -q docker://{image} docker://m.lan/copied:v1",
    "podman push": f"{_SOURCE} push -q {{id}} {{image}}",
}
Program = Literal["skopeo", "podman", "skopeo push", "skopeo copy", "podman push"]
Files = Mapping[str, bytes | None]


class Ask(NamedTuple):
    """What a program is told to pull, or to push to."""

    program: Program
    image: str


class Answer(NamedTuple):
    """Whether it was done; each `registry/repository` that was asked for something, in order; what the program said."""

    done: bool
    contacted: tuple[str, ...]
    said: str


class Trial(NamedTuple):
    """A node's files, and what is tried under them."""

    files: Files
    asks: Sequence[Ask]


def server_of(registry: str) -> Server | None:
    """Which server answers for `host[:port]`."""
    host, _, port = registry.partition(":")
    return HOSTS.get(host) if port in ("", "5000") and registry != "docker.io:5000" else None


def need_judges() -> None:
    """Skip the test where judges cannot be had."""
    if reason := available():
        pytest.skip(reason)
    for program in ("skopeo", "podman", "docker-registry", "ip"):
        if not shutil.which(program, path="/usr/bin:/bin:/usr/sbin:/sbin"):
            pytest.skip(f"the judges need {program}")
    if subprocess.run(["unshare", "--net", "true"], capture_output=True, check=False).returncode:
        pytest.skip("the judges need a network namespace")


def holds(server: Server, repository: str) -> bool:
    """Whether a server has the image in this repository: nearly all are there, chosen by name; some names say so."""
    parts = repository.split("/")
    if "gone" in parts or "only-tls" in parts or "only-plain" in parts:
        return f"only-{server}" in parts and "gone" not in parts
    return zlib.crc32(f"{server}/{repository}".encode()) % 8 > 0


# --- the judges -----------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class Judge:
    """A node with its network and its registries. `control` is seen inside the node as /run/sandbox."""

    node: SandboxNode
    network: int
    """The process that holds the network namespace."""

    stores: Mapping[Server, Path]
    held: set[tuple[Server, str]] = field(default_factory=set)
    """Repositories put into the stores."""

    @property
    def control(self) -> Path:
        return self.node.directory / "control"

    @property
    def log(self) -> Path:
        return self.control / "access.log"

    def run(self, *command: str) -> str:
        """Run a command in the node's namespaces, as root with nothing in its environment. Returns its output."""
        network = ["nsenter", f"--net=/proc/{self.network}/ns/net", "--"]
        node = ["nsenter", "--target", str(self.node.pid), "--mount", "--uts", "--pid", "--wd=/", "--"]
        clean = ["env", "-i", "HOME=/root", "PATH=/usr/bin:/bin:/usr/sbin:/sbin", "LC_ALL=C.UTF-8"]
        clean += ["CONTAINERS_CONF=/run/sandbox/containers.conf"]
        done = subprocess.run([*network, *node, *clean, *command], capture_output=True, text=True, check=False)
        assert not done.returncode, done.stderr
        return done.stdout

    def fill(self, repositories: Iterable[str]) -> None:
        """Put the image into those of `repositories` that each server `holds`."""
        for server in self.stores:
            for repository in sorted(set(repositories)):
                if holds(server, repository) and (server, repository) not in self.held:
                    self.held.add((server, repository))
                    place = self.stores[server] / "docker/registry/v2/repositories"
                    for part in ("_layers", "_manifests"):
                        shutil.copytree(place / "seed" / part, place / repository / part, dirs_exist_ok=True)

    def ask(self, trials: Sequence[Trial]) -> list[list[Answer]]:
        """Put each trial's files in place, run what it asks for, and say what happened, in one round."""
        place = self.control / "trials"
        shutil.rmtree(place, ignore_errors=True)
        script = [_SCRIPT]
        for number, trial in enumerate(trials):
            for path, content in trial.files.items():
                if content is not None:
                    target = place / str(number) / path.lstrip("/")
                    target.parent.mkdir(parents=True, exist_ok=True)
                    target.write_bytes(content)
            (place / str(number)).mkdir(parents=True, exist_ok=True)
            script.append(f"use {number}")
            for index, ask in enumerate(trial.asks):
                command = _COMMANDS[ask.program].format(image=shlex.quote(ask.image), id=IMAGE.id)
                script.append(f"try {number}.{index} {shlex.quote(command)}")
        (self.control / "ask.sh").write_text("\n".join(script))
        self.log.write_bytes(b"")
        self.run("sh", "/run/sandbox/ask.sh")
        answers = dict(self._answers())
        return [[answers[f"{n}.{i}"] for i in range(len(trial.asks))] for n, trial in enumerate(trials)]

    def _answers(self) -> Iterator[tuple[str, Answer]]:
        """The log, cut at the marks that the script leaves in it.

        A registry logs a request before it sends the end of its answer, so no line comes after its mark.
        """
        contacted: list[str] = []
        for line in self.log.read_text().splitlines():
            if line.startswith("@"):
                name, status = line[1:].split()
                if status != "begins":
                    said = (self.control / "trials" / f"{name}.said").read_text(errors="replace")
                    yield name, Answer(status == "0", tuple(contacted), said.strip())
                contacted = []
            elif line.startswith("{") and "http.response.status" in (request := json.loads(line)):
                registry, place = _place(request["http.request.host"], request["http.request.uri"])
                if contacted[-1:] == [registry]:
                    contacted.pop()
                if contacted[-1:] != [place]:
                    contacted.append(place)


def _place(host: str, uri: str) -> tuple[str, str]:
    """The registry, and `registry/repository` (or the registry again, where it was only asked whether it is one)."""
    registry = "docker.io" if host == DOCKER_HUB else host
    path = uri.partition("?")[0].removeprefix("/v2/")
    found = re.fullmatch("(.+)/(?:manifests|blobs|tags)/.*", path)
    return registry, f"{registry}/{found[1]}" if found else registry


_SCRIPT = """set -u
here=/run/sandbox
mkdir -p /run/judge
use() {
    rm -rf /etc/containers /etc/docker /root/.config
    cp -R "$here/trials/$1/." /
}
try() {
    rm -rf /var/lib/containers
    printf '@%s begins\\n' "$1" >>"$here/access.log"
    sh -c "$2" >"$here/trials/$1.said" 2>&1
    printf '@%s %s\\n' "$1" "$?" >>"$here/access.log"
}
"""


@contextmanager
def running_judges(directory: Path, count: int) -> Iterator[tuple[list[Judge], bytes]]:
    """Start judges that share stores and certificates; with them, the certificate of the registries' CA."""
    with ExitStack() as stack:
        nodes = start_nodes(directory, count, prefix="judge")
        for node in nodes:
            stack.callback(node.close)
        names = [DOCKER_HUB, *(name for name, server in HOSTS.items() if server == "tls")]
        authority = write_certificates(directory, names)
        stores: dict[Server, Path] = {"tls": directory / "store-tls", "plain": directory / "store-plain"}
        judges = []
        for node in nodes:
            judge = Judge(node, stack.enter_context(_network()), stores)
            stack.enter_context(_registries(judge, directory))
            _furnish(judge)
            judges.append(judge)
        _seed(judges[0], authority)
        yield judges, authority


@contextmanager
def _network() -> Iterator[int]:
    """A network namespace with the servers' addresses on `lo`; the process that holds it."""
    addresses = [*ADDRESSES.values(), REFUSED_ADDRESS]
    setup = ["ip link set lo up", *(f"ip address add {address}/32 dev lo" for address in addresses)]
    script = " && ".join([*setup, "echo ready", "exec sleep infinity"])
    with _ending(["unshare", "--net", "sh", "-c", script], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        yield process.pid


@contextmanager
def _registries(judge: Judge, directory: Path) -> Iterator[None]:
    """Both servers on all their ports, logging to one file, in the order of their answers."""
    with ExitStack() as stack:
        log = stack.enter_context(judge.log.open("ab"))
        count = 0
        for server, ports in _PORTS.items():
            for port in ports:
                settings = judge.control / f"{server}-{port}.json"
                settings.write_text(json.dumps(_settings(server, port, judge.stores[server], directory)))
                serve = ["docker-registry", "serve", str(settings)]
                command = ["nsenter", f"--net=/proc/{judge.network}/ns/net", "--", *serve]
                stack.enter_context(_ending(command, stdout=subprocess.DEVNULL, stderr=log))
                count += 1
        wait_for(lambda: judge.log.read_text().count("listening on ") == count, "the registries did not start")
        yield


def _settings(server: Server, port: int, store: Path, directory: Path) -> dict[str, Any]:
    """Configuration of docker-registry, which reads JSON too, being YAML."""
    http: dict[str, Any] = {"addr": f"{ADDRESSES[server]}:{port}", "secret": "not one"}
    if server == "tls":
        http["tls"] = {"certificate": str(directory / "tls.crt"), "key": str(directory / "tls.key")}
    return {
        "version": "0.1",
        "log": {"level": "info", "formatter": "json", "accesslog": {"disabled": True}},
        "storage": {"filesystem": {"rootdirectory": str(store)}},
        "http": http,
    }


@contextmanager
def _ending(command: list[str], **options: Any) -> Iterator[subprocess.Popen[bytes]]:
    """A process that ends with the block, and with the calling thread."""
    process = subprocess.Popen(["setpriv", "--pdeathsig", "KILL", *command], stdin=subprocess.DEVNULL, **options)
    with process:
        try:
            yield process
        finally:
            process.kill()


def _furnish(judge: Judge) -> None:
    """Names, no name server, and an image that podman can push."""
    names: dict[str, list[str]] = {address: [] for address in ADDRESSES.values()}
    for name, server in HOSTS.items():
        names[ADDRESSES[server]].append(DOCKER_HUB if name == "docker.io" else name)
    names[REFUSED_ADDRESS] = [REFUSED]
    etc = judge.node.root / "etc"
    (etc / "hosts").write_text("".join(f"{address} {' '.join(hosts)}\n" for address, hosts in names.items()))
    (etc / "resolv.conf").unlink(missing_ok=True)
    (etc / "resolv.conf").write_text("")
    (judge.control / "containers.conf").write_text(_CONTAINERS_CONF)
    for path, content in IMAGE.files.items():
        place = judge.control / "image" / path
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(content)
    judge.ask([Trial({"/etc/containers/policy.json": ACCEPT}, [])])
    judge.run("sh", "-c", f"{_SOURCE} pull -q oci:/run/sandbox/image:v1")


_CONTAINERS_CONF = """[engine]
lock_type = "file"
cgroup_manager = "cgroupfs"
events_logger = "none"
"""
"""Podman keeps its locks in /dev/shm otherwise, which the node shares with its host."""


def _seed(judge: Judge, authority: bytes) -> None:
    """Push the image once to each server; `fill` copies from there."""
    files = {
        "/etc/containers/policy.json": ACCEPT,
        "/etc/containers/registries.conf": b"[[registry]]\nlocation = 'p.lan'\ninsecure = true",
        "/etc/docker/certs.d/m.lan/ca.crt": authority,
    }
    pushes = [Ask("skopeo push", f"{host}/seed:{tag}") for host in ("m.lan", "p.lan") for tag in ("v1", "latest")]
    (answers,) = judge.ask([Trial(files, pushes)])
    assert all(answer.done for answer in answers), answers
