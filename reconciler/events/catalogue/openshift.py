"""Resources of a cluster that we apply (`manage: cluster`), and what the Machine Config Operator makes of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from reconciler.events.catalogue.base import OPERATOR, Data, Event


@dataclass(frozen=True)
class ClusterResourcesUnreachable(Event):
    """The cluster's resources could not be read where the look before had worked, and why. Said once; a refusal once
    per reason."""

    reason: str
    refused: bool


@dataclass(frozen=True)
class ClusterResourcesRecovered(Event):
    """The cluster's resources could be read again."""


@dataclass(frozen=True)
class ClusterBaselineCaptured(Event):
    """First contact: what stood in the cluster, before anything of ours. `objects` maps each to the blob of its
    document, `files` each pool to the blob of the file set that MCO renders from them (empty: it cannot be told)."""

    objects: Data
    files: Data


@dataclass(frozen=True)
class ClusterCompared(Event):
    """What is not ours in the cluster changed. Each of `unadopted`, which Git has, too: {key, resource, differs,
    managers, content: the blob of the document}; `foreign` maps objects beside Git's to their blobs; `others` are
    wanted objects of another log, or of another fleet of ours (`fleet NAME`), `unserved` wanted kinds that the cluster
    does not know."""

    unadopted: tuple[Data, ...]
    foreign: Data
    others: Data
    unserved: tuple[str, ...]


@dataclass(frozen=True)
class ClusterAdoptionAsked(Event):
    """A person takes objects that were there before us: Git's content is applied over theirs. `objects` maps each to
    the managers from whom fields may be taken."""

    authority = OPERATOR
    objects: Data
    reason: str


@dataclass(frozen=True)
class ClusterResourceApplied(Event):
    """A resource was applied to the cluster. `sent` is the blob of what was applied, `answer` of what the API made of
    it (where others put a private key there: `sent`), `before` of what stood there (empty: nothing, or it held a
    private key). `purpose`: rollout, repair or adopt; `changed`: the fields that differed; `taken`: the managers from
    whom fields were taken."""

    resource: str
    key: str
    purpose: str
    commit: str | None
    sent: str
    answer: str
    before: str
    changed: tuple[str, ...]
    taken: tuple[str, ...]
    uid: str
    resource_version: str
    generation: int


@dataclass(frozen=True)
class ClusterResourceDeleted(Event):
    """A resource that we had applied, and that nothing wants any more, was removed from the cluster. `before` is the
    blob of what stood there (empty: it was gone already, it held a private key, or it is somebody else's by now and was
    left alone)."""

    resource: str
    key: str
    uid: str
    before: str


@dataclass(frozen=True)
class ClusterResourceRefused(Event):
    """The API refused a resource; nothing is forced. Said once per reason. `sent` is the blob of what was to be
    applied, `resource_version` that of the object then; each of `conflicts`: {manager, field}."""

    resource: str
    key: str
    reason: str
    conflicts: tuple[Data, ...]
    sent: str
    resource_version: str


@dataclass(frozen=True)
class ClusterContentApplied(Event):
    """The cluster's resources say what is wanted for the pool: last event of the group that tells what was applied.
    `files` is the file set that MCO is to render from them, `before` the one until then (empty: it cannot be told), and
    `config` the pool's rendered config until then."""

    scope: ClassVar[Literal["fleet", "pool", "node"]] = "pool"
    pool: str
    files: str
    before: str
    config: str


@dataclass(frozen=True)
class ClusterDriftDetected(Event):
    """Somebody else changed a resource that we applied. Each of `differs`: {path, kind, manager, operation, time}, as
    the object's managedFields tell; `observed` is the blob of the document (empty: it was removed)."""

    resource: str
    key: str
    observed: str
    resource_version: str
    differs: tuple[Data, ...]


@dataclass(frozen=True)
class ClusterDriftRepaired(Event):
    """A resource is as we applied it again: `by` is `apply`, or `outside` when somebody else put it back."""

    resource: str
    key: str
    by: str


@dataclass(frozen=True)
class ClusterDriftAdopted(Event):
    """A person chose the cluster's content: it was pushed as a commit on a branch of the config repository."""

    authority = OPERATOR
    resource: str
    key: str
    branch: str
    commit: str
    reason: str


@dataclass(frozen=True)
class ClusterRepairAsked(Event):
    """A person wants drifted resources put right, or fields taken that others manage, whatever the policy. `objects`
    maps each to the managers from whom fields may be taken."""

    scope: ClassVar[Literal["fleet", "pool", "node"]] = "fleet"
    authority = OPERATOR
    objects: Data
    reason: str


@dataclass(frozen=True)
class MachineConfigPoolChanged(Event):
    """MCO reports the pool otherwise. `target` and `current` are rendered configs; `machines`, `ready`, `updated`,
    `unavailable` and `degraded` count nodes; `settled`: MCO has seen the newest spec; `conditions` maps each of MCO's
    to {status, reason, message}."""

    scope: ClassVar[Literal["fleet", "pool", "node"]] = "pool"
    pool: str
    target: str
    current: str
    paused: bool
    machines: int
    ready: int
    updated: int
    unavailable: int
    degraded: int
    settled: bool
    conditions: Data


@dataclass(frozen=True)
class MachineConfigChanged(Event):
    """MCO notes on a node otherwise which rendered config it has (`current`) and is to get (`desired`), or how it is
    getting on: `state` (Working, Done, Degraded, Unreconcilable, Rebooting) and `reason`."""

    scope: ClassVar[Literal["fleet", "pool", "node"]] = "node"
    node: str
    pool: str
    current: str
    desired: str
    state: str
    reason: str
