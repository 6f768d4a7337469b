"""A whole fleet for tests: a real Git repository, a log, nodes, and the context that passes run with."""

from __future__ import annotations

import asyncio
import hashlib
import subprocess
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from textwrap import dedent

import yaml
from sqlalchemy.ext.asyncio import AsyncEngine

from reconciler import commands
from reconciler.cycle import Pass, run_pass
from reconciler.errors import SourceError
from reconciler.events.envelope import Actor
from reconciler.ports import (
    Blobs,
    Clock,
    Commit,
    EventFilter,
    EventLog,
    Leases,
    ManifestFile,
    Proposal,
    ReadModel,
    Runner,
    Signature,
    Transport,
)
from reconciler.projections.fold import LogFold
from reconciler.projections.status import FleetStatus, fleet_status
from reconciler.source.git_source import GitSource
from reconciler.stages.context import Context, FleetSettings
from reconciler.store.blobs import PostgresBlobs
from reconciler.store.event_log import PostgresEventLog
from reconciler.store.leases import PostgresLeases
from reconciler.store.memory import MemoryBlobs, MemoryEventLog, MemoryLeases, MemoryReadModel
from reconciler.store.read_model import PostgresReadModel
from reconciler.wiring import SystemClock
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
      requiredImages: [needed.example.com/app:1]
      reachableRegistries: [nowhere.example.com]
"""
"""Its guard is armed, and no commit can turn the image: it could never be pulled."""

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

    async def sleep(self, seconds: float) -> None:
        self.advance(seconds)
        await asyncio.sleep(0)

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


def pool(name: str = "worker", **spec: object) -> str:
    """A NodePool that enforces, with one canary and no soak; `spec` is laid over that."""
    defaults = {"mode": "enforce", "requiredImages": ["needed.example.com/app:1"], "canary": {"nodes": 1, "soak": "0s"}}
    document = {
        "apiVersion": "reconciler.dev/v1alpha1",
        "kind": "NodePool",
        "metadata": {"name": name},
        "spec": {**defaults, **spec},
    }
    return yaml.safe_dump(document)


def node_document(name: str, spec: str, label: str = "node-role.kubernetes.io/worker") -> str:
    """The Node document of a worker, or of a node with another label. `spec` is in YAML flow style."""
    return f"""
        apiVersion: reconciler.dev/v1alpha1
        kind: Node
        metadata: {{name: {name}, labels: {{{label}: ""}}}}
        spec: {spec}
    """


def site(name: str, nodes: int = 2) -> dict[str, str]:
    """A pool that takes the top and `sites/NAME`, and its memory nodes NAME-1, NAME-2, ..."""
    pool = f"""
        apiVersion: reconciler.dev/v1alpha1
        kind: NodePool
        metadata: {{name: {name}}}
        spec:
          mode: enforce
          nodeSelector: {{matchLabels: {{{name}: ""}}}}
          paths: [".", sites/{name}]
          maxParallel: 50
          canary: {{nodes: 1, soak: 0s}}
          requiredImages: [needed.example.com/app:1]
          reachableRegistries: [nowhere.example.com]
    """
    documents = [pool, *(node_document(f"{name}-{number + 1}", "{transport: memory}", name) for number in range(nodes))]
    return {f"inventory/{name}.yaml": "---".join(map(dedent, documents))}


def image(**sources: Sequence[str]) -> str:
    """The Image with these registrySources."""
    spec = {"registrySources": {name: list(entries) for name, entries in sources.items()}}
    document = {"apiVersion": "config.openshift.io/v1", "kind": "Image", "metadata": {"name": "cluster"}, "spec": spec}
    return yaml.safe_dump(document)


def mirrors(name: str, source: str, mirror: str) -> str:
    """An ImageDigestMirrorSet with one row."""
    return f"""
        apiVersion: config.openshift.io/v1
        kind: ImageDigestMirrorSet
        metadata: {{name: {name}}}
        spec: {{imageDigestMirrors: [{{source: {source}, mirrors: [{mirror}]}}]}}
    """


def memory_nodes(names: Sequence[str]) -> dict[str, str]:
    """nodes.yaml with memory nodes."""
    return {"nodes.yaml": "---".join(dedent(node_document(name, "{transport: memory}")) for name in names)}


@dataclass
class ScriptedSource:
    """A repository in memory, for tests that make many commits. `gone`: it cannot be reached. `unsigned`: numbers of
    commits that nobody signed; the others Alice did."""

    history: list[tuple[Commit, Mapping[str, str]]] = field(default_factory=list)
    gone: bool = False
    unsigned: set[int] = field(default_factory=set)

    def commit(self, changed: Mapping[str, str | None]) -> None:
        """The files of the last commit with these written (None: removed)."""
        parent, files = self.history[-1] if self.history else (None, {})
        files = {name: text for name, text in {**files, **changed}.items() if text is not None}
        number = len(self.history)
        sha, day = hashlib.sha1(f"{number}".encode(), usedforsecurity=False).hexdigest(), "2026-01-01T00:00:00Z"
        who = ("Alice", "alice@example.com", day)
        self.history.append((Commit(sha, parent.sha if parent else None, *who, *who, f"Commit {number}"), files))

    async def head(self) -> str:
        if self.gone:
            raise SourceError("cannot be reached", where="repository")
        return self.history[-1][0].sha

    async def commits(self, since: str | None, head: str, *, limit: int | None = None) -> Sequence[Commit] | None:
        found = [commit for commit, _ in self.history]
        names = [commit.sha for commit in found]
        end = names.index(head) + 1
        if since is None:
            return found[end - (limit or 1) : end]
        return found[names.index(since) + 1 : end] if since in names else None

    async def push(self, branch: str, proposal: Proposal) -> str:
        raise SourceError(
            f"branch {branch} with {', '.join(sorted(proposal.files))} cannot be pushed", where="repository"
        )

    async def keys(self) -> str:
        return "alice"

    async def signatures(self, since: str | None, commit: str) -> Sequence[Signature]:
        names = [found.sha for found, _ in self.history]
        end = names.index(commit)
        first = names.index(since) + 1 if since in names else end
        return [self._signature(number) for number in range(min(first, end), end + 1)]

    def _signature(self, number: int) -> Signature:
        commit = self.history[number][0]
        about = {"committer": commit.committer_email, "committed_at": commit.committed_at}
        if number in self.unsigned:
            return Signature(commit.sha, "unsigned", **about)
        return Signature(commit.sha, "good", "ssh", commit.committer_email, "SHA256:scripted", **about)

    async def revision(self, name: str) -> str:
        return next(commit.sha for commit, _ in self.history if commit.sha.startswith(name))

    async def manifests(self, commit: str) -> Sequence[ManifestFile]:
        files = next(files for found, files in self.history if found.sha == commit)
        blobs = {name: dedent(text).encode() for name, text in sorted(files.items())}
        return [ManifestFile(name, hashlib.sha256(blob).hexdigest(), blob) for name, blob in blobs.items()]


@dataclass
class World:
    """One fleet: its repository, and the context that passes run with. `context.source` may be replaced."""

    repository: Repository
    context: Context
    clock: Clock
    log: EventLog
    reads: ReadModel

    async def run(self, *, recheck: bool = False) -> Pass:
        return await run_pass(self.context, recheck=recheck)

    async def sync(self, within: float = 60.0) -> FleetStatus:
        """What `sync --wait` does."""
        return (await commands.sync(self.context, wait=True, within=within))[1]

    async def status(self) -> FleetStatus:
        snapshot = await self.context.snapshot()
        return fleet_status(FLEET, snapshot.rows)

    async def types(self, after: int = 0) -> list[str]:
        return [event.type for event in await self.log.read(EventFilter(after=after))]

    async def head(self) -> int:
        return (await self.context.snapshot()).position


@dataclass
class MemoryWorld(World):
    """A world on a memory log and a clock that only moves when told to."""

    clock: ManualClock
    log: MemoryEventLog
    reads: MemoryReadModel


def make_world(directory: Path, transport: Transport, clock: ManualClock | None = None) -> MemoryWorld:
    """A memory world with an empty repository."""
    clock = clock or ManualClock()
    repository = Repository(directory / "config")
    blobs = MemoryBlobs()
    log = MemoryEventLog(LogFold(), clock, blobs=blobs, tool_version="test")
    reads = MemoryReadModel(log, clock)
    ports = (log, blobs, reads, MemoryLeases(clock), InlineRunner(transport), clock)
    return MemoryWorld(repository, _context(directory, repository, *ports), clock, log, reads)


async def with_images(directory: Path, transport: Transport, *registries: str) -> MemoryWorld:
    """A memory world whose node w1 got IMAGE and then, commit by commit, IMAGE about each of these registries."""
    world = make_world(directory, transport)
    world.repository.commit({"pool.yaml": POOL, "image.yaml": IMAGE, **memory_nodes(["w1"])})
    assert (await world.sync()).exit_code == 0
    for registry in registries:
        world.repository.commit({"image.yaml": IMAGE.replace("untrusted.example.com", registry)})
        assert (await world.sync()).exit_code == 0
    return world


async def make_real_world(directory: Path, transport: Transport, engine: AsyncEngine) -> World:
    """A world on PostgreSQL and the system's clock, with an empty repository."""
    clock = SystemClock()
    repository = Repository(directory / "config")
    fold = LogFold()
    log = await PostgresEventLog.open(engine, fold, tool_version="test")
    reads = PostgresReadModel(engine, fold)
    ports = (log, PostgresBlobs(engine), reads, PostgresLeases(engine), InlineRunner(transport), clock)
    return World(repository, _context(directory, repository, *ports), clock, log, reads)


def _context(
    directory: Path,
    repository: Repository,
    log: EventLog,
    blobs: Blobs,
    reads: ReadModel,
    leases: Leases,
    runner: Runner,
    clock: Clock,
) -> Context:
    url = f"file://{repository.directory}"
    source = GitSource(url, "main", ".", directory / "mirror.git", 30.0)
    settings, actor = FleetSettings(FLEET, url, "main", "."), Actor("login", "alice@test")
    owner = f"test:{uuid.uuid4().hex[:8]}"
    return Context(settings, source, log, blobs, reads, leases, runner, clock, actor, owner, "test")
