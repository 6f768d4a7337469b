"""Sixty hosts with six hand-made groups and two outliers are imported: the first plan is empty, nothing is written."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from reconciler.transport.sandbox import SandboxNode
from tests.authorities import certificate
from tests.machines import machines, put, visible, written
from tests.program import Program

GROUPS: list[dict[str, Any]] = yaml.safe_load(
    (Path(__file__).parents[1] / "cases/adopted_fleet/groups.yaml").read_text()
)
NODES = sum(group["hosts"] for group in GROUPS)


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, list[SandboxNode]]]:
    """The nodes by the name of their group."""
    with machines(tmp_path_factory.mktemp("nodes"), NODES) as nodes:
        rest = iter(nodes)
        placed = {group["name"]: [next(rest) for _ in range(group["hosts"])] for group in GROUPS}
        for group in GROUPS:
            for number, node in enumerate(placed[group["name"]]):
                for path, text in group["writings"][number % len(group["writings"])].items():
                    put(node, path, certificate() if text == "CA" else text)
        yield placed


@pytest.fixture
def program(fleet: dict[str, list[SandboxNode]], tmp_path: Path, database_url: str) -> Program:
    nodes = [node for members in fleet.values() for node in members]
    program = Program(tmp_path / "program", database_url, str(tmp_path / "config"), nodes[0].identity)
    known = "".join(f"[{node.address}]:{node.port} {node.host_key}\n" for node in nodes)
    (program.directory / "known_hosts").write_text(known)
    inventory = "".join(f"{node.name} ansible_host={node.address} ansible_port={node.port}\n" for node in nodes)
    (program.directory / "hosts.ini").write_text(f"[fleet]\n{inventory}")
    return program


def state_of(fleet: dict[str, list[SandboxNode]]) -> dict[str, Any]:
    return {node.name: (written(node), visible(node, "/etc")) for members in fleet.values() for node in members}


def test_the_first_plan_after_an_import_is_empty(fleet: dict[str, list[SandboxNode]], program: Program) -> None:
    before = state_of(fleet)
    inventory = str(program.directory / "hosts.ini")
    done = program.call("import", "--inventory", inventory, "--to", program.url, "--commit", "-o", "json")
    assert done.code == 0, done.said

    _check_groups(fleet, done.data["groups"])
    assert {host["empty"] for host in done.data["hosts"]} == {True}
    assert {host["hostKeys"] for host in done.data["hosts"]} == {"known_hosts"}

    synced = program.call("sync")
    assert synced.code in (0, 3), synced.said
    difference = program.call("diff")
    assert (difference.code, difference.out) == (0, ""), difference.said
    assert state_of(fleet) == before
    assert [node.actions() for members in fleet.values() for node in members] == [[]] * NODES


def _check_groups(fleet: dict[str, list[SandboxNode]], found: list[dict[str, Any]]) -> None:
    """The groups are those that were made, and what outliers say is told."""
    members = {tuple(sorted(node.name for node in fleet[group["name"]])): group for group in GROUPS}
    assert {tuple(sorted(group["hosts"])) for group in found} == set(members)
    for group in found:
        made = members[tuple(sorted(group["hosts"]))]
        assert group["outlier"] == made.get("outlier", False)
        assert group["differs"] == made.get("says", [])
    taken = {name: sum(group[name] for group in found) for name in ("mirrored", "entries", "certificates")}
    assert taken == {"mirrored": 7, "entries": 3, "certificates": 1}
    assert {item["name"] for group in found for item in group["stays"]} == {
        "search-list", "setting", "alias", "signed-scope", "blocked-only-in-registries",
    }  # fmt: skip
