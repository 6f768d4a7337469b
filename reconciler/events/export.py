"""Lines of an exported log: an object per event with the columns of the table `events`, and per blob. Pure.

Hashes are hexadecimal, `data` and `actor` the exact text, times as they are hashed: what is needed to verify offline.
"""

from __future__ import annotations

import base64
import binascii
import json
import uuid
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from reconciler.errors import InputRejected
from reconciler.events.chain import Content, Record


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
