"""GitSource on real repositories: what is read, in which order, and what it says when it cannot."""

from __future__ import annotations

import asyncio
import fcntl
import os
import re
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from reconciler.errors import InputRejected, ReconcilerError, SourceError, UsageError
from reconciler.source.directory import read_directory
from reconciler.source.git_source import GitSource
from reconciler.source.selection import LARGEST
from tests.integration.git_repository import ENVIRONMENT, GitRepository


@pytest.fixture(autouse=True)
def _own_git_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("GIT_CONFIG_NOSYSTEM", "GIT_CONFIG_GLOBAL"):
        monkeypatch.setenv(name, ENVIRONMENT[name])
    monkeypatch.delenv("GIT_SSH_COMMAND", raising=False)


@pytest.fixture
def repository(tmp_path: Path) -> GitRepository:
    return GitRepository(tmp_path / "fleet")


def source_of(
    repository: GitRepository, *, url: str = "", branch: str = "main", path: str = ".", timeout: float = 20
) -> GitSource:
    mirror = repository.directory.parent / "mirrors" / "default"
    return GitSource(url or str(repository.directory), branch, path, mirror, timeout)


async def read(source: GitSource) -> dict[str, bytes | str]:
    """Path → content, or the reason of the refusal."""
    return {file.path: file.refused or file.data for file in await source.manifests(await source.head())}


# --- Head and commits -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", ["path", "file"])
async def test_head_follows_the_branch(repository: GitRepository, form: str) -> None:
    source = source_of(repository, url=f"file://{repository.directory}" if form == "file" else "")
    first = repository.commit(a="1")
    assert await source.head() == first
    second = repository.commit(a="2")
    assert await source.head() == second
    assert await source.head() == second


async def test_nothing_is_fetched_while_the_head_stands(repository: GitRepository, tmp_path: Path) -> None:
    head = repository.commit(a="1")
    source = source_of(repository)
    await source.head()
    for pack in (repository.directory / ".git" / "objects").glob("??/*"):
        pack.unlink()  # a fetch could not succeed any more, ls-remote still does
    assert await source.head() == head


async def test_commits_are_first_parent_and_oldest_first(repository: GitRepository) -> None:
    base = repository.commit("base", a="1")
    repository.git("checkout", "-q", "-b", "topic")
    on_topic = repository.commit("on the topic", b="1")
    repository.git("checkout", "-q", "main")
    direct = repository.commit("direct", a="2")
    repository.git("merge", "-q", "--no-ff", "-m", "Merge pull request #7 from topic\n\nBody — 日本語", "topic")
    merge = repository.git("rev-parse", "HEAD")
    source = source_of(repository)
    head = await source.head()
    commits = await source.commits(base, head)
    assert commits is not None
    assert [c.sha for c in commits] == [direct, merge]
    assert [c.parent for c in commits] == [base, direct]
    assert commits[1].subject == "Merge pull request #7 from topic"
    assert commits[1].message.endswith("Body — 日本語")
    assert (commits[0].author, commits[0].author_email) == ("Ada Lovelace", "ada@example.com")
    assert (commits[0].committer, commits[0].committer_email) == ("Merge Bot", "bot@example.com")
    assert (commits[0].authored_at, commits[0].committed_at) == ("2026-01-31T09:00:00Z", "2026-01-31T09:05:00Z")
    assert await source.commits(head, head) == []
    assert [c.sha for c in await source.commits(on_topic, head) or []] == [base, direct, merge][1:]


async def test_a_branch_a_ref_and_a_commit_are_found_by_name(repository: GitRepository) -> None:
    base = repository.commit("base", a="1")
    source = source_of(repository)
    await source.head()
    repository.git("checkout", "-q", "-b", "topic/x")
    on_topic = repository.commit("on the topic", b="1")
    repository.git("update-ref", "refs/pull/7/merge", on_topic)
    repository.git("checkout", "-q", "main")
    newer = repository.commit("newer", a="2")
    assert await source.revision("topic/x") == on_topic
    repository.git("branch", "-q", "-M", "topic/x", "topic")
    repository.git("checkout", "-q", "topic")
    on_topic = repository.commit("further on the topic", b="2")
    repository.git("checkout", "-q", "main")
    assert await source.revision("topic") == on_topic
    repository.git("update-ref", "refs/pull/7/merge", on_topic)
    assert await source.revision("refs/pull/7/merge") == on_topic
    assert [file.path for file in await source.manifests(on_topic)] == ["a.yaml", "b.yaml"]
    assert await source.revision(base[:9]) == base
    assert await source.revision(newer) == newer  # not in the mirror until asked for
    assert await source.head() == newer
    for name in ("nowhere", "feedbeef", "--upload-pack=x", ""):
        with pytest.raises(UsageError):
            await source.revision(name)


async def test_first_sync_takes_the_head_or_the_last_commits(repository: GitRepository) -> None:
    shas = [repository.commit(f"number {n}", a=str(n)) for n in range(5)]
    source = source_of(repository)
    head = await source.head()
    assert [c.sha for c in await source.commits(None, head) or []] == shas[-1:]
    assert [c.sha for c in await source.commits(None, head, limit=3) or []] == shas[-3:]
    everything = await source.commits(None, head, limit=99)
    assert everything is not None
    assert [c.sha for c in everything] == shas
    assert everything[0].parent is None
    assert [c.sha for c in await source.commits(shas[0], head, limit=2) or []] == shas[1:3]


async def test_a_rewritten_branch_is_told(repository: GitRepository) -> None:
    repository.commit("kept", a="1")
    lost = repository.commit("lost", a="2")
    source = source_of(repository)
    await source.head()
    repository.git("reset", "-q", "--hard", "HEAD^")
    other = repository.commit("other", a="3")
    assert await source.head() == other
    assert await source.commits(lost, other) is None
    assert await source.commits("0" * 40, other) is None


async def test_a_commit_time_beyond_the_calendar_is_no_error(repository: GitRepository) -> None:
    repository.commit("far", env={"GIT_AUTHOR_DATE": "@99999999999999 +0000"}, a="1")
    source = source_of(repository)
    commits = await source.commits(None, await source.head())
    assert commits is not None
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", commits[0].authored_at)


async def test_two_sources_on_one_mirror_agree(repository: GitRepository) -> None:
    head = repository.commit(a="1")
    first, second = source_of(repository), source_of(repository)
    assert await first.head() == await second.head() == head
    assert await read(first) == await read(second) == {"a.yaml": b"1"}


async def test_commits_and_manifests_need_no_git_server(repository: GitRepository) -> None:
    base = repository.commit(a="1")
    head = repository.commit(a="2")
    source = source_of(repository)
    await source.head()
    repository.directory.rename(repository.directory.with_name("gone"))
    assert [c.sha for c in await source.commits(base, head) or []] == [head]
    assert [f.data for f in await source.manifests(base)] == [b"1"]
    with pytest.raises(SourceError, match="no Git repository at this URL"):
        await source.head()


async def test_lock_files_of_a_killed_git_do_not_stop_the_next_fetch(repository: GitRepository, tmp_path: Path) -> None:
    repository.commit(a="1")
    source = source_of(repository)
    await source.head()
    (tmp_path / "mirrors/default/refs/heads/main.lock").touch()
    (tmp_path / "mirrors/default/packed-refs.lock").touch()
    second = repository.commit(a="2")
    assert await source.head() == second


async def test_many_processes_may_make_the_mirror_at_once(repository: GitRepository) -> None:
    head = repository.commit(a="1")
    sources = [source_of(repository) for _ in range(6)]
    assert await asyncio.gather(*(source.head() for source in sources)) == [head] * 6
    assert await asyncio.gather(*(read(source) for source in sources)) == [{"a.yaml": b"1"}] * 6


@pytest.mark.parametrize("dies_at", ["upload-pack", "ls-remote"])
async def test_killed_in_the_middle_of_a_fetch(
    repository: GitRepository, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, dies_at: str
) -> None:
    """The orphaned git goes on under the lock; the next process waits for it and finds a whole mirror."""
    head = repository.commit(a="1")
    first_call, slow = tmp_path / "first", tmp_path / "slow"
    wait_from = 1 if dies_at == "ls-remote" else 2
    slow.write_text(
        f"#!/bin/sh\necho >> {tmp_path}/calls; calls=$(wc -l < {tmp_path}/calls)\n"
        f'if [ $calls = {wait_from} ]; then touch {first_call}; sleep 1; fi\nfor last; do :; done\nexec sh -c "$last"\n'
    )
    slow.chmod(0o755)
    monkeypatch.setenv("GIT_SSH_COMMAND", str(slow))
    monkeypatch.setenv("GIT_SSH_VARIANT", "ssh")
    url = f"git@git.example.com:{repository.directory}"
    program = (
        "import asyncio, pathlib, sys; from reconciler.source.git_source import GitSource\n"
        "asyncio.run(GitSource(sys.argv[1], 'main', '.', pathlib.Path(sys.argv[2]), 20).head())"
    )
    mirror = tmp_path / "mirrors/default"
    root = Path(__file__).parents[2]
    victim = await asyncio.create_subprocess_exec(sys.executable, "-c", program, url, mirror, cwd=root)
    while not first_call.exists():
        assert victim.returncode is None
        await asyncio.sleep(0.01)
    victim.kill()
    await victim.wait()
    source = source_of(repository, url=url)
    assert await source.head() == head
    assert [file.data for file in await source.manifests(head)] == [b"1"]
    assert (tmp_path / "calls").read_text().count("\n") == 3  # nothing was fetched twice
    check = subprocess.run(["git", "-C", mirror, "fsck", "--strict"], capture_output=True, text=True, check=False)
    assert check.returncode == 0, check.stderr


async def test_a_half_made_mirror_is_made_anew(repository: GitRepository, tmp_path: Path) -> None:
    head = repository.commit(a="1")
    mirror = tmp_path / "mirrors/default"
    (mirror / "refs").mkdir(parents=True)
    (mirror / "HEAD").write_text("ref: refs/heads/main\n")
    (mirror / "config").touch()
    assert await source_of(repository).head() == head


async def test_a_damaged_mirror_is_told(repository: GitRepository, tmp_path: Path) -> None:
    head = repository.commit(a="1")
    source = source_of(repository)
    await source.head()
    for loose in (tmp_path / "mirrors/default/objects").glob("??/*"):
        if loose.read_bytes() and loose.parent.name + loose.name == repository.git("rev-parse", "HEAD:a.yaml"):
            loose.unlink()
    with pytest.raises(SourceError, match=r"(?s)mirror cannot be used.*remove this directory"):
        await source.manifests(head)


# --- Which files ----------------------------------------------------------------------------------------------------


async def test_only_manifests_outside_dot_directories(repository: GitRepository) -> None:
    for name in ("a.yaml", "b/c.yml", "b/d.json", "README.md", ".github/x.yaml", "b/.hidden/y.yaml", ".gitlab-ci.yml"):
        repository.write(name, name)
    repository.commit()
    assert list(await read(source_of(repository))) == ["a.yaml", "b/c.yml", "b/d.json"]


async def test_the_path_is_the_root_of_what_is_read(repository: GitRepository) -> None:
    for name in ("a.yaml", "fleets/one/b.yaml", "fleets/one/c/d.yaml", "fleets/two/e.yaml"):
        repository.write(name, name)
    repository.commit()
    assert list(await read(source_of(repository, path="./fleets/one/"))) == ["b.yaml", "c/d.yaml"]


async def test_odd_names_are_read(repository: GitRepository) -> None:
    names = ["レジストリ/設定.yaml", 'quote".yaml', "space and\\slash.yaml", "ä:b.yaml"]
    for name in names:
        repository.write(name, name)
    repository.commit()
    assert await read(source_of(repository)) == {name: name.encode() for name in sorted(names)}


async def test_names_that_cannot_be_shown_are_refused(repository: GitRepository) -> None:
    (repository.directory / os.fsdecode(b"\xff.yaml")).write_text("x")
    repository.write("new\nline.yaml", "x")
    repository.commit()
    found = await read(source_of(repository))
    assert list(found) == [r"\xff.yaml", r"new\x0aline.yaml"]
    assert set(found.values()) == {"has a name that is not UTF-8 or has control characters"}


async def test_ignore_files(repository: GitRepository) -> None:
    repository.write(".reconcilerignore", "# not ours\n/charts/\n*.json\n!keep.json\n")
    repository.write("sites/.reconcilerignore", "draft-*.yaml\n!wanted.json\n")
    for name in ("a.yaml", "x.json", "keep.json", "charts/t.yaml", "sites/charts/t.yaml"):
        repository.write(name, "")
    for name in ("sites/draft-1.yaml", "draft-1.yaml", "sites/wanted.json", "sites/other.json"):
        repository.write(name, "")
    repository.commit()
    assert list(await read(source_of(repository))) == [
        "a.yaml", "draft-1.yaml", "keep.json", "sites/charts/t.yaml", "sites/wanted.json",
    ]  # fmt: skip


@pytest.mark.parametrize(("content", "why"), [(b"!\n", "Invalid git pattern"), (b"\xff\n", "utf-8")])
async def test_an_unusable_ignore_file_is_refused(repository: GitRepository, content: bytes, why: str) -> None:
    repository.write("a.yaml", "1")
    repository.write(".reconcilerignore", content)
    repository.commit()
    found = await read(source_of(repository))
    assert found["a.yaml"] == b"1"
    assert why in str(found[".reconcilerignore"])


async def test_links_submodules_and_lfs_pointers_are_refused_by_name(repository: GitRepository) -> None:
    repository.write("real/a.yaml", "1")
    for link, target in {"link.yaml": "real/a.yaml", "dir": "real", "indirect": "dir", "NOTICE": "real/a.yaml"}.items():
        (repository.directory / link).symlink_to(target)
    (repository.directory / "LICENSE").symlink_to("/usr/share/common-licenses/Apache-2.0")
    (repository.directory / "dangling").symlink_to("nowhere")
    repository.write("big.yaml", "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n")
    head = repository.commit()
    repository.git("update-index", "--add", "--cacheinfo", f"160000,{head},vendor/shared")
    repository.git("commit", "-q", "-m", "submodule")
    found = await read(source_of(repository))
    assert found.pop("real/a.yaml") == b"1"
    assert {path: str(why).split(";")[0] for path, why in found.items()} == {
        "big.yaml": "is a Git LFS pointer",
        "dir": "is a symbolic link",
        "indirect": "is a symbolic link",
        "link.yaml": "is a symbolic link",
        "vendor/shared": "is a submodule",
    }


async def test_ignored_links_and_submodules_are_not_refused(repository: GitRepository) -> None:
    repository.write("real/a.yaml", "1")
    repository.write(".reconcilerignore", "link.yaml\nvendor/shared/\n")
    (repository.directory / "link.yaml").symlink_to("real/a.yaml")
    head = repository.commit()
    repository.git("update-index", "--add", "--cacheinfo", f"160000,{head},vendor/shared")
    repository.git("commit", "-q", "-m", "submodule")
    assert list(await read(source_of(repository))) == ["real/a.yaml"]


async def test_the_largest_file(repository: GitRepository) -> None:
    repository.write("fits.yaml", b"#" * LARGEST)
    repository.write("large.yaml", b"#" * (LARGEST + 1))
    repository.commit()
    found = await read(source_of(repository))
    assert len(found["fits.yaml"]) == LARGEST
    assert found["large.yaml"] == "has 4194305 bytes; the limit is 4194304 (4 MiB)"


async def test_what_was_read_before_does_not_change_what_is_read(repository: GitRepository) -> None:
    repository.write("real/a.yaml", "1")
    repository.write("b.yaml", "1")
    repository.write("charts/c.yaml", "1")
    (repository.directory / "leads").symlink_to("real")
    kept = source_of(repository)

    async def both() -> dict[str, bytes | str]:
        repository.commit()
        found = await read(kept)
        assert found == await read(source_of(repository))
        return found

    assert list(await both()) == ["b.yaml", "charts/c.yaml", "leads", "real/a.yaml"]
    repository.write("b.yaml", "2")
    (repository.directory / "real" / "a.yaml").rename(repository.directory / "a.yaml")
    found = await both()  # the link leads nowhere now, though its own line is the same
    assert found == {"a.yaml": b"1", "b.yaml": b"2", "charts/c.yaml": b"1"}
    repository.write(".reconcilerignore", "charts/\n")
    assert list(await both()) == ["a.yaml", "b.yaml"]
    repository.write(".reconcilerignore", b"\xff")
    assert list(await both()) == [".reconcilerignore", "a.yaml", "b.yaml", "charts/c.yaml"]
    (repository.directory / ".reconcilerignore").unlink()
    repository.write("real/b.yaml", "1")
    assert list(await both()) == ["a.yaml", "b.yaml", "charts/c.yaml", "leads", "real/b.yaml"]


async def test_many_files_are_read_by_few_processes(
    repository: GitRepository, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(500):
        repository.write(f"{number:03}.yaml", f"{number}\n")
    head = repository.commit()
    source = source_of(repository)
    await source.head()
    log = tmp_path / "trace"
    monkeypatch.setenv("GIT_TRACE", str(log))
    files = await source.manifests(head)
    assert [int(file.data) for file in files] == list(range(500))
    assert log.read_text().count("trace: built-in:") == 2
    assert await source.manifests(head) == files
    assert log.read_text().count("trace: built-in:") == 3


# --- What is refused, and how it is said ----------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["../other", "a/../../b", "/etc", "a/.."])
def test_a_path_that_leaves_the_repository(tmp_path: Path, path: str) -> None:
    with pytest.raises(UsageError, match="leaves the repository"):
        GitSource("https://git.example.com/x.git", "main", path, tmp_path / "m", 5)


@pytest.mark.parametrize("branch", ["", "-x", "a b", "a..b", "a^", "x.lock", "a\n", "@{u}"])
def test_a_branch_that_is_no_name(tmp_path: Path, branch: str) -> None:
    with pytest.raises(UsageError, match="cannot be the name of a branch"):
        GitSource("https://git.example.com/x.git", branch, ".", tmp_path / "m", 5)


@pytest.mark.parametrize("url", ["ext::sh -c id", "git://git.example.com/x", "ftp://x/y", "--upload-pack=id", " "])
async def test_other_kinds_of_address(tmp_path: Path, url: str) -> None:
    with pytest.raises(ReconcilerError):
        await GitSource(url, "main", ".", tmp_path / "m", 5).head()
    assert not list(tmp_path.rglob("id"))


async def test_a_missing_path(repository: GitRepository) -> None:
    repository.commit(a="1")
    for path in ("fleets/none", "a.yaml"):
        source = source_of(repository, path=path)
        with pytest.raises(InputRejected, match=f"no directory '{path}' in commit"):
            await source.manifests(await source.head())


async def test_a_missing_branch_and_an_empty_repository(repository: GitRepository) -> None:
    with pytest.raises(SourceError, match=r"(?s)there is no branch 'main'.*push a first commit"):
        await source_of(repository).head()
    repository.commit(a="1")
    with pytest.raises(SourceError, match=r"(?s)there is no branch 'prod'.*one of: main"):
        await source_of(repository, branch="prod").head()


async def test_an_unknown_commit(repository: GitRepository) -> None:
    repository.commit(a="1")
    with pytest.raises(SourceError, match="is not in the mirror"):
        await source_of(repository).manifests("0" * 40)
    source = source_of(repository)
    await source.head()
    with pytest.raises(SourceError, match="commit 000000000000 is not in the mirror"):
        await source.manifests("0" * 40)


async def test_a_repository_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="no Git repository at this URL"):
        await GitSource(str(tmp_path / "none"), "main", ".", tmp_path / "m", 5).head()


async def test_a_refused_connection(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    source = GitSource(f"https://bot:s3cret@127.0.0.1:{port}/x.git", "main", ".", tmp_path / "m", 10)
    with pytest.raises(SourceError, match="cannot be reached") as caught:
        await source.head()
    assert "s3cret" not in str(caught.value)
    assert caught.value.retry == "later"


@pytest.mark.parametrize("scheme", ["https", "ssh"])
async def test_a_server_that_never_answers_costs_no_more_than_the_timeout(tmp_path: Path, scheme: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        source = GitSource(f"{scheme}://git@127.0.0.1:{port}/x.git", "main", ".", tmp_path / "m", 1)
        with pytest.raises(SourceError, match="took longer than 1 s"):
            await source.head()


async def test_a_fetch_elsewhere_is_waited_for_and_no_longer_than_the_timeout(
    repository: GitRepository, tmp_path: Path
) -> None:
    repository.commit(a="1")
    (tmp_path / "mirrors").mkdir()
    with (tmp_path / "mirrors/default.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(SourceError, match=r"waiting for another fetch took longer than 0\.3 s"):
            await source_of(repository, timeout=0.3).head()
    assert await source_of(repository).head()


async def test_a_mirror_directory_that_cannot_be_made(repository: GitRepository, tmp_path: Path) -> None:
    repository.commit(a="1")
    (tmp_path / "mirrors").write_text("a file")
    with pytest.raises(SourceError, match="the mirror cannot be made"):
        await source_of(repository).head()


# --- Over ssh and http ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", ["ssh://git@git.example.com{path}", "git@git.example.com:{path}"])
async def test_ssh_addresses_use_the_chosen_ssh_and_never_ask(
    repository: GitRepository, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, form: str
) -> None:
    head = repository.commit(a="1")
    fake = tmp_path / "ssh"
    fake.write_text(f'#!/bin/sh\necho "$*" >> {tmp_path}/asked\nfor last; do :; done\nexec sh -c "$last"\n')
    fake.chmod(0o755)
    monkeypatch.setenv("GIT_SSH_COMMAND", f"{fake} -F none")
    monkeypatch.setenv("GIT_SSH_VARIANT", "ssh")
    assert await source_of(repository, url=form.format(path=repository.directory)).head() == head
    asked = (tmp_path / "asked").read_text()
    assert "-F none -o BatchMode=yes" in asked
    assert "git@git.example.com" in asked


async def test_a_refused_ssh_login(repository: GitRepository, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    repository.commit(a="1")
    monkeypatch.setenv("GIT_SSH_COMMAND", "sh -c 'echo git@host: Permission denied \\(publickey\\). >&2; exit 255' --")
    with pytest.raises(SourceError, match=r"refused the login \(git@host: Permission denied"):
        await source_of(repository, url="git@git.example.com:x.git").head()


class _PrivateFiles(SimpleHTTPRequestHandler):
    """Git's dumb protocol behind a password."""

    def do_GET(self) -> None:
        if self.headers.get("Authorization") == "Basic Ym90OnMzY3JldEAv":  # bot:s3cret@/
            super().do_GET()
            return
        self.send_response(401)
        self.send_header("WWW-Authenticate", 'Basic realm="git"')
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def private_server(repository: GitRepository) -> Iterator[str]:
    """HOST:PORT of a server that has the repository as /fleet/.git."""
    repository.commit(a="1")
    repository.git("update-server-info")
    handler = partial(_PrivateFiles, directory=str(repository.directory.parent))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield f"127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


async def test_user_and_password_of_the_url(
    repository: GitRepository, private_server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GIT_TRACE", str(tmp_path / "trace"))
    url = f"http://bot:s3cret%40%2F@{private_server}/fleet/.git"
    assert await read(source_of(repository, url=url)) == {"a.yaml": b"1"}
    assert "git-remote-http" in (tmp_path / "trace").read_text()
    assert "s3cret" not in (tmp_path / "trace").read_text()
    stored = subprocess.run(["grep", "-r", "s3cret", tmp_path / "mirrors"], capture_output=True, check=False)
    assert stored.stdout == b""


@pytest.mark.parametrize("login", ["", "bot:wr0ng@", "t0ken@"])
async def test_a_refused_http_login(repository: GitRepository, private_server: str, login: str) -> None:
    with pytest.raises(SourceError, match="refused the login") as caught:
        await source_of(repository, url=f"http://{login}{private_server}/fleet/.git").head()
    assert "wr0ng" not in str(caught.value)
    assert "t0ken" not in str(caught.value)


# --- A directory, before it is committed ----------------------------------------------------------------------------


async def test_a_directory_is_read_as_the_commit_of_it_would_be(repository: GitRepository) -> None:
    repository.write(".reconcilerignore", "/charts/\n*.json\n")
    for name in ("a.yaml", "b/設定.yml", "charts/c.yaml", "d.json", "README.md", ".github/e.yaml", ".f.yaml"):
        repository.write(name, name)
    repository.write("lfs.yaml", "version https://git-lfs.github.com/spec/v1\n")
    repository.write("large.yaml", b"#" * (LARGEST + 1))
    repository.write("new\nline.yaml", "x")
    for name in ("registries.conf", "other.conf", "registries.conf.d/01-image-searchRegistries.conf"):
        repository.write(f"base/etc/containers/{name}", name)
    links = {"link.yaml": "a.yaml", "dir": "b", "NOTICE": "README.md", "dangling": "none"}
    for link, target in {**links, "base/etc/containers/policy.json": "../../../d.json"}.items():
        (repository.directory / link).symlink_to(target)
    repository.write("base/.reconcilerignore", "!policy.json\n")
    repository.commit()
    directory = {file.path: file.refused or file.data for file in read_directory(repository.directory)}
    assert directory == await read(source_of(repository))
    assert list(directory) == [
        "a.yaml",
        "b/設定.yml",
        "base/etc/containers/policy.json",
        "base/etc/containers/registries.conf",
        "base/etc/containers/registries.conf.d/01-image-searchRegistries.conf",
        "dir",
        "large.yaml",
        "lfs.yaml",
        "link.yaml",
        r"new\x0aline.yaml",
    ]
