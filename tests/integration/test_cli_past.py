"""The past, asked through the real program: embedded PostgreSQL, local nodes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from tests.doors import Doors, doors
from tests.integration.test_store_append_only import libpq

HISTORY = "SELECT position, type, pool, node, resource, commit, actor FROM history ORDER BY position DESC"
CONF = "/etc/containers/registries.conf"


@pytest.fixture
def fleet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Doors]:
    with doors(tmp_path, monkeypatch) as ready:
        yield ready


def test_every_question_is_asked_of_the_past(fleet: Doors) -> None:
    fleet.run("sync", "--wait")
    first = fleet.data("status")["position"]
    was = fleet.file(fleet.nodes[0]).read_text()
    bad = fleet.block("needed.example.com")
    fleet.run("sync", "--wait")

    # as of: the same data as then, less what no event records
    then = fleet.data("status", "--at", f"#{first}")
    assert (then["position"], then["asOf"]["position"], then["converged"]) == (first, first, True)
    nodes = fleet.data("get", "nodes", "--at", f"#{first}")
    assert nodes["metadata"]["asOf"]["position"] == first
    now = {item["name"]: item for item in fleet.items("get", "nodes")}
    for item in nodes["items"]:
        assert item["files"] == "Converged"
        assert item["applied"] != now[item["name"]]["applied"]
        assert now[item["name"]].keys() - item.keys() == {"version", "lastSeen"}
    shown = fleet.run("get", "nodes", "--at", f"#{first}")
    assert shown.stdout.split("\n")[0].split() == ["NAME", "STATUS", "ROLES", "AGE", "POOL", "FILES", "DRIFT"]
    assert f"as of #{first}, " in shown.stderr
    assert "not told, as no event records it: VERSION, LAST-SEEN" in shown.stderr
    (resource,) = fleet.items("get", "resources", "--at", f"#{first}")
    assert resource["commit"] != bad
    assert [item["state"] for item in fleet.items("get", "rollouts", "--at", f"#{first}")] == ["completed"]
    assert [item["commit"] for item in fleet.items("get", "pools", "--at", bad[:9])] == [bad]
    assert fleet.items("get", "holds", "--at", "previous") == []
    assert fleet.data("status", "--at", "0s")["position"] == fleet.data("status")["position"]

    # files: by the commit as it was wanted, though it was rendered after it was recorded
    assert fleet.run("cat", f"worker-1:{CONF}", "--at", f"#{first}").stdout == was
    assert "needed.example.com" in fleet.run("cat", f"worker-1:{CONF}", "--at", bad, "--wanted").stdout
    assert fleet.run("cat", f"worker-1:{CONF}", "--at", bad).stdout == was
    assert was in fleet.run("render", "--at", f"#{first}").stdout
    assert '+location = "needed.example.com"' in fleet.run("diff", "worker-1", "--at", bad, code=1).stdout
    assert fleet.run("diff", "--at", f"#{first}").stdout == ""
    assert fleet.run("diff", "--applied", "--observed").stdout == ""

    # what differs between two points
    files = fleet.run("diff", "--from", f"#{first}", code=1).stdout
    assert files.startswith("on 2 nodes: worker-1, worker-2 (pool worker)\n")
    assert files.count('+location = "needed.example.com"') == 1
    assert fleet.run("diff", "--from", bad, code=0).stdout == ""
    resources = fleet.data("diff", "--from", f"#{first}", "--resources", code=1)
    assert [(item["resource"], item["kind"], item["pools"]) for item in resources["items"]] == [
        ("Image/cluster", "changed", ["worker"])
    ]
    (fleet.directory / "images").write_text("needed.example.com/app:1\nuntrusted.example.com/app:1\nquay.io/x # same\n")
    images = fleet.run("diff", "--from", f"#{first}", "--to", bad, "--images", str(fleet.directory / "images"), code=1)
    rows = [line.split("  ")[0] for line in images.stdout.splitlines()[1:]]
    assert rows == ["needed.example.com/app:1", "untrusted.example.com/app:1"]

    # whose line, since when, through what
    lines = fleet.data("blame", f"worker-2:{CONF}", "-L", "1,+3")["lines"]
    assert [line["of"] for line in lines] == ["renderer", "resource", "resource"]
    assert {origin["commit"] for line in lines for origin in line["origins"]} == {bad}
    since = fleet.data("why", "needed.example.com/app:1", "--since", f"#{first}", code=1)
    (item,) = since["items"]
    assert (item["before"]["verdict"], item["after"]["verdict"]) == ("pullable", "not pullable")
    assert [change["cause"]["commit"] for change in item["changes"]] == [bad]
    fleet.run("why", "needed.example.com/app:1", "--at", f"#{first}")
    described = fleet.run("describe", "node", "worker-1").stdout
    assert ["PATH", "WANTED", "APPLIED", "OBSERVED"] in [line.split() for line in described.splitlines()]


def test_history_tells_who_and_agrees_with_sql(fleet: Doors) -> None:
    fleet.run("sync", "--wait")
    bad = fleet.block("needed.example.com")
    fleet.run("sync", "--wait")
    gone, came = (
        fleet.items("history", "--entry", "untrusted.example.com")[0],
        fleet.items("history", "--entry", "needed.example.com")[0],
    )
    assert (gone["until"]["commit"], came["from"]["commit"], came["until"]) == (bad, bad, None)
    assert [effect["node"] for effect in came["effective"]] == ["worker-1", "worker-2"]
    assert all(effect["until"] for effect in gone["effective"])
    for asked in (("history",), ("history", "--entry", "needed.example.com"), ("get", "events")):
        for noun, name in (("node", "worker-9"), ("pool", "other"), ("resource", "Image/other")):
            refused = fleet.run(*asked, f"--{noun}", name, code=2).stderr
            assert f"--{noun}: no {noun} {name} was ever known" in refused
    assert fleet.items("history", "--entry", "needed.example.com", "--until", f"#{came['from']['position'] - 1}") == []
    assert "leave out --type" in fleet.run("history", "--entry", "a", "--type", "StepStarted", code=2).stderr

    everything = fleet.items("history", "--limit", "10000")
    alices = fleet.items("history", "--author", "ALICE", "--limit", "10000")
    assert {item["correlationId"] for item in alices} < {item["correlationId"] for item in everything}
    assert fleet.items("history", "--author", "nobody") == []
    assert fleet.items("history", "--pull-request", "7") == []
    wide = fleet.run("history", "-o", "wide", "--limit", "1").stdout.splitlines()[0].split()
    assert wide == [
        "POSITION",
        "RECORDED",
        "TYPE",
        "SUBJECT",
        "COMMIT",
        "ACTOR",
        "PR",
        "AUTHOR",
        "COMMITTED",
        "SUMMARY",
    ]

    with psycopg.connect(libpq(fleet.url)) as connection:
        by_sql = connection.execute(HISTORY).fetchall()
    names = ("position", "type", "pool", "node", "resource", "commit")
    assert [(*(item[name] for name in names), item["actor"]["subject"]) for item in everything] == by_sql


def test_what_excludes_each_other_is_said(fleet: Doors) -> None:
    for arguments, said in (
        (("diff", "--to", "previous"), "is needed for --to"),
        (("diff", "--from", "previous", "--at", "previous"), "--from compares what is wanted"),
        (("diff", "--from", "previous", "--files", "--resources"), "exclude each other"),
        (("get", "nodes", "--at", "previous", "--watch"), "leave out --watch or --at"),
        (("cat", f"worker-1:{CONF}", "--at", "previous", "--live"), "give --observed"),
        (("why", "a.com/x", "--live", "--since", "previous"), "--since exclude each other"),
        (("why", "a.com/x", "--from", ".", "--at", "previous"), "--at is about a fleet"),
        (("render", ".", "--at", "previous"), "leave out DIR"),
        (("render", "--node", "worker-1"), "give --at"),
        (("blame", "worker-1"), "is not NODE:PATH"),
    ):
        assert said in fleet.run(*arguments, code=2).stderr
    fleet.run("sync", "--wait")
    assert "there is no previous state yet" in fleet.run("status", "--at", "previous", code=2).stderr
    assert "there are: /etc/containers/policy.json" in fleet.run("blame", "worker-1:/etc/x", code=2).stderr
    assert "has only" in fleet.run("blame", f"worker-1:{CONF}", "-L", "900", code=2).stderr
    assert "no range of lines" in fleet.run("blame", f"worker-1:{CONF}", "-L", "0", code=2).stderr
    assert "there is no node worker-9" in fleet.run("diff", "worker-9", "--applied", code=2).stderr
