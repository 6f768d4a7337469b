"""Nodes that are reached by pods: sandbox nodes whose kubelet is the test cluster's, and their rig for conformance."""

from __future__ import annotations

import ssl
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from reconciler.kubernetes.connection import Connection
from reconciler.kubernetes.nodes import KubernetesCluster
from reconciler.kubernetes.pod_spec import Origin
from reconciler.kubernetes.pods import PodTransport
from reconciler.transport.sandbox import SandboxNode
from tests.cluster import ApiServer
from tests.cluster_parts import HOST
from tests.kubelet import Kubelet
from tests.machines import machines
from tests.nodes import SshRig

NAMESPACE = "reconciler"
IMAGE = f"registry.example.com/tools/helper@sha256:{'4' * 64}"
ORIGIN = Origin(NAMESPACE, IMAGE, "default", "log-1", "here:1:aa")
ALWAYS = 1e-9
"""A look_interval: every look is made."""


@dataclass
class PodNodes:
    """A cluster, its kubelets, and the machines that are its nodes."""

    cluster: ApiServer
    kubelet: Kubelet
    machines: list[SandboxNode]

    @property
    def config(self) -> Path:
        return self.cluster.kubeconfig

    def left(self) -> list[str]:
        """Names of the pods and Secrets that are in the namespace now."""
        found = []
        for kind in ("pods", "secrets"):
            listed = self.cluster.api("GET", f"/api/v1/namespaces/{NAMESPACE}/{kind}")
            found += [f"{kind}/{item['metadata']['name']}" for item in listed["items"]]
        return found


@contextmanager
def pod_nodes(cluster: ApiServer, directory: Path, count: int) -> Iterator[PodNodes]:
    """Machines, each a Node of the cluster that has its name; skips the test where there can be none."""
    with machines(directory, count) as nodes, Kubelet(cluster, nodes) as kubelet, _logs(cluster, kubelet) as port:
        cluster.namespace(NAMESPACE)
        for node in nodes:
            cluster.add_node(node.name)
            status = {"status": {"daemonEndpoints": {"kubeletEndpoint": {"Port": port}}}}
            cluster.api("PATCH", f"/api/v1/nodes/{node.name}/status", status)
        yield PodNodes(cluster, kubelet, nodes)


@contextmanager
def _logs(cluster: ApiServer, kubelet: Kubelet) -> Iterator[int]:
    """The port on which kubelets serve containers' logs to the API server."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            _, _, namespace, pod, container = self.path.partition("?")[0].split("/")
            body = kubelet.log(namespace, pod, container).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Nobody reads it."""

    pair = cluster.authority.issue("kubelet", hosts=[HOST])
    files = [cluster.directory / name for name in ("kubelet.crt", "kubelet.key")]
    for file, content in zip(files, (pair.certificate, pair.key), strict=True):
        file.write_bytes(content)
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(files[0], files[1])
    with ThreadingHTTPServer((HOST, 0), Handler) as server:
        server.socket = tls.wrap_socket(server.socket, server_side=True)
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield server.server_port
        server.shutdown()
        thread.join()


async def nobody() -> Collection[str]:
    """No other process is alive."""
    return ()


@asynccontextmanager
async def by_pods(
    config: Path,
    origin: Origin = ORIGIN,
    living: Callable[[], Awaitable[Collection[str]]] = nobody,
    look_interval: float = 0,
) -> AsyncIterator[PodTransport]:
    """The transport of a process."""
    connection = Connection("default", "kubeconfig", str(config))
    cluster = KubernetesCluster(connection)
    transport = PodTransport(connection, cluster.mirror, origin, living, look_interval)
    try:
        yield transport
    finally:
        await transport.close()
        await cluster.close()
        await connection.close()


class PodRig(SshRig):
    """The same machine as over SSH, reached by pods. Looks are never answered from memory: what a test does behind the
    transport's back, nobody tells of."""

    def __init__(self, node: SandboxNode, transport: PodTransport) -> None:
        super().__init__(node)
        self.transport = transport
        self.target = replace(node.target(), transport="kubernetes", node_name=node.name)
