"""Bad input, through the program: its message, its exit code, no traceback, and nothing changed on any node."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from textwrap import dedent
from typing import Any

import psycopg
import pytest
import yaml

from reconciler.transport.sandbox import LocalNode, local_node
from tests.authorities import certificate, private_key
from tests.program import Done, Program
from tests.world import IMAGE, POOL, Repository, mirrors, node_document

CASES = yaml.safe_load((Path(__file__).parents[1] / "cases/bad_input/commits.yaml").read_text())


class Fleet:
    """Two local nodes that have a good commit's files."""

    def __init__(self, directory: Path, database_url: str) -> None:
        self.nodes = [local_node(directory / "nodes", f"node-{number}") for number in (1, 2)]
        self.repository = Repository(directory / "config")
        self.database_url = database_url
        self.program = Program(directory / "home", database_url, f"file://{self.repository.directory}")
        self.files = {
            "pool.yaml": POOL,
            "image.yaml": IMAGE,
            "mirrors.yaml": mirrors("shared", "quay.io/a", "mirror.corp/a"),
            "nodes.yaml": "---".join(dedent(_document(node)) for node in self.nodes),
        }

    def begin(self) -> None:
        self.repository.commit(self.files, "Begin")
        assert self.call("sync", "--wait").code == 0

    def call(self, *arguments: str) -> Done:
        return self.program.call(*arguments)

    def seen(self) -> dict[str, tuple[int, ...]]:
        """Complete lstat of everything on both nodes."""
        found: dict[str, tuple[int, ...]] = {}
        for place in (place for node in self.nodes for place in [node.root, *node.root.rglob("*")]):
            s = place.lstat()
            found[str(place)] = (s.st_ino, s.st_mode, s.st_nlink, s.st_size, s.st_mtime_ns, s.st_ctime_ns)
        return found

    def recorded(self) -> str:
        """Everything that the database holds of events and blobs, as text."""
        with psycopg.connect(self.program.database_address) as connection:
            events = connection.execute("SELECT data, actor FROM events ORDER BY position").fetchall()
            blobs = connection.execute("SELECT content FROM blobs").fetchall()
        return "\n".join([*(str(row) for row in events), *(bytes(row[0]).decode(errors="replace") for row in blobs)])

    def types(self, after: int) -> list[str]:
        with psycopg.connect(self.program.database_address) as connection:
            query = "SELECT type FROM events WHERE position > %s ORDER BY position"
            return [row[0] for row in connection.execute(query, [after]).fetchall()]

    def head(self) -> int:
        return len(self.types(0))


def _document(node: LocalNode) -> str:
    return node_document(node.name, f"{{transport: local, root: {node.root}}}")


@pytest.fixture(scope="module")
def steady(tmp_path_factory: pytest.TempPathFactory, shared_database_url: str) -> Fleet:
    """For commits that are refused: each leaves the fleet as it was."""
    fleet = Fleet(tmp_path_factory.mktemp("fleet"), shared_database_url)
    fleet.begin()
    return fleet


@pytest.fixture
def fleet(tmp_path: Path, database_url: str) -> Fleet:
    fleet = Fleet(tmp_path, database_url)
    fleet.begin()
    return fleet


def _filled(text: str) -> str:
    """A case's text with the certificates and keys it names, as a quoted YAML string holds them."""
    for name, content in (("ca", certificate()), ("key", private_key())):
        text = text.replace(f"@{name}@", content.replace("\n", "\\n"))
    return text


def _commit(fleet: Fleet, case: Mapping[str, Any]) -> str:
    """The good files with the case's changes, and nothing else."""
    top = fleet.repository.directory
    for place in top.glob("*.yaml"):
        place.unlink()
    for name, to in case.get("links", {}).items():
        (top / name).symlink_to(to)
    wanted = {**fleet.files, **{name: _filled(text) for name, text in case.get("files", {}).items()}}
    return fleet.repository.commit(wanted, case["name"])


@pytest.mark.parametrize("case", [pytest.param(case, id=case["name"]) for case in CASES])
def test_a_refused_commit(steady: Fleet, case: Mapping[str, Any]) -> None:
    before, head = steady.seen(), steady.head()
    commit = _commit(steady, case)

    done = steady.call("sync", "--wait")

    assert done.code == 4
    assert f"commit {commit[:12]}; the last good state stays" in done.out
    assert [part for part in case["says"] if part not in done.out] == []
    assert steady.seen() == before
    assert steady.types(head) == ["CommitObserved", "CommitRejected"]
    assert steady.call("status").code == 4
    judged = steady.call("validate", str(steady.repository.directory))
    assert judged.code == 4
    assert [part for part in case["says"] if part not in judged.said] == []
    key = private_key().splitlines()[2]
    for text in (done.said, judged.said, steady.recorded(), steady.call("history", "-o", "json").said):
        assert key not in text


def test_a_pool_that_selects_nothing_is_a_warning(fleet: Fleet) -> None:
    before = fleet.seen()
    extra = POOL.replace("worker}", "infra}").replace("node-role.kubernetes.io/worker", "infra")
    fleet.repository.commit({"extra.yaml": extra}, "A pool too many")
    done = fleet.call("sync", "--wait")
    assert done.code == 0
    assert [pool["warnings"] for pool in fleet.call("get", "pools", "-o", "json").data["items"]] == [1, 1]
    judged = fleet.call("validate", str(fleet.repository.directory))
    assert judged.code == 0
    assert "warning: extra.yaml:2: NodePool/infra: pool infra selects no node [pool-selects-nothing]" in judged.out
    assert fleet.seen() == before


def test_a_missing_path(fleet: Fleet) -> None:
    """Every commit since is refused, and the last good state stays."""
    before, head = fleet.seen(), fleet.head()
    fleet.repository.commit(dict.fromkeys(fleet.files), "Move everything")
    fleet.repository.commit({f"fleet/{name}": text for name, text in fleet.files.items()}, "Here")
    done = fleet.program.call("sync", "--wait", RECONCILER_FLEETS__DEFAULT__PATH="flee")
    assert done.code == 4
    assert "there is no directory 'flee' in commit" in done.out
    assert "put it back, or set `path` of the fleet" in done.out
    assert fleet.seen() == before
    assert set(fleet.types(head)) == {"FleetConfigured", "CommitObserved", "CommitRejected"}


def test_a_bad_first_commit(tmp_path: Path, database_url: str) -> None:
    fleet = Fleet(tmp_path, database_url)
    before = fleet.seen()
    fleet.repository.commit({**fleet.files, "image.yaml": "kind: [Image\n"}, "Begin badly")
    done = fleet.call("sync", "--wait")
    assert done.code == 4
    assert "image.yaml:2: not valid YAML" in done.out
    assert fleet.seen() == before


def test_removing_the_image_waits_for_approval(fleet: Fleet) -> None:
    before, head = fleet.seen(), fleet.head()
    commit = fleet.repository.commit({"image.yaml": None}, "Tidy up")

    done = fleet.call("sync", "--wait")

    assert done.code == 3
    waiting = f"commit {commit[:12]} removes the Image of pool worker: `reconciler approve {commit[:12]} --reason TEXT`"
    assert waiting in done.out
    assert fleet.seen() == before
    assert fleet.types(head) == ["CommitObserved", "MassRemovalDetected"]
    assert fleet.call("approve", "abcdef", "--reason", "x", "--yes").code == 2
    assert fleet.seen() == before

    approved = fleet.call("approve", commit[:12], "--reason", "meant", "--yes")
    assert approved.code == 0
    text = (fleet.nodes[0].root / "etc/containers/registries.conf").read_text()
    assert "untrusted.example.com" not in text
    assert "quay.io/a" in text
    assert fleet.call("approve", "--reason", "again", "--yes").code == 2


def test_a_branch_that_is_put_back_needs_nobody_and_one_rewritten_again_shows_its_new_head(fleet: Fleet) -> None:
    old = fleet.repository.commit({"image.yaml": IMAGE.replace("untrusted", "two")}, "Two")
    assert fleet.call("sync", "--wait").code == 0
    head = fleet.head()
    for name in ("three", "four"):
        fleet.repository.git("reset", "--hard", "--quiet", "HEAD~1")
        commit = fleet.repository.commit({"image.yaml": IMAGE.replace("untrusted", name)}, name)
        done = fleet.call("sync", "--wait")
        assert (done.code, f"rewritten to {commit[:12]}" in done.out) == (3, True)
    assert fleet.types(head) == ["HistoryRewritten", "HistoryRewritten"]

    fleet.repository.git("reset", "--hard", "--quiet", old)
    assert fleet.call("sync", "--wait").code == 0
    assert fleet.types(head)[2:] == ["HistoryRestored"]
    assert fleet.call("accept", "--reason", "late", "--yes").code == 2


def test_a_rewritten_branch_waits_to_be_accepted(fleet: Fleet) -> None:
    fleet.repository.commit({"image.yaml": IMAGE.replace("untrusted", "two")}, "Two")
    assert fleet.call("sync", "--wait").code == 0
    before, head = fleet.seen(), fleet.head()
    fleet.repository.git("reset", "--hard", "--quiet", "HEAD~1")
    commit = fleet.repository.commit({"image.yaml": IMAGE.replace("untrusted", "three")}, "Three")

    done = fleet.call("sync", "--wait")

    assert done.code == 3
    assert f"the branch was rewritten to {commit[:12]}: `reconciler accept --reason TEXT`" in done.out
    assert fleet.seen() == before
    assert fleet.types(head) == ["HistoryRewritten"]
    assert fleet.call("sync", "--wait").code == 3
    assert fleet.types(head) == ["HistoryRewritten"]

    assert fleet.call("accept", "--reason", "we meant it", "--yes").code == 0
    for node in fleet.nodes:
        assert "three.example.com" in (node.root / "etc/containers/registries.conf").read_text()
    assert fleet.call("accept", "--reason", "again", "--yes").code == 2
    assert fleet.call("log", "verify").code == 0


def test_the_database_is_down(fleet: Fleet) -> None:
    before = fleet.seen()
    down = {"DATABASE_URL": "postgresql://reconciler:secret@127.0.0.1:9/reconciler"}
    for verb in ("sync", "status", "diff"):
        done = fleet.program.call(verb, **down)
        assert done.code == (2 if verb == "diff" else 1)
        assert done.err.startswith("error: database reconciler at 127.0.0.1:9: ")
        assert "secret" not in done.said
    assert fleet.seen() == before
