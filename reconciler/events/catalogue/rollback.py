"""Holds: what is taken back, and when that ends."""

from __future__ import annotations

from dataclasses import dataclass

from reconciler.events.catalogue.base import OPERATOR, Authority, Data, Event


@dataclass(frozen=True)
class RolledBack(Event):
    """A person took a scope back to the end of the append group at `position`; a hold begins.

    `hold` names it. Each entry: `id`, `resource`, `scope` ({kind: fleet|pool|node, name}), `restored` ({content,
    meaning, text, lines, file, line, commit} or None: absent), `refused` (tuple of {content, meaning}). `files` are
    the recorded file sets to give back: {pool, node, base, inputs, renderer, files, origins}. `replaces` are the
    holds it inherits from and ends. `pools` are those whose state in force it touches.
    """

    authority = OPERATOR
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

    authority = (
        Authority("approver", "cause"),
        Authority("operator", "cause", "undone"),
        Authority("cycle", "cause", "agreed"),
        Authority("cycle", "cause", "fixed"),
    )
    hold: str
    pools: tuple[str, ...]
    entries: tuple[int, ...]
    cause: str
    commit: str | None
    reason: str
