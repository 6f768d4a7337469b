"""Several clusters in one process, one per fleet: each with its own client, opened when it is needed and closed."""

from __future__ import annotations

from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path

import pytest
import yaml
from lightkube import KubeConfig

from reconciler import queries
from reconciler.doctor import examine
from reconciler.errors import ClusterRefused
from reconciler.kubernetes.connection import Connection
from reconciler.settings import FleetSettings, Settings
from reconciler.settings.model import DatabaseSettings
from reconciler.wiring import open_application
from tests.cluster import ApiServer
from tests.clusters import ApiServerRig


@pytest.fixture
async def rig(cluster: ApiServer) -> AsyncIterator[ApiServerRig]:
    rig = ApiServerRig(cluster)
    rig.add("w1", {})
    yield rig
    await rig.close()


@pytest.fixture
def settings(rig: ApiServerRig, database_url: str, tmp_path: Path) -> Settings:
    """One fleet with the right to list nodes, one without any, one whose file is not there, one without a cluster."""
    contexts = tmp_path / "kubeconfig"
    contexts.write_text(yaml.safe_dump(_joined(rig.kubeconfig, rig.server.kubeconfig_for("stranger"))))
    chosen = {
        "allowed": {"kubernetes": "kubeconfig", "kubeconfig": str(contexts), "context": "first"},
        "denied": {"kubernetes": "kubeconfig", "kubeconfig": str(contexts), "context": "second"},
        "lost": {"kubernetes": "kubeconfig", "kubeconfig": str(tmp_path / "nothing")},
        "none": {},
    }
    url = database_url.replace("postgresql+psycopg://", "postgresql://")
    fleets = {
        name: FleetSettings.model_validate({"url": f"file://{tmp_path}", **more}) for name, more in chosen.items()
    }
    return Settings(data_dir=tmp_path / "data", database=DatabaseSettings(url=url), fleets=fleets)


def _joined(first: Path, second: Path) -> dict[str, object]:
    """Two kubeconfig files as one with the contexts `first` and `second`; `first` is the current one."""
    parts = {name: yaml.safe_load(file.read_text()) for name, file in (("first", first), ("second", second))}
    return {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "first",
        "clusters": [{"name": name, "cluster": part["clusters"][0]["cluster"]} for name, part in parts.items()],
        "users": [{"name": name, "user": part["users"][0]["user"]} for name, part in parts.items()],
        "contexts": [{"name": name, "context": {"cluster": name, "user": name}} for name in parts],
    }


async def test_each_fleet_has_its_own_cluster(rig: ApiServerRig, settings: Settings) -> None:
    async with open_application(settings, actor_kind="login") as application:
        allowed, denied, lost, none = (application.context(name).cluster for name in sorted(settings.fleets))
        assert none is None
        assert allowed is not None
        assert denied is not None
        assert lost is not None
        assert [node.name for node in await allowed.nodes()] == ["w1"]
        with pytest.raises(ClusterRefused, match='User "stranger" cannot list resource "nodes"'):
            await denied.nodes()
        with pytest.raises(ClusterRefused, match="nothing not found"):
            await lost.nodes()
        found, _ = await queries.status(application.context("lost"))  # needs no cluster
        assert found.fleet == "lost"
        before = rig.link.connections
    async with open_application(settings, actor_kind="login") as application:
        application.context("allowed")
        assert rig.link.connections == before


async def test_doctor_says_whether_clusters_answer_and_which_rights_are_missing(settings: Settings) -> None:
    found = {finding.subject: finding async for finding in examine(settings)}
    assert "fleet none: cluster" not in found
    allowed, denied, lost = (found[f"fleet {name}: cluster"] for name in ("allowed", "denied", "lost"))
    assert allowed.ok
    assert allowed.detail.startswith("Kubernetes v1.")
    assert not denied.ok
    assert denied.detail.endswith("missing rights: list nodes, watch nodes")
    assert "grant them" in denied.remedy
    assert not lost.ok
    assert "nothing not found" in lost.detail


async def test_in_the_cluster_itself_the_service_account_counts(
    cluster: ApiServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a kubelet gives every pod: a token, the authority, and the API server's address in variables."""
    kubeconfig = yaml.safe_load(cluster.kubeconfig_for("system:serviceaccount:default:default").read_text())
    (tmp_path / "token").write_text(kubeconfig["users"][0]["user"]["token"])
    (tmp_path / "namespace").write_text("default")
    (tmp_path / "ca.crt").write_bytes((cluster.directory / "ca.crt").read_bytes())
    host, _, port = cluster.url.removeprefix("https://").partition(":")
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", host)
    monkeypatch.setenv("KUBERNETES_SERVICE_PORT", port)
    mounted = partial(KubeConfig.from_service_account, tmp_path)
    monkeypatch.setattr(KubeConfig, "from_service_account", mounted)
    connection = Connection("default", "in-cluster")
    try:
        found = await connection.check()
    finally:
        await connection.close()
    assert (found.version, found.missing) == ("v1.36.3", ("list nodes", "watch nodes"))
    assert {call.user for call in cluster.calls("system:serviceaccount:default:default")}
