"""A commit made in the mirror, without a work tree, and pushed as a new branch."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path

from reconciler.errors import SourceError
from reconciler.ports import Proposal
from reconciler.source.command import Deadline, GitCommand
from reconciler.source.mirror import Mirror

_FILE = "100644"


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
    for name, content in sorted(proposal.files.items()):
        if content is None:
            git.run(deadline, "update-index", "--force-remove", "--", prefix + name)
            continue
        blob = git.run(deadline, "hash-object", "-w", "--stdin", given=content).decode().strip()
        git.run(deadline, "update-index", "--add", "--cacheinfo", f"{_FILE},{blob},{prefix}{name}")
    tree = git.run(deadline, "write-tree").decode().strip()
    said = git.run(deadline, "commit-tree", tree, "-p", proposal.onto, given=proposal.message.encode())
    return said.decode().strip()
