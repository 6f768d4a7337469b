"""Taking a recorded content away for ever: the bytes go, the log that names them stays whole."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from reconciler.errors import UsageError
from reconciler.events.blobs import blobs_in_file_set
from reconciler.events.catalogue import BlobRedacted
from reconciler.events.envelope import fleet_stream
from reconciler.ports import Snapshot
from reconciler.projections.tables import HOLDS, NODE_STATES, POOLS, RENDERS, RESOURCES
from reconciler.stages.context import Context, anew

DIGEST = re.compile(r"[0-9a-f]{64}")


async def redact(context: Context, blob: str, *, reason: str, dry_run: bool = False) -> dict[str, Any]:
    """Take away the bytes of a blob, named by its whole SHA-256. They do not come back, not from Git either.

    Raises UsageError for a blob that is not there, is redacted already, or is in use now.
    """
    if not DIGEST.fullmatch(blob):
        raise UsageError(f"{blob!r} is no blob", where="BLOB", remedy="give its whole SHA-256: `reconciler show #P`")

    async def attempt() -> dict[str, Any]:
        now = await context.snapshot()
        await _refuse(context, blob)
        size = len((await context.blobs.get([blob]))[blob])
        if not dry_run:
            body = BlobRedacted(blob, size, reason)
            await context.append(context.events(now, [body]), now, [fleet_stream(context.name)])
            context.contents.pop(blob, None)
        return {"blob": blob, "size": size, "dryRun": dry_run}

    return await anew(attempt)


async def _refuse(context: Context, blob: str) -> None:
    if redacted := (await context.blobs.redacted([blob])).get(blob):
        raise UsageError(f"blob {blob[:12]} was redacted at #{redacted.position}: {redacted.reason}", where="BLOB")
    if await context.blobs.missing([blob]):
        raise UsageError(
            f"there is no blob {blob}", where="BLOB", remedy="`reconciler show #P` names those of an event"
        )
    for fleet in await context.reads.fleets():
        used = await _used(context, await context.reads.snapshot(fleet))
        if blob in used:
            remedy = "change what is wanted first: in Git, or lift the hold"
            raise UsageError(f"blob {blob[:12]} is in use: {used[blob]} (fleet {fleet})", where="BLOB", remedy=remedy)


async def _used(context: Context, snapshot: Snapshot) -> dict[str, str]:
    """Digest → who needs it now: files wanted on nodes and those they have, and what these are rendered from."""
    used = dict(_named(snapshot))
    sets = {name: who for name, who in used.items() if who.startswith("the files ")}
    contents = await context.blobs.get(sets)
    for name, who in sets.items():
        used |= dict.fromkeys(blobs_in_file_set(contents[name]), f"one of {who}")
    return used


def _named(snapshot: Snapshot) -> Iterator[tuple[str, str]]:
    for (_, pool, resource), row in snapshot.table(RESOURCES).items():
        for column in ("content", "text", "lines"):
            yield row[column], f"{resource} of pool {pool or '(none)'}"
    for (_, pool), row in snapshot.table(POOLS).items():
        yield from ((digest, f"the base of pool {pool}") for digest in (row["base_files"] or {}).values() if digest)
    for row in snapshot.table(HOLDS).values():
        yield from _of_hold(row)
    for (_, node), row in snapshot.table(NODE_STATES).items():
        yield from ((digest, f"the base of node {node}") for digest in (row["base_files"] or {}).values() if digest)
        for digest in filter(None, (row["files"], *(row["unproven"] or ()))):
            yield digest, f"the files of node {node}"
    for (_, pool, node, _), row in snapshot.table(RENDERS).items():
        yield row["files"], f"the files wanted on {f'node {node}' if node else f'the nodes of pool {pool}'}"
        yield row["origins"], f"the origin of the files of pool {pool}"


def _of_hold(row: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    who = f"hold {row['hold']}"
    for entry in row["entries"] or ():
        restored = entry["restored"] or {}
        yield from ((restored[name], who) for name in ("content", "text", "lines") if name in restored)
    for files in row["files"] or ():
        yield files["files"], f"the files of {who}"
        yield files["origins"], who
