"""Rollouts of pools and turns of nodes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from reconciler.events.catalogue.base import APPROVER, OPERATOR, Data, Event


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
    those that did not answer. `judged_with` is the digest of the pool's guard settings and overrides, with a blank and
    the helper image behind it where nodes are reached by pods. Each of `changes`
    is a way from effective files to others that pulls can tell: {change: its name, files: the wanted file set, known:
    how many images arm the guard for it, accepted: globs that annotations give up, turned: images that can no longer
    be pulled ({image, asked, reason, remedy, override, kept: nobody can give it up}, those that block first), more: how
    many are not listed,
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
    authority = APPROVER
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
    authority = APPROVER
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
    authority = OPERATOR
    pool: str
    rollout: str
    reason: str


@dataclass(frozen=True)
class RolloutRetried(Event):
    """A person wants a stopped rollout to go on: failures of `nodes` and refusals of `files` are forgotten.

    `rollout` is None when none is stopped: only the refusals are lifted.
    """

    scope: ClassVar[Literal["fleet", "pool", "node"]] = "pool"
    authority = OPERATOR
    pool: str
    rollout: str | None
    nodes: tuple[str, ...]
    files: tuple[str, ...]
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
    """The node is empty and may be taken down. `skipped`: it is not, but its pool goes on (drain.onTimeout: skip).
    `forced`: pods that were deleted against their disruption budgets (drain.onTimeout: force), namespace/name."""

    scope: ClassVar[Literal["fleet", "pool", "node"]] = "node"
    node: str
    pool: str
    step: str
    skipped: str = ""
    forced: tuple[str, ...] = ()


@dataclass(frozen=True)
class DrainBlocked(Event):
    """The node cannot be emptied for now, and why. Said once per turn and cause: a disruption budget, or a pod by
    itself. When the time is up, the pool's drain.onTimeout decides what becomes of the turn.

    Each of `pods` is {pod: namespace/name, owner: KIND/NAME of its controller or "", budget: namespace/name or "",
    allowed: how many disruptions that allows or null, why, since: when the turn first waited for that cause (UTC)};
    `more` are not listed. Without pods, the reason alone tells.
    """

    scope: ClassVar[Literal["fleet", "pool", "node"]] = "node"
    schema_version: ClassVar[int] = 2
    node: str
    pool: str
    step: str
    reason: str
    pods: tuple[Data, ...] = ()
    more: int = 0


@dataclass(frozen=True)
class NodeUncordoned(Event):
    """Work may be put on the node again. `kept`: it stays cordoned, for it was not we who did it, or not for this
    step."""

    scope: ClassVar[Literal["fleet", "pool", "node"]] = "node"
    node: str
    pool: str
    step: str
    kept: str = ""


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
