"""A commit made in the mirror, without a work tree, and pushed as a new branch."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path

from reconciler.errors import SourceError
from reconciler.ports import Proposal
from reconciler.source.command import Deadline, GitCommand
from reconciler.source.mirror import Mirror

_FILE, _NOBODY = "100644", "0" * 40


def publish(mirror: Mirror, deadline: Deadline, branch: str, proposal: Proposal, path: str) -> str:
    """See ports.Source.push. `path` is the fleet's directory in the repository (`` for its top). Blocking."""
    reference = f"refs/heads/{branch}"
    git = mirror.git()
    if git.ask_remote(deadline, "ls-remote", "--heads", git.remote.url, reference).strip():
        raise SourceError(f"there is a branch {branch!r} already", where=git.remote.url, remedy="name another one")
    with tempfile.TemporaryDirectory(prefix="reconciler-index-") as directory:
        over = {"GIT_INDEX_FILE": str(Path(directory) / "index"), **_who(proposal.author)}
        commit = _commit(mirror.git(over), deadline, proposal, f"{path}/" if path else "")
    git.ask_remote(deadline, "push", "--quiet", git.remote.url, f"{commit}:{reference}")
    return commit


def _who(author: str) -> Mapping[str, str]:
    name, _, host = author.partition("@")
    who = {"NAME": name or "reconciler", "EMAIL": f"{name}@{host or 'localhost'}"}
    return {f"GIT_{role}_{field}": value for role in ("AUTHOR", "COMMITTER") for field, value in who.items()}


def _commit(git: GitCommand, deadline: Deadline, proposal: Proposal, prefix: str) -> str:
    git.run(deadline, "read-tree", proposal.onto)
    lines = []
    for name, content in sorted(proposal.files.items()):
        blob = git.run(deadline, "hash-object", "-w", "--stdin", given=content) if content is not None else b""
        lines.append(f"{_FILE} {blob.decode().strip()}" if blob else f"0 {_NOBODY}")
        lines[-1] += f"\t{prefix}{name}\0"
    git.run(deadline, "update-index", "-z", "--index-info", given="".join(lines).encode())
    tree = git.run(deadline, "write-tree").decode().strip()
    said = git.run(deadline, "commit-tree", tree, "-p", proposal.onto, given=proposal.message.encode())
    return said.decode().strip()
