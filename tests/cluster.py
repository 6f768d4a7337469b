"""A Kubernetes control plane for tests: etcd and kube-apiserver on loopback, RBAC in force, ready in seconds.

    with ApiServer(tmp_path) as cluster:
        cluster.kubectl("apply", "-f", "-", input=manifests)
        mine = cluster.kubeconfig_for("olga", ["operators"])

Where the test wants them, Kubernetes' own controllers (`controller_manager`) and `scheduler` run too, OpenShift's
resources are known (`load_openshift`), and tests/kubelet.py plays the nodes. Every process ends with the thread that
started it.
"""

from __future__ import annotations

import base64
import functools
import json
import os
import ssl
import subprocess
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import yaml
from cryptography.hazmat.primitives.asymmetric import ec

from reconciler.transport.sandbox import wait_for
from tests.cluster_parts import HOST, Authority, Port, Proxy, leashed, need_kubernetes, private_pem

OPENSHIFT = Path(__file__).parent / "kubernetes/crds"
WITHIN = 60.0
"""Seconds that a part may take to be ready on a machine with other work."""

CONTROLLERS = (
    "clusterrole-aggregation-controller", "daemonset-controller", "deployment-controller", "disruption-controller",
    "garbage-collector-controller",
    "job-controller", "namespace-controller", "replicaset-controller", "root-ca-certificate-publisher-controller",
    "serviceaccount-controller", "serviceaccount-token-controller", "statefulset-controller",
)  # fmt: skip
"""Those that owners of pods, PodDisruptionBudgets, service accounts and the roles `view`, `edit` and `admin` need. None
that wants a heartbeat of nodes."""

AUDIT = """\
apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived]
rules: [{level: Metadata}]
"""


class ApiError(Exception):
    """An answer that is no success; `body` is the Status object."""

    def __init__(self, status: int, body: Any) -> None:
        super().__init__(f"{status}: {body.get('message', body) if isinstance(body, dict) else body}")
        self.status, self.body = status, body


class Call(NamedTuple):
    """A request that the API server answered."""

    user: str
    verb: str
    """get, list, watch, create, update, patch, delete, …"""

    resource: str
    """`pods`, `pods/eviction`, …"""

    name: str
    status: int


class ApiServer:
    """One control plane, and an administrator's hands on it."""

    def __init__(self, directory: Path, *, watch_cache: bool = True) -> None:
        """`directory`: for keys, data and logs; must exist. Without `watch_cache` etcd itself serves each watch."""
        self.programs = need_kubernetes()
        self.directory = directory
        self.watch_cache = watch_cache
        self.authority = Authority()
        self._ports = {name: Port() for name in ("etcd", "kube-apiserver")}
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        self._write_keys()
        self.tls = ssl.create_default_context(cafile=str(directory / "ca.crt"))
        self.tls.load_cert_chain(directory / "admin.crt", directory / "admin.key")
        self.kubeconfig = self._kubeconfig("admin", self._certificate_user("admin"), self.url)
        """Of an administrator who may do everything."""

    @property
    def url(self) -> str:
        return f"https://{HOST}:{self._ports['kube-apiserver'].number}"

    # --- start and end ------------------------------------------------------------------------------------------------

    def __enter__(self) -> ApiServer:
        try:
            self._spawn("etcd", *self._etcd_options())
            self.start()
            wait_for(lambda: self.exists("/api/v1/namespaces/default"), "no namespace default", WITHIN)
            self._account("default")
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        for name in reversed(tuple(self._processes)):
            self._end(name)
        for port in self._ports.values():
            port.close()

    def start(self) -> None:
        """Start the API server, and wait until it is ready."""
        self._spawn("kube-apiserver", *self._apiserver_options())
        self._await("kube-apiserver", lambda: self.exists("/readyz"))

    def stop(self) -> None:
        """Kill the API server; its data stay."""
        self._end("kube-apiserver")

    def restart(self, *, watch_cache: bool | None = None) -> None:
        """Kill the API server alone and start it again: every watch breaks, and what it cached of the past is gone."""
        self.stop()
        self.watch_cache = self.watch_cache if watch_cache is None else watch_cache
        self.start()

    def compact(self) -> None:
        """Forget the past of every object: a watch that etcd serves from an earlier version is answered 410."""
        header = self._etcd("range", {"key": base64.b64encode(b"/").decode()})["header"]
        self._etcd("compaction", {"revision": header["revision"], "physical": True})

    def forget(self) -> None:
        """Restart without a past: a watch from before the last change is answered 410 Gone."""
        self.stop()
        self.compact()
        self.start()

    def controller_manager(self) -> None:
        """Start Kubernetes' `CONTROLLERS`."""
        keys = ["--service-account-private-key-file=sa.key", "--root-ca-file=ca.crt"]
        loops = [f"--controllers={','.join(CONTROLLERS)}", "--leader-elect=false", "--secure-port=0"]
        self._spawn("kube-controller-manager", f"--kubeconfig={self.kubeconfig}", *keys, *loops)
        root = "/api/v1/namespaces/default/configmaps/kube-root-ca.crt"
        self._await("kube-controller-manager", lambda: self.exists(root))

    def scheduler(self) -> None:
        """Start Kubernetes' scheduler: pods without a node get one."""
        self._spawn("kube-scheduler", f"--kubeconfig={self.kubeconfig}", "--leader-elect=false", "--secure-port=0")

    def memory(self) -> dict[str, int]:
        """Resident memory of each process, MiB."""
        found = {}
        for name, process in self._processes.items():
            status = Path(f"/proc/{process.pid}/status").read_text()
            found[name] = int(status.partition("VmRSS:")[2].split()[0]) // 1024
        return found

    # --- hands --------------------------------------------------------------------------------------------------------

    def kubectl(self, *arguments: str, input: str = "", kubeconfig: Path | None = None) -> str:  # noqa: A002
        """Standard output of kubectl; AssertionError with what it said where it fails."""
        done = self.try_kubectl(*arguments, input=input, kubeconfig=kubeconfig)
        assert not done.returncode, f"kubectl {' '.join(arguments)}: {done.stderr.strip()}"
        return done.stdout

    def try_kubectl(
        self,
        *arguments: str,
        input: str = "",  # noqa: A002
        kubeconfig: Path | None = None,
    ) -> subprocess.CompletedProcess[str]:
        command = [str(self.programs / "kubectl"), f"--kubeconfig={kubeconfig or self.kubeconfig}", *arguments]
        environment = {"PATH": os.environ.get("PATH", ""), "HOME": str(self.directory)}
        return subprocess.run(command, input=input, capture_output=True, text=True, env=environment, check=False)

    def api(self, method: str, path: str, body: object = None, patch: str = "merge-patch+json") -> Any:
        """One request as the administrator: the decoded answer. Raises ApiError.

        `patch`: of a PATCH, what its body is (`apply-patch+yaml`: server-side apply, `body` may be text).
        """
        data = body.encode() if isinstance(body, str) else json.dumps(body).encode() if body is not None else None
        request = urllib.request.Request(self.url + path, data, method=method)  # noqa: S310  https of our own
        request.add_header("Content-Type", f"application/{patch}" if method == "PATCH" else "application/json")
        try:
            with urllib.request.urlopen(request, timeout=30, context=self.tls) as answer:  # noqa: S310
                return _decoded(answer.read())
        except urllib.error.HTTPError as error:
            with error:
                raise ApiError(error.code, _decoded(error.read())) from error

    def exists(self, path: str) -> bool:
        """Whether the API server answers, and with a success."""
        with suppress(ApiError, OSError):
            self.api("GET", path)
            return True
        return False

    def calls(self, user: str = "") -> list[Call]:
        """Every request answered so far, of a user or of all, oldest first; a watch when it begins and when it ends."""
        log = self.directory / "audit.log"
        found = map(_call, map(json.loads, log.read_text().splitlines() if log.exists() else ()))
        return [call for call in found if not user or call.user == user]

    def proxy(self) -> Proxy:
        """A link to the API server that can be cut; give its `url` to `kubeconfig_for`."""
        return Proxy(self._ports["kube-apiserver"].number)

    def kubeconfig_for(self, user: str, groups: Sequence[str] = (), *, server: str = "") -> Path:
        """A kubeconfig file of a user with a certificate, or, as `system:serviceaccount:NAMESPACE:NAME`, with a token.

        Such a user may do what RBAC rules allow: at first next to nothing. `server`: an address other than `url`.
        """
        if user.startswith("system:serviceaccount:"):
            _, _, namespace, name = user.split(":")
            path = f"/api/v1/namespaces/{namespace}/serviceaccounts/{name}/token"
            wanted = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {}}
            credentials: dict[str, object] = {"token": self.api("POST", path, wanted)["status"]["token"]}
        else:
            credentials = self._certificate_user(user, groups)
        return self._kubeconfig(user, credentials, server or self.url)

    # --- what is in it ------------------------------------------------------------------------------------------------

    def namespace(self, name: str) -> None:
        """Make a namespace with its default service account, which no pod can be made without."""
        self._create("/api/v1/namespaces", {"metadata": {"name": name}})
        self._account(name)

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

    def load_openshift(self) -> None:
        """OpenShift's resources for registries, image policies and machine configuration, and openshift-config."""
        definitions = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
        served = []
        for file in sorted(OPENSHIFT.glob("*.yaml")):
            text = file.read_text()
            definition = yaml.safe_load(text)
            path = f"{definitions}/{definition['metadata']['name']}?fieldManager=tests&force=true"
            self.api("PATCH", path, text, patch="apply-patch+yaml")
            spec = definition["spec"]
            served.append(f"/apis/{spec['group']}/{spec['versions'][0]['name']}/{spec['names']['plural']}")
        for path in served:
            wait_for(functools.partial(self.exists, path), f"{path} is not served", WITHIN)
        self.namespace("openshift-config")

    def _account(self, namespace: str) -> None:
        self._create(f"/api/v1/namespaces/{namespace}/serviceaccounts", {"metadata": {"name": "default"}})

    def _create(self, path: str, body: object) -> None:
        """Unless it is there: a controller may have been faster."""
        try:
            self.api("POST", path, body)
        except ApiError as error:
            if error.status != 409:
                raise

    # --- keys ---------------------------------------------------------------------------------------------------------

    def _write_keys(self) -> None:
        (self.directory / "ca.crt").write_bytes(self.authority.certificate)
        (self.directory / "sa.key").write_bytes(private_pem(ec.generate_private_key(ec.SECP256R1())))
        (self.directory / "audit.yaml").write_text(AUDIT)
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
        authority = base64.b64encode(self.authority.certificate).decode()
        content = {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "test", "cluster": {"server": server, "certificate-authority-data": authority}}],
            "users": [{"name": name, "user": credentials}],
            "contexts": [{"name": "test", "context": {"cluster": "test", "user": name}}],
            "current-context": "test",
        }
        port = server.rpartition(":")[2]
        file = self.directory / f"{name.replace(':', '-')}-{port}.kubeconfig"
        file.write_text(yaml.safe_dump(content))
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
        yield from ("--permit-port-sharing", f"--watch-cache={str(self.watch_cache).lower()}")
        yield from ("--tls-cert-file=apiserver.crt", "--tls-private-key-file=apiserver.key", "--client-ca-file=ca.crt")
        yield from ("--service-account-key-file=sa.key", "--service-account-signing-key-file=sa.key")
        yield from ("--service-account-issuer=https://kubernetes.default.svc", "--authorization-mode=Node,RBAC")
        yield from ("--service-cluster-ip-range=10.0.0.0/24", "--allow-privileged=true")
        yield from ("--audit-policy-file=audit.yaml", "--audit-log-path=audit.log")

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

    def _await(self, name: str, ready: Any) -> None:
        def holds() -> bool:
            ended = self._processes[name].poll()
            assert ended is None, f"{name} ended ({ended}): {self._said(name)}"
            return bool(ready())

        wait_for(holds, f"{name} is not ready", WITHIN)

    def _said(self, name: str) -> str:
        return (self.directory / f"{name}.log").read_text(errors="replace").strip()[-1500:]

    def _etcd(self, verb: str, body: object) -> Any:
        url = f"http://{HOST}:{self._ports['etcd'].number}/v3/kv/{verb}"
        with urllib.request.urlopen(url, json.dumps(body).encode(), timeout=30) as answer:
            return _decoded(answer.read())


def _decoded(answer: bytes) -> Any:
    try:
        return json.loads(answer)
    except ValueError:
        return answer.decode()


def _call(entry: dict[str, Any]) -> Call:
    """Of a line of the audit log."""
    what = entry.get("objectRef", {})
    resource = "/".join(filter(None, (what.get("resource"), what.get("subresource"))))
    status = entry.get("responseStatus", {}).get("code", 0)
    return Call(entry["user"]["username"], entry["verb"], resource or entry["requestURI"], what.get("name", ""), status)
