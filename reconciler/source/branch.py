"""One file on a branch of a repository: each version is a commit, and the branch only goes forward."""

from __future__ import annotations

import asyncio
from pathlib import Path

from reconciler.errors import SourceError, UsageError
from reconciler.source.command import Deadline, GitCommand, Remote
from reconciler.source.failures import source_error
from reconciler.source.git_source import check_branch

_IDENTITY = {
    f"GIT_{role}_{part}": value
    for role in ("AUTHOR", "COMMITTER")
    for part, value in (("NAME", "reconciler"), ("EMAIL", "reconciler@localhost"))
}


class BranchFile:
    """ports.CheckpointTarget. git runs in threads; no call takes longer than `timeout` seconds, and none asks."""

    def __init__(self, url: str, branch: str, name: str, directory: Path, timeout: float) -> None:
        """`directory`: a bare repository of our own, made when needed. Raises UsageError."""
        check_branch(branch)
        self._remote = Remote.parse(url)
        self._ref, self._file = f"refs/heads/{branch}", name
        self._directory, self._timeout = directory.absolute(), timeout
        self._git = GitCommand(self._directory, self._remote, _IDENTITY)
        self.name = f"{self._remote.url} branch {branch}"

    async def latest(self) -> str | None:
        return await asyncio.to_thread(self._latest, Deadline(self._timeout))

    async def publish(self, text: str, message: str) -> None:
        await asyncio.to_thread(self._publish, Deadline(self._timeout), text, message)

    def _latest(self, deadline: Deadline) -> str | None:
        head = self._fetched(deadline)
        if not head:
            return None
        answer = self._git.try_run(deadline, "cat-file", "blob", f"{head}:{self._file}")
        return answer.out.decode(errors="replace") if answer.status == 0 else None

    def _publish(self, deadline: Deadline, text: str, message: str) -> None:
        """A commit on top of what is there, with everything else that is there; never forced."""
        head = self._fetched(deadline)
        blob = self._said(deadline, "hash-object", "-w", "--stdin", given=text)
        kept = self._said(deadline, "ls-tree", head).splitlines() if head else []
        entries = [line for line in kept if line.partition("\t")[2] != self._file]
        tree = self._said(deadline, "mktree", given="\n".join([*entries, f"100644 blob {blob}\t{self._file}", ""]))
        commit = self._said(deadline, "commit-tree", tree, *(("-p", head) if head else ()), given=message)
        answer = self._git.try_run(deadline, "push", "--quiet", self._remote.url, f"{commit}:{self._ref}")
        if answer.status != 0 and "rejected" in answer.err:
            raise SourceError("the branch moved on, or refuses the commit", where=self.name, remedy="this is retried")
        if answer.status != 0:
            raise source_error(answer.err, self._remote.url)

    def _fetched(self, deadline: Deadline) -> str:
        """The remote's commit, here too; empty where the branch does not exist yet."""
        self._prepare(deadline)
        listing = self._git.ask_remote(deadline, "ls-remote", self._remote.url, self._ref).decode()
        head = next((sha for sha, _, ref in (line.partition("\t") for line in listing.splitlines())), "")
        if head:
            arguments = ("--quiet", "--no-tags", "--no-write-fetch-head", "--depth=1")
            self._git.ask_remote(deadline, "fetch", *arguments, self._remote.url, head)
        return head

    def _prepare(self, deadline: Deadline) -> None:
        if (self._directory / "objects" / "info").is_dir():  # what git init makes last
            return
        try:
            self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as problem:
            raise UsageError(f"cannot be made: {problem.strerror}", where=str(self._directory)) from None
        self._git.run(deadline, "init", "--bare", "--quiet", "--template=", str(self._directory))

    def _said(self, deadline: Deadline, *arguments: str, given: str = "") -> str:
        return self._git.run(deadline, *arguments, given=given.encode()).decode().strip()
