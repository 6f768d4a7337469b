"""`reconciler serve` as a process: health, metrics, new commits, errors that it outlives, and its end."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import urlopen

import pytest

from reconciler.store.embedded import EmbeddedPostgres
from tests.doors import Doors, doors

PATIENCE = 60
"""Seconds after which what is waited for will not come."""


@dataclass
class Serving:
    """A running service and where it answers."""

    process: subprocess.Popen[str]
    address: str

    def get(self, path: str) -> tuple[int, str]:
        try:
            with urlopen(f"http://{self.address}{path}", timeout=10) as answer:
                return answer.status, answer.read().decode()
        except HTTPError as error:
            with error:
                return error.code, error.read().decode()

    def metric(self, name: str) -> float:
        """The value of a series, written as Prometheus does; 0 while it is not there."""
        found = re.search(rf"^{re.escape(name)} (\S+)$", self.get("/metrics")[1], re.MULTILINE)
        return float(found[1]) if found else 0.0

    def stop(self, number: signal.Signals = signal.SIGTERM) -> str:
        """End it; its exit code must be 0. What it wrote to standard error."""
        self.process.send_signal(number)
        _, said = self.process.communicate(timeout=PATIENCE)
        assert self.process.returncode == 0, said
        return said


@contextmanager
def serving(fleet: Doors, *arguments: str) -> Iterator[Serving]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    process = fleet.start("serve", "--set", f"service.listen={address}", *arguments)
    service = Serving(process, address)
    try:
        until(lambda: answers(service), "it does not answer")
        yield service
    finally:
        process.kill()
        process.communicate()


def answers(service: Serving) -> bool:
    assert service.process.poll() is None, service.process.communicate()[1]
    try:
        return service.get("/livez")[0] == 200
    except OSError:
        return False


def until(come: Callable[[], object], otherwise: str) -> None:
    """Wait for it."""
    end = time.monotonic() + PATIENCE
    while not come():
        assert time.monotonic() < end, otherwise
        time.sleep(0.1)


def until_ready(service: Serving) -> None:
    until(lambda: service.get("/readyz")[0] == 200, "it does not get ready")


@pytest.fixture
def fleet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Doors]:
    with doors(tmp_path, monkeypatch) as ready:
        yield ready


def test_it_polls_repairs_measures_and_ends_in_order(fleet: Doors) -> None:
    with serving(fleet, "--set", "log.format=json") as service:
        until_ready(service)
        assert service.get("/livez") == (200, '{"status": "ok"}')
        until(lambda: service.metric('reconciler_updated_machine_count{fleet="default",pool="worker"}') == 2, "nodes")
        assert "untrusted.example.com" in fleet.file(fleet.nodes[0]).read_text()
        assert service.metric('reconciler_step_total{fleet="default",result="applied"}') == 2
        assert service.metric('reconciler_fetch_total{fleet="default",result="moved"}') == 1

        fleet.block("new.example.com")
        until(lambda: "new.example.com" in fleet.file(fleet.nodes[1]).read_text(), "the commit does not arrive")
        fleet.file(fleet.nodes[0]).write_text("# by hand\n")
        until(lambda: "new.example.com" in fleet.file(fleet.nodes[0]).read_text(), "the edit is not repaired")
        status, text = service.get("/elsewhere")
        assert (status, json.loads(text)) == (404, {"error": {"code": 404, "message": "Not Found"}})

        lines = [json.loads(line) for line in service.stop().splitlines()]
    passes = [line for line in lines if line["action"] == "pass"]
    assert {line["message"] for line in passes} <= {"converged", "not converged"}
    assert {"fleet", "cycle", "head", "commits", "steps", "failed", "nodes", "seconds"} <= passes[0].keys()
    assert passes[0]["nodes"] == "2/2"
    assert lines[-1]["message"] == "ended"
    actors = {item["actor"]["kind"] for item in fleet.items("get", "events", "--limit", "1000")}
    assert actors == {"service"}
    assert fleet.run("log", "verify").exit_code == 0


def test_git_that_is_gone_is_no_reason_to_be_unready(fleet: Doors) -> None:
    fleet.run("sync", "--wait")
    fleet.repository.directory.rename(fleet.directory / "gone")
    with serving(fleet) as service:
        until_ready(service)
        until(lambda: service.metric('reconciler_fetch_total{fleet="default",result="failed"}') >= 1, "no fetch")
        fleet.file(fleet.nodes[0]).unlink()
        until(lambda: fleet.file(fleet.nodes[0]).exists(), "the file does not come back")
        assert service.get("/readyz")[0] == 200
        service.stop(signal.SIGINT)


def test_one_fleets_failure_is_not_the_others(fleet: Doors) -> None:
    with fleet.settings.open("a") as file:
        file.write('[fleets.broken]\nurl = "/nowhere"\nbranch = "not a branch"\ninterval = "1s"\n')
    with serving(fleet) as service:
        until(lambda: "untrusted" in read(fleet.file(fleet.nodes[0])), "the good fleet waits for the broken one")
        until(lambda: list(json.loads(service.get("/readyz")[1]).get("reasons", ())) == ["broken"], "reasons")
        assert service.get("/livez")[0] == 200
        assert "cannot be the name of a branch" in service.stop()


def test_sigterm_finishes_the_step_in_hand_and_begins_no_other(fleet: Doors) -> None:
    slow(fleet)
    with serving(fleet, "--set", "service.shutdown_grace=60s") as service:
        until(lambda: fleet.nodes[0].actions() or fleet.nodes[1].actions(), "no step begins")
        assert "ended" in service.stop()
    steps = [item["data"]["node"] for item in fleet.items("history", "--type", "StepStarted")]
    done = [item["data"]["node"] for item in fleet.items("history", "--type", "NodeConverged")]
    assert len(steps) == 1
    assert done == steps


def test_after_the_grace_it_ends_and_the_next_one_goes_on(fleet: Doors) -> None:
    slow(fleet)
    with serving(fleet, "--set", "service.shutdown_grace=0s") as service:
        until(lambda: fleet.nodes[0].actions() or fleet.nodes[1].actions(), "no step begins")
        service.stop()
    assert fleet.items("history", "--type", "NodeConverged") == []
    for node in fleet.nodes:
        node.runtime.set_delay(0)
    fleet.run("sync", "--wait")
    assert [len(node.actions()) for node in fleet.nodes] == [1, 1]
    assert fleet.run("log", "verify").exit_code == 0


def test_the_embedded_database_is_started_again(fleet: Doors) -> None:
    own = EmbeddedPostgres(fleet.directory / "own")
    pid_file = fleet.directory / "own" / "postgres" / "postmaster.pid"
    try:
        with serving(fleet, "--set", f"data_dir={fleet.directory / 'own'}") as service:
            until_ready(service)
            os.kill(int(pid_file.read_text().splitlines()[0]), signal.SIGKILL)
            fleet.block("new.example.com")
            until(lambda: "new.example.com" in read(fleet.file(fleet.nodes[0])), "it does not recover")
            until_ready(service)
            service.stop()
        assert not pid_file.exists()
    finally:
        own.discard()


def test_an_address_in_use_is_said_at_once(fleet: Doors) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        result = fleet.run("serve", "--set", f"service.listen={address}", code=2)
    assert f"service.listen {address}: cannot listen there: " in result.stderr


def slow(fleet: Doors) -> None:
    """Every reload takes a few seconds."""
    for node in fleet.nodes:
        node.runtime.set_delay(3)


def read(file: Path) -> str:
    return file.read_text() if file.exists() else ""


def test_it_signs_checkpoints(fleet: Doors) -> None:
    key, published = fleet.directory / "log.key", fleet.directory / "published"
    public = fleet.run("log", "keygen", str(key), "--name", "log.example.com").stdout.strip()
    settings = ("--set", f"checkpoints.key={key}", "--set", f"checkpoints.file={published}")
    with serving(fleet, *settings) as service:
        until(published.exists, "nothing is signed")
        until_ready(service)
        service.stop()
    found = fleet.data("log", "verify", "--checkpoint", str(published), "--key", public)
    assert (len(found["checkpoints"]), found["problems"]) == (1, [])
    key.chmod(0o644)
    refused = fleet.start("serve", *settings)
    assert "others may use the key" in refused.communicate(timeout=PATIENCE)[1]
    assert refused.returncode == 2
