"""The parts that tests of the Kubernetes API are judged by do what the real ones do."""

from __future__ import annotations

import urllib.request
from contextlib import closing

import pytest

from reconciler.transport.sandbox import wait_for
from tests.cluster import OPENSHIFT, ApiError, ApiServer

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
    statuses = [call.status for call in cluster.calls("olga") if call.resource in {"nodes", "secrets"}]
    assert (statuses[0], statuses[-2:]) == (403, [200, 403])


def test_service_account_has_a_token(cluster: ApiServer) -> None:
    cluster.namespace("platform")
    robot = cluster.kubeconfig_for("system:serviceaccount:platform:default")
    assert "system:serviceaccount:platform:default" in cluster.kubectl("auth", "whoami", kubeconfig=robot)


def watch_from(cluster: ApiServer, version: str) -> str:
    """The first line of a watch on config maps from a resource version."""
    url = f"{cluster.url}/api/v1/namespaces/default/configmaps?watch=1&resourceVersion={version}&timeoutSeconds=1"
    with closing(urllib.request.urlopen(url, timeout=30, context=cluster.tls)) as answer:  # noqa: S310
        return str(answer.readline().decode())


def test_restarted_api_server_keeps_its_data_and_may_forget_the_past(cluster: ApiServer) -> None:
    cluster.kubectl("create", "configmap", "before")
    version = cluster.api("GET", "/api/v1/namespaces/default/configmaps")["metadata"]["resourceVersion"]
    cluster.kubectl("create", "configmap", "between")
    assert '"ADDED"' in watch_from(cluster, version)
    cluster.restart()
    cluster.kubectl("get", "configmap", "before", "between")
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
        with urllib.request.urlopen(f"{link.url}/readyz", timeout=10, context=cluster.tls) as answer:  # noqa: S310
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
