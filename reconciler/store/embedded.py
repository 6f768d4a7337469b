"""PostgreSQL with nothing installed: programs from a wheel, a server of our own under the data directory.

Every process that uses it holds a shared lock; the last to leave stops the server. The lock of a process that was
killed is released by the kernel, so nothing has to be cleaned up by hand. All calls block: async callers use a thread.

    DATA_DIR/postgres/        the database cluster (PGDATA), with server.log
    DATA_DIR/postgres.lock    held exclusively while somebody starts or stops the server
    DATA_DIR/postgres.users   held shared by every user
    DATA_DIR/run/             the socket (mode 0700), or /tmp/reconciler-… where that path is too long
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import signal
import subprocess
import time
from pathlib import Path
from types import TracebackType
from typing import IO

import psycopg
from psycopg import sql
from sqlalchemy import URL

from reconciler.errors import StoreError
from reconciler.store.binaries import Binaries, Launcher, environment, find_binaries, launcher

ROLE = "reconciler"
"""Role and database of the service: it owns its tables and may create roles, but is no superuser."""
SUPERUSER = "postgres"
START_SECONDS = 60

_SOCKET_LIMIT = 107 - len("/.s.PGSQL.5432")
"""Bytes that the operating system leaves for the socket's directory."""
_STILL_ENDING = "pre-existing shared memory"
"""What a server says while processes of its killed predecessor are about to end."""

_SETTINGS = """\
# Written at every start by reconciler.
listen_addresses = ''
unix_socket_directories = '"{directory}"'
unix_socket_permissions = 0700
timezone = 'UTC'
log_timezone = 'UTC'
"""
_TEST_SETTINGS = "fsync = off\nsynchronous_commit = off\nfull_page_writes = off\n"


class EmbeddedPostgres:
    """One process's use of the server under `data_dir`.

    `for_tests`: the server is a child that ends with the thread that started it, and does not wait for the disk.
    """

    def __init__(self, data_dir: Path, *, for_tests: bool = False) -> None:
        self._data_dir = data_dir.expanduser().absolute()
        self._for_tests = for_tests
        self._cluster = self._data_dir / "postgres"
        self._log = self._cluster / "server.log"
        self._membership: IO[str] | None = None
        self._child: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> EmbeddedPostgres:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def url(self) -> str:
        """Where the service connects."""
        return self.url_for(ROLE)

    def url_for(self, role: str, database: str = ROLE) -> str:
        """The same for `SUPERUSER`, which the service never is."""
        query = {"host": str(self._socket_directory)}
        return URL.create("postgresql+psycopg", role, database=database, query=query).render_as_string()

    def start(self) -> str:
        """The URL of the running server; creates and starts it where needed. May be repeated.

        Raises StoreError: no programs, a data directory of another user or another major version, no start.
        """
        programs, run_as = find_binaries(), launcher()
        self._prepare_directories(run_as)
        with self._lock("postgres.lock", fcntl.LOCK_EX):
            if self._membership is None:
                self._membership = self._lock("postgres.users", fcntl.LOCK_SH)
            try:
                self._bring_up(programs, run_as)
            except BaseException:
                self._leave()
                raise
        return self.url

    def stop(self) -> None:
        """Leave; the server stops when this was its last user. May be repeated."""
        if self._membership is None:
            return
        with self._lock("postgres.lock", fcntl.LOCK_EX):
            self._leave()
            try:
                last = self._lock("postgres.users", fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return
            with last:
                self._shut_down()

    def discard(self) -> bool:
        """Remove the data directory, ending a server that a killed user left; False while somebody uses it."""
        with self._lock("postgres.lock", fcntl.LOCK_EX):
            try:
                last = self._lock("postgres.users", fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return False
            with last:
                self._shut_down()
                shutil.rmtree(self._data_dir)
        return True

    # --- who uses it ----------------------------------------------------------------------------------------------

    def _lock(self, name: str, operation: int) -> IO[str]:
        """The file, locked; closing it gives the lock back, and so does the end of the process."""
        try:
            file = (self._data_dir / name).open("a")
        except OSError as error:
            raise _unusable(self._data_dir, error) from error
        try:
            fcntl.flock(file, operation)
        except BaseException:
            file.close()
            raise
        return file

    def _leave(self) -> None:
        if self._membership is not None:
            self._membership.close()
            self._membership = None

    # --- files ----------------------------------------------------------------------------------------------------

    @property
    def _socket_directory(self) -> Path:
        """Derived from the data directory alone, so that every process finds the same."""
        inside = self._data_dir / "run"
        if len(os.fsencode(inside)) <= _SOCKET_LIMIT:
            return inside
        digest = hashlib.sha256(os.fsencode(self._data_dir.resolve())).hexdigest()[:16]
        return Path(f"/tmp/reconciler-{os.geteuid()}-{digest}")  # noqa: S108  its owner and mode are checked below

    def _prepare_directories(self, run_as: Launcher) -> None:
        sockets = self._socket_directory
        try:
            # A server that runs as somebody else must be able to pass through.
            mode = 0o700 if run_as.uid == os.geteuid() else 0o711
            self._data_dir.mkdir(mode, parents=True, exist_ok=True)
            if not sockets.exists():
                sockets.mkdir(mode=0o700)
                run_as.hand_over(sockets)
            status = sockets.lstat()
        except OSError as error:
            raise _unusable(self._data_dir, error) from error
        if status.st_uid != run_as.uid or status.st_mode & 0o7777 != 0o700:
            raise StoreError(
                f"the socket's directory belongs to user id {status.st_uid} with mode {status.st_mode & 0o7777:04o}",
                where=str(sockets),
                remedy="it must be this user's with mode 0700: remove it if nobody uses it, or choose another data_dir",
            )

    def _check_cluster(self, programs: Binaries, run_as: Launcher) -> None:
        """Refuse what another user or another major version made; this server must never touch it."""
        owner = self._cluster.stat().st_uid
        if owner != run_as.uid:
            raise StoreError(
                f"the database belongs to user id {owner}, not to {run_as.uid}",
                where=str(self._cluster),
                remedy="run as that user, choose another data_dir, or set DATABASE_URL",
            )
        major = (self._cluster / "PG_VERSION").read_text().strip()
        if major != str(programs.major):
            raise StoreError(
                f"the database was made by PostgreSQL {major}; the programs found are PostgreSQL {programs.major}",
                where=str(self._cluster),
                remedy=f"set PG_BIN to the programs of PostgreSQL {major}; "
                "to move on, dump the database with them and restore the dump into a new data_dir",
            )

    def _create_cluster(self, programs: Binaries, run_as: Launcher) -> None:
        """`initdb` beside the final place, then rename: a killed one leaves nothing that looks finished."""
        new = self._cluster.with_name("postgres.new")
        shutil.rmtree(new, ignore_errors=True)
        new.mkdir(mode=0o700)
        run_as.hand_over(new)
        sync = ["--no-sync"] if self._for_tests else []
        options = ["--auth=reject", "--encoding=UTF8", "--locale=C", *programs.locale_options, *sync]
        done = run_as.run(programs.program("initdb"), f"--pgdata={new}", f"--username={SUPERUSER}", *options)
        if done.returncode != 0:
            raise StoreError(
                f"initdb failed: {done.stderr.strip()}",
                where=str(new),
                remedy="choose another data_dir, or set DATABASE_URL to a running server",
            )
        (new / "pg_hba.conf").write_text("local all all peer map=ours\n")
        (new / "pg_ident.conf").write_text("".join(f'ours "{run_as.peer}" {role}\n' for role in (ROLE, SUPERUSER)))
        new.rename(self._cluster)

    # --- the server -----------------------------------------------------------------------------------------------

    def _bring_up(self, programs: Binaries, run_as: Launcher) -> None:
        """Until the server answers: create it, start it, or wait for one that is starting or ending."""
        deadline = time.monotonic() + START_SECONDS
        while not self._ready():
            if not (self._cluster / "PG_VERSION").exists():
                self._create_cluster(programs, run_as)
            self._check_cluster(programs, run_as)
            if time.monotonic() > deadline:
                raise self._no_start(f"no answer within {START_SECONDS} s")
            if not self._postmaster_lives():
                self._launch(programs, run_as)
            time.sleep(0.02)

    def _ready(self) -> bool:
        """Whether the server really answers; makes our role and database where they are missing."""
        try:
            with psycopg.connect(
                host=str(self._socket_directory), user=SUPERUSER, dbname="postgres", autocommit=True, connect_timeout=10
            ) as connection:
                role, database = sql.Identifier(ROLE), sql.Identifier(ROLE)
                if not connection.execute("SELECT FROM pg_roles WHERE rolname = %s", [ROLE]).rowcount:
                    connection.execute(sql.SQL("CREATE ROLE {} LOGIN CREATEDB CREATEROLE").format(role))
                if not connection.execute("SELECT FROM pg_database WHERE datname = %s", [ROLE]).rowcount:
                    connection.execute(sql.SQL("CREATE DATABASE {} OWNER {}").format(database, role))
        except psycopg.OperationalError:
            return False
        return True

    def _postmaster_lives(self) -> bool:
        """Whether the process in postmaster.pid is a server of this cluster: its number may be somebody else's by now.

        Stale lock files are removed, since PostgreSQL itself takes any living process, even a zombie, for its server.
        """
        if self._child is not None and self._child.poll() is None:
            return True
        pid_file = self._cluster / "postmaster.pid"
        try:
            process = Path("/proc", pid_file.read_text().partition("\n")[0])
        except FileNotFoundError:
            return False
        if not Path("/proc/self").exists():
            return False  # no Linux: pg_ctl judges
        try:
            if (process / "cwd").readlink() == self._cluster.resolve():
                return True
        except OSError:
            pass
        pid_file.unlink(missing_ok=True)
        (self._socket_directory / ".s.PGSQL.5432.lock").unlink(missing_ok=True)
        return False

    def _launch(self, programs: Binaries, run_as: Launcher) -> None:
        directory = str(self._socket_directory).replace("'", "''").replace('"', '""')
        settings = _SETTINGS.format(directory=directory) + (_TEST_SETTINGS if self._for_tests else "")
        (self._cluster / "postgresql.conf").write_text(settings)
        said_before = self._log.stat().st_size if self._log.exists() else 0
        if self._for_tests:
            started = self._start_child(programs, run_as)
        else:
            # Relative paths: pg_ctl hands them to a shell, which must not see what the data directory is called.
            paths = [f"--pgdata={self._cluster.name}", f"--log={self._cluster.name}/{self._log.name}"]
            command = [programs.program("pg_ctl"), "start", *paths, "--wait", f"--timeout={START_SECONDS}"]
            started = run_as.run(*command, folder=self._data_dir).returncode == 0
        said = self._log.read_text(errors="replace")[said_before:] if self._log.exists() else ""
        if not started and _STILL_ENDING not in said:
            raise self._no_start(said.strip() or "it said nothing")

    def _start_child(self, programs: Binaries, run_as: Launcher) -> bool:
        """Start the server so that the kernel ends it with us, whatever ends us."""
        leash = ["setpriv", "--pdeathsig", "INT", "--"] if shutil.which("setpriv") else []
        command = [*run_as.prefix, *leash, programs.program("postgres"), "-D", str(self._cluster)]
        with self._log.open("ab") as log:
            self._child = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=environment(), start_new_session=True
            )
        while self._child.poll() is None:
            if self._ready():
                return True
            time.sleep(0.02)
        return False

    def _shut_down(self) -> None:
        if self._child is not None:
            self._child.send_signal(signal.SIGINT)
            self._child.wait(START_SECONDS)
            self._child = None
        elif self._postmaster_lives():
            options = [f"--pgdata={self._cluster}", "--mode=fast", "--wait", f"--timeout={START_SECONDS}"]
            launcher().run(find_binaries().program("pg_ctl"), "stop", *options)

    def _no_start(self, reason: str) -> StoreError:
        return StoreError(
            f"PostgreSQL did not start: {reason}",
            where=str(self._log),
            remedy="read that file; or set DATABASE_URL to a running server",
        )


def _unusable(data_dir: Path, error: OSError) -> StoreError:
    return StoreError(
        f"the data directory cannot be used: {error.strerror}",
        where=str(data_dir),
        remedy="run as the user it belongs to, choose another data_dir, or set DATABASE_URL",
    )
