"""The rights of deploy/kubernetes are enough for what the program does in a cluster, and none of them is too many."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from reconciler.registries.model import POLICY_JSON, REGISTRIES_CONF
from tests.cluster import ApiServer
from tests.machines import at, put
from tests.mco import Mco, ServerHands
from tests.pod_nodes import IMAGE, PodNodes, pod_nodes
from tests.program import Program
from tests.workloads import Workloads
from tests.world import Repository, image, mirrors, node_document, pool

DEPLOY = Path(__file__).parents[2] / "deploy/kubernetes"
ACCOUNT = "system:serviceaccount:reconciler:reconciler"
ELSEWHERE = {("watch", "pods"), ("list", "poddisruptionbudgets"), ("get", "replicasets"), ("get", "pods/log")}
"""Rights that this change does not come to; test_kubernetes_drainer and test_pods do."""


BEHIND = ("create", "get")
"""What a patch that makes an object needs, too, and what is asked where an answer to one was lost."""


def applied(cluster: ApiServer, folder: str) -> set[tuple[str, str]]:
    """Apply the accounts and rights of a kustomization, as they are; each (verb, resource) that they give."""
    kinds = ("Namespace", "ServiceAccount", "ClusterRole", "ClusterRoleBinding", "Role", "RoleBinding")
    found = [item for item in yaml.safe_load_all(cluster.kubectl("kustomize", str(DEPLOY / folder))) if item]
    chosen = sorted((item for item in found if item["kind"] in kinds), key=lambda item: kinds.index(item["kind"]))
    cluster.kubectl("apply", "-f", "-", input=yaml.safe_dump_all(chosen))
    rules = [rule for item in chosen for rule in item.get("rules", ())]
    return {(verb, name) for rule in rules for verb in rule["verbs"] for name in rule["resources"]}


def called(cluster: ApiServer) -> set[tuple[str, str]]:
    """Each (verb, resource) that the service account has asked for; none was forbidden."""
    calls = [call for call in cluster.calls(ACCOUNT) if "/" not in call.resource or not call.resource.startswith("/")]
    assert [call for call in calls if call.status == 403] == []
    return {(call.verb, call.resource) for call in calls}


def program_of(cluster: ApiServer, directory: Path, database_url: str, url: str, **more: str) -> Program:
    fleet = {"KUBERNETES": "kubeconfig", "KUBECONFIG": str(cluster.kubeconfig_for(ACCOUNT)), **more}
    settings = {f"RECONCILER_FLEETS__DEFAULT__{name}": value for name, value in fleet.items()}
    return Program(directory / "home", database_url, url, None, settings)


@pytest.fixture(scope="module")
def fleet(cluster: ApiServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[PodNodes]:
    with pod_nodes(cluster, tmp_path_factory.mktemp("pods"), 2) as nodes:
        cluster.controller_manager()
        cluster.namespace("reconciler-nodes")
        yield nodes


def test_nodes_reached_and_drained_with_exactly_these(fleet: PodNodes, database_url: str, tmp_path: Path) -> None:
    cluster = fleet.cluster
    granted = applied(cluster, "base")
    for machine in fleet.machines:
        put(machine, POLICY_JSON, '{"default": [{"type": "insecureAcceptAnything"}]}')
    Workloads(cluster).pod("app", fleet.machines[0].name)
    repository = Repository(tmp_path / "config")
    more = {"NAMESPACE": "reconciler-nodes", "HELPER_IMAGE": IMAGE}
    program = program_of(cluster, tmp_path, database_url, f"file://{repository.directory}", **more)
    documents = {f"{m.name}.yaml": node_document(m.name, "{transport: kubernetes}") for m in fleet.machines}
    drains: dict[str, Any] = {"drain": {"via": "kubernetes"}, "disruption": {"files": [_drain(REGISTRIES_CONF)]}}
    repository.commit({"pool.yaml": pool(**drains), "image.yaml": image(insecureRegistries=["a.corp"]), **documents})
    done = program.run("sync", "--wait")
    assert done.code == 0, done.said
    assert all("a.corp" in at(machine, REGISTRIES_CONF).read_text() for machine in fleet.machines)
    assert Workloads(cluster).on(fleet.machines[0].name) == []
    assert granted - called(cluster) <= ELSEWHERE


def _drain(path: str) -> Mapping[str, Any]:
    return {"path": path, "actions": [{"type": "Drain"}, {"type": "Reload", "reload": {"serviceName": "crio.service"}}]}


def test_resources_of_openshift_managed_with_exactly_these(
    openshift: ApiServer, database_url: str, tmp_path: Path
) -> None:
    before = called(openshift)
    granted = applied(openshift, "openshift") - applied(openshift, "base")
    openshift.add_node("w1", {"node-role.kubernetes.io/worker": ""})
    installed = yaml.safe_load(image())
    openshift.kubectl("apply", "--server-side", "--field-manager=installer", "-f", "-", input=yaml.safe_dump(installed))
    operator = Mco(ServerHands(openshift), {"worker": ["w1"]})
    operator.install()
    repository = Repository(tmp_path / "config")
    url, selector = f"file://{repository.directory}", "node-role.kubernetes.io/worker"
    program = program_of(openshift, tmp_path, database_url, url, NODE_SELECTOR=selector)
    managed = yaml.safe_load(pool())
    managed["spec"] = {"manage": "cluster", "mode": "enforce", "requiredImages": ["needed.example.com/app:1"]}
    files = {"image.yaml": image(blockedRegistries=["a.corp"]), "m.yaml": mirrors("m", "quay.io/a", "mirror.corp/a")}
    files["n.yaml"] = mirrors("n", "quay.io/n", "mirror.corp/n")
    repository.commit({"pool.yaml": yaml.safe_dump(managed), **files})
    program.run("sync")
    assert program.run("adopt", "--cluster", "--reason", "ours", "--yes", "--no-wait").code == 0
    program.run("sync")
    operator.settle()
    done = program.run("sync", "--wait")
    assert done.code == 0, done.said
    repository.commit({"m.yaml": None})
    program.run("sync")
    operator.settle()
    done = program.run("sync", "--wait")
    assert done.code == 0, done.said
    assert openshift.try_kubectl("get", "idms", "m").returncode != 0
    sets = {(verb, name) for verb, name in granted if name == "imagedigestmirrorsets"}  # every other kind has the same
    assert sets - (called(openshift) - before) == {(verb, "imagedigestmirrorsets") for verb in BEHIND}
    assert {("get", "machineconfigs"), ("watch", "machineconfigpools"), ("patch", "images")} <= called(openshift)
