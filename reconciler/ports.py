"""What the core needs from the outside, as protocols; adapters live in source, store, transport and work.

The values that cross a port are plain frozen dataclasses. Every adapter of a port passes the same
conformance class in tests/conformance.
"""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal, Protocol

from reconciler.errors import NodeError
from reconciler.events.envelope import NewEvent, StoredEvent
from reconciler.projections.tables import Key, Row, Table


class Clock(Protocol):
    """Tells the time. Tests and `simulate` give a virtual one."""

    def now(self) -> datetime:
        """The present, timezone-aware, UTC."""
        ...

    async def sleep(self, seconds: float) -> None:
        """Come back after this long."""
        ...


# --- Source ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Commit:
    """A commit of the branch. Times are UTC text (`2026-01-31T09:00:00Z`)."""

    sha: str
    parent: str | None
    author: str
    author_email: str
    authored_at: str
    committer: str
    committer_email: str
    committed_at: str
    message: str

    @property
    def subject(self) -> str:
        return self.message.partition("\n")[0]


@dataclass(frozen=True, slots=True)
class ManifestFile:
    """A considered file at a commit. `path` is relative to the fleet's path; `blob` is Git's blob id.

    `refused` says why it may not be read (symlink, submodule, LFS pointer); `data` is then empty.
    """

    path: str
    blob: str
    data: bytes
    refused: str = ""


class Source(Protocol):
    """One fleet's Git repository: a bare mirror, read at commits. Raises SourceError, never changes the remote."""

    async def head(self) -> str:
        """The branch's commit id at the remote; fetches into the mirror only when it moved."""
        ...

    async def commits(self, since: str | None, head: str, *, limit: int | None = None) -> Sequence[Commit] | None:
        """First-parent commits after `since` up to `head`, oldest first; None when `since` is no ancestor.

        Without `since`: only `head`, or the last `limit` commits.
        """
        ...

    async def revision(self, name: str) -> str:
        """The commit id that a branch of the remote, a full ref (`refs/pull/7/merge`) or a commit (7 digits or more)
        names, fetched when it is not there. Raises UsageError for one that there is not."""
        ...

    async def manifests(self, commit: str) -> Sequence[ManifestFile]:
        """The considered files at a commit, sorted by path. A missing path raises InputRejected."""
        ...


# --- Event log ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class EventFilter:
    """Which events to read; None means any. `after` and `until` are positions (exclusive, inclusive)."""

    fleet: str | None = None
    after: int = 0
    until: int | None = None
    types: Sequence[str] | None = None
    node: str | None = None
    pool: str | None = None
    resource: str | None = None
    commit: str | None = None
    """A commit id or a prefix of at least 7 digits."""
    correlation_id: uuid.UUID | None = None
    since_time: datetime | None = None
    until_time: datetime | None = None
    limit: int | None = None
    newest_first: bool = False


@dataclass(frozen=True, slots=True)
class Verification:
    """What `log verify` found. `problems` name positions or blobs; empty means the log proves itself."""

    events: int
    blobs: int
    head: str
    problems: tuple[str, ...]


class EventLog(Protocol):
    """The append-only log. `log_id` is drawn once per database; nodes are stamped with it."""

    log_id: str

    async def append(self, events: Sequence[NewEvent], expect: Mapping[str, int]) -> Sequence[StoredEvent]:
        """Append all events as one group, or none.

        Raises WrongExpectation when a stream named in `expect` is not at that version. All event ids present
        with equal content: the stored events come back; some present, or other content: EventConflict.
        """
        ...

    async def read(self, wanted: EventFilter) -> Sequence[StoredEvent]: ...

    def follow(self, after: int) -> AsyncIterator[StoredEvent]:
        """Every event after a position, for ever, none missed."""
        ...

    async def verify(self) -> Verification: ...


class Blobs(Protocol):
    """Contents by SHA-256 (hex). Putting twice is harmless."""

    async def put(self, contents: Iterable[bytes]) -> Sequence[str]: ...

    async def get(self, digests: Iterable[str]) -> Mapping[str, bytes]:
        """The contents; raises LogCorrupt when one is missing or does not match its address."""
        ...


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The read tables of one fleet at one position, read at once; `versions` are the streams' at that position."""

    fleet: str
    position: int
    at: datetime | None
    rows: Mapping[str, Mapping[Key, Row]]
    versions: Mapping[str, int]

    def table(self, table: Table) -> Mapping[Key, Row]:
        return self.rows.get(table.name, {})

    def one(self, table: Table, *key: str) -> Row | None:
        return self.table(table).get(key)

    def version(self, stream: str) -> int:
        return self.versions.get(stream, 0)


@dataclass(frozen=True, slots=True)
class Seen:
    """A node's last answer: when, and the runtime's version it told."""

    at: datetime
    runtime: str


class ReadModel(Protocol):
    """The read tables, written in the append's transaction, read as of any position."""

    async def snapshot(self, fleet: str, at: int | None = None, tables: Sequence[Table] | None = None) -> Snapshot:
        """The fleet's rows now, or as of the end of the append group at position `at`."""
        ...

    async def fleets(self) -> Sequence[str]: ...

    async def rebuild(self) -> int:
        """Write the read tables anew from event 1; returns the number of events folded."""
        ...

    async def seen(self, fleet: str) -> Mapping[str, Seen]:
        """When each node last answered, and with which runtime version (no part of the log)."""
        ...

    async def touch(self, fleet: str, runtimes: Mapping[str, str]) -> None:
        """These nodes (name → runtime version) answered just now (database clock)."""
        ...


class Leases(Protocol):
    """Time-limited claims by name, on the database's clock (no part of the log)."""

    async def acquire(self, name: str, owner: str, seconds: int) -> bool:
        """Take or renew `name`; False while another owner's claim lasts."""
        ...

    async def release(self, name: str, owner: str) -> None: ...

    async def live(self, prefix: str = "") -> Mapping[str, str]:
        """Unexpired leases whose name starts with `prefix`: name → owner."""
        ...


# --- Nodes ----------------------------------------------------------------------------------------------------------

PROTOCOL = 1
"""Version of the requests and answers of node.sh; a node refuses another."""

ABSENT = "absent"


@dataclass(frozen=True, slots=True)
class Target:
    """How to reach a node; from its Node document. `root` is the directory that stands for / (local only)."""

    fleet: str
    name: str
    transport: str
    address: str = ""
    port: int = 22
    user: str = ""
    become: str = ""
    host_keys: tuple[str, ...] = ()
    root: str = ""


@dataclass(frozen=True, slots=True)
class ObserveRequest:
    """What to look at. `known` maps each managed path to the hash the caller has bytes for (or `absent`, or "" for
    none): the node sends content only where its own differs."""

    log_id: str
    runtime: str
    known: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class ObservedFile:
    """A path as seen. `kind`: file, absent, symlink, directory, other. `content` only where it was not known."""

    path: str
    kind: str
    sha256: str = ""
    mode: int = 0
    uid: int = 0
    gid: int = 0
    size: int = 0
    mtime: int = 0
    content: bytes | None = None

    @property
    def state(self) -> str:
        """The hash, or `absent`, or the kind for what is no plain file."""
        return self.sha256 if self.kind == "file" else self.kind


@dataclass(frozen=True, slots=True)
class Owner:
    """Whose node it is: the stamp under /var/lib/reconciler."""

    log_id: str
    epoch: int
    fence: int
    generation: int
    step: str


@dataclass(frozen=True, slots=True)
class Observation:
    """What a node was seen to have.

    `files` has every path of the request. `present` are all other entries of certs.d and registries.conf.d;
    `effective` every further file the runtime would read (path → hash). `mco`: the Machine Config
    Operator manages this node. `hold`: reason of a local hold, or "". `active`: the unit's state ("active", …).
    """

    machine_id: str
    boot_id: str
    runtime_version: str
    unit: str
    active: str
    owner: Owner | None
    mco: bool
    hold: str
    files: Mapping[str, ObservedFile]
    present: tuple[str, ...] = ()
    effective: Mapping[str, str] = field(default_factory=dict)
    os: str = ""
    host_key: str = ""


@dataclass(frozen=True, slots=True)
class FileContent:
    """A file to write."""

    path: str
    content: bytes
    mode: int = 0o644

    @property
    def sha256(self) -> str:
        return hashlib.sha256(self.content).hexdigest()


@dataclass(frozen=True, slots=True)
class ApplyRequest:
    """Bring a node to exactly these files. `restore`: paths given back to the node's baseline (removed if it had
    none). `start` is the manifest hash over files+restore paths that the node must show before ("" = any).
    `actions`: `reload:crio.service` or none. `epoch` and `fence` order requests; a lower one is refused."""

    log_id: str
    epoch: int
    fence: int
    step: str
    runtime: str
    files: tuple[FileContent, ...]
    restore: tuple[str, ...] = ()
    start: str = ""
    actions: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class RevertRequest:
    """Put the previous generation back and run the actions again."""

    log_id: str
    epoch: int
    fence: int
    step: str
    runtime: str
    actions: tuple[str, ...] = ()


ReceiptResult = Literal["applied", "same", "reverted", "failed", "stale", "refused"]


@dataclass(frozen=True, slots=True)
class Receipt:
    """The node's proof (≤ 4096 bytes on the wire).

    `manifest` is the hash read back over files+restore paths. `written`, `restored`: paths that changed (cut
    with `more`). `reason`: why not applied (`disk-full`, `read-only`, `symlink`, `reload-failed`, `unhealthy`,
    `fence`, `log-id`, `hold`, `mco`, `payload`, `missing-program`, …); `detail` is text for people.
    `healthy_before`: the unit was active before the change. `loaded`: the runtime was seen to load the files (None:
    cannot tell).
    """

    result: ReceiptResult
    step: str
    log_id: str
    epoch: int
    fence: int
    generation: int
    machine_id: str
    boot_id: str
    manifest: str
    written: tuple[str, ...] = ()
    restored: tuple[str, ...] = ()
    more: int = 0
    unit: str = ""
    active: str = ""
    healthy_before: bool = True
    loaded: bool | None = None
    action: str = ""
    reason: str = ""
    detail: str = ""

    def as_data(self) -> Mapping[str, Any]:
        """As recorded in events: everything but the lists, which have fields of their own there."""
        return {name: getattr(self, name) for name in _RECORDED}


_RECORDED = (
    "result", "step", "generation", "machine_id", "boot_id", "manifest", "more", "unit", "active",
    "healthy_before", "loaded", "action", "reason", "detail",
)  # fmt: skip


def manifest_hash(states: Mapping[str, tuple[str, int]]) -> str:
    """SHA-256 over the lines `STATE MODE PATH\\n`, sorted by path bytewise; MODE is four octal digits.

    STATE is the file's SHA-256, or `absent` with mode 0000. node.sh computes the same.
    """
    lines = "".join(f"{state} {mode:04o} {path}\n" for path, (state, mode) in sorted(states.items()))
    return hashlib.sha256(lines.encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class HookRequest:
    """A command to run on a node as root, without a shell, for at most `timeout` seconds (then its status is 124)."""

    log_id: str
    step: str
    command: tuple[str, ...]
    environment: Mapping[str, str]
    timeout: int


@dataclass(frozen=True, slots=True)
class HookResult:
    """How a command ended, and the end of what it wrote."""

    status: int
    output: str


class Transport(Protocol):
    """The verbs on a node, one round trip each. Raises NodeUnreachable, NodeRefused or NodeFault.

    A step id that is finished on the node gets its stored receipt again, so every verb may be repeated.
    """

    async def observe(self, target: Target, request: ObserveRequest) -> Observation: ...

    async def apply(self, target: Target, request: ApplyRequest) -> Receipt: ...

    async def revert(self, target: Target, request: RevertRequest) -> Receipt: ...

    async def hook(self, target: Target, request: HookRequest) -> HookResult: ...

    async def close(self) -> None: ...


@dataclass(frozen=True, slots=True)
class DrainTask:
    """A node to be emptied, or to be given work again. `settings` are its pool's spec.drain; `step` names the turn."""

    target: Target
    pool: str
    step: str
    log_id: str
    settings: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class DrainAnswer:
    """`done`; `again`: it may work in a while; `failed`: it will not by itself. `detail` says why, for people."""

    state: Literal["done", "again", "failed"]
    detail: str = ""


class Drainer(Protocol):
    """Empties nodes before they are taken down, and gives them back. Every verb may be repeated; none raises."""

    async def cordon(self, task: DrainTask) -> DrainAnswer:
        """Put no new work on the node."""
        ...

    async def drain(self, task: DrainTask) -> DrainAnswer:
        """Move the work that is there away."""
        ...

    async def uncordon(self, task: DrainTask) -> DrainAnswer:
        """Let work be put there again."""
        ...


@dataclass(frozen=True, slots=True)
class Job:
    """One node to act on, and what to send it."""

    target: Target
    request: ApplyRequest


class Runner(Protocol):
    """Who carries out node work, many nodes at once. An error of one node is its result, never an exception."""

    async def observe(self, wanted: Sequence[tuple[Target, ObserveRequest]]) -> Sequence[Observation | NodeError]: ...

    async def apply(self, jobs: Sequence[Job]) -> Sequence[Receipt | NodeError]: ...
