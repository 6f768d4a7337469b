"""The doors of `manage: cluster`: a real API server, a real database, and the program as a person uses it."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from tests.cluster import ApiServer
from tests.doors import Doors, doors
from tests.mco import Mco, ServerHands
from tests.openshift import NODES, WORKER, cluster_pool
from tests.world import image, mirrors

A, B, C = "a.example.com", "b.example.com", "c.example.com"


@pytest.fixture(scope="module")
def mco(openshift: ApiServer) -> Mco:
    for name in NODES:
        openshift.add_node(name, {WORKER: ""})
    installed = {"apiVersion": "config.openshift.io/v1", "kind": "Image", "metadata": {"name": "cluster"}, "spec": {}}
    openshift.kubectl("create", "--field-manager=installer", "-f", "-", input=yaml.safe_dump(installed))
    mco = Mco(ServerHands(openshift), {"worker": NODES})
    mco.install()
    return mco


@pytest.fixture
def fleet(openshift: ApiServer, mco: Mco, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Doors]:
    del mco
    with doors(tmp_path, monkeypatch, count=0) as fleet:
        lines = f'kubernetes = "kubeconfig"\nkubeconfig = "{openshift.kubeconfig}"\n'
        fleet.settings.write_text(fleet.settings.read_text() + lines)
        fleet.repository.commit({"pool.yaml": cluster_pool(), "image.yaml": image(blockedRegistries=[A])}, "Begin")
        yield fleet


def edit(server: ApiServer, *registries: str) -> None:
    """What `oc edit` does."""
    found = yaml.safe_load(server.kubectl("get", "image.config.openshift.io", "cluster", "-o", "yaml"))
    found["spec"]["registrySources"] = {"blockedRegistries": list(registries)}
    server.kubectl("replace", "--field-manager=kubectl-edit", "-f", "-", input=yaml.safe_dump(found))


def test_from_first_contact_to_an_edit(
    fleet: Doors, openshift: ApiServer, mco: Mco, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = fleet.run("sync", code=3).output
    assert "Image/cluster was there before us and not adopted" in said
    said = fleet.run("plan").output
    assert "adopt:    Image/cluster was there before, and differs; managed by installer" in said
    assert "+    - a.example.com" in said
    commit = fleet.repository.git("rev-parse", "HEAD")
    fleet.run("wait", "--for", f"commit={commit}", "--timeout", "1s", code=124)
    fleet.run("adopt", "--reason", "ours", "--yes", code=2)
    fleet.run("adopt", "--cluster", "--reason", "ours", "--yes", "--no-wait")
    said = fleet.run("sync", code=3).output
    assert "cluster: apply Image/cluster" in said
    assert "not adopted" not in said
    [pool] = fleet.items("get", "pools")
    assert (pool["updated"], pool["updating"], pool["machineCount"]) == (False, True, 3)
    mco.settle()
    fleet.run("sync", "--wait")
    assert {item["files"] for item in fleet.items("get", "nodes")} == {"Converged"}
    [rollout] = fleet.items("get", "rollouts")
    assert (rollout["state"], rollout["nodes"], rollout["converged"]) == ("completed", 3, 3)
    fleet.run("wait", "--for", "condition=Updated", "--pool", "worker")
    fleet.run("wait", "--for", f"commit={commit}")

    files = {"image.yaml": image(blockedRegistries=[B]), "m.yaml": mirrors("apps", "x.example.com", "m.example.com")}
    fleet.repository.commit(files, "Block b (#12)")
    said = fleet.run("plan").output
    assert said.index("apply:    ImageDigestMirrorSet/apps") < said.index("apply:    Image/cluster (rollout)")
    monkeypatch.setenv("RECONCILER_FAULT", "between-resources")
    killed = fleet.start("sync")
    killed.communicate(timeout=120)
    assert killed.returncode == -signal.SIGKILL
    monkeypatch.delenv("RECONCILER_FAULT")
    assert openshift.kubectl("get", "idms", "apps", "-o", "name")
    assert not fleet.items("history", "--resource", "ImageDigestMirrorSet/apps", "--type", "ClusterResourceApplied")
    fleet.run("sync", code=3)
    assert fleet.items("history", "--resource", "ImageDigestMirrorSet/apps", "--type", "ClusterResourceApplied")
    mco.failing["w1"] = "unexpected on-disk state"
    mco.settle()
    said = fleet.run("sync", code=1).output
    assert 'NodeDegraded: Node w1 is reporting: "unexpected on-disk state"' in said
    node = fleet.data("describe", "node", "w1")["status"]["machineConfig"]
    assert (node["state"], node["reason"]) == ("Degraded", "unexpected on-disk state")
    assert 'location = "b.example.com"' in fleet.run("diff", "w2", code=1).output
    assert (
        "its files are the Machine Config Operator's"
        in fleet.run("cat", "w2:/etc/containers/registries.conf", "--live", code=2).output
    )
    mco.failing.clear()
    mco.settle()
    fleet.run("sync", "--wait")
    log = fleet.items("node", "log", "w1")
    assert [item["outcome"] for item in log[:2]] == ["Done", "Degraded"]
    assert log[0]["cause"]["pullRequest"] == "12"
    said = fleet.run("why", f"{B}/x:1", code=1).output
    assert "pull request #12" in said
    assert "does not have these files" not in fleet.run("blame", "w1:/etc/containers/registries.conf").output

    edit(openshift, C)
    said = fleet.run("sync", code=3).output
    assert "spec.registrySources.blockedRegistries was changed by kubectl-edit (Update, " in said
    assert "-    - c.example.com" in fleet.run("diff", code=1).output
    fleet.run("retry", "worker", "--resource", "Image/cluster", "--reason", "Git is right", "--no-wait")
    fleet.run("sync", "--wait")
    types = [item["type"] for item in fleet.items("history", "--resource", "Image/cluster")]
    assert {"ResourceChanged", "ClusterResourceApplied", "ClusterDriftDetected", "ClusterDriftRepaired"} <= set(types)


def test_the_list_of_registries_for_import_takes_effect(fleet: Doors) -> None:
    """OpenShift's API server reads it: no warning that it does nothing, and `why --import` answers by it."""
    document = yaml.safe_load(image(blockedRegistries=[A]))
    document["spec"]["allowedRegistriesForImport"] = [{"domainName": "quay.io"}]
    fleet.repository.commit({"image.yaml": yaml.safe_dump(document)}, "Import from quay.io alone")
    fleet.run("sync", code=3)
    assert "import-list-without-effect" not in fleet.run("get", "events", "-o", "yaml").output
    said = fleet.run("why", "quay.io/x/y:1", "--import").output
    assert "import into an image stream: allowed" in said
    said = fleet.run("why", "docker.io/x/y:1", "--import", code=1).output
    assert "no entry of spec.allowedRegistriesForImport is for registry-1.docker.io:443" in said
