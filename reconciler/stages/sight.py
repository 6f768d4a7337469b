"""What a pass knows of one node: the look at it, and what that look means so far."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from reconciler.events.catalogue import Event
from reconciler.ports import Observation, ObservedFile, Target
from reconciler.projections.tables import Row
from reconciler.stages.context import FileSet


@dataclass
class Sight:
    """What this pass knows of one node: its observation, or why it cannot be acted on (`out`).

    `bodies` and `contents` are the events and blobs that the observation leads to.
    """

    name: str
    target: Target
    pool: str | None
    state: Row
    applied: FileSet
    unproven: FileSet
    """What steps may have written whose outcome nobody knows (the link was lost)."""
    observation: Observation | None = None
    out: str = ""
    spec: Mapping[str, Any] = field(default_factory=dict)
    """Its pool's settings; empty without a pool."""
    bodies: list[Event] = field(default_factory=list)
    contents: list[bytes] = field(default_factory=list)


def not_read(path: str) -> str:
    """What is said of a file whose bytes the node kept to itself."""
    return f"{path} was not read: it is over 1 MiB or holds a private key"


def is_unread(sight: Sight, file: ObservedFile | None) -> bool:
    """Whether nobody here has the file's bytes: the node did not send them, and they are none that we know."""
    if file is None or file.kind != "file" or file.content is not None:
        return False
    known = {entry.sha256 for entry in sight.applied.entries} | set((sight.state.get("base_files") or {}).values())
    return file.sha256 not in known
