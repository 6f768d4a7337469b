"""Holds through the program: a dry run, what Git may do with them, undo, overdue, a pushed branch; on local nodes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.doors import REGISTRIES_CONF, Doors, doors
from tests.world import image


@pytest.fixture
def fleet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Doors]:
    """untrusted.example.com was blocked, and bad.corp is by now."""
    with doors(tmp_path, monkeypatch) as ready:
        ready.run("sync", "--wait")
        ready.block("bad.corp")
        ready.run("sync", "--wait")
        yield ready


def _commit(fleet: Doors, *blocked: str) -> str:
    commit = fleet.repository.commit({"image.yaml": image(blockedRegistries=blocked)}, "Change")
    fleet.run("sync", "--wait")
    return commit


def _hold(fleet: Doors) -> dict[str, Any]:
    (hold,) = fleet.items("hold", "list")
    return hold


def test_a_dry_run_shows_files_nodes_classes_and_verdicts(fleet: Doors) -> None:
    fleet.block("needed.example.com")
    fleet.run("sync", "--wait")
    before = fleet.data("status")["position"]
    fleet.repository.directory.rename(fleet.directory / "gone")
    text = fleet.run("rollback", "--to", "previous", "--dry-run").stdout
    for part in (
        "the fleet to #", "Image/cluster → commit ", "Pool worker (enforce): 2 of 2 nodes to change, class ",
        "order:    canary worker-1", "guard:    1 image", f"--- /{REGISTRIES_CONF} (now)",
        '-location = "needed.example.com"', '+location = "bad.corp"',
        "image:    needed.example.com/app:1: ",
    ):  # fmt: skip
        assert part in text, text
    data = fleet.data("rollback", "--to", "previous", "--dry-run")
    (pool,) = data["plan"]["pools"]
    assert (data["kind"], pool["changes"][0]["nodes"]) == ("Rollback", ["worker-1", "worker-2"])
    assert fleet.data("status")["position"] == before


def test_a_hold_says_what_is_left_and_is_accepted_as_it_says(fleet: Doors) -> None:
    fleet.run("rollback", "--to", "previous", "--reason", "pulls fail", "--yes")
    commit = _commit(fleet, "bad.corp", "new.corp")
    shown = fleet.run("hold", "show", _hold(fleet)["name"]).stdout
    assert "Image/cluster: registrySources.blockedRegistries: bad.corp" in shown
    command = next(line.strip() for line in shown.splitlines() if line.strip().startswith("reconciler hold lift"))
    assert commit[:12] in command

    words = command.removeprefix("reconciler ").removesuffix(" --reason TEXT").split()
    dry = fleet.run(*words, "--reason", "seen", "--dry-run").stdout
    assert "lifted, pools worker (dry run)" in dry
    fleet.run(*words, "--reason", "seen", "--yes")
    assert fleet.items("hold", "list") == []
    assert "new.corp" in fleet.file(fleet.nodes[1]).read_text()


def test_an_overdue_hold_is_named_and_an_undone_rollback_reinstates_what_it_replaced(fleet: Doors) -> None:
    fleet.run("rollback", "--to", "previous", "--reason", "pulls fail", "--yes", "--until", "1h", "--until-fixed")
    first = _hold(fleet)
    assert (first["overdue"], first["untilFixed"]) == (False, True)
    assert "fixed, 2" in fleet.run("hold", "list").stdout
    _commit(fleet, "bad.corp", "new.corp")
    fleet.run("rollback", "--to", "#1", "--reason", "all of it", "--yes")
    assert fleet.run("get", "pools", "-o", "wide").stdout.splitlines()[1].split()[-2] == "observe"
    assert not fleet.file(fleet.nodes[0]).exists() or "untrusted" not in fleet.file(fleet.nodes[0]).read_text()
    second = _hold(fleet)
    shown = fleet.run("hold", "show", second["name"]).stdout
    assert shown.splitlines()[1].split()[3] == "(baseline)"
    assert "  (baseline): the files from before the first write" in shown
    blamed = fleet.run("blame", f"worker-1:/{REGISTRIES_CONF}", code=2)
    assert f"hold {second['name']} gave the files from before the first write back" in blamed.stderr

    dry = fleet.run("rollback", "--undo", second["name"], "--dry-run").stdout
    assert f"{first['name']} in force again (dry run: nothing was recorded)" in dry
    assert '+location = "untrusted.example.com"' in dry
    (pool,) = fleet.data("rollback", "--undo", second["name"], "--dry-run")["plan"]["pools"]
    assert pool["changes"][0]["nodes"] == ["worker-1", "worker-2"]

    for more in (("--to", "previous"), ("--push-branch", "x")):
        assert "--undo" in fleet.run("rollback", "--undo", second["name"], *more, "--reason", "x", code=2).stderr
    done = fleet.run("rollback", "--undo", second["name"], "--reason", "too much", "--yes").stdout
    assert f"{first['name']} in force again" in done
    assert _hold(fleet)["name"] == first["name"]
    assert "untrusted.example.com" in fleet.file(fleet.nodes[0]).read_text()


def test_what_was_restored_is_pushed_and_without_git_the_rollback_stands(fleet: Doors) -> None:
    fleet.repository.directory.rename(fleet.directory / "gone")
    back = ("rollback", "--to", "previous", "--reason", "pulls fail", "--yes", "--push-branch", "take-back")
    refused = fleet.run(*back, code=1)
    hold = _hold(fleet)["name"]
    assert f"hold {hold} stands; to push again: reconciler hold push {hold} --branch take-back" in refused.stderr
    assert "untrusted.example.com" in fleet.file(fleet.nodes[0]).read_text()

    (fleet.directory / "gone").rename(fleet.repository.directory)
    assert "image.yaml" in fleet.run("hold", "push", hold, "--branch", "take-back").stdout
    fleet.repository.git("merge", "--quiet", "take-back")
    fleet.run("sync", "--wait")
    assert fleet.items("hold", "list") == []
