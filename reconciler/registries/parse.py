"""A manifest file in, documents out: multi-document YAML and JSON, each field with its line.

Values are plain JSON (mapping with string keys, list, string, integer, float, boolean, null); YAML timestamps,
binaries and sexagesimal numbers stay the strings they are written as, as in Kubernetes. Kinds are not known
here. The YAML events are read one by one, never a ready-made tree, so that nesting, aliases and duplicate keys
are refused before they cost anything.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import yaml

from reconciler.registries.model import Document, Location, Problem

try:
    from yaml import CSafeLoader as _Loader
except ImportError:  # PyYAML was built without libyaml
    from yaml import SafeLoader as _Loader  # type: ignore[assignment]  # same interface, other class

MAX_DEPTH = 64
MAX_ALIASED = 100_000
"""How many values the aliases of one file may stand for."""
MAX_INTEGER = 2**53

_KUSTOMIZATION = ("kustomization.yaml", "kustomization.yml", "Kustomization")
_BUILD = "commit the output of `kustomize build`, or list the file in .reconcilerignore"
_CORRECT = "correct the text here or just before (indentation is spaces, never tabs)"
_IGNORE = "remove it, or list the file in .reconcilerignore if it is no manifest"
_NOT_A_MAPPING = "a manifest is a mapping with apiVersion, kind and metadata"
_TAG = "tag:yaml.org,2002:"
_PLAIN_SCALARS = {f"{_TAG}{name}" for name in ("str", "timestamp", "value")}


class _Refused(Exception):
    """The file is refused here; `parse_file` makes a problem of it."""

    def __init__(self, name: str, message: str, line: int, remedy: str = "") -> None:
        super().__init__(message)
        self.name, self.message, self.line, self.remedy = name, message, line, remedy


@dataclass(frozen=True, slots=True)
class _Value:
    """A value and how many values are in it, aliases expanded."""

    value: Any
    size: int = 1


class _Reader:
    """Reads one file's events.

    Of the document being read, `lines` holds the line of each field path, and `spans` where its outer values
    (the root `""`, its fields, the elements of these) begin and end in the text.
    """

    def __init__(self, text: str) -> None:
        self._events = _Loader(text)
        self._anchors: dict[str, _Value | None] = {}
        self._aliased = 0
        self.lines: dict[str, int] = {}
        self.spans: dict[str, tuple[int, int]] = {}

    def next_document(self) -> _Value | None:
        """The next document, or None at the end of the file."""
        while True:
            event = self._next()
            if isinstance(event, yaml.StreamEndEvent):
                return None
            if isinstance(event, yaml.DocumentStartEvent):
                self._anchors, self.lines, self.spans = {}, {}, {}
                return self._value(self._next(), "", 0)

    def _next(self) -> Any:
        return self._events.get_event()

    def close(self) -> None:
        self._events.dispose()

    def _value(self, event: Any, path: str, depth: int) -> _Value:
        line = event.start_mark.line + 1
        if depth > MAX_DEPTH:
            raise _Refused("too-deep", f"nested deeper than {MAX_DEPTH} levels", line, "flatten the document")
        if path:
            self.lines[path] = line
        if isinstance(event, yaml.AliasEvent):
            return self._alias(event, line)
        if event.anchor:
            self._anchors[event.anchor] = None  # known, but not complete: an alias to it here is a cycle
        if isinstance(event, yaml.ScalarEvent):
            value = self._scalar(event, line)
            end: Any = event.end_mark
        elif isinstance(event, yaml.SequenceStartEvent):
            value, end = self._sequence(event, line, path, depth)
        else:
            value, end = self._mapping(event, line, path, depth)
        if depth <= 2:
            self.spans[path] = event.start_mark.index, end.index
        if event.anchor:
            self._anchors[event.anchor] = value
        return value

    def _alias(self, event: Any, line: int) -> _Value:
        if event.anchor not in self._anchors:
            raise _Refused("broken-yaml", f"the anchor &{event.anchor} is not defined", line, _CORRECT)
        target = self._anchors[event.anchor]
        if target is None:
            raise _Refused("alias-bomb", f"*{event.anchor} stands inside the value it names", line, "write it out")
        self._aliased += target.size
        if self._aliased > MAX_ALIASED:
            raise _Refused(
                "alias-bomb", f"aliases stand for more than {MAX_ALIASED} values", line, "write the values out"
            )
        return target

    def _sequence(self, event: Any, line: int, path: str, depth: int) -> tuple[_Value, Any]:
        self._refuse_tag(event, "seq", line)
        items: list[_Value] = []
        while not isinstance(following := self._next(), yaml.SequenceEndEvent):
            items.append(self._value(following, f"{path}[{len(items)}]", depth + 1))
        value = _Value([item.value for item in items], 1 + sum(item.size for item in items))
        return value, following.end_mark

    def _mapping(self, event: Any, line: int, path: str, depth: int) -> tuple[_Value, Any]:
        self._refuse_tag(event, "map", line)
        value: dict[str, Any] = {}
        merged: list[tuple[Any, int]] = []
        size = 1
        while not isinstance(key := self._next(), yaml.MappingEndEvent):
            name, merge = self._key(key)
            item = self._value(self._next(), f"{path}.{name}" if path else name, depth + 1)
            size += item.size
            self.lines[f"{path}.{name}" if path else name] = key.start_mark.line + 1
            if merge:
                merged.append((item.value, key.start_mark.line + 1))
            elif name in value:
                raise _Refused(
                    "duplicate-key",
                    f"the key {name!r} stands twice in one mapping",
                    key.start_mark.line + 1,
                    "keep one of the two; nothing says which one counts",
                )
            else:
                value[name] = item.value
        for source, place in merged:
            _merge(value, source, place)
        return _Value(value, size), key.end_mark

    def _key(self, event: Any) -> tuple[str, bool]:
        line = event.start_mark.line + 1
        if isinstance(event, yaml.AliasEvent) and isinstance(target := self._anchors.get(str(event.anchor)), _Value):
            if isinstance(target.value, str):
                return target.value, False
            raise _Refused("broken-yaml", "a key of a mapping is not a string", line, _CORRECT)
        if not isinstance(event, yaml.ScalarEvent):
            raise _Refused("broken-yaml", "a key of a mapping is not a string", line, _CORRECT)
        _refuse_characters(event.value, line)
        plain = event.implicit[0] and event.style not in ("'", '"')
        return event.value, plain and event.value == "<<"

    def _scalar(self, event: Any, line: int) -> _Value:
        text = event.value
        _refuse_characters(text, line)
        tag = event.tag
        if tag is None or tag == "!":
            resolver: Any = self._events
            tag = resolver.resolve(yaml.ScalarNode, text, event.implicit)
        return _Value(_plain(text, tag, line))

    def _refuse_tag(self, event: Any, expected: str, line: int) -> None:
        if event.tag not in (None, "!", f"{_TAG}{expected}"):
            raise _Refused("broken-yaml", f"the YAML tag {event.tag} has no meaning here", line, "remove the tag")


def _plain(text: str, tag: str, line: int) -> Any:
    """The JSON value of a YAML scalar whose tag is resolved."""
    if tag in _PLAIN_SCALARS or ":" in text:
        return text
    match tag.removeprefix(_TAG):
        case "null":
            return None
        case "bool":
            return text.lower() in ("yes", "true", "on")
        case "int":
            return _integer(text, line)
        case "float":
            number = _float(text)
            return number if number is not None and math.isfinite(number) else text
        case "merge":
            return text
    raise _Refused("broken-yaml", f"the YAML tag {tag} has no meaning here", line, "remove the tag")


def _integer(text: str, line: int) -> int:
    digits = text.replace("_", "").lower()
    unsigned = digits.lstrip("+-")
    base = 16 if unsigned.startswith("0x") else 2 if unsigned.startswith("0b") else 10
    if base == 10 and len(unsigned) > 1 and unsigned.startswith("0"):
        base = 8  # YAML 1.1, as the Kubernetes tools read it
    try:
        number = int(digits, base)
    except ValueError:
        raise _Refused("broken-yaml", f"{text!r} is not a number", line, "quote it") from None
    if abs(number) > MAX_INTEGER:
        raise _Refused("number-out-of-range", f"{text} cannot be kept exactly (2^53)", line, "quote it")
    return number


def _float(text: str) -> float | None:
    try:
        return float(text.replace("_", ""))
    except ValueError:
        return None


def _merge(value: dict[str, Any], source: Any, line: int) -> None:
    for mapping in source if isinstance(source, list) else [source]:
        if not isinstance(mapping, dict):
            raise _Refused("broken-yaml", "<< takes a mapping or a list of mappings", line, _CORRECT)
        for name, item in mapping.items():
            value.setdefault(name, item)


def _refuse_characters(text: str, line: int) -> None:
    if any(character == "\0" or "\ud800" <= character <= "\udfff" for character in text):
        raise _Refused("bad-character", "a string holds U+0000 or half a surrogate pair", line, "remove it")


def parse_file(path: str, data: bytes) -> tuple[tuple[Document, ...], tuple[Problem, ...]]:
    """The documents of one file, `kind: List` expanded, and what is wrong with it.

    `path` is the file's path in the config repository. Empty documents are skipped. Problems (all errors):
    `kustomization`, `not-utf8`, `broken-yaml`, `duplicate-key`, `alias-bomb`, `too-deep`, `bad-character`,
    `number-out-of-range`, `not-a-mapping`, `missing-kind`, `missing-api-version`, `missing-name`.
    """
    start = Location(path, 1)
    if path.rpartition("/")[2] in _KUSTOMIZATION:
        return (), (Problem("kustomization", "kustomizations are not built here", start, remedy=_BUILD),)
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        place = Location(path, data.count(b"\n", 0, error.start) + 1)
        return (), (Problem("not-utf8", "the file is not UTF-8 text", place, remedy="save it as UTF-8"),)
    documents: list[Document] = []
    problems: list[Problem] = []
    try:
        _read(path, text, documents, problems)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = Location(path, mark.line + 1 if mark else 1)
        what = f"not valid YAML: {error.problem or error.context}"
        problems.append(Problem("broken-yaml", what, place, remedy=_CORRECT))
    except yaml.YAMLError as error:
        problems.append(Problem("broken-yaml", f"not valid YAML: {_reason(error)}", start, remedy=_CORRECT))
    except _Refused as refused:
        place = Location(path, refused.line)
        problems.append(Problem(refused.name, refused.message, place, remedy=refused.remedy))
    return tuple(documents), tuple(problems)


def _reason(error: yaml.YAMLError) -> str:
    return str(error).splitlines()[0] if str(error) else "unreadable"


def _read(path: str, text: str, documents: list[Document], problems: list[Problem]) -> None:
    reader = _Reader(text)
    try:
        while (root := reader.next_document()) is not None:
            if root.value is None:
                continue
            for value, location, lines, source in _split(path, text, root.value, reader):
                if not isinstance(value, Mapping):
                    problems.append(Problem("not-a-mapping", _NOT_A_MAPPING, location, remedy=_IGNORE))
                    continue
                document = Document(value, location, lines, source)
                flaw = _flaw(document)
                if flaw:
                    problems.append(flaw)
                else:
                    documents.append(document)
    finally:
        reader.close()


def _split(path: str, text: str, value: Any, reader: _Reader) -> Iterator[tuple[Any, Location, dict[str, int], str]]:
    """Value, place, lines and source text of the document itself, or of each item of a `kind: List`."""
    first = text.count("\n", 0, reader.spans[""][0]) + 1
    if not (isinstance(value, Mapping) and value.get("kind") == "List" and isinstance(value.get("items"), list)):
        yield value, Location(path, first), reader.lines, _slice(text, reader.spans[""])
        return
    fields: dict[str, dict[str, int]] = {}
    for name, line in reader.lines.items():
        item, bracket, rest = name.partition("]")
        if bracket and item.startswith("items["):
            fields.setdefault(f"{item}]", {})[rest.removeprefix(".")] = line
    for index, item_value in enumerate(value["items"]):
        item = f"items[{index}]"
        span = reader.spans.get(item, reader.spans[""])
        lines = fields.get(item, {})
        yield item_value, Location(path, lines.pop("", first)), lines, _slice(text, span)


def _slice(text: str, span: tuple[int, int]) -> str:
    return text[span[0] : span[1]].rstrip() + "\n"


def _flaw(document: Document) -> Problem | None:
    """What keeps a document from being a Kubernetes object at all."""
    if document.kind == "Kustomization":
        return Problem("kustomization", "kustomizations are not built here", document.location, remedy=_BUILD)
    for name, field in (("missing-kind", "kind"), ("missing-api-version", "apiVersion")):
        if not (isinstance(document.value.get(field), str) and document.value[field]):
            remedy = f"add {field}, or list the file in .reconcilerignore if it is no manifest"
            return Problem(name, f"the document has no {field}", document.at(field), field=field, remedy=remedy)
    metadata = document.value.get("metadata")
    name_given = metadata.get("name") if isinstance(metadata, Mapping) else None
    if not (isinstance(name_given, str) and name_given):
        return Problem(
            "missing-name",
            "metadata.name is missing" if name_given is None else "metadata.name is not a string",
            document.at("metadata.name"),
            object=document.kind,
            field="metadata.name",
            remedy="name it (quote a name that looks like a number)",
        )
    return None
