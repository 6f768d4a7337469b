"""What the Kubernetes cluster of a fleet says."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar, Literal

from reconciler.events.catalogue.base import APPROVER, Data, Event


@dataclass(frozen=True)
class NodeConditionChanged(Event):
    """What a node's cluster says of it was first seen, or changed: readiness, cordon, versions, labels.

    `uid` is of the Node object, empty where the cluster has it no more. `ready` is its condition Ready, `reason` why
    not. `cordoned_by` is the step that carries our mark; without it somebody else made it `unschedulable`. `labels` are
    those that its document lacks: none of a discovered node, whose spec has them all. `created` is UTC text.
    """

    scope: ClassVar[Literal["fleet", "pool", "node"]] = "node"
    node: str
    uid: str
    ready: bool = False
    reason: str = ""
    unschedulable: bool = False
    cordoned_by: str = ""
    runtime: str = ""
    version: str = ""
    created: str = ""
    labels: Data = field(default_factory=dict)


@dataclass(frozen=True)
class ClusterUnreachable(Event):
    """The fleet's cluster cannot be asked where it could before: its nodes stay as they were last known.

    `cause` is `refused` where it answers and refuses us (said once per reason), `other` where it has none of the nodes
    known of it, but others: then ClusterAccepted must say that this is meant. Empty: there is no answer.
    """

    reason: str
    cause: str = ""


@dataclass(frozen=True)
class ClusterAccepted(Event):
    """A person says that a cluster without any of the nodes known is the fleet's: from then on its word counts."""

    authority = APPROVER
    reason: str


@dataclass(frozen=True)
class ClusterRecovered(Event):
    """The fleet's cluster can be asked again."""
