"""Holds: what is taken back, and when that ends."""

from __future__ import annotations

from dataclasses import dataclass

from reconciler.events.catalogue.base import OPERATOR, Authority, Data, Event


@dataclass(frozen=True)
class RolledBack(Event):
    """A person took a scope back to the end of the append group at `position`; a hold begins.

    `hold` names it. Each entry: `id`, `resource`, `scope` ({kind: fleet|pool|node, name}), `restored` ({content,
    meaning, text, lines, file, line, commit} or None: absent), `refused` (tuple of {content, meaning}, empty ones for:
    absent). An entry with `baseline` is about no resource: its scope has the files from before the first write.
    `files` are the recorded file sets to give back: {pool, node, base, inputs, renderer, files, origins}. `replaces`
    are the holds it inherits from and ends. `pools` are those whose state in force it touches. `until`: UTC text from
    which on it is overdue. `until_fixed`: an entry ends by itself once none of the bad differences is left.
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
    until: str | None = None
    until_fixed: bool = False


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


@dataclass(frozen=True)
class HoldExtended(Event):
    """A commit brought what a hold refuses under another name: the hold got entries that keep it out as well."""

    hold: str
    pools: tuple[str, ...]
    commit: str
    entries: tuple[Data, ...]


@dataclass(frozen=True)
class HoldReinstated(Event):
    """A rollback was undone, and a hold that it had replaced is in force again, as it was then; its entries
    also keep out what came under another name in the meantime."""

    authority = OPERATOR
    hold: str
    pools: tuple[str, ...]
    position: int
    pool: str | None
    node: str | None
    entries: tuple[Data, ...]
    files: tuple[Data, ...]
    until: str | None
    until_fixed: bool
    reason: str
    actor: str
    since: str
    undone: str


@dataclass(frozen=True)
class RevertPushed(Event):
    """What a hold restored was written to the config repository: a new branch with `commit` on top of `onto`."""

    authority = OPERATOR
    hold: str
    branch: str
    commit: str
    onto: str
    files: tuple[str, ...]


@dataclass(frozen=True)
class CommitHeldBack(Event):
    """Holds keep what a commit says out of force: of some resources, or all of it for these pools (`whole`).

    `entries`: {hold, id, resource, git: refused or other}, of the entries about what the commit changes. Of a commit
    held back whole `reason` says what is wrong with it beside the holds, and `beside` names their entries (HOLD/ID):
    it is judged again when these are others.
    """

    commit: str
    pools: tuple[str, ...]
    whole: bool
    entries: tuple[Data, ...]
    reason: str
    beside: tuple[str, ...]
