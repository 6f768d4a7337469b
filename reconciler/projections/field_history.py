"""Since which version of a resource a field says what it says now."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any

from reconciler.projections.desired import meaning

_STEP = re.compile(r"\[([^\]]*)\]|([^.\[]+)")
_ANY = ""
"""Stands for the index of any entry of a list."""

Steps = tuple[str, ...]


def unchanged(fields: Collection[str], versions: Iterable[Mapping[str, Any]]) -> dict[str, int]:
    """Per field, the number of the oldest version up to which it is without a gap what it is in the newest.

    `versions` are the documents of one resource, newest first (number 0); no more of them are taken than are needed.
    An entry of a list is known by its value, wherever it stands; a mirror row by what it says besides its mirrors,
    which are fields of their own; a field of a mirror row by that and the row's source; a scope of an image policy by
    that and the policy; a list whose order does not count by its entries. A field that the newest version does not have
    is of that version.
    """
    result = dict.fromkeys(fields, 0)
    wanted: dict[str, tuple[Steps, str]] = {}
    for number, document in enumerate(versions):
        if number == 0:
            wanted = {field: found for field in fields if (found := _now(document, field))}
        else:
            said = {steps: set(_said(document, steps)) for steps in {steps for steps, _ in wanted.values()}}
            wanted = {field: (steps, text) for field, (steps, text) in wanted.items() if text in said[steps]}
            result |= dict.fromkeys(wanted, number)
        if not wanted:
            break
    return result


def _now(document: Mapping[str, Any], field: str) -> tuple[Steps, str] | None:
    """Where in other versions what `field` says is looked for, and what that is."""
    steps = tuple(key or name for key, name in _STEP.findall(field))
    text = next(_said(document, steps), None)
    return (_anywhere(document, steps), text) if text is not None else None


def _anywhere(value: Any, steps: Steps) -> Steps:
    """Steps that lead to the field, with any entry in place of each index; a key of digits stays."""
    if not steps:
        return ()
    if isinstance(value, list):
        return _ANY, *_anywhere(value[int(steps[0])], steps[1:])
    return steps[0], *_anywhere(value[steps[0]], steps[1:])


def _said(document: Mapping[str, Any], steps: Steps) -> Iterator[str]:
    """What stands at the end of `steps`, as text that is equal where the meaning is."""
    name = _ANY if steps[-1].isdigit() else steps[-1]
    policy = document["spec"].get("policy") if steps[:2] == ("spec", "scopes") else None
    for source, value in _values(document, steps):
        if isinstance(value, Mapping) and "source" in value:
            value = {key: said for key, said in value.items() if key != "mirrors"}
        if isinstance(value, str) and source is None and policy is None:
            yield value  # as it is: lists are long
        else:
            yield meaning({name: value, "source of the row": source, "policy of the scope": policy})


def _values(value: Any, steps: Sequence[str], source: str | None = None) -> Iterator[tuple[str | None, Any]]:
    """The values at the end of `steps`, each with the source of the mirror row that it stands in."""
    if not steps:
        yield source, value
    elif isinstance(value, list):
        for entry in value if steps[0] == _ANY else value[int(steps[0]) :][:1]:
            yield from _values(entry, steps[1:], entry.get("source") if isinstance(entry, Mapping) else source)
    elif isinstance(value, Mapping) and steps[0] in value:
        yield from _values(value[steps[0]], steps[1:], source)
