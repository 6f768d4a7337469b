"""People with real SSH and GPG keys, who sign commits, and those who sign them badly."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.integration.git_repository import ENVIRONMENT

SSH = ("alice", "bob", "forge", "old", "mallory")
LONG_AGO = "20200101T000000"
"""When the GPG keys of `expired` and `past` began, on gpg's clock."""


@dataclass
class Signers:
    """SSH keys are files NAME and NAME.pub in `directory`; GPG keys are in `home` under NAME@example.com."""

    directory: Path
    home: Path
    fingerprints: dict[str, str] = field(default_factory=dict)

    def make(self) -> None:
        for name in SSH:
            command = ("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", name, "-f", str(self.directory / name))
            subprocess.run(command, check=True)
        for name in ("grace", "revoked", "unlisted"):
            self._make_gpg(name, "never")
        self._make_gpg("past", "never", since=LONG_AGO)
        self._make_gpg("expired", "30d", since=LONG_AGO)

    def public(self, name: str) -> str:
        """Type and base64 of an SSH key, as a line of allowed_signers ends."""
        return " ".join((self.directory / f"{name}.pub").read_text().split()[:2])

    def exported(self, names: Sequence[str]) -> bytes:
        """What a settings file holds of these GPG keys; `revoked` with its certificate."""
        found = [self.gpg("--armor", "--export", f"={_user_id(name)}") for name in names]
        if "revoked" in names:
            made = self.home / "openpgp-revocs.d" / f"{self.fingerprints['revoked']}.rev"
            found.append(made.read_bytes().replace(b"\n:-----", b"\n-----"))
        return b"".join(found)

    def gpg(self, *arguments: str) -> bytes:
        command = ("gpg", "--batch", "--quiet", "--pinentry-mode", "loopback", "--passphrase", "", *arguments)
        done = subprocess.run(command, env=self._environment, check=True, capture_output=True)
        return done.stdout

    def commit(
        self, repository: Path, by: str, key: str = "", at: str = "", *, email: str = "", arguments: Sequence[str] = ()
    ) -> str:
        """A commit by NAME@example.com (or `email`), signed with `key` (`ssh:NAME`, `gpg:NAME`, or not)."""
        kind, _, name = key.partition(":")
        who = email or f"{by}@example.com"
        identity = {"NAME": by, "EMAIL": who, **({"DATE": at} if at else {})}
        settings = ["-c", f"gpg.format={'ssh' if kind == 'ssh' else 'openpgp'}"]
        if kind:
            chosen = str(self.directory / name) if kind == "ssh" else f"{name}@example.com"
            settings += ["-c", f"user.signingkey={chosen}"]
        if name in ("expired", "past"):
            settings += ["-c", f"gpg.program={self._in_the_past('1d' if name == 'past' else 'never')}"]
        command = arguments or ("commit", "--quiet", "--allow-empty", "--message", f"By {by}")
        environment = {
            f"GIT_{role}_{part}": text for role in ("AUTHOR", "COMMITTER") for part, text in identity.items()
        }
        done = subprocess.run(
            ["git", *settings, *command, "-S" if kind else "--no-gpg-sign"],
            cwd=repository,
            env={**self._environment, **environment},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return _git(repository, "rev-parse", "HEAD").decode().strip()

    def merge(self, repository: Path, by: str, key: str, topic: Mapping[str, str]) -> str:
        """A merge by `by`, of a branch with one commit as `topic` says."""
        _git(repository, "checkout", "--quiet", "-b", "topic")
        self.commit(repository, **topic)
        _git(repository, "checkout", "--quiet", "main")
        arguments = ("merge", "--quiet", "--no-ff", "--message", "Merge pull request #7 from topic", "topic")
        merged = self.commit(repository, by, key, arguments=arguments)
        _git(repository, "branch", "--delete", "--quiet", "topic")
        return merged

    @property
    def _environment(self) -> dict[str, str]:
        fixed = {name: value for name, value in ENVIRONMENT.items() if name.startswith("GIT_CONFIG")}
        return {**os.environ, **fixed, "GNUPGHOME": str(self.home)}

    def _make_gpg(self, name: str, expires: str, since: str = "") -> None:
        clock = ("--faked-system-time", since) if since else ()
        self.gpg(*clock, "--quick-gen-key", _user_id(name), "ed25519", "sign", expires)
        listing = self.gpg("--with-colons", "--list-keys", f"={_user_id(name)}").decode()
        self.fingerprints[name] = next(line.split(":")[9] for line in listing.splitlines() if line.startswith("fpr:"))

    def _in_the_past(self, expires: str) -> Path:
        """gpg on a day of 2020; its signatures are good for so long."""
        program = self.directory / f"gpg-in-2020-{expires}"
        options = f"--faked-system-time 20200102T000000 --default-sig-expire {expires}"
        program.write_text(f'#!/bin/sh\nexec gpg {options} "$@"\n')
        program.chmod(0o755)
        return program

    def pretend(self, repository: Path, by: str, line: str) -> None:
        """Replace the head by the same commit with this committer line, signed with the SSH key of `by`."""
        raw = _git(repository, "cat-file", "commit", "HEAD")
        header, _, message = raw.partition(b"\n\n")
        kept = [part for part in header.split(b"\n") if part.startswith((b"tree", b"parent", b"author"))]
        kept.append(f"committer {line}".encode())
        payload = b"\n".join(kept) + b"\n\n" + message
        command = ("ssh-keygen", "-q", "-Y", "sign", "-n", "git", "-f", str(self.directory / by))
        made = subprocess.run(command, input=payload, capture_output=True, check=True).stdout.strip()
        kept.append(b"gpgsig " + made.replace(b"\n", b"\n "))
        _replace_head(repository, b"\n".join(kept) + b"\n\n" + message)


def _user_id(name: str) -> str:
    return f"{name.title()} <{name}@example.com>"


def forge(repository: Path, how: str) -> None:
    """Replace the branch's head by one with the same signature over other bytes, two of it, or one of another kind."""
    raw = _git(repository, "cat-file", "commit", "HEAD")
    header, _, message = raw.partition(b"\n\n")
    start = header.index(b"gpgsig ")
    if how == "tampered":
        message = b"Tampered\n"
    elif how == "twice":
        header += b"\n" + header[start:]
    else:
        header = header[:start] + b"gpgsig -----BEGIN SIGNED MESSAGE-----\n -----END SIGNED MESSAGE-----"
    _replace_head(repository, header + b"\n\n" + message)


def _replace_head(repository: Path, raw: bytes) -> None:
    command = ("git", "hash-object", "-t", "commit", "-w", "--literally", "--stdin")
    made = subprocess.run(command, cwd=repository, input=raw, capture_output=True, check=True)
    _git(repository, "update-ref", "HEAD", made.stdout.decode().strip())


def _git(repository: Path, *arguments: str) -> bytes:
    return subprocess.run(("git", *arguments), cwd=repository, capture_output=True, check=True).stdout


@contextmanager
def signers(directory: Path) -> Iterator[Signers]:
    """Everybody's keys. gpg's agent, which making keys starts, ends with the block."""
    for program in ("gpg", "ssh-keygen"):
        if shutil.which(program) is None:
            pytest.skip(f"{program} is not installed")
    home = Path(tempfile.mkdtemp(prefix="gpg-"))  # short: a socket's name holds about a hundred characters
    found = Signers(directory, home)
    try:
        found.make()
        yield found
    finally:
        subprocess.run(("gpgconf", "--homedir", str(home), "--kill", "all"), check=False)
        shutil.rmtree(home, ignore_errors=True)
