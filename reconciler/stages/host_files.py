"""Which files a node should have, and which it was last seen to have: path → blob, told from the log or asked now."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from reconciler.ports import ABSENT, Snapshot
from reconciler.projections.desired import Desired, wanted_row
from reconciler.projections.status import NodeStatus, fleet_status
from reconciler.projections.tables import NODE_STATES, POOLS
from reconciler.registries.lint_hosts import home_of, is_drop_in_read, kind_of
from reconciler.registries.runtime_config import ROOT_CONFIG
from reconciler.stages.context import Context, FileSet
from reconciler.stages.observe import file_sets, look
from reconciler.stages.sight import Sight, is_unread

Blobs = tuple[tuple[str, str], ...]
"""(path, digest) pairs, sorted."""
_DIGEST = 64
"""The length of a digest, by which it is told from a word on what stands there."""

_SAYS = {
    "Pending": "waits for its rollout",
    "Applying": "is being changed now",
    "Failed": "its change failed",
    "Unadopted": "nothing was written there yet: its pool observes",
}
"""What the states of files mean for what a node has."""


@dataclass(frozen=True)
class HostFiles:
    """One node's files. `own`: the node's name where a hold sets it apart from its pool; `origins`: the blob of
    the provenance of the wanted set, `inputs`: the digest of what it was rendered from, over `base`. `wanted` is None
    where there is no wish yet, and `unknown` says why.

    `applied` is what the last receipt proved over what the host had of its own, `observed` what was last seen (None:
    the same), and `unread` names the files of which the bytes are not known. `complete`: no other file there may add
    to these. `live`: `observed` was asked for now. `notes` are about the node's state, `sights` about what was seen.
    `released` says that the node was given back, and why; nothing is wanted there.
    """

    name: str
    pool: str
    own: str
    base: str
    inputs: str
    origins: str
    wanted: Blobs | None
    applied: Blobs | None
    observed: Blobs | None
    complete: bool
    notes: tuple[str, ...]
    sights: tuple[str, ...] = ()
    unread: tuple[str, ...] = ()
    unknown: str = ""
    live: bool = False
    released: str = ""

    @property
    def group(self) -> HostFiles:
        """Equal for nodes of which everything is the same but their names."""
        return replace(self, name="")


async def recorded_files(
    context: Context, snapshot: Snapshot, desired: Desired, names: Iterable[str]
) -> list[HostFiles]:
    """The nodes' files as the log has them."""
    sets = await file_sets(context, snapshot)
    status = {node.name: node for node in fleet_status(context.name, snapshot.rows).nodes}
    held = {name for pool in desired.pools for name in desired.held_nodes(pool)}
    return [_recorded(snapshot, desired, sets, status[name], held=name in held) for name in names]


def _recorded(
    snapshot: Snapshot, desired: Desired, sets: Mapping[str, FileSet], status: NodeStatus, *, held: bool
) -> HostFiles:
    state = snapshot.one(NODE_STATES, snapshot.fleet, status.name) or {}
    pool = status.pool if status.pool in desired.pools else None
    row = wanted_row(snapshot.fleet, snapshot.rows, pool, status.name, state)
    base = own_files(snapshot, status.name)
    wanted = laid_over(base, sets[row["files"]]) if row and row["files"] in sets else None
    proved = sets.get(state["files"]) if state.get("files") else FileSet(())
    applied = laid_over(base, proved) if state.get("base") and proved is not None else None
    drift = {str(item["path"]): str(item["observed"]) for item in state.get("drift") or ()}
    strays = [path for path in status.strays if is_drop_in_read(path)]
    blocked = (snapshot.one(POOLS, snapshot.fleet, pool) or {}).get("blocked") if pool else None
    return HostFiles(
        name=status.name,
        pool=pool or "",
        own=status.name if held or (row and row["node"]) else "",
        base=str(row["base"]) if row else "",
        inputs=str(row["inputs"]) if row else "",
        origins=str(row["origins"]) if row else "",
        wanted=wanted,
        applied=applied,
        observed=_drifted(applied, drift) if applied is not None and drift else None,
        complete=not strays,
        notes=tuple(_notes(status, state, lost=proved is None)),
        sights=tuple(_sights(drift, strays)),
        unread=_decisive(path for path, seen in drift.items() if seen not in (ABSENT, "") and len(seen) != _DIGEST),
        unknown="" if wanted is not None else _why_unknown(status, state, blocked, lost=row is not None),
        released=released_since(state),
    )


def released_since(state: Mapping[str, Any]) -> str:
    """That the node was given back, in words; empty where it was not."""
    released = state.get("released")
    return f"the node was released ({released['reason']}): what stands there is not ours" if released else ""


def own_files(snapshot: Snapshot, node: str) -> dict[str, str]:
    """The node's own files, as they were captured."""
    state = snapshot.one(NODE_STATES, snapshot.fleet, node) or {}
    return {path: digest for path, digest in (state.get("base_files") or {}).items() if digest}


def laid_over(base: Mapping[str, str], ours: FileSet) -> Blobs:
    """A file set over a node's own files."""
    return tuple(sorted({**base, **{entry.path: entry.sha256 for entry in ours.entries}}.items()))


def _drifted(applied: Blobs, drift: Mapping[str, str]) -> Blobs:
    """What was seen where it differs from the receipt."""
    seen = {**dict(applied), **drift}
    return tuple(sorted((path, digest) for path, digest in seen.items() if len(digest) == _DIGEST))


def _decisive(paths: Iterable[str]) -> tuple[str, ...]:
    """Those that a pull depends on: certificates decide only whether a registry is trusted."""
    return tuple(sorted(path for path in paths if kind_of(path) in ("registries", "drop-in", "policy")))


def _why_unknown(status: NodeStatus, state: Mapping[str, Any], blocked: str | None, *, lost: bool) -> str:
    if lost:
        return "which files it was to have was redacted"
    if released := released_since(state):
        return released
    if not status.pool:
        return "no pool selects the node: nothing is wanted there"
    if not state.get("base"):
        return "the node was never observed: what stands on it is not known"
    return f"nothing was rendered for it: {blocked}" if blocked else "nothing was rendered for it yet"


def _notes(status: NodeStatus, state: Mapping[str, Any], *, lost: bool) -> Iterator[str]:
    """What else is to be known of the node; the same words for nodes of which the same is true."""
    if status.files in _SAYS:
        yield _SAYS[status.files]
    if lost:
        yield "which files its last receipt proved was redacted"
    if state.get("unproven"):
        yield "a step was lost on the way: whether its files stand there is not known"
    if state.get("unreachable"):
        known = f"is left alone: {state['unreachable']}" if state.get("refused") else "does not answer"
        yield f"it {known}; what stands there may be newer"


def _sights(drift: Mapping[str, str], strays: Iterable[str]) -> Iterator[str]:
    for path, seen in drift.items():
        yield f"drifted: {path}" + (f" ({seen})" if len(seen) != _DIGEST else "")
    for path in strays:
        yield f"{path} is not ours, and is read too; its content is not recorded: ask with --live"


async def live_files(
    context: Context, snapshot: Snapshot, recorded: Iterable[HostFiles]
) -> tuple[list[HostFiles], dict[str, bytes]]:
    """The same with what the nodes have now, strays included, and the bytes of it. Records nothing.

    Two round trips: what is there, then the content of what the log does not know. Files of root's own configuration
    are seen, but no node gives their content.
    """
    hosts = {host.name: host for host in recorded}
    sights = await look(context, snapshot, hosts)
    alike: dict[frozenset[str], list[str]] = {}
    for name, sight in sights.items():
        alike.setdefault(frozenset(path for path in _others(sight) if not home_of(path)), []).append(name)
    for paths, names in alike.items():
        if paths:
            again = await look(context, snapshot, names, sorted(paths))
            sights |= {name: sight for name, sight in again.items() if sight.observation}
    contents: dict[str, bytes] = {}
    found = []
    for name, host in hosts.items():
        sight = sights[name]
        if sight.observation is None:
            note = f"it does not answer now ({sight.out}); what is said of it is from the log"
            found.append(replace(host, notes=(*host.notes, note)))
        else:
            found.append(_seen(host, sight, contents))
    return found, contents


def _others(sight: Sight) -> set[str]:
    """Files that a pull depends on, that no file set has."""
    if sight.observation is None:
        return set()
    paths = {*sight.observation.present, *sight.observation.effective}
    return {path for path in _decisive(paths) if home_of(path) in ("", ROOT_CONFIG)}


def _seen(host: HostFiles, sight: Sight, contents: dict[str, bytes]) -> HostFiles:
    """The host with what the node has; `contents` grows."""
    assert sight.observation is not None  # noqa: S101  the caller looked
    files: dict[str, str] = {}
    unread = _others(sight) - sight.observation.files.keys()
    for path, file in sorted(sight.observation.files.items()):
        if file.kind != ABSENT and (file.kind != "file" or is_unread(sight, file)):
            unread.add(path)
        elif file.kind == "file":
            files[path] = file.sha256
            if file.content is not None:
                contents[file.sha256] = file.content
    sights = tuple(f"{path} is read there, but not sent: copy it and ask with --files" for path in sorted(unread))
    seen = tuple(sorted(files.items()))
    return replace(host, observed=seen, complete=True, sights=sights, unread=_decisive(unread), live=True)
