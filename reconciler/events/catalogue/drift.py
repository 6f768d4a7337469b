"""What differs from what receipts proved."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from reconciler.events.catalogue.base import OPERATOR, Data, Event


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
    authority = OPERATOR
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
