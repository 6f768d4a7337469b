"""Every type of event, in the past tense, each saying when it happens.

Bodies hold strings, integers, booleans, None, and tuples or string-keyed mappings of these; no floats; times as
UTC text. A digest names a blob. The fields `node`, `pool`, `resource` and `commit` are also columns of the log.
Grown only by adding; a changed meaning gets a new `schema_version` and an upcaster in `codec`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, ClassVar, Literal

Data = Mapping[str, Any]
CATALOGUE: dict[str, type[Event]] = {}


@dataclass(frozen=True)
class Event:
    """Base of all bodies. `scope` chooses the stream: `fleet/F`, `pool/F/P` or `node/F/N`."""

    scope: ClassVar[Literal["fleet", "pool", "node"]] = "fleet"
    schema_version: ClassVar[int] = 1

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        CATALOGUE[cls.__name__] = cls

    @property
    def type(self) -> str:
        return type(self).__name__

    def as_data(self) -> dict[str, Any]:
        """The body's fields by name."""
        return {item.name: getattr(self, item.name) for item in fields(self)}


# --- Git ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class FleetConfigured(Event):
    """The service first saw a fleet, or its source (url without credentials, branch, path) changed."""

    url: str
    branch: str
    path: str


@dataclass(frozen=True)
class CommitObserved(Event):
    """A first-parent commit of the branch was read. First event of the commit's append group."""

    commit: str
    parent: str | None
    author: str
    author_email: str
    authored_at: str
    committer: str
    committer_email: str
    committed_at: str
    subject: str
    message: str
    pull_request: str | None
    judged_with: str
    """Digest of what the judgement depends on besides the commit: settings, keys and tool version."""
    signature: Data | None = None
    """None: not checked. Else {verify, verdict, kind, signer, key, commits}: the mode, what the commit's own
    signature proves (`good`, or the name of the problem), and how many commits were checked with it."""


@dataclass(frozen=True)
class CommitAccepted(Event):
    """These pools took the commit whole; the group's resource events are the difference."""

    commit: str
    pools: tuple[str, ...]
    warnings: tuple[Data, ...] = ()


@dataclass(frozen=True)
class CommitRejected(Event):
    """These pools (all, when `whole`) refused the commit; their last good state stays."""

    commit: str
    pools: tuple[str, ...]
    whole: bool
    problems: tuple[Data, ...]


@dataclass(frozen=True)
class MassRemovalDetected(Event):
    """A commit would take away so much that a person must approve it: the Image, all mirror sets, all CAs,
    or over a third of the nodes. Nothing of it is taken until ChangeApproved names the commit."""

    commit: str
    pools: tuple[str, ...]
    removes: tuple[str, ...]


@dataclass(frozen=True)
class ChangeApproved(Event):
    """A person approved what waits under `subject`: a commit, or (with `pool`) the file sets `files` of a pool, whose
    images nobody knows, so that the guard cannot tell."""

    subject: str
    commit: str | None
    reason: str
    pool: str | None = None
    files: tuple[str, ...] = ()


@dataclass(frozen=True)
class SourceUnreachable(Event):
    """A fetch failed where the one before had worked. Said once, not per attempt."""

    reason: str


@dataclass(frozen=True)
class SourceRecovered(Event):
    """A fetch worked again."""


@dataclass(frozen=True)
class HistoryRewritten(Event):
    """The branch no longer contains the last recorded head (force push). Refused until HistoryAccepted."""

    old_head: str
    commit: str


@dataclass(frozen=True)
class HistoryAccepted(Event):
    """A person accepted the rewritten branch; its head is recorded as one group at the next sync."""

    old_head: str
    commit: str
    reason: str


# --- Desired state --------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class ResourceAdded(Event):
    """A resource entered Git's state for these pools ("" stands for: no pool takes its directory).

    `content` is the blob of the canonical JSON document, `text` the blob of the source text, `lines` the blob of
    the field-to-line map; `meaning` is the digest of its body, by which contents are compared.
    """

    resource: str
    pools: tuple[str, ...]
    commit: str
    file: str
    line: int
    content: str
    text: str
    lines: str
    meaning: str


@dataclass(frozen=True)
class ResourceChanged(Event):
    """A resource's document changed in Git's state for these pools."""

    resource: str
    pools: tuple[str, ...]
    commit: str
    file: str
    line: int
    content: str
    text: str
    lines: str
    meaning: str
    previous: str


@dataclass(frozen=True)
class ResourceRemoved(Event):
    """A resource left Git's state for these pools."""

    resource: str
    pools: tuple[str, ...]
    commit: str
    previous: str


@dataclass(frozen=True)
class PoolConfigured(Event):
    """A NodePool document was accepted for the first time, or it changed, or the templates that it names as its base.

    `spec` has every field, defaults included. `base_files`: path on a node → blob of the template; empty where the
    base is no directory.
    """

    scope: ClassVar[Literal["fleet", "pool", "node"]] = "pool"
    pool: str
    commit: str
    file: str
    line: int
    spec: Data
    base_files: Data


@dataclass(frozen=True)
class PoolRemoved(Event):
    """A NodePool left the repository. Its nodes keep their files."""

    scope: ClassVar[Literal["fleet", "pool", "node"]] = "pool"
    pool: str
    commit: str


@dataclass(frozen=True)
class FilesRendered(Event):
    """A pool's resources in force were rendered over one base: once per distinct input.

    `node` is empty unless a hold of node scope makes that node differ. `inputs` is the digest of all that decides
    the bytes, `files` the blob of the file manifest, `disruption` the class against the set rendered before.
    """

    scope: ClassVar[Literal["fleet", "pool", "node"]] = "pool"
    pool: str
    node: str
    base: str
    inputs: str
    renderer: str
    files: str
    origins: str
    """Blob: path → table, key or scope → the resource fields it comes from."""
    disruption: str


# --- Nodes ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class NodeRegistered(Event):
    """A Node document was accepted for the first time."""

    scope: ClassVar[Literal["fleet", "pool", "node"]] = "node"
    node: str
    pool: str | None
    commit: str
    spec: Data


@dataclass(frozen=True)
class NodeChanged(Event):
    """A Node's document, or the pool its labels put it in, changed."""

    scope: ClassVar[Literal["fleet", "pool", "node"]] = "node"
    node: str
    pool: str | None
    commit: str
    spec: Data


@dataclass(frozen=True)
class NodeRemoved(Event):
    """A Node left the repository. It keeps its files and is no longer contacted."""

    scope: ClassVar[Literal["fleet", "pool", "node"]] = "node"
    node: str
    commit: str


@dataclass(frozen=True)
class BaselineCaptured(Event):
    """The files that form the node's base were first read, or one changed before a path of it became ours.

    `files` maps each base path to its blob (None: absent); `base` is the digest of that map.
    """

    scope: ClassVar[Literal["fleet", "pool", "node"]] = "node"
    node: str
    base: str
    files: Data
    machine_id: str
    host_key: str = ""
    """Fingerprint of the host key it showed; empty where the transport has none."""


@dataclass(frozen=True)
class NodeReset(Event):
    """The machine behind a Node is another one (machine-id differs): what was ours there is forgotten."""

    scope: ClassVar[Literal["fleet", "pool", "node"]] = "node"
    node: str
    old_machine_id: str
    machine_id: str


@dataclass(frozen=True)
class NodeRenamed(Event):
    """The machine of a Node that left the repository answers under a new Node: what was proven of it goes on there."""

    scope: ClassVar[Literal["fleet", "pool", "node"]] = "node"
    node: str
    previous: str
    machine_id: str


@dataclass(frozen=True)
class NodeUnreachable(Event):
    """A node that answered before could not be reached, or refused us (`refused`: login, MCO, hold).

    `cause` is `hold` where its operator holds it, `log` where another log owns it.
    """

    scope: ClassVar[Literal["fleet", "pool", "node"]] = "node"
    node: str
    reason: str
    refused: bool
    cause: str = ""


@dataclass(frozen=True)
class HostKeyChanged(Event):
    """A node shows another host key than before (fingerprints). With a `reason` it is refused until its document or
    known_hosts has the new key; without one they have it."""

    scope: ClassVar[Literal["fleet", "pool", "node"]] = "node"
    node: str
    old: str
    new: str
    reason: str


@dataclass(frozen=True)
class ReleaseAsked(Event):
    """A person gives a node back: with its own files from before the first write (`restore`), or as it is."""

    scope: ClassVar[Literal["fleet", "pool", "node"]] = "node"
    node: str
    pool: str
    restore: bool
    reason: str


@dataclass(frozen=True)
class NodeReleased(Event):
    """No log owns the node any more, and it is not acted on until NodeAdopted, or until its document is removed."""

    scope: ClassVar[Literal["fleet", "pool", "node"]] = "node"
    node: str
    pool: str
    step: str
    restored: bool
    reason: str
    receipt: Data


@dataclass(frozen=True)
class AdoptionAsked(Event):
    """A person takes a node that the log `log_id` owns; `epoch` and `fence` are those of the last request it took."""

    scope: ClassVar[Literal["fleet", "pool", "node"]] = "node"
    node: str
    pool: str
    log_id: str
    epoch: int
    fence: int
    reason: str


@dataclass(frozen=True)
class NodeAdopted(Event):
    """A node that was released, or that another log owned, is ours: what stands there is its base. `step` is empty
    where the node did not have to be asked. A release that was asked for and not begun is taken back."""

    scope: ClassVar[Literal["fleet", "pool", "node"]] = "node"
    node: str
    pool: str
    step: str
    reason: str


@dataclass(frozen=True)
class NodeRecovered(Event):
    """A node answers again."""

    scope: ClassVar[Literal["fleet", "pool", "node"]] = "node"
    node: str


# --- Rollback -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class RolledBack(Event):
    """A person took a scope back to the end of the append group at `position`; a hold begins.

    `hold` names it. Each entry: `id`, `resource`, `scope` ({kind: fleet|pool|node, name}), `restored` ({content,
    meaning, text, lines, file, line, commit} or None: absent), `refused` (tuple of {content, meaning}). `files` are
    the recorded file sets to give back: {pool, node, base, inputs, renderer, files, origins}. `replaces` are the
    holds it inherits from and ends. `pools` are those whose state in force it touches.
    """

    hold: str
    pools: tuple[str, ...]
    position: int
    pool: str | None
    node: str | None
    entries: tuple[Data, ...]
    files: tuple[Data, ...]
    replaces: tuple[str, ...]
    reason: str


@dataclass(frozen=True)
class HoldLifted(Event):
    """A hold, or some of its entries (by id), ended. `cause`: agreed, fixed, resumed or undone."""

    hold: str
    pools: tuple[str, ...]
    entries: tuple[int, ...]
    cause: str
    commit: str | None
    reason: str


# --- Rollouts -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class PlanBlocked(Event):
    """A pool's plan cannot start, and why. Said once per reason (empty: nothing blocks it any more)."""

    scope: ClassVar[Literal["fleet", "pool", "node"]] = "pool"
    pool: str
    reason: str
    subject: str


@dataclass(frozen=True)
class GuardJudged(Event):
    """The lock-out guard judged whether the images that a pool needs stay pullable under the files it is to get.

    `images` were known (0: not armed). `nodes` told theirs, `untold` maps those that could not to why, `unheard` are
    those that did not answer. `judged_with` is the digest of the pool's guard settings and overrides. Each of `changes`
    is a way from effective files to others that pulls can tell: {change: its name, files: the wanted file set, known:
    how many images arm the guard for it, accepted: globs that annotations give up, turned: images that can no longer
    be pulled ({image, asked, reason, remedy, override}, those that block first), more: how many are not listed,
    blocking: how many nobody gave up, weakens: what of it may lock images out, signed: images pulled only if signed
    from now on}.
    """

    scope: ClassVar[Literal["fleet", "pool", "node"]] = "pool"
    pool: str
    images: int
    nodes: tuple[str, ...]
    untold: Data
    unheard: tuple[str, ...]
    judged_with: str
    changes: tuple[Data, ...]


@dataclass(frozen=True)
class OverrideGranted(Event):
    """A person gave up images matching `glob` in a pool, for exactly the file sets `files`. Newer content is judged
    anew."""

    scope: ClassVar[Literal["fleet", "pool", "node"]] = "pool"
    pool: str
    files: tuple[str, ...]
    glob: str
    reason: str


@dataclass(frozen=True)
class RolloutStarted(Event):
    """A pool begins to bring its nodes to a new set of files.

    `targets` maps each base (node:NAME for a node of its own) to the files digest; `plan` is the plan digest:
    per starting digest the files, class and reasons, no times. `kind`: `rollout`, or `catch-up` for nodes that were
    deferred by a rollout that is complete: its content is proven, so there is no canary and no approval.
    """

    scope: ClassVar[Literal["fleet", "pool", "node"]] = "pool"
    schema_version: ClassVar[int] = 2
    pool: str
    rollout: str
    plan: str
    targets: Data
    nodes: int
    disruption: str
    effective: str
    reasons: tuple[str, ...]
    commit: str | None
    kind: str = "rollout"


@dataclass(frozen=True)
class WaveStarted(Event):
    """These nodes of the rollout are next: as `canary`, which soaks, or as a `wave` of the others."""

    scope: ClassVar[Literal["fleet", "pool", "node"]] = "pool"
    pool: str
    rollout: str
    wave: int
    kind: str
    nodes: tuple[str, ...]


@dataclass(frozen=True)
class RolloutApproved(Event):
    """A person let the rollout begin (`stage` start) or go on after its canaries (`stage` canary)."""

    scope: ClassVar[Literal["fleet", "pool", "node"]] = "pool"
    pool: str
    rollout: str
    stage: str
    plan: str
    reason: str


@dataclass(frozen=True)
class RolloutSuperseded(Event):
    """A newer content replaced the one being rolled out; nodes not begun go straight to the newer."""

    scope: ClassVar[Literal["fleet", "pool", "node"]] = "pool"
    pool: str
    rollout: str
    by: str


@dataclass(frozen=True)
class RolloutHalted(Event):
    """The failure threshold was reached. No further node is begun until the content changes or somebody retries."""

    scope: ClassVar[Literal["fleet", "pool", "node"]] = "pool"
    pool: str
    rollout: str
    reason: str


@dataclass(frozen=True)
class ContentRefused(Event):
    """Nodes that were healthy failed with these file sets in place: the pool begins no node with them again, until
    RolloutRetried. With `onFailure: revert` those that have them go back."""

    scope: ClassVar[Literal["fleet", "pool", "node"]] = "pool"
    pool: str
    rollout: str
    files: tuple[str, ...]
    reason: str


@dataclass(frozen=True)
class RolloutAborted(Event):
    """A person ended the rollout: nodes not begun keep what they have, until the content changes or RolloutRetried."""

    scope: ClassVar[Literal["fleet", "pool", "node"]] = "pool"
    pool: str
    rollout: str
    reason: str


@dataclass(frozen=True)
class RolloutRetried(Event):
    """A person wants a stopped rollout to go on: failures of `nodes` and refusals of `files` are forgotten.

    `rollout` is None when none is stopped: only the refusals are lifted.
    """

    scope: ClassVar[Literal["fleet", "pool", "node"]] = "pool"
    pool: str
    rollout: str | None
    nodes: tuple[str, ...]
    files: tuple[str, ...]
    reason: str


@dataclass(frozen=True)
class PoolPaused(Event):
    """A person stopped a pool under a lock of their own: no node of it is begun while any lock lasts."""

    scope: ClassVar[Literal["fleet", "pool", "node"]] = "pool"
    pool: str
    lock: str
    reason: str
    until: str | None


@dataclass(frozen=True)
class PoolResumed(Event):
    """One lock of a pool was lifted."""

    scope: ClassVar[Literal["fleet", "pool", "node"]] = "pool"
    pool: str
    lock: str
    reason: str


@dataclass(frozen=True)
class WindowOverridden(Event):
    """A person let nodes of the pool be begun outside of its windows, until `until`."""

    scope: ClassVar[Literal["fleet", "pool", "node"]] = "pool"
    pool: str
    until: str
    reason: str


@dataclass(frozen=True)
class RolloutCompleted(Event):
    """Every node of the pool has the content, less those deferred, and those that failed below the threshold."""

    scope: ClassVar[Literal["fleet", "pool", "node"]] = "pool"
    pool: str
    rollout: str
    converged: int
    deferred: tuple[str, ...]
    failed: tuple[str, ...] = ()


@dataclass(frozen=True)
class StepStarted(Event):
    """One node is about to be acted on. Its position is the fence; appended expecting the pool's and the node's
    stream, so that no two replicas spend one budget or act on one node."""

    scope: ClassVar[Literal["fleet", "pool", "node"]] = "pool"
    pool: str
    node: str
    rollout: str
    step: str
    purpose: str
    """rollout; repair (of drift); revert (back from refused files); uncordon (a node that was left cordoned); release
    (the node is given back); adopt (it is taken from another log)"""
    files: str
    base: str
    start: str
    """Manifest hash of the managed paths that the node must still show."""
    restore: tuple[str, ...]
    actions: tuple[str, ...]
    disruption: str
    owner: str
    epoch: int
    effective: str = "none"
    """What is really done, of the class in `disruption`: none, reload, restart or drain."""
    keep: tuple[str, ...] = ()
    """Paths of `files` that a repair leaves as they are."""
    remove: tuple[str, ...] = ()
    """Strays that are removed with it."""


@dataclass(frozen=True)
class StepTakenOver(Event):
    """The owner's lease ran out; `owner` sends the same step id again with this event's position as fence."""

    scope: ClassVar[Literal["fleet", "pool", "node"]] = "pool"
    pool: str
    node: str
    step: str
    owner: str


@dataclass(frozen=True)
class StepAbandoned(Event):
    """A step ended without a receipt of its own: the node refused it (stale start, higher fence) untouched."""

    scope: ClassVar[Literal["fleet", "pool", "node"]] = "node"
    node: str
    pool: str
    step: str
    reason: str


@dataclass(frozen=True)
class NodeDeferred(Event):
    """The node could not be reached for its step and is caught up later; it blocks nobody.

    `lost`: nobody knows whether the step was carried out; until the next receipt, its files may stand there.
    """

    scope: ClassVar[Literal["fleet", "pool", "node"]] = "node"
    node: str
    pool: str
    step: str
    reason: str
    lost: bool = False


@dataclass(frozen=True)
class NodeCordoned(Event):
    """No new work is put on the node any more; the mark is ours, so that it is taken off again."""

    scope: ClassVar[Literal["fleet", "pool", "node"]] = "node"
    node: str
    pool: str
    step: str


@dataclass(frozen=True)
class NodeDrained(Event):
    """The node is empty and may be taken down. `skipped`: it is not, but its pool goes on (drain.onTimeout: skip)."""

    scope: ClassVar[Literal["fleet", "pool", "node"]] = "node"
    node: str
    pool: str
    step: str
    skipped: str = ""


@dataclass(frozen=True)
class DrainBlocked(Event):
    """The node could not be emptied in time, and why. It is uncordoned and deferred."""

    scope: ClassVar[Literal["fleet", "pool", "node"]] = "node"
    node: str
    pool: str
    step: str
    reason: str


@dataclass(frozen=True)
class NodeUncordoned(Event):
    """Work may be put on the node again."""

    scope: ClassVar[Literal["fleet", "pool", "node"]] = "node"
    node: str
    pool: str
    step: str


@dataclass(frozen=True)
class FilesApplied(Event):
    """The node's receipt shows files written (paths that really changed). Said only when there were any."""

    scope: ClassVar[Literal["fleet", "pool", "node"]] = "node"
    node: str
    pool: str
    step: str
    files: str
    written: tuple[str, ...]
    restored: tuple[str, ...]


@dataclass(frozen=True)
class RuntimeReloaded(Event):
    """The runtime was told to reload; `loaded` says whether it was seen to load (None: cannot tell)."""

    scope: ClassVar[Literal["fleet", "pool", "node"]] = "node"
    node: str
    pool: str
    step: str
    action: str
    loaded: bool | None


@dataclass(frozen=True)
class RuntimeRestarted(Event):
    """The runtime was restarted."""

    scope: ClassVar[Literal["fleet", "pool", "node"]] = "node"
    node: str
    pool: str
    step: str
    action: str


@dataclass(frozen=True)
class HealthChecked(Event):
    """The pool's health checks were run on the node after the change. `failed` names the one that did, if any."""

    scope: ClassVar[Literal["fleet", "pool", "node"]] = "node"
    node: str
    pool: str
    step: str
    checks: tuple[str, ...]
    failed: str = ""


@dataclass(frozen=True)
class NodeConverged(Event):
    """The node's receipt proves the files of `files` in place and the runtime healthy."""

    scope: ClassVar[Literal["fleet", "pool", "node"]] = "node"
    node: str
    pool: str
    step: str
    files: str
    base: str
    receipt: Data


@dataclass(frozen=True)
class NodeFailed(Event):
    """A step failed. `blame` is `content` (healthy before, failed with the files in place) or `node`
    (disk full, read-only, lost link); `reverted` says whether the old files are proven back."""

    scope: ClassVar[Literal["fleet", "pool", "node"]] = "node"
    node: str
    pool: str
    step: str
    files: str
    blame: str
    reason: str
    reverted: bool
    receipt: Data


@dataclass(frozen=True)
class NodeReverted(Event):
    """The node's receipt shows its previous generation back in place and the runtime told again."""

    scope: ClassVar[Literal["fleet", "pool", "node"]] = "node"
    node: str
    pool: str
    step: str
    receipt: Data


# --- Drift ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class DriftDetected(Event):
    """Files differ from what the last receipt proved. `differs`: {path, expected, observed, mode} with blobs."""

    scope: ClassVar[Literal["fleet", "pool", "node"]] = "node"
    node: str
    pool: str
    observed: str
    differs: tuple[Data, ...]


@dataclass(frozen=True)
class DriftRepaired(Event):
    """The drift is gone: `by` is a step's id, or `outside` when somebody else put the files back."""

    scope: ClassVar[Literal["fleet", "pool", "node"]] = "node"
    node: str
    pool: str
    by: str
    differs: tuple[Data, ...]


@dataclass(frozen=True)
class DriftIgnored(Event):
    """What the pool ignores (drift: ignore) of a node's files began to differ otherwise (empty: it does not differ)."""

    scope: ClassVar[Literal["fleet", "pool", "node"]] = "node"
    node: str
    pool: str
    differs: tuple[Data, ...]


@dataclass(frozen=True)
class DriftContested(Event):
    """A path that was repaired three times within 24 hours differs again: somebody else writes it. It is left alone
    for 24 hours, or until RepairsAllowed. `mtime` (Unix seconds), `uid` and `package` are those of the file seen."""

    scope: ClassVar[Literal["fleet", "pool", "node"]] = "node"
    node: str
    pool: str
    path: str
    count: int
    mtime: int
    uid: int
    package: str


@dataclass(frozen=True)
class MassDriftDetected(Event):
    """The same drift was seen on more than three nodes that are more than a tenth of the pool: none of them is repaired
    until RepairsAllowed (empty: no node has it any more). `signature` is the digest of its (path, state) pairs."""

    scope: ClassVar[Literal["fleet", "pool", "node"]] = "pool"
    pool: str
    signature: str
    nodes: tuple[str, ...]


@dataclass(frozen=True)
class RepairsAllowed(Event):
    """A person wants drift repaired that was left alone. `nodes` maps each node to the digest of its drift as recorded;
    `signatures` are those of MassDriftDetected that are decided."""

    scope: ClassVar[Literal["fleet", "pool", "node"]] = "pool"
    pool: str
    nodes: Data
    signatures: tuple[str, ...]
    reason: str


@dataclass(frozen=True)
class ShadowFound(Event):
    """Files beside ours make the runtime answer otherwise than ours for scopes that our resources name; said once per
    set (empty: none does any more). Each of `shadows`: {file, line, scopes, more: how many scopes are left out}."""

    scope: ClassVar[Literal["fleet", "pool", "node"]] = "node"
    node: str
    pool: str
    shadows: tuple[Data, ...]


@dataclass(frozen=True)
class StrayFound(Event):
    """The set of files in certs.d and registries.conf.d that are neither ours nor the base's changed
    (empty: the last stray is gone)."""

    scope: ClassVar[Literal["fleet", "pool", "node"]] = "node"
    node: str
    pool: str
    paths: tuple[str, ...]
