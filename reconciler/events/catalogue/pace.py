"""What people say to the pace of a pool: locks, and windows that do not count."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from reconciler.events.catalogue.base import APPROVER, OPERATOR, Event


@dataclass(frozen=True)
class PoolPaused(Event):
    """A person stopped a pool under a lock of their own: no node of it is begun while any lock lasts."""

    scope: ClassVar[Literal["fleet", "pool", "node"]] = "pool"
    authority = OPERATOR
    pool: str
    lock: str
    reason: str
    until: str | None


@dataclass(frozen=True)
class PoolResumed(Event):
    """One lock of a pool was lifted."""

    scope: ClassVar[Literal["fleet", "pool", "node"]] = "pool"
    authority = OPERATOR
    pool: str
    lock: str
    reason: str


@dataclass(frozen=True)
class WindowOverridden(Event):
    """A person let nodes of the pool be begun outside of its windows, until `until`."""

    scope: ClassVar[Literal["fleet", "pool", "node"]] = "pool"
    authority = (*OPERATOR, *APPROVER)
    pool: str
    until: str
    reason: str
