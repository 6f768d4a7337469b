"""The doors of `manage: cluster`: a real API server, a real database, and the program as a person uses it."""

from __future__ import annotations

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


@pytest.fixture
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


def bring(fleet: Doors, mco: Mco) -> None:
    """Passes and the operator's steps, until all machines have it."""
    for _ in range(30):
        fleet.run("sync", code=3)
        mco.settle()
        if fleet.data("status", code=0 if fleet.data("get", "pools")["items"][0]["updated"] else 3)["pools"]:
            break


def test_from_first_contact_to_an_edit(fleet: Doors, openshift: ApiServer, mco: Mco) -> None:
    outs = []

    def show(*a, code=0):
        r = fleet.run(*a, code=code)
        outs.append(f"$ {' '.join(a)}\n{r.output}")

    show("sync", code=3)
    show("status", code=3)
    show("plan")
    show("adopt", "--cluster", "--reason", "ours", "--yes", "--no-wait")
    show("sync", code=3)
    mco.settle()
    show("sync")
    show("status")
    show("get", "pools", "-o", "wide")
    show("get", "nodes", "-o", "wide")
    show("get", "rollouts", "-o", "wide")
    show("get", "resources", "-o", "wide")
    show("describe", "pool", "worker")
    show("describe", "node", "w1")
    show("diff")
    fleet.repository.commit(
        {"image.yaml": image(blockedRegistries=[B]), "m.yaml": mirrors("apps", "x.example.com", "m.example.com")},
        "Block b (#12)",
    )
    show("plan")
    show("diff", code=0)
    show("sync", code=3)
    mco.step()
    show("sync", code=3)
    show("status", code=3)
    show("diff", "w1")
    mco.settle()
    show("sync", "--wait")
    found = yaml.safe_load(openshift.kubectl("get", "image.config.openshift.io", "cluster", "-o", "yaml"))
    found["spec"]["registrySources"] = {"blockedRegistries": [C]}
    openshift.kubectl("replace", "--field-manager=kubectl-edit", "-f", "-", input=yaml.safe_dump(found))
    show("sync", code=3)
    show("status", code=3)
    show("diff", code=1)
    show("plan")
    show("history", "--limit", "30")
    show("node", "log", "w1")
    show("why", f"{B}/x:1", "--node", "w1", code=1)
    show("why", f"{B}/x:1", code=1)
    show("blame", "w1:/etc/containers/registries.conf")
    show("cat", "w1:/etc/containers/registries.conf", "--wanted")
    Path("/tmp/x/cli.txt").write_text("\n".join(outs))
    show("wait", "--for=Updated", "--pool", "worker", "--timeout", "5s", code=3)
    Path("/tmp/x/cli.txt").write_text("\n".join(outs))
