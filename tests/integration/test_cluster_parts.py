"""The parts that tests of the Kubernetes API are judged by do what the real ones do."""

from __future__ import annotations

import shutil
import subprocess
import sys
from contextlib import closing, suppress
from pathlib import Path

import pytest

from reconciler.transport.sandbox import wait_for
from tests.cluster import OPENSHIFT, ApiError, ApiServer
from tests.cluster_parts import need_kubernetes

DIGEST_MIRRORS = "/apis/config.openshift.io/v1/imagedigestmirrorsets"


def mirror_set(name: str, source: str) -> dict[str, object]:
    spec = {"imageDigestMirrors": [{"source": source, "mirrors": ["mirror.example.com"]}]}
    return {
        "apiVersion": "config.openshift.io/v1",
        "kind": "ImageDigestMirrorSet",
        "metadata": {"name": name},
        "spec": spec,
    }


def test_openshift_resources_are_served_and_validated(openshift: ApiServer) -> None:
    """Each definition, with the schema's own refusals."""
    listed = openshift.kubectl("get", "crds", "-o", "name").split()
    assert len(listed) == len(list(OPENSHIFT.glob("*.yaml"))) == 8
    openshift.api("POST", DIGEST_MIRRORS, mirror_set("good", "quay.io"))
    with pytest.raises(ApiError, match="imageDigestMirrors") as refused:
        openshift.api("POST", DIGEST_MIRRORS, mirror_set("bad", "not a host"))
    assert refused.value.status == 422
    kind = {"apiVersion": "machineconfiguration.openshift.io/v1", "kind": "MachineConfigPool"}
    pool = {**kind, "metadata": {"name": "worker"}, "spec": {"pausd": True}}
    with pytest.raises(ApiError, match=r"unknown field \"spec.pausd\""):
        openshift.api("POST", f"/apis/{kind['apiVersion']}/machineconfigpools?fieldValidation=Strict", pool)


def test_only_what_rbac_allows(cluster: ApiServer) -> None:
    olga = cluster.kubeconfig_for("olga", ["viewers"])
    assert "Forbidden" in cluster.try_kubectl("get", "nodes", kubeconfig=olga).stderr
    cluster.kubectl("create", "clusterrole", "viewers", "--verb=list", "--resource=nodes")
    cluster.kubectl("create", "clusterrolebinding", "viewers", "--clusterrole=viewers", "--group=viewers")
    wait_for(lambda: not cluster.try_kubectl("get", "nodes", kubeconfig=olga).returncode, "olga sees no nodes")
    assert "Forbidden" in cluster.try_kubectl("get", "secrets", kubeconfig=olga).stderr
    last = [("nodes", 200), ("secrets", 403)]
    wait_for(lambda: answers(cluster, "olga")[-2:] == last, "olga's calls are not counted")
    assert answers(cluster, "olga")[0] == ("nodes", 403)


def answers(cluster: ApiServer, user: str) -> list[tuple[str, int]]:
    return [(call.resource, call.status) for call in cluster.calls(user) if call.resource in {"nodes", "secrets"}]


def test_service_account_has_a_token(cluster: ApiServer) -> None:
    cluster.namespace("platform")
    robot = cluster.kubeconfig_for("system:serviceaccount:platform:default")
    assert "system:serviceaccount:platform:default" in cluster.kubectl("auth", "whoami", kubeconfig=robot)


def watch_from(cluster: ApiServer, version: str) -> str:
    """The first line of a watch on config maps from a resource version."""
    url = f"{cluster.url}/api/v1/namespaces/default/configmaps?watch=1&resourceVersion={version}&timeoutSeconds=1"
    with closing(cluster.opener.open(url, timeout=30)) as answer:
        return str(answer.readline().decode())


def test_restarted_api_server_keeps_its_data_and_may_forget_the_past(cluster: ApiServer) -> None:
    cluster.kubectl("create", "configmap", "before")
    version = cluster.api("GET", "/api/v1/namespaces/default/configmaps")["metadata"]["resourceVersion"]
    cluster.kubectl("create", "configmap", "between")
    assert '"ADDED"' in watch_from(cluster, version)
    cluster.restart(watch_cache=False)
    assert '"ADDED"' in watch_from(cluster, version)
    cluster.compact()
    assert '"code":410' in watch_from(cluster, version)
    cluster.restart(watch_cache=True)
    version = cluster.api("GET", "/api/v1/namespaces/default/configmaps")["metadata"]["resourceVersion"]
    cluster.kubectl("create", "configmap", "behind")
    cluster.forget()
    assert '"code":410' in watch_from(cluster, version)
    cluster.stop()
    assert "refused" in cluster.try_kubectl("get", "nodes").stderr
    cluster.start()
    assert cluster.kubectl("get", "configmap", "before", "between", "-o", "name").split()[0] == "configmap/before"


def test_link_can_be_lost(cluster: ApiServer) -> None:
    with cluster.proxy() as link:
        far = cluster.kubeconfig_for("admin", server=link.url)
        cluster.kubectl("get", "nodes", kubeconfig=far)
        with cluster.opener.open(f"{link.url}/readyz", timeout=10) as answer:
            assert answer.read() == b"ok"
        link.refuse()
        assert "refused" in cluster.try_kubectl("get", "nodes", kubeconfig=far).stderr
        link.allow()
        cluster.kubectl("get", "nodes", kubeconfig=far)
        link.stall()
        waits = cluster.try_kubectl("get", "nodes", "--request-timeout=300ms", kubeconfig=far).stderr
        assert "exceeded" in waits or "timeout" in waits.lower(), waits
        link.allow()
        cluster.kubectl("get", "nodes", kubeconfig=far)
        link.cut()


def test_nodes_are_as_a_kubelet_registers_them(cluster: ApiServer) -> None:
    cluster.add_node("worker-1", {"node-role.kubernetes.io/worker": ""}, ready=False)
    assert cluster.kubectl("get", "nodes", "--no-headers").split()[:3] == ["worker-1", "NotReady", "worker"]
    cluster.set_ready("worker-1", True)
    assert cluster.kubectl("get", "nodes", "--no-headers").split()[1] == "Ready"
    assert "taints" not in cluster.api("GET", "/api/v1/nodes/worker-1")["spec"]


STARTER = """
import sys, time
from pathlib import Path
from tests.cluster import ApiServer
with ApiServer(Path(sys.argv[1])) as cluster:
    cluster.controller_manager()
    print("ready", flush=True)
    time.sleep(600)
"""


@pytest.mark.skipif(not shutil.which("setpriv"), reason="needs setpriv")
def test_ends_with_its_starter(tmp_path: Path) -> None:
    """Killed without a chance to clean up, it leaves no process."""
    need_kubernetes(("etcd", "kube-apiserver", "kube-controller-manager", "kubectl"))
    with subprocess.Popen([sys.executable, "-c", STARTER, tmp_path], stdout=subprocess.PIPE) as starter:
        assert starter.stdout
        assert starter.stdout.readline() == b"ready\n"
        assert len(processes_in(tmp_path)) == 3
        starter.kill()
    wait_for(lambda: not processes_in(tmp_path), "processes outlive their starter")


def processes_in(directory: Path) -> list[str]:
    """Living processes that work in a directory."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            if (process / "cwd").readlink() == directory:
                found.append(process.name)
    return found
