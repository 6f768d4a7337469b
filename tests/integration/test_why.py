"""`why` of a fleet through the real program: local nodes, embedded PostgreSQL, and the page that shows it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from tests.doors import Doors, doors
from tests.world import image

PAGE = Path(__file__).parents[2] / "docs" / "how-to" / "ask-why.md"
EVIL = "evil.example.com/app:1"


@pytest.fixture
def fleet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Doors]:
    """Everything is converged; pull request 12 blocked evil.example.com."""
    with doors(tmp_path, monkeypatch) as ready:
        ready.run("sync", "--wait")
        ready.repository.git("switch", "--quiet", "--create", "topic")
        ready.repository.commit({"image.yaml": image(blockedRegistries=["evil.example.com"])}, "Block evil")
        ready.repository.git("switch", "--quiet", "main")
        message = "Merge pull request #12 from alice/block-evil"
        ready.repository.git("merge", "--quiet", "--no-ff", "--message", message, "topic")
        ready.run("sync", "--wait")
        yield ready


def test_the_example_of_the_page(fleet: Doors) -> None:
    example = re.search(r"^```console\n\$ reconciler (.*)\n((?s:.*?))^```", PAGE.read_text(), re.MULTILINE)
    assert example
    shown = fleet.run(*example[1].split(), code=1).stdout
    assert _masked(shown) == _masked(example[2])
    head = fleet.repository.git("rev-parse", "HEAD")
    (event,) = fleet.items("history", "--type", "ResourceChanged")
    assert f"commit {head[:12]} by Alice" in shown
    assert f"in force since #{event['position']}, {event['recordedAt'][:19]}Z" in shown


def _masked(text: str) -> str:
    """Without what differs from run to run: commits, positions, times."""
    return re.sub(r"commit [0-9a-f]{12}|since #\d+, [0-9T:-]+Z", "…", text)


def test_nodes_pools_and_lists_in_each_form(fleet: Doors, tmp_path: Path) -> None:
    one = fleet.data("why", EVIL, "--node", "worker-1", code=1)
    assert (one["kind"], one["verdict"], one["nodes"]) == ("Explanation", "not pullable", ["worker-1"])
    fleet.file(fleet.nodes[1], "etc/containers/policy.json").write_text('{"default": [{"type": "reject"}]}')
    assert fleet.run("why", "quay.io/app:1").stdout.startswith("pullable: quay.io/app:1\n  on 2 nodes")
    now = fleet.run("why", "quay.io/app:1", "--pool", "worker", "--live", code=1).stdout
    first, second = now.split("\n\n")
    policy = "/etc/containers/policy.json"
    assert first.splitlines()[1:3] == [
        f"but not pullable as asked now: {policy} rejects it by its default ({policy}:1  default)",
        "  on 1 of 2 nodes: worker-2 (pool worker)",
    ]
    assert second.startswith("pullable: quay.io/app:1\n  on 1 of 2 nodes: worker-1")

    listed = tmp_path / "images.txt"
    listed.write_text(f"quay.io/app:1\n{EVIL}\n")
    wide = fleet.run("why", "--image-list", str(listed), "--all-nodes", "--push", "-o", "wide", code=1).stdout
    assert [re.split("   +", line)[:5] for line in wide.splitlines()] == [
        ["IMAGE", "VERDICT", "NOW", "PUSH", "NODES"],
        ["quay.io/app:1", "pullable", "pullable", "pushable", "2"],
        [EVIL, "not pullable", "not pullable", "not pushable", "2"],
    ]
    items = yaml.safe_load(fleet.run("why", EVIL, "--import", "-o", "yaml", code=1).stdout)["items"]
    assert [(item["nodes"], item["import"]["verdict"]) for item in items] == [(["worker-1", "worker-2"], "forbidden")]


def test_files_and_manifests_are_asked_without_the_fleet(fleet: Doors) -> None:
    fleet.settings.write_text("wrong = true\n")
    assert fleet.run("why", EVIL, "--files", str(fleet.nodes[0].root), code=1).stdout.startswith("not pullable")
    told = fleet.data("why", EVIL, "--from", str(fleet.repository.directory), "--import", "--push", code=1)
    assert [told[name]["verdict"] for name in ("import", "push")] == ["forbidden", "not pushable"]
    assert "nodes" not in told
