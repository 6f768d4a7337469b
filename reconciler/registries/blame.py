"""Whose each line of a rendered file is: of resource fields, of the base that they were laid over, or of the renderer.

A line of the base stays the base's, also where a resource asks for the same; the fields are named beside it.
"""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from reconciler.registries.file_lines import KeyPath, Lines, json_lines, toml_lines
from reconciler.registries.model import POLICY_JSON, Origin
from reconciler.registries.runtime_config import NAMESPACE_POLICIES

By = Mapping[str, Sequence[Origin]]
"""`NodeFile.origins`: table, key or scope → fields."""

_FIELDS: Mapping[str, tuple[str, ...]] = {
    "blocked": ("blockedRegistries", "Mirrors"),
    "insecure": ("insecureRegistries",),
    "mirror": ("Mirrors",),
    "mirror-by-digest-only": ("Mirrors",),
}
"""Which fields of resources write a key of a table, the likelier first; other keys are written by all of them."""


@dataclass(frozen=True, slots=True)
class Line:
    """A line, counted from 1. `of`: whose it is."""

    number: int
    text: str
    of: Literal["resource", "base", "renderer"]
    origins: tuple[Origin, ...] = ()


def base_path(path: str) -> str:
    """The file of a base that the one at `path` is laid over: the policy of a namespace is over the policy for all."""
    return POLICY_JSON if path.startswith(f"{NAMESPACE_POLICIES}/") else path


def origins_of(path: str, by_path: Mapping[str, By]) -> By:
    """What is behind a rendered file; in the policy of a namespace, also what is behind the policy for all."""
    return {**by_path.get(base_path(path), {}), **by_path.get(path, {})}


@dataclass(frozen=True, slots=True)
class _Said:
    """What stands at a path of a file: the fields behind it, and whether the base says it just so.

    `base` is None for what only holds other things.
    """

    origins: tuple[Origin, ...]
    base: bool | None


def blame(path: str, content: bytes, base: bytes | None, origins: By) -> list[Line]:
    """The lines of the file at `path`, which was laid over `base` (None: there was none; see `base_path`), with what
    `origins_of` gives. Never raises."""
    text = content.decode(errors="replace")
    before = (base or b"").decode(errors="replace")
    if content == base and not origins:
        return [Line(number, line, "base") for number, line in enumerate(text.splitlines(), 1)]
    if "" in origins:  # a file that one field holds as it is
        return [Line(n, line, "resource", tuple(origins[""])) for n, line in enumerate(text.splitlines(), 1)]
    try:
        if path.endswith(".json"):
            found = _by_line(json_lines(text), _policy(json.loads(text), json.loads(before or "{}"), origins))
        elif path.endswith(".yaml"):
            found = dict(_attachments(text, origins))
        else:
            found = _by_line(toml_lines(text), _registries(tomllib.loads(text), tomllib.loads(before), origins))
    except (ValueError, TypeError, AttributeError, LookupError):
        found = {}
    return list(_lines(text, set(before.splitlines()), found))


def _by_line(lines: Lines, said: Callable[[KeyPath], _Said]) -> dict[int, _Said]:
    """What is said on each line on which something begins."""
    beginning: dict[int, list[_Said]] = {}
    for path, line in lines.items():
        beginning.setdefault(line, []).append(said(path))
    return {line: _together(found) for line, found in beginning.items()}


def _together(found: Sequence[_Said]) -> _Said:
    known = [one.base for one in found if one.base is not None]
    origins = dict.fromkeys(origin for one in found for origin in one.origins)
    return _Said(tuple(origins), all(known) if known else None)


def _lines(text: str, before: set[str], said: Mapping[int, _Said]) -> Iterator[Line]:
    """A line on which nothing begins ends what began with the same indentation; an empty one belongs to the next."""
    found: list[Line] = []
    for number, line in enumerate(text.splitlines(), 1):
        bare = line.strip()
        if number in said:
            found.append(_line(number, line, said[number], line in before))
        elif not bare or bare.startswith("#"):
            found.append(Line(number, line, "base" if bare and line in before else "renderer"))
        else:
            same = next((one for one in reversed(found) if _indent(one.text) == _indent(line)), None)
            found.append(Line(number, line, same.of, same.origins) if same else Line(number, line, "renderer"))
    for place in reversed(range(len(found) - 1)):
        if not found[place].text.strip():
            found[place] = Line(place + 1, found[place].text, found[place + 1].of, found[place + 1].origins)
    yield from found


def _line(number: int, text: str, said: _Said, before: bool) -> Line:
    if said.base or (said.base is None and before):
        return Line(number, text, "base", said.origins)
    return Line(number, text, "resource" if said.origins else "renderer", said.origins)


def _indent(text: str) -> int:
    return len(text) - len(text.lstrip())


# --- registries.conf and drop-ins -----------------------------------------------------------------------------------


def _registries(data: Mapping[str, Any], before: Mapping[str, Any], origins: By) -> Callable[[KeyPath], _Said]:
    tables, old = data.get("registry", ()), {_scope(table): table for table in before.get("registry", ())}

    def said(path: KeyPath) -> _Said:
        if not path or path == ("registry",):
            return _Said((), None)
        if path[0] != "registry" or not isinstance(path[1], int):
            key = str(path[0])
            return _Said(tuple(origins.get(key, ())), before.get(key) == data.get(key))
        table = tables[path[1]]
        return _of_table(path[2:], table, old.get(_scope(table)), origins)

    return said


def _of_table(path: KeyPath, table: Mapping[str, Any], old: Mapping[str, Any] | None, origins: By) -> _Said:
    """A table, or what is below it. `old` is the base's of the same scope."""
    scope = _scope(table)
    if path[:1] == ("mirror",) and len(path) > 1 and isinstance(path[1], int):
        mirror = table["mirror"][path[1]]
        return _Said(
            tuple(origins.get(f"{scope} mirror {mirror.get('location')}", ())), mirror in (old or {}).get("mirror", ())
        )
    if not path:
        return _Said(_among(origins.get(scope, ()), ()), old is not None)
    key = str(path[0])
    return _Said(
        _among(origins.get(scope, ()), _FIELDS.get(key, ())),
        old is not None and key in old and (key == "mirror" or old[key] == table.get(key)),
    )


def _scope(table: Mapping[str, Any]) -> str:
    return str(table.get("prefix") or table.get("location") or "").rstrip("/")


def _among(found: Sequence[Origin], fields: Sequence[str]) -> tuple[Origin, ...]:
    """Those of the first of `fields` that any is of; else all."""
    for field in fields:
        named = tuple(origin for origin in found if field in origin.field)
        if named:
            return named
    return tuple(found)


# --- Policies, and where signatures are looked for ------------------------------------------------------------------


def _policy(data: Mapping[str, Any], before: Mapping[str, Any], origins: By) -> Callable[[KeyPath], _Said]:
    transports, old = data.get("transports") or {}, before.get("transports") or {}

    def said(path: KeyPath) -> _Said:
        if path[:1] == ("default",):
            return _Said(tuple(origins.get("default", ())), before.get("default") == data.get("default"))
        if path[:1] == ("transports",) and len(path) > 2:
            transport, scope = str(path[1]), str(path[2])
            same = scope in old.get(transport, {}) and old[transport][scope] == transports[transport][scope]
            return _Said(tuple(origins.get(scope, ())), same)
        return _Said((), None)

    return said


_SCOPE = re.compile(r"""\s+(['"]?)(?P<scope>[^\s'"]+)\1:""")


def _attachments(text: str, origins: By) -> Iterator[tuple[int, _Said]]:
    """Each scope of the YAML file that rendering writes, with the line of its setting."""
    for number, line in enumerate(text.splitlines(), 1):
        found = _SCOPE.match(line)
        if found and _indent(line) == 2:
            yield number, _Said(tuple(origins.get(found["scope"], ())), base=False)
            yield number + 1, _Said(tuple(origins.get(found["scope"], ())), base=False)
