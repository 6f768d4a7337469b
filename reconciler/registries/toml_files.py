"""Reading and writing TOML files of the runtime without losing what is not ours.

A base is kept byte for byte; tables that resources change are edited in place with tomlkit, new ones come
after it, sorted by scope. Where nothing changes, nothing is added either, not even the header. Whatever is written
is read back with tomllib and compared before it leaves.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from typing import Any

import tomlkit
from tomlkit.exceptions import TOMLKitError

from reconciler.registries import runtime_config
from reconciler.registries.model import Problem
from reconciler.registries.registries_conf import BY_DIGEST_ONLY, PULL_FROM, Table

HEADER = "# Managed by reconciler: change the config repository, not this file.\n"
_SEARCH = "unqualified-search-registries"
_KEYS = frozenset(
    {"registry", "mirror", "prefix", "location", "insecure", "blocked", _SEARCH, PULL_FROM, BY_DIGEST_ONLY}
)


class RenderError(AssertionError):
    """A rendered file does not say what was meant: a defect of the renderer, never of the input."""


def read_base(path: str, content: bytes | None, owner: str = "host") -> tuple[str, dict[str, Any], list[Problem]]:
    """Text and data of the TOML file of a base, whose `owner` messages name (None: absent, which reads as empty).

    Problem: `base-unreadable`, the runtime would not load the file, or it has the old version 1 form.
    """
    if content is None:
        return "", {}, []
    try:
        text = content.decode()
        data = tomllib.loads(text)
    except (ValueError, RecursionError) as error:  # broken TOML or UTF-8, too long an integer, too deeply nested
        return "", {}, [unreadable(owner, path, f"is not valid TOML: {error}")]
    if "registries" in data:
        return text, data, [unreadable(owner, path, "is in the version 1 form ([registries.search] and the like)")]
    flaw = runtime_config.load({path: content}).registries_error.removeprefix(f"{path}: ") or _odd_key(data)
    return text, data, [unreadable(owner, path, f"cannot be used: {flaw}")] if flaw else []


def unreadable(owner: str, path: str, what: str) -> Problem:
    """The error for a file of a base that nothing can be laid over."""
    remedy = "repair the file (`podman info` must read it), then sync again"
    return Problem("base-unreadable", f"the {owner}'s own {path} {what}", remedy=remedy)


def _odd_key(data: Mapping[str, Any]) -> str:
    """The runtime reads keys in any case; to edit them safely, they must be in lower case."""
    tables = data.get("registry", [])
    rows = [data, *tables, *(mirror for table in tables for mirror in table.get("mirror", []))]
    odd = next((key for row in rows for key in row if key != key.lower() and key.lower() in _KEYS), "")
    return f"the key {odd} is not in lower case" if odd else ""


def write_registries(text: str, data: Mapping[str, Any], tables: Sequence[Table], syntax: str) -> bytes:
    """registries.conf: the base (`text`, and its `data`) with `tables` in the place of its own.

    A base that says all of it already stays byte for byte. `tables` must begin with those of the base, in their
    order. Raises RenderError.
    """
    known = [table for table in tables if table.captured is not None]
    new = sorted((table for table in tables if table.captured is None), key=lambda table: table.scope)
    wanted: dict[str, Any] = {**data, "registry": [table.data(syntax) for table in [*known, *new]]}
    if not wanted["registry"]:
        del wanted["registry"]
    changed = {i: table.data(syntax) for i, table in enumerate(known) if table.data(syntax) != table.captured}
    if text and not changed and not new:
        return text.encode()
    # One by one: tomlkit slows down with the length of an array of tables.
    added = "\n".join(_one_registry(registry) for registry in wanted.get("registry", ())[len(known) :])
    try:
        base = _edited(text, changed) if changed else text
        return _checked(_joined(base, added), wanted)
    except (RenderError, TOMLKitError):
        # Inline or scattered tables that cannot be edited in place: the data survives, comments do not.
        return _checked(_joined("", tomlkit.dumps(wanted)), wanted)


def write_search(text: str, data: Mapping[str, Any], search: Sequence[str]) -> bytes:
    """The search drop-in; other keys of a captured one stay, and all of one with this list. Raises RenderError."""
    wanted = {**data, _SEARCH: list(search)}
    if data == wanted:
        return text.encode()
    document = tomlkit.parse(text)
    document[_SEARCH] = list(search)
    try:
        return _checked(_joined("", tomlkit.dumps(document)), wanted)
    except (RenderError, TOMLKitError):
        return _checked(_joined("", tomlkit.dumps(wanted)), wanted)


def _one_registry(data: Mapping[str, Any]) -> str:
    """A `[[registry]]` table. Built piece by piece, which takes tomlkit a third less than from a dictionary."""
    mirrors = tomlkit.aot()
    for mirror in data.get("mirror", ()):
        mirrors.append(_table(mirror))
    table = _table({key: value for key, value in data.items() if key != "mirror"})
    if mirrors:
        table.append("mirror", mirrors)
    registries = tomlkit.aot()
    registries.append(table)
    document = tomlkit.document()
    document.append("registry", registries)
    return tomlkit.dumps(document)


def _table(data: Mapping[str, Any]) -> tomlkit.items.Table:
    table = tomlkit.table()
    for key, value in data.items():
        table.append(key, value)
    return table


def _edited(text: str, changed: Mapping[int, Mapping[str, Any]]) -> str:
    document = tomlkit.parse(text)
    tables: Any = document["registry"]
    for index, wanted in changed.items():
        table = tables[index]
        present = table.unwrap()
        for key in present.keys() - wanted.keys():
            del table[key]
        for key, value in wanted.items():
            if key not in present or present[key] != value:
                table[key] = value
    return tomlkit.dumps(document)


def _joined(base: str, added: str) -> str:
    header = "" if base.startswith(HEADER) or added.startswith(HEADER) else HEADER
    parts = [part.strip("\n") + "\n" for part in (base, added) if part.strip()]
    return header + "\n".join(parts)


def _checked(text: str, wanted: Mapping[str, Any]) -> bytes:
    try:
        found = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise RenderError(f"a rendered TOML file cannot be read back: {error}") from error
    if found != wanted:
        raise RenderError("a rendered TOML file does not say what was meant")
    return text.encode()
