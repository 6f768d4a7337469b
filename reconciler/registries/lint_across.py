"""The traps that only several registries files together show: what replaces, hides or shadows what."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

from reconciler.registries.lint_catalogue import fault
from reconciler.registries.lint_hosts import Host
from reconciler.registries.lint_registries import Sheet, scope_of
from reconciler.registries.model import Problem
from reconciler.registries.registries_file import Registry
from reconciler.registries.runtime_config import RuntimeConfig
from reconciler.registries.scopes import is_wildcard, table_lookup


@dataclass(frozen=True, slots=True)
class Table:
    """A table in force, and where it stands."""

    sheet: Sheet
    index: int
    registry: Registry

    def line(self, *where: str | int) -> int:
        return self.sheet.line("registry", self.index, *where)

    def settings(self) -> list[str]:
        """What it does, in words."""
        flags = [name for name in ("blocked", "insecure") if getattr(self.registry, name)]
        return flags + [_MIRRORS] * bool(self.registry.mirrors)


Tables = Mapping[str, Table]
_MIRRORS = "the mirrors"


def in_force(sheets: Sequence[Sheet]) -> dict[str, Table]:
    """The tables of the sheets, which are in the order that the runtime reads them, by scope."""
    return {scope_of(r): Table(sheet, index, r) for sheet in sheets for index, r in sheet.tables()}


def check_registries(host: Host, sheets: Sequence[Sheet]) -> Iterator[Problem]:
    """`sheets`: the registries files that the runtime loads, in its order."""
    tables = in_force(sheets)
    yield from _replaced(host, sheets)
    yield from _search_lists(host, sheets)
    config = RuntimeConfig({scope: replace(table.registry, prefix=scope) for scope, table in tables.items()})
    for scope, table in tables.items():
        yield from _shadowed(host, tables, scope, table, config)
        yield from _narrower(host, tables, scope, table)
        yield from _mirrors(host, tables, table)


def _replaced(host: Host, sheets: Sequence[Sheet]) -> Iterator[Problem]:
    seen: dict[str, Table] = {}
    for sheet in sheets:
        for scope, table in in_force([sheet]).items():
            other = seen.get(scope)
            if other is not None and other.registry != table.registry:
                lost = _lost(other, table)
                there = host.at(other.sheet.path, other.line())
                drops = f", and drops {' and '.join(lost)}" if lost else ""
                message = f"the table for {scope} replaces the one of {there} as a whole{drops}"
                remedy = "make one table of the two: tables of one prefix are never merged"
                yield fault("drop-in-replaces", sheet.path, table.line(), message, remedy)
            seen[scope] = table


def _lost(old: Table, new: Table) -> list[str]:
    kept = new.settings()
    return [setting for setting in old.settings() if setting not in kept]


def _search_lists(host: Host, sheets: Sequence[Sheet]) -> Iterator[Problem]:
    lists = [sheet for sheet in sheets if sheet.file.search is not None]
    for before, after in pairwise(lists):
        lost = [entry for entry in before.file.search or () if entry not in (after.file.search or ())]
        if lost:
            there = host.at(before.path, before.line("unqualified-search-registries"))
            message = f"this list replaces the one of {there}; no longer searched: {', '.join(lost)}"
            remedy = "lists are never merged: name every registry here"
            line = after.line("unqualified-search-registries")
            yield fault("search-replaced", after.path, line, message, remedy)
    if lists and len(lists[-1].file.search or ()) > 1 and not _short_names_in_order(host):
        message = "CRI-O 1.34 and newer refuses every short name when there are several search registries"
        remedy = 'keep one, or set short_name_mode = "disabled" in crio.conf (short-name-mode here does not help)'
        line = lists[-1].line("unqualified-search-registries")
        yield fault("ambiguous-short-names", lists[-1].path, line, message, remedy)


def _short_names_in_order(host: Host) -> bool:
    """Whether a crio.conf among the files switches the short-name mode off; the last one counts."""
    modes = [image_options(host.files[path]).get("short_name_mode") for path in host.of("crio")]
    given = [mode for mode in modes if mode is not None]
    return bool(given) and given[-1] == "disabled"


def image_options(content: bytes) -> Mapping[str, Any]:
    """The table [crio.image] of a crio.conf; empty where it cannot be read."""
    try:
        crio = tomllib.loads(content.decode("utf-8-sig")).get("crio")
    except (ValueError, RecursionError):
        return {}
    image = crio.get("image") if isinstance(crio, dict) else None
    return image if isinstance(image, dict) else {}


def _shadowed(host: Host, tables: Tables, scope: str, table: Table, config: RuntimeConfig) -> Iterator[Problem]:
    winner = None if is_wildcard(scope) else config.find(scope)
    if winner is not None and is_wildcard(winner.prefix) and len(winner.prefix) == len(scope):
        there = tables[winner.prefix]
        message = f"{winner.prefix} of {host.at(there.sheet.path, there.line())} wins: it is as long as {scope}"
        remedy = "list the hosts of the wildcard one by one"
        yield fault("wildcard-wins", table.sheet.path, table.line(), message, remedy)


def _narrower(host: Host, tables: Tables, scope: str, table: Table) -> Iterator[Problem]:
    """Settings of the next wider table that this one does not repeat. A key that is written here is meant."""
    wider = next((tables[outer] for outer in table_lookup(scope) if outer != scope and outer in tables), None)
    if wider is None:
        return
    lines = table.sheet.lines
    lost = [setting for setting in _lost(wider, table) if ("registry", table.index, _key(setting)) not in lines]
    if lost:
        there = host.at(wider.sheet.path, wider.line())
        what = f"{' and '.join(lost)} of {scope_of(wider.registry)} ({there})"
        message = f"{scope} does not inherit {what}: only the narrowest table counts"
        meant = " and ".join("mirror = []" if setting == _MIRRORS else f"{setting} = false" for setting in lost)
        remedy = f"repeat it here; where it is meant to differ, write {meant}"
        yield fault("parent-not-combined", table.sheet.path, table.line(), message, remedy)


def _key(setting: str) -> str:
    return "mirror" if setting == _MIRRORS else setting


def _mirrors(host: Host, tables: Tables, table: Table) -> Iterator[Problem]:
    for number, mirror in enumerate(table.registry.mirrors):
        location = mirror.location.rstrip("/")
        other = next((tables[outer] for outer in table_lookup(location) if outer in tables), None)
        if other is None or other is table:
            continue
        line, path = table.line("mirror", number, "location"), table.sheet.path
        there = f"{host.at(other.sheet.path, other.line())} ({scope_of(other.registry)})"
        if other.registry.blocked:
            message = f"the mirror {location} is never asked: {there} blocks it"
            yield fault("mirror-blocked", path, line, message, "remove the mirror, or unblock it")
            continue
        if other.registry.insecure and not mirror.insecure:
            message = f"the mirror {location} is asked with TLS verification: insecure of {there} does not count here"
            yield fault("mirror-insecure-elsewhere", path, line, message, "write insecure = true for the mirror itself")
        if other.registry.mirrors or other.registry.location.rstrip("/") not in ("", scope_of(other.registry)):
            message = f"the mirror {location} is asked itself: mirrors and location of {there} do not count here"
            yield fault("mirror-chain", path, line, message, "list those mirrors here too")
