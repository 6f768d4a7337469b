"""What a kubeconfig file that is none, or the program that it names, makes of a fleet's cluster: one error of our tree,
which quotes neither."""

from __future__ import annotations

import gc
import json
import re
import sys
from pathlib import Path
from typing import Any

import pytest
from lightkube.resources.core_v1 import Node

from reconciler.errors import ClusterError, UsageError
from reconciler.kubernetes.client import connect, errors

SECRET = "s3cr3t"
"""What no error may quote."""
SERVER = {"server": "https://127.0.0.1:9"}
TOKEN = {"token": SECRET}


def kubeconfig(cluster: Any = SERVER, user: Any = TOKEN) -> bytes:
    return json.dumps(
        {
            "current-context": "c",
            "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
            "clusters": [{"name": "c", "cluster": cluster}],
            "users": [{"name": "u", "user": user}],
        }
    ).encode()


BAD_FILES = {
    "bad base64": kubeconfig({**SERVER, "certificate-authority-data": f"{SECRET}=a"}),
    "base64 of no ASCII": kubeconfig({**SERVER, "certificate-authority-data": f"{SECRET}é"}),
    "no certificate": kubeconfig({**SERVER, "certificate-authority-data": "bm9uZQ=="}),
    "binary": b"\x80\x00" + SECRET.encode(),
    "no YAML": f"users: [token: {SECRET}".encode(),
    "a list": f"[{SECRET}]".encode(),
    "a number for a token": kubeconfig(user={"token": 1}),
    "no address": kubeconfig({"server": f"https://host:{SECRET}"}),
}


@pytest.mark.filterwarnings("ignore:unclosed file:ResourceWarning")
@pytest.mark.parametrize("name", BAD_FILES)
def test_a_file_that_cannot_be_used_is_an_error_of_usage_that_does_not_quote_it(tmp_path: Path, name: str) -> None:
    file = tmp_path / "config"
    file.write_bytes(BAD_FILES[name])
    with pytest.raises(UsageError, match="the cluster cannot be used") as refused:
        connect("default", "kubeconfig", str(file), "")
    gc.collect()  # lightkube leaves the file of a certificate open that is none
    assert refused.value.where == "fleets.default.kubeconfig"
    assert SECRET not in str(refused.value)


PRINTS = "import sys; sys.{}.write(sys.argv[1]); sys.exit({})"
PLUGINS: dict[str, tuple[list[str], str]] = {
    "missing": (["/nowhere/plugin"], "no credentials can be had: .*/nowhere/plugin"),
    "no token": ([sys.executable, "-c", PRINTS.format("stdout", 0), f'{{"status": {{"x": "{SECRET}"}}}}'], "KeyError"),
    "no status": ([sys.executable, "-c", PRINTS.format("stdout", 0), f'["{SECRET}"]'], "TypeError"),
    "no JSON": ([sys.executable, "-c", PRINTS.format("stdout", 0), SECRET], "JSONDecodeError"),
    "fails": ([sys.executable, "-c", PRINTS.format("stderr", 3), SECRET], "returned 3$"),
}


@pytest.mark.parametrize("name", PLUGINS)
async def test_a_plugin_that_gives_no_token_is_an_error_of_the_cluster(tmp_path: Path, name: str) -> None:
    (command, *arguments), said = PLUGINS[name]
    plugin = {"apiVersion": "client.authentication.k8s.io/v1beta1", "command": command, "args": arguments}
    file = tmp_path / "config"
    file.write_bytes(kubeconfig({**SERVER, "insecure-skip-tls-verify": True}, {"exec": plugin}))
    client = connect("default", "kubeconfig", str(file), "")
    try:
        with pytest.raises(ClusterError) as failed, errors("nodes"):
            await client.get(Node, "w1")
    finally:
        await client.close()
    assert SECRET not in str(failed.value)
    assert failed.value.where == "nodes"
    assert re.search(said, failed.value.what)


def test_a_variable_that_names_several_files_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "config"
    file.write_bytes(kubeconfig())
    monkeypatch.setenv("KUBECONFIG", f"{file}:/nowhere")
    with pytest.raises(UsageError, match="names several files") as refused:
        connect("default", "kubeconfig", "", "")
    assert refused.value.remedy == "set fleets.default.kubeconfig to one"
    connect("default", "kubeconfig", str(file), "")
    monkeypatch.setenv("KUBECONFIG", f"{file}:")
    connect("default", "kubeconfig", "", "")
