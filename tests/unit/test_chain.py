"""The hash chain: its exact form, and that no change to a log goes unnoticed."""

from __future__ import annotations

import hashlib
import json
import uuid
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reconciler.events.chain import GENESIS, Content, Record, Verifier, body_digest, event_hash, timestamp
from tests.unit.bodies import TEXTS

ID = uuid.UUID("00000000-0000-5000-8000-000000000001")
TIME = datetime(2026, 1, 31, 9, 0, 0, 123, tzinfo=UTC)
CONTENT = Content(
    ID, "default", "node/default/a", "NodeRecovered", 1, '{"node":"a"}', '{"kind":"service"}', "0.1.0", ID, None, "a",
    None, None, None,
)  # fmt: skip


def log(length: int = 6) -> list[Record]:
    """Groups of two events; two streams."""
    records: list[Record] = []
    previous = GENESIS
    for position in range(1, length + 1):
        content = CONTENT._replace(event_id=uuid.UUID(int=position), stream=f"node/default/{position % 2}")
        place = ((position + 1) // 2, position - (position + 1) % 2, TIME + timedelta(seconds=position))
        own = event_hash(previous, position, *place, body_digest(content))
        records.append(Record(position, *place, previous, own, content))
        previous = own
    return records


def problems(records: list[Record]) -> list[str]:
    verifier = Verifier()
    return [problem for record in records for problem in verifier.check(record)]


def test_the_form_is_the_documented_one() -> None:
    """As in docs/reference/event-log.md: changing it breaks every log in the field."""
    body = [
        "reconciler event 1", str(ID), "default", "node/default/a", "NodeRecovered", 1, '{"node":"a"}',
        '{"kind":"service"}', "0.1.0", str(ID), None, "a", None, None, None,
    ]  # fmt: skip
    digest = hashlib.sha256(json.dumps(body, separators=(",", ":"), ensure_ascii=False).encode()).digest()
    assert body_digest(CONTENT) == digest
    line = f'["reconciler event 1","{"00" * 32}",3,2,1,"2026-01-31T09:00:00.000123Z","{digest.hex()}"]'
    assert event_hash(GENESIS, 3, 2, 1, TIME, digest) == hashlib.sha256(line.encode()).digest()


def test_the_hash_of_a_known_row() -> None:
    own = event_hash(GENESIS, 1, 1, 1, TIME, body_digest(CONTENT))
    assert own.hex() == "35e3cf82944981cec7ad60b1bc3188dd16b6370d1b16dc2b5e770b1977e67935"


def test_timestamps_are_utc_whatever_the_zone() -> None:
    assert (
        timestamp(datetime(2026, 1, 31, 18, 0, 0, tzinfo=timezone(timedelta(hours=9)))) == "2026-01-31T09:00:00.000000Z"
    )


def test_an_intact_log_has_no_problems() -> None:
    assert problems(log()) == []


CHANGES: dict[str, Any] = {
    "event_id": uuid.UUID(int=99),
    "fleet": "other",
    "type": "NodeUnreachable",
    "schema_version": 2,
    "data": '{"node":"b"}',
    "actor": '{"kind":"login"}',
    "tool_version": "0.1.1",
    "correlation_id": uuid.UUID(int=99),
    "causation_id": uuid.UUID(int=99),
    "node": "b",
    "pool": "",
    "resource": "x",
    "commit_sha": "c0",
}


@pytest.mark.parametrize("field", CHANGES)
def test_a_changed_content_is_found_at_its_position(field: str) -> None:
    records = log()
    records[2] = records[2]._replace(content=records[2].content._replace(**{field: CHANGES[field]}))
    assert problems(records) == ["event #3: the row does not match its hash"]


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("position", 9),
        ("version", 9),
        ("append_group", 1),
        ("recorded_at", TIME),
        ("previous_hash", GENESIS),
        ("hash", GENESIS),
    ],
)
def test_a_changed_place_is_found_at_its_position(field: str, value: Any) -> None:
    records = log()
    records[2] = records[2]._replace(**{field: value})
    found = problems(records)
    assert any(problem.endswith("the row does not match its hash") for problem in found)
    assert found[0].startswith("event #9" if field == "position" else "event #3")


def test_every_field_is_tried() -> None:
    assert set(CHANGES) | {"stream"} == set(Content._fields)


def test_a_moved_stream_is_found() -> None:
    records = log()
    records[2] = records[2]._replace(content=records[2].content._replace(stream="node/default/9"))
    found = problems(records)
    assert "event #3: the row does not match its hash" in found
    assert "event #3: version 2 of stream node/default/9 does not follow the one before it" in found


def test_a_deleted_row_is_found() -> None:
    records = log()
    del records[2]
    assert "event #4: the event before it should be #3, but is #2" in problems(records)


def test_deleted_first_rows_are_found() -> None:
    found = problems(log()[2:])
    assert "event #3: its previous hash is not the hash of the event before it" in found


def test_a_deleted_tail_is_found_by_the_heads_of_the_streams() -> None:
    verifier = Verifier()
    for record in log()[:-1]:
        assert verifier.check(record) == []
    assert verifier.check_streams({"node/default/0": 3, "node/default/1": 3}) == [
        "stream node/default/0: its head is recorded as version 3, but the log ends it at 2"
    ]


def test_swapped_rows_are_found() -> None:
    records = log()
    records[2], records[3] = (
        records[3]._replace(position=3, version=2),
        records[2]._replace(position=4, version=2),
    )
    found = problems(records)
    assert {"event #3: the row does not match its hash", "event #4: the row does not match its hash"} <= set(found)


def test_a_rewritten_row_breaks_the_link_of_the_next() -> None:
    """Somebody who recomputes the hash of the row that was changed must recompute all that follow."""
    records = log()
    changed = records[2].content._replace(data='{"node":"b"}')
    place = records[2][:4]
    own = event_hash(records[2].previous_hash, *place, body_digest(changed))
    records[2] = Record(*place, records[2].previous_hash, own, changed)
    assert problems(records) == ["event #4: its previous hash is not the hash of the event before it"]


FIELDS = st.tuples(TEXTS, TEXTS, TEXTS, st.none() | TEXTS, st.none() | TEXTS)


@given(FIELDS, FIELDS)
def test_fields_cannot_run_into_each_other(first: tuple[Any, ...], second: tuple[Any, ...]) -> None:
    names = ("fleet", "stream", "tool_version", "node", "pool")
    digests = [body_digest(CONTENT._replace(**dict(zip(names, values, strict=True)))) for values in (first, second)]
    assert (digests[0] == digests[1]) == (first == second)
