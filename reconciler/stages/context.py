"""What a pass over one fleet works with: its settings, the ports, and caches that outlive the pass."""

from __future__ import annotations

import json
import uuid
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, TypeVar

from reconciler.errors import StoreError, WrongExpectation
from reconciler.events.catalogue import Event
from reconciler.events.codec import plain
from reconciler.events.envelope import Actor, NewEvent, StoredEvent, event_id, stream_of
from reconciler.ports import (
    Blobs,
    Clock,
    Cluster,
    Drainer,
    EventLog,
    Leases,
    ReadModel,
    Redaction,
    Runner,
    Snapshot,
    Source,
)
from reconciler.projections.desired import Version, blobs_of
from reconciler.registries.model import Location, Resource, canonical_json, digest
from reconciler.rollout.bases import ParsedFile

T = TypeVar("T")
ATTEMPTS = 20
"""How often a decision is made anew because somebody else appended first."""

CACHE_BYTES = 256 * 1024 * 1024
CACHE_RESOURCES = 20_000

EPOCH = 1
"""The first fence epoch: epochs order copies of a log, positions order steps within one (see stages/restores.py)."""


@dataclass(frozen=True)
class FleetSettings:
    """One fleet as configured. `url` is without credentials: it is recorded."""

    name: str
    url: str
    branch: str
    path: str
    validation: Literal["default", "strict"] = "default"
    verify: Literal["none", "warn", "required"] = "none"
    node_selector: str = ""
    """Label selector of the nodes that are discovered in the fleet's cluster; empty: all."""
    helper_image: str = ""
    """The image of the pods by which nodes of the cluster are reached."""


@dataclass(frozen=True)
class Progress:
    """Where a pass is, for people who wait: `done` of `total` nodes, and what was just found or done.

    `wave` is the rollout's latest, such as `canary` or `wave 3`; `passing`: the message says what is waited for, and
    the next one of the stage replaces it.
    """

    stage: str
    message: str
    done: int = 0
    total: int = 0
    wave: str = ""
    passing: bool = False


def _silent(progress: Progress) -> None:
    """Nobody waits."""


@dataclass
class Context:
    """The ports of one fleet. `owner` is this process's lease name, `actor` whom its events are recorded as."""

    fleet: FleetSettings
    source: Source
    log: EventLog
    blobs: Blobs
    reads: ReadModel
    leases: Leases
    runner: Runner
    clock: Clock
    actor: Actor
    owner: str
    tool_version: str
    progress: Callable[[Progress], None] = _silent
    retry_now: bool = False
    """A person asks: nodes that failed are tried at once, not after their back-off."""
    stopping: bool = False
    """The process is about to end: steps in hand are finished, no other is begun."""
    as_of: int | None = None
    """Set where the ports end at this position (`stages.past`): what is no part of the log is not there."""
    drainers: Mapping[str, Drainer] = field(default_factory=dict)
    """By what spec.drain.via names."""
    lacking: Mapping[str, str] = field(default_factory=dict)
    """What spec.drain.via may name and cannot be used here, and why."""
    cluster: Cluster | None = None
    parsed: dict[tuple[str, str], ParsedFile] = field(default_factory=dict)
    contents: dict[str, bytes] = field(default_factory=dict)
    resources: dict[str, Resource] = field(default_factory=dict)
    judged: dict[str, tuple[Mapping[str, object], ...]] = field(default_factory=dict)
    """What the files beside ours were found to shadow, by the digest of all that decides it."""
    asked_at: int = -1
    """Position of the log at which it was last judged whose images to ask for."""
    unsent: set[str] = field(default_factory=set)
    """Hashes of files whose bytes nodes keep to themselves, or that were redacted."""

    @property
    def name(self) -> str:
        return self.fleet.name

    def trim(self) -> None:
        """Bound the caches; what is needed is read again."""
        if sum(map(len, self.contents.values())) > CACHE_BYTES:
            self.contents.clear()
        if len(self.resources) > CACHE_RESOURCES:
            self.resources.clear()
        if len(self.judged) > CACHE_RESOURCES:
            self.judged.clear()

    async def snapshot(self, at: int | None = None) -> Snapshot:
        return await self.reads.snapshot(self.name, at)

    def events(
        self,
        snapshot: Snapshot,
        bodies: Sequence[Event],
        *,
        correlation: str | None = None,
        causation: str | None = None,
    ) -> list[NewEvent]:
        """Envelopes for `bodies`. Without a given root cause the first event is the root of the others."""
        result: list[NewEvent] = []
        for body in bodies:
            stream = stream_of(self.name, body)
            identity = event_id(stream, snapshot.version(stream), body.type, digest(plain(body.as_data())))
            root = uuid.UUID(correlation) if correlation else (result[0].event_id if result else identity)
            cause = uuid.UUID(causation) if causation else (None if root == identity else root)
            result.append(NewEvent(identity, self.name, stream, body, self.actor, root, cause))
        return result

    async def append(
        self, events: Sequence[NewEvent], snapshot: Snapshot, streams: Iterable[str] = ()
    ) -> Sequence[StoredEvent]:
        """Append one group, expecting `streams` where `snapshot` saw them."""
        if not events:
            return ()
        return await self.log.append(events, {stream: snapshot.version(stream) for stream in streams})

    async def keep(self, contents: Iterable[bytes]) -> Sequence[str]:
        """Store blobs and remember their bytes for this pass."""
        found = list(contents)
        digests = await self.blobs.put(found)
        self.contents.update(zip(digests, found, strict=True))
        return digests

    async def load(self, digests: Iterable[str]) -> Mapping[str, bytes]:
        """Blobs by digest, all missing ones in one query."""
        missing = {name for name in digests if name not in self.contents}
        if missing:
            self.contents.update(await self.blobs.get(sorted(missing)))
        return self.contents

    async def gone(self, digests: Iterable[str]) -> Mapping[str, Redaction]:
        """Those that were redacted, of what this pass does not remember."""
        wanted = set(digests) - self.contents.keys()
        return await self.blobs.redacted(wanted) if wanted else {}

    async def load_file_set(self, digest: str) -> FileSet:
        """The file set that a blob is."""
        return decode_file_set((await self.load([digest]))[digest])

    async def load_past(self, digests: Iterable[str]) -> Mapping[str, bytes]:
        """The same of what is only shown: in place of what was redacted stands when and why."""
        wanted = set(digests)
        gone = await self.gone(wanted)
        said = {name: f"(redacted at #{why.position}: {why.reason})\n".encode() for name, why in gone.items()}
        found = await self.load(wanted - gone.keys())
        return {**{name: found[name] for name in wanted - gone.keys()}, **said}

    async def load_resources(self, versions: Iterable[Version]) -> dict[Version, Resource]:
        """Versions of resources as the renderer wants them; each content is decoded once."""
        wanted = list(versions)
        await self.load(name for version in wanted for name in blobs_of(version))
        return {version: self._resource(version) for version in wanted}

    async def known_resources(self, versions: Iterable[Version]) -> dict[Version, Resource]:
        """The same without those of which something was redacted: no version that is wanted now is one."""
        wanted = list(versions)
        gone = await self.gone(name for version in wanted for name in blobs_of(version))
        return await self.load_resources(v for v in wanted if gone.keys().isdisjoint(blobs_of(v)))

    def _resource(self, version: Version) -> Resource:
        key = digest([version.resource, version.content, version.text, version.file, version.line])
        if key not in self.resources:
            directory, _, kind_and_name = version.resource.rpartition(":")
            kind, _, name = kind_and_name.partition("/")
            self.resources[key] = Resource(
                directory or ".",
                kind,
                name,
                json.loads(self.contents[version.content]),
                Location(version.file, version.line),
                json.loads(self.contents[version.lines]),
                self.contents[version.text].decode(),
            )
        return self.resources[key]


@dataclass(frozen=True)
class FileEntry:
    """One file of a file set."""

    path: str
    mode: int
    sha256: str


@dataclass(frozen=True)
class FileSet:
    """A file set, as the blob that `files` digests in events name."""

    entries: tuple[FileEntry, ...]

    @property
    def by_path(self) -> Mapping[str, FileEntry]:
        return {entry.path: entry for entry in self.entries}

    def encode(self) -> bytes:
        files = [{"path": e.path, "mode": e.mode, "sha256": e.sha256} for e in self.entries]
        return canonical_json({"files": files}).encode()


def decode_file_set(blob: bytes) -> FileSet:
    """The inverse of FileSet.encode. Raises StoreError when the blob is no file set."""
    try:
        files: Any = json.loads(blob)["files"]
        return FileSet(tuple(FileEntry(item["path"], int(item["mode"]), item["sha256"]) for item in files))
    except (ValueError, KeyError, TypeError) as error:
        raise StoreError("a blob that should be a file set is not one", remedy="run `reconciler log verify`") from error


async def anew(attempt: Callable[[], Awaitable[T]]) -> T:
    """Run `attempt`; when another replica appended first, let it read again and decide anew."""
    for _ in range(ATTEMPTS - 1):
        try:
            return await attempt()
        except WrongExpectation:
            continue
    return await attempt()
