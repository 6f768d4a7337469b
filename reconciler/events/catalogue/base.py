"""What every body of an event has: its fields as data, its stream, its place in the catalogue."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, ClassVar, Literal

Data = Mapping[str, Any]
CATALOGUE: dict[str, type[Event]] = {}


@dataclass(frozen=True)
class Event:
    """Base of all bodies. `scope` chooses the stream: `fleet/F`, `pool/F/P` or `node/F/N`."""

    scope: ClassVar[Literal["fleet", "pool", "node"]] = "fleet"
    schema_version: ClassVar[int] = 1

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        CATALOGUE[cls.__name__] = cls

    @property
    def type(self) -> str:
        return type(self).__name__

    def as_data(self) -> dict[str, Any]:
        """The body's fields by name."""
        return {item.name: getattr(self, item.name) for item in fields(self)}
