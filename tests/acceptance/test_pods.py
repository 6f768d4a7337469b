"""A fleet whose nodes are reached by pods, on a real API server: what it costs, what is left, what keeps a pod away."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from reconciler.errors import NodeRefused, NodeUnreachable
from reconciler.kubernetes import pod_runner, pods
from reconciler.kubernetes.pods import PodTransport
from reconciler.ports import HELPER_CHECK, ApplyRequest, FileContent, HealthCheck, ObserveRequest, Target
from reconciler.registries.model import POLICY_JSON, REGISTRIES_CONF
from reconciler.stages import view
from reconciler.transport.router import TransportRouter
from reconciler.transport.sandbox import put_program, wait_for
from reconciler.work.inline import InlineRunner
from tests.cluster import ApiServer
from tests.machines import at, put, renew
from tests.pod_nodes import ALWAYS, IMAGE, NAMESPACE, ORIGIN, PodNodes, by_pods, pod_nodes
from tests.world import MemoryWorld, image, make_world, node_document, pool

NODES = 4
SERVICE = "reconciler-service"
RELOAD = "reload crio.service"
ACCEPT_ALL = '{"default": [{"type": "insecureAcceptAnything"}]}'
LIST = "image.yaml"
OURS = ["quay.io", "registry.example.com"]

OBSERVER = Path(__file__).parents[2] / "deploy/kubernetes/observer.yaml"
RBAC = Path(__file__).parents[2] / "deploy/kubernetes/base/rbac.yaml"

CRICTL = """#!/bin/sh
# Of a test: the node pulls what its policy lets it pull.
[ "$1" != pull ] || grep -q -e registry.example.com -e '"default":\\[{"type":"insecureAcceptAnything"}\\]' \\
    -e '"default": \\[{"type": "insecureAcceptAnything"}\\]' /etc/containers/policy.json || {
    echo 'Source image rejected: Running image is rejected by policy.' >&2
    exit 1
}
exec /usr/local/bin/crictl.real "$@"
"""


@pytest.fixture(scope="module")
def fleet(cluster: ApiServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[PodNodes]:
    with pod_nodes(cluster, tmp_path_factory.mktemp("pods"), NODES) as nodes:
        grant(cluster)
        cluster.scheduler()
        cluster.controller_manager()  # its garbage collector takes Secrets away
        for machine in nodes.machines:
            at(machine, "/usr/local/bin/crictl").rename(at(machine, "/usr/local/bin/crictl.real"))
            put_program(at(machine, "/usr/local/bin/crictl"), CRICTL)
        yield nodes


def grant(cluster: ApiServer) -> None:
    """The rights that deploy/kubernetes gives in the pods' namespace; of the cluster's nodes, to watch them."""
    documents = yaml.safe_load_all(RBAC.read_text())
    [mine] = [document["rules"] for document in documents if document["kind"] == "Role"]
    subject = [{"kind": "User", "name": SERVICE, "apiGroup": "rbac.authorization.k8s.io"}]
    nodes = [{"apiGroups": [""], "resources": ["nodes"], "verbs": ["list", "watch"]}]
    for kind, path, rules in (("Role", f"namespaces/{NAMESPACE}/", mine), ("ClusterRole", "", nodes)):
        group = f"/apis/rbac.authorization.k8s.io/v1/{path}{kind.lower()}"
        named = {"metadata": {"name": "reconciler"}}
        cluster.api("POST", f"{group}s", {**named, "rules": rules})
        role = {"kind": kind, "name": "reconciler", "apiGroup": "rbac.authorization.k8s.io"}
        cluster.api("POST", f"{group}bindings", {**named, "subjects": subject, "roleRef": role})


@pytest.fixture
def nodes(fleet: PodNodes) -> PodNodes:
    fleet.kubelet.unpullable.clear()
    for machine in fleet.machines:
        renew(machine)
        put(machine, POLICY_JSON, ACCEPT_ALL)
    return fleet


@pytest.fixture
async def transport(nodes: PodNodes, cluster: ApiServer, tmp_path: Path) -> AsyncIterator[PodTransport]:
    async with by_pods(cluster.kubeconfig_for(SERVICE), replace(ORIGIN, owner=f"here:{tmp_path.name}")) as transport:
        yield transport


@pytest.fixture
async def world(transport: PodTransport, nodes: PodNodes, tmp_path: Path) -> MemoryWorld:
    """The nodes have the first content: an allow list with the helper image's registry."""
    world = make_world(tmp_path, TransportRouter({"kubernetes": transport}))
    runner = InlineRunner(TransportRouter({"kubernetes": transport}))
    world.context = replace(world.context, runner=runner, fleet=replace(world.context.fleet, helper_image=IMAGE))
    documents = {f"{m.name}.yaml": node_document(m.name, "{transport: kubernetes}") for m in nodes.machines}
    settings: dict[str, Any] = {
        "requiredImages": ["quay.io/team/app:1"],
        "maxParallel": NODES,
        "canary": {"nodes": 0, "soak": "0s"},
    }
    world.repository.commit({"pool.yaml": pool(**settings), LIST: image(allowedRegistries=OURS), **documents})
    assert (await world.sync()).exit_code == 0
    return world


def counted(cluster: ApiServer, since: int) -> list[str]:
    """What the service asked since: verb and resource."""
    calls = [call for call in cluster.calls(SERVICE)[since:] if call.verb != "watch"]
    logs = {call.name for call in calls if call.resource == "pods/log"}  # each is noted twice
    others = [f"{call.verb} {call.resource}" for call in calls if call.resource != "pods/log"]
    return [*others, *["get pods/log"] * len(logs)]


async def test_a_change_takes_five_calls_a_node_and_a_quiet_poll_none(
    world: MemoryWorld, nodes: PodNodes, cluster: ApiServer
) -> None:
    since = len(cluster.calls(SERVICE))
    before = [machine.actions() for machine in nodes.machines]
    await world.run()
    assert counted(cluster, since) == []
    world.repository.commit({LIST: image(allowedRegistries=[*OURS, "more.corp"])})
    assert (await world.sync()).exit_code == 0
    await asyncio.to_thread(wait_for, lambda: not nodes.left(), "something is left", 60)
    asked = counted(cluster, since)
    assert [machine.actions() for machine in nodes.machines] == [[*done, RELOAD] for done in before]
    assert len(asked) <= 5 * NODES, Counter(asked)
    assert asked.count("create pods") == 2 * NODES  # a look that tells images, and the change
    assert asked.count("patch pods") == NODES  # the confirmation
    since = len(cluster.calls(SERVICE))
    for _ in range(3):
        await world.run()
    assert counted(cluster, since) == []


async def test_what_an_answer_has_more_than_a_message_holds_is_the_pods_log(
    transport: PodTransport, nodes: PodNodes, cluster: ApiServer
) -> None:
    machine = nodes.machines[0]
    text = "".join(f'[[registry]]\nlocation = "{n * 7919 % 10007}.example.com"\n' for n in range(2000))
    put(machine, REGISTRIES_CONF, text)
    since = len(cluster.calls(SERVICE))
    seen = await transport.observe(target(machine.name), ObserveRequest("log-1", "crio", {REGISTRIES_CONF: ""}))
    assert seen.files[REGISTRIES_CONF].content == text.encode()
    assert counted(cluster, since).count("get pods/log") == 1


def target(name: str) -> Target:
    return Target("default", name, "kubernetes", node_name=name)


def change(step: str, text: str = "# ours\n", **fields: object) -> ApplyRequest:
    values: dict[str, object] = {"actions": ("reload:crio.service",), **fields}
    files = (FileContent(REGISTRIES_CONF, text.encode()),)
    return ApplyRequest("log-1", 1, 1, step, "crio", files, **values)  # type: ignore[arg-type]  # plain test values


async def look(transport: PodTransport, name: str) -> bytes | None:
    """The bytes of registries.conf, as the transport tells."""
    request = ObserveRequest("log-1", "crio", {REGISTRIES_CONF: ""})
    return (await transport.observe(target(name), request)).files[REGISTRIES_CONF].content


async def test_a_node_is_looked_at_again_when_something_may_have_happened(
    transport: PodTransport, nodes: PodNodes, cluster: ApiServer
) -> None:
    name = nodes.machines[0].name
    put(nodes.machines[0], REGISTRIES_CONF, "1")
    assert await look(transport, name) == b"1"
    put(nodes.machines[0], REGISTRIES_CONF, "2")
    assert await look(transport, name) == b"1"  # nobody told
    cluster.set_ready(name, False)
    cluster.set_ready(name, True)
    stamp = {"status": {"nodeInfo": {"bootID": "another"}}}
    cluster.api("PATCH", f"/api/v1/nodes/{name}/status", stamp)
    await until(transport, name, b"2")
    async with by_pods(nodes.config, replace(ORIGIN, owner="there:2:bb")) as other:
        assert (await other.apply(target(name), change("s1", "3"))).result == "applied"
        await until(transport, name, b"3")
    put(nodes.machines[0], REGISTRIES_CONF, "4")
    async with by_pods(nodes.config, look_interval=ALWAYS) as always:
        for text in ("5", "6"):
            put(nodes.machines[0], REGISTRIES_CONF, text)
            assert await look(always, name) == text.encode()


async def test_an_observer_tells_of_a_change_by_hand(
    transport: PodTransport, nodes: PodNodes, cluster: ApiServer
) -> None:
    manifest = OBSERVER.read_text().replace("namespace: reconciler-nodes", f"namespace: {NAMESPACE}")
    name = nodes.machines[1].name
    try:
        cluster.kubectl("apply", "-f", "-", input=manifest.replace("sleep 30", "sleep 1"))
        running = lambda: [list(states) for states in observers(cluster)] == [["running"]] * NODES  # noqa: E731
        await asyncio.to_thread(wait_for, running, "no observers run", 60)
        put(nodes.machines[1], REGISTRIES_CONF, "1")
        await until(transport, name, b"1")
        for text in ("2", "3"):  # nobody but an observer tells of them
            put(nodes.machines[1], REGISTRIES_CONF, text)
            await until(transport, name, text.encode())
    finally:
        cluster.kubectl("delete", "-f", "-", input=manifest)
        await asyncio.to_thread(wait_for, lambda: not observers(cluster), "observers are left", 60)


def observers(cluster: ApiServer) -> list[dict[str, object]]:
    """The state of each one's container."""
    pods = cluster.api("GET", f"/api/v1/namespaces/{NAMESPACE}/pods?labelSelector=reconciler.dev/observer")["items"]
    return [status["state"] for pod in pods for status in pod["status"].get("containerStatuses", [{"state": {}}])]


async def until(transport: PodTransport, name: str, text: bytes) -> None:
    """The transport hears of it by its watches, which may take a moment."""
    for _ in range(200):
        if await look(transport, name) == text:
            return
        await asyncio.sleep(0.05)
    assert await look(transport, name) == text


async def test_a_forced_lock_out_is_undone_by_the_node(
    world: MemoryWorld, nodes: PodNodes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The guard refuses it; should it ever err, the node finds out by itself."""
    before = [at(machine, POLICY_JSON).read_bytes() for machine in nodes.machines]
    world.repository.commit({LIST: image(allowedRegistries=["quay.io"])})
    status = await world.sync()
    assert (status.exit_code, IMAGE in status.pools[0].blocked) == (3, True)

    async def nothing(*_: object) -> dict[str, str]:
        return {}

    monkeypatch.setattr(view, "blocked_targets", nothing)
    done = await world.run()
    assert done.failed
    assert all("reconciler-helper-image" in why or "Source image rejected" in why for why in done.failed.values())
    assert [at(machine, POLICY_JSON).read_bytes() for machine in nodes.machines] == before
    assert "NodeReverted" in await world.types()


async def test_an_image_that_could_not_be_pulled_before_says_nothing(transport: PodTransport, nodes: PodNodes) -> None:
    """The kubelet may have other credentials, and registries may be down."""
    machine = nodes.machines[0]
    check, before = HealthCheck(HELPER_CHECK, image=IMAGE), len(machine.runtime.pulls())
    assert (await transport.apply(target(machine.name), change("s1", health=(check,)))).result == "applied"
    assert len(machine.runtime.pulls()) == before + 2
    machine.runtime.set_pull("unauthorized")
    done = await transport.apply(target(machine.name), change("s2", "# more\n", health=(check,)))
    machine.runtime.set_pull("")
    assert (done.result, at(machine, REGISTRIES_CONF).read_text()) == ("applied", "# more\n")


async def test_a_change_that_nobody_confirms_is_undone(
    transport: PodTransport, nodes: PodNodes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where the node's own timer died with its pod: the pod that waits looks."""
    monkeypatch.setattr(pods, "GRACE", 1)
    machine = nodes.machines[0]
    put(machine, REGISTRIES_CONF, "before")
    done = await transport.apply(target(machine.name), change("s1", confirm=2))
    assert (done.result, at(machine, REGISTRIES_CONF).read_text()) == ("applied", "# ours\n")
    undone = lambda: at(machine, REGISTRIES_CONF).read_text() == "before"  # noqa: E731
    await asyncio.to_thread(wait_for, undone, "the change stands", 60)


async def test_a_lost_pod_is_repeated_and_nothing_is_done_twice(transport: PodTransport, nodes: PodNodes) -> None:
    machine = nodes.machines[0]
    machine.runtime.set_delay(20)  # it ends with its pod, long before
    applying = asyncio.create_task(transport.apply(target(machine.name), change("s1")))
    await asyncio.to_thread(wait_for, lambda: machine.actions() == [RELOAD], "it does not reload")
    nodes.cluster.api("DELETE", f"/api/v1/namespaces/{NAMESPACE}/pods", {"gracePeriodSeconds": 0})
    with pytest.raises(NodeUnreachable, match="deleted by somebody else"):
        await applying
    machine.runtime.set_delay(0)
    again = await transport.apply(target(machine.name), change("s1"))
    assert (again.result, again.generation) == ("applied", 1)
    assert await transport.apply(target(machine.name), change("s1")) == again
    assert machine.actions() in ([RELOAD], [RELOAD, RELOAD])  # the action may be repeated, never the write


async def test_why_a_pod_does_not_start_is_told_in_the_kubelets_words(
    transport: PodTransport, nodes: PodNodes, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = nodes.machines[0].name
    nodes.kubelet.unpullable.add("registry.example.com")
    with pytest.raises(NodeUnreachable, match="does not start: ImagePullBackOff: Back-off pulling image"):
        await look(transport, name)
    nodes.kubelet.unpullable.clear()
    monkeypatch.setattr(pod_runner, "START_TIMEOUT", 1)
    nodes.kubelet.switch_off(name)
    try:
        with pytest.raises(NodeUnreachable, match="does not start: its kubelet has said nothing of it"):
            await look(transport, name)
    finally:
        nodes.kubelet.switch_on(name)
    with pytest.raises(NodeUnreachable, match="the cluster has no Node nobody"):
        await look(transport, "nobody")


async def test_while_the_api_server_is_away_nodes_are_unreachable(
    transport: PodTransport, nodes: PodNodes, cluster: ApiServer
) -> None:
    machine = nodes.machines[0]
    put(machine, REGISTRIES_CONF, "1")
    assert await look(transport, machine.name) == b"1"
    cluster.stop()
    try:
        with pytest.raises(NodeUnreachable, match="the API server cannot be reached"):
            await until(transport, machine.name, b"never")
    finally:
        cluster.start()  # by this thread, with which it ends
    for _ in range(600):
        with suppress(NodeUnreachable):
            assert await look(transport, machine.name) == b"1"
            break
        await asyncio.sleep(0.05)
    assert await look(transport, machine.name) == b"1"
    assert (await transport.apply(target(machine.name), change("s1"))).result == "applied"


def labelled(cluster: ApiServer, level: str | None) -> None:
    labels = {"pod-security.kubernetes.io/enforce": level}
    cluster.api("PATCH", f"/api/v1/namespaces/{NAMESPACE}", {"metadata": {"labels": labels}})


async def test_what_the_api_server_refuses_is_named_with_its_remedy(nodes: PodNodes, cluster: ApiServer) -> None:
    name = nodes.machines[0].name
    labelled(cluster, "restricted")
    try:
        async with by_pods(nodes.config) as transport:
            with pytest.raises(NodeRefused, match="violates PodSecurity") as refused:
                await look(transport, name)
            assert "pod-security.kubernetes.io/enforce=privileged" in refused.value.remedy
    finally:
        labelled(cluster, None)
    async with by_pods(cluster.kubeconfig_for("nobody")) as transport:
        with pytest.raises(NodeRefused, match="nobody"):
            await look(transport, name)
    async with by_pods(nodes.config, replace(ORIGIN, namespace="absent")) as transport:
        with pytest.raises(NodeRefused, match='namespaces "absent" not found') as refused:
            await look(transport, name)
        assert refused.value.remedy == "kubectl create namespace absent"
    async with by_pods(nodes.config, replace(ORIGIN, image="")) as transport:
        with pytest.raises(NodeRefused, match="no helper image is configured"):
            await look(transport, name)


async def test_files_of_a_node_that_mco_manages_are_not_written(
    transport: PodTransport, nodes: PodNodes, cluster: ApiServer
) -> None:
    name = nodes.machines[0].name
    mark = {"machineconfiguration.openshift.io/currentConfig": "rendered-worker-1"}
    cluster.api("PATCH", f"/api/v1/nodes/{name}", {"metadata": {"annotations": mark}})
    try:
        await look(transport, name)
        since = len(cluster.calls(SERVICE))
        done = await transport.apply(target(name), change("s1"))
        assert (done.result, done.reason) == ("refused", "mco")
        assert counted(cluster, since).count("create pods") == 0
    finally:
        cluster.api("PATCH", f"/api/v1/nodes/{name}", {"metadata": {"annotations": dict.fromkeys(mark)}})


async def test_what_a_dead_process_left_is_taken_and_nothing_else(nodes: PodNodes, cluster: ApiServer) -> None:
    name, there = nodes.machines[0].name, "there:2:bb"

    async def living() -> Sequence[str]:
        return [there]

    mine = await abandoned(nodes, name, "s1", owner="dead:1:aa")
    kept = [
        await abandoned(nodes, name, "s2", owner=there),
        await abandoned(nodes, name, "s3", owner="dead:1:aa", fleet="other"),
        await abandoned(nodes, name, "s4", owner="dead:1:aa", log_id="log-2"),
    ]
    cluster.api("POST", f"/api/v1/namespaces/{NAMESPACE}/secrets", {"metadata": {"name": "mine"}})
    try:
        async with by_pods(nodes.config, replace(ORIGIN, owner="next:3:cc"), living) as transport:
            await look(transport, name)
        gone = lambda: not any(item.endswith(mine) for item in nodes.left())  # noqa: E731
        await asyncio.to_thread(wait_for, gone, f"{mine} is still there", 60)
        assert {f"{kind}/{pod}" for pod in kept for kind in ("pods", "secrets")} | {"secrets/mine"} <= set(nodes.left())
    finally:
        for kind in ("pods", "secrets"):
            cluster.api("DELETE", f"/api/v1/namespaces/{NAMESPACE}/{kind}", {"gracePeriodSeconds": 0})


async def abandoned(nodes: PodNodes, name: str, step: str, **origin: str) -> str:
    """The name of a change's pod that waits for a confirmation, as a process leaves it that is killed then."""
    before = set(nodes.left())
    async with by_pods(nodes.config, replace(ORIGIN, **origin)) as transport:
        done = await transport.apply(target(name), change(step, step, confirm=600))
        assert (done.result, done.confirm_by > 0) == ("applied", True)
    (pod,) = {item.partition("/")[2] for item in set(nodes.left()) - before if item.startswith("pods/")}
    return pod
