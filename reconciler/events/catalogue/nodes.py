"""The inventory, and what nodes are seen to be."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from reconciler.events.catalogue.base import APPROVER, OPERATOR, Authority, Data, Event


@dataclass(frozen=True)
class NodeRegistered(Event):
    """A Node document was accepted for the first time, or a node was discovered in the fleet's cluster.

    Of a `discovered` node there is no document and no commit; its labels are the cluster's. `reason` says why no pool
    takes it where several would.
    """

    scope: ClassVar[Literal["fleet", "pool", "node"]] = "node"
    node: str
    pool: str | None
    commit: str | None
    spec: Data
    discovered: bool = False
    reason: str = ""


@dataclass(frozen=True)
class NodeChanged(Event):
    """A Node's document, its labels in the cluster, or the pool that they put it in, changed. As NodeRegistered."""

    scope: ClassVar[Literal["fleet", "pool", "node"]] = "node"
    node: str
    pool: str | None
    commit: str | None
    spec: Data
    discovered: bool = False
    reason: str = ""


@dataclass(frozen=True)
class NodeRemoved(Event):
    """A Node left the repository, or (without a commit) a discovered one its cluster. It keeps its files and is no
    longer contacted."""

    scope: ClassVar[Literal["fleet", "pool", "node"]] = "node"
    node: str
    commit: str | None


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
    authority = APPROVER
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
    authority = OPERATOR
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
    authority = (Authority("operator", "step", ""),)
    node: str
    pool: str
    step: str
    reason: str


@dataclass(frozen=True)
class NodeRecovered(Event):
    """A node answers again."""

    scope: ClassVar[Literal["fleet", "pool", "node"]] = "node"
    node: str
