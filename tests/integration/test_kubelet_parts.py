"""The test kubelet runs pods as a kubelet would, in the namespaces of sandbox nodes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from reconciler.transport.sandbox import SandboxNode, wait_for
from tests.cluster import ApiServer
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


def runs(*command: str) -> bool:
    """Whether such a process is anywhere on this host, whatever its namespace."""
    wanted = "\0".join([*command, ""]).encode()
    for process in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(OSError):
            if process.read_bytes() == wanted:
                return True
    return False


def test_pod_writes_its_nodes_etc_and_answers(cluster: ApiServer, nodes: list[SandboxNode], kubelet: Kubelet) -> None:
    """`chroot /host` is the node's own view: its /etc, machine-id and runtime; not another node's, nor this host's."""
    script = """chroot /host sh -c 'cat >/etc/containers/made; systemctl reload crio.service' </in/text
    chroot /host cat /etc/machine-id; ls /in
    printf '%s' "$(cat /host/etc/containers/made) $WHERE" >/dev/termination-log; exit 3"""
    secret = {"metadata": {"name": "payload"}, "stringData": {"text": "hi"}}
    cluster.api("POST", "/api/v1/namespaces/default/secrets", secret)
    where = {"name": "WHERE", "valueFrom": {"fieldRef": {"fieldPath": "spec.nodeName"}}}
    main = {"env": [where], "volumeMounts": [{"name": "payload", "mountPath": "/in"}]}
    volumes = [{"name": "payload", "secret": {"secretName": "payload"}}]
    cluster.api("POST", PODS, pod("writer", "node-1", ["sh", "-c", script], main=main, volumes=volumes))
    end = ended(cluster, "writer")
    assert (end["phase"], terminated(end)["exitCode"], terminated(end)["message"]) == ("Failed", 3, "hi node-1")
    assert at(nodes[0], "/etc/containers/made").read_text() == "hi"
    assert not at(nodes[1], "/etc/containers/made").exists()
    assert not Path("/etc/containers/made").exists()
    assert nodes[0].actions() == ["reload crio.service"]
    machine = (nodes[0].directory / "control/machine_id").read_text().strip()
    assert kubelet.log("default", "writer").split() == [machine, "text"]
    assert cluster.kubectl("logs", "writer").split() == [machine, "text"]


def test_container_has_its_own_root_and_what_the_node_runs_stays(cluster: ApiServer, kubelet: Kubelet) -> None:
    """It sees its own /etc and processes; a process that it leaves behind ends with it."""
    script = """cat /etc/containers/made /etc/shadow; echo own >/etc/own; hostname; echo $$$$; ls /host/etc/own
    chroot /host sh -c 'setsid sleep 1000.5 &  echo >/var/lib/from-pod'"""
    cluster.api("POST", PODS, pod("rooted", "node-1", ["sh", "-c", script]))
    ended(cluster, "rooted")
    said = kubelet.log("default", "rooted")
    assert said.count("No such file") == 3
    assert "\nrooted\n1\n" in said
    node = kubelet.machines["node-1"]
    assert at(node, "/var/lib/from-pod").exists()
    wait_for(lambda: not runs("sleep", "1000.5"), "what the pod left runs on")


@pytest.mark.parametrize(
    ("policy", "script", "message"),
    [
        ("File", "head -c 5000 /dev/zero | tr '\\0' x >/dev/termination-log", "x" * 4096),
        ("File", "echo no; exit 1", ""),
        ("FallbackToLogsOnError", "echo why; exit 1", "why\n"),
        ("FallbackToLogsOnError", "echo fine", ""),
    ],
)
def test_termination_message(cluster: ApiServer, kubelet: Kubelet, policy: str, script: str, message: str) -> None:
    main = {"terminationMessagePolicy": policy}
    cluster.api("POST", PODS, pod("teller", "node-2", ["sh", "-c", script], main=main))
    assert terminated(ended(cluster, "teller")).get("message", "") == message


def test_pod_waits_for_what_it_needs(cluster: ApiServer, kubelet: Kubelet) -> None:
    """For its image, then for its Secret; then it runs."""
    kubelet.unpullable.add("registry.example.com")
    volumes = [
        {"name": "late", "secret": {"secretName": "late", "items": [{"key": "a", "path": "b/c", "mode": 0o400}]}}
    ]
    main = {"volumeMounts": [{"name": "late", "mountPath": "/late"}], "args": ["stat -c %a /late/b/c; cat /late/b/c"]}
    cluster.api("POST", PODS, pod("late", "node-1", ["sh", "-c"], main=main, volumes=volumes))
    wait_for(lambda: waiting(cluster, "late")[0] == "ImagePullBackOff", "the image is pulled")
    kubelet.unpullable.clear()
    wait_for(
        lambda: waiting(cluster, "late") == ("ContainerCreating", 'secret "late" not found'), "no wait for a Secret"
    )
    secret = {"metadata": {"name": "late"}, "stringData": {"a": "now"}}
    cluster.api("POST", "/api/v1/namespaces/default/secrets", secret)
    assert ended(cluster, "late")["phase"] == "Succeeded"
    # the link's target is what has the mode
    assert kubelet.log("default", "late").split() == ["400", "now"]


def waiting(cluster: ApiServer, name: str) -> tuple[str, str]:
    [container] = status(cluster, name).get("containerStatuses", [{}])
    state = container.get("state", {}).get("waiting", {})
    return state.get("reason", ""), state.get("message", "")


def test_deadline_and_deletion_end_what_runs(cluster: ApiServer, nodes: list[SandboxNode], kubelet: Kubelet) -> None:
    """By SIGTERM first: it may say a last word."""
    script = "trap 'echo last >/dev/termination-log; exit 0' TERM; echo ready; while :; do sleep 0.02; done"
    cluster.api("POST", PODS, pod("late", "node-1", ["sh", "-c", script], activeDeadlineSeconds=1))
    end = ended(cluster, "late")
    assert (end["phase"], end["reason"], terminated(end)["message"]) == ("Failed", "DeadlineExceeded", "last\n")
    cluster.api("POST", PODS, pod("leaver", "node-1", ["sh", "-c", script], terminationGracePeriodSeconds=5))
    wait_for(lambda: "ready" in kubelet.log("default", "leaver"), "leaver is not ready")
    kubelet.faults.stuck.add("leaver")
    cluster.api("DELETE", f"{PODS}/leaver")
    end = ended(cluster, "leaver")
    assert (end["phase"], terminated(end)["message"]) == ("Succeeded", "last\n")
    kubelet.faults.stuck.clear()
    wait_for(lambda: not cluster.exists(f"{PODS}/leaver"), "leaver stays")
    cluster.api("POST", PODS, pod("deaf", "node-1", ["sleep", "1001.5"], terminationGracePeriodSeconds=1))
    wait_for(lambda: runs("sleep", "1001.5"), "deaf does not run")
    cluster.api("DELETE", f"{PODS}/deaf")
    wait_for(lambda: not cluster.exists(f"{PODS}/deaf"), "deaf stays")
    assert not runs("sleep", "1001.5")


def test_node_without_power_reports_nothing(cluster: ApiServer, nodes: list[SandboxNode], kubelet: Kubelet) -> None:
    """What ran there is dead, and a pod that may not run again is said to have failed once the node is back."""
    cluster.api("POST", PODS, pod("cut", "node-2", ["sleep", "1002.5"]))
    wait_for(lambda: status(cluster, "cut")["phase"] == "Running", "cut does not run")
    assert runs("sleep", "1002.5")
    kubelet.switch_off("node-2")
    wait_for(lambda: not runs("sleep", "1002.5"), "cut still runs")
    cluster.api("POST", PODS, pod("new", "node-2"))
    assert status(cluster, "cut")["phase"] == "Running"
    assert status(cluster, "new")["phase"] == "Pending"
    kubelet.switch_on("node-2")
    assert terminated(ended(cluster, "cut"))["reason"] == "ContainerStatusUnknown"
    wait_for(lambda: status(cluster, "new")["phase"] == "Running", "new does not run")


def test_pods_survive_a_restart_of_the_api_server(cluster: ApiServer, kubelet: Kubelet) -> None:
    """What ends while it is away is reported when it is back."""
    cluster.api("POST", PODS, pod("away", "node-1", ["sh", "-c", "while [ ! -e /host/run/go ]; do sleep 0.02; done"]))
    wait_for(lambda: status(cluster, "away")["phase"] == "Running", "away does not run")
    cluster.stop()
    at(kubelet.machines["node-1"], "/run/go").touch()
    cluster.start()
    assert ended(cluster, "away")["phase"] == "Succeeded"
    cluster.forget()
    cluster.api("POST", PODS, pod("after", "node-1"))
    wait_for(lambda: status(cluster, "after").get("phase") == "Running", "after is not seen")
