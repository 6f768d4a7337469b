"""A fleet of local nodes with a settings file, driven through the real program as a user would."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from reconciler.cli import main
from reconciler.errors import StoreError
from reconciler.store.embedded import EmbeddedPostgres
from reconciler.transport.sandbox import LocalNode, local_node
from tests.world import IMAGE, POOL, Repository, node_document

REGISTRIES_CONF = "etc/containers/registries.conf"


@dataclass
class Doors:
    """`settings` names the embedded PostgreSQL in `directory`/data and the repository."""

    directory: Path
    repository: Repository
    nodes: list[LocalNode]
    settings: Path
    url: str = ""
    """Of the database."""

    def run(self, *arguments: str, code: int = 0) -> Result:
        """What the program prints; it must end with `code`. In this process: starting one takes a while."""
        result = CliRunner().invoke(main, ["--config", str(self.settings), *arguments])
        assert result.exit_code == code, f"{arguments}: {result.exit_code}\n{result.output}"
        return result

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        """The program as a process of its own."""
        command = [sys.executable, "-m", "reconciler", "--config", str(self.settings), *arguments]
        return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    def data(self, *arguments: str, code: int = 0) -> Any:
        return json.loads(self.run(*arguments, "-o", "json", code=code).stdout)

    def items(self, *arguments: str) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self.data(*arguments)["items"]
        return found

    def block(self, registry: str) -> str:
        """Commit that this registry, and no other, is blocked; the commit's id."""
        image = IMAGE.replace("untrusted.example.com", registry)
        return self.repository.commit({"image.yaml": image}, f"Block {registry}")

    def file(self, node: LocalNode, path: str = REGISTRIES_CONF) -> Path:
        return node.root / path


@contextmanager
def doors(directory: Path, monkeypatch: pytest.MonkeyPatch, count: int = 2) -> Iterator[Doors]:
    """A fleet whose first commit is there and nothing done yet. PostgreSQL runs while the block lasts."""
    for name in [name for name in os.environ if name.startswith(("RECONCILER_", "DATABASE_URL"))]:
        monkeypatch.delenv(name)
    nodes = [local_node(directory / "nodes", f"worker-{number}") for number in range(1, count + 1)]
    repository = Repository(directory / "config")
    documents = [node_document(node.name, f"{{transport: local, root: {node.root}}}") for node in nodes]
    files = {f"{node.name}.yaml": text for node, text in zip(nodes, documents, strict=True)}
    repository.commit({"pool.yaml": POOL, "image.yaml": IMAGE, **files}, "Begin")
    settings = directory / "reconciler.toml"
    settings.write_text(f'data_dir = "data"\n[fleets.default]\nurl = "{repository.directory}"\ninterval = "1s"\n')
    with _postgres(directory / "data") as url:
        yield Doors(directory, repository, nodes, settings, url)


@contextmanager
def _postgres(data_dir: Path) -> Iterator[str]:
    """The server that the program would start itself, kept up so that each verb need not."""
    embedded = EmbeddedPostgres(data_dir, for_tests=True)
    try:
        embedded.start()
    except StoreError as error:
        pytest.skip(f"no PostgreSQL: {error}")
    with embedded:
        yield embedded.url
