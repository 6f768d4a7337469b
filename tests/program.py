"""The program `reconciler` as a user runs it: settings of its own, a real process, its exit code and its words."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from textwrap import dedent
from typing import Any

import yaml
from click.testing import CliRunner

from reconciler.cli import main

ROOT = Path(__file__).parents[1]
COMMAND = (sys.executable, "-c", "from reconciler.cli import main; main()")


@dataclass(frozen=True)
class Done:
    """How a call ended."""

    code: int
    out: str
    err: str

    @property
    def said(self) -> str:
        return self.out + self.err

    @property
    def data(self) -> Any:
        """Standard output of `-o json`."""
        return yaml.safe_load(self.out)


@dataclass
class Program:
    """`reconciler` with one fleet: `url` is its repository. `settings` are further RECONCILER_* variables."""

    directory: Path
    database_url: str
    url: str
    identity: Path | None = None
    settings: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.directory.mkdir(parents=True, exist_ok=True)
        (self.directory / "reconciler.toml").write_text(
            dedent(f"""
                data_dir = "data"
                [fleets.default]
                url = "{self.url}"
                interval = "1s"
                timeout = "20s"
                [ssh]
                known_hosts = "known_hosts"
                config_file = "ssh_config"
                identity_files = {[str(self.identity)] if self.identity else []}
                connect_timeout = "10s"
                [service]
                listen = "127.0.0.1:0"
            """)
        )

    @property
    def database_address(self) -> str:
        """The URL as everybody writes it."""
        return self.database_url.replace("postgresql+psycopg://", "postgresql://")

    @property
    def environment(self) -> dict[str, str]:
        kept = {
            name: value for name, value in os.environ.items() if not name.startswith(("RECONCILER_", "PG", "PYTHON"))
        }
        here = {
            "PYTHONPATH": str(ROOT),
            "HOME": str(self.directory),
            "RECONCILER_CONFIG": str(self.directory / "reconciler.toml"),
            "DATABASE_URL": self.database_address,
        }
        return {**kept, **here, **self.settings}

    def start(self, *arguments: str, **variables: str) -> subprocess.Popen[str]:
        """Begin a call; its output can be read when it has ended."""
        return subprocess.Popen(
            [*COMMAND, *arguments],
            env={**self.environment, **variables},
            cwd=self.directory,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    @contextmanager
    def serving(self, **variables: str) -> Iterator[subprocess.Popen[bytes]]:
        """`serve`, until the end of the block at most. What it says is `self.served`: it never waits for a reader."""
        with (self.directory / "serve.log").open("ab") as log:
            process = subprocess.Popen(
                [*COMMAND, "serve"],
                env={**self.environment, "RECONCILER_LOG__LEVEL": "error", **variables},
                cwd=self.directory,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        try:
            yield process
        finally:
            process.kill()
            process.wait()

    @property
    def served(self) -> str:
        """All that its `serve` has said."""
        return (self.directory / "serve.log").read_text()

    def run(self, *arguments: str, **variables: str) -> Done:
        """A call from begin to end."""
        process = self.start(*arguments, **variables)
        out, err = process.communicate(timeout=100)
        return _checked(Done(process.returncode, out, err))

    def call(self, *arguments: str, **variables: str) -> Done:
        """The same in this process, which saves starting one. Not from within a running event loop."""
        foreign = {name: None for name in os.environ if name not in self.environment}
        result = CliRunner().invoke(main, arguments, env={**foreign, **self.environment, **variables})
        return _checked(Done(result.exit_code, result.stdout, result.stderr))


def _checked(done: Done) -> Done:
    assert "Traceback" not in done.said
    assert "this is a bug" not in done.said
    return done
