"""The program from a first sync to a rollback without Git, on local nodes and embedded PostgreSQL."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from tests.doors import Doors, doors
from tests.world import IMAGE, POOL


@pytest.fixture
def fleet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Doors]:
    with doors(tmp_path, monkeypatch) as ready:
        yield ready


def test_from_the_first_sync_to_the_rollback_and_back(fleet: Doors) -> None:
    first = fleet.run("sync", "--wait")
    assert "2 of 2 converged" in first.stdout
    assert "worker-1 converged" in first.stderr
    again = fleet.data("sync", "--wait")
    assert again["position"] == fleet.data("status")["position"]

    nodes = fleet.items("get", "nodes")
    assert [(node["name"], node["files"], node["status"]) for node in nodes] == [
        ("worker-1", "Converged", "Ready"),
        ("worker-2", "Converged", "Ready"),
    ]
    head, row, _ = fleet.run("get", "nodes").stdout.splitlines()
    assert head.split() == ["NAME", "STATUS", "ROLES", "AGE", "VERSION", "POOL", "FILES", "DRIFT", "LAST-SEEN"]
    assert row.split()[:3] == ["worker-1", "Ready", "worker"]
    assert fleet.run("get", "pools").stdout.split()[:10] == [
        "NAME", "CONFIG", "UPDATED", "UPDATING", "DEGRADED", "MACHINECOUNT", "READYMACHINECOUNT",
        "UPDATEDMACHINECOUNT", "DEGRADEDMACHINECOUNT", "AGE",
    ]  # fmt: skip
    assert fleet.run("get", "resources", "-o", "name").stdout == "resource/Image/cluster\n"
    assert fleet.run("diff").stdout == ""

    bad = fleet.block("needed.example.com")
    shown = fleet.run("sync", code=0)
    assert "2 of 2 converged" in shown.stdout
    wanted = fleet.run("cat", "worker-1:/etc/containers/registries.conf", "--wanted").stdout
    assert wanted == fleet.file(fleet.nodes[0]).read_text()
    assert 'location = "needed.example.com"' in wanted

    fleet.repository.directory.rename(fleet.directory / "gone")
    points = fleet.items("rollback")
    assert [point["subject"] for point in points] == ["Block needed.example.com", "Begin"]
    before = fleet.data("status")["position"]
    dry = fleet.data("rollback", "--to", "previous", "--dry-run")
    assert dry["nodes"] == ["worker-1", "worker-2"]
    assert fleet.data("status")["position"] == before
    one = fleet.run("rollback", "--to", "previous", "--resource", "Image/cluster", "--dry-run").stdout
    assert one.startswith(f"Image/cluster of the fleet to #{dry['position']} ")
    refused = fleet.run("rollback", "--to", "previous", "--reason", "pulls fail", code=2)
    assert "say --yes" in refused.stderr

    rolled = fleet.run("rollback", "--to", f"#{points[1]['position']}", "--reason", "pulls fail", "--yes")
    assert "the fleet to #" in rolled.stdout
    assert "untrusted.example.com" in fleet.file(fleet.nodes[0]).read_text()
    (hold,) = fleet.items("hold", "list")
    assert (hold["reason"], hold["entries"][0]["gitIs"]) == ("pulls fail", "refused")
    assert hold["name"] in fleet.run("hold", "show", hold["name"]).stdout
    assert fleet.data("status")["source"]["unreachableSince"]
    assert "unreachable since" in fleet.run("status").stdout

    fleet.run("hold", "lift", hold["name"], "--reason", "the registry moved", "--yes")
    assert "needed.example.com" in fleet.file(fleet.nodes[1]).read_text()
    assert fleet.items("hold", "list") == []
    types = [item["type"] for item in fleet.items("history", "--commit", bad)]
    assert "CommitAccepted" in types
    assert fleet.run("log", "verify").stdout.startswith("verified: ")


def test_events_and_history_answer_who_what_and_why(fleet: Doors) -> None:
    fleet.run("sync", "--wait")
    events = fleet.items("get", "events", "--limit", "1000")
    assert [event["position"] for event in events] == list(range(1, len(events) + 1))
    for name in (
        "position", "type", "recordedAt", "actor", "fleet", "stream", "data", "commit", "node", "pool", "resource",
        "causationId", "correlationId",
    ):  # fmt: skip
        assert name in events[0]

    (converged,) = fleet.items("history", "--type", "NodeConverged", "--node", "worker-2")
    number = converged["position"]
    text = fleet.run("show", f"#{number}").stdout
    assert text == fleet.run("show", str(number)).stdout
    assert "cause and consequences:" in text
    (turn,) = [line for line in text.splitlines() if "this event" in line]
    assert "worker-2: has files" in turn
    assert "CommitObserved" in text
    shown = yaml.safe_load(fleet.run("show", f"#{number}", "-o", "yaml").stdout)
    assert shown["data"]["node"] == "worker-2"
    table = fleet.run("history", "--limit", "3").stdout.splitlines()
    assert table[0].split() == ["POSITION", "RECORDED", "TYPE", "SUBJECT", "COMMIT", "SUMMARY"]
    assert len(table) == 4
    assert [item["position"] for item in fleet.items("history", "--since", "#2", "--until", "4")] == [4, 3]
    assert fleet.items("history", "--until", "2020-01-01") == []
    assert len(fleet.items("history", "--since", "1h", "--limit", "2")) == 2

    unknown = fleet.run("history", "--type", "NodeConvergd", code=2)
    assert "did you mean NodeConverged?" in unknown.stderr
    assert "the log has no position 9999" in fleet.run("show", "9999", code=2).stderr
    assert "not found: worker-9" in fleet.run("get", "nodes", "worker-9", code=2).stderr
    assert "No resources found." in fleet.run("get", "nodes", "-l", "zone=nowhere").stderr


def test_a_hand_edit_is_shown_and_repaired(fleet: Doors) -> None:
    fleet.run("sync", "--wait")
    file = fleet.file(fleet.nodes[0])
    file.write_text("# by hand\n")
    differs = fleet.run("diff", "worker-1", code=1)
    assert "-# by hand" in differs.stdout
    assert "--- worker-1:/etc/containers/registries.conf (now)" in differs.stdout
    assert fleet.run("cat", "worker-1:/etc/containers/registries.conf").stdout == "# by hand\n"
    assert fleet.run("diff", "worker-2").stdout == ""

    fleet.run("sync", "--wait")
    assert "untrusted.example.com" in file.read_text()
    assert [item["type"] for item in fleet.items("history", "--type", "DriftRepaired")] == ["DriftRepaired"]


def test_a_node_that_does_not_answer(fleet: Doors) -> None:
    fleet.run("sync", "--wait")
    fleet.nodes[1].root.rename(fleet.directory / "away")
    waiting = fleet.run("sync", "--wait", "--timeout", "5s", code=3)
    assert "worker-2" in waiting.stdout
    unanswered = fleet.run("diff", code=2)
    assert unanswered.stderr.startswith("worker-2: ")
    assert "\nworker-2 " in fleet.run("status", code=3).stdout
    checks = {item["name"]: item for item in json.loads(fleet.run("doctor", "-o", "json", code=1).stdout)["items"]}
    assert [name for name, item in checks.items() if not item["ok"]] == ["fleet default: nodes"]
    assert checks["fleet default: nodes"]["detail"].startswith("worker-2: ")


def test_a_wait_that_takes_too_long(fleet: Doors) -> None:
    fleet.repository.commit({"pool.yaml": POOL.replace("soak: 0s", "soak: 1h")}, "Soak")
    late = fleet.run("sync", "--wait", "--timeout", "1s", code=124)
    assert "pool worker: canary soaks until" in late.stderr
    assert "(worker-2)" in late.stderr
    assert late.stdout == ""
    assert fleet.data("status", code=3)["nodes"]["converged"] == 1


def test_a_bad_commit_changes_nothing(fleet: Doors) -> None:
    fleet.run("sync", "--wait")
    before = fleet.file(fleet.nodes[0]).read_text()
    fleet.repository.commit({"image.yaml": IMAGE.replace("blockedRegistries", "blockedRegistry")}, "Mistype")
    rejected = fleet.run("sync", "--wait", code=4)
    assert "spec.registrySources.blockedRegistry: unknown field" in rejected.stdout
    assert "image.yaml:" in rejected.stdout
    assert fleet.run("status", code=4).stdout == rejected.stdout
    assert fleet.file(fleet.nodes[0]).read_text() == before


def test_a_commit_that_removes_the_image_waits_for_a_person(fleet: Doors) -> None:
    fleet.run("sync", "--wait")
    commit = fleet.repository.commit({"image.yaml": None}, "Remove the Image")
    waits = fleet.run("sync", "--wait", code=3)
    assert f"reconciler approve {commit[:12]}" in waits.stdout
    assert "untrusted.example.com" in fleet.file(fleet.nodes[0]).read_text()
    assert "does not wait" in fleet.run("approve", "abcdef0", "--reason", "no", "--yes", code=2).stderr
    approved = fleet.run("approve", "--reason", "really", "--yes")
    assert "the Image" in approved.stdout
    assert not fleet.file(fleet.nodes[0]).exists()


def test_a_rewritten_branch_waits_for_a_person(fleet: Doors) -> None:
    fleet.run("sync", "--wait")
    assert "nothing to accept" in fleet.run("accept", "--reason", "no", "--yes", code=2).stderr
    fleet.repository.git("commit", "--quiet", "--amend", "--message", "Begin again")
    fleet.block("other.example.com")
    rewritten = fleet.run("sync", "--wait", code=3)
    assert "the branch was rewritten" in rewritten.stdout
    fleet.run("accept", "--reason", "squashed", "--yes")
    assert "other.example.com" in fleet.file(fleet.nodes[0]).read_text()


def test_get_watch_prints_what_changes(fleet: Doors) -> None:
    fleet.run("sync", "--wait")
    with fleet.start("get", "events", "--watch", "-o", "name", "--limit", "1") as watching:
        assert watching.stdout is not None
        known = watching.stdout.readline()
        fleet.block("new.example.com")
        fleet.run("sync", "--no-wait")
        news = watching.stdout.readline()
        watching.terminate()
    assert news.startswith("event/")
    assert int(news.partition("/")[2]) > int(known.partition("/")[2])


def test_the_database_is_checked_and_upgraded(fleet: Doors) -> None:
    assert fleet.run("db", "upgrade").stdout.startswith("migrated: ")
    assert fleet.run("db", "upgrade").stdout == "the schema is up to date\n"
    assert fleet.run("db", "check").stdout == "the database is as it should be\n"


def test_the_guard_stops_what_locks_out_and_a_person_lets_it_pass(fleet: Doors) -> None:
    for node in fleet.nodes:
        node.runtime.set_images(["docker.io/library/nginx:1"])
    unprotected = "\n".join(line for line in POOL.splitlines() if "Images:" not in line and "Registries:" not in line)
    fleet.repository.commit({"pool.yaml": unprotected}, "Protect what runs")
    fleet.run("sync", "--wait")
    fleet.block("docker.io")
    said = fleet.run("sync", "--wait", code=3).stdout
    assert "Guard:     1 image" in said
    assert "to give it up: `reconciler override --pool worker --image docker.io/library/nginx:1 --reason TEXT`" in said
    assert fleet.items("get", "pools")[0]["guard"] == "1 image"
    given = ("override", "--pool", "worker", "--image", "docker.io/*")
    assert "  docker.io/library/nginx:1" in fleet.run(*given, "--dry-run").stdout
    assert "is required" in fleet.run(*given, code=2).stderr
    assert "say --yes" in fleet.run(*given, "--reason", "moved", code=2).stderr
    assert fleet.data(*given, "--reason", "moved", "--yes")["givenUp"] == ["docker.io/library/nginx:1"]
    assert "docker.io" in fleet.file(fleet.nodes[1]).read_text()
    history = fleet.run("history", "--type", "GuardJudged", "--type", "OverrideGranted").stdout
    assert "no longer pullable: docker.io/library/nginx:1" in history
    assert "images docker.io/* given up: moved" in history

    for node in fleet.nodes:
        node.runtime.set_images([])
    fleet.block("quay.io")
    assert "the change blocks quay.io" in fleet.run("sync", "--wait", code=3).stdout
    assert (
        "exclude each other" in fleet.run("approve", "abc", "--pool", "worker", "--reason", "x", "--yes", code=2).stderr
    )
    approved = fleet.run("approve", "--pool", "worker", "--reason", "nothing runs yet", "--yes").stdout
    assert "approved in pool worker: blocks quay.io, rejects quay.io" in approved.replace("; ", ", ")
    assert "quay.io" in fleet.file(fleet.nodes[0]).read_text()
