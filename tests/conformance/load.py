"""Reading the recorded vectors."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

VECTORS = Path(__file__).parent / "vectors"


def cases(topic: str) -> list[dict[str, Any]]:
    """The cases of vectors/TOPIC.jsonl: name, category, note, input, expect."""
    with (VECTORS / f"{topic}.jsonl").open(encoding="utf-8") as lines:
        return [json.loads(line) for line in lines]


def base(name: str) -> bytes:
    """A file of MCO's defaults, which vectors name instead of repeating."""
    return (VECTORS / "base" / name).read_bytes()
