"""Runs git: never asks, never outlives its time, never shows a password in its arguments."""

from __future__ import annotations

import os
import re
import shlex
import signal
import subprocess
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import cast
from urllib.parse import unquote, urlsplit

import git

from reconciler.errors import SourceError, UsageError
from reconciler.source.failures import mirror_error, source_error, timed_out

_SCHEMES = ("file", "ssh", "https", "http")
_SCP_LIKE = re.compile(r"^(?:[A-Za-z0-9._-]+@)?(?:[A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\]):(?!//)")
_GRACE = 2.0
"""Seconds that git gets to remove its lock files after SIGTERM."""

_CREDENTIAL_HELPER = (
    '!f() { test "$1" = get && printf "username=%s\\npassword=%s\\n" '
    '"$RECONCILER_GIT_USERNAME" "$RECONCILER_GIT_PASSWORD"; }; f'
)


@dataclass(frozen=True, slots=True)
class Remote:
    """A repository's address. `url` is what git gets, without user and password of http(s); those are in `secrets`."""

    url: str
    secrets: Mapping[str, str]

    @classmethod
    def parse(cls, url: str) -> Remote:
        """A file://, ssh://, https://, http:// or scp-like address, or a path. Raises UsageError."""
        if url.startswith("-") or not url.strip():
            raise UsageError(f"not a repository address: {url!r}", where="url", remedy="give a URL or a path")
        if "://" not in url:
            if _SCP_LIKE.match(url):
                return cls(url, {})
            return cls(str(Path(url).expanduser().absolute()), {})
        parts = urlsplit(url)
        if parts.scheme not in _SCHEMES:
            raise UsageError(
                f"addresses of kind {parts.scheme}:// are not supported",
                where="url",
                remedy="use https://, ssh://, file://, user@host:path or a path",
            )
        if parts.scheme not in ("https", "http") or "@" not in parts.netloc:
            return cls(url, {})
        login, _, host = parts.netloc.rpartition("@")
        user, _, password = login.partition(":")
        secrets = {"RECONCILER_GIT_USERNAME": unquote(user), "RECONCILER_GIT_PASSWORD": unquote(password)}
        return cls(parts._replace(netloc=host).geturl(), secrets)

    def environment(self, ssh_command: str) -> dict[str, str]:
        """Variables that stop git and ssh from asking, and that answer for the user and password of the URL."""
        settings = [("gc.autoDetach", "false"), ("log.showSignature", "false"), ("i18n.logOutputEncoding", "UTF-8")]
        if self.secrets:
            settings += [("credential.helper", ""), ("credential.helper", _CREDENTIAL_HELPER)]  # ours, not the user's
        counted: dict[str, str] = {}
        first = int(os.environ.get("GIT_CONFIG_COUNT") or 0)  # the user's own stay in force
        for number, (key, value) in enumerate(settings, start=first):
            counted |= {f"GIT_CONFIG_KEY_{number}": key, f"GIT_CONFIG_VALUE_{number}": value}
        return {
            "GIT_TERMINAL_PROMPT": "0",
            "GIT_ASKPASS": "",
            "SSH_ASKPASS_REQUIRE": "never",
            "GCM_INTERACTIVE": "never",
            "GIT_NO_REPLACE_OBJECTS": "1",
            "GIT_SSH_COMMAND": f"{ssh_command} -o BatchMode=yes",
            "GIT_CONFIG_COUNT": str(first + len(settings)),
            **counted,
            **self.secrets,
        }


class Deadline:
    """A point in time (monotonic) that several commands share."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self._end = time.monotonic() + seconds

    def left(self) -> float:
        return max(0.0, self._end - time.monotonic())


@dataclass(frozen=True, slots=True)
class Answer:
    """What a git command returned."""

    status: int
    out: bytes
    err: str


class GitCommand:
    """git in one bare repository. Calls block: run them in a thread."""

    def __init__(self, directory: Path, remote: Remote, over: Mapping[str, str] | None = None) -> None:
        """`over`: variables that win over all others."""
        self.directory = directory
        self.remote = remote
        self._over = over or {}
        self._git = git.Git(directory)
        self._program = self._git.GIT_PYTHON_GIT_EXECUTABLE or "git"
        self._environment: dict[str, str] | None = None

    def try_run(self, deadline: Deadline, *arguments: str, given: bytes = b"", keep: tuple[int, ...] = ()) -> Answer:
        """Run git and return its answer whatever its status. `keep` are descriptors that it inherits.

        Raises SourceError when the deadline passes (git and its children are then stopped) or git is missing.
        """
        started = self._start(arguments, keep)  # GitPython stops git when this object goes
        process = cast("subprocess.Popen[bytes]", started.proc)
        try:
            out, err = process.communicate(given, timeout=deadline.left())
        except subprocess.TimeoutExpired:
            _stop(process)
            raise timed_out(self.remote.url, deadline.seconds, f"git {arguments[0]}") from None
        except BaseException:
            _stop(process)
            raise
        return Answer(process.returncode, out, err.decode(errors="replace"))

    def run(self, deadline: Deadline, *arguments: str, given: bytes = b"", keep: tuple[int, ...] = ()) -> bytes:
        """Run git on the mirror; raises SourceError when it fails."""
        answer = self.try_run(deadline, *arguments, given=given, keep=keep)
        if answer.status != 0:
            raise mirror_error(answer.err, self.directory)
        return answer.out

    def ask_remote(self, deadline: Deadline, *arguments: str, keep: tuple[int, ...] = ()) -> bytes:
        """Run git with the remote; raises SourceError with the cause as far as git tells it."""
        answer = self.try_run(deadline, *arguments, keep=keep)
        if answer.status != 0:
            raise source_error(answer.err, self.remote.url)
        return answer.out

    def _start(self, arguments: tuple[str, ...], keep: tuple[int, ...]) -> git.Git.AutoInterrupt:
        try:
            if self._environment is None:
                own = {"GIT_DIR": str(self.directory), "GIT_OBJECT_DIRECTORY": str(self.directory / "objects")}
                self._environment = {**self.remote.environment(self._ssh_command()), **own, **self._over}
            return self._git.execute(
                [self._program, *arguments],
                istream=subprocess.PIPE,
                as_process=True,
                env=self._environment,
                start_new_session=True,  # no terminal to ask on, and one group to stop
                pass_fds=keep,
            )
        except git.GitCommandNotFound:
            raise SourceError("the git program is not there", remedy="install git, or put it on PATH") from None

    def _ssh_command(self) -> str:
        """The ssh that the user chose for git, in git's own order of preference."""
        if command := os.environ.get("GIT_SSH_COMMAND"):
            return command
        chosen = self._git.execute([self._program, "config", "--get", "core.sshCommand"], with_exceptions=False)
        return str(chosen) or shlex.quote(os.environ.get("GIT_SSH") or "ssh")


def _stop(process: subprocess.Popen[bytes]) -> None:
    """Stop git with everything it started (ssh, git-remote-https)."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(process.pid, number)
            process.communicate(timeout=_GRACE)
        except (ProcessLookupError, subprocess.TimeoutExpired):
            continue
        return
