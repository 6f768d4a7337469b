"""Bodies to canonical JSON and back; RFC 8785 is judged by another implementation."""

from __future__ import annotations

import json
from enum import Enum
from types import MappingProxyType
from typing import Any

import pytest
import rfc8785
from hypothesis import given, settings
from hypothesis import strategies as st

from reconciler.errors import InputRejected, LogCorrupt, StoreError
from reconciler.events import codec
from reconciler.events.catalogue import (
    CATALOGUE,
    BaselineCaptured,
    CommitAccepted,
    Event,
    NodeRegistered,
    SourceRecovered,
    SourceUnreachable,
)
from reconciler.events.codec import MAX_INTEGER, canonical, decode, encode, recorded
from tests.unit.bodies import VALUES, bodies, bodies_of


@given(VALUES)
def test_canonical_json_is_rfc_8785(value: Any) -> None:
    assert canonical(value).encode() == rfc8785.dumps(value)


@given(bodies())
def test_what_is_encoded_is_decoded(body: Event) -> None:
    text = encode(body)
    assert decode(body.type, body.schema_version, text) == body
    assert text.encode() == rfc8785.dumps(json.loads(text))


@given(bodies())
def test_what_is_folded_live_is_what_a_replay_reads(body: Event) -> None:
    """The same values in the same order, down to the keys of mappings, though the text is not read back."""
    text, live = recorded(body)
    replayed = decode(body.type, body.schema_version, text)
    assert (type(live), live) == (type(replayed), replayed)
    assert repr(live) == repr(replayed)
    assert text == encode(body)


@pytest.mark.parametrize("event_type", sorted(CATALOGUE))
def test_every_type_of_the_catalogue_can_be_recorded(event_type: str) -> None:
    @settings(max_examples=10)
    @given(bodies_of(event_type))
    def round_trip(body: Event) -> None:
        decoded = decode(event_type, body.schema_version, encode(body))
        assert (type(decoded), decoded) == (type(body), body)

    round_trip()


def test_the_text_of_a_body() -> None:
    body = NodeRegistered("a", None, "c0", MappingProxyType({"z": (1, True), "a": 'é\n\x1f"\\\u2028'}))
    spec = '{"a":"é\\n\\u001f\\"\\\\\u2028","z":[1,true]}'
    assert encode(body) == f'{{"commit":"c0","discovered":false,"node":"a","pool":null,"reason":"","spec":{spec}}}'


class Colour(Enum):
    RED = 1


@pytest.mark.parametrize(
    ("value", "what"),
    [
        (1.5, "a value of type float cannot be recorded"),
        (float("nan"), "float"),
        (MAX_INTEGER + 1, "the integer 9007199254740992 is outside"),
        (-MAX_INTEGER - 1, "the integer -9007199254740992 is outside"),
        ("a\0b", r"contains U\+0000"),
        ("\ud800", "lone surrogate"),
        ("ok \udfff", "lone surrogate"),
        (b"bytes", "a value of type bytes"),
        ({1, 2}, "a value of type set"),
        (Colour.RED, "a value of type Colour"),
        ({1: "a"}, "the key 1 is not ASCII text without"),
        ({None: "a"}, "the key None is not ASCII text"),
        ({"é": "a"}, "the key 'é' is not ASCII text"),
        ({"a\0": "a"}, r"U\+0000"),
    ],
)
@pytest.mark.parametrize("wrap", [lambda v: {"x": v}, lambda v: {"x": {"y": [v]}}, lambda v: {"x": ({"y": v},)}])
def test_what_cannot_be_recorded_is_refused_by_field(value: object, what: str, wrap: object) -> None:
    assert callable(wrap)
    with pytest.raises(InputRejected, match=what) as caught:
        encode(NodeRegistered("a", None, "c0", wrap(value)))
    assert caught.value.where.startswith("NodeRegistered.spec.x")


@given(st.sampled_from(["CommitAccepted", "RolloutCompleted"]).flatmap(bodies_of))
def test_declared_tuples_come_back_as_tuples(body: Event) -> None:
    decoded = decode(body.type, 1, encode(body))
    values = [value for value in vars(decoded).values() if isinstance(value, (tuple, list))]
    assert values
    assert all(isinstance(value, tuple) for value in values)


def test_defaults_fill_what_an_older_version_did_not_write() -> None:
    assert decode("CommitAccepted", 1, '{"commit":"c0","pools":["a"]}') == CommitAccepted("c0", ("a",))


def test_a_decoded_body_is_frozen() -> None:
    body = decode("SourceUnreachable", 1, '{"reason":"down"}')
    with pytest.raises(AttributeError):
        setattr(body, "reason", "up")  # noqa: B010  mypy would refuse the plain form


def test_an_unknown_type_is_of_a_newer_version() -> None:
    with pytest.raises(StoreError, match=r"event type NodeExploded .* is not known"):
        decode("NodeExploded", 1, "{}")
    with pytest.raises(StoreError, match=r"schema version 2\) is not known"):
        decode("SourceRecovered", 2, "{}")


@pytest.mark.parametrize("text", ["", "[]", "{", '{"reason":"down","extra":1}', "{}", "null"])
def test_data_that_fits_no_version_is_corrupt(text: str) -> None:
    with pytest.raises(LogCorrupt, match="SourceUnreachable cannot be read"):
        decode("SourceUnreachable", 1, text)


def test_upcasters_run_in_order(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(SourceUnreachable, "schema_version", 3)
    monkeypatch.setitem(codec.UPCASTERS, ("SourceUnreachable", 1), lambda data: {"why": data["because"] + "1"})
    monkeypatch.setitem(codec.UPCASTERS, ("SourceUnreachable", 2), lambda data: {"reason": data["why"] + "2"})
    assert decode("SourceUnreachable", 1, '{"because":"x"}') == SourceUnreachable("x12")
    assert decode("SourceUnreachable", 2, '{"why":"x"}') == SourceUnreachable("x2")
    assert decode("SourceUnreachable", 3, '{"reason":"x"}') == SourceUnreachable("x")


def test_a_missing_upcaster_is_corrupt(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(SourceRecovered, "schema_version", 2)
    with pytest.raises(LogCorrupt):
        decode("SourceRecovered", 1, "{}")


def test_paths_may_be_keys() -> None:
    body = BaselineCaptured("a", "b", {"/etc/containers/policy.json": None}, "m")
    assert decode(body.type, 1, encode(body)) == body
