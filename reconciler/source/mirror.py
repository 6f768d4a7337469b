"""A bare mirror of one branch: refreshed under a lock, read without one (objects never change)."""

from __future__ import annotations

import fcntl
import os
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from reconciler.errors import SourceError, UsageError
from reconciler.ports import Commit
from reconciler.source.command import Deadline, GitCommand, Remote
from reconciler.source.failures import mirror_error, timed_out

_FIELDS = ("%H", "%P", "%an", "%ae", "%at", "%cn", "%ce", "%ct", "%B")
_COMMIT = re.compile(r"[0-9a-f]{7,40}")
_LOCK_POLL = 0.05
"""Seconds between two looks at a lock that another process holds."""


class Mirror:
    """Blocking; GitSource calls it in threads. Every method may raise SourceError."""

    def __init__(self, remote: Remote, branch: str, directory: Path) -> None:
        self.remote = remote
        self.branch = branch
        self._ref = f"refs/heads/{branch}"
        self._directory = directory
        self._git = GitCommand(directory, remote)

    # --- Refresh ----------------------------------------------------------------------------------------------------

    def refresh(self, deadline: Deadline) -> str:
        """The branch's commit id; fetched only when the remote's head is not the mirror's."""
        self._prepare(deadline)
        wanted = self._remote_head(deadline)
        if self._local_head(deadline) == wanted:
            return wanted
        with self._locked(deadline) as lock:
            if self._local_head(deadline) != wanted:
                self._fetch(deadline, lock, f"+{self._ref}:{self._ref}")
        return self._local_head(deadline)

    def revision(self, deadline: Deadline, name: str) -> str:
        """See ports.Source.revision. What was fetched last stays below refs/plan."""
        self._prepare(deadline)
        if _COMMIT.fullmatch(name):
            if not self._commit_id(deadline, name):
                self.refresh(deadline)  # it may be newer than the mirror
            if found := self._commit_id(deadline, name):
                return found
        wanted = name if name.startswith("refs/") else f"refs/heads/{name}"
        listing = self._git.ask_remote(deadline, "ls-remote", self.remote.url, wanted).decode()
        named = (line.partition("\t") for line in listing.splitlines())
        found = next((sha for sha, _, ref in named if ref == wanted), "")
        if not found:
            remedy = f"name a branch, a full ref, or a commit of {self.branch}"
            raise UsageError(f"there is no branch or commit {name!r}", where=self.remote.url, remedy=remedy)
        if not self._has_commit(deadline, found):
            with self._locked(deadline) as lock:
                self._fetch(deadline, lock, f"+{wanted}:refs/plan/latest")
        return self._commit_id(deadline, found)

    def _commit_id(self, deadline: Deadline, name: str) -> str:
        """The full id of the commit that `name` names in the mirror, or nothing."""
        answer = self._git.try_run(deadline, "rev-parse", "--verify", "--quiet", f"{name}^{{commit}}")
        return answer.out.decode().strip() if answer.status == 0 else ""

    def _prepare(self, deadline: Deadline) -> None:
        if (self._directory / "objects" / "info").is_dir():  # what git init makes last
            return
        try:
            self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as problem:
            raise SourceError(f"the mirror cannot be made: {problem.strerror}", where=str(self._directory)) from None
        with self._locked(deadline) as lock:
            arguments = ("init", "--bare", "--quiet", "--template=", "--initial-branch=main", str(self._directory))
            self._git.run(deadline, *arguments, keep=(lock,))

    def _remote_head(self, deadline: Deadline) -> str:
        listing = self._git.ask_remote(deadline, "ls-remote", "--heads", self.remote.url, self._ref).decode()
        for line in listing.splitlines():
            sha, _, ref = line.partition("\t")
            if ref == self._ref:
                return sha
        listing = self._git.ask_remote(deadline, "ls-remote", "--heads", self.remote.url).decode()
        there = [line.partition("\trefs/heads/")[2] for line in listing.splitlines()]
        raise SourceError(
            f"there is no branch {self.branch!r}",
            where=self.remote.url,
            remedy=f"set `branch` to one of: {', '.join(there[:10])}" if there else "push a first commit",
        )

    def _local_head(self, deadline: Deadline) -> str:
        """The mirror's commit, `` if it has none whose objects are there."""
        return self._commit_id(deadline, self._ref)

    def _fetch(self, deadline: Deadline, lock: int, refspec: str) -> None:
        for stale in self._stale_locks():
            stale.unlink(missing_ok=True)
        arguments = ("fetch", "--quiet", "--no-tags", "--no-write-fetch-head", "--no-recurse-submodules")
        self._git.ask_remote(deadline, *arguments, self.remote.url, refspec, keep=(lock,))

    def _stale_locks(self) -> Iterator[Path]:
        """Lock files of a git that was killed: while we hold our lock, no other git writes here."""
        yield from self._directory.glob("*.lock")
        yield from (self._directory / "refs").rglob("*.lock")

    @contextmanager
    def _locked(self, deadline: Deadline) -> Iterator[int]:
        """Hold the mirror's lock; yields its descriptor. git inherits it, so that an orphaned git still holds it."""
        try:
            descriptor = os.open(
                self._directory.with_name(f"{self._directory.name}.lock"), os.O_RDWR | os.O_CREAT, 0o600
            )
        except OSError as problem:
            raise SourceError(f"the mirror cannot be locked: {problem.strerror}", where=str(self._directory)) from None
        try:
            while not _try_lock(descriptor):
                if not deadline.left():
                    raise timed_out(self.remote.url, deadline.seconds, "waiting for another fetch")
                time.sleep(_LOCK_POLL)
            yield descriptor
        finally:
            os.close(descriptor)

    def git(self, over: Mapping[str, str] | None = None) -> GitCommand:
        """git on the mirror, for reading; with `over`, variables that win over all others."""
        return self._git if over is None else GitCommand(self._directory, self.remote, over)

    # --- Read -------------------------------------------------------------------------------------------------------

    def commits(self, deadline: Deadline, since: str | None, head: str, limit: int | None) -> Sequence[Commit] | None:
        """See ports.Source.commits."""
        if since is not None and not self._is_ancestor(deadline, since, head):
            return None
        wanted = [f"--max-count={limit or 1}", head] if since is None else [head, f"^{since}"]
        shape = f"--format=tformat:{'%x00'.join(_FIELDS)}"
        out = self._git.run(deadline, "log", "-z", "--first-parent", "--reverse", shape, *wanted, "--")
        fields = out.decode(errors="replace").split("\0")
        rows = zip(*[iter(fields)] * len(_FIELDS), strict=False)
        found = [_commit(*row) for row in rows]
        return found if since is None else found[:limit]

    def _is_ancestor(self, deadline: Deadline, since: str, head: str) -> bool:
        self._require_commit(deadline, head)
        answer = self._git.try_run(deadline, "merge-base", "--is-ancestor", since, head)
        if answer.status > 1 and self._has_commit(deadline, since):
            raise mirror_error(answer.err, self._directory)
        return answer.status == 0

    def _has_commit(self, deadline: Deadline, sha: str) -> bool:
        return bool(self._commit_id(deadline, sha))

    def _require_commit(self, deadline: Deadline, sha: str) -> None:
        if not self._has_commit(deadline, sha):
            raise SourceError(f"commit {sha[:12]} is not in the mirror", where=self.remote.url, remedy="run sync")

    def tree(self, deadline: Deadline, commit: str, path: str) -> bytes | None:
        """`git ls-tree -r -l -z` of a directory (`` for the whole tree); None when it is no directory there."""
        answer = self._git.try_run(deadline, "ls-tree", "-r", "-l", "-z", f"{commit}^{{commit}}:{path}")
        if answer.status == 0:
            return answer.out
        self._require_commit(deadline, commit)
        kind = self._git.try_run(deadline, "cat-file", "-t", f"{commit}:{path}")
        if kind.status != 0 or kind.out.strip() != b"tree":
            return None
        raise mirror_error(answer.err, self._directory)

    def brought_by(self, deadline: Deadline, since: str | None, commit: str) -> list[str]:
        """`commit` last, before it what it brings: see ports.Source.signatures."""
        self._require_commit(deadline, commit)
        if since is None or not self._has_commit(deadline, since):
            return [commit]
        listing = self._git.run(deadline, "rev-list", "--topo-order", "--reverse", commit, f"^{since}", "--")
        return listing.decode().split() or [commit]

    def contents(self, deadline: Deadline, objects: Sequence[str], kind: str = "blob") -> list[bytes]:
        """The contents of objects of one kind, in the same order, read by one process; by none when there are none."""
        if not objects:
            return []
        out = self._git.run(
            deadline, "cat-file", "--batch", "--buffer", given="".join(f"{name}\n" for name in objects).encode()
        )
        found, start = [], 0
        for name in objects:
            end = out.index(b"\n", start)
            header = out[start:end].decode(errors="replace").split()
            if header[1:2] != [kind]:
                raise mirror_error(f"fatal: {kind} {name} is missing", self._directory)
            start = end + 1 + int(header[2]) + 1
            found.append(out[end + 1 : start - 1])
        return found

    def leads_to_directory(self, deadline: Deadline, commit: str, links: Sequence[str]) -> list[bool]:
        """For each symbolic link (path from the repository's root): does it end at a directory of the commit?"""
        if not links:
            return []
        given = "".join(f"{commit}:{link}\n" for link in links).encode()
        out = self._git.run(deadline, "cat-file", "--batch-check", "--follow-symlinks", given=given)
        answers = []
        while out:
            header, _, out = out.partition(b"\n")
            words = header.split()
            if words[0] in (b"dangling", b"symlink", b"loop", b"notdir"):
                out = out[int(words[1]) + 1 :]  # the target's name follows on a line of its own
            answers.append(words[1:2] == [b"tree"])
        return answers


def _try_lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _commit(sha: str, parents: str, *about: str) -> Commit:
    author, author_email, authored, committer, committer_email, committed, message = about
    return Commit(
        sha=sha,
        parent=parents.split()[0] if parents else None,
        author=author,
        author_email=author_email,
        authored_at=utc(authored),
        committer=committer,
        committer_email=committer_email,
        committed_at=utc(committed),
        message=message.rstrip("\n"),
    )


def utc(seconds: str) -> str:
    """Unix seconds as UTC text. A time that no calendar has becomes 1970, as in git itself."""
    try:
        time_ = datetime.fromtimestamp(int(seconds), UTC)
    except (ValueError, OverflowError, OSError):
        time_ = datetime.fromtimestamp(0, UTC)
    return time_.strftime("%Y-%m-%dT%H:%M:%SZ")
