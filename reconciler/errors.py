"""Every error a person can see, in one tree.

    ReconcilerError                what went wrong, where, what to do, and whether it is tried again
    ├── UsageError          2      the command line or the settings cannot be used
    ├── InputRejected       4      a commit, manifest or file is not acceptable (carries problems)
    ├── NotConverged        3      the fleet is not (yet) as wanted: paused, held, waiting, deferred
    ├── TimedOut          124      the given time ran out
    ├── SourceError         1      Git cannot be read now (retried)
    ├── StoreError          1      the database cannot be used (retried)
    │   ├── WrongExpectation       somebody else appended first (the caller plans again)
    │   ├── EventConflict          an event id was used before with other content (never retried)
    │   ├── AppendRefused          this login may not append it, by its roles or as its author (on change)
    │   ├── LogCorrupt             the log or its blobs do not verify (never retried)
    │   └── ContentRedacted        the bytes were taken away for ever by a person (never retried)
    ├── ClusterError        1      the Kubernetes API cannot be used now (retried)
    │   └── ClusterRefused             it said no: no right, no such kind, bad content (on change)
    │       └── FieldConflict          others manage fields that we were to set
    └── NodeError           1      one node could not be read or changed
        ├── NodeUnreachable        no connection (deferred, retried)
        ├── NodeRefused            the node or its operator said no: login, MCO, hold (on change)
        │   └── HostKeyRefused     it shows a host key that nobody vouches for
        └── NodeFault              the node failed while acting: disk full, read-only (retried)

The number is the exit code. Secrets never enter a message: `redacted` cuts the credentials out of a URL.
"""

from __future__ import annotations

import re
from typing import ClassVar, Literal

Retry = Literal["never", "later", "on_change"]


class ReconcilerError(Exception):
    """Base of the tree. `where` is a file:line, field or node; `remedy` says what a person can do."""

    exit_code: ClassVar[int] = 1
    retry: ClassVar[Retry] = "never"

    def __init__(self, what: str, *, where: str = "", remedy: str = "") -> None:
        super().__init__(what)
        self.what = redacted(what)
        self.where = redacted(where)
        self.remedy = redacted(remedy)

    def __str__(self) -> str:
        text = f"{self.where}: {self.what}" if self.where else self.what
        return f"{text}\n  → {self.remedy}" if self.remedy else text


class UsageError(ReconcilerError):
    """The command line or the settings cannot be used as given."""

    exit_code = 2


class InputRejected(ReconcilerError):
    """Input is not acceptable; nothing was changed. The message lists every problem."""

    exit_code = 4
    retry: ClassVar[Retry] = "on_change"


class NotConverged(ReconcilerError):
    """The fleet is not as wanted and will not become so by waiting for this command."""

    exit_code = 3
    retry: ClassVar[Retry] = "on_change"


class TimedOut(ReconcilerError):
    """The time that the caller gave ran out; work goes on at the next cycle."""

    exit_code = 124
    retry: ClassVar[Retry] = "later"


class SourceError(ReconcilerError):
    """The Git repository cannot be read now. The fleet is still observed, repaired and rolled out."""

    retry: ClassVar[Retry] = "later"


class StoreError(ReconcilerError):
    """The database cannot be reached or used."""

    retry: ClassVar[Retry] = "later"


class WrongExpectation(StoreError):
    """A stream moved on since the caller read it; the caller reads again and decides anew."""


class EventConflict(StoreError):
    """An event id stands in the log with other content, or a batch stands there only in part."""

    retry: ClassVar[Retry] = "never"


class AppendRefused(StoreError):
    """The database lets this login not append the event: a role is missing, or the approver wrote the change."""

    retry: ClassVar[Retry] = "on_change"


class LogCorrupt(StoreError):
    """The log, its chain or its blobs do not verify. Nothing is appended any more."""

    retry: ClassVar[Retry] = "never"


class ContentRedacted(StoreError):
    """The content was redacted: its bytes are gone for ever, and the log says who took them away and why."""

    retry: ClassVar[Retry] = "never"


class ClusterError(ReconcilerError):
    """The API server of a cluster cannot be reached, or cannot answer now. `status` is its HTTP status; 0: none.
    `details` are its causes: (reason, message, field)."""

    retry: ClassVar[Retry] = "later"
    status = 0
    details: tuple[tuple[str, str, str], ...] = ()

    def causes(self, reason: str) -> list[tuple[str, str]]:
        """(message, field) of the causes for this reason."""
        return [(message, field) for found, message, field in self.details if found == reason]


class ClusterRefused(ClusterError):
    """The API server refuses what was asked: a right is missing, it does not serve the kind, or the content is bad."""

    retry: ClassVar[Retry] = "on_change"


class FieldConflict(ClusterRefused):
    """Others manage fields that were to be set, with other values. `conflicts` are (manager, field) pairs."""

    conflicts: tuple[tuple[str, str], ...] = ()


class NodeError(ReconcilerError):
    """One node could not be read or changed."""

    retry: ClassVar[Retry] = "later"


class NodeUnreachable(NodeError):
    """No connection to the node, or it was lost. The node is deferred, and planned for anew when it answers."""


class NodeRefused(NodeError):
    """The node must not be touched: wrong host key, refused login, managed by MCO, held locally."""

    retry: ClassVar[Retry] = "on_change"


class HostKeyRefused(NodeRefused):
    """The node shows a host key that is none of its known ones. `shown` is that key's fingerprint, or empty."""

    shown = ""


class NodeFault(NodeError):
    """The node could not do what was asked: disk full, read-only file system, missing program."""


_CREDENTIALS = re.compile(
    r"(?P<before>https?://)[^\s/]+@"  # a token may stand alone
    r"|(?P<scheme>[a-z][a-z0-9+.-]*://)[^\s/]*:[^\s/]*@"
    r"|(?P<query>[?&](?:access_token|private_token|token|password|sslpassword)=)[^\s&#]+",
    re.IGNORECASE,
)


def redacted(text: str) -> str:
    """`text` without the user, password and tokens of any URL in it."""
    return _CREDENTIALS.sub(_starred, text)


def _starred(found: re.Match[str]) -> str:
    return f"{found['query']}***" if found["query"] else f"{found['before'] or found['scheme']}***@"
