"""`db rebuild` through the program: what differs is named, nothing is written unasked, and then all is right."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from reconciler.store.embedded import EmbeddedPostgres
from tests.doors import Doors, doors
from tests.integration.test_store_append_only import libpq


@pytest.fixture
def fleet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Doors]:
    with doors(tmp_path, monkeypatch, count=1) as fleet:
        yield fleet


def spoil(fleet: Doors) -> None:
    """Somebody writes into a read table."""
    with psycopg.connect(libpq(EmbeddedPostgres(fleet.directory / "data").url)) as connection:
        connection.execute("UPDATE pools SET commit = 'x', blocked = 'x' WHERE pool = 'worker' AND valid_to IS NULL")


def test_rebuild(fleet: Doors) -> None:
    fleet.run("sync", "--wait")
    whole = fleet.run("db", "rebuild")
    assert whole.stdout.startswith("the read tables are what ")
    assert "events folded" in whole.stderr

    spoil(fleet)
    told = fleet.run("db", "rebuild", "--dry-run", code=1).stdout.splitlines()
    assert told[0].split() == ["TABLE", "KEY", "FROM", "ROW", "COLUMNS"]
    assert [*told[1].split()[:2], *told[1].split()[3:]] == ["pools", "default/worker", "changed", "commit,blocked"]
    assert told[2].startswith("1 row differs from what ")
    unasked = fleet.run("db", "rebuild", code=2)
    assert "pools" in unasked.stderr
    assert "not confirmed: write 1 row anew" in unasked.stderr

    [item] = fleet.data("db", "rebuild", "--dry-run", code=1)["differences"]
    assert item["key"] == ["default", "worker"]
    done = fleet.data("db", "rebuild", "--yes")
    assert (done["kind"], done["differing"], done["differences"], done["switched"]) == ("Rebuild", 1, [item], True)
    assert fleet.data("db", "rebuild")["differing"] == 0
