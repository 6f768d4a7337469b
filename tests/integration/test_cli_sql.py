"""`sql`, `log export` and `events --follow` as a user calls them, on local nodes and embedded PostgreSQL."""

from __future__ import annotations

import base64
import csv
import hashlib
import json
import shutil
import signal
import subprocess
import sys
import uuid
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from reconciler.events.chain import Content, Record, Verifier
from reconciler.store import reader
from reconciler.store.reader import Reader
from tests.doors import Doors, doors

NODES = "SELECT node, behind, drift, effective_at FROM node_state ORDER BY node"


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Doors]:
    """Two converged nodes."""
    with pytest.MonkeyPatch.context() as patch, doors(tmp_path_factory.mktemp("fleet"), patch) as ready:
        ready.run("sync", "--wait")
        yield ready


def test_one_query_in_every_form(fleet: Doors) -> None:
    head, first, _ = fleet.run("sql", "-c", NODES).stdout.splitlines()
    assert (head.split(), first.split()[:3]) == (["NODE", "BEHIND", "DRIFT", "EFFECTIVE_AT"], ["worker-1", "f", "{}"])
    rows = list(csv.DictReader(fleet.run("sql", "-c", NODES, "-o", "csv").stdout.splitlines()))
    assert [(row["node"], row["behind"]) for row in rows] == [("worker-1", "f"), ("worker-2", "f")]
    first_item, _ = fleet.items("sql", "-c", NODES)
    assert (first_item["behind"], first_item["drift"]) == (False, [])
    assert datetime.fromisoformat(first_item["effective_at"]).tzinfo is not None
    assert fleet.items("sql", "-c", "SELECT 1.5 AS x, interval '3 min' AS d, NULL AS n") == [
        {"x": 1.5, "d": "00:03:00", "n": None}
    ]


@pytest.mark.parametrize(
    ("query", "said"),
    [
        ("DELETE FROM public.events", "cannot execute DELETE in a read-only transaction"),
        ("BEGIN READ WRITE; DELETE FROM public.events", "permission denied for table events"),
        ("SELECT 1; SELECT 2", "this is not one query"),
        ("SET timezone = 'UTC'", "this is not one query"),
        ("SELEC", "syntax error"),
        ("SELECT nonsense FROM history", 'column "nonsense" does not exist'),
    ],
)
def test_what_is_refused(fleet: Doors, query: str, said: str) -> None:
    assert said in fleet.run("sql", "-c", query, code=2).stderr


def test_two_columns_of_one_name_are_no_json(fleet: Doors) -> None:
    assert "two columns are called x" in fleet.run("sql", "-c", "SELECT 1 AS x, 2 AS x", "-o", "json", code=2).stderr
    assert fleet.run("sql", "-c", "SELECT 1 AS x, 2 AS x", "-o", "csv").stdout == "x,x\n1,2\n"


def test_psql_is_the_readers(fleet: Doors) -> None:
    asked = "SELECT current_user; SELECT count(*) FROM node_state; DELETE FROM public.events; \\q\n"
    command = [sys.executable, "-m", "reconciler", "--config", str(fleet.settings), "sql"]
    done = subprocess.run(command, input=asked, capture_output=True, text=True, check=False)
    assert "reconciler_reader" in done.stdout
    assert "cannot execute DELETE in a read-only transaction" in done.stderr
    assert done.returncode == 0


def test_without_psql_one_query_still_works(fleet: Doors, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda _: None)
    monkeypatch.setattr(reader, "find_program", lambda _: None)
    assert "psql was not found" in fleet.run("sql", code=1).stderr
    assert fleet.run("sql", "-c", "SELECT 1 AS x", "-o", "csv").stdout == "x\n1\n"


async def test_a_password_is_in_the_environment_only(monkeypatch: pytest.MonkeyPatch) -> None:
    class Connected:
        async def __aenter__(self) -> None: ...
        async def __aexit__(self, *_: object) -> None: ...

    async def connect(_: Reader) -> Connected:
        return Connected()

    monkeypatch.setattr(Reader, "_connect", connect)
    monkeypatch.setattr(shutil, "which", lambda name: f"/usr/bin/{name}")
    command, environment = await Reader("postgresql://ann:s3cret@db.example.com/log?sslmode=require").psql()
    assert not [part for part in command if "s3cret" in part]
    assert environment["PGPASSWORD"] == "s3cret"
    assert "sslmode=require" in command[-1]
    assert "role=reconciler_reader" in command[-1]


def record_of(row: dict[str, Any]) -> Record:
    """A line of an export as the row it was."""
    ids = {name: uuid.UUID(row[name]) if row[name] else None for name in ("event_id", "correlation_id", "causation_id")}
    content = Content(**{name: {**row, **ids}[name] for name in Content._fields})
    moment = datetime.fromisoformat(row["recorded_at"])
    place = (int(row["position"]), int(row["version"]), int(row["append_group"]), moment)
    return Record(*place, bytes.fromhex(row["previous_hash"]), bytes.fromhex(row["hash"]), content)


def test_an_export_proves_itself(fleet: Doors, tmp_path: Path) -> None:
    file = tmp_path / "log.ndjson"
    said = fleet.run("log", "export", "--blobs", "--out", str(file)).stderr
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    events, blobs = [line for line in lines if "position" in line], [line for line in lines if "blob" in line]
    assert lines == [*events, *blobs]
    verifier = Verifier()
    assert [problem for line in events for problem in verifier.check(record_of(line))] == []
    assert f"exported: {len(events)} events, {len(blobs)} blobs, head {verifier.head.hex()}" in said
    assert fleet.run("log", "verify").stdout.endswith(f"head {verifier.head.hex()}\n")
    assert all(hashlib.sha256(base64.b64decode(line["content"])).hexdigest() == line["blob"] for line in blobs)
    named = {line["content"] for line in (json.loads(event["data"]) for event in events) if "content" in line}
    assert named <= {line["blob"] for line in blobs}

    tail = fleet.run("log", "export", "--from", "#3").stdout.splitlines()
    assert [json.loads(line) for line in tail] == events[2:]
    table = list(csv.DictReader(fleet.run("log", "export", "-o", "csv").stdout.splitlines()))
    assert table == [{name: "" if value is None else str(value) for name, value in line.items()} for line in events]


def test_an_export_that_cannot_be_written_leaves_nothing(fleet: Doors, tmp_path: Path) -> None:
    assert "cannot be written" in fleet.run("log", "export", "--out", str(tmp_path / "no" / "file"), code=2).stderr
    assert "blobs have no place" in fleet.run("log", "export", "--blobs", "-o", "csv", code=2).stderr
    assert "is no position" in fleet.run("log", "export", "--from", "yesterday", code=2).stderr
    assert list(tmp_path.iterdir()) == []


def follow(fleet: Doors, since: int, until: int) -> list[int]:
    """The positions that a follower prints before it is killed, at the latest after `until`."""
    found: list[int] = []
    with fleet.start("events", "--follow", "--since", f"#{since}", "-o", "json") as following:
        assert following.stdout is not None
        for line in following.stdout:
            found.append(json.loads(line)["position"])
            if found[-1] >= until:
                break
        following.send_signal(signal.SIGKILL)
    return found


def test_a_follower_that_is_killed_goes_on_where_it_was(fleet: Doors) -> None:
    first = follow(fleet, 0, 5)
    fleet.block("other.example.com")
    fleet.run("sync", "--wait")
    head = fleet.data("status")["position"]
    second = follow(fleet, first[-1], head)
    assert [*first, *second] == list(range(1, head + 1))


def test_a_stream_is_filtered_and_begins_now(fleet: Doors) -> None:
    before = fleet.data("status")["position"]
    with fleet.start("events", "--follow", "--node", "worker-2", "--type", "NodeConverged", "-o", "json") as following:
        assert following.stdout is not None
        assert following.stderr is not None
        assert following.stderr.readline() == f"following the log after #{before}\n"
        fleet.block("third.example.com")
        fleet.run("sync", "--wait")
        event = json.loads(following.stdout.readline())
        following.send_signal(signal.SIGINT)
        assert following.wait() == 130
    assert (event["type"], event["node"]) == ("NodeConverged", "worker-2")
    assert event["position"] > before


def test_events_without_follow_is_a_list(fleet: Doors) -> None:
    assert fleet.items("events", "--limit", "3") == fleet.items("get", "events", "--limit", "3")
    assert "a stream has no end" in fleet.run("events", "-f", "--until", "#3", code=2).stderr
    assert "YAML" in fleet.run("events", "-f", "-o", "yaml", code=2).stderr
