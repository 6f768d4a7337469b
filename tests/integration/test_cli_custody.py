"""Giving nodes back, taking them and having drift repaired, through the program."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.doors import Doors, doors
from tests.world import POOL


@pytest.fixture
def fleet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Doors]:
    with doors(tmp_path, monkeypatch) as fleet:
        yield fleet


def test_release_adopt_and_retry(fleet: Doors) -> None:
    mine = fleet.file(fleet.nodes[0])
    mine.write_text("# mine\n")
    fleet.run("sync", "--wait")
    name = fleet.nodes[0].name
    fleet.run("release", name, "--reason", "x", "--yes", code=2)
    fleet.run("release", "nobody", "--keep", "--reason", "x", "--yes", code=2)
    assert "dry run" in fleet.run("release", name, "--keep", "--reason", "x", "--dry-run").stdout
    fleet.run("release", name, "--restore", "--reason", "to another team", "--yes")
    assert mine.read_text() == "# mine\n"
    (found,) = fleet.items("get", "nodes", name)
    assert (found["files"], found["reason"]) == ("Released", "to another team: `reconciler adopt` takes it back")
    fleet.run("status", code=3)
    assert fleet.data("adopt", name, "--reason", "came back", "--yes")["dryRun"] is False
    fleet.run("status")

    alert = POOL.rstrip() + "\n      drift: alert\n"
    fleet.repository.commit({"pool.yaml": alert})
    fleet.run("sync")
    ours = mine.read_text()
    mine.write_text("# by hand\n")
    fleet.run("sync", code=3)
    assert mine.read_text() == "# by hand\n"
    fleet.run("retry", "worker", "--reason", "x", code=2)
    said = fleet.run("retry", "worker", "--node", name, "--reason", "a slip").stdout
    assert said.splitlines()[0] == f"pool worker: drift of {name} is repaired"
    assert mine.read_text() == ours
