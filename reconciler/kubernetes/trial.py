"""A Kubernetes control plane of this machine, for the demo and for tests: etcd and kube-apiserver, ready in seconds.

    with ControlPlane(directory, programs) as cluster:
        cluster.api("POST", "/api/v1/nodes", {"metadata": {"name": "worker-1"}})

RBAC is in force, everything listens on loopback alone, and every process ends with the thread that started it.
"""

from __future__ import annotations

import base64
import json
import os
import shutil
import socket
import ssl
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Self

from cryptography.hazmat.primitives.asymmetric import ec

from reconciler.errors import ClusterError
from reconciler.kubernetes.trial_keys import Authority, kubeconfig, private_pem
from reconciler.transport.sandbox import wait_for

PROGRAMS = ("etcd", "kube-apiserver")
HOST = "127.0.0.1"
WITHIN = 60.0
"""Seconds that a part may take to be ready on a machine with other work."""

_STARTING = "storage is (re)initializing"
"""What a server that is ready by its own word says of a kind (429) that it does not serve yet."""


class ApiError(Exception):
    """An answer that is no success; `body` is the Status object."""

    def __init__(self, status: int, body: Any) -> None:
        super().__init__(f"{status}: {body.get('message', body) if isinstance(body, dict) else body}")
        self.status, self.body = status, body


def find_programs() -> Path | None:
    """The folder of `PROGRAMS` that KUBEBUILDER_ASSETS names, else the newest that `make kubernetes` built; or None."""
    given = os.environ.get("KUBEBUILDER_ASSETS")
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "reconciler"
    built = sorted(cache.glob("kubernetes-*"), key=lambda folder: folder.stat().st_mtime, reverse=True)
    for folder in [Path(given)] if given else built:
        if all(os.access(folder / program, os.X_OK) for program in PROGRAMS):
            return folder
    return None


def leashed(*command: str) -> list[str]:
    """The command, ended by the kernel with the thread that starts it, where that can be had."""
    return [*(("setpriv", "--pdeathsig", "KILL", "--") if shutil.which("setpriv") else ()), *command]


class Port:
    """A TCP port of loopback that nobody else gets while this is open: bound, not listening, shared with our server."""

    def __init__(self) -> None:
        self._socket = socket.socket()
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        self._socket.bind((HOST, 0))
        self.number: int = self._socket.getsockname()[1]

    def close(self) -> None:
        self._socket.close()


class ControlPlane:
    """One control plane, and an administrator's hands on it."""

    def __init__(self, directory: Path, programs: Path) -> None:
        """`directory`: for keys, data and logs; must exist. `programs`: where `PROGRAMS` are."""
        self.directory, self.programs = directory, programs
        self.authority = Authority()
        self._ports = {name: Port() for name in PROGRAMS}
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        self._write_keys()
        self.tls = ssl.create_default_context(cafile=str(directory / "ca.crt"))
        self.tls.load_cert_chain(directory / "admin.crt", directory / "admin.key")
        # loopback goes through no proxy, whatever the environment says
        direct = urllib.request.ProxyHandler({})
        self.opener = urllib.request.build_opener(direct, urllib.request.HTTPSHandler(context=self.tls))
        """Opens addresses of this cluster, as an administrator."""

        self.kubeconfig = self._kubeconfig("admin", self._certificate_user("admin"), self.url)
        """Of an administrator who may do everything."""

    @property
    def url(self) -> str:
        return f"https://{HOST}:{self._ports['kube-apiserver'].number}"

    # --- start and end ------------------------------------------------------------------------------------------------

    def __enter__(self) -> Self:
        try:
            self._spawn("etcd", *self._etcd_options())
            self.start()
            wait_for(lambda: self.exists("/api/v1/namespaces/default"), "no namespace default", WITHIN)
            self.account("default")
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        for name in reversed(tuple(self._processes)):
            self._end(name)
        for port in self._ports.values():
            port.close()
        shutil.rmtree(self.directory / "etcd", ignore_errors=True)  # some 80 MB, most of it room for more

    def start(self) -> None:
        """Start the API server, and wait until it is ready."""
        self._spawn("kube-apiserver", *self._apiserver_options())
        self._await("kube-apiserver", lambda: self.exists("/readyz"))

    def stop(self) -> None:
        """Kill the API server; its data stay."""
        self._end("kube-apiserver")

    # --- hands --------------------------------------------------------------------------------------------------------

    def api(self, method: str, path: str, body: object = None, patch: str = "merge-patch+json") -> Any:
        """One request as the administrator: the decoded answer. Raises ApiError.

        `patch`: of a PATCH, what its body is (`apply-patch+yaml`: server-side apply, `body` may be text).
        """
        data = body.encode() if isinstance(body, str) else json.dumps(body).encode() if body is not None else None
        request = urllib.request.Request(self.url + path, data, method=method)  # noqa: S310  https of our own
        request.add_header("Content-Type", f"application/{patch}" if method == "PATCH" else "application/json")
        end = time.monotonic() + WITHIN
        while True:
            try:
                with self.opener.open(request, timeout=30) as answer:
                    return _decoded(answer.read())
            except urllib.error.HTTPError as error:
                with error:
                    refused = ApiError(error.code, _decoded(error.read()))
                if _STARTING not in str(refused) or time.monotonic() > end:
                    raise refused from error
            time.sleep(0.05)

    def exists(self, path: str) -> bool:
        """Whether the API server answers, and with a success."""
        with suppress(ApiError, OSError):
            self.api("GET", path)
            return True
        return False

    def create(self, path: str, body: object) -> None:
        """Make an object, unless it is there: a controller may have been faster. Raises ApiError."""
        try:
            self.api("POST", path, body)
        except ApiError as error:
            if error.status != 409:
                raise

    def account(self, namespace: str) -> None:
        """The default service account of a namespace, which no pod can be made without."""
        self.create(f"/api/v1/namespaces/{namespace}/serviceaccounts", {"metadata": {"name": "default"}})

    # --- what is in it ------------------------------------------------------------------------------------------------

    def namespace(self, name: str) -> None:
        """Make a namespace with its default service account, which no pod can be made without."""
        self.create("/api/v1/namespaces", {"metadata": {"name": name}})
        self.account(name)

    def add_node(
        self,
        name: str,
        labels: Mapping[str, str] | None = None,
        *,
        annotations: Mapping[str, str] | None = None,
        ready: bool = True,
        version: str = "v1.36.3",
        runtime: str = "cri-o://1.36.0",
        address: str = HOST,
    ) -> None:
        """A Node as its kubelet registers it: with a host name, Ready or not, room for 500 pods."""
        metadata = {"name": name, "labels": {"kubernetes.io/hostname": name, **(labels or {})}}
        self.api("POST", "/api/v1/nodes", {"metadata": {**metadata, "annotations": dict(annotations or {})}})
        # an admission plugin takes every new node for not ready
        self.api("PATCH", f"/api/v1/nodes/{name}", {"spec": {"taints": None}})
        room = {"cpu": "64", "memory": "256Gi", "pods": "500", "ephemeral-storage": "100Gi"}
        status = {
            "capacity": room,
            "allocatable": room,
            "addresses": [{"type": "InternalIP", "address": address}, {"type": "Hostname", "address": name}],
            "nodeInfo": {"kubeletVersion": version, "containerRuntimeVersion": runtime},
        }
        self.api("PATCH", f"/api/v1/nodes/{name}/status", {"status": status})
        self.set_ready(name, ready)

    def set_ready(self, name: str, ready: bool) -> None:
        """A node's Ready condition, as its kubelet or the lack of one sets it."""
        condition = {"type": "Ready", "status": str(ready), "reason": "KubeletReady" if ready else "KubeletNotReady"}
        body = {"status": {"conditions": [condition]}}
        self.api("PATCH", f"/api/v1/nodes/{name}/status", body, patch="strategic-merge-patch+json")

    # --- keys ---------------------------------------------------------------------------------------------------------

    def _write_keys(self) -> None:
        (self.directory / "ca.crt").write_bytes(self.authority.certificate)
        (self.directory / "sa.key").write_bytes(private_pem(ec.generate_private_key(ec.SECP256R1())))
        pairs = {
            "apiserver": self.authority.issue("kube-apiserver", hosts=[HOST, "localhost"]),
            "admin": self.authority.issue("admin", ["system:masters"]),
        }
        for name, pair in pairs.items():
            (self.directory / f"{name}.crt").write_bytes(pair.certificate)
            (self.directory / f"{name}.key").write_bytes(pair.key)

    def _certificate_user(self, name: str, groups: Sequence[str] = ()) -> dict[str, object]:
        pair = self.authority.issue(name, ["system:masters"] if name == "admin" else groups)
        return {
            "client-certificate-data": base64.b64encode(pair.certificate).decode(),
            "client-key-data": base64.b64encode(pair.key).decode(),
        }

    def _kubeconfig(self, name: str, credentials: dict[str, object], server: str) -> Path:
        port = server.rpartition(":")[2]
        file = self.directory / f"{name.replace(':', '-')}-{port}.kubeconfig"
        file.write_text(kubeconfig(name, credentials, server, self.authority.certificate))
        file.chmod(0o600)
        return file

    # --- processes ----------------------------------------------------------------------------------------------------

    def _etcd_options(self) -> Iterator[str]:
        clients = f"http://{HOST}:{self._ports['etcd'].number}"
        yield from ("--data-dir=etcd", "--unsafe-no-fsync", "--log-level=warn", "--socket-reuse-port")
        yield from (f"--listen-client-urls={clients}", f"--advertise-client-urls={clients}")
        yield f"--listen-peer-urls=http://{HOST}:0"

    def _apiserver_options(self) -> Iterator[str]:
        yield f"--etcd-servers=http://{HOST}:{self._ports['etcd'].number}"
        yield from (f"--bind-address={HOST}", f"--secure-port={self._ports['kube-apiserver'].number}")
        yield from (f"--advertise-address={HOST}", "--endpoint-reconciler-type=none")
        yield "--permit-port-sharing"
        yield from ("--tls-cert-file=apiserver.crt", "--tls-private-key-file=apiserver.key", "--client-ca-file=ca.crt")
        yield from ("--service-account-key-file=sa.key", "--service-account-signing-key-file=sa.key")
        yield from ("--service-account-issuer=https://kubernetes.default.svc", "--authorization-mode=Node,RBAC")
        yield from ("--service-cluster-ip-range=10.0.0.0/24", "--allow-privileged=true")
        yield "--kubelet-preferred-address-types=InternalIP"

    def _spawn(self, name: str, *options: str) -> None:
        with (self.directory / f"{name}.log").open("ab") as log:
            self._processes[name] = subprocess.Popen(
                leashed(str(self.programs / name), *options),
                cwd=self.directory, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
            )  # fmt: skip

    def _end(self, name: str) -> None:
        if process := self._processes.pop(name, None):
            process.kill()
            process.wait()

    def _await(self, name: str, ready: Callable[[], bool]) -> None:
        def holds() -> bool:
            ended = self._processes[name].poll()
            if ended is not None:
                log = self.directory / f"{name}.log"
                said = log.read_text(errors="replace").strip()[-1500:]
                raise ClusterError(f"{name} ended ({ended}): {said}", where=str(log))
            return ready()

        wait_for(holds, f"{name} is not ready", WITHIN)


def _decoded(answer: bytes) -> Any:
    try:
        return json.loads(answer)
    except ValueError:
        return answer.decode()
