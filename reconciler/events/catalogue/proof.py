"""What proves the log, and what contradicts it: signed checkpoints, restored copies, redacted blobs."""

from __future__ import annotations

from dataclasses import dataclass

from reconciler.events.catalogue.base import APPROVER, Data, Event


@dataclass(frozen=True)
class CheckpointSigned(Event):
    """The end of the log before this event (`position`, `hash`) was signed with `key` and published at `target`."""

    position: int
    hash: str
    key: str
    target: str


@dataclass(frozen=True)
class RestoreDetected(Event):
    """Nodes, a checkpoint or a restored backup contradict this log: it is behind, a copy, or was rewritten. Nothing is
    written to any node until RestoreAccepted. Each of `evidence`: {source: node, released node, checkpoint or
    backup, name, epoch, position, hash, found}: what the log was there, and what it is now (empty: it does not reach so
    far)."""

    evidence: tuple[Data, ...]
    more: int = 0


@dataclass(frozen=True)
class RestoreAccepted(Event):
    """A person wants the fleet to go on from this log as it is, under a new fence epoch: nodes that have seen it refuse
    every other copy of the log."""

    authority = APPROVER
    epoch: int
    reason: str


@dataclass(frozen=True)
class BlobRedacted(Event):
    """A person had the bytes of a blob taken away for ever; its digest stays, and with it the chain."""

    authority = APPROVER
    blob: str
    size: int
    reason: str
