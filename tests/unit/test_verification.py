"""An exported log is verified without a database; what was done to its lines is found, with the position."""

from __future__ import annotations

import base64
import json
import uuid
from collections.abc import Callable
from typing import Any

import pytest

from reconciler.errors import InputRejected
from reconciler.events.catalogue import BlobRedacted, ResourceAdded
from reconciler.events.chain import Record, timestamp
from reconciler.events.checkpoint import Checkpoint, SignerKey, origin_of
from reconciler.store.memory import MemoryBlobs, MemoryEventLog
from reconciler.verification import Proof, Signed, read_checkpoints, verify, verify_export
from tests.conformance import toy_fold
from tests.conformance.event_log import SteppingClock, new, registered

KEY = SignerKey("log.example.com", bytes(range(32)))
END = "that the log ends at #6: no checkpoint of it was given"

Lines = list[dict[str, Any]]


def line_of(record: Record) -> dict[str, Any]:
    """As docs/reference/event-log.md has it."""
    place = {name: value for name, value in record._asdict().items() if name != "content"}
    place |= {name: place[name].hex() for name in ("previous_hash", "hash")}
    content = {k: str(v) if isinstance(v, uuid.UUID) else v for k, v in record.content._asdict().items()}
    return {**place, "recorded_at": timestamp(record.recorded_at), **content}


@pytest.fixture
async def log() -> MemoryEventLog:
    """Six events in four groups; the third names two blobs, of which the fifth redacts one."""
    blobs = MemoryBlobs()
    text, other = await blobs.put([b"a secret", b"other"])
    log = MemoryEventLog(toy_fold, SteppingClock(), blobs=blobs, tool_version="1")
    await log.append([registered("日本"), registered("n2")], {})
    await log.append([new(ResourceAdded("Image/cluster", (), "c" * 40, "i.yaml", 1, text, other, other, "m"))], {})
    await log.append([registered("n4"), new(BlobRedacted(text, 8, "a password"), 1)], {})
    await log.append([registered("n6")], {})
    return log


@pytest.fixture
async def lines(log: MemoryEventLog) -> Lines:
    kept = [{"blob": k, "content": base64.b64encode(v).decode()} for k, v in log._blobs.contents.items()]
    gone = [{"blob": digest, "content": None} for digest in log._blobs.redactions]
    return [*map(line_of, log.records), *kept, *gone]


async def signed(log: MemoryEventLog, *positions: int) -> list[Signed]:
    hashes = await log.hashes(positions)
    notes = {f"at-{place}": KEY.signed(Checkpoint(origin_of(log.log_id), place, hashes[place])) for place in positions}
    return read_checkpoints(notes, [KEY.public])[0]


def verified(lines: Lines, checkpoints: list[Signed] | None = None) -> Proof:
    return verify_export(map(json.dumps, lines), checkpoints or [])


async def test_an_intact_export_says_what_the_log_says(log: MemoryEventLog, lines: Lines) -> None:
    proof = verified(lines)
    assert proof.problems == ()
    assert (proof.found.events, proof.found.blobs, proof.found.head) == (6, 2, log.records[-1].hash.hex())
    assert proof.trusted == (END,)
    proof = verified(lines, await signed(log, 2, 6))
    assert (proof.problems, proof.agreeing, proof.trusted) == ((), (2, 6), ())


async def test_a_part_and_an_export_without_blobs_say_what_they_trust(log: MemoryEventLog, lines: Lines) -> None:
    assert verified(lines[:6]).trusted == (END, "the blobs: they are not in the export")
    proof = verified(lines[3:6], await signed(log, 6))
    assert (proof.problems, proof.found.events) == ((), 3)
    assert proof.trusted[0] == "the hash at #3 as #4 names it"
    proof = verified(lines[3:], await signed(log, 2, 3, 6))
    assert (proof.problems, proof.agreeing, proof.trusted) == ((), (3, 6), ())
    other = lines[3] | {"previous_hash": "0" * 64}
    assert "event #3: its hash is not the one that was signed" in verified([other], await signed(log, 3)).problems[1]


def changed(number: int, **fields: object) -> Callable[[Lines], Lines]:
    return lambda lines: [line | fields if at == number else line for at, line in enumerate(lines, 1)]


TAMPERING: dict[str, tuple[Callable[[Lines], Lines], str]] = {
    "change": (changed(4, data="{}"), "event #4: the row does not match its hash"),
    "change of a time": (
        changed(4, recorded_at="2026-01-31T09:00:00.000001Z"),
        "event #4: the row does not match its hash",
    ),
    "delete": (lambda lines: lines[:3] + lines[4:], "event #5: the event before it should be #4, but is #3"),
    "insert": (lambda lines: [*lines[:4], lines[1], *lines[4:]], "event #2: the event before it should be #1"),
    "swap": (lambda lines: [*lines[:3], lines[4], lines[3], *lines[5:]], "event #5: the event before it should be #4"),
    "change a blob": (changed(7, content=base64.b64encode(b"x").decode()), "the content does not match its address"),
    "delete a blob": (lambda lines: lines[:6] + lines[7:], "event #3: the blob"),
    "take a blob's bytes away": (changed(7, content=None), "its bytes were taken away, and no event says why"),
    "bring back what was redacted": (
        changed(8, content=base64.b64encode(b"a secret").decode()),
        "event #5: the blob",
    ),
    "cut the end off": (lambda lines: lines[:5] + lines[6:], "checkpoint #6 (at-6): the log ends at #5"),
}


@pytest.mark.parametrize("name", TAMPERING)
async def test_tampering_is_found(log: MemoryEventLog, lines: Lines, name: str) -> None:
    tamper, problem = TAMPERING[name]
    checkpoints = await signed(log, 1, 6)
    found = verified(tamper(lines), checkpoints).problems
    assert any(problem in item for item in found), found


@pytest.mark.parametrize(
    "line",
    ["", "nonsense", "[]", "{}", '{"blob": "a"}', '{"blob": "a", "content": "*"}', '{"position": 1}', "1", "null"],
)
def test_another_kind_of_file_is_refused(line: str) -> None:
    with pytest.raises(InputRejected, match="is no line of an exported log") as refused:
        verify_export([line], [])
    assert refused.value.where == "line 1"


async def test_values_of_the_wrong_kind_are_refused(lines: Lines) -> None:
    for field, value in (("hash", "zz"), ("event_id", "x"), ("recorded_at", "today"), ("position", "x"), ("hash", 1)):
        with pytest.raises(InputRejected, match="is no line of an exported log"):
            verified([lines[0] | {field: value}])


async def test_a_log_in_memory_is_verified_alike(log: MemoryEventLog) -> None:
    proof = await verify(log, await signed(log, 2, 6), 2)
    assert (proof.problems, proof.agreeing, proof.trusted) == ((), (2, 6), ("the hash at #2 as signed in at-2",))
    log.records.pop()
    assert "event #6: missing: the end of the log was cut off" in (await verify(log, ())).problems


def test_an_export_without_any_event_proves_nothing() -> None:
    with pytest.raises(InputRejected, match="the export holds no event"):
        verify_export([], [])
