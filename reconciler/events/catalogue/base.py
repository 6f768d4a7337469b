"""What every body of an event has: its fields as data, its stream, its place in the catalogue."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, ClassVar, Literal

Data = Mapping[str, Any]
CATALOGUE: dict[str, type[Event]] = {}


@dataclass(frozen=True)
class Authority:
    """Whose word an event is: a person's with that role, or nobody's (`cycle`: it follows from what is).

    With a `field`, where that field of the body is `value`; None: where it is none that another rule names.
    """

    role: Literal["cycle", "operator", "approver"]
    field: str | None = None
    value: str | None = None


OPERATOR = (Authority("operator"),)
APPROVER = (Authority("approver"),)


@dataclass(frozen=True)
class Event:
    """Base of all bodies. `scope` chooses the stream: `fleet/F`, `pool/F/P` or `node/F/N`.

    `authority` says whose word it is, any of them; none: the cycle's. The database holds appends to it (the view
    event_authority).
    """

    scope: ClassVar[Literal["fleet", "pool", "node"]] = "fleet"
    authority: ClassVar[tuple[Authority, ...]] = ()
    schema_version: ClassVar[int] = 1

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        CATALOGUE[cls.__name__] = cls

    @property
    def type(self) -> str:
        return type(self).__name__

    @property
    def is_a_persons(self) -> bool:
        """Whether it is somebody's word, not what the cycle found or did."""
        named = [rule for rule in self.authority if rule.field and str(getattr(self, rule.field)) == rule.value]
        others = [rule for rule in self.authority if rule.value is None]
        return any(rule.role != "cycle" for rule in named or others)

    def as_data(self) -> dict[str, Any]:
        """The body's fields by name."""
        return {item.name: getattr(self, item.name) for item in fields(self)}
