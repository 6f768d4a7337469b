"""One append group folded into changes of the read tables: what every read model does alike."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Protocol

from reconciler.events.codec import plain
from reconciler.events.envelope import StoredEvent
from reconciler.projections.tables import ColumnType, Key, Row, Table, Touched, Working

Rows = Mapping[str, Mapping[Key, Row]]
"""Table name → key → the row that holds now."""


class Fold(Protocol):
    """How events become rows; `reconciler.projections.fold` is the one."""

    def touches(self, event: StoredEvent, /) -> Sequence[Touched]:
        """Every row that `apply` reads or writes."""
        ...

    def apply(self, event: StoredEvent, working: Working, /) -> None: ...

    def handles(self, event_type: str, /) -> bool:
        """Whether events of the type touch anything; those of others need not be read for a replay."""
        ...


@dataclass(frozen=True)
class Change:
    """A row before and after an append group; None: there is none."""

    table: Table
    key: Key
    old: Row | None
    new: Row | None


class TouchedRows(Working):
    """The rows that an append group touches. Reading or writing another one is a fault of the fold.

    What is put in has at once the values that a database gives back: lists for tuples, UTC times for their text.
    """

    def __init__(self, touched: Sequence[Touched], rows: Rows) -> None:
        super().__init__({})
        for table, key in touched:
            self.rows.setdefault(table.name, {})[key] = rows.get(table.name, {}).get(key)

    def get(self, table: Table, *key: str) -> Row | None:
        self._check(table, key)
        return super().get(table, *key)

    def put(self, table: Table, key: Key, **columns: Any) -> None:
        self._check(table, key)
        for name, value in columns.items():
            kind = table.columns.get(name)
            if kind is None:
                raise LookupError(f"the fold wrote the column {name} of {table.name}, which there is not")
            if value is not None and kind in _CONVERTED:
                columns[name] = _CONVERTED[kind](value)
        super().put(table, key, **columns)

    def drop(self, table: Table, key: Key) -> None:
        self._check(table, key)
        super().drop(table, key)

    def _check(self, table: Table, key: Key) -> None:
        if key not in self.rows.get(table.name, {}):
            raise LookupError(f"the fold used the row {key} of {table.name}, which its `touches` does not name")


def _json(value: Any) -> Any:
    """A copy in JSON's own types. What an event brought is of them but for its tuples, which makes this quick."""
    kind = type(value)
    if kind is dict:
        return {name: item if type(item) in _SCALARS else _json(item) for name, item in value.items()}
    if kind is list or kind is tuple:
        return [item if type(item) in _SCALARS else _json(item) for item in value]
    return value if kind in _SCALARS else plain(value)


def _moment(value: str | datetime) -> datetime:
    return (datetime.fromisoformat(value) if isinstance(value, str) else value).astimezone(UTC)


_SCALARS = frozenset({str, int, bool, type(None)})
_CONVERTED: Mapping[ColumnType, Callable[[Any], Any]] = {"jsonb": _json, "timestamptz": _moment}


def touched_by(fold: Fold, events: Sequence[StoredEvent]) -> list[Touched]:
    """Every row that a group touches, once, in order."""
    named = {(table.name, key): (table, key) for event in events for table, key in fold.touches(event)}
    return list(named.values())


def fold_group(fold: Fold, events: Sequence[StoredEvent], rows: Rows) -> list[Change]:
    """What an append group changes. `rows` has at least the touched rows that hold now."""
    touched = touched_by(fold, events)
    working = TouchedRows(touched, rows)
    for event in events:
        fold.apply(event, working)
    changes = []
    for table, key in touched:
        old, new = rows.get(table.name, {}).get(key), working.rows[table.name][key]
        if new is not old and new != old:
            changes.append(Change(table, key, old, new))
    return changes


@dataclass(frozen=True)
class PastRow:
    """A row that held from one position (inclusive) to another (exclusive)."""

    table: Table
    row: Row
    valid_from: int
    valid_to: int


class TemporalRows:
    """All rows that hold now, and since when, while events are replayed."""

    def __init__(self) -> None:
        self.now: dict[str, dict[Key, Row]] = {}
        self.since: dict[tuple[str, Key], int] = {}

    def apply(self, changes: Sequence[Change], position: int) -> list[PastRow]:
        """Take over the changes of a group that ends at `position`; gives back the rows that ended."""
        past = []
        for change in changes:
            place = (change.table.name, change.key)
            if change.old is not None:
                past.append(PastRow(change.table, change.old, self.since.pop(place), position))
                del self.now[change.table.name][change.key]
            if change.new is not None:
                self.now.setdefault(change.table.name, {})[change.key] = change.new
                self.since[place] = position
        return past
