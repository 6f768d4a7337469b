"""Settings as text: for `config show`, the reference and messages."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

from pydantic import BaseModel

from reconciler.errors import redacted
from reconciler.settings.kinds import duration_text
from reconciler.settings.model import Settings


def describe(settings: Settings) -> list[tuple[str, str, str]]:
    """Each key, its value as it is written in TOML, and its origin; passwords and tokens are cut out."""
    return [(key, redacted(written(value)), settings.origin(key)) for key, value in _leaves(settings)]


def written(value: Any) -> str:
    """A value as TOML has it (JSON's strings and lists are TOML's too)."""
    if isinstance(value, timedelta):
        value = duration_text(value)
    return json.dumps(value, ensure_ascii=False, default=str)


def _leaves(section: BaseModel, prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name in type(section).model_fields:
        value = getattr(section, name)
        if isinstance(value, BaseModel):
            yield from _leaves(value, f"{prefix}{name}.")
        elif isinstance(value, dict):
            for key in sorted(value):
                yield from _leaves(value[key], f"{prefix}{name}.{key}.")
        else:
            yield f"{prefix}{name}", value
