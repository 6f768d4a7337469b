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
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from reconciler.kubernetes.trial import HOST, WITHIN, ApiError, ControlPlane
from reconciler.transport.sandbox import wait_for
from tests.cluster_parts import Proxy, need_kubernetes

__all__ = ["ApiError", "ApiServer", "Call"]

OPENSHIFT = Path(__file__).parent / "kubernetes/crds"
CONTROLLERS = (
    "clusterrole-aggregation-controller", "daemonset-controller", "deployment-controller", "disruption-controller",
    "garbage-collector-controller",
    "job-controller", "namespace-controller", "replicaset-controller", "root-ca-certificate-publisher-controller",
    "serviceaccount-controller", "serviceaccount-token-controller", "statefulset-controller",
)  # fmt: skip
"""Those that owners of pods, PodDisruptionBudgets, service accounts and the roles `view`, `edit` and `admin` need. None
that wants a heartbeat of nodes."""

HURRY = ("--kube-api-qps=2000", "--kube-api-burst=2000")
"""Requests a second: the defaults, 20 and 50, are meant for more than one cluster's worth of patience."""

AUDIT = """\
apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived]
rules: [{level: Metadata}]
"""


class Call(NamedTuple):
    """A request that the API server answered."""

    user: str
    verb: str
    """get, list, watch, create, update, patch, delete, …"""

    resource: str
    """`pods`, `pods/eviction`, …"""

    name: str
    status: int


class ApiServer(ControlPlane):
    """A control plane whose calls are counted, whose past can be forgotten, and whose link can be cut."""

    def __init__(self, directory: Path, *, watch_cache: bool = True) -> None:
        """`directory`: for keys, data and logs; must exist. Without `watch_cache` etcd itself serves each watch."""
        super().__init__(directory, need_kubernetes())
        self.watch_cache = watch_cache
        (directory / "audit.yaml").write_text(AUDIT)

    # --- start and end ------------------------------------------------------------------------------------------------

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
        """Start Kubernetes' `CONTROLLERS`; skips the test where there are none."""
        need_kubernetes(["kube-controller-manager"])
        keys = ["--service-account-private-key-file=sa.key", "--root-ca-file=ca.crt"]
        loops = [f"--controllers={','.join(CONTROLLERS)}", "--leader-elect=false", "--secure-port=0"]
        self._spawn("kube-controller-manager", f"--kubeconfig={self.kubeconfig}", *HURRY, *keys, *loops)
        root = "/api/v1/namespaces/default/configmaps/kube-root-ca.crt"
        self._await("kube-controller-manager", lambda: self.exists(root))

    def scheduler(self) -> None:
        """Start Kubernetes' scheduler: pods without a node get one. Skips the test where there is none."""
        need_kubernetes(["kube-scheduler"])
        options = [f"--kubeconfig={self.kubeconfig}", "--leader-elect=false", "--secure-port=0"]
        self._spawn("kube-scheduler", *HURRY, *options)

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

    def calls(self, user: str = "") -> list[Call]:
        """Every request answered so far, of a user or of all, oldest first; a watch is there once it has begun.

        The log may be a moment behind the answer.
        """
        log = self.directory / "audit.log"
        entries: dict[str, Call] = {}
        for line in log.read_text().splitlines() if log.exists() else ():
            entry = json.loads(line)
            entries.setdefault(entry["auditID"], _call(entry))
        return [call for call in entries.values() if not user or call.user == user]

    def proxy(self) -> Proxy:
        """A link to the API server that can be cut; give its `url` to `kubeconfig_for`."""
        return Proxy(self._ports["kube-apiserver"].number)

    def kubeconfig_for(self, user: str, groups: Sequence[str] = (), *, server: str = "") -> Path:
        """A kubeconfig file of a user with a certificate, or, as `system:serviceaccount:NAMESPACE:NAME`, with a token.

        `admin` may do everything, others what RBAC rules allow: at first next to nothing. `server`: instead of `url`.
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

    def _apiserver_options(self) -> Iterator[str]:
        yield from super()._apiserver_options()
        yield f"--watch-cache={str(self.watch_cache).lower()}"
        yield from ("--audit-policy-file=audit.yaml", "--audit-log-path=audit.log")

    def _etcd(self, verb: str, body: object) -> Any:
        url = f"http://{HOST}:{self._ports['etcd'].number}/v3/kv/{verb}"
        with self.opener.open(url, json.dumps(body).encode(), timeout=30) as answer:
            return json.load(answer)


def _call(entry: dict[str, Any]) -> Call:
    """Of a line of the audit log."""
    what = entry.get("objectRef", {})
    resource = "/".join(filter(None, (what.get("resource"), what.get("subresource"))))
    status = entry.get("responseStatus", {}).get("code", 0)
    return Call(entry["user"]["username"], entry["verb"], resource or entry["requestURI"], what.get("name", ""), status)
