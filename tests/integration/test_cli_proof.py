"""Checkpoints, verification, redaction, backups and restored logs, through the program."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from reconciler.events.checkpoint import SignerKey
from reconciler.store import backup
from reconciler.store.embedded import SUPERUSER, EmbeddedPostgres
from tests.doors import Doors, doors
from tests.integration.test_store_append_only import libpq


@pytest.fixture
def fleet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Doors]:
    with doors(tmp_path, monkeypatch, count=1) as fleet:
        fleet.run("sync", "--wait")
        yield fleet


def set_up_key(fleet: Doors, **places: str) -> str:
    """A key, and settings that name it; the public key."""
    public = fleet.run("log", "keygen", str(fleet.directory / "log.key"), "--name", "log.example.com").stdout.strip()
    lines = [f'{name} = "{value}"' for name, value in {"key": "log.key", **places}.items()]
    with fleet.settings.open("a") as settings:
        settings.write("\n".join(["[checkpoints]", *lines, ""]))
    return public


def as_superuser(fleet: Doors, *statements: str) -> None:
    url = EmbeddedPostgres(fleet.directory / "data").url_for(SUPERUSER)
    with psycopg.connect(libpq(url)) as connection:
        connection.execute("SET session_replication_role = replica")
        for statement in statements:
            connection.execute(statement.encode())


def test_a_checkpoint_is_signed_published_and_verified_against(fleet: Doors) -> None:
    public = set_up_key(fleet, file="published", repository="checkpoints.git")
    fleet.repository.git("init", "--quiet", "--bare", str(fleet.directory / "checkpoints.git"))
    branch = ("--git-dir", str(fleet.directory / "checkpoints.git"), "log", "--format=%s", "checkpoints")
    first = fleet.data("log", "checkpoint")
    published = fleet.directory / "published"
    fleet.run("log", "verify", "--checkpoint", str(published), "--key", public)
    fleet.block("more.example.com")
    fleet.run("sync", "--wait")
    second = fleet.data("log", "checkpoint")
    assert first["position"] < second["position"]
    told = fleet.data("log", "verify", "--checkpoint", str(published))
    assert (told["checkpoints"], told["problems"], told["trusted"]) == ([second["position"]], [], [])
    assert len(fleet.repository.git(*branch).splitlines()) == 2
    assert fleet.repository.git(*branch[:2], "show", "checkpoints:checkpoint") == published.read_text().strip()
    [event] = fleet.items("get", "events", "--type", "CheckpointSigned")[-1:]
    assert event["data"]["position"] == second["position"]

    part = fleet.data("log", "verify", "--from", f"#{second['position']}", "--checkpoint", str(published))
    assert (part["events"], part["problems"]) == (1, [])
    assert part["trusted"] == [f"the hash at #{second['position']} as signed in {published}"]
    other = str(SignerKey("other", bytes(32)).public)
    said = fleet.run("log", "verify", "--checkpoint", str(published), "--key", other, code=1).stdout
    assert "no signature of other+" in said
    fleet.run("log", "verify", "--from", "#99999", code=2)
    fleet.run("log", "verify", "--from", "x", code=2)
    fleet.run("log", "verify", "--checkpoint", "nowhere", code=2)


def test_a_checkpoint_goes_to_standard_output_and_the_key_stays_secret(fleet: Doors) -> None:
    set_up_key(fleet)
    key = fleet.directory / "log.key"
    assert key.stat().st_mode & 0o777 == 0o600
    done = fleet.run("log", "checkpoint")
    assert done.stdout.startswith("reconciler.dev/log/")
    note = fleet.directory / "note"
    note.write_text(done.stdout)
    fleet.run("log", "verify", "--checkpoint", str(note))
    secret = key.read_text().strip().split("+", 4)[4]
    assert secret not in done.output + fleet.run("config", "show").output
    fleet.run("log", "keygen", str(key), code=2)
    key.chmod(0o640)
    refused = fleet.run("log", "checkpoint", code=2).output
    assert "others may use the key (mode 0640)" in refused
    assert secret not in refused
    key.chmod(0o600)
    key.write_text("nonsense")
    fleet.run("log", "checkpoint", code=2)


def test_a_published_checkpoint_stops_a_log_that_was_cut(fleet: Doors) -> None:
    set_up_key(fleet, file="published")
    head = fleet.data("log", "checkpoint")["position"]
    as_superuser(
        fleet,
        "DELETE FROM events WHERE position > (SELECT max(position) - 3 FROM events)",
        "DELETE FROM streams",
        "INSERT INTO streams SELECT stream, max(fleet), max(version), max(position) FROM events GROUP BY stream",
    )
    fleet.run("log", "verify")
    refused = fleet.run("log", "checkpoint", code=3).output
    assert f"knows this log up to #{head}, which it does not reach" in refused
    assert "accept --restore" in refused
    said = fleet.run("log", "verify", "--checkpoint", str(fleet.directory / "published"), code=1).stdout
    assert f"checkpoint #{head} ({fleet.directory / 'published'}): the log ends at #" in said
    for verb in (("status",), ("sync",), ("plan",)):
        assert "accept --restore" in fleet.run(*verb, code=0 if verb == ("plan",) else 3).stdout


def test_a_blob_is_redacted(fleet: Doors) -> None:
    fleet.block("secret.example.com")
    fleet.run("sync", "--wait")
    [blob] = {event["data"]["text"] for event in fleet.items("get", "events", "--type", "ResourceChanged")}
    fleet.run("redact", blob, "--reason", "a password", "--yes", code=2)
    fleet.block("other.example.com")
    fleet.run("sync", "--wait")
    assert "there is no blob" in fleet.run("redact", "0" * 64, "--reason", "x", code=2).stderr
    assert "not confirmed: take the " in fleet.run("redact", blob, "--reason", "a password", code=2).stderr
    assert "dry run" in fleet.run("redact", blob, "--reason", "a password", "--dry-run").stdout
    fleet.run("redact", blob, "--reason", "a password", "--yes")
    fleet.run("log", "verify")
    [event] = fleet.items("get", "events", "--type", "BlobRedacted")
    [accepted] = fleet.items("get", "events", "--type", "CommitAccepted")[1:2]
    refused = fleet.run("rollback", "--to", f"#{accepted['position']}", "--reason", "x", "--yes", code=1).output
    assert f"was redacted at #{event['position']}: a password" in refused
    fleet.run("sync")


@pytest.mark.parametrize("form", ["custom", "plain"])
def test_a_backup_is_restored_and_waits_for_a_person(fleet: Doors, form: str) -> None:
    file = fleet.directory / "backup"
    fleet.run("db", "backup", str(file), "--format", form)
    assert file.stat().st_mode & 0o777 == 0o600
    fleet.run("db", "backup", str(file), code=2)
    before = fleet.data("log", "verify")
    fleet.block("later.example.com")
    fleet.run("sync", "--wait")
    later = fleet.file(fleet.nodes[0], "etc/containers/policy.json").read_text()
    fleet.run("db", "restore", str(file), code=2)
    said = fleet.run("db", "restore", str(file), "--yes").output
    assert f"restored and verified: {before['events']} events, head {before['head']}" in said
    [event] = fleet.items("get", "events", "--type", "RestoreDetected")
    assert event["data"]["evidence"][0]["source"] == "backup"
    fleet.block("newest.example.com")
    fleet.run("sync", code=3)
    back = fleet.run("rollback", "--to", "previous", "--reason", "not yet", "--yes", code=3)
    assert "no node is written: `reconciler accept --restore" in back.stderr
    fleet.run("rollback", "--undo", fleet.items("hold", "list")[0]["name"], "--reason", "later", "--yes", code=3)
    assert fleet.file(fleet.nodes[0], "etc/containers/policy.json").read_text() == later
    fleet.run("accept", "--restore", "--reason", "the disk was lost", "--yes")
    assert "newest.example.com" in fleet.file(fleet.nodes[0]).read_text()
    fleet.run("status")
    fleet.run("db", "check")
    fleet.run("log", "verify")


def test_what_is_no_backup_leaves_the_database_as_it_was(fleet: Doors) -> None:
    before = fleet.data("log", "verify")
    nonsense = fleet.directory / "nonsense"
    for content in (b"", b"nonsense", b"-- PostgreSQL database dump\nSELECT nonsense;\n", b"PGDMP and no more"):
        nonsense.write_bytes(content)
        assert fleet.run("db", "restore", str(nonsense), "--yes", code=2 if len(content) < 10 else 1).output
    assert "cannot be read" in fleet.run("db", "restore", "nowhere", code=2).stderr
    assert "is no backup" in fleet.run("db", "restore", str(fleet.settings), code=2).stderr
    assert fleet.data("log", "verify") == before


def test_a_missing_program_is_named(fleet: Doors, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = fleet.directory / "bin"
    folder.mkdir()
    (folder / "git").symlink_to(str(shutil.which("git")))
    monkeypatch.setenv("PATH", str(folder))
    monkeypatch.setattr(backup, "program_folders", lambda: iter([folder]))
    assert "program pg_dump was not found" in fleet.run("db", "backup", str(fleet.directory / "b"), code=1).output
    assert not (fleet.directory / "b").exists()
    assert json.loads(fleet.run("log", "verify", "-o", "json").stdout)["problems"] == []
