"""`simulate` of a configured fleet goes on from its log, and neither the log nor a node learns of it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.doors import Doors, doors


@pytest.fixture
def fleet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Doors]:
    with doors(tmp_path, monkeypatch) as ready:
        yield ready


def test_a_fleet_that_exists(fleet: Doors) -> None:
    fleet.run("sync", "--wait")
    fleet.block("new.example.com")
    position = fleet.data("status")["position"]
    files = [fleet.file(node).read_bytes() for node in fleet.nodes]

    good = fleet.data("simulate")
    bad = fleet.data("simulate", "--fail", "worker-1:reload", code=1)

    assert (good["ends"], good["nodes"], good["converged"]) == ("completed", 2, 2)
    assert [(wave["kind"], wave["converged"]) for wave in good["waves"]] == [("canary", 1), ("wave", 1)]
    assert (bad["ends"], bad["converged"], len(bad["halts"])) == ("halted", 0, 1)
    assert fleet.data("status")["position"] == position
    assert [fleet.file(node).read_bytes() for node in fleet.nodes] == files

    fleet.run("sync", "--wait")
    again = fleet.data("simulate")
    assert (again["ends"], again["converged"], again["waves"]) == ("completed", 2, [])


def test_another_branch_and_one_that_is_not_there(fleet: Doors) -> None:
    fleet.run("sync", "--wait")
    fleet.repository.git("checkout", "--quiet", "-b", "proposal")
    fleet.block("new.example.com")
    assert len(fleet.data("simulate", "--ref", "proposal")["waves"]) == 2
    fleet.repository.git("checkout", "--quiet", "main")
    assert fleet.data("simulate")["waves"] == []
    fleet.run("simulate", "--ref", "nowhere", code=1)
