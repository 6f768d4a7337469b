"""A new Git repository from a directory's content: what `init --example` and the demo begin with."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

from reconciler.errors import ReconcilerError, UsageError

_NOBODY = {
    "GIT_AUTHOR_NAME": "reconciler",
    "GIT_AUTHOR_EMAIL": "reconciler@localhost",
    "GIT_COMMITTER_NAME": "reconciler",
    "GIT_COMMITTER_EMAIL": "reconciler@localhost",
}
"""Who commits where git knows no name for the user."""

_ELSEWHERE = ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_COMMON_DIR", "GIT_OBJECT_DIRECTORY", "GIT_PREFIX")
"""Variables that Git sets for its hooks, and that would lead every command to the hook's repository."""


def create_repository(directory: Path, content: Path, branch: str = "main") -> str:
    """Copy `content` to `directory` and commit it; the commit's id. Raises UsageError when something is there."""
    if directory.exists():
        raise UsageError("is there already", where=str(directory), remedy="remove it, or choose another directory")
    try:
        shutil.copytree(content, directory)
    except OSError as error:
        raise UsageError(f"cannot be written: {error.strerror}", where=str(directory)) from None
    return commit_all(directory, branch, "Begin with the example fleet")


def commit_all(directory: Path, branch: str, message: str) -> str:
    """Make a repository of a directory and commit what is in it; the commit's id. Raises ReconcilerError."""
    git(directory, "init", "--quiet", f"--initial-branch={branch}")
    git(directory, "add", "--all")
    git(directory, "commit", "--quiet", "--message", message)
    return git(directory, "rev-parse", "HEAD")


def git(directory: Path, *arguments: str) -> str:
    """What git prints. Raises ReconcilerError with git's own words."""
    here = {name: value for name, value in os.environ.items() if name not in _ELSEWHERE}
    try:
        known = subprocess.run(
            ["git", "config", "user.email"], cwd=directory, env=here, capture_output=True, check=False
        )
        environment = here | ({} if known.returncode == 0 else _NOBODY)
        done = subprocess.run(
            ["git", *arguments], cwd=directory, env=environment, capture_output=True, text=True, check=False
        )
    except FileNotFoundError:
        raise ReconcilerError("the git program is not there", remedy="install git, or put it on PATH") from None
    if done.returncode != 0:
        raise ReconcilerError(f"git {arguments[0]} failed: {done.stderr.strip()}", where=str(directory))
    return done.stdout.strip()
