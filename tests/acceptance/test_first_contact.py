"""First contact is harmless: observing changes nothing on a node; enforcing keeps what our resources do not name."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml
from sqlalchemy.ext.asyncio import AsyncEngine

from reconciler import queries
from reconciler.registries.model import POLICY_JSON, REGISTRIES_CONF, SEARCH_REGISTRIES
from reconciler.transport.sandbox import SandboxNode
from tests.machines import at, machines, put, ssh_nodes, transport, visible, written
from tests.world import POOL, make_real_world

HOSTS = yaml.safe_load((Path(__file__).parents[1] / "cases/first_contact/hosts.yaml").read_text())
IMAGE = """
    apiVersion: config.openshift.io/v1
    kind: Image
    metadata: {name: cluster}
    spec:
      registrySources:
        blockedRegistries: [untrusted.example.com]
        insecureRegistries: [insecure.example.com]
        containerRuntimeSearchRegistries: [search.example.com]
"""
OURS = (REGISTRIES_CONF, POLICY_JSON, SEARCH_REGISTRIES)
NODES = 20


@pytest.fixture(scope="module")
def nodes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[SandboxNode]]:
    with machines(tmp_path_factory.mktemp("nodes"), NODES) as found:
        for number, node in enumerate(found):
            for path, text in HOSTS[number % len(HOSTS)]["files"].items():
                put(node, path, text)
        yield found


async def test_first_contact(nodes: list[SandboxNode], engine: AsyncEngine, tmp_path: Path) -> None:
    router = transport(nodes)
    world = await make_real_world(tmp_path, router, engine)
    observing = POOL.replace("mode: enforce", "mode: observe")
    world.repository.commit({"pool.yaml": observing, "image.yaml": IMAGE, **ssh_nodes(nodes)})
    before = {node.name: (written(node), visible(node, "/etc")) for node in nodes}

    for _ in range(3):
        assert (await world.sync()).exit_code == 0

    assert {node.name: (written(node), visible(node, "/etc")) for node in nodes} == before
    assert [node.actions() for node in nodes] == [[]] * NODES
    assert {node.files for node in (await world.status()).nodes} == {"Unadopted"}
    differences = await queries.diff(world.context)
    for number, node in enumerate(nodes):
        found = {item["path"]: item for item in differences if item["node"] == node.name}
        _check_differences(HOSTS[number % len(HOSTS)]["files"], found)

    world.repository.commit({"pool.yaml": POOL}, "Enforce")
    assert (await world.sync()).exit_code == 0

    assert await queries.diff(world.context) == []
    for number, node in enumerate(nodes):
        assert node.actions() == ["reload crio.service"]
        _check_enforced(node, HOSTS[number % len(HOSTS)])
    await router.close()


def test_a_change_of_a_node_does_not_go_unseen(nodes: list[SandboxNode]) -> None:
    """What the proof above rests on: writing equal bytes again shows in `written` and in `visible`."""
    node = nodes[0]
    path = f"{REGISTRIES_CONF}.d/equal"
    put(node, path, "same")
    before = written(node), visible(node, "/etc")
    put(node, path, "same")
    after = written(node), visible(node, "/etc")
    assert before[0] != after[0]
    assert before[1] != after[1]
    put(node, "/var/lib/new", "")
    assert written(node) != after[0]


def _check_differences(files: Mapping[str, str], found: Mapping[str, Mapping[str, Any]]) -> None:
    """Each managed file is listed once, from the node's own text to one that has what we say."""
    assert set(found) == set(OURS)
    for path, item in found.items():
        assert item["from"] == files.get(path, "")
        assert item["kind"] == ("changed" if path in files else "added")
    assert "untrusted.example.com" in found[REGISTRIES_CONF]["to"]
    assert "untrusted.example.com" in found[POLICY_JSON]["to"]
    assert "search.example.com" in found[SEARCH_REGISTRIES]["to"]


def _check_enforced(node: SandboxNode, host: Mapping[str, Any]) -> None:
    blocked = {"location": "untrusted.example.com", "blocked": True}
    assert blocked in tomllib.loads(at(node, REGISTRIES_CONF).read_text())["registry"]
    policy = json.loads(at(node, POLICY_JSON).read_text())
    assert policy["transports"]["docker"]["untrusted.example.com"] == [{"type": "reject"}]
    for path, kept in host["keeps"].items():
        _check_kept(_read(path, at(node, path).read_text()), kept)
    for path, comments in host.get("comments", {}).items():
        assert [text for text in comments if text not in at(node, path).read_text()] == []
    for path, text in host["files"].items():
        if path not in OURS:
            assert at(node, path).read_text() == text


def _read(path: str, text: str) -> Any:
    return tomllib.loads(text) if path.endswith(".conf") else yaml.safe_load(text)


def _check_kept(found: Any, kept: Any) -> None:
    """Everything of `kept` is in `found`: keys of tables, entries of lists."""
    if isinstance(kept, dict):
        assert kept.keys() <= found.keys()
        for key, value in kept.items():
            _check_kept(found[key], value)
    elif isinstance(kept, list):
        assert [entry for entry in kept if entry not in found] == []
    else:
        assert found == kept
