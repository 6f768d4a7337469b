"""Where it is said: the file, line and resource field behind each table, mirror, policy scope and setting.

What `explain` answers with. Lines are looked up only in files that an answer names.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from reconciler.errors import InputRejected
from reconciler.registries import scopes
from reconciler.registries.disruption import Files
from reconciler.registries.file_lines import KeyPath, Lines, json_lines, line_of, toml_lines
from reconciler.registries.model import Origin
from reconciler.registries.registries_file import read
from reconciler.registries.runtime_config import registries_paths

Origins = Mapping[str, Mapping[str, Sequence[Origin]]]
"""`NodeFile.origins` by path."""

_LINE = re.compile(r"\bline (\d+)")
_QUOTED = re.compile(r"'([^']+)'")


class Place(NamedTuple):
    """A line of a file, what stands there, and the resource fields that it was rendered from."""

    file: str
    line: int
    what: str
    origins: tuple[Origin, ...] = ()


class Evidence:
    """Finds places in the files that a runtime was given. Of tables of one scope it finds the one in force."""

    def __init__(self, files: Files, origins: Origins) -> None:
        self._files = files
        self._origins = origins
        self._lines: dict[str, Lines] = {}
        self._tables = _tables_in_force(files)

    @property
    def rendered(self) -> bool:
        """Whether the files were rendered from resources, so that fields can be named."""
        return bool(self._origins)

    def table(self, scope: str, *fields: str) -> Place | None:
        """The table of `scope`; of its origins those with the first of `fields` that any of them has."""
        found = self._tables.get(scope)
        if found is None:
            return None
        path, index = found
        return self._place(path, ("registry", index), f"[[registry]] {scope}", self._of(path, scope, fields))

    def mirror(self, scope: str, index: int, location: str) -> Place | None:
        """The mirror number `index` of the table of `scope`."""
        found = self._tables.get(scope)
        if found is None:
            return None
        path, table = found
        origins = self._of(path, f"{scope} mirror {location}")
        what = f"[[registry.mirror]] {location}"
        return self._place(path, ("registry", table, "mirror", index), what, origins)

    def policy(self, path: str, scope: str | None, *fields: str) -> Place:
        """The scope of transport docker in the policy at `path`, or its default (None)."""
        if scope is None:
            return self._place(path, ("default",), "default", self._of(path, "default"))
        where = ("transports", "docker", scope)
        return self._place(path, where, f"docker scope {scope!r}", self._of(path, scope, fields))

    def whole_transport(self, path: str, transport: str) -> Place:
        """The scope "" of a transport in the policy at `path`; no resource writes one."""
        return self._place(path, ("transports", transport, ""), f"{transport} scope ''", ())

    def search(self) -> Place:
        """The list of search registries in force; without one the main file, where it could stand."""
        key = "unqualified-search-registries"
        present = [path for path in registries_paths(self._files) if self._content(path)]
        setting = [path for path in present if (key,) in self._lines_of(path)]
        path = setting[-1] if setting else registries_paths(self._files)[0]
        return self._place(path, (key,), key, self._of(path, key))

    def fault(self, message: str) -> Place | None:
        """The file that an error message begins with, and the line that it names or quotes a word of."""
        named = [path for path, content in self._files.items() if content is not None and message.startswith(path)]
        if not named:
            return None
        path = max(named, key=len)
        return Place(path, line_of_fault(self._content(path), message), "cannot be used")

    def entry_of(self, place: Place, scope: str) -> str:
        """The list entry that gave `place` its first origin: `scope` itself, or a wider one that covers it."""
        by_scope = self._origins.get(place.file, {})
        given = [outer for outer in scopes.enclosing(scope) if set(place.origins[:1]) & set(by_scope.get(outer, ()))]
        return given[-1] if given else scope

    def _of(self, path: str, key: str, fields: Iterable[str] = ()) -> tuple[Origin, ...]:
        origins = tuple(self._origins.get(path, {}).get(key, ()))
        for field in fields:
            named = tuple(origin for origin in origins if field in origin.field)
            if named:
                return named
        return origins

    def _place(self, path: str, where: KeyPath, what: str, origins: tuple[Origin, ...]) -> Place:
        return Place(path, line_of(self._lines_of(path), where), what, origins)

    def _lines_of(self, path: str) -> Lines:
        if path not in self._lines:
            text = self._content(path).decode("utf-8-sig", errors="replace")
            self._lines[path] = json_lines(text) if path.endswith(".json") else toml_lines(text)
        return self._lines[path]

    def _content(self, path: str) -> bytes:
        return self._files.get(path) or b""


def line_of_fault(content: bytes, message: str) -> int:
    """The line that an error message about `content` names, or the first with the word that it quotes, or 1."""
    named, quoted = _LINE.search(message), _QUOTED.search(message)
    if named:
        return int(named[1])
    lines = content.decode(errors="replace").splitlines() if quoted else []
    return next((number for number, line in enumerate(lines, 1) if quoted and quoted[1] in line), 1)


def _tables_in_force(files: Files) -> dict[str, tuple[str, int]]:
    """Scope → path and number of its table: the first of the last file that has one."""
    found: dict[str, tuple[str, int]] = {}
    for path in registries_paths(files):
        try:
            registries = read(files.get(path) or b"").registries
        except InputRejected:
            return {}  # nothing is in force: the runtime loads none of the files
        for index in reversed(range(len(registries))):
            found[registries[index].scope.rstrip("/")] = (path, index)
    return found
