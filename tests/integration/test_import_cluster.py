"""`import --from-cluster` at a real API server: the first sync of what it writes finds nothing to do."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from tests.authorities import certificate
from tests.cluster import ApiServer
from tests.mco import Mco, ServerHands
from tests.program import Program

IMAGE = {
    "apiVersion": "config.openshift.io/v1",
    "kind": "Image",
    "metadata": {"name": "cluster"},
    "spec": {
        "additionalTrustedCA": {"name": "registry-cas"},
        "registrySources": {"blockedRegistries": ["bad.example.com"]},
    },
}
MIRRORS = {
    "apiVersion": "config.openshift.io/v1",
    "kind": "ImageTagMirrorSet",
    "metadata": {"name": "team", "labels": {"owner": "platform"}},
    "spec": {"imageTagMirrors": [{"source": "quay.io/team", "mirrors": ["mirror.corp/team"]}]},
}
WORKER = {
    "apiVersion": "machineconfiguration.openshift.io/v1",
    "kind": "MachineConfigPool",
    "metadata": {"name": "worker"},
    "spec": {"nodeSelector": {"matchLabels": {"node-role.kubernetes.io/worker": ""}}},
}


@pytest.fixture
def running(openshift: ApiServer) -> ApiServer:
    authorities = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": "registry-cas", "namespace": "openshift-config"},
        "data": {"mirror.corp": certificate()},
    }
    openshift.kubectl("apply", "-f", "-", input=yaml.safe_dump_all([authorities, IMAGE, MIRRORS, WORKER]))
    openshift.add_node("worker-1", {"node-role.kubernetes.io/worker": ""})
    Mco(ServerHands(openshift), {"worker": ["worker-1"]}).install()
    return openshift


def test_the_first_sync_finds_nothing_to_do(running: ApiServer, database_url: str, tmp_path: Path) -> None:
    fleet = tmp_path / "fleet"
    program = Program(tmp_path / "home", database_url, f"file://{fleet}")
    cluster = {
        "RECONCILER_FLEETS__DEFAULT__KUBERNETES": "kubeconfig",
        "RECONCILER_FLEETS__DEFAULT__KUBECONFIG": str(running.kubeconfig),
    }
    named = ("import", "--from-cluster", "--kubeconfig", str(running.kubeconfig), "--to", str(fleet), "--commit")
    done = program.call(*named)
    assert done.code == 0, done.said
    assert done.out.split() == ["TAKEN", "ConfigMap/registry-cas", "ImageTagMirrorSet/team", "Image/cluster"]
    before = running.kubectl("get", "images.config,itms,cm", "-A", "-o", "yaml")
    assert program.call("sync", **cluster).code == 0
    plan = program.call("plan", "-o", "json", **cluster)
    assert plan.code == 0, plan.said
    found = plan.data["cluster"]
    assert (found["calls"], found["foreign"], [item["diff"] for item in found["unadopted"]]) == ([], [], [[]] * 3)
    assert running.kubectl("get", "images.config,itms,cm", "-A", "-o", "yaml") == before


def test_a_kubeconfig_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    program = Program(tmp_path, "", "file:///nowhere")
    done = program.call("import", "--from-cluster", "--kubeconfig", str(tmp_path / "missing"))
    assert (done.code, str(tmp_path / "missing") in done.err) == (1, True)
