"""The form of an exported log: one object per row with exactly the columns of `events`, from which the chain can be
verified without a database. docs/reference/event-log.md states it."""

from __future__ import annotations

import base64
from collections.abc import Mapping

from reconciler.events.chain import Content, Record, timestamp

COLUMNS = (*Record._fields[:-1], *Content._fields)
"""The columns, in the order of the table."""

Value = str | int | None


def row_of(record: Record) -> Mapping[str, Value]:
    """A row of the log: hashes in hex, times and ids as they are hashed, `data` and `actor` as the exact text."""
    position, version, group, recorded_at, previous, own, content = record
    place = (position, version, group, timestamp(recorded_at), previous.hex(), own.hex())
    fields = (value if isinstance(value, (str, int, type(None))) else str(value) for value in content)
    return dict(zip(COLUMNS, (*place, *fields), strict=True))


def row_of_blob(digest: str, content: bytes) -> Mapping[str, Value]:
    """A blob: its SHA-256 in hex, its bytes in base64."""
    return {"blob": digest, "content": base64.b64encode(content).decode()}
