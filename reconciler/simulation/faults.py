"""The faults of a simulation: which nodes have which trouble, from when, for how long."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from random import Random

import yaml

from reconciler.errors import InputRejected, UsageError
from reconciler.rollout.fields import BadValue, Field, duration, list_of, one_of, optional, text

KINDS = {
    "reload": "the runtime cannot load the new files",
    "health": "the runtime is not active after the change",
    "disk-full": "no file can be written",
    "drain": "the node does not get empty",
    "uncordon": "no work can be put on the node again",
    "unreachable": "the node does not answer",
}

_READ = list_of(
    {
        "nodes": Field(text, required=True),
        "fault": Field(one_of(*KINDS), required=True),
        "after": Field(duration, 0),
        "for": Field(optional(duration), None),
    },
    lambda _: None,
)


@dataclass(frozen=True)
class Fault:
    """Trouble of every node that matches the pattern `nodes`. `after` and `lasts`: seconds; None: to the end."""

    nodes: str
    kind: str
    after: int = 0
    lasts: int | None = None

    def chosen(self, names: Iterable[str]) -> list[str]:
        """The nodes that have it. Raises UsageError when there is none."""
        found = [name for name in names if fnmatchcase(name, self.nodes)]
        if not found:
            raise UsageError(f"no node matches {self.nodes!r}", where="fault", remedy="see the names of the Nodes")
        return found


def parse_fault(given: str) -> Fault:
    """`NODE:FAULT`, where NODE may be a pattern. Raises UsageError."""
    nodes, colon, kind = given.rpartition(":")
    if not colon or not nodes or kind not in KINDS:
        raise UsageError(f"{given!r} is no NODE:FAULT", where="--fail", remedy=f"faults: {', '.join(KINDS)}")
    return Fault(nodes, kind)


def read_faults(file: Path) -> list[Fault]:
    """A YAML list of {nodes, fault, after, for}. Raises UsageError, InputRejected."""
    try:
        found = _READ(yaml.safe_load(file.read_bytes()))
    except OSError as error:
        raise UsageError(f"cannot be read: {error.strerror}", where=str(file)) from None
    except (yaml.YAMLError, BadValue, ValueError) as error:
        remedy = "write a list of {nodes: PATTERN, fault: FAULT, after: 10m, for: 1h}; the times may be left out"
        raise InputRejected(" ".join(str(error).split()), where=str(file), remedy=remedy) from None
    return [Fault(item["nodes"], item["fault"], item["after"], item["for"]) for item in found]


def some_unreachable(names: Sequence[str], percent: int, seed: int) -> list[Fault]:
    """That share of the nodes, at least one, drawn by `seed`, answers from beginning to end to nobody."""
    count = max(1, len(names) * percent // 100) if percent and names else 0
    return [Fault(name, "unreachable") for name in Random(seed).sample(sorted(names), count)]  # noqa: S311
