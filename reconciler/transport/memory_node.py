"""A node that exists only in memory and keeps node.sh's promises; no I/O, no clock.

Rules and `reason` words are those of docs/reference/node-protocol.md; the conformance tests hold both to them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from reconciler.errors import NodeUnreachable
from reconciler.ports import (
    ABSENT,
    ApplyRequest,
    ImagesRequest,
    NodeImages,
    Observation,
    ObservedFile,
    ObserveRequest,
    Owner,
    Receipt,
    ReceiptResult,
    RevertRequest,
    manifest_hash,
)
from reconciler.transport.protocol import CONTENT_LIMIT, RECEIPT_LIMIT

UNIT = "crio.service"
OTHER_KINDS = ("symlink", "directory", "other")
_PRESENT = ("/etc/docker/certs.d/", "/etc/containers/registries.conf.d/")
_EFFECTIVE = ("/etc/containers/", "/etc/crio/", "/root/.config/containers/")


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
    `refuse`: the runtime cannot load a registries.conf that holds this text.
    `lose`: when the next apply or revert dies: `before` anything, `placing` (half the files stand), `placed` (before
    the action) or `done` (before the answer); it is spent by that.
    """

    unreachable: bool = False
    disk_full: bool = False
    read_only: bool = False
    reload: str = ""
    refuse: str = ""
    unhealthy_after: bool = False
    lose: str = ""


@dataclass(slots=True)
class Journal:
    """A change that was begun: its request, the entries before and after (None: absent), and how far it came."""

    request: ApplyRequest | RevertRequest
    paths: tuple[str, ...]
    old: Mapping[str, Entry | None]
    new: Mapping[str, Entry | None]
    placed: bool = False


@dataclass(slots=True)
class MemoryNode:
    """Files by path, the state directory's content as fields, and `actions`, the log of what the runtime was told."""

    name: str
    files: dict[str, Entry] = field(default_factory=dict)
    machine_id: str = ""
    boot_id: str = "boot-1"
    runtime_version: str = "crio version 1.31.13"
    active: str = "active"
    mco: bool = False
    hold: str = ""
    images: list[str] = field(default_factory=list)
    """What its containers run; with `images_note` nobody can tell."""
    images_note: str = ""
    pause: str = ""
    asked: int = 0
    """How often it was asked for its images."""
    faults: Faults = field(default_factory=Faults)
    owner: Owner | None = None
    baseline: dict[str, Entry | None] = field(default_factory=dict)
    previous: tuple[tuple[str, ...], Mapping[str, Entry | None]] | None = None
    receipts: dict[str, Receipt] = field(default_factory=dict)
    journal: Journal | None = None
    actions: list[str] = field(default_factory=list)
    writes: int = 0

    def observe(self, request: ObserveRequest, now: int) -> Observation:
        self._recover(now)
        crio = request.runtime == "crio"
        return Observation(
            machine_id=self.machine_id or f"machine-{self.name}",
            boot_id=self.boot_id,
            runtime_version=self.runtime_version,
            unit=UNIT if crio else "",
            active=self.active if crio else "",
            owner=self.owner,
            mco=self.mco,
            hold=self.hold,
            files={path: self._seen(path, known) for path, known in request.known.items()},
            present=tuple(
                sorted(path for path in self.files if path.startswith(_PRESENT) and path not in request.known)
            ),
            effective={path: self._effective(path) for path in sorted(self.files) if self._is_read(path, request)},
            os="memory",
        )

    def needs(self, request: ImagesRequest, now: int) -> NodeImages:
        self._recover(now)
        self.asked += 1
        pause = self.pause if request.runtime == "crio" else ""
        return NodeImages(() if self.images_note else tuple(sorted(set(self.images))), pause, self.images_note)

    def apply(self, request: ApplyRequest, now: int) -> Receipt:
        self._lose("before")
        paths = tuple(sorted({*(file.path for file in request.files), *request.restore}))
        if refusal := self._admit(request, paths, now):
            return refusal
        states = self._states(paths)
        if request.start and request.start != manifest_hash(states):
            return self._receipt(request, paths, "stale", detail="the files are not those that the plan started from")
        new: dict[str, Entry | None] = {file.path: Entry(file.content, file.mode) for file in request.files}
        new |= {path: self.baseline[path] for path in request.restore if path in self.baseline}
        return self._change(request, paths, new, now)

    def revert(self, request: RevertRequest, now: int) -> Receipt:
        self._lose("before")
        paths = self.previous[0] if self.previous else ()
        if refusal := self._admit(request, paths, now):
            return refusal
        if self.previous is None:
            return self._receipt(request, paths, "refused", "no-previous", "no generation before this one is kept")
        return self._change(request, paths, self.previous[1], now)

    # --- Reading ----------------------------------------------------------------------------------------------------

    def _seen(self, path: str, known: str) -> ObservedFile:
        entry = self.files.get(path)
        if entry is None or entry.kind != "file":
            return ObservedFile(path, entry.kind if entry else ABSENT)
        wanted = entry.sha256 != known and len(entry.content) < CONTENT_LIMIT and b"PRIVATE KEY" not in entry.content
        content = entry.content if wanted else None
        return ObservedFile(path, "file", entry.sha256, entry.mode, 0, 0, len(entry.content), entry.mtime, content)

    def _is_read(self, path: str, request: ObserveRequest) -> bool:
        drop_in = not path.startswith("/etc/containers/registries.conf.d/") or path.endswith(".conf")
        return path.startswith(_EFFECTIVE) and path not in request.known and drop_in

    def _effective(self, path: str) -> str:
        return "unread" if path.endswith(".key") else self.files[path].sha256

    def _states(self, paths: Sequence[str]) -> Mapping[str, tuple[str, int]]:
        return {path: entry.state if (entry := self.files.get(path)) else (ABSENT, 0) for path in paths}

    # --- Writing ----------------------------------------------------------------------------------------------------

    def _admit(self, request: ApplyRequest | RevertRequest, paths: Sequence[str], now: int) -> Receipt | None:
        if self.mco:
            return self._receipt(request, paths, "refused", "mco", "the Machine Config Operator manages this node")
        self._recover(now)
        owner = self.owner
        if owner and owner.log_id != request.log_id:
            return self._receipt(request, paths, "refused", "log-id", f"this node belongs to the log {owner.log_id}")
        if request.step in self.receipts:
            return self.receipts[request.step]
        if owner and (request.epoch, request.fence) < (owner.epoch, owner.fence):
            seen = f"this node has seen epoch {owner.epoch}, fence {owner.fence}"
            return self._receipt(request, paths, "refused", "fence", seen)
        if self.hold:
            return self._receipt(request, paths, "refused", "hold", self.hold)
        return None

    def _change(
        self,
        request: ApplyRequest | RevertRequest,
        paths: tuple[str, ...],
        wanted: Mapping[str, Entry | None],
        now: int,
    ) -> Receipt:
        new = {path: entry for path, entry in wanted.items() if not _alike(self.files.get(path), entry)}
        if not new:
            return self._finish(request, paths, "same", self._generation)
        for path in new:
            for place in [*_parents(path), path]:
                if (entry := self.files.get(place)) and entry.kind in OTHER_KINDS:
                    reason = "symlink" if entry.kind == "symlink" else "not-a-file"
                    return self._receipt(request, paths, "refused", reason, place)
        if request.runtime == "crio" and self.active != "active":
            detail = f"{UNIT} is {self.active}; no file was touched"
            return self._receipt(request, paths, "failed", "unhealthy-before", detail)
        if self.faults.disk_full or self.faults.read_only:
            reason = "disk-full" if self.faults.disk_full else "read-only"
            return self._receipt(request, paths, "failed", reason, f"cannot write {min(new)}")
        self._claim(request, self._generation)
        old = {path: self.files.get(path) for path in new}
        self.baseline = {**old, **self.baseline}
        self.journal = Journal(request, paths, old, new)
        self._place(dict(list(new.items())[: (len(new) + 1) // 2]), now)
        self._lose("placing")
        self._place(new, now)
        self.journal.placed = True
        self._lose("placed")
        return self._settle(self.journal, now)

    def _settle(self, journal: Journal, now: int) -> Receipt:
        """From the files in place to the end: tell the runtime; where it did not load them, put the old ones back."""
        reverting = isinstance(journal.request, RevertRequest)
        fault = self._act(journal.request, self.faults.reload, self.faults.unhealthy_after)
        result: ReceiptResult = "reverted" if reverting or fault else "applied"
        generation = self._generation
        if fault:
            result = "failed" if reverting else "reverted"
            self._place(journal.old, now)
            self._act(journal.request, "", unhealthy=False)
        else:
            self.previous = (journal.paths, journal.old)
            generation += 1
        receipt = self._finish(journal.request, journal.paths, result, generation, journal.new, fault)
        self.journal = None
        self._lose("done")
        return receipt

    def _act(self, request: ApplyRequest | RevertRequest, reload: str, unhealthy: bool) -> str:
        """Runs the actions; returns why they failed, or ""."""
        self.actions += [action.replace(":", " ") for action in request.actions]
        if request.runtime == "crio":
            self.active = "failed" if unhealthy else "active"
        main = self.files.get("/etc/containers/registries.conf")
        broken = bool(main and self.faults.refuse and self.faults.refuse.encode() in main.content)
        if request.actions and (broken or reload in ("fails", "unable")):
            return "reload-failed"
        return "unhealthy" if unhealthy and request.runtime == "crio" else ""

    def _recover(self, now: int) -> None:
        journal = self.journal
        if journal is None or self.mco:
            return
        if journal.placed:
            self._settle(journal, now)
        else:
            self._place(journal.old, now)
            self.journal = None

    def _place(self, entries: Mapping[str, Entry | None], now: int) -> None:
        for path, entry in entries.items():
            if self.files.get(path) == entry:
                continue
            self.writes += 1
            if entry is None:
                self.files.pop(path, None)
            else:
                self.files[path] = replace(entry, mtime=entry.mtime or now)

    # --- Answers ----------------------------------------------------------------------------------------------------

    @property
    def _generation(self) -> int:
        return self.owner.generation if self.owner else 0

    def _claim(self, request: ApplyRequest | RevertRequest, generation: int, step: str | None = None) -> None:
        last = self.owner.step if self.owner else ""
        self.owner = Owner(request.log_id, request.epoch, request.fence, generation, last if step is None else step)

    def _finish(
        self,
        request: ApplyRequest | RevertRequest,
        paths: Sequence[str],
        result: ReceiptResult,
        generation: int,
        changed: Mapping[str, Entry | None] | None = None,
        reason: str = "",
    ) -> Receipt:
        self._claim(request, generation, request.step)
        acted = bool(changed) and bool(request.actions)
        said = {"": True, "unable": True}.get(self.faults.reload) if acted else None
        written, restored, more = _cut(sorted(changed or ()), request)
        receipt = replace(
            self._receipt(request, paths, result, reason, reason and "the old files were put back"),
            action=request.actions[-1] if acted else "",
            loaded=said,
            written=written,
            restored=restored,
            more=more,
        )
        self.receipts[request.step] = receipt
        return receipt

    def _receipt(
        self,
        request: ApplyRequest | RevertRequest,
        paths: Sequence[str],
        result: ReceiptResult,
        reason: str = "",
        detail: str = "",
    ) -> Receipt:
        crio = request.runtime == "crio"
        return Receipt(
            result=result,
            step=request.step,
            log_id=request.log_id,
            epoch=request.epoch,
            fence=request.fence,
            generation=self._generation,
            machine_id=self.machine_id or f"machine-{self.name}",
            boot_id=self.boot_id,
            manifest=manifest_hash(self._states(paths)),
            unit=UNIT if crio else "",
            active=self.active if crio else "",
            healthy_before=reason not in ("", "unhealthy-before") or not crio or self.active == "active",
            reason=reason,
            detail=detail,
        )

    def _lose(self, moment: str) -> None:
        if self.faults.lose == moment:
            self.faults.lose = ""
            raise NodeUnreachable("the connection was lost", where=f"node {self.name}")


def _alike(entry: Entry | None, wanted: Entry | None) -> bool:
    """Whether nothing has to be written: same bytes and mode, or absent as wanted."""
    return (entry and entry.state) == (wanted and wanted.state)


def _parents(path: str) -> list[str]:
    parts = path.split("/")
    return ["/".join(parts[:depth]) for depth in range(3, len(parts))]


def _cut(paths: Sequence[str], request: ApplyRequest | RevertRequest) -> tuple[tuple[str, ...], tuple[str, ...], int]:
    """Paths written and restored, as many as fit into a receipt, and the number of the others."""
    room, kept = RECEIPT_LIMIT - 1200, []
    for path in paths:
        room -= len(path) + 3
        if room >= 0:
            kept.append(path)
    files = {file.path for file in request.files} if isinstance(request, ApplyRequest) else set()
    written = tuple(path for path in kept if path in files)
    return written, tuple(path for path in kept if path not in files), len(paths) - len(kept)
