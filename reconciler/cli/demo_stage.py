"""Where the demo plays: its folder, repository and nodes; how its commands are shown, run and checked."""

from __future__ import annotations

import hashlib
import importlib
import io
import multiprocessing
import multiprocessing.process
import os
import shlex
import shutil
import signal
import stat
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click

from reconciler.cli.failures import INTERRUPTED
from reconciler.errors import ReconcilerError

if TYPE_CHECKING:
    from reconciler.trial import TrialCluster, TrialNode

REGISTRIES_CONF = "/etc/containers/registries.conf"
MANAGED = ("etc/containers", "etc/docker", "var/lib/reconciler")
OWN_WORDS = 'unqualified-search-registries = ["registry.access.redhat.com", "docker.io"]'
"""In the registries.conf that a node has before anybody manages it, and that must still be there at the end."""

LIBRARIES = ("reconciler.wiring", "reconciler.preview", "reconciler.commands", "reconciler.queries")
"""What verbs import when they need it, and what takes most of their time."""

ENDING = (signal.SIGINT, signal.SIGTERM)
PATIENCE = 10.0
"""Seconds that a verb may take to end by itself after Ctrl-C."""
RULE = 100
HEAD, TAIL = 24, 60
"""Lines of a command's output that are shown, at its begin and at its end."""


@dataclass
class Stage:
    """`folder` is shown as the user would type it; commands run in the present directory, as they are printed."""

    folder: Path
    nodes: Sequence[TrialNode]
    cluster: TrialCluster | None
    program: str
    title: str = ""
    number: int = 0

    @property
    def fleet(self) -> str:
        """The config repository, as an argument of a shell command."""
        return shlex.quote(str(self.folder / "fleet"))

    @property
    def cluster_settings(self) -> Path:
        """The drop-in of the settings that names the cluster, as long as there is one."""
        return self.folder / "conf.d/cluster.toml"

    def begin(self, title: str) -> None:
        """The next step's heading."""
        self.number, self.title = self.number + 1, title
        heading = f"── {self.number}. {title} "
        click.secho("\n" + heading.ljust(RULE, "─"), bold=True)

    def say(self, text: str) -> None:
        click.echo(text)

    def reconciler(self, arguments: str, *, ends: int = 0, after: str = "") -> str:
        """Run a verb with the demo's settings file; `after` is the rest of a shell command line."""
        given = f"--config {shlex.quote(str(self.folder / 'reconciler.toml'))} {arguments}"
        command = f"{self.program} {given}{after}"
        _announce(command)
        output, code = _verb(shlex.split(given), show=not after)
        if after:
            self.check(code == 0, f"`{command}` writes a file")
            output, code = _sh(f"cat{after}", output)
        self._ended(command, code, ends)
        return output

    def shell(self, command: str) -> str:
        """Run a command by sh, which must end well."""
        _announce(command)
        output, code = _sh(command)
        self._ended(command, code, 0)
        return output

    def _ended(self, command: str, code: int, ends: int) -> None:
        if ends:
            click.secho(f"(exit code {code})", dim=True)
        self.check(code == ends, f"`{command}` ends with exit code {ends} (it was {code})")

    def check(self, holds: bool, what: str) -> None:
        """The demo asserts what it says. Raises ReconcilerError."""
        if not holds:
            raise ReconcilerError(
                f"this is not so: {what}",
                where=f"demo step {self.number} ({self.title})",
                remedy=f"this is a bug; everything needed to look into it is in {self.folder}",
            )

    # --- what is on the nodes, read from outside ----------------------------------------------------------------

    def file(self, node: TrialNode, path: str = REGISTRIES_CONF) -> str:
        place = node.root / path.lstrip("/")
        return place.read_text() if place.exists() else ""

    def files(self) -> dict[str, str]:
        """Each node's registries.conf."""
        return {node.name: self.file(node) for node in self.nodes}

    def reloads(self) -> int:
        """How often any node's runtime was told to load its files."""
        return sum(len(node.actions()) for node in self.nodes)

    def fingerprint(self) -> Mapping[str, tuple[int, int, str]]:
        """Inode, time of change and hash of every file of every node that the program could have touched."""
        found = {}
        for node in self.nodes:
            for place in sorted(file for folder in MANAGED for file in (node.root / folder).rglob("*")):
                status = place.lstat()
                content = place.read_bytes() if stat.S_ISREG(status.st_mode) else b""
                name = f"{node.name}:{place.relative_to(node.root)}"
                found[name] = (status.st_ino, status.st_mtime_ns, hashlib.sha256(content).hexdigest())
        return found


def _announce(command: str) -> None:
    click.echo()
    click.secho(f"$ {command}", fg="cyan")


def _sh(command: str, given: str = "") -> tuple[str, int]:
    """Output and exit code of a command line."""
    done = subprocess.run(
        ["sh", "-c", command], input=given, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        errors="replace", env=_environment(), check=False,
    )  # fmt: skip
    return shown_lines(io.StringIO(done.stdout)), done.returncode


def _verb(arguments: Sequence[str], *, show: bool) -> tuple[str, int]:
    """Output and exit code of a verb, in a process of its own: a fork, which need not load every library again."""
    for name in LIBRARIES:
        importlib.import_module(name)
    read, write = os.pipe()
    process = multiprocessing.get_context("fork").Process(target=_called, args=(arguments, read, write))
    try:
        signal.pthread_sigmask(signal.SIG_BLOCK, ENDING)  # Python drops what a signal raises in the middle of a fork
        try:
            process.start()
        finally:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, ENDING)
        os.close(write)
        with os.fdopen(read, errors="replace") as stream:
            output = shown_lines(stream) if show else stream.read()
        process.join()
    except BaseException as reason:
        _end(process, patience=PATIENCE if isinstance(reason, KeyboardInterrupt) else 0.0)
        raise
    return output, process.exitcode or 0


def _end(process: multiprocessing.process.BaseProcess, patience: float) -> None:
    """Let a child clean up. A terminal's Ctrl-C has reached it already, and a second one would cut that short."""
    if process.pid is None:
        return
    process.join(patience)
    if process.is_alive():
        os.kill(process.pid, signal.SIGINT)
        process.join()


def _called(arguments: Sequence[str], read: int, write: int) -> None:
    """The child: the program with these arguments, its output into the pipe."""
    from reconciler.cli.main import main  # which imports this module

    try:
        os.close(read)
        for stream in (sys.stdout, sys.stderr):
            os.dup2(write, stream.fileno())
        os.close(write)
        clean = _environment()
        os.environ.clear()
        os.environ.update(clean)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, ENDING)
        main(list(arguments))
    except KeyboardInterrupt:  # before the program could take care of it
        sys.exit(INTERRUPTED)


def shown_lines(stream: Iterable[str]) -> str:
    """The output, echoed as it comes; of a long one, the middle is left out."""
    lines = []
    for line in stream:
        lines.append(line)
        if len(lines) <= HEAD:
            click.echo(line, nl=False)
    if len(lines) > HEAD + TAIL:
        click.secho(f"… {len(lines) - HEAD - TAIL} lines …", dim=True)
    click.echo("".join(lines[max(HEAD, len(lines) - TAIL) :]), nl=False)
    return "".join(lines)


def _environment() -> dict[str, str]:
    """The user's, less what would lead the demo to another database, repository or fleet."""
    foreign = ("RECONCILER_", "GIT_")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(foreign)}
    kept.pop("DATABASE_URL", None)
    return {**kept, "GIT_PAGER": "cat", "LC_ALL": "C.UTF-8"}


def program() -> str:
    """How the user calls this program: its name where it is on PATH, else the way to it."""
    own = Path(sys.argv[0])
    if own.name == "reconciler" and own.is_file():
        found = shutil.which("reconciler")
        return "reconciler" if found and Path(found).samefile(own) else shlex.quote(shown(own))
    return f"{shlex.quote(shown(Path(sys.executable)))} -m reconciler"


def shown(path: Path) -> str:
    """A path as people type it: relative where it is below the present directory."""
    path = path.absolute()
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else str(path)
