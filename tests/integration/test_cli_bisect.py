"""`bisect` through the real program: local nodes, embedded PostgreSQL, and the page that shows it."""

from __future__ import annotations

import re
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.doors import Doors, doors
from tests.world import image

PAGE = Path(__file__).parents[2] / "docs" / "how-to" / "find-what-broke-it.md"
EVIL = "evil.example.com/app:1"
BLOCKED = ("a.corp", "b.corp", "evil.example.com", "c.corp", "d.corp")


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Doors]:
    """Five pull requests, each of which blocks one more registry; the first three came in one pass. Tests leave it as
    it is."""
    with pytest.MonkeyPatch.context() as patch, doors(tmp_path_factory.mktemp("fleet"), patch) as ready:
        ready.run("sync", "--wait")
        for number, name in enumerate(BLOCKED, start=1):
            ready.repository.git("switch", "--quiet", "--create", f"topic-{number}")
            ready.repository.commit({"image.yaml": image(blockedRegistries=BLOCKED[:number])}, f"Block {name}")
            ready.repository.git("switch", "--quiet", "main")
            message = f"Merge pull request #{number} from alice/block-{name}"
            ready.repository.git("merge", "--quiet", "--no-ff", "--message", message, f"topic-{number}")
            if number > 2:
                ready.run("sync", "--wait")
        yield ready


def begin_of(fleet: Doors) -> str:
    """The position of the first commit's acceptance."""
    return f"#{fleet.items('history', '--type', 'CommitAccepted')[-1]['position']}"


def commit_of(fleet: Doors, number: int) -> str:
    """The commit that merged a pull request."""
    return fleet.repository.git("log", "--format=%H", "--grep", f"pull request #{number} ", "main")


def _masked(text: str) -> str:
    """Without what differs from run to run: commits, positions, times."""
    return re.sub(r"commit [0-9a-f]{12}|#\d{2,}|\d{4}-\d\d-\d\dT[0-9:]+Z|\b[0-9a-f]{12}\b", "*", text)


def test_the_examples_of_the_page(fleet: Doors) -> None:
    examples = re.findall(r"^```console\n\$ reconciler (.*)\n((?s:.*?))^```", PAGE.read_text(), re.MULTILINE)
    assert len(examples) == 2
    given = {"'#7'": begin_of(fleet), "./smoke-test.sh": f"! grep -q evil {fleet.file(fleet.nodes[0])}"}
    for command, printed in examples:
        words = [given.get(word, word) for word in command.split()]
        rest = _masked(fleet.run(*words).stdout)
        for part in _masked(printed).split("…\n"):  # what the page leaves out
            before, found, rest = rest.partition(part)
            assert found, f"{part}\nis not in\n{before}"
        assert not rest


def test_an_image(fleet: Doors) -> None:
    found = fleet.data("bisect", "--good", begin_of(fleet), "--image", EVIL)
    assert (found["kind"], found["first"]["commit"], found["first"]["pullRequest"]) == (
        "Bisection",
        commit_of(fleet, 3),
        "3",
    )
    (back,) = found["undo"]
    words = [word.strip("'") for word in back.removeprefix("reconciler ").split()]
    assert "Image/cluster → commit" in fleet.run(*words, "--dry-run").stdout


def test_a_probe(fleet: Doors) -> None:
    node = fleet.file(fleet.nodes[0])
    before = node.read_bytes()
    told = fleet.directory / "told"
    probe = (
        f'echo "$RECONCILER_NODE $RECONCILER_POOL $RECONCILER_COMMIT" >> {told}; echo heard; ! grep -q b.corp {node}'
    )
    asked = ("bisect", "--good", begin_of(fleet), "--probe", probe, "--node", "worker-1")
    assert "not confirmed" in fleet.run(*asked, code=2).stderr
    dry = fleet.run(*asked, "--dry-run")
    assert "at most 3 of these" in dry.stderr
    listed = dry.stdout.splitlines()
    assert [line.split()[-1] for line in listed] == ["SUBJECT", *(f"alice/block-{name}" for name in BLOCKED)]

    done = fleet.run(*asked, "--yes", "-o", "json")
    assert "heard" in done.stderr
    assert f'"commit": "{commit_of(fleet, 2)}"' in done.stdout.partition('"first"')[2].partition('"differences"')[0]
    lines = told.read_text().split("\n")[:-1]
    assert 1 <= len(lines) <= 3
    assert all(re.fullmatch(r"worker-1 worker [0-9a-f]{40}", line) for line in lines)
    assert node.read_bytes() == before
    assert fleet.items("hold", "list") == []
    fleet.run("status")


def test_interrupted_and_killed(fleet: Doors) -> None:
    """Ctrl-C and SIGTERM give the node back; after a kill the hold says what it is, and lifting it does."""
    node, begin = fleet.file(fleet.nodes[0]), begin_of(fleet)
    before = node.read_bytes()
    started = fleet.directory / "started"
    asked = ("bisect", "--good", begin, "--probe", f"touch {started}; sleep 300", "--node", "worker-1", "--yes")
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGKILL):
        process = fleet.start(*asked)
        try:
            while not started.exists():
                assert process.poll() is None, process.communicate()
                time.sleep(0.05)
            assert node.read_bytes() != before
            process.send_signal(number)
            _, said = process.communicate(timeout=60)
        finally:
            process.kill()
        started.unlink()
        if number != signal.SIGKILL:
            assert process.returncode == 130, said
            assert node.read_bytes() == before
            assert fleet.items("hold", "list") == []
    (hold,) = fleet.items("hold", "list")
    assert (hold["scope"], hold["reason"].startswith("bisect from #")) == ("worker-1", True)
    assert hold["name"] in fleet.run(*asked, code=2).stderr
    fleet.run("hold", "lift", hold["name"], "--reason", "left over", "--yes")
    assert node.read_bytes() == before


def test_what_cannot_be_asked(fleet: Doors) -> None:
    good = ("--good", begin_of(fleet))
    for given, said in (
        ((), "give one of --image and --probe"),
        (("--image", EVIL, "--probe", "true", "--node", "worker-1"), "give one of --image and --probe"),
        (("--image", EVIL, "--now"), "--now and --dry-run are about a probe"),
        (("--image", EVIL, "--node", "worker-1", "--pool", "worker"), "exclude each other"),
        (("--probe", "true"), "a probe is of one node"),
        (("--probe", "true", "--node", "worker-1", "--pool", "worker"), "a probe is of one node"),
        (("--probe", "exit 200", "--node", "worker-1", "--yes"), "ended with status 200"),
        (("--image", "quay.io/app:1"), "pullable at"),
    ):
        assert said in fleet.run("bisect", *good, *given, code=2).stderr
    assert fleet.items("hold", "list") == []
