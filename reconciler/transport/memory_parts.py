"""What a node in memory is made of: files, scripted faults, an unfinished and a pending change. Pure."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from reconciler.ports import (
    ABSENT,
    ApplyRequest,
    ObservedFile,
    ObserveRequest,
    ReleaseRequest,
    RevertRequest,
    StepRequest,
)
from reconciler.transport.protocol import CONTENT_LIMIT, RECEIPT_LIMIT

_EFFECTIVE = ("/etc/containers/", "/etc/crio/", "/root/.config/containers/")

UNIT = "crio.service"
RELOAD = f"reload:{UNIT}"
RESTART = f"restart:{UNIT}"

ChangeRequest = ApplyRequest | RevertRequest | ReleaseRequest
"""Requests that may change files."""


@dataclass(frozen=True, slots=True)
class Entry:
    """What stands at a path: a file's bytes and mode, or another `kind` of thing."""

    content: bytes = b""
    mode: int = 0o644
    kind: str = "file"
    mtime: int = 0

    @property
    def sha256(self) -> str:
        return hashlib.sha256(self.content).hexdigest()

    @property
    def state(self) -> tuple[str, int]:
        return (self.sha256, self.mode) if self.kind == "file" else (self.kind, 0)


@dataclass(slots=True)
class Faults:
    """What goes wrong on a node until it is set back.

    `reload`: "" (works), `fails` (exit status), `unable` (the runtime logs that it could not), `silent` (logs nothing).
    `restart`: "" (works) or `fails`; only the first one of a step, so that the old files can be loaded again.
    `refuse`: the runtime cannot load a registries.conf that holds this text.
    `check_before`, `check_after`: the name of the health check that fails before the change, or after the actions.
    `hooks`: exit statuses by program; every other hook ends with 0.
    `lose`: when the next apply, revert or release dies: `before` anything, `placing` (half the files stand), `placed`
    (before the action) or `done` (before the answer); it is spent by that.
    """

    unreachable: bool = False
    disk_full: bool = False
    read_only: bool = False
    reload: str = ""
    restart: str = ""
    refuse: str = ""
    unhealthy_after: bool = False
    check_before: str = ""
    check_after: str = ""
    hooks: dict[str, int] = field(default_factory=dict)
    lose: str = ""

    def of(self, action: str, main: Entry | None, again: bool) -> str:
        """Why an action fails with this registries.conf, or "". `again`: it loads the old files after a failure."""
        broken = bool(main and self.refuse and self.refuse.encode() in main.content)
        if action == RELOAD and (broken or (not again and self.reload in ("fails", "unable"))):
            return "reload-failed"
        if action.startswith("restart:") and ((broken and action == RESTART) or (self.restart and not again)):
            return "restart-failed"
        return ""


@dataclass(slots=True)
class Journal:
    """A change that was begun: its request, the entries before and after (None: absent), and how far it came."""

    request: ChangeRequest
    paths: tuple[str, ...]
    old: Mapping[str, Entry | None]
    new: Mapping[str, Entry | None]
    placed: bool = False


@dataclass(frozen=True, slots=True)
class Pending:
    """A change that undoes itself at `confirm_by` (Unix seconds) unless it is confirmed."""

    journal: Journal
    confirm_by: int

    @property
    def step(self) -> str:
        return self.journal.request.step


def failing(request: ChangeRequest, name: str) -> str:
    """`name`, if the request has a health check of that name."""
    checks = request.health if isinstance(request, ApplyRequest) else ()
    return name if any(check.name == name for check in checks) else ""


def alike(entry: Entry | None, wanted: Entry | None) -> bool:
    """Whether nothing has to be written: same bytes and mode, or absent as wanted."""
    return (entry and entry.state) == (wanted and wanted.state)


def parents(path: str) -> list[str]:
    parts = path.split("/")
    return ["/".join(parts[:depth]) for depth in range(3, len(parts))]


def cut(paths: Sequence[str], request: StepRequest) -> tuple[tuple[str, ...], tuple[str, ...], int]:
    """Paths written and restored, as many as fit into a receipt, and the number of the others."""
    room, kept = RECEIPT_LIMIT - 1200, []
    for path in paths:
        room -= len(path) + 3
        if room >= 0:
            kept.append(path)
    files = {file.path for file in request.files} if isinstance(request, ApplyRequest) else set()
    written = tuple(path for path in kept if path in files)
    return written, tuple(path for path in kept if path not in files), len(paths) - len(kept)


def seen(path: str, entry: Entry | None, known: str, package: str) -> ObservedFile:
    """A path as observe tells it: content and package only where the file is not known."""
    if entry is None or entry.kind != "file":
        return ObservedFile(path, entry.kind if entry else ABSENT)
    numbers = (entry.mode, 0, 0, len(entry.content), entry.mtime)
    if entry.sha256 == known:
        return ObservedFile(path, "file", entry.sha256, *numbers)
    sent = len(entry.content) < CONTENT_LIMIT and b"PRIVATE KEY" not in entry.content
    return ObservedFile(path, "file", entry.sha256, *numbers, entry.content if sent else None, package)


def is_read(path: str, request: ObserveRequest) -> bool:
    """Whether the runtime reads it, and the request does not name it."""
    drop_in = not path.startswith("/etc/containers/registries.conf.d/") or path.endswith(".conf")
    return path.startswith(_EFFECTIVE) and path not in request.known and drop_in


def told(path: str, entry: Entry) -> str:
    return "unread" if path.endswith(".key") else entry.sha256
