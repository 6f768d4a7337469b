"""`import` from copied files, through the program: what is listed, written, and to be done next."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from reconciler.cli import main


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the copy of one host, and settings of a known_hosts file that knows nobody."""
    monkeypatch.chdir(tmp_path)
    containers = tmp_path / "backup/web1/etc/containers"
    containers.mkdir(parents=True)
    (containers / "registries.conf").write_text('[[registry]]\nlocation = "a.corp"\nblocked = true\n')
    (tmp_path / "reconciler.toml").write_text('data_dir = "data"\n[ssh]\nknown_hosts = "known_hosts"\n')
    (tmp_path / "known_hosts").touch()
    return tmp_path


def imported(*arguments: str) -> Result:
    settings = ("--config", "reconciler.toml")
    return CliRunner().invoke(main, [*settings, "import", "--from-dir", "backup", "--to", "f 2", *arguments])


def test_without_a_commit_the_commands_that_make_it_a_repository_come_first(here: Path) -> None:
    done = imported()
    assert done.exit_code == 0, done.output
    said = done.stderr.splitlines()
    steps = [line.strip() for line in said[said.index("next: read f 2/README.md, then") + 1 :]]
    assert steps == [
        "git -C 'f 2' init --initial-branch=main",
        "git -C 'f 2' add --all",
        "git -C 'f 2' commit --message 'Adopt the fleet as it is'",
        "reconciler hostkeys scan --nodes 'f 2'/groups/group-1/nodes.yaml -o known_hosts",
        "reconciler init --url 'f 2'",
        "reconciler sync",
        "`sync` contacts no host whose key nobody vouches for: compare what the scan shows",
    ]


def test_with_a_commit_and_known_keys_nothing_else_is_to_be_done(here: Path) -> None:
    (here / "known_hosts").write_text(f"web1 ssh-ed25519 {KEY}\n")
    done = imported("--commit")
    assert (done.exit_code, "hostkeys" in done.stderr, "git -C" in done.stderr) == (0, False, False)
    assert done.stderr.endswith("  reconciler init --url 'f 2'\n  reconciler sync\n")


def test_a_directory_without_registry_files_is_listed(here: Path) -> None:
    (here / "backup/web2/var").mkdir(parents=True)
    (here / "backup/web3/etc/ssh").mkdir(parents=True)
    (here / "backup/README").touch()
    done = imported()
    assert done.exit_code == 3
    unread = [line for line in done.stdout.splitlines() if ": not read: " in line]
    assert unread == [
        f"{name}: not read: no registry files are in backup/{name}: copy each host's files to HOST/etc/…"
        for name in ("web2", "web3")
    ]
    assert "first plan: empty for 1 of 1 host" in done.stdout


KEY = "AAAAC3NzaC1lZDI1NTE5AAAAIJdD7y3aLq454yWBdwLWbieU1ebz9/cu7/QEXn9OIeZJ"
"""A public key that nobody uses."""
