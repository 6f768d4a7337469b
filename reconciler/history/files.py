"""The files of nodes: as they were rendered, and as wanted, proved and seen, side by side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from reconciler.errors import UsageError
from reconciler.ports import ABSENT, Snapshot
from reconciler.projections.desired import Desired, wanted_row
from reconciler.projections.tables import NODE_STATES, Row
from reconciler.registries.model import NodeFile
from reconciler.rollout.drift import RUNTIME
from reconciler.stages.context import Context
from reconciler.stages.differences import difference
from reconciler.stages.host_files import Blobs, HostFiles, recorded_files
from reconciler.stages.sight import not_read

SIDES = ("applied", "observed", "wanted")
"""What may be compared: what the last receipt proved over the node's own files, what was last seen, what is wanted."""

UNREAD = "unread"
"""What drift says of a file of which nobody has the bytes."""
DIGEST = 64


def chosen_nodes(desired: Desired, names: Sequence[str], pool: str | None = None) -> list[str]:
    """The nodes asked about, or all. Raises UsageError for a node or pool that is not there."""
    refuse_unknown(names, pool, desired)
    return [name for name, node in desired.nodes.items() if (not names or name in names) and pool in (None, node.pool)]


async def nodes_of(context: Context, names: Sequence[str], pool: str | None) -> list[str]:
    """As `chosen_nodes`, of the fleet as it is. Raises UsageError, also where there are none."""
    found = chosen_nodes(Desired(context.name, (await context.snapshot()).rows), names, pool)
    if not found:
        raise UsageError("has none of these nodes", where=f"pool {pool}", remedy="see `reconciler get nodes`")
    return found


def refuse_unknown(names: Sequence[str], pool: str | None, *states: Desired) -> None:
    """Raises UsageError for a node or pool that is in none of these states."""
    for name in names:
        if not any(name in desired.nodes for desired in states):
            raise UsageError(f"there is no node {name}", where="node", remedy="see `reconciler get nodes`")
    if pool is not None and not any(pool in desired.pools for desired in states):
        raise UsageError(f"there is no pool {pool}", where="--pool", remedy="see `reconciler get pools`")


async def rendered_files(
    context: Context, pool: str | None, node: str | None
) -> tuple[tuple[NodeFile, ...], list[str]]:
    """The files recorded as wanted for a node, or for all nodes of a pool, byte for byte; and what is said of those
    that were redacted.

    Raises UsageError when there are none, or the pool's nodes differ, so that one must be named.
    """
    snapshot = await context.snapshot()
    desired = Desired(context.name, snapshot.rows)
    if node is None and pool is None and len(desired.pools) > 1:
        names = ", ".join(desired.pools)
        raise UsageError(f"there are several pools: {names}", where="--pool", remedy="name one")
    found: dict[str, str] = {}
    for name in chosen_nodes(desired, [node] if node else (), pool):
        row = wanted(snapshot, desired, name)
        if row is not None:
            found.setdefault(str(row["files"]), name)
    if not found:
        raise UsageError("nothing is rendered", where=node or pool or "fleet", remedy="see `reconciler status`")
    if len(found) > 1:
        what = f"{len(found)} file sets: the nodes' own files differ"
        raise UsageError(what, where="--node", remedy=f"name a node, such as {next(iter(found.values()))}")
    (digest,) = found
    entries = (await context.load_file_set(digest)).entries
    contents = await context.load_known(entry.sha256 for entry in entries)
    gone = await context.gone(entry.sha256 for entry in entries if entry.sha256 not in contents)
    kept = [entry for entry in entries if entry.sha256 in contents]
    lost = [(entry.path, gone[entry.sha256]) for entry in entries if entry.sha256 in gone]
    notes = [f"{path} was redacted at #{why.position}: {why.reason}" for path, why in lost]
    return tuple(NodeFile(entry.path, contents[entry.sha256], entry.mode) for entry in kept), notes


def wanted(snapshot: Snapshot, desired: Desired, node: str) -> Row | None:
    """The row of RENDERS that a node's wanted files are in; None where there is no wish."""
    state = snapshot.one(NODE_STATES, snapshot.fleet, node) or {}
    return wanted_row(snapshot.fleet, snapshot.rows, desired.nodes[node].pool, node, state)


async def compare_sides(
    context: Context, names: Sequence[str], pool: str | None, before: str, after: str
) -> list[dict[str, Any]]:
    """Per node and path, what differs between two of SIDES, as the log has them; an item with `error` where a node or
    a file cannot be compared. Raises UsageError for a node that is not there."""
    snapshot = await context.snapshot()
    desired = Desired(context.name, snapshot.rows)
    hosts = await recorded_files(context, snapshot, desired, chosen_nodes(desired, names, pool))
    sides = [(host, side(host, before), side(host, after)) for host in hosts]
    contents = await context.load_past(digest for _, *both in sides for blobs in both for _, digest in blobs or ())
    items: list[dict[str, Any]] = []
    for host, old, new in sides:
        if old is None or new is None:
            lacks = before if old is None else after
            why = f": {host.unknown}" if host.unknown and (lacks == "wanted" or host.released) else ""
            items.append({"node": host.name, "path": "", "error": f"nothing is recorded as {lacks}{why}"})
            continue
        unread = _unread(snapshot, host.name) if "observed" in (before, after) else {}
        items += [{"node": host.name, "path": path, "error": text} for path, text in unread.items()]
        found = blob_differences(contents, old, new)
        items += [{"node": host.name, **item} for item in found if item["path"] not in unread]
    return items


def side(host: HostFiles, name: str) -> Blobs | None:
    """One of SIDES of a node; None where nothing is recorded."""
    if name == "wanted":
        return host.wanted
    return host.observed if name == "observed" and host.observed is not None else host.applied


def blob_differences(contents: Mapping[str, bytes], old: Blobs, new: Blobs) -> list[dict[str, Any]]:
    """Each path that differs, as `difference` gives it."""
    before, after = dict(old), dict(new)
    return [
        difference(path, _bytes(contents, before.get(path)), _bytes(contents, after.get(path)))
        for path in sorted({*before, *after})
        if before.get(path) != after.get(path)
    ]


def _bytes(contents: Mapping[str, bytes], digest: str | None) -> bytes | None:
    return contents[digest] if digest else None


def _unread(snapshot: Snapshot, node: str) -> dict[str, str]:
    """What was seen and has no bytes: path → what is said of it."""
    drift = (snapshot.one(NODE_STATES, snapshot.fleet, node) or {}).get("drift") or ()
    seen = {str(item["path"]): str(item["observed"]) for item in drift if item["path"] != RUNTIME}
    return {
        path: not_read(path) if state == UNREAD else f"{path} is a {state}"
        for path, state in seen.items()
        if state != ABSENT and len(state) != DIGEST
    }
