"""The program with a fleet whose local nodes are nodes of a real cluster, too."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cluster import ApiServer
from tests.clusters import USER
from tests.doors import Doors, doors

LABELS = {"node-role.kubernetes.io/infra": "", "topology.kubernetes.io/zone": "a"}


@pytest.fixture
def fleet(cluster: ApiServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Doors]:
    cluster.kubectl("create", "clusterrole", USER, "--verb=list,watch", "--resource=nodes")
    cluster.kubectl("create", "clusterrolebinding", USER, f"--clusterrole={USER}", f"--user={USER}")
    cluster.add_node("worker-1", LABELS)
    cluster.add_node("worker-2", LABELS, ready=False)
    with doors(tmp_path, monkeypatch) as ready:
        kubeconfig = cluster.kubeconfig_for(USER)
        with ready.settings.open("a") as settings:
            settings.write(f'kubernetes = "kubeconfig"\nkubeconfig = "{kubeconfig}"\n')
            settings.write('node_selector = "discovered=yes"\n')
        yield ready


def columns(fleet: Doors, name: str) -> dict[str, str]:
    """A row of `get nodes -o wide`, by its headings."""
    head, *rows = fleet.run("get", "nodes", "-o", "wide").stdout.splitlines()
    starts = [head.index(f"{title} ") if f"{title} " in head else head.index(title) for title in head.split()]
    [row] = [row for row in rows if row.startswith(f"{name} ")]
    ends = [*starts[1:], None]
    return {head[start:end].strip(): row[start:end].strip() for start, end in zip(starts, ends, strict=True)}


def test_what_the_cluster_says_is_shown_and_counts(fleet: Doors, cluster: ApiServer) -> None:
    fleet.run("sync", code=3)
    shown = columns(fleet, "worker-1")
    assert (shown["STATUS"], shown["ROLES"], shown["ZONE"], shown["KUBELET"]) == (
        "Ready",
        "infra,worker",
        "a",
        "v1.36.3",
    )
    assert shown["CONTAINER-RUNTIME"] == "cri-o://1.36.0"
    assert columns(fleet, "worker-2")["STATUS"] == "NotReady"
    assert columns(fleet, "worker-2")["REASON"] == "NotReady in its cluster: KubeletNotReady"
    described = fleet.run("describe", "node", "worker-2").stdout
    assert "Ready" in described
    assert "KubeletNotReady" in described
    assert {item["type"] for item in fleet.items("history", "--type", "NodeConditionChanged")} == {
        "NodeConditionChanged"
    }
    cluster.set_ready("worker-2", True)
    cluster.kubectl("cordon", "worker-1")
    fleet.block("worse.example.com")
    fleet.run("sync", code=3)
    assert columns(fleet, "worker-1")["STATUS"] == "Ready,SchedulingDisabled"
    assert fleet.data("get", "nodes")["items"][0]["reason"] == "cordoned by somebody else"
    assert "worse.example.com" in fleet.file(fleet.nodes[1]).read_text()
    assert "worse.example.com" not in fleet.file(fleet.nodes[0]).read_text()
    cluster.kubectl("uncordon", "worker-1")
    fleet.run("sync", "--wait")
    assert "worse.example.com" in fleet.file(fleet.nodes[0]).read_text()

    cluster.stop()
    assert "unreachable since" in fleet.run("sync").stdout
    assert "the cluster cannot be asked, so its nodes are as last known" in fleet.run("plan").stdout
    cluster.start()
    assert "unreachable" not in fleet.run("sync").stdout

    for name in ("worker-1", "worker-2"):
        cluster.kubectl("delete", "node", name)
    cluster.add_node("stranger", {})
    said = fleet.run("sync", code=3).stdout
    assert "not believed since" in said
    assert "it has none of the 2 nodes known of it; unknown nodes there: 1" in said
    fleet.run("accept", "--cluster", "--restore", "--reason", "x", "--yes", code=2)
    fleet.run("accept", "--cluster", "--reason", "rebuilt", "--yes")
    assert fleet.data("status")["cluster"] is None
    assert columns(fleet, "worker-1")["KUBELET"] == "<none>"
