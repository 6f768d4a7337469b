"""The fleet that the node benchmark works on: real sshd nodes, the config repository that names them, a slow link."""

from __future__ import annotations

import asyncio
import json
import shutil
import subprocess
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path

from reconciler.data import data_path
from reconciler.transport.sandbox import SandboxNode, start_nodes

RESOURCES = ("image.yaml", "mirrors.yaml", "registry-ca.yaml")
"""Of the example fleet; together they give each node five files."""

CHANGE = """apiVersion: config.openshift.io/v1
kind: ImageDigestMirrorSet
metadata: {{name: change}}
spec: {{imageDigestMirrors: [{{source: quay.io/change-{number}, mirrors: [internal-mirror.io/change]}}]}}
"""

POOL = """apiVersion: reconciler.dev/v1alpha1
kind: NodePool
metadata: {name: worker}
spec:
  mode: MODE
  nodeSelector: {matchLabels: {node-role.kubernetes.io/worker: ""}}
  maxParallel: 50
  canary: {nodes: 1, soak: 0s}
  requiredImages: [quay.io/app/web:1]
"""


@dataclass(frozen=True)
class Place:
    """Where a node is reached: its own address, or the link's before it."""

    node: SandboxNode
    address: str
    port: int


class Repository:
    """A config repository with these nodes in one pool that begins in mode observe."""

    def __init__(self, directory: Path, nodes: Sequence[str]) -> None:
        self.directory = directory
        directory.mkdir(parents=True)
        self._git("init", "--quiet", "--initial-branch=main")
        for name in RESOURCES:
            shutil.copy(data_path("config") / "example-fleet" / name, directory)
        self.commit({"nodes.yaml": "---\n".join(nodes), "pool.yaml": POOL.replace("MODE", "observe")})

    @property
    def url(self) -> str:
        return f"file://{self.directory}"

    def commit(self, files: Mapping[str, str]) -> None:
        for name, text in files.items():
            (self.directory / name).write_text(text)
        self._git("add", "--all")
        self._git("commit", "--quiet", "--message", "Change the configuration")

    def enforce(self) -> None:
        self.commit({"pool.yaml": POOL.replace("MODE", "enforce")})

    def change(self, number: int) -> None:
        """A commit that changes one of the five files, registries.conf, on every node."""
        self.commit({"change.yaml": CHANGE.format(number=number)})

    def _git(self, *arguments: str) -> None:
        who = ("-c", "user.name=Bench", "-c", "user.email=bench@example.com", "-c", "commit.gpgsign=false")
        subprocess.run(["git", "-C", str(self.directory), *who, *arguments], check=True, capture_output=True)


def node_document(name: str, spec: Mapping[str, object]) -> str:
    """A worker's Node document."""
    metadata = {"name": name, "labels": {"node-role.kubernetes.io/worker": ""}}
    document = {"apiVersion": "reconciler.dev/v1alpha1", "kind": "Node", "metadata": metadata, "spec": spec}
    return f"{json.dumps(document)}\n"


def ssh_document(place: Place) -> str:
    """The Node document of a node reached at `place`."""
    spec = {"transport": "ssh", "address": place.address, "port": place.port, "user": "root"}
    return node_document(place.node.name, {**spec, "hostKeys": [place.node.host_key]})


def memory_document(name: str) -> str:
    """The Node document of a node that is only played."""
    return node_document(name, {"transport": "memory"})


@contextmanager
def running(directory: Path, count: int, prefix: str = "node") -> Iterator[list[Place]]:
    """`count` sshd nodes; the directory holds their keys."""
    nodes = start_nodes(directory, count, prefix=prefix)
    try:
        yield [Place(node, node.address, node.port) for node in nodes]
    finally:
        for node in nodes:
            node.close()


def renew(places: Sequence[Place]) -> None:
    """As if the nodes had never been managed: none of the files, no state, no reload in the log of actions."""
    for place in places:
        for folder in ("etc/containers", "etc/docker", "var/lib/reconciler"):
            shutil.rmtree(place.node.root / folder, ignore_errors=True)
        (place.node.root / "etc/containers").mkdir()
        (place.node.runtime.control / "actions").unlink(missing_ok=True)


def files_of(place: Place) -> dict[str, bytes]:
    """Path → bytes of the files that stand on the node."""
    root = place.node.root
    found = [path for folder in ("etc/containers", "etc/docker") for path in sorted((root / folder).rglob("*"))]
    return {f"/{path.relative_to(root)}": path.read_bytes() for path in found if path.is_file()}


def check(places: Sequence[Place], files: Mapping[str, bytes], reloads: int) -> None:
    """Raises AssertionError unless each node has exactly these files, and was told to reload exactly so often."""
    for place in places:
        assert files_of(place) == files, f"{place.node.name} has other files"
        assert place.node.actions() == ["reload crio.service"] * reloads, f"{place.node.name}: {place.node.actions()}"


@dataclass
class Link:
    """A way to a node on which every byte takes `delay` seconds, in each direction."""

    delay: float = 0.0


@asynccontextmanager
async def behind(link: Link, place: Place) -> AsyncIterator[Place]:
    """The node, reached over the link."""

    async def relay(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        far_reader, far_writer = await asyncio.open_connection(place.address, place.port)
        await asyncio.gather(_carry(link, reader, far_writer), _carry(link, far_reader, writer))

    server = await asyncio.start_server(relay, "127.0.0.1", 0)
    host, port = server.sockets[0].getsockname()
    try:
        yield Place(place.node, host, port)
    finally:
        server.close()


async def _carry(link: Link, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Everything that is read is written `link.delay` later, in order, and as closely together as it came."""
    loop = asyncio.get_running_loop()
    under_way: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue()

    async def arrive() -> None:
        data = b"."
        while data:
            due, data = await under_way.get()
            await asyncio.sleep(due - loop.time())
            writer.write(data)
        writer.close()

    arriving = asyncio.create_task(arrive())
    data = b"."
    while data:
        data = await reader.read(65536)
        under_way.put_nowait((loop.time() + link.delay, data))
    await arriving
