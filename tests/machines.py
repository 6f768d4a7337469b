"""sshd nodes as a fleet: their Node documents, what was ever written on them, and a look at their files at any time."""

from __future__ import annotations

import json
import shutil
import stat
import threading
import tomllib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from textwrap import dedent

from reconciler.registries.model import BASE_PATHS, POLICY_JSON, REGISTRIES_CONF_D
from reconciler.transport.memory import MemoryTransport
from reconciler.transport.router import TransportRouter
from reconciler.transport.sandbox import SandboxNode, start_nodes
from reconciler.transport.ssh import SshTransport
from reconciler.wiring import SystemClock
from tests.nodes import need_sshd
from tests.world import node_document

UPPER = ("mnt/etc/upper", "mnt/var/upper")
"""Upper layers of a node's overlays on /etc and /var: every change below these directories, and nothing else."""


@contextmanager
def machines(directory: Path, count: int) -> Iterator[list[SandboxNode]]:
    """Running sshd nodes; the test is skipped where there can be none."""
    need_sshd()
    nodes = start_nodes(directory, count)
    try:
        yield nodes
    finally:
        for node in nodes:
            node.close()


def transport(nodes: Sequence[SandboxNode]) -> TransportRouter:
    """For these nodes over SSH, and for as many memory nodes as a fleet names."""
    ssh = SshTransport(None, [str(nodes[0].identity)] if nodes else [], None, 10)
    return TransportRouter({"ssh": ssh, "memory": MemoryTransport(SystemClock())})


def ssh_document(node: SandboxNode) -> str:
    """The worker's Node document of a running node."""
    return node_document(node.name, json.dumps(connection(node)))


def connection(node: SandboxNode) -> dict[str, object]:
    """spec of its Node document."""
    return {
        "transport": "ssh",
        "address": node.address,
        "port": node.port,
        "user": "root",
        "hostKeys": [node.host_key],
    }


def ssh_nodes(nodes: Iterable[SandboxNode]) -> dict[str, str]:
    """nodes.yaml with these nodes."""
    return {"nodes.yaml": "---".join(dedent(ssh_document(node)) for node in nodes)}


def at(node: SandboxNode, path: str) -> Path:
    """A node's path, seen from outside."""
    return node.root / path.lstrip("/")


def put(node: SandboxNode, path: str, content: str | bytes) -> None:
    """Write a file of a node by hand."""
    place = at(node, path)
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_bytes(content.encode() if isinstance(content, str) else content)
    place.chmod(0o644)


def written(node: SandboxNode) -> dict[str, tuple[int, ...]]:
    """Complete lstat of everything that was ever changed below the node's /etc and /var (but not when it was read)."""
    found: dict[str, tuple[int, ...]] = {}
    for layer in UPPER:
        top = node.root / layer
        for place in [top, *top.rglob("*")]:
            status = place.lstat()
            found[str(place.relative_to(node.root))] = (
                status.st_ino,
                status.st_mode,
                status.st_uid,
                status.st_gid,
                status.st_nlink,
                status.st_size,
                status.st_mtime_ns,
                status.st_ctime_ns,
            )
    return found


def visible(node: SandboxNode, top: str) -> dict[str, tuple[int, ...]]:
    """What a look at a directory shows of its files: inode, mode, owner, size and mtime of each."""
    found: dict[str, tuple[int, ...]] = {}
    for place in sorted(at(node, top).rglob("*")):
        status = place.lstat()
        # an overlay draws the inode numbers of directories anew when it forgets them
        inode = 0 if stat.S_ISDIR(status.st_mode) else status.st_ino
        fields = (inode, status.st_mode, status.st_uid, status.st_gid, status.st_size, status.st_mtime_ns)
        found[str(place.relative_to(node.root))] = fields
    return found


def renew(node: SandboxNode) -> None:
    """As if the node had never been managed: no files, no state, an empty log of actions."""
    for place in ("etc/containers", "etc/docker", "etc/crio", "var/lib/reconciler"):
        shutil.rmtree(at(node, place), ignore_errors=True)
    at(node, "etc/containers").mkdir()
    for name in ("active", "reload", "delay", "refuse", "actions", "journal"):
        (node.runtime.control / name).unlink(missing_ok=True)


class Watcher:
    """Reads the files of nodes all the time, as their runtimes would; keeps every content seen, and what could not
    be loaded."""

    def __init__(self, nodes: Sequence[SandboxNode]) -> None:
        self.problems: list[str] = []
        self.seen: dict[tuple[str, str], set[str]] = {}
        self.looks = 0
        self._nodes = nodes
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> Watcher:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._end.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._end.wait(0.004):
            for node in self._nodes:
                self._look(node)
            self.looks += 1

    def _look(self, node: SandboxNode) -> None:
        drop_ins = at(node, REGISTRIES_CONF_D).glob("*.conf")
        places = {*(at(node, path) for path in BASE_PATHS), *drop_ins}
        for place in places:
            with suppress(FileNotFoundError):
                text = place.read_text()
                path = f"/{place.relative_to(node.root)}"
                seen = self.seen.setdefault((node.name, path), set())
                if text in seen:
                    continue
                seen.add(text)
                if problem := _unloadable(path, text):
                    self.problems.append(f"{node.name}: {path}: {problem}: {text[-80:]!r}")


def _unloadable(path: str, text: str) -> str:
    """Why a runtime could not load a file, or nothing."""
    try:
        if path == POLICY_JSON:
            return "" if json.loads(text).get("default") else "no default"
        return "" if tomllib.loads(text) else "empty"
    except ValueError as error:
        return str(error)
