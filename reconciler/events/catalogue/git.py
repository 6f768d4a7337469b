"""What happens in the config repository, and what people say to it."""

from __future__ import annotations

from dataclasses import dataclass

from reconciler.events.catalogue.base import APPROVER, Data, Event


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

    authority = APPROVER
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
    """The branch no longer contains the last recorded head (force push). Nothing newer is taken for now."""

    old_head: str
    commit: str


@dataclass(frozen=True)
class HistoryRestored(Event):
    """The rewritten branch contains the last recorded head again, before anybody accepted it otherwise."""

    commit: str


@dataclass(frozen=True)
class HistoryAccepted(Event):
    """A person accepted the rewritten branch; its head is recorded as one group at the next sync."""

    authority = APPROVER
    old_head: str
    commit: str
    reason: str
