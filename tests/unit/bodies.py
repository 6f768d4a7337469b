"""Hypothesis strategies for event bodies of every type."""

from __future__ import annotations

from dataclasses import fields
from types import NoneType, UnionType
from typing import Any, get_args, get_origin, get_type_hints

from hypothesis import strategies as st

from reconciler.events.catalogue import CATALOGUE, Event
from reconciler.events.codec import MAX_INTEGER

INTEGERS = st.integers(-MAX_INTEGER, MAX_INTEGER)
TEXTS = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=20)
KEYS = st.text(st.characters(max_codepoint=127, exclude_characters="\0"), max_size=10)
VALUES = st.recursive(
    st.none() | st.booleans() | INTEGERS | TEXTS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(KEYS, inner, max_size=4),
    max_leaves=10,
)
MAPPINGS = st.dictionaries(KEYS, VALUES, max_size=4)


def bodies() -> st.SearchStrategy[Event]:
    """A body of any type of the catalogue."""
    return st.one_of(*(bodies_of(name) for name in CATALOGUE))


def bodies_of(event_type: str) -> st.SearchStrategy[Event]:
    body = CATALOGUE[event_type]
    hints = get_type_hints(body)
    return st.builds(body, **{field.name: _values(hints[field.name]) for field in fields(body)})


def _values(hint: Any) -> st.SearchStrategy[Any]:
    if isinstance(hint, UnionType):
        return st.one_of(*(_values(option) for option in get_args(hint)))
    if get_origin(hint) is tuple:
        return st.lists(_values(get_args(hint)[0]), max_size=4).map(tuple)
    return {str: TEXTS, int: INTEGERS, bool: st.booleans(), NoneType: st.none()}.get(hint, MAPPINGS)
