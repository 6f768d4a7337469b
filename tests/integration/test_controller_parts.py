"""Kubernetes' own controllers and scheduler, with the test kubelet for its nodes: owners, budgets, daemons."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from reconciler.transport.sandbox import wait_for
from tests.cluster import ApiError, ApiServer
from tests.kubelet import Kubelet
from tests.machines import at, machines

NODES = 20
PODS = "/api/v1/namespaces/default/pods"
WITHIN = 60.0


@pytest.fixture(scope="module")
def controlled(cluster: ApiServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kubelet]:
    """The module's cluster with controllers, a scheduler, 20 nodes, and one with a machine behind it."""
    for number in range(NODES):
        cluster.add_node(f"worker-{number}", {"node-role.kubernetes.io/worker": ""})
    cluster.controller_manager()
    cluster.scheduler()
    with machines(tmp_path_factory.mktemp("machine"), 1) as [machine]:
        cluster.add_node(machine.name, {"machine": "real"})
        with Kubelet(cluster, [machine]) as kubelet:
            yield kubelet


def deploy(cluster: ApiServer, name: str, replicas: int, **budget: Any) -> None:
    """A Deployment, with its PodDisruptionBudget, all Ready."""
    labels = {"matchLabels": {"app": name}}
    container = {"name": "main", "image": f"registry.example.com/{name}:1"}
    ordinary = {"nodeSelector": {"node-role.kubernetes.io/worker": ""}, "containers": [container]}
    template = {"metadata": {"labels": {"app": name}}, "spec": ordinary}
    spec = {"replicas": replicas, "selector": labels, "template": template}
    cluster.api("POST", "/apis/apps/v1/namespaces/default/deployments", {"metadata": {"name": name}, "spec": spec})
    path = "/apis/policy/v1/namespaces/default/poddisruptionbudgets"
    cluster.api("POST", path, {"metadata": {"name": name}, "spec": {"selector": labels, **budget}})
    wait_for(lambda: allowed(cluster, name) > 0, f"{name} may not be disrupted", WITHIN)


def allowed(cluster: ApiServer, name: str) -> int:
    """Disruptions that the budget allows now."""
    budget = cluster.api("GET", f"/apis/policy/v1/namespaces/default/poddisruptionbudgets/{name}")
    status = budget.get("status", {})
    whole = status.get("currentHealthy") == status.get("expectedPods")
    return int(status.get("disruptionsAllowed", 0)) if whole else 0


def pods(cluster: ApiServer, name: str) -> list[str]:
    listed = cluster.api("GET", f"{PODS}?labelSelector=app%3D{name}")["items"]
    return [pod["metadata"]["name"] for pod in listed if "deletionTimestamp" not in pod["metadata"]]


def evict(cluster: ApiServer, pod: str) -> None:
    cluster.api(
        "POST", f"{PODS}/{pod}/eviction", {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": pod}}
    )


def test_budget_blocks_the_second_eviction_and_frees(cluster: ApiServer, controlled: Kubelet) -> None:
    deploy(cluster, "web", 3, minAvailable=2)
    first, second, _ = pods(cluster, "web")
    controlled.faults.starting = 600  # until the budget has refused, nothing comes in place of what went
    try:
        evict(cluster, first)
        with pytest.raises(ApiError, match="disruption budget") as refused:
            evict(cluster, second)
        assert refused.value.status == 429
        assert "web" in str(refused.value.body["details"]["causes"])
    finally:
        controlled.faults.starting = 0
    wait_for(lambda: allowed(cluster, "web") > 0, "the budget stays spent", WITHIN)
    evict(cluster, second)
    wait_for(lambda: second not in pods(cluster, "web"), "the second pod stays", WITHIN)


@pytest.mark.slow
def test_500_pods_over_20_nodes_are_drained(cluster: ApiServer, controlled: Kubelet) -> None:
    """By kubectl, within the budget; and back they are, elsewhere."""
    begun = time.monotonic()
    deploy(cluster, "many", 500, maxUnavailable="20%")
    print(f"500 pods Ready after {time.monotonic() - begun:.1f} s; memory {cluster.memory()} MiB")
    begun = time.monotonic()
    cluster.kubectl("drain", "worker-0", "--timeout=60s")
    print(f"a node drained after {time.monotonic() - begun:.1f} s")
    left = cluster.api("GET", f"{PODS}?fieldSelector=spec.nodeName%3Dworker-0")["items"]
    assert left == []
    wait_for(lambda: allowed(cluster, "many") == 100, "not all pods are back", WITHIN)
    cluster.kubectl("uncordon", "worker-0")
    cluster.kubectl("delete", "deployment", "many", "--wait=false")
    wait_for(lambda: not pods(cluster, "many"), "pods of a deleted owner stay", WITHIN)


def test_daemon_really_runs_and_may_ask_the_api(cluster: ApiServer, controlled: Kubelet) -> None:
    """With its service account's token; its command is run again when it ends."""
    script = """date +%N >>/host/var/lib/beats; cd /var/run/secrets/kubernetes.io/serviceaccount
    echo "$(cat token) $(cat namespace) $KUBERNETES_SERVICE_HOST:$KUBERNETES_SERVICE_PORT"
    cmp ca.crt /host@AUTHORITY@"""
    script = script.replace("@AUTHORITY@", str(cluster.directory / "ca.crt"))
    container = {
        "name": "main",
        "image": "registry.example.com/daemon:1",
        "command": ["sh", "-c", script],
        "securityContext": {"privileged": True},
        "volumeMounts": [{"name": "host", "mountPath": "/host"}],
    }
    volumes = [{"name": "host", "hostPath": {"path": "/"}}]
    pod = {"nodeSelector": {"machine": "real"}, "containers": [container], "volumes": volumes}
    template = {"metadata": {"labels": {"app": "daemon"}}, "spec": pod}
    spec = {"selector": {"matchLabels": {"app": "daemon"}}, "template": template}
    cluster.api("POST", "/apis/apps/v1/namespaces/default/daemonsets", {"metadata": {"name": "daemon"}, "spec": spec})
    [machine] = controlled.machines.values()
    beats = at(machine, "/var/lib/beats")
    wait_for(lambda: beats.exists() and len(beats.read_text().split()) > 1, "the daemon does not run again", WITHIN)
    [name] = pods(cluster, "daemon")
    token, namespace, server = controlled.log("default", name).splitlines()[0].split()
    assert namespace == "default"
    options = [f"--token={token}", f"--server=https://{server}", f"--certificate-authority={cluster.directory}/ca.crt"]
    who = cluster.kubectl("auth", "whoami", *options, kubeconfig=Path("/dev/null"))
    assert "system:serviceaccount:default:default" in who
    assert "ca.crt" not in controlled.log("default", name)  # cmp has nothing to say
    status = cluster.api("GET", f"{PODS}/{name}")["status"]["containerStatuses"][0]
    assert status["restartCount"] > 0
