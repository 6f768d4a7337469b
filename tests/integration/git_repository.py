"""A real Git repository for tests; nothing of the user's configuration takes part."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

ENVIRONMENT = {
    "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_CONFIG_GLOBAL": os.devnull,
    "GIT_AUTHOR_NAME": "Ada Lovelace",
    "GIT_AUTHOR_EMAIL": "ada@example.com",
    "GIT_COMMITTER_NAME": "Merge Bot",
    "GIT_COMMITTER_EMAIL": "bot@example.com",
    "GIT_AUTHOR_DATE": "2026-01-31T10:00:00+01:00",
    "GIT_COMMITTER_DATE": "2026-01-31T10:05:00+01:00",
}


class GitRepository:
    """A work tree in `directory`; its branch is `main`."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        directory.mkdir(parents=True)
        self.git("init", "--quiet", "--initial-branch=main", "--template=")

    def git(self, *arguments: str, env: dict[str, str] | None = None) -> str:
        done = subprocess.run(
            ["git", *arguments],
            cwd=self.directory,
            env=os.environ | ENVIRONMENT | (env or {}),
            check=True,
            capture_output=True,
            text=True,
        )
        return done.stdout.strip()

    def write(self, path: str, content: str | bytes) -> None:
        file = self.directory / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content.encode() if isinstance(content, str) else content)

    def commit(self, message: str = "change", env: dict[str, str] | None = None, **files: str) -> str:
        """Commit everything in the work tree, `files` (name without .yaml → content) written before."""
        for name, content in files.items():
            self.write(f"{name}.yaml", content)
        self.git("add", "--all")
        self.git("commit", "--quiet", "--allow-empty", "--message", message, env=env)
        return self.git("rev-parse", "HEAD")
