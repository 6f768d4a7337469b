"""Bodies to canonical JSON and back.

For the values that are let in (no floats, integers within ±(2^53 − 1), ASCII keys, no U+0000, no lone surrogates),
sorted compact JSON is the canonical form of RFC 8785.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import MISSING, fields
from functools import cache
from typing import Any, get_origin, get_type_hints

import msgspec

from reconciler.errors import InputRejected, LogCorrupt, StoreError
from reconciler.events.catalogue import CATALOGUE, Event

MAX_INTEGER = 2**53 - 1
"""Largest magnitude that every JSON reader keeps exact (RFC 7493)."""

_encoded = msgspec.json.Encoder(order="deterministic").encode
_decoded = msgspec.json.Decoder().decode

Upcaster = Callable[[dict[str, Any]], dict[str, Any]]
UPCASTERS: dict[tuple[str, int], Upcaster] = {
    # Canaries are named by WaveStarted since version 2.
    ("RolloutStarted", 1): lambda data: {name: value for name, value in data.items() if name != "canaries"},
    # Said only when the turn ended, and in words, up to version 1.
    ("DrainBlocked", 1): lambda data: {**data, "pods": [], "more": 0},
}
"""(type, schema version) → the step that turns its data into the next version's."""


def encode(body: Event) -> str:
    """The body's fields as canonical JSON. Raises InputRejected naming the field that cannot be recorded."""
    return recorded(body)[0]


def recorded(body: Event) -> tuple[str, Event]:
    """What `encode` gives, and the body that `decode` makes of it, or the same one where it would be no other."""
    data, tuples = body.__dict__, _tuple_fields(body.type)
    text = _written(data, tuple if tuples else list)
    if text is not None and (not tuples or [name for name in data if type(data[name]) is tuple] == tuples):
        return text, body
    text = canonical(body.as_data(), body.type)
    return text, _decoder(body.type)(_decoded(text))


def _written(data: dict[str, Any], sequence: type) -> str | None:
    """Its canonical JSON, if nothing in it deserves a closer look."""
    try:
        if not _is_plain(data.values(), sequence):
            return None
        text = _encoded(data).decode()
    except (TypeError, UnicodeEncodeError):  # a key that is no text, a lone surrogate
        return None
    # All keys and texts are judged at once, by what became of them.
    return text if text.isascii() and "\\u0000" not in text else None


def _is_plain(values: Iterable[Any], sequence: type) -> bool:
    """Whether they are what `decode` gives: JSON's own types, keys in their order, integers in range, `sequence` as an
    array. Texts are not looked at. Raises TypeError for keys that have no order."""
    for value in values:
        kind = type(value)
        if kind is str or value is None or kind is bool:
            continue
        if kind is int:
            plain = -MAX_INTEGER <= value <= MAX_INTEGER
        elif kind is dict:
            keys = list(value)
            plain = keys == sorted(keys) and _is_plain(value.values(), list)
        else:
            plain = kind is sequence and _is_plain(value, list)
        if not plain:
            return False
    return True


def decode(event_type: str, schema_version: int, text: str) -> Event:
    """The body that `encode` wrote, brought to today's schema version.

    Raises StoreError for a type or version that a newer tool wrote, LogCorrupt for data that fits no version.
    """
    body = CATALOGUE.get(event_type)
    if body is None or schema_version > body.schema_version:
        raise StoreError(
            f"event type {event_type} (schema version {schema_version}) is not known to this version",
            remedy="use the version of reconciler that wrote the log, or a newer one",
        )
    try:
        data = _decoded(text)
        for version in range(schema_version, body.schema_version):
            data = UPCASTERS[event_type, version](data)
        return _decoder(event_type)(data)
    except (AttributeError, KeyError, RecursionError, TypeError, ValueError) as error:
        raise LogCorrupt(
            f"data of an event of type {event_type} cannot be read: {error}", remedy="run `reconciler log verify`"
        ) from error


def canonical(value: object, where: str = "") -> str:
    """A value as canonical JSON (RFC 8785). `where` names it in the error."""
    return _encoded(plain(value, where)).decode()


def plain(value: object, where: str = "") -> Any:
    """The value in JSON's own types: mappings as dicts in the order of their keys, tuples as lists.

    Raises InputRejected for anything else.
    """
    try:
        return _plain(value)
    except _NotRecordable as refusal:
        raise InputRejected(refusal.what, where=".".join([where, *reversed(refusal.path)])) from None


class _NotRecordable(Exception):
    """Carries the keys on the way out, so that the way in need not build names that nobody reads."""

    def __init__(self, what: str) -> None:
        super().__init__(what)
        self.what = what
        self.path: list[str] = []


def _plain(value: Any) -> Any:
    kind = type(value)
    if kind is str and value.isascii() and "\0" not in value:  # nearly every value: no more questions
        return value
    if kind is dict:
        return _mapping(value)
    if value is None or kind is bool:
        return value
    if isinstance(value, str):
        return _text(value)
    if isinstance(value, int):
        if abs(value) > MAX_INTEGER:
            raise _NotRecordable(f"the integer {value} is outside ±(2^53 − 1)")
        return int(value)
    if isinstance(value, (tuple, list)):
        return [_plain(item) for item in value]
    if isinstance(value, Mapping):
        return _mapping(value)
    raise _NotRecordable(f"a value of type {type(value).__name__} cannot be recorded")


def _mapping(value: Mapping[Any, Any]) -> dict[str, Any]:
    try:
        keys = sorted(value)
    except TypeError:  # keys of several types: the one that is no text is refused below
        keys = list(value)
    result = {}
    for key in keys:
        if not isinstance(key, str) or not key.isascii() or "\0" in key:
            raise _NotRecordable(f"the key {key!r} is not ASCII text without U+0000")
        item = value[key]
        if type(item) is str and item.isascii() and "\0" not in item:  # as in _plain, less a call
            result[key] = item
            continue
        try:
            result[key] = _plain(item)
        except _NotRecordable as refusal:
            refusal.path.append(key)
            raise
    return result


def _text(value: str) -> str:
    if "\0" in value:
        raise _NotRecordable("the text contains U+0000, which cannot be recorded")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise _NotRecordable("the text contains a lone surrogate (it is not valid Unicode)") from None
    return str.__str__(value)


@cache
def _field_names(event_type: str) -> tuple[str, ...]:
    return tuple(field.name for field in fields(CATALOGUE[event_type]))


@cache
def _tuple_fields(event_type: str) -> list[str]:
    hints = get_type_hints(CATALOGUE[event_type])
    return [name for name in _field_names(event_type) if get_origin(hints[name]) is tuple]


@cache
def _decoder(event_type: str) -> Callable[[dict[str, Any]], Event]:
    """A function from JSON data to the type's class; made once, since a replay calls it for every event."""
    body = CATALOGUE[event_type]
    names = frozenset(_field_names(event_type))
    tuples = _tuple_fields(event_type)
    defaults = {field.name: field.default for field in fields(body) if field.default is not MISSING}

    def decoded(data: dict[str, Any]) -> Event:
        if data.keys() != names:
            data = defaults | data
            if data.keys() != names:
                raise ValueError(f"the fields {sorted(data.keys() ^ names)} are missing or unknown")
        for name in tuples:
            data[name] = tuple(data[name])
        event = object.__new__(body)
        # A frozen dataclass sets its fields one by one through object.__setattr__: half of the time of a replay.
        event.__dict__.update(data)
        return event

    return decoded
