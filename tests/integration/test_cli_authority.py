"""What people are told, through the program, when their login may not do what they ask for."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from reconciler.store.database import parsed
from tests.conftest import Server
from tests.doors import Doors, doors
from tests.integration.test_store_append_only import libpq
from tests.world import POOL

Become = Callable[[str], None]


@pytest.fixture
def fleet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Doors]:
    with doors(tmp_path, monkeypatch, count=1) as fleet:
        yield fleet


@pytest.fixture
def become(fleet: Doors, logins: None, postgres: Server, database: str, monkeypatch: pytest.MonkeyPatch) -> Become:
    """From now on the program uses this login, in a database that they all share."""

    def choose(login: str) -> None:
        url = parsed(postgres.url_of(database)).set(username=login)
        monkeypatch.setenv("DATABASE_URL", libpq(url.render_as_string(hide_password=False)))

    return choose


def test_each_does_what_their_roles_allow(fleet: Doors, become: Become) -> None:
    become("olga")
    fleet.run("sync", "--wait")
    fleet.block("bad.example.com")
    fleet.run("sync", "--wait")
    fleet.run("rollback", "--to", "previous", "--reason", "too much", "--yes")
    [hold] = fleet.items("hold", "list")
    refused = fleet.run("hold", "lift", hold["name"], "--reason", "mine", "--yes", code=1)
    assert "login olga may not append HoldLifted" in refused.stderr
    assert "GRANT reconciler_approver TO olga;" in refused.stderr
    assert fleet.items("hold", "list") == [hold]

    become("carol")
    refused = fleet.run("pause", "worker", "--reason", "x", code=1)
    assert "GRANT reconciler_operator TO carol;" in refused.stderr
    fleet.run("hold", "lift", hold["name"], "--reason", "looked at", "--yes")
    [event] = [item for item in fleet.items("get", "events") if item["type"] == "HoldLifted"]
    assert event["actor"]["session"] == "carol"
    assert fleet.items("hold", "list") == []


def test_a_pool_that_wants_anothers_word(fleet: Doors, become: Become) -> None:
    become("paula")
    fleet.run("sync", "--wait")
    fleet.repository.commit({"pool.yaml": POOL.rstrip() + "\n      approval: always\n"})
    fleet.run("sync", "--wait", code=0)
    fleet.block("bad.example.com")
    fleet.run("sync", code=3)
    become("olga")
    refused = fleet.run("approve", "--pool", "worker", "--reason", "x", "--yes", code=1)
    assert "login olga may not append RolloutApproved" in refused.stderr
    become("paula")
    fleet.run("approve", "--pool", "worker", "--reason", "looked at", "--yes")
