"""Lines of an exported log: an object per event with exactly the columns of `events`, and one per blob. Pure.

Hashes are hexadecimal, `data` and `actor` the exact text, times and ids as they are hashed: what is needed to verify
the chain without a database. docs/reference/event-log.md states the form.
"""

from __future__ import annotations

import base64
import binascii
import json
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from reconciler.errors import InputRejected
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


def row_of_blob(digest: str, content: bytes | None) -> Mapping[str, Value]:
    """A blob: its SHA-256 in hex, its bytes in base64; null where they were redacted."""
    return {"blob": digest, "content": None if content is None else base64.b64encode(content).decode()}


@dataclass(frozen=True)
class ExportedBlob:
    """A blob; `content` is None where it was redacted."""

    sha256: str
    content: bytes | None


def read_line(line: str) -> Record | ExportedBlob:
    """Raises InputRejected for a line of another form."""
    try:
        item: Any = json.loads(line)
        if "blob" in item:
            content = item["content"]
            return ExportedBlob(item["blob"], None if content is None else base64.b64decode(content, validate=True))
        return _record(item)
    except (KeyError, TypeError, ValueError, AttributeError, binascii.Error) as error:
        what = f"is no line of an exported log: {type(error).__name__}"
        raise InputRejected(what, remedy="give a file as `reconciler log export -o ndjson` writes it") from None


def _record(item: dict[str, Any]) -> Record:
    content = {name: item[name] for name in Content._fields}
    for name in ("event_id", "correlation_id", "causation_id"):
        content[name] = uuid.UUID(content[name]) if content[name] is not None else None
    numbers = [int(item[name]) for name in ("position", "version", "append_group")]
    moment = datetime.fromisoformat(item["recorded_at"]).astimezone(UTC)
    hashes = bytes.fromhex(item["previous_hash"]), bytes.fromhex(item["hash"])
    return Record(numbers[0], numbers[1], numbers[2], moment, *hashes, Content(**content))
