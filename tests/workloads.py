"""What runs on a test cluster's nodes: Deployments with budgets, and pods of every kind that a drain tells apart."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from reconciler.kubernetes.nodes import CORDONED_BY
from reconciler.transport.sandbox import wait_for
from tests.cluster import ApiServer
from tests.kubelet import Kubelet

WITHIN = 120.0
CONTAINER = {"name": "main", "image": "registry.example.com/app:1"}
APPS = "/apis/apps/v1/namespaces/default"
BUDGETS = "/apis/policy/v1/namespaces/default/poddisruptionbudgets"
PODS = "/api/v1/namespaces/default/pods"


@contextmanager
def at_work(cluster: ApiServer, nodes: Sequence[str]) -> Iterator[Kubelet]:
    """The cluster with these nodes, controllers, a scheduler and a kubelet."""
    for name in nodes:
        cluster.add_node(name, {"node-role.kubernetes.io/worker": ""})
    cluster.controller_manager()
    cluster.scheduler()
    with Kubelet(cluster) as kubelet:
        yield kubelet


class Workloads:
    """In the namespace default of a cluster with controllers, a scheduler and a kubelet."""

    def __init__(self, cluster: ApiServer) -> None:
        self.cluster = cluster

    def deploy(self, name: str, replicas: int, budget: dict[str, Any] | None = None, nodes: Sequence[str] = ()) -> None:
        """A Deployment, with its PodDisruptionBudget, all Ready. `nodes`: the only ones that its pods may run on."""
        template: dict[str, Any] = {"metadata": {"labels": {"app": name}}, "spec": {"containers": [CONTAINER]}}
        if nodes:
            wanted = {"key": "kubernetes.io/hostname", "operator": "In", "values": list(nodes)}
            terms = {"nodeSelectorTerms": [{"matchExpressions": [wanted]}]}
            required = {"requiredDuringSchedulingIgnoredDuringExecution": terms}
            template["spec"]["affinity"] = {"nodeAffinity": required}
        selector = {"matchLabels": {"app": name}}
        spec = {"replicas": replicas, "selector": selector, "template": template}
        self._post(f"{APPS}/deployments", name, spec)
        if budget is not None:
            self._post(BUDGETS, name, {"selector": selector, **budget})
            wait_for(lambda: self.healthy(name) == replicas, f"{name} does not get healthy", WITHIN)
        wait_for(lambda: len(self.ready(name)) == replicas, f"{name} does not get ready", WITHIN)

    def daemons(self, name: str) -> None:
        """A DaemonSet."""
        template = {"metadata": {"labels": {"app": name}}, "spec": {"containers": [CONTAINER]}}
        spec = {"selector": {"matchLabels": {"app": name}}, "template": template}
        self._post(f"{APPS}/daemonsets", name, spec)

    def pod(self, name: str, node: str, metadata: dict[str, Any] | None = None, **spec: Any) -> None:
        """A pod of nobody, Ready."""
        whole = {"containers": [CONTAINER], "nodeName": node, **spec}
        labels = {"app": name, **(metadata or {}).pop("labels", {})} if metadata else {"app": name}
        self.cluster.api(
            "POST", PODS, {"metadata": {"name": name, "labels": labels, **(metadata or {})}, "spec": whole}
        )
        wait_for(lambda: self.ready(name) == [name], f"{name} does not get ready", WITHIN)

    def budget(self, name: str, **spec: Any) -> None:
        """A PodDisruptionBudget for the pods of a name; known to the controllers."""
        self._post(BUDGETS, name, {"selector": {"matchLabels": {"app": name}}, **spec})
        wait_for(lambda: self.healthy(name) > 0, f"the budget {name} counts nothing", WITHIN)

    def allow(self, name: str, **spec: Any) -> None:
        """Change a budget."""
        self.cluster.api("PATCH", f"{BUDGETS}/{name}", {"spec": spec})

    def healthy(self, name: str) -> int:
        return int(self.cluster.api("GET", f"{BUDGETS}/{name}").get("status", {}).get("currentHealthy", 0))

    def ready(self, name: str) -> list[str]:
        """Pods of a name that are Ready and not about to end."""
        return [pod["metadata"]["name"] for pod in self._listed(f"labelSelector=app%3D{name}") if _is_ready(pod)]

    def on(self, node: str) -> list[str]:
        """What runs on a node, by the name of its owner where it has one."""
        pods = self._listed(f"fieldSelector=spec.nodeName%3D{node}")
        return sorted(pod["metadata"].get("labels", {}).get("app", "") for pod in pods)

    def clear(self) -> None:
        """Nothing runs any more."""
        for path in (f"{APPS}/deployments", f"{APPS}/daemonsets", f"{APPS}/replicasets", BUDGETS):
            self.cluster.api("DELETE", path)
        patch = {"metadata": {"finalizers": None}}
        for pod in self._listed("limit=1000"):
            if pod["metadata"].get("finalizers"):
                self.cluster.api("PATCH", f"{PODS}/{pod['metadata']['name']}", patch)
        self.cluster.api("DELETE", f"{PODS}?gracePeriodSeconds=0")
        wait_for(lambda: not self._listed("limit=1"), "pods are left", WITHIN)

    def node(self, name: str) -> tuple[bool, str]:
        """Whether it is unschedulable, and our mark."""
        found = self.cluster.api("GET", f"/api/v1/nodes/{name}")
        return found["spec"].get("unschedulable", False), found["metadata"].get("annotations", {}).get(CORDONED_BY, "")

    def written(self, node: str) -> int:
        """How often the Node was patched so far."""
        calls = [call for call in self.cluster.calls() if call.verb == "patch" and call.resource == "nodes"]
        return sum(call.name == node and call.status == 200 for call in calls)

    def uncordon(self, nodes: Sequence[str]) -> None:
        for node in nodes:
            if self.node(node) != (False, ""):
                patch = {"metadata": {"annotations": {CORDONED_BY: None}}, "spec": {"unschedulable": None}}
                self.cluster.api("PATCH", f"/api/v1/nodes/{node}", patch)

    def _listed(self, query: str) -> list[dict[str, Any]]:
        return list(self.cluster.api("GET", f"{PODS}?{query}")["items"])

    def _post(self, path: str, name: str, spec: dict[str, Any]) -> None:
        self.cluster.api("POST", path, {"metadata": {"name": name}, "spec": spec})


def _is_ready(pod: dict[str, Any]) -> bool:
    conditions = pod.get("status", {}).get("conditions", [])
    return "deletionTimestamp" not in pod["metadata"] and {"Ready"} <= {
        one["type"] for one in conditions if one["status"] == "True"
    }
