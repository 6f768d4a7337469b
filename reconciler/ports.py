"""What the core needs from the outside, as protocols; adapters live in source, store, transport and work.

The values that cross a port are plain frozen dataclasses. Every adapter of a port passes the same
conformance class in tests/conformance.
"""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import AsyncIterator, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal, Protocol

from reconciler.errors import ContentRedacted, NodeError
from reconciler.events.envelope import NewEvent, StoredEvent
from reconciler.projections.tables import Key, Row, Table
from reconciler.rollout.managed_fields import ClusterObject


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


SignatureVerdict = Literal[
    "good", "unsigned", "signature-untrusted", "signature-bad", "signature-expired", "signer-not-committer",
    "key-revoked", "key-expired",
]  # fmt: skip


@dataclass(frozen=True, slots=True)
class Signature:
    """What a commit's signature proves against the fleet's keys. Only with `good` did `signer` sign for `committer`.

    `kind`: ssh, gpg, x509, or `` where there is none. `signer`: the principal that the key is listed for, or the
    user id of the GPG key; `` where the key is not listed. `key`: its fingerprint, or for an unlisted GPG key its id.
    """

    commit: str
    verdict: SignatureVerdict
    kind: str = ""
    signer: str = ""
    key: str = ""
    committer: str = ""
    committed_at: str = ""


@dataclass(frozen=True, slots=True)
class Proposal:
    """A commit to be made: `files` as they are to be after commit `onto` (None: removed), by whom and why.

    Paths are relative to the fleet's path; `author` is a login, with or without a host.
    """

    onto: str
    files: Mapping[str, bytes | None]
    message: str
    author: str


class Source(Protocol):
    """One fleet's Git repository: a bare mirror, read at commits. Raises SourceError; only `push` changes a remote."""

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

    async def push(self, branch: str, proposal: Proposal) -> str:
        """Make a commit, and with it a new branch at the remote; the commit's id. Never forced: a branch of that name
        that is there already, or a server that refuses, is a SourceError; the fleet's own branch a UsageError."""
        ...

    async def keys(self) -> str:
        """Digest of the keys that signatures are checked against; `` where none is configured."""
        ...

    async def signatures(self, since: str | None, commit: str) -> Sequence[Signature]:
        """What the signatures of `commit` and of all that it brings prove, oldest first.

        It brings every commit that can be reached from it, through any parent, and not from `since`. Without
        `since`, or where that is not known any more, it is judged alone.
        """
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
    resources: Sequence[str] | None = None
    """Identities, any of them."""
    commit: str | None = None
    """A commit id or a prefix of at least 7 digits."""
    commits: Sequence[str] | None = None
    """Whole commit ids, any of them."""
    correlation_id: uuid.UUID | None = None
    correlation_ids: Sequence[uuid.UUID] | None = None
    """Root causes, any of them."""
    since_time: datetime | None = None
    until_time: datetime | None = None
    limit: int | None = None
    newest_first: bool = False

    def matches(self, event: StoredEvent) -> bool:
        """Whether it is asked for, its position apart."""
        columns = event.columns
        return (
            self.fleet in (None, event.fleet)
            and (self.types is None or event.type in self.types)
            and self.node in (None, columns["node"])
            and self.pool in (None, columns["pool"])
            and self.resource in (None, columns["resource"])
            and (self.resources is None or columns["resource"] in self.resources)
            and (self.commit is None or (columns["commit"] or "").startswith(self.commit))
            and (self.commits is None or columns["commit"] in self.commits)
            and self.correlation_id in (None, event.correlation_id)
            and (self.correlation_ids is None or event.correlation_id in self.correlation_ids)
            and (self.since_time is None or event.recorded_at >= self.since_time)
            and (self.until_time is None or event.recorded_at <= self.until_time)
        )


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

    async def hashes(self, positions: Iterable[int]) -> Mapping[int, str]:
        """The hash (hex) of each event at these positions; those that the log does not have are left out."""
        ...

    async def verify(self) -> Verification: ...

    async def verify_after(self, position: int, trusted: str) -> Verification:
        """The same of what comes after an event that has the hash (hex) `trusted`, its streams and blobs included."""
        ...


class CheckpointTarget(Protocol):
    """Where signed checkpoints are published. `name` tells people. Raises SourceError or StoreError."""

    name: str

    async def latest(self) -> str | None:
        """The note published last; None where none was, or nobody can tell."""
        ...

    async def publish(self, text: str, message: str) -> None:
        """Publish a note; `message` says of what, where a target keeps a history."""
        ...


@dataclass(frozen=True, slots=True)
class Redaction:
    """Why the bytes of a blob are gone: the position of its BlobRedacted, and the reason given there."""

    position: int
    reason: str

    def error(self, digest: str) -> ContentRedacted:
        """What is said to whoever needs the bytes."""
        what = f"blob {digest[:12]} was redacted at #{self.position}: {self.reason}"
        return ContentRedacted(what, remedy=f"its bytes are gone; `reconciler show #{self.position}` tells by whom")


class Blobs(Protocol):
    """Contents by SHA-256 (hex). Putting twice is harmless; what was redacted is not stored again."""

    async def put(self, contents: Iterable[bytes]) -> Sequence[str]: ...

    async def redacted(self, digests: Iterable[str]) -> Mapping[str, Redaction]:
        """Those whose bytes were taken away (by the append of BlobRedacted)."""
        ...

    async def missing(self, digests: Iterable[str]) -> set[str]:
        """Those that are not stored."""
        ...

    async def get(self, digests: Iterable[str]) -> Mapping[str, bytes]:
        """The contents; raises LogCorrupt when one is missing or does not match its address, ContentRedacted when its
        bytes were taken away."""
        ...


@dataclass(frozen=True, slots=True)
class Answer:
    """The rows of one SQL query. Values are PostgreSQL's texts (NULL: None), or such as JSON has where asked for."""

    columns: Sequence[str]
    rows: Sequence[Sequence[Any]]


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The read tables of one fleet at one position, read at once; `versions` are the streams' at that position.

    Of some tables only, it has no versions: nothing is appended on it.
    """

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


DifferenceKind = Literal["changed", "missing", "surplus"]


@dataclass(frozen=True, slots=True)
class RowDifference:
    """A row of a read table that is not what the log makes it: other in `columns`, not there, or one too many."""

    table: str
    key: Key
    valid_from: int
    kind: DifferenceKind
    columns: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Comparison:
    """The read tables against what `events` events make of them. `differences` are the first that differ."""

    events: int
    differing: int
    differences: tuple[RowDifference, ...]


class ReadModel(Protocol):
    """The read tables, written in the append's transaction, read as of any position."""

    async def snapshot(self, fleet: str, at: int | None = None, tables: Sequence[Table] | None = None) -> Snapshot:
        """The fleet's rows now, or as of the end of the append group at position `at`.

        `tables`: the rows of these alone, without the streams' versions, which take as long to find as many rows.
        """
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
    """How to reach a node; from its Node document. `root` is the directory that stands for / (local only),
    `node_name` the Node object in the fleet's cluster ("": there is none of which anybody knows)."""

    fleet: str
    name: str
    transport: str
    address: str = ""
    port: int = 22
    user: str = ""
    become: str = ""
    host_keys: tuple[str, ...] = ()
    root: str = ""
    node_name: str = ""


@dataclass(frozen=True, slots=True)
class ObserveRequest:
    """What to look at. `known` maps each managed path to the hash the caller has bytes for (or `absent`, or "" for
    none): the node sends content only where its own differs. `images`: tell also which images the node needs."""

    log_id: str
    runtime: str
    known: Mapping[str, str]
    images: bool = False


@dataclass(frozen=True, slots=True)
class ObservedFile:
    """A path as seen. `kind`: file, absent, symlink, directory, other. `content` only where it was not known.

    `package`: the package that owns the file, where it was not known and a package database could tell.
    """

    path: str
    kind: str
    sha256: str = ""
    mode: int = 0
    uid: int = 0
    gid: int = 0
    size: int = 0
    mtime: int = 0
    content: bytes | None = None
    package: str = ""

    @property
    def state(self) -> str:
        """The hash, or `absent`, or the kind for what is no plain file."""
        return self.sha256 if self.kind == "file" else self.kind


@dataclass(frozen=True, slots=True)
class LogHead:
    """How far a log was: the position and hash (hex) of its last event then. Position 0: nobody said."""

    position: int = 0
    hash: str = ""


@dataclass(frozen=True, slots=True)
class Owner:
    """Whose node it is: the stamp under /var/lib/reconciler. `head`: how far the log was at its last request."""

    log_id: str
    epoch: int
    fence: int
    generation: int
    step: str
    head: LogHead = LogHead()


@dataclass(frozen=True, slots=True)
class Observation:
    """What a node was seen to have.

    `files` has every path of the request. `present` are all other entries of certs.d and registries.conf.d;
    `effective` every further file the runtime would read (path → hash). `mco`: the Machine Config
    Operator manages this node. `hold`: reason of a local hold, or "". `active`: the unit's state ("active", …).
    `pending`: the step that waits for a confirmation, or "". `reverted`: the step that undid itself for want of one,
    until another step is finished. `loaded_since`: Unix seconds since which the runtime has run with what it loaded
    (its start, or its last reload that exited with 0); 0 when nobody can tell. `images`: where they were asked for.
    `released`: the stamp with which a log gave the node back, until another request takes it; then there is no `owner`.
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
    pending: str = ""
    reverted: str = ""
    loaded_since: int = 0
    images: NodeImages | None = None
    released: Owner | None = None


@dataclass(frozen=True, slots=True)
class ImagesRequest:
    """Which images the node needs."""

    log_id: str
    runtime: str


@dataclass(frozen=True, slots=True)
class NodeImages:
    """The images that a node's containers (ended ones too) were made of, by every name they may be asked for under.

    `pause` is the image of CRI-O's own that every pod needs, or "". `note` says why the containers' images could not
    be told (no crictl, …), or is empty.
    """

    images: tuple[str, ...]
    pause: str = ""
    note: str = ""

    @property
    def needed(self) -> tuple[str, ...]:
        """All of them, sorted."""
        return tuple(sorted({*self.images, self.pause} - {""}))


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
class HealthCheck:
    """Something that must work on a node: a command that exits with 0, or an image that can be pulled.

    `name` is 1 to 64 of `A-Za-z0-9._-`. Either `command` (program and arguments, no shell) or `image` is given.
    """

    name: str
    command: tuple[str, ...] = ()
    image: str = ""


CHECK_TIMEOUT = 60
"""Seconds that the node gives each health check."""

HELPER_CHECK = "reconciler-helper-image"
"""Name of the check that the image of our own pods can still be pulled: how the node is reached depends on it. Where it
fails before the change, too, it is left out."""

RESTART_TIMEOUT = 120
"""Seconds that the node gives each restart; other actions are quick."""


@dataclass(frozen=True, slots=True)
class ApplyRequest:
    """Bring a node to exactly these files. `restore`: paths given back to the node's baseline (removed if it had
    none). `remove`: paths at which no file is to stand. `start` is the manifest hash over all these paths that the node
    must show before ("" = any). `actions`: any of `reload:UNIT`, `restart:UNIT`, `daemon-reload`, done in this order,
    with `act` also where no file differs. `epoch` and `fence` order requests; a lower one is refused. `health` is
    checked before the change and after the actions. `confirm`: seconds after which the node undoes the change unless
    it is confirmed; 0: the change is final at once. `head`: how far the log is; the node keeps it (see Owner). `same`:
    paths at which a node that shows `start` has these files already, so that their bytes need not be sent."""

    log_id: str
    epoch: int
    fence: int
    step: str
    runtime: str
    files: tuple[FileContent, ...]
    restore: tuple[str, ...] = ()
    start: str = ""
    actions: tuple[str, ...] = ()
    health: tuple[HealthCheck, ...] = ()
    confirm: int = 0
    act: bool = False
    remove: tuple[str, ...] = ()
    head: LogHead = LogHead()
    same: frozenset[str] = frozenset()

    @property
    def patience(self) -> int:
        """Seconds by which the answer may come later than that of a request without checks and restarts."""
        restarts = sum(action.startswith("restart:") for action in self.actions)
        return 2 * (CHECK_TIMEOUT + 10) * len(self.health) + 2 * RESTART_TIMEOUT * restarts


@dataclass(frozen=True, slots=True)
class RevertRequest:
    """Put the previous generation back and run the actions again. A change that waits for a confirmation is undone."""

    log_id: str
    epoch: int
    fence: int
    step: str
    runtime: str
    actions: tuple[str, ...] = ()
    head: LogHead = LogHead()


@dataclass(frozen=True, slots=True)
class ConfirmRequest:
    """Make the change of `step`, which would undo itself, final."""

    log_id: str
    epoch: int
    fence: int
    step: str
    runtime: str
    head: LogHead = LogHead()


@dataclass(frozen=True, slots=True)
class ReleaseRequest:
    """Give a node back: no log owns it afterwards. With `restore` its whole baseline is put back first and `actions`
    are run; without, its files stay and the baseline is archived on the node."""

    log_id: str
    epoch: int
    fence: int
    step: str
    runtime: str
    restore: bool
    actions: tuple[str, ...] = ()
    head: LogHead = LogHead()


StepRequest = ApplyRequest | RevertRequest | ConfirmRequest | ReleaseRequest
"""Every request that is answered with a receipt."""


@dataclass(frozen=True, slots=True)
class HookRequest:
    """Run `command` (program and arguments, no shell) as root on the node, for at most `timeout` seconds (1 or more).

    A name without a slash is looked for as a shell does; on a local node, below its root only.
    """

    log_id: str
    step: str
    command: tuple[str, ...]
    environment: Mapping[str, str]
    timeout: int

    @property
    def patience(self) -> int:
        """Seconds by which the answer may come later than that of a request that runs nothing."""
        return self.timeout + 10


@dataclass(frozen=True, slots=True)
class HookResult:
    """How a command on a node ended: its exit `status` (124: it took too long, 127: no such program), and the last
    1000 bytes of what it said."""

    status: int
    output: str


ReceiptResult = Literal["applied", "same", "reverted", "failed", "stale", "refused", "confirmed", "released"]


@dataclass(frozen=True, slots=True)
class Receipt:
    """The node's proof (≤ 4096 bytes on the wire).

    `manifest` is the hash read back over the paths of the request. `written`, `restored`: paths that changed (cut
    with `more`). `reason`: why not applied (`disk-full`, `read-only`, `symlink`, `reload-failed`, `unhealthy`,
    `health-check-failed`, `unconfirmed`, `fence`, `log-id`, `hold`, `mco`, `payload`, `missing-program`, …); `detail`
    is text for people. `healthy_before`: the unit was active before the change. `loaded`: the runtime was seen to load
    the files (None: cannot tell). `check`: name of the health check that failed. `confirm_by`: Unix seconds at which
    the change undoes itself unless it is confirmed; 0: nothing is pending.
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
    check: str = ""
    confirm_by: int = 0

    def as_data(self) -> Mapping[str, Any]:
        """As recorded in events: everything but the lists, which have fields of their own there."""
        return {name: getattr(self, name) for name in _RECORDED}


_RECORDED = (
    "action", "active", "boot_id", "check", "confirm_by", "detail", "generation", "healthy_before", "loaded",
    "machine_id", "manifest", "more", "reason", "result", "step", "unit",
)  # fmt: skip
"""In the order of canonical JSON: what is in it already is recorded as it is."""


def manifest_hash(states: Mapping[str, tuple[str, int]]) -> str:
    """SHA-256 over the lines `STATE MODE PATH\\n`, sorted by path bytewise; MODE is four octal digits.

    STATE is the file's SHA-256, or `absent` with mode 0000. node.sh computes the same.
    """
    lines = "".join(f"{state} {mode:04o} {path}\n" for path, (state, mode) in sorted(states.items()))
    return hashlib.sha256(lines.encode()).hexdigest()


class Transport(Protocol):
    """The verbs on a node, one round trip each. Raises NodeUnreachable, NodeRefused or NodeFault.

    A step id that is finished on the node gets its stored receipt again, so every verb may be repeated.
    """

    async def observe(self, target: Target, request: ObserveRequest) -> Observation: ...

    async def images(self, target: Target, request: ImagesRequest) -> NodeImages: ...

    async def apply(self, target: Target, request: ApplyRequest) -> Receipt: ...

    async def revert(self, target: Target, request: RevertRequest) -> Receipt: ...

    async def confirm(self, target: Target, request: ConfirmRequest) -> Receipt:
        """The receipt of the step: `confirmed`, or what became of it; `refused` when the node knows none."""
        ...

    async def release(self, target: Target, request: ReleaseRequest) -> Receipt: ...

    async def hook(self, target: Target, request: HookRequest) -> HookResult:
        """Not repeatable by itself: a command whose answer was lost may have run. Raises NodeRefused on a held node."""
        ...

    async def close(self) -> None: ...


@dataclass(frozen=True, slots=True)
class DrainTask:
    """A node to be emptied, or to be given work again. `settings` are its pool's spec.drain; `step` names the turn.

    `mark` is the step that the node is, or was, cordoned for: another than `step` where a turn only uncordons. `force`:
    the pool's time is up and its onTimeout is force: what only a disruption budget protects is deleted.
    """

    target: Target
    pool: str
    step: str
    log_id: str
    settings: Mapping[str, Any]
    mark: str = ""
    force: bool = False


@dataclass(frozen=True, slots=True)
class Blocker:
    """A pod that keeps a node from getting empty.

    `pod`: namespace/name. `owner`: the controller that would start it elsewhere (`Deployment/web`), or "". `budget`:
    namespace/name of the PodDisruptionBudget that keeps it, or "". `allowed`: how many disruptions that allows now;
    None: there is none, or it did not say. `why`: for people.
    """

    pod: str
    owner: str = ""
    budget: str = ""
    allowed: int | None = None
    why: str = ""


@dataclass(frozen=True, slots=True)
class DrainAnswer:
    """`done`; `again`: it may work in a while; `failed`: it will not by itself. `detail` says why, for people.

    `blockers` are the pods that keep the node from getting empty. `moving`: some of the rest is on its way. `after`:
    seconds that the other side wants to be left alone. `forced`: pods deleted against their budgets. `kept`: the node
    stays cordoned although it is done, and why.
    """

    state: Literal["done", "again", "failed"]
    detail: str = ""
    blockers: tuple[Blocker, ...] = ()
    moving: bool = False
    after: float = 0.0
    forced: tuple[str, ...] = ()
    kept: str = ""


@dataclass(frozen=True, slots=True)
class ClusterNode:
    """A Node object as its API server last told. `reason`: why it is not Ready, or "". `cordoned_by`: the step whose
    mark `unschedulable` carries, or "": somebody else's, or none. `runtime`: as `cri-o://1.34.1`; `version`: the
    kubelet's; `created`: UTC text. `machine_config`: currentConfig, desiredConfig, state and reason as the Machine
    Config Operator annotates them, as far as they are there. `machine_id`: as the kubelet reads it from the host.
    """

    name: str
    uid: str
    labels: Mapping[str, str]
    ready: bool
    reason: str = ""
    unschedulable: bool = False
    cordoned_by: str = ""
    runtime: str = ""
    version: str = ""
    created: str = ""
    machine_config: Mapping[str, str] = field(default_factory=dict)
    machine_id: str = ""


@dataclass(frozen=True, slots=True)
class ClusterCheck:
    """What a cluster answers to who we are: its version, and the rights that are missing (`list nodes`, …)."""

    version: str
    missing: tuple[str, ...] = ()


class Cluster(Protocol):
    """The Kubernetes cluster of a fleet. Raises ClusterError; ClusterRefused where a right is missing."""

    async def nodes(self) -> Sequence[ClusterNode]:
        """All its nodes as they are now, sorted by name. Kept by a watch: while nothing changes, no call is made.

        What cannot be known to be true now is not told: while the cluster cannot be reached, this raises.
        """
        ...

    async def check(self) -> ClusterCheck:
        """Ask it who we are to it; for people who set it up."""
        ...

    async def close(self) -> None: ...


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

    async def images(self, wanted: Sequence[tuple[Target, ImagesRequest]]) -> Sequence[NodeImages | NodeError]: ...

    async def apply(self, jobs: Sequence[Job]) -> Sequence[Receipt | NodeError]: ...

    async def confirm(self, wanted: Sequence[tuple[Target, ConfirmRequest]]) -> Sequence[Receipt | NodeError]: ...

    async def release(self, wanted: Sequence[tuple[Target, ReleaseRequest]]) -> Sequence[Receipt | NodeError]: ...

    async def hook(self, wanted: Sequence[tuple[Target, HookRequest]]) -> Sequence[HookResult | NodeError]: ...


# --- A cluster's resources ------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class ClusterLook:
    """A cluster's resources at a moment. `objects`: of the kinds that we manage, by `cluster_objects.key_of`;
    ConfigMaps are those of openshift-config. `pools`: its MachineConfigPools as the API has them. `unserved`: kinds of
    these that the cluster does not know."""

    objects: Mapping[str, ClusterObject]
    pools: Mapping[str, Mapping[str, Any]]
    unserved: frozenset[str] = frozenset()


class ClusterResources(Protocol):
    """The resources of one cluster that the Machine Config Operator reads, and what it makes of them.

    Raises ClusterError while the API cannot answer, ClusterRefused where it says no.
    """

    async def look(self) -> ClusterLook:
        """From a watch: a call is made only where something is not watched yet."""
        ...

    async def apply(
        self, document: Mapping[str, Any], live: ClusterObject | None, against: Collection[str] = ()
    ) -> ClusterObject:
        """Server-side apply of `document` as field manager `reconciler`; the object as it is then. Doing it twice is
        harmless.

        Raises FieldConflict where managers other than `against` have fields with other values, ClusterError where the
        object is not `live` (None: not there) any more.
        """
        ...

    async def read(self, document: Mapping[str, Any]) -> ClusterObject | None:
        """The object of the document's kind and name, asked for now: what a watch tells may be a moment old."""
        ...

    async def delete(self, live: ClusterObject) -> None:
        """Remove exactly this object; nothing where it is gone. Raises ClusterError where it is another one by now."""
        ...

    async def machine_config(self, name: str) -> Mapping[str, bytes] | None:
        """The files of a MachineConfig (path → bytes); None where there is none of this name."""
        ...

    async def images(self) -> Mapping[str, Sequence[str]]:
        """Node → the images that its pods name."""
        ...

    async def close(self) -> None: ...
