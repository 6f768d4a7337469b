"""The Source of a fleet: a branch and a path of a Git repository."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from operator import attrgetter
from pathlib import Path

from reconciler.errors import InputRejected, UsageError
from reconciler.ports import Commit, ManifestFile, Proposal, Signature
from reconciler.source.command import Deadline, Remote
from reconciler.source.keyring import KeyFiles
from reconciler.source.mirror import Mirror
from reconciler.source.publish import publish
from reconciler.source.selection import (
    Entry,
    Ignored,
    candidates,
    content_refusal,
    is_ignore_line,
    parse_line,
    refusal,
    relative_path,
)
from reconciler.source.signatures import Verifier

_BAD_BRANCH = re.compile(r"^-|^/|/$|//|\.\.|@\{|\.lock$|[\x00-\x20\x7f~^:?*\[\\]")


def check_branch(name: str) -> None:
    """Raises UsageError for what cannot be the name of a branch."""
    if not name or _BAD_BRANCH.search(name):
        raise UsageError(f"{name!r} cannot be the name of a branch", where="branch")


@dataclass(frozen=True, slots=True)
class _Seen:
    """What the tree read last came to, by which the next one is read: of an unchanged line nothing is asked again.

    `patterns` are the lines of the ignore files, which `ignored` speaks for; those in `unusable` are refused. `files`
    has the file of each other line of the listing, None for what is not considered.
    """

    patterns: list[bytes] = field(default_factory=list)
    ignored: Ignored = field(default_factory=lambda: Ignored({}))
    unusable: Sequence[ManifestFile] = ()
    files: Mapping[bytes, ManifestFile | None] = field(default_factory=dict)


class GitSource:
    """Implements ports.Source. git runs in threads; no call takes longer than `timeout` seconds, and none asks."""

    def __init__(
        self, url: str, branch: str, path: str, mirror_dir: Path, timeout: float, key_files: KeyFiles | None = None
    ) -> None:
        """`url`: see Remote.parse. `path`: a directory in the repository. `mirror_dir`: the bare mirror, made when
        needed; its lock stands beside it. `key_files`: who may sign; None: nobody is known. Raises UsageError."""
        check_branch(branch)
        self._path = relative_path(path)
        self._timeout = timeout
        self._mirror = Mirror(Remote.parse(url), branch, mirror_dir.absolute())
        self._verifier = Verifier(self._mirror, key_files or KeyFiles())
        self._seen = _Seen()

    async def head(self) -> str:
        """See ports.Source. Keys that cannot be used are a SourceError too: no commit could be judged."""
        return await asyncio.to_thread(self._head, self._deadline())

    async def commits(self, since: str | None, head: str, *, limit: int | None = None) -> Sequence[Commit] | None:
        """See ports.Source. With `since`, `limit` keeps the oldest."""
        return await asyncio.to_thread(self._mirror.commits, self._deadline(), since, head, limit)

    async def push(self, branch: str, proposal: Proposal) -> str:
        """See ports.Source."""
        if not branch or _BAD_BRANCH.search(branch):
            raise UsageError(f"{branch!r} cannot be the name of a branch", where="branch")
        if branch == self._mirror.branch:
            remedy = "name another one, and have it reviewed and merged"
            raise UsageError(f"{branch} is the branch that the fleet follows", where="branch", remedy=remedy)
        return await asyncio.to_thread(publish, self._mirror, self._deadline(), branch, proposal, self._path)

    async def revision(self, name: str) -> str:
        """See ports.Source."""
        if not name or _BAD_BRANCH.search(name):
            raise UsageError(f"{name!r} cannot be the name of a branch or commit", where="revision")
        return await asyncio.to_thread(self._mirror.revision, self._deadline(), name)

    async def manifests(self, commit: str) -> Sequence[ManifestFile]:
        """See ports.Source. `.reconcilerignore` files that cannot be read are in the answer, refused."""
        return await asyncio.to_thread(self._manifests, self._deadline(), commit)

    async def keys(self) -> str:
        """See ports.Source."""
        return (await asyncio.to_thread(self._verifier.keys, self._deadline())).digest

    async def signatures(self, since: str | None, commit: str) -> Sequence[Signature]:
        """See ports.Source."""
        return await asyncio.to_thread(self._verifier.signatures, self._deadline(), since, commit)

    def _deadline(self) -> Deadline:
        return Deadline(self._timeout)

    def _head(self, deadline: Deadline) -> str:
        self._verifier.keys(deadline)
        return self._mirror.refresh(deadline)

    def _manifests(self, deadline: Deadline, commit: str) -> Sequence[ManifestFile]:
        listing = self._mirror.tree(deadline, commit, self._path)
        if listing is None:
            raise InputRejected(
                f"there is no directory {self._path!r} in commit {commit[:12]}",
                where=self._mirror.remote.url,
                remedy="put it back, or set `path` of the fleet",
            )
        lines = [line for line in listing.split(b"\0") if line]
        patterns = [line for line in lines if is_ignore_line(line)]
        seen = self._seen if self._seen.patterns == patterns else self._ignored(deadline, patterns)
        fresh = {line: parse_line(line) for line in lines if line not in seen.files}
        wanted = [entry for entry in candidates(fresh.values()) if not seen.ignored(entry)]
        harmless = self._harmless_links(deadline, commit, wanted)
        read = self._read(deadline, [entry for entry in wanted if entry not in harmless])
        found = {(file.path, file.blob): file for file in read}
        new = {line: found.get((entry.path, entry.blob)) for line, entry in fresh.items()}
        files = {line: new[line] if line in new else seen.files[line] for line in lines}
        # What a link leads to may change while its own line stays.
        lasting = {line: file for line, file in files.items() if line not in fresh or not fresh[line].is_other_link}
        self._seen = replace(seen, files=lasting)
        return sorted([*seen.unusable, *filter(None, files.values())], key=attrgetter("path"))

    def _read(self, deadline: Deadline, entries: Sequence[Entry]) -> list[ManifestFile]:
        readable = [entry for entry in entries if not refusal(entry)]
        contents = self._mirror.contents(deadline, [entry.blob for entry in readable])
        files = [ManifestFile(entry.path, entry.blob, b"", refusal(entry)) for entry in entries if refusal(entry)]
        for entry, data in zip(readable, contents, strict=True):
            why = content_refusal(data)
            files.append(ManifestFile(entry.path, entry.blob, b"" if why else data, why))
        return files

    def _ignored(self, deadline: Deadline, patterns: list[bytes]) -> _Seen:
        """The patterns in force, and the ignore files that cannot be used."""
        usable: dict[str, bytes] = {}
        refused = []
        for file in self._read(deadline, [parse_line(line) for line in patterns]):
            why = file.refused
            if not why:
                try:
                    Ignored({file.path: file.data})
                except ValueError as problem:
                    why = f"cannot be read: {problem}"
            if why:
                refused.append(ManifestFile(file.path, file.blob, b"", why))
            else:
                usable[file.path] = file.data
        return _Seen(patterns, Ignored(usable), refused)

    def _harmless_links(self, deadline: Deadline, commit: str, entries: Sequence[Entry]) -> set[Entry]:
        """Symbolic links behind which nothing would be missed."""
        links = [entry for entry in entries if entry.is_other_link]
        prefix = f"{self._path}/" if self._path else ""
        leads = self._mirror.leads_to_directory(deadline, commit, [prefix + entry.path for entry in links])
        return {link for link, directory in zip(links, leads, strict=True) if not directory}
