"""A restored, forked or rewritten log: a person lets the fleet go on from it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from reconciler.errors import UsageError
from reconciler.events.catalogue import RestoreAccepted
from reconciler.events.envelope import fleet_stream
from reconciler.projections.tables import RESTORES
from reconciler.stages.context import Context, anew
from reconciler.stages.observe import look
from reconciler.stages.restores import accepted_epoch, contradicted, stamp_of


async def accept(context: Context, *, reason: str, dry_run: bool = False) -> dict[str, Any]:
    """Go on from this log, under a fence epoch above all that it and the nodes that answer now know.

    Raises UsageError where nothing contradicts the log.
    """

    async def attempt() -> dict[str, Any]:
        now = await context.snapshot()
        said = contradicted(now)
        if not said:
            raise UsageError("nothing contradicts this log: nothing to accept", remedy="see `reconciler status`")
        sights = (await look(context, now)).values()
        stamps = [stamp_of(sight.observation, context.log.log_id) for sight in sights]
        seen = [stamp.epoch for stamp in stamps if stamp is not None]
        epoch = max(await accepted_epoch(context), *_epochs(now.one(RESTORES, context.name)), *seen) + 1
        if not dry_run:
            body = RestoreAccepted(epoch, reason)
            await context.append(context.events(now, [body]), now, [fleet_stream(context.name)])
        return {"accepted": said, "epoch": epoch, "dryRun": dry_run}

    return await anew(attempt)


def _epochs(row: Mapping[str, Any] | None) -> list[int]:
    return [item["epoch"] for item in ((row or {}).get("evidence") or {"items": ()})["items"]]
