"""Where the demo plays: its folder, repository and nodes; how its commands are shown, run and checked."""

from __future__ import annotations

import hashlib
import os
import shlex
import shutil
import signal
import stat
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import click

from reconciler.errors import ReconcilerError

if TYPE_CHECKING:
    from reconciler.trial import TrialNode

REGISTRIES_CONF = "/etc/containers/registries.conf"
MANAGED = ("etc/containers", "etc/docker", "var/lib/reconciler")
OWN_WORDS = 'unqualified-search-registries = ["registry.access.redhat.com", "docker.io"]'
"""In the registries.conf that a node has before anybody manages it, and that must still be there at the end."""

RULE = 100
LONGEST = 40
"""Lines of a command's output that are shown."""


@dataclass
class Stage:
    """`folder` is shown as the user would type it; commands run in the present directory, as they are printed."""

    folder: Path
    nodes: Sequence[TrialNode]
    program: str
    title: str = ""
    number: int = 0
    children: set[subprocess.Popen[str]] = field(default_factory=set)

    @property
    def fleet(self) -> str:
        """The config repository, as an argument of a shell command."""
        return shlex.quote(str(self.folder / "fleet"))

    def begin(self, title: str) -> None:
        """The next step's heading."""
        self.number, self.title = self.number + 1, title
        heading = f"── {self.number}. {title} "
        click.secho("\n" + heading.ljust(RULE, "─"), bold=True)

    def say(self, text: str) -> None:
        click.echo(text)

    def reconciler(self, arguments: str, *, ends: int = 0, after: str = "") -> str:
        """Run a verb with the demo's settings file; `after` is the rest of a shell command line."""
        config = shlex.quote(str(self.folder / "reconciler.toml"))
        return self.shell(f"{self.program} --config {config} {arguments}{after}", ends=ends)

    def shell(self, command: str, *, ends: int = 0) -> str:
        """Show a command, run it by sh exactly as shown, show its output, and return it.

        Raises ReconcilerError when its exit code is not `ends`.
        """
        click.echo()
        click.secho(f"$ {command}", fg="cyan")
        process = subprocess.Popen(
            ["sh", "-c", command], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            text=True, errors="replace", env=_environment(),
        )  # fmt: skip
        self.children.add(process)
        try:
            output = _shown(process)
            code = process.wait()
        finally:
            _end(process)
            self.children.discard(process)
        if ends:
            click.secho(f"(exit code {code})", dim=True)
        self.check(code == ends, f"`{command}` ends with exit code {ends}, not {code}")
        return output

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


def _shown(process: subprocess.Popen[str]) -> str:
    """The output, echoed as it comes, the middle of a long one left out."""
    lines = []
    assert process.stdout is not None  # noqa: S101  it was asked for
    for line in process.stdout:
        lines.append(line)
        if len(lines) <= LONGEST:
            click.echo(line, nl=False)
    if len(lines) > LONGEST:
        click.secho(f"… {len(lines) - LONGEST} more lines", dim=True)
    return "".join(lines)


def _end(process: subprocess.Popen[str]) -> None:
    """Let a child that is still there (Ctrl-C) clean up after itself, and wait for it."""
    if process.poll() is None:
        process.send_signal(signal.SIGINT)
    if process.stdout is not None:
        process.stdout.close()
    process.wait()


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
