"""`plan` and the verbs that look, through the program: forms, exit codes, and the file for CI."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner

from reconciler.cli import main
from tests.doors import Doors, doors
from tests.world import IMAGE


@pytest.fixture
def fleet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Doors]:
    with doors(tmp_path, monkeypatch) as ready:
        yield ready


def test_from_a_proposal_to_its_plan_in_ci_and_its_log(fleet: Doors, tmp_path: Path) -> None:
    fleet.run("sync", "--wait")
    fleet.run("plan", "--detailed-exitcode", code=0)
    away = fleet.nodes[0].root.rename(tmp_path / "away")
    silent = fleet.run("plan", "--detailed-exitcode", code=1).stdout
    assert "1 node did not answer: nothing is known of it" in silent
    assert "nothing to change" not in silent
    away.rename(fleet.nodes[0].root)
    assert fleet.items("plan", "--upgrade") == []
    before = fleet.data("status")["position"]
    export = tmp_path / "fleet.json"
    fleet.run("plan", "--export", str(export))

    proposal = fleet.repository.directory
    (proposal / "image.yaml").write_text(IMAGE.replace("untrusted", "`worse`"))
    rejected = fleet.run("plan", "--from", str(proposal), code=1)
    assert "image.yaml:" in rejected.stdout
    (proposal / "image.yaml").write_text(IMAGE.replace("untrusted", "worse"))
    images = tmp_path / "images.txt"
    images.write_text("# what runs\nworse.example.com/app:1\nquay.io/app:1  # stays\n")
    asked = ("plan", "--from", str(proposal), "--images", str(images))
    text = fleet.run(*asked, "--detailed-exitcode", code=2).stdout
    assert "Pool worker (enforce): 2 of 2 nodes to change, class drain, action reload, plan " in text
    assert "order:    canary worker-1; wave 2 worker-2" in text
    assert "image:    worse.example.com/app:1: pullable → not pullable on worker-1, worker-2" in text
    assert '+location = "worse.example.com"' in text
    live = fleet.data(*asked)

    # what CI does: no settings, no database, no node
    ci = CliRunner().invoke(main, [*asked, "--inventory-from", str(export), "-o", "json"])
    assert ci.exit_code == 0, ci.output
    told = json.loads(ci.stdout)
    assert [pool.pop("guard") for pool in live["pools"]] == ["1 image"]
    assert [pool.pop("guard") for pool in told["pools"]] == ["1 image, 2 nodes did not tell"]
    assert {**told, "nodesFrom": "nodes"} == live
    comment = CliRunner().invoke(main, [*asked, "--inventory-from", str(export), "-o", "markdown"]).stdout
    assert comment.startswith("### reconciler plan: ")
    assert f"`{live['pools'][0]['digest'][:12]}`" in comment
    assert "```diff" in comment
    assert fleet.data("status")["position"] == before

    fleet.repository.commit({}, "Merge pull request #3 from bob/worse")
    fleet.run("sync", "--wait")
    (rollout,) = [item for item in fleet.items("get", "rollouts") if item["plan"] == live["pools"][0]["digest"]]
    assert rollout["state"] == "completed"
    assert "worker-1" in fleet.run("describe", "rollout", "worker").stdout
    newest = fleet.items("node", "log", "worker-1")[0]
    assert (newest["cause"]["pullRequest"], newest["outcome"]) == ("3", "NodeConverged")
    assert "b/etc" not in fleet.run("node", "log", "worker-1", "--limit", "1").stdout
    assert '+location = "worse.example.com"' in fleet.run("node", "log", "worker-1", "--diff", "--limit", "1").stdout
    assert fleet.run("wait", "--for=condition=converged").stdout == "pool/worker condition met\n"
    fleet.run("wait", "--for=commit=" + fleet.repository.git("rev-parse", "HEAD"))
    fleet.run("wait", "--for=condition=Paused", "--timeout", "1s", code=124)
    fleet.run("wait", "--for=happiness", code=2)
    fleet.run("verify-node", "worker-1")
    fleet.file(fleet.nodes[0]).write_text("# by hand\n")
    assert "differs" in fleet.run("verify-node", "worker-1", code=3).stdout

    fleet.run("rollback", "--to", "previous", "--reason", "bad", "--yes", "--no-wait")
    (hold,) = fleet.items("get", "holds")
    dry = fleet.run("hold", "lift", hold["name"], "--reason", "good again", "--dry-run").stdout
    assert dry == f"hold {hold['name']} lifted, pools worker (dry run)\n"
    assert fleet.items("get", "holds") == [hold]
    assert "nothing waits" in fleet.run("approve", "--reason", "good", "--dry-run", code=2).stderr


def test_options_that_say_different_things_and_files_that_are_not_there(fleet: Doors, tmp_path: Path) -> None:
    for arguments in (
        ("--ref", "main", "--from", "."),
        ("--upgrade", "--ref", "main"),
        ("--export", "-", "--from", "."),
        ("--inventory-from", str(tmp_path / "none.json")),
        ("--from", str(fleet.repository.directory), "--images", str(tmp_path / "none.txt")),
        ("--ref", "nowhere"),
        ("--from", str(fleet.repository.directory), "--pool", "nowhere"),
    ):
        refused = fleet.run("plan", *arguments, code=2)
        assert "error: " in refused.stderr
        assert fleet.run("plan", "--detailed-exitcode", *arguments, code=1).stdout == ""
