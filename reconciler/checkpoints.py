"""Signing the head of the log, and publishing it where whoever may write the database may not write."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from reconciler.errors import InputRejected, NotConverged
from reconciler.events.catalogue import CheckpointSigned, Event, RestoreAccepted
from reconciler.events.checkpoint import Checkpoint, SignerKey, opened, origin_of
from reconciler.events.envelope import StoredEvent, fleet_stream
from reconciler.ports import CheckpointTarget, EventFilter, EventLog
from reconciler.stages.context import Context, anew
from reconciler.stages.restores import REMEDY, contradicted, evidence_text, record_restore

LEASE, LEASE_SECONDS = "checkpoint", 120
"""One process at a time signs: two would publish in any order."""


@dataclass(frozen=True)
class Signing:
    """What signs and where it publishes. The log's events are recorded in the first of the contexts, its fleets'."""

    contexts: Sequence[Context]
    key: SignerKey
    targets: Sequence[CheckpointTarget]

    @property
    def log(self) -> EventLog:
        return self.contexts[0].log


async def sign(signing: Signing) -> dict[str, Any] | None:
    """Sign and publish the head; None where the log is empty or another process is just doing it.

    What was appended since the last one is verified before. Raises NotConverged where it does not verify, and where a
    target holds a checkpoint that contradicts this log, which records RestoreDetected in every fleet; also while an
    earlier contradiction waits for a person. Raises InputRejected for a target whose checkpoint is of another log, or
    that this key did not sign.
    """
    first = signing.contexts[0]
    if not await first.leases.acquire(LEASE, first.owner, LEASE_SECONDS):
        return None
    try:
        await check(signing)
        head = await _newest(signing.log)  # before the verification, so that nothing is signed that it has not seen
        await _verify(signing.log)
        if head is None:
            return None
        checkpoint = Checkpoint(origin_of(signing.log.log_id), head.position, head.hash.hex())
        note = signing.key.signed(checkpoint)
        for target in signing.targets:
            await target.publish(note, f"Checkpoint of {checkpoint.origin} at #{head.position}")
        names = ", ".join(target.name for target in signing.targets)
        body = CheckpointSigned(head.position, checkpoint.hash, signing.key.public.label, names)
        await _record(first, body)
        return {"position": body.position, "hash": body.hash, "key": body.key, "targets": names, "note": note}
    finally:
        await first.leases.release(LEASE, first.owner)


async def check(signing: Signing) -> None:
    """Hold the log against what the targets hold. Raises as `sign` does."""
    found = [item for target in signing.targets if (item := await _contradiction(signing, target))]
    for context in signing.contexts if found else ():
        await record_restore(context, found)
    if found:
        raise NotConverged(f"nothing is signed: {evidence_text(found)}", remedy=REMEDY)
    for context in signing.contexts:
        if said := contradicted(await context.snapshot()):
            raise NotConverged(f"nothing is signed: {said}", where=f"fleet {context.name}", remedy=REMEDY)


async def _contradiction(signing: Signing, target: CheckpointTarget) -> dict[str, Any] | None:
    """How the target's latest checkpoint contradicts the log, unless a person accepted the log since."""
    text = await target.latest()
    if text is None:
        return None
    try:
        latest = opened(text, [signing.key.public])[-1]
    except InputRejected as refused:
        remedy = "move it away, or choose another target, if a new key is to go on"
        raise InputRejected(refused.what, where=target.name, remedy=remedy) from None
    if latest.origin != origin_of(signing.log.log_id):
        raise InputRejected(f"holds a checkpoint of another log: {latest.origin}", where=target.name)
    found = (await signing.log.hashes([latest.position])).get(latest.position, "")
    if found == latest.hash or await _is_accepted(signing.log):
        return None
    evidence = {"source": "checkpoint", "name": target.name, "epoch": 0}
    return {**evidence, "position": latest.position, "hash": latest.hash, "found": found}


async def _verify(log: EventLog) -> None:
    """What came after the last event that was signed, or after a person accepted the log as it was."""
    trusted = await _trusted(log)
    found = await log.verify() if trusted is None else await log.verify_after(*trusted)
    if found.problems:
        more = f", and {len(found.problems) - 1} more" if len(found.problems) > 1 else ""
        raise NotConverged(
            f"nothing is signed, since the log does not verify: {found.problems[0]}{more}",
            remedy="run `reconciler log verify`, find out who appended it, and restore a backup",
        )


async def _trusted(log: EventLog) -> tuple[int, str] | None:
    """The position and hash up to which nothing is asked again. What an event says of them counts where it is so."""
    last = await _newest(log, CheckpointSigned, RestoreAccepted)
    if last is None:
        return None
    if not isinstance(last.body, CheckpointSigned):
        return last.position, last.hash.hex()
    signed = last.body.position, last.body.hash
    return signed if (await log.hashes([signed[0]])).get(signed[0]) == signed[1] else None


async def _is_accepted(log: EventLog) -> bool:
    """Whether a person let the log go on since it was last signed: the next checkpoint is published over any other."""
    newest = await _newest(log, CheckpointSigned, RestoreAccepted)
    return newest is not None and isinstance(newest.body, RestoreAccepted)


async def is_due(signing: Signing, interval: timedelta, events: int) -> bool:
    """Whether something was appended since the last CheckpointSigned, and either `interval` has passed, or there are
    `events` new ones (0: this does not count)."""
    newest = await _newest(signing.log)
    if newest is None or isinstance(newest.body, CheckpointSigned):
        return False
    last = await _newest(signing.log, CheckpointSigned)
    if last is None:
        return True
    passed = signing.contexts[0].clock.now() - last.recorded_at >= interval
    return passed or 0 < events <= newest.position - last.position


async def _newest(log: EventLog, *types: type[Event]) -> StoredEvent | None:
    """The last event, or the last of one of the types."""
    wanted = tuple(event_type.__name__ for event_type in types) or None
    newest = await log.read(EventFilter(types=wanted, newest_first=True, limit=1))
    return newest[0] if newest else None


async def _record(context: Context, body: CheckpointSigned) -> None:
    async def attempt() -> None:
        now = await context.snapshot()
        await context.append(context.events(now, [body]), now, [fleet_stream(context.name)])

    await anew(attempt)
