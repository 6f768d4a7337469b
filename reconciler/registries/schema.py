"""A small schema language: just what the OpenAPI schemas and CEL rules of our resource kinds say.

Flaws carry the kinds that the Kubernetes API server's errors fall into (`required`, `type`, `enum`,
`pattern`, `duplicate`, `min-items`, …), so that they can be compared with it one by one.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Flaw:
    """One thing that a value has wrong. `value` is what stands at `path`."""

    kind: str
    path: str
    message: str
    remedy: str = ""
    value: Any = None


Rule = Callable[[Any, str], Iterator[Flaw]]
"""Checks a well-typed value as a whole (CEL rules)."""


@dataclass(frozen=True, slots=True)
class Anything:
    """Accepted without a look."""


@dataclass(frozen=True, slots=True)
class Flag:
    """true or false."""


@dataclass(frozen=True, slots=True)
class Text:
    """A string. `meaning` says what `pattern` asks for; `flaw` is the kind reported when it fails."""

    pattern: re.Pattern[str] | None = None
    meaning: str = ""
    flaw: str = "pattern"
    choices: tuple[str, ...] = ()
    min_length: int = 0
    max_length: int | None = None
    rules: tuple[Rule, ...] = ()


@dataclass(frozen=True, slots=True)
class ListOf:
    item: Schema
    min_items: int = 0
    max_items: int | None = None
    unique: bool = False


@dataclass(frozen=True, slots=True)
class MapOf:
    """Any string keys; null counts as empty, as in object metadata."""

    value: Schema


@dataclass(frozen=True, slots=True)
class Fields:
    """A mapping with known keys."""

    fields: Mapping[str, Schema]
    required: tuple[str, ...] = ()
    rules: tuple[Rule, ...] = ()


Schema = Anything | Flag | Text | ListOf | MapOf | Fields


def check(schema: Schema, value: Any, path: str = "") -> Iterator[Flaw]:
    """Everything in `value` that `schema` does not allow, in document order."""
    match schema:
        case Anything():
            return
        case Flag():
            if not isinstance(value, bool):
                yield _wrong_type(value, path, "true or false")
        case Text():
            yield from _check_text(schema, value, path)
        case ListOf():
            yield from _check_list(schema, value, path)
        case MapOf():
            yield from _check_map(schema, value, path)
        case Fields():
            yield from _check_fields(schema, value, path)


def _wrong_type(value: Any, path: str, expected: str) -> Flaw:
    found = {type(None): "null", bool: "a boolean", int: "a number", float: "a number", str: "a string"}.get(
        type(value), "a list" if isinstance(value, list) else "a mapping"
    )
    remedy = "quote it" if expected == "a string" and isinstance(value, int | float) else ""
    return Flaw("type", path, f"must be {expected}, not {found}", remedy or f"write {expected} or remove it", value)


def _check_text(schema: Text, value: Any, path: str) -> Iterator[Flaw]:
    if not isinstance(value, str):
        yield _wrong_type(value, path, "a string")
        return
    if schema.choices and value not in schema.choices:
        shown = ", ".join(choice or '""' for choice in schema.choices)
        yield Flaw("enum", path, f"{value!r} is none of {shown}", f"use one of {shown}", value)
    if len(value) < schema.min_length:
        yield Flaw("min-length", path, f"must have at least {schema.min_length} characters", "fill it in", value)
    if schema.max_length is not None and len(value) > schema.max_length:
        yield Flaw("max-length", path, f"must have at most {schema.max_length} characters", "shorten it", value)
    elif schema.pattern is not None and not schema.pattern.fullmatch(value):
        yield Flaw(schema.flaw, path, f"{value!r} is not {schema.meaning}", f"write {schema.meaning}", value)
    for rule in schema.rules:
        yield from rule(value, path)


def _check_list(schema: ListOf, value: Any, path: str) -> Iterator[Flaw]:
    if not isinstance(value, list):
        yield _wrong_type(value, path, "a list")
        return
    if len(value) < schema.min_items:
        yield Flaw("min-items", path, f"must have at least {schema.min_items} entries", "remove the field", value)
    if schema.max_items is not None and len(value) > schema.max_items:
        yield Flaw("max-items", path, f"must have at most {schema.max_items} entries", "shorten the list", value)
    for index, item in enumerate(value):
        yield from check(schema.item, item, f"{path}[{index}]")
    if schema.unique:
        yield from _duplicates(value, path)


def _duplicates(values: Sequence[Any], path: str) -> Iterator[Flaw]:
    seen: dict[str, int] = {}
    for index, value in enumerate(values):
        first = seen.setdefault(repr(value), index)
        if first != index:
            yield Flaw("duplicate", f"{path}[{index}]", f"{value!r} stands in {path}[{first}] too", "remove it", value)


def _check_map(schema: MapOf, value: Any, path: str) -> Iterator[Flaw]:
    if value is None:
        return
    if not isinstance(value, Mapping):
        yield _wrong_type(value, path, "a mapping")
        return
    for name, item in value.items():
        yield from check(schema.value, item, f"{path}.{name}")


def _check_fields(schema: Fields, value: Any, path: str) -> Iterator[Flaw]:
    if not isinstance(value, Mapping):
        yield _wrong_type(value, path, "a mapping")
        return
    prefix = f"{path}." if path else ""
    for name in schema.required:
        if name not in value:
            yield Flaw("required", f"{prefix}{name}", f"{name} is required", f"add {name}")
    for name, item in value.items():
        if name in schema.fields:
            yield from check(schema.fields[name], item, f"{prefix}{name}")
        else:
            yield _unknown_field(name, f"{prefix}{name}", schema, item)
    for rule in schema.rules:
        yield from rule(value, path)


def _unknown_field(name: str, path: str, schema: Fields, value: Any) -> Flaw:
    close = difflib.get_close_matches(name, schema.fields, n=1)
    remedy = f"did you mean {close[0]}?" if close else f"known here: {', '.join(schema.fields)}"
    return Flaw("unknown-field", path, "unknown field; OpenShift would drop it in silence", remedy, value)
