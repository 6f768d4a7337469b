"""Taking a recorded content away for ever: the bytes go, the log that names them stays whole."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from reconciler.errors import UsageError
from reconciler.events.blobs import blobs_in_file_set
from reconciler.events.catalogue import BlobRedacted
from reconciler.events.envelope import fleet_stream
from reconciler.ports import Snapshot
from reconciler.projections.tables import HOLDS, NODE_STATES, POOLS, RENDERS, RESOURCES
from reconciler.stages.context import Context, anew

DIGEST = re.compile(r"[0-9a-f]{64}")

_TEXTS = ("content", "text", "lines")
"""Columns of a version of a resource that name blobs."""


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
    sets = dict(_file_sets(snapshot))
    contents = await context.blobs.get(sets)
    files = {digest: f"one of {who}" for name, who in sets.items() for digest in blobs_in_file_set(contents[name])}
    return {**files, **dict(_sources(snapshot)), **sets}


def _file_sets(snapshot: Snapshot) -> Iterator[tuple[str, str]]:
    for (_, node), row in snapshot.table(NODE_STATES).items():
        for digest in filter(None, (row["files"], *(row["unproven"] or ()))):
            yield digest, f"the files of node {node}"
    for (_, pool), row in snapshot.table(POOLS).items():
        for digest in ((row["completed"] or {}).get("targets") or {}).values():
            yield digest, f"the files that pool {pool} may go back to"
    for (_, pool, node, _), row in snapshot.table(RENDERS).items():
        yield row["files"], f"the files wanted on {f'node {node}' if node else f'the nodes of pool {pool}'}"
    for row in snapshot.table(HOLDS).values():
        yield from ((item["files"], f"the files of hold {row['hold']}") for item in row["files"] or ())


def _sources(snapshot: Snapshot) -> Iterator[tuple[str, str]]:
    for (_, pool, resource), row in snapshot.table(RESOURCES).items():
        yield from ((row[name], f"{resource} of pool {pool or '(none)'}") for name in _TEXTS)
    for owner, table in (("pool", POOLS), ("node", NODE_STATES)):
        for (_, name), row in snapshot.table(table).items():
            found = filter(None, (row["base_files"] or {}).values())
            yield from ((digest, f"the base of {owner} {name}") for digest in found)
    for (_, pool, *_), row in snapshot.table(RENDERS).items():
        yield row["origins"], f"the origin of the files of pool {pool}"
    for row in snapshot.table(HOLDS).values():
        who = f"hold {row['hold']}"
        restored = [entry["restored"] for entry in row["entries"] or () if entry["restored"]]
        yield from ((item[name], who) for item in restored for name in _TEXTS)
        yield from ((item["origins"], who) for item in row["files"] or ())
