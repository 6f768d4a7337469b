"""The test kubelet runs pods as a kubelet would, in the namespaces of sandbox nodes."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from reconciler.transport.sandbox import SandboxNode, wait_for
from tests.cluster import ApiError, ApiServer
from tests.kubelet import Kubelet
from tests.machines import at, machines

PODS = "/api/v1/namespaces/default/pods"


@pytest.fixture(scope="module")
def nodes(tmp_path_factory: pytest.TempPathFactory, cluster: ApiServer) -> Iterator[list[SandboxNode]]:
    with machines(tmp_path_factory.mktemp("nodes"), 2) as running:
        for node in running:
            cluster.add_node(node.name, {"node-role.kubernetes.io/worker": ""})
        yield running


@pytest.fixture
def kubelet(cluster: ApiServer, nodes: list[SandboxNode]) -> Iterator[Kubelet]:
    with Kubelet(cluster, nodes) as running:
        yield running
        cluster.kubectl("delete", "pods", "--all", "--force", "--grace-period=0")


def pod(name: str, node: str, command: Sequence[str] = (), **spec: Any) -> dict[str, Any]:
    """Privileged with the node's / at /host where it has a command, else an ordinary one."""
    container: dict[str, Any] = {
        "name": "main",
        "image": "registry.example.com/tools@sha256:00",
        **spec.pop("main", {}),
    }
    volumes = spec.pop("volumes", [])
    if command:
        mounts = [{"name": "host", "mountPath": "/host"}, *container.get("volumeMounts", [])]
        container |= {"command": list(command), "securityContext": {"privileged": True}, "volumeMounts": mounts}
        volumes = [{"name": "host", "hostPath": {"path": "/"}}, *volumes]
    spec = {"restartPolicy": "Never", "nodeName": node, "automountServiceAccountToken": False, **spec}
    return {"metadata": {"name": name}, "spec": {**spec, "containers": [container], "volumes": volumes}}


def ended(cluster: ApiServer, name: str) -> dict[str, Any]:
    """The pod's status once it is over."""
    wait_for(lambda: status(cluster, name).get("phase") in {"Succeeded", "Failed"}, f"{name} does not end")
    return status(cluster, name)


def status(cluster: ApiServer, name: str) -> dict[str, Any]:
    return dict(cluster.api("GET", f"{PODS}/{name}")["status"])


def terminated(pod_status: dict[str, Any]) -> dict[str, Any]:
    return dict(pod_status["containerStatuses"][0]["state"]["terminated"])


def test_pod_writes_its_nodes_etc_and_answers(cluster: ApiServer, nodes: list[SandboxNode], kubelet: Kubelet) -> None:
    """`chroot /host` is the node's own view: its /etc, its machine-id, its runtime; no other node's and not this host's."""
    script = """chroot /host sh -c 'cat >/etc/containers/made; systemctl reload crio; cat /etc/machine-id' </payload/text
    ls /payload; echo "said $WHERE"; printf '%s' "$(cat /host/etc/containers/made) $WHERE" >/dev/termination-log; exit 3"""
    cluster.api(
        "POST", "/api/v1/namespaces/default/secrets", {"metadata": {"name": "payload"}, "stringData": {"text": "hi"}}
    )
    where = {"name": "WHERE", "valueFrom": {"fieldRef": {"fieldPath": "spec.nodeName"}}}
    mount = {"name": "payload", "mountPath": "/payload"}
    main = {"env": [where], "volumeMounts": [mount]}
    volumes = [{"name": "payload", "secret": {"secretName": "payload"}}]
    cluster.api("POST", PODS, pod("writer", "node-1", ["sh", "-c", script], main=main, volumes=volumes))
    end = ended(cluster, "writer")
    assert (end["phase"], terminated(end)["exitCode"], terminated(end)["message"]) == ("Failed", 3, "hi node-1")
    assert at(nodes[0], "/etc/containers/made").read_text() == "hi"
    assert not at(nodes[1], "/etc/containers/made").exists()
    assert not Path("/etc/containers/made").exists()
    assert nodes[0].actions() == ["reload crio.service"]
    machine = (nodes[0].directory / "control/machine_id").read_text().strip()
    assert kubelet.log("default", "writer").split() == [machine, "text", "said", "node-1"]
    assert json.loads(json.dumps(end))["containerStatuses"][0]["image"].startswith("registry.example.com")
    with pytest.raises(ApiError, match="already exists"):
        cluster.api("POST", PODS, pod("writer", "node-1"))
