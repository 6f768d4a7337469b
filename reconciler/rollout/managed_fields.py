"""How a live object differs from a document, and who made it so: metadata.managedFields read.

Lists are compared and owned as a whole, as OpenShift's schemas have it (`x-kubernetes-list-type: atomic`); mappings are
compared and owned key by key.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

FIELD_MANAGER = "reconciler"
"""Who we are in metadata.managedFields."""

Path = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class FieldManager:
    """Somebody who set fields: an entry of metadata.managedFields. `time` is UTC text; `fields` is its fieldsV1."""

    manager: str
    operation: str
    time: str
    fields: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class ClusterObject:
    """An object as the API has it. `document` is without status and what the server sets in metadata."""

    key: str
    document: Mapping[str, Any]
    uid: str
    resource_version: str
    generation: int
    managers: tuple[FieldManager, ...] = ()


@dataclass(frozen=True, slots=True)
class Difference:
    """One field. `kind`: changed, missing (the document has it, the object not), extra (the other way round)."""

    path: Path
    kind: Literal["changed", "missing", "extra"]

    @property
    def text(self) -> str:
        return path_text(self.path)


def path_text(path: Path) -> str:
    """`spec.registrySources`; a key that is no plain word stands in brackets: `data[registry.example.com..5000]`."""
    shown = ""
    for key in path:
        plain = key.replace("_", "").isalnum()
        shown += f".{key}" if plain and shown else key if plain else f"[{key}]"
    return shown


def differences(document: Mapping[str, Any], live: Mapping[str, Any]) -> tuple[Difference, ...]:
    """Where `live` differs from `document`. Of metadata only what the document names counts: others label as well."""
    found = [item for item in _walk((), document, live) if item.path[0] != "metadata" or item.kind != "extra"]
    return tuple(sorted(found, key=lambda item: item.path))


def _walk(path: Path, left: Mapping[str, Any], right: Mapping[str, Any]) -> Iterator[Difference]:
    for name in sorted({*left, *right}):
        here, one, other = (*path, name), left.get(name), right.get(name)
        if isinstance(one, Mapping) and isinstance(other, Mapping):
            yield from _walk(here, one, other)
        elif one != other and not (_is_empty(one) and _is_empty(other)):
            yield Difference(here, "missing" if other is None else "extra" if one is None else "changed")


def _is_empty(value: Any) -> bool:
    """An empty mapping says as much as none; an empty list does not (an empty allow list allows nothing)."""
    return value is None or value == {}


@dataclass(frozen=True, slots=True)
class ForeignChange:
    """A field that is not as we applied it: who made it so, how and when. Without `manager`: nobody can tell, since the
    API keeps no manager of a field that was taken away."""

    path: str
    kind: str
    manager: str
    operation: str
    time: str

    def as_data(self) -> dict[str, str]:
        return {name: getattr(self, name) for name in ("path", "kind", "manager", "operation", "time")}


def foreign_changes(answer: Mapping[str, Any], live: ClusterObject) -> tuple[ForeignChange, ...]:
    """What somebody else made of an object since the API answered us with `answer`, field by field.

    What we made of it ourselves, and could not record, is none of it.
    """
    found = []
    for item in differences(answer, live.document):
        owners = [entry for entry in live.managers if owns(entry.fields, item.path)]
        if any(_is_us(entry) for entry in owners) or (item.kind == "extra" and not owners):
            continue  # ours, or a default that the API filled in
        who = max(owners, key=lambda entry: entry.time, default=None) or _latest(live)
        manager, operation, time = (who.manager, who.operation, who.time) if who else ("", "", "")
        found.append(ForeignChange(item.text, item.kind, manager, operation, time))
    return tuple(found)


def without_foreign(sent: Mapping[str, Any], live: ClusterObject) -> Mapping[str, Any]:
    """The object's document without what others set in it and we did not send: that stays a difference from Git."""
    document = live.document
    for item in differences(sent, live.document):
        owners = [entry for entry in live.managers if owns(entry.fields, item.path)]
        if item.kind == "extra" and any(not _is_us(entry) for entry in owners):
            document = _less(document, item.path)
    return document


def _less(document: Mapping[str, Any], path: Path) -> Mapping[str, Any]:
    name, *rest = path
    kept = {key: value for key, value in document.items() if key != name}
    return {**kept, name: _less(document[name], tuple(rest))} if rest else kept


def _is_us(entry: FieldManager) -> bool:
    return entry.manager == FIELD_MANAGER and entry.operation == "Apply"


def _latest(live: ClusterObject) -> FieldManager | None:
    """Who wrote after us, for a field that nobody has any more; None where nobody, or more than one, did."""
    ours = max((entry.time for entry in live.managers if _is_us(entry)), default="")
    later = [entry for entry in live.managers if not _is_us(entry) and entry.time >= ours]
    return later[0] if len(later) == 1 else None


def owns(fields: Mapping[str, Any], path: Collection[str]) -> bool:
    """Whether a fieldsV1 names the field at `path`, or one below it."""
    here: Any = fields
    for name in path:
        here = here.get(f"f:{name}")
        if here is None:
            return False
    return True
