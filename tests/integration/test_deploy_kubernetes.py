"""deploy/kubernetes is what an API server accepts, and its settings file is one."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from reconciler.settings import load
from tests.cluster import ApiServer

DEPLOY = Path(__file__).parents[2] / "deploy/kubernetes"


@pytest.mark.parametrize("folder", ["base", "openshift"])
def test_the_server_accepts_every_object(openshift: ApiServer, folder: str) -> None:
    """In a dry run on the server, so with admission: no refusal, and no warning, as one of Pod Security would be."""
    objects = openshift.kubectl("kustomize", str(DEPLOY / folder))
    made = [document for document in yaml.safe_load_all(objects) if document["kind"] == "Namespace"]
    openshift.kubectl("apply", "-f", "-", input=yaml.safe_dump_all(made))
    if folder == "openshift":
        openshift.namespace("openshift-config")
    done = openshift.try_kubectl("apply", "--dry-run=server", "-f", "-", input=objects)
    assert (done.returncode, done.stderr) == (0, "")
    assert len(done.stdout.splitlines()) == objects.count("\nkind: ") + objects.startswith("kind: ")


def test_openshift_chooses_the_user_ids(openshift: ApiServer) -> None:
    """Its restricted-v2 refuses any that is not of the namespace's range."""
    for folder, named in (("base", 2), ("openshift", 0)):
        assert openshift.kubectl("kustomize", str(DEPLOY / folder)).count("runAsUser") == named


def test_the_settings_file_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DATABASE_URL", raising=False)
    settings = load(DEPLOY / "base/reconciler.toml")
    assert settings.fleets["default"].kubernetes == "in-cluster"
