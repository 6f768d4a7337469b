"""How the fields of NodePool and Node are read: types, defaults, and which values are not supported yet."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from reconciler.errors import InputRejected
from reconciler.registries.model import Document, Problem
from reconciler.registries.references import DOMAIN, parse

LONGEST = 366 * 24 * 3600
"""Seconds: no duration here is longer than a year."""

_DURATION = re.compile(r"(?:(\d+)h)?(?:(\d+)m)?(?:(\d+)s)?")


class BadValue(ValueError):
    """A field's value is not of its type; the message says what is wanted."""


def duration(value: Any) -> int:
    """Seconds of a Go-style duration (`90s`, `5m`, `1h30m`)."""
    found = _DURATION.fullmatch(value) if isinstance(value, str) else None
    if not found or not value:
        raise BadValue("wants a duration such as 90s, 5m or 1h30m")
    hours, minutes, seconds = (int(part or 0) for part in found.groups())
    total = hours * 3600 + minutes * 60 + seconds
    if total > LONGEST:
        raise BadValue("wants at most a year (8784h)")
    return total


def integer(least: int, most: int = 1_000_000) -> Callable[[Any], int]:
    def read(value: Any) -> int:
        if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
            raise BadValue(f"wants a whole number from {least} to {most}")
        return value

    return read


def integer_or_percent(value: Any) -> int | str:
    """`3` or `10%`, at least 1."""
    if isinstance(value, int) and not isinstance(value, bool) and value >= 1:
        return value
    if isinstance(value, str) and re.fullmatch(r"(?:[1-9]\d?|100)%", value):
        return value
    raise BadValue("wants a whole number from 1, or a percentage such as 10%")


def text(value: Any) -> str:
    if not isinstance(value, str) or not value or any(ord(character) < 32 for character in value):
        raise BadValue("wants a text")
    return value


def optional_text(value: Any) -> str | None:
    return None if value is None else text(value)


def texts(value: Any) -> list[str]:
    if not isinstance(value, list):
        raise BadValue("wants a list of texts")
    return [text(item) for item in value]


def images(value: Any) -> list[str]:
    """Image references, with or without tag and digest."""
    found = texts(value)
    for image in found:
        try:
            parse(image)
        except InputRejected as error:
            raise BadValue(f"names {image!r}, which is no image reference: {error.what}") from None
    return found


def registries(value: Any) -> list[str] | None:
    """`HOST[:PORT]`, a namespace or a repository there; None where everything counts."""
    if value is None:
        return None
    found = texts(value)
    for entry in found:
        host, _, path = entry.rstrip("/").partition("/")
        if not DOMAIN.fullmatch(host) or (path and not _is_repository(f"{host}/{path}")):
            raise BadValue(f"names {entry!r}, which is no HOST[:PORT], namespace or repository")
    return found


def _is_repository(name: str) -> bool:
    try:
        return not parse(name).suffix
    except InputRejected:
        return False


def one_of(*choices: str) -> Callable[[Any], str]:
    def read(value: Any) -> str:
        if value not in choices:
            raise BadValue(f"wants one of {', '.join(choices)}")
        return str(value)

    return read


def labels(value: Any) -> dict[str, str]:
    if not isinstance(value, dict) or not all(isinstance(k, str) and isinstance(v, str) for k, v in value.items()):
        raise BadValue("wants a mapping of texts to texts")
    if not all(key.isascii() and key.isprintable() for key in value):
        raise BadValue("wants keys in ASCII")
    return dict(value)


def directories(value: Any) -> list[str]:
    """Directories below the fleet's path, `.` for all of it."""
    given = texts(value)
    if not given:
        raise BadValue("wants at least one directory")
    if any(path.startswith("/") or ".." in path.split("/") for path in given):
        raise BadValue("wants directories inside the repository, without '..'")
    paths = ["/".join(part for part in path.split("/") if part not in ("", ".")) or "." for path in given]
    if len(set(paths)) != len(paths):
        raise BadValue("names a directory twice")
    return paths


def base(value: Any) -> str:
    """`host`, `openshift`, or a directory below the fleet's path."""
    return str(value) if value in ("host", "openshift") else directories([value])[0]


def anything(value: Any) -> Any:
    return value


def optional(read: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """`null`, or what `read` takes."""
    return lambda value: None if value is None else read(value)


def command(value: Any) -> list[str]:
    """An argument list: what is run, without a shell."""
    if not isinstance(value, list) or not value or not all(isinstance(word, str) for word in value):
        raise BadValue('wants a command as a list of texts, such as ["systemctl", "is-active", "kubelet"]')
    if not value[0] or any("\0" in word for word in value):
        raise BadValue("wants a program as the first word, and no NUL")
    return list(value)


def list_of(schema: Mapping[str, Field], check: Callable[[Mapping[str, Any]], None]) -> Callable[[Any], Any]:
    """A list of mappings with these fields; `check` raises BadValue for a mapping that makes no sense as a whole."""

    def read(value: Any) -> list[dict[str, Any]]:
        if not isinstance(value, list):
            raise BadValue("wants a list")
        return [_read_item(f"[{index}]", item, schema, check) for index, item in enumerate(value)]

    return read


def _read_item(
    where: str, item: Any, schema: Mapping[str, Field], check: Callable[[Mapping[str, Any]], None]
) -> dict[str, Any]:
    if not isinstance(item, Mapping):
        raise BadValue(f"{where} wants a mapping with {', '.join(schema)}")
    if unknown := sorted(set(item) - set(schema)):
        raise BadValue(f"{where} has the unknown field {unknown[0]!r}; known here: {', '.join(schema)}")
    result = {}
    for name, field in schema.items():
        if name not in item:
            if field.required:
                raise BadValue(f"{where} wants {name}")
            result[name] = field.default
            continue
        try:
            result[name] = field.read(item[name])
        except BadValue as error:
            raise BadValue(f"{where}.{name} {error}") from error
    try:
        check(result)
    except BadValue as error:
        raise BadValue(f"{where} {error}") from error
    return result


@dataclass(frozen=True)
class Field:
    """One field: how it is read, its default, and whether it must be there."""

    read: Callable[[Any], Any]
    default: Any = None
    required: bool = False


Schema = Mapping[str, "Field | Schema"]


def complete(schema: Schema, recorded: Mapping[str, Any]) -> dict[str, Any]:
    """A recorded spec with the defaults of fields that did not exist when it was recorded."""
    return {
        name: recorded.get(name, field.default)
        if isinstance(field, Field)
        else complete(field, recorded.get(name) or {})
        for name, field in schema.items()
    }


def read_fields(document: Document, value: Any, schema: Schema, path: str) -> tuple[dict[str, Any], list[Problem]]:
    """Every field of `schema` from `value`, defaults filled in, and what is wrong with it."""
    problems: list[Problem] = []
    if not isinstance(value, Mapping):
        defaults, _ = read_fields(document, {}, schema, path)
        return defaults, [problem(document, path, "type", "wants a mapping")]
    for unknown in sorted(set(value) - set(schema)):
        known = ", ".join(sorted(schema))
        problems.append(
            problem(
                document, f"{path}.{unknown}", "unknown-field", f"unknown field {unknown!r}", f"known here: {known}"
            )
        )
    result: dict[str, Any] = {}
    for name, field in schema.items():
        where = f"{path}.{name}"
        if isinstance(field, Field):
            result[name] = _read_field(document, value, name, field, where, problems)
        else:
            result[name], below = read_fields(document, value.get(name, {}), field, where)
            problems.extend(below)
    return result, problems


def _read_field(
    document: Document, value: Mapping[str, Any], name: str, field: Field, where: str, problems: list[Problem]
) -> Any:
    if name not in value:
        if field.required:
            problems.append(problem(document, where, "required", f"{name} is required"))
        return field.default
    try:
        return field.read(value[name])
    except BadValue as error:
        problems.append(problem(document, where, "type", f"{name} {error}"))
        return field.default


def problem(document: Document, path: str, name: str, message: str, remedy: str = "") -> Problem:
    """A Problem at a field of `document`."""
    return Problem(name, message, document.at(path), document.identity, path, remedy)
