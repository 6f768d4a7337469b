"""A Source in memory: the commits and their files are given. For `simulate`."""

from __future__ import annotations

from collections.abc import Sequence

from reconciler.errors import SourceError, UsageError
from reconciler.ports import Commit, ManifestFile, Proposal, Signature


class MemorySource:
    """ports.Source over `history`: commits, oldest first, each with its considered files."""

    def __init__(self, history: Sequence[tuple[Commit, Sequence[ManifestFile]]]) -> None:
        self.history = list(history)

    async def head(self) -> str:
        if not self.history:
            raise SourceError("there is no commit", where="repository in memory")
        return self.history[-1][0].sha

    async def commits(self, since: str | None, head: str, *, limit: int | None = None) -> Sequence[Commit] | None:
        found = [commit for commit, _ in self.history]
        names = [commit.sha for commit in found]
        end = names.index(head) + 1
        if since is None:
            return found[max(0, end - (limit or 1)) : end]
        begin = next((number for number, commit in enumerate(found) if commit.parent == since), None)
        if since in names:
            begin = names.index(since) + 1
        return None if begin is None else found[begin:end][:limit]

    async def manifests(self, commit: str) -> Sequence[ManifestFile]:
        return next(files for found, files in self.history if found.sha == commit)

    async def revision(self, name: str) -> str:
        found = [commit.sha for commit, _ in self.history if commit.sha.startswith(name)]
        if len(found) != 1:
            raise UsageError(f"{name} names no commit", where="repository in memory")
        return found[0]

    async def push(self, branch: str, proposal: Proposal) -> str:
        """There is no remote to push to."""
        del proposal
        raise SourceError(f"branch {branch} cannot be pushed", where="repository in memory")

    async def keys(self) -> str:
        return ""

    async def signatures(self, since: str | None, commit: str) -> Sequence[Signature]:
        """Nobody signs here."""
        del since
        return [Signature(commit, "unsigned")]
