"""Line numbers: where each table, key and element of a TOML or JSON text stands, which its decoders do not say.

One scanner reads both. It trusts that the text is valid (`tomllib` or `json` took it); of any other text it
gives some lines and never raises.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

KeyPath = tuple[str | int, ...]
"""Keys and indexes from the top of a document: `("registry", 0, "mirror", 1, "location")`."""
Lines = Mapping[KeyPath, int]
"""The line, counted from 1, of each path. TOML keys are in lower case, as the runtime compares them."""

_WORD = re.compile(
    r'"""(?:[^\\]|\\.)*?"{3,5}'
    r"|'''.*?'{3,5}"
    r'|"(?:[^"\\\n]|\\.)*"'
    r"|'[^'\n]*'"
    r"|\#[^\n]*|\n|[\[\]{},:=.]|[^\s\[\]{},:=.\"'\#]+",
    re.DOTALL,
)


@dataclass(slots=True)
class _Open:
    """A table or array that is being read. `key`: the member's, as far as read; `brackets`: of a TOML header."""

    path: KeyPath
    is_array: bool = False
    index: int = 0
    key: tuple[str, ...] = ()
    in_value: bool = False
    brackets: int = 0

    @property
    def here(self) -> KeyPath:
        """The path of the value that comes next."""
        return (*self.path, self.index) if self.is_array else (*self.path, *self.key)

    def next_member(self) -> None:
        self.index += self.is_array
        self.key, self.in_value = (), False


def toml_lines(text: str) -> Lines:
    """The lines of a TOML document; a table's is that of its header."""
    return _Scanner(toml=True).scan(text)


def json_lines(text: str) -> Lines:
    """The lines of a JSON document; of a key that stands twice, the later one."""
    return _Scanner(toml=False).scan(text)


def line_of(lines: Lines, path: KeyPath) -> int:
    """The line of `path`, or of what encloses it."""
    while path and path not in lines:
        path = path[:-1]
    return lines.get(path, 1)


class _Scanner:
    """One document in progress. In TOML the first of `opened` is the table that the last header named."""

    def __init__(self, *, toml: bool) -> None:
        self.toml = toml
        self.lines: dict[KeyPath, int] = {}
        self.opened: list[_Open] = [_Open(())] if toml else []
        self.counts: dict[KeyPath, int] = {}
        self.header_line = 1

    def scan(self, text: str) -> Lines:
        for word, line in _words(text):
            if word == "\n":
                self._end_of_line()
            elif not word.startswith("#"):
                self._take(word, line)
        self._end_of_line()
        return self.lines

    def _take(self, word: str, line: int) -> None:
        top = self.opened[-1] if self.opened else None
        if (top is not None and top.brackets) or self._opens_header(top, word):
            self._in_header(word, line)
        elif word in ("{", "["):
            path = top.here if top else ()
            self.lines.setdefault(path, line)
            self.opened.append(_Open(path, is_array=word == "["))
        elif word in ("}", "]"):
            if len(self.opened) > self.toml:
                self.opened.pop()
        elif top is not None:
            self._in_member(top, word, line)

    def _in_member(self, top: _Open, word: str, line: int) -> None:
        if word == ",":
            top.next_member()
        elif top.is_array:
            self.lines.setdefault(top.here, line)
        elif word in ("=", ":") and not top.in_value:
            top.in_value = True
            for length in range(1, len(top.key)):
                self.lines.setdefault((*top.path, *top.key[:length]), line)
            self.lines[top.here] = line
        elif word != "." and not top.in_value:
            top.key += (self._unquoted(word),)

    def _opens_header(self, top: _Open | None, word: str) -> bool:
        return self.toml and word == "[" and len(self.opened) == 1 and top is not None and not top.in_value

    def _in_header(self, word: str, line: int) -> None:
        top = self.opened[0]
        if word == "[":
            top.brackets += 1
            self.header_line = line
        elif word not in ("]", "."):
            top.key += (self._unquoted(word),)

    def _end_of_line(self) -> None:
        if not self.toml or len(self.opened) != 1:
            return
        top = self.opened[0]
        if top.brackets:
            self.opened[0] = _Open(self._table(top.key, is_array=top.brackets > 1))
        else:
            top.next_member()

    def _table(self, key: tuple[str, ...], *, is_array: bool) -> KeyPath:
        """The path of the table that a header names: below arrays of tables, in their last element."""
        path: KeyPath = ()
        for part in key[:-1]:
            path = (*path, part)
            path = (*path, self.counts[path] - 1) if path in self.counts else path
        path = (*path, *key[-1:])
        self.lines.setdefault(path, self.header_line)
        if is_array:
            number = self.counts.get(path, 0)
            self.counts[path] = number + 1
            path = (*path, number)
            self.lines[path] = self.header_line
        return path

    def _unquoted(self, word: str) -> str:
        if word.startswith('"'):
            try:
                word = str(json.loads(word))
            except ValueError:  # an escape that only TOML has
                word = word[1:-1]
        elif word.startswith("'"):
            word = word[1:-1]
        return word.lower() if self.toml else word


def _words(text: str) -> Iterator[tuple[str, int]]:
    """Each string, sign, comment or run of other characters, and the line where it begins."""
    line, end = 1, 0
    for found in _WORD.finditer(text):
        line += text.count("\n", end, found.start())
        yield found[0], line
        line += found[0].count("\n")
        end = found.end()
