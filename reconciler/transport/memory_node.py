"""A node that exists only in memory and keeps node.sh's promises; no I/O, no clock.

Rules and `reason` words are those of docs/reference/node-protocol.md; the conformance tests hold both to them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from reconciler.errors import NodeRefused, NodeUnreachable
from reconciler.ports import (
    ABSENT,
    ApplyRequest,
    ConfirmRequest,
    HookRequest,
    HookResult,
    ImagesRequest,
    NodeImages,
    Observation,
    ObserveRequest,
    Owner,
    Receipt,
    ReceiptResult,
    ReleaseRequest,
    RevertRequest,
    StepRequest,
    manifest_hash,
)
from reconciler.transport import memory_parts as parts
from reconciler.transport.memory_parts import RELOAD, RESTART, UNIT, ChangeRequest, Entry, Faults, Journal, Pending

_OTHER_KINDS = ("symlink", "directory", "other")
_PRESENT = ("/etc/docker/certs.d/", "/etc/containers/registries.conf.d/")
_MCO = ("mco", "the Machine Config Operator manages this node")


@dataclass(slots=True)
class MemoryNode:
    """Files by path, the state directory's content as fields, and two logs: `actions`, what the runtime was told, and
    `hooks`, the commands that were run. `packages` says which package owns a path. Times are Unix seconds."""

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
    pending: Pending | None = None
    released: tuple[Receipt, Owner | None] | None = None
    archive: list[Mapping[str, Entry | None]] = field(default_factory=list)
    actions: list[str] = field(default_factory=list)
    hooks: list[tuple[str, ...]] = field(default_factory=list)
    packages: dict[str, str] = field(default_factory=dict)
    loaded_since: int = 0
    writes: int = 0

    def observe(self, request: ObserveRequest, now: int) -> Observation:
        self._recover(now)
        crio, read = request.runtime == "crio", sorted(path for path in self.files if parts.is_read(path, request))
        return Observation(
            machine_id=self.machine_id or f"machine-{self.name}",
            boot_id=self.boot_id,
            runtime_version=self.runtime_version,
            unit=UNIT if crio else "",
            active=self.active if crio else "",
            owner=self.owner,
            mco=self.mco,
            hold=self.hold,
            files={
                p: parts.seen(p, self.files.get(p), known, self.packages.get(p, ""))
                for p, known in request.known.items()
            },
            present=tuple(
                sorted(path for path in self.files if path.startswith(_PRESENT) and path not in request.known)
            ),
            effective={path: parts.told(path, self.files[path]) for path in read},
            os="memory",
            pending=self.pending.step if self.pending else "",
            reverted=self._reverted(),
            loaded_since=self.loaded_since if crio else 0,
            images=self.needs(ImagesRequest(request.log_id, request.runtime), now) if request.images else None,
            released=self.released[1] if self.released else None,
        )

    def needs(self, request: ImagesRequest, now: int) -> NodeImages:
        self._recover(now)
        self.asked += 1
        pause = self.pause if request.runtime == "crio" else ""
        return NodeImages(() if self.images_note else tuple(sorted(set(self.images))), pause, self.images_note)

    def apply(self, request: ApplyRequest, now: int) -> Receipt:
        self._lose("before")
        paths = tuple(sorted({*(file.path for file in request.files), *request.restore, *request.remove}))
        if refusal := self._admit(request, paths, now):
            return refusal
        if self.pending:
            self._undo(self.pending, f"the step {request.step} came before a confirmation", now)
        states = self._states(paths)
        if request.start and request.start != manifest_hash(states):
            return self._receipt(request, paths, "stale", detail="the files are not those that the plan started from")
        new: dict[str, Entry | None] = {file.path: Entry(file.content, file.mode) for file in request.files}
        new |= {path: self.baseline[path] for path in request.restore if path in self.baseline}
        new |= dict.fromkeys(request.remove)
        return self._change(request, paths, new, now)

    def revert(self, request: RevertRequest, now: int) -> Receipt:
        self._lose("before")
        paths = self.previous[0] if self.previous else ()
        if refusal := self._admit(request, paths, now):
            return refusal
        if self.pending:  # it is the current generation: undoing it is the revert that is asked for
            return self._undo(self.pending, f"the revert {request.step} came before a confirmation", now, request)
        if self.previous is None:
            return self._receipt(request, paths, "refused", "no-previous", "no generation before this one is kept")
        return self._change(request, paths, self.previous[1], now)

    def confirm(self, request: ConfirmRequest, now: int) -> Receipt:
        if self.mco:
            return self._receipt(request, (), "refused", *_MCO)
        self._recover(now)
        if refusal := self._admit_log(request, ()):
            return refusal
        if self.pending and self.pending.step == request.step:
            if refusal := self._admit_fence(request, ()):
                return refusal
            self._claim(request, self._generation)
            self.receipts[request.step] = replace(self.receipts[request.step], result="confirmed", confirm_by=0)
            self.previous, self.pending = (self.pending.journal.paths, self.pending.journal.old), None
        unknown = "no change of this step waits for a confirmation"
        return self.receipts.get(request.step) or self._receipt(request, (), "refused", "no-pending", unknown)

    def release(self, request: ReleaseRequest, now: int) -> Receipt:
        self._lose("before")
        if not self.mco:
            self._recover(now)
        if not self.mco and self.owner is None and not self.baseline:
            known = self.released[0] if self.released else None
            return known if known and known.step == request.step else self._receipt(request, (), "released")
        if refusal := self._admit(request, (), now):
            return refusal
        if self.pending:
            self._undo(self.pending, f"the release {request.step} came before a confirmation", now)
        if not request.restore:
            return self._finish(request, (), "released", self._generation)
        return self._change(request, tuple(sorted(self.baseline)), self.baseline, now)

    def hook(self, request: HookRequest) -> HookResult:
        if self.hold:
            raise NodeRefused(f"hold: {self.hold}", where=f"node {self.name}")
        self.hooks.append(request.command)
        return HookResult(self.faults.hooks.get(request.command[0], 0), "")

    # --- Reading ----------------------------------------------------------------------------------------------------

    def _states(self, paths: Sequence[str]) -> Mapping[str, tuple[str, int]]:
        return {path: entry.state if (entry := self.files.get(path)) else (ABSENT, 0) for path in paths}

    # --- Writing ----------------------------------------------------------------------------------------------------

    def _admit(self, request: ChangeRequest, paths: Sequence[str], now: int) -> Receipt | None:
        if self.mco:
            return self._receipt(request, paths, "refused", *_MCO)
        self._recover(now)
        if refusal := self._admit_log(request, paths):
            return refusal
        if request.step in self.receipts:
            return self.receipts[request.step]
        if refusal := self._admit_fence(request, paths):
            return refusal
        if self.hold:
            return self._receipt(request, paths, "refused", "hold", self.hold)
        return None

    def _admit_log(self, request: StepRequest, paths: Sequence[str]) -> Receipt | None:
        if self.owner is None or self.owner.log_id == request.log_id:
            return None
        return self._receipt(request, paths, "refused", "log-id", f"this node belongs to the log {self.owner.log_id}")

    def _admit_fence(self, request: StepRequest, paths: Sequence[str]) -> Receipt | None:
        owner = self.owner
        if owner is None or (request.epoch, request.fence) >= (owner.epoch, owner.fence):
            return None
        other = ": another copy of this log has taken it" if request.epoch < owner.epoch else ""
        seen = f"this node has seen epoch {owner.epoch}, fence {owner.fence}{other}"
        return self._receipt(request, paths, "refused", "fence", seen)

    def _change(
        self,
        request: ChangeRequest,
        paths: tuple[str, ...],
        wanted: Mapping[str, Entry | None],
        now: int,
    ) -> Receipt:
        new = {path: entry for path, entry in wanted.items() if not parts.alike(self.files.get(path), entry)}
        if not new and not (isinstance(request, ApplyRequest) and request.act and request.actions):
            result: ReceiptResult = "released" if isinstance(request, ReleaseRequest) else "same"
            return self._finish(request, paths, result, self._generation)
        for path in new:
            for place in [*parts.parents(path), path]:
                if (entry := self.files.get(place)) and entry.kind in _OTHER_KINDS:
                    reason = "symlink" if entry.kind == "symlink" else "not-a-file"
                    return self._receipt(request, paths, "refused", reason, place)
        if request.runtime == "crio" and self.active != "active":
            detail = f"{UNIT} is {self.active}; no file was touched"
            return self._receipt(request, paths, "failed", "unhealthy-before", detail)
        if check := parts.failing(request, self.faults.check_before):
            refusal = self._receipt(request, paths, "failed", "unhealthy-before", "no file was touched")
            return replace(refusal, check=check)
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
        """From the files in place to the end: tell the runtime; where it does not go well, put the old ones back."""
        request = journal.request
        fault = self._act(request, now)
        check = "" if fault else parts.failing(request, self.faults.check_after)
        if fault or check:
            receipt = self._fall_back(journal, fault or "health-check-failed", "the old files were put back", now)
            receipt = self.receipts[request.step] = replace(receipt, check=check)
        else:
            receipt = self._succeed(journal, now)
        self.journal = None
        self._lose("done")
        return receipt

    def _succeed(self, journal: Journal, now: int) -> Receipt:
        request = journal.request
        if isinstance(request, ReleaseRequest):
            return self._finish(request, journal.paths, "released", self._generation, journal.new)
        if not journal.new:
            return self._finish(request, journal.paths, "same", self._generation, journal.new)
        result: ReceiptResult = "reverted" if isinstance(request, RevertRequest) else "applied"
        receipt = self._finish(request, journal.paths, result, self._generation + 1, journal.new)
        if isinstance(request, ApplyRequest) and request.confirm:
            self.pending = Pending(journal, now + request.confirm)
            receipt = self.receipts[request.step] = replace(receipt, confirm_by=self.pending.confirm_by)
        else:
            self.previous = (journal.paths, journal.old)
        return receipt

    def _fall_back(self, journal: Journal, reason: str, detail: str, now: int) -> Receipt:
        self._place(journal.old, now)
        self._act(journal.request, now, again=True)
        result: ReceiptResult = "failed" if isinstance(journal.request, RevertRequest) else "reverted"
        # a pending change has raised the generation already
        generation = self._generation - (1 if self.pending else 0)
        return self._finish(journal.request, journal.paths, result, generation, journal.new, reason, detail)

    def _undo(self, pending: Pending, why: str, now: int, revert: RevertRequest | None = None) -> Receipt:
        """The receipt of the undone step, or that of the revert which asked for it."""
        receipt = self._fall_back(pending.journal, "unconfirmed", why, now)
        self.pending = None
        if revert:
            receipt = replace(receipt, step=revert.step, epoch=revert.epoch, fence=revert.fence, reason="", detail="")
            self.receipts[revert.step] = receipt
            self._claim(revert, self._generation, revert.step)
        return receipt

    def _act(self, request: ChangeRequest, now: int, again: bool = False) -> str:
        """Runs the actions up to the first failure; returns why, or "". `again`: after the old files were put back."""
        unhealthy = self.faults.unhealthy_after and not again and request.runtime == "crio"
        if request.runtime == "crio":
            self.active = "failed" if unhealthy else "active"
        for action in request.actions:
            self.actions.append(action.replace(":", " "))
            if fault := self.faults.of(action, self.files.get("/etc/containers/registries.conf"), again):
                return fault
        if {RELOAD, RESTART} & set(request.actions):
            self.loaded_since = now
        return "unhealthy" if unhealthy else ""

    def _recover(self, now: int) -> None:
        if self.mco:
            return
        if self.journal and self.journal.placed:
            self._settle(self.journal, now)
        elif self.journal:
            self._place(self.journal.old, now)
            self.journal = None
        if self.pending and now >= self.pending.confirm_by:
            self._undo(self.pending, "nobody confirmed it in time", now)

    def _place(self, entries: Mapping[str, Entry | None], now: int) -> None:
        for path, entry in entries.items():
            if parts.alike(self.files.get(path), entry):
                continue
            self.writes += 1
            if entry is None:
                self.files.pop(path, None)
            else:
                self.files[path] = replace(entry, mtime=now)

    # --- Answers ----------------------------------------------------------------------------------------------------

    @property
    def _generation(self) -> int:
        return self.owner.generation if self.owner else 0

    def _reverted(self) -> str:
        """The step that undid itself, if it is the last that was finished."""
        last = self.receipts.get(self.owner.step) if self.owner else None
        return last.step if last and last.reason == "unconfirmed" else ""

    def _claim(self, request: StepRequest, generation: int, step: str | None = None) -> None:
        self.released = None
        last = step if step is not None else self.owner.step if self.owner else ""
        head = request.head if request.head.position or self.owner is None else self.owner.head
        self.owner = Owner(request.log_id, request.epoch, request.fence, generation, last, head)

    def _finish(
        self,
        request: ChangeRequest,
        paths: Sequence[str],
        result: ReceiptResult,
        generation: int,
        changed: Mapping[str, Entry | None] | None = None,
        reason: str = "",
        detail: str = "",
    ) -> Receipt:
        self._claim(request, generation, request.step)
        acted = changed is not None and bool(request.actions)
        said = {"": True, "unable": True}.get(self.faults.reload) if acted and RELOAD in request.actions else None
        written, restored, more = parts.cut(sorted(changed or ()), request)
        receipt = replace(
            self._receipt(request, paths, result, reason, detail),
            action=" ".join(request.actions) if acted else "",
            loaded=True if acted and RESTART in request.actions else said,
            written=written,
            restored=restored,
            more=more,
        )
        if result == "released" and isinstance(request, ReleaseRequest):
            self._retire(request, receipt)
        else:
            self.receipts[request.step] = receipt
        return receipt

    def _retire(self, request: ReleaseRequest, receipt: Receipt) -> None:
        """Takes away what makes the node ours; a baseline that was not restored is kept aside."""
        if self.baseline and not request.restore:
            self.archive.append(self.baseline)
        self.released = receipt, self.owner
        self.owner, self.previous, self.baseline, self.receipts = None, None, {}, {}

    def _receipt(
        self,
        request: StepRequest,
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
