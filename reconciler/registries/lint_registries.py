"""The traps that one registries.conf or drop-in shows by itself.

Whatever containers/image refuses in a file is found, if only as `unloadable`: the reader of the runtime
(`runtime_config.load`) has the last word.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any

from reconciler.errors import InputRejected
from reconciler.registries.evidence import line_of_fault
from reconciler.registries.file_lines import KeyPath, Lines, line_of, toml_lines
from reconciler.registries.lint_catalogue import fault
from reconciler.registries.lint_names import check_table
from reconciler.registries.model import REGISTRIES_CONF, REGISTRIES_CONF_D, Problem
from reconciler.registries.references import DOMAIN
from reconciler.registries.registries_file import RegistriesFile, Registry, read
from reconciler.registries.runtime_config import load
from reconciler.registries.scopes import is_wildcard

_TOP: Mapping[str, type] = {
    "unqualified-search-registries": list,
    "registry": list,
    "short-name-mode": str,
    "credential-helpers": list,
    "additional-layer-store-auth-helper": str,
    "aliases": dict,
    "registries": dict,
}
_MIRROR: Mapping[str, type] = {"location": str, "insecure": bool, "pull-from-mirror": str}
_REGISTRY: Mapping[str, type] = {
    **_MIRROR,
    "prefix": str,
    "blocked": bool,
    "mirror-by-digest-only": bool,
    "mirror": list,
}
_TYPES = {list: "an array", dict: "a table", str: "a string in quotes", bool: "true or false, without quotes"}
_KEEPS = "a running CRI-O keeps what it loaded before; a restart fails"
_MODES = ("", "all", "digest-only", "tag-only")


@dataclass(frozen=True, slots=True)
class Sheet:
    """A file that could be read: its tables, and where they stand. `drop_in`: it adds to another file."""

    path: str
    file: RegistriesFile
    lines: Lines
    drop_in: bool

    def line(self, *where: str | int) -> int:
        return line_of(self.lines, where)

    def tables(self) -> Iterator[tuple[int, Registry]]:
        """The tables in force and their numbers: of several of one scope the first."""
        seen: set[str] = set()
        for index, registry in enumerate(self.file.registries):
            if scope_of(registry) not in seen:
                seen.add(scope_of(registry))
                yield index, registry


def scope_of(registry: Registry) -> str:
    """What the runtime takes a table to be about."""
    return registry.scope.rstrip("/")


def check_file(path: str, content: bytes, *, drop_in: bool) -> tuple[Sheet | None, list[Problem]]:
    """The file, where the runtime loads it, and everything that is wrong with it."""
    try:
        text = content.decode("utf-8-sig")
        data = tomllib.loads(text)
    except (ValueError, RecursionError) as error:
        return None, [_broken(path, content, error)]
    lines = toml_lines(text)
    problems = list(_keys(path, data, lines))
    try:
        sheet = Sheet(path, read(content), lines, drop_in)
    except InputRejected as error:
        remedy = f"correct it: {_KEEPS}"
        typed = [problem for problem in problems if problem.name == "wrong-type"]
        problems += [] if typed else [fault("wrong-type", path, line_of_fault(content, error.what), error.what, remedy)]
        return None, problems
    problems += _check(sheet)
    if not any(problem.severity == "error" for problem in problems):
        problems += _refused(sheet, content)
    loadable = not any(p.severity == "error" and p.name != "mirror-malformed" for p in problems)
    return sheet if loadable else None, problems


def _broken(path: str, content: bytes, error: Exception) -> Problem:
    said = str(error) or "it is nested too deeply"
    last = content.count(b"\n") + (not content.endswith(b"\n"))
    line = last if "end of document" in said else line_of_fault(content, said)
    return fault("broken-toml", path, line, f"not valid TOML: {said}", f"correct it: {_KEEPS}")


def _refused(sheet: Sheet, content: bytes) -> Iterator[Problem]:
    """What the runtime finds that no check here did."""
    path = f"{REGISTRIES_CONF_D}/file.conf" if sheet.drop_in else REGISTRIES_CONF
    said = load({path: content}).registries_error.removeprefix(f"{path}: ")
    if said:
        yield fault("unloadable", sheet.path, line_of_fault(content, said), said, f"correct it: {_KEEPS}")


def _keys(path: str, data: Mapping[str, Any], lines: Lines) -> Iterator[Problem]:
    """Keys that the runtime does not know, and values of the wrong type."""
    yield from _level(path, data, (), _TOP, lines)
    for number, registry in enumerate(_tables(data, "registry")):
        yield from _level(path, registry, ("registry", number), _REGISTRY, lines)
        for index, mirror in enumerate(_tables(registry, "mirror")):
            yield from _level(path, mirror, ("registry", number, "mirror", index), _MIRROR, lines)


def _tables(data: Mapping[str, Any], wanted: str) -> list[Mapping[str, Any]]:
    values: Any = next((value for key, value in data.items() if key.lower() == wanted), [])
    return [value if isinstance(value, dict) else {} for value in values] if isinstance(values, list) else []


def _level(
    path: str, table: Mapping[str, Any], where: KeyPath, known: Mapping[str, type], lines: Lines
) -> Iterator[Problem]:
    for key, value in table.items():
        line, name = line_of(lines, (*where, key.lower())), key.lower()
        if name not in known:
            near = get_close_matches(name, known, 1, 0.7)
            remedy = f"did you mean {near[0]}?" if near else f"remove it, or move it: here stand {', '.join(known)}"
            yield fault("unknown-key", path, line, f"the runtime ignores the key {key!r}", remedy)
        elif type(value) is not known[name]:
            message = f"{key} must be {_TYPES[known[name]]}"
            yield fault("wrong-type", path, line, message, f"correct it: {_KEEPS}")


def _check(sheet: Sheet) -> Iterator[Problem]:
    yield from _old_form(sheet)
    yield from _search(sheet)
    for index, registry in enumerate(sheet.file.registries):
        broken = list(_form(sheet, index, registry))
        yield from broken
        if not broken:
            yield from check_table(sheet.path, sheet.lines, index, registry)
    yield from _duplicates(sheet)


def _old_form(sheet: Sheet) -> Iterator[Problem]:
    if sheet.file.version_1:
        message = "this is the version 1 form"
        if sheet.drop_in:
            message += ", which a drop-in must not have: no registries are loaded at all"
        remedy = "write unqualified-search-registries and [[registry]] tables instead"
        name = "unloadable" if sheet.drop_in else "old-form"
        yield fault(name, sheet.path, sheet.line("registries"), message, remedy)


def _search(sheet: Sheet) -> Iterator[Problem]:
    for index, entry in enumerate(sheet.file.search or ()):
        line = sheet.line("unqualified-search-registries", index)
        if entry.startswith(("http://", "https://")):
            yield _scheme(sheet, line, entry)
        elif not DOMAIN.fullmatch(entry.rstrip("/")):
            message = f"{entry!r} is not HOST[:PORT]: no registries are loaded at all"
            yield fault("search-entry", sheet.path, line, message, f"name the registry alone: {_KEEPS}")


def _scheme(sheet: Sheet, line: int, text: str) -> Problem:
    remedy = f"remove the scheme, and for plain HTTP set insecure = true: {_KEEPS}"
    message = f"{text!r} begins with a scheme: no registries are loaded at all"
    return fault("scheme-in-location", sheet.path, line, message, remedy)


def _form(sheet: Sheet, index: int, registry: Registry) -> Iterator[Problem]:
    """What makes the table, and with it every registry, unloadable."""
    where = ("registry", index)
    for key in ("prefix", "location"):
        if getattr(registry, key).startswith(("http://", "https://")):
            yield _scheme(sheet, sheet.line(*where, key), getattr(registry, key))
    prefix, location = registry.prefix.rstrip("/") or registry.location.rstrip("/"), registry.location.rstrip("/")
    if not prefix or (not is_wildcard(prefix) and not location):
        remedy = 'write location = "HOST[:PORT][/PATH]", and prefix only where the image\'s name differs'
        yield fault("no-scope", sheet.path, sheet.line(*where), "the table has no location", remedy)
    if is_wildcard(prefix) and any(character in prefix for character in "/@:"):
        message = f"{prefix!r} is no wildcard of the form *.example.com: no registries are loaded at all"
        yield fault("wildcard-form", sheet.path, sheet.line(*where, "prefix"), message, "name the domain alone")
    elif is_wildcard(location):
        message = f"location {location!r} is a wildcard: every pull through this table fails"
        remedy = f'write prefix = "{location}", and no location'
        yield fault("wildcard-form", sheet.path, sheet.line(*where, "location"), message, remedy)
    if registry.pull_from_mirror:
        message = "pull-from-mirror stands in a [[registry]] table: no registries are loaded at all"
        line = sheet.line(*where, "pull-from-mirror")
        yield fault("pull-from-mirror", sheet.path, line, message, "move it to the [[registry.mirror]] tables")
    for number in range(len(registry.mirrors)):
        yield from _mirror_form(sheet, registry, (*where, "mirror", number), number)


def _mirror_form(sheet: Sheet, registry: Registry, where: KeyPath, number: int) -> Iterator[Problem]:
    mirror = registry.mirrors[number]
    line = sheet.line(*where, "pull-from-mirror")
    if mirror.location.startswith(("http://", "https://")):
        yield _scheme(sheet, sheet.line(*where, "location"), mirror.location)
    elif not mirror.location.rstrip("/"):
        message = "a mirror without location: no registries are loaded at all"
        remedy = 'write location = "HOST[:PORT][/PATH]", or remove the mirror'
        yield fault("mirror-without-location", sheet.path, sheet.line(*where), message, remedy)
    if registry.mirror_by_digest_only and mirror.pull_from_mirror:
        message = "pull-from-mirror beside mirror-by-digest-only of its registry: no registries are loaded at all"
        remedy = 'keep one: pull-from-mirror = "digest-only" says the same for one mirror'
        yield fault("both-mirror-syntaxes", sheet.path, line, message, remedy)
    elif mirror.pull_from_mirror not in _MODES:
        message = f"{mirror.pull_from_mirror!r} is no value of pull-from-mirror: no registries are loaded at all"
        yield fault("pull-from-mirror", sheet.path, line, message, "write all, digest-only or tag-only")


def _duplicates(sheet: Sheet) -> Iterator[Problem]:
    """Second tables of a scope, and tables of one location that disagree."""
    scopes: dict[str, int] = {}
    places: dict[str, tuple[int, Registry]] = {}
    for index, registry in enumerate(sheet.file.registries):
        line = sheet.line("registry", index)
        place = registry.location.rstrip("/") or scope_of(registry)
        first, other = places.setdefault(place, (index, registry))
        for key in ("blocked", "insecure"):
            if place and getattr(registry, key) != getattr(other, key):
                message = (
                    f"this table and the one of line {sheet.line('registry', first)}, both for {place}, "
                    f"disagree about {key}: no registries are loaded at all"
                )
                yield fault("conflicting-flags", sheet.path, line, message, "make them agree, or keep one of them")
        earlier = scopes.setdefault(scope_of(registry), index)
        if earlier != index and scope_of(registry):
            message = (
                f"there is a table for {scope_of(registry)} in line {sheet.line('registry', earlier)}: only that counts"
            )
            yield fault("duplicate-table", sheet.path, line, message, "make one table of the two")
