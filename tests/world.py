"""A whole fleet for tests: a real Git repository, a log, nodes, and the context that passes run with."""

from __future__ import annotations

import subprocess
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from textwrap import dedent

from reconciler.cycle import Pass, run_pass
from reconciler.events.envelope import Actor
from reconciler.ports import EventFilter, Transport
from reconciler.projections.fold import LogFold
from reconciler.projections.status import FleetStatus, fleet_status
from reconciler.source.git_source import GitSource
from reconciler.stages.context import Context, FleetSettings
from reconciler.store.memory import MemoryBlobs, MemoryEventLog, MemoryLeases, MemoryReadModel
from reconciler.work.inline import InlineRunner

FLEET = "default"

POOL = """
    apiVersion: reconciler.dev/v1alpha1
    kind: NodePool
    metadata: {name: worker}
    spec:
      mode: enforce
      nodeSelector: {matchLabels: {node-role.kubernetes.io/worker: ""}}
      maxParallel: 50
      canary: {nodes: 1, soak: 0s}
"""

IMAGE = """
    apiVersion: config.openshift.io/v1
    kind: Image
    metadata: {name: cluster}
    spec:
      registrySources:
        blockedRegistries: [untrusted.example.com]
"""


@dataclass
class ManualClock:
    """A clock that only moves when told to; shared by log, leases and planner."""

    moment: datetime = field(default_factory=lambda: datetime(2026, 1, 1, tzinfo=UTC))

    def now(self) -> datetime:
        self.moment += timedelta(milliseconds=1)
        return self.moment

    def advance(self, seconds: float) -> None:
        self.moment += timedelta(seconds=seconds)


class Repository:
    """A config repository to commit to."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        directory.mkdir(parents=True)
        self.git("init", "--quiet", "--initial-branch=main")

    def git(self, *arguments: str) -> str:
        identity = ("-c", "user.name=Alice", "-c", "user.email=alice@example.com", "-c", "commit.gpgsign=false")
        command = ("git", "-C", str(self.directory), *identity, *arguments)
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()

    def commit(self, files: Mapping[str, str | None], message: str = "Change the configuration") -> str:
        """Write (None: delete) files, commit all, return the commit id."""
        for name, text in files.items():
            path = self.directory / name
            if text is None:
                path.unlink()
            else:
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(dedent(text))
        self.git("add", "--all")
        self.git("commit", "--quiet", "--allow-empty", "--message", message)
        return self.git("rev-parse", "HEAD")


def node_document(name: str, spec: str) -> str:
    """A worker's Node document. `spec` is in YAML flow style."""
    return f"""
        apiVersion: reconciler.dev/v1alpha1
        kind: Node
        metadata: {{name: {name}, labels: {{node-role.kubernetes.io/worker: ""}}}}
        spec: {spec}
    """


def memory_nodes(names: Sequence[str]) -> dict[str, str]:
    """nodes.yaml with memory nodes."""
    return {"nodes.yaml": "---".join(dedent(node_document(name, "{transport: memory}")) for name in names)}


@dataclass
class World:
    """One fleet on a memory log. `source` may be replaced, `transport` is where its nodes live."""

    repository: Repository
    context: Context
    clock: ManualClock
    log: MemoryEventLog
    reads: MemoryReadModel

    async def run(self, *, recheck: bool = False) -> Pass:
        return await run_pass(self.context, recheck=recheck)

    async def status(self) -> FleetStatus:
        snapshot = await self.context.snapshot()
        return fleet_status(FLEET, snapshot.rows)

    async def types(self, after: int = 0) -> list[str]:
        return [event.type for event in await self.log.read(EventFilter(after=after))]

    async def head(self) -> int:
        return len(await self.log.read(EventFilter()))


def make_world(directory: Path, transport: Transport, clock: ManualClock | None = None) -> World:
    """A world with an empty repository."""
    clock = clock or ManualClock()
    repository = Repository(directory / "config")
    blobs = MemoryBlobs()
    log = MemoryEventLog(LogFold(), clock, blobs=blobs, tool_version="test")
    reads = MemoryReadModel(log, clock)
    source = GitSource(f"file://{repository.directory}", "main", ".", directory / "mirror.git", 30.0)
    owner = f"test:{uuid.uuid4().hex[:8]}"
    context = Context(
        FleetSettings(FLEET, f"file://{repository.directory}", "main", "."),
        source,
        log,
        blobs,
        reads,
        MemoryLeases(clock),
        InlineRunner(transport),
        clock,
        Actor("login", "alice@test"),
        owner,
        "test",
    )
    return World(repository, context, clock, log, reads)
