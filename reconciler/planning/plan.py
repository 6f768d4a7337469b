"""`plan`: the stages of a pass on an overlay of the log, and what they come to as data."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from reconciler import __version__
from reconciler.errors import SourceError, UsageError
from reconciler.events.envelope import Actor
from reconciler.planning.export import Export
from reconciler.ports import Clock, Commit, ManifestFile, Proposal, Signature, Snapshot
from reconciler.projections.fold import LogFold
from reconciler.projections.tables import Table
from reconciler.source.directory import read_directory
from reconciler.stages.context import Context
from reconciler.stages.foresee import Foresight, foresee_commit, foresee_pass
from reconciler.stages.plan_data import plan_data
from reconciler.stages.upgrade import renderer_differences
from reconciler.store.memory import MemoryBlobs, MemoryEventLog, MemoryLeases, MemoryReadModel
from reconciler.store.overlay import OverlayBlobs, OverlayLog, OverlayReads
from reconciler.transport.router import TransportRouter
from reconciler.work.inline import InlineRunner


@dataclass(frozen=True)
class Asked:
    """What is planned: the next pass, or with `ref` (a branch or commit) or `directory` that content as if merged.

    `live`: nodes are asked, as a pass would; else what the log knows of them counts. `pools`: show only these.
    `images`: say whose verdict turns.
    """

    ref: str | None = None
    directory: Path | None = None
    live: bool = True
    pools: Sequence[str] | None = None
    images: Sequence[str] = ()


async def plan(context: Context, asked: Asked) -> dict[str, Any]:
    """The plan. Nothing is appended and no node is written. Raises UsageError for a pool or ref that is not there."""
    below = await context.snapshot()
    overlay, log = on_overlay(context, below)
    proposal = await _content(overlay, asked)
    if proposal is None:
        found = await foresee_pass(overlay, live=asked.live)
    else:
        # Who signed it counts when it is recorded; here it is judged by what it says.
        overlay.source, overlay.fleet = proposal, replace(overlay.fleet, verify="none")
        found = await foresee_commit(overlay, proposal.commit, live=asked.live)
    _check_pools(found, asked.pools)
    return {
        "position": below.position,
        "nodesFrom": "nodes" if asked.live else "log",
        "ref": asked.ref,
        "directory": str(asked.directory) if asked.directory else None,
        "commit": proposal.commit.sha if proposal else None,
        **await plan_data(overlay, found, log.events, pools=asked.pools, images=asked.images),
    }


async def renderer_changes(context: Context) -> list[dict[str, Any]]:
    """Where today's renderer would give other files than those recorded, for the same inputs."""
    return await renderer_differences(on_overlay(context, await context.snapshot())[0])


async def plan_export(export: Export, asked: Asked, clock: Clock) -> dict[str, Any]:
    """As `plan`, on an exported fleet: neither a database nor a node nor Git is asked."""
    blobs, log = MemoryBlobs(), MemoryEventLog(LogFold(), clock)
    await blobs.put(export.blobs)
    log.log_id = export.log_id
    context = Context(
        export.fleet,
        _Nowhere(),
        log,
        blobs,
        _ExportedReads(log, clock, export.snapshot),
        MemoryLeases(clock),
        InlineRunner(TransportRouter({})),
        clock,
        Actor("login", "plan"),
        "plan",
        __version__,
    )
    return await plan(context, replace(asked, live=False))


def on_overlay(context: Context, snapshot: Snapshot) -> tuple[Context, OverlayLog]:
    """The context on an overlay; its caches are its own, for what they hold is not stored."""
    log = OverlayLog(context.log, snapshot, LogFold(), context.clock, context.tool_version)
    reads, blobs = OverlayReads(context.reads, log), OverlayBlobs(context.blobs)
    return replace(context, log=log, blobs=blobs, reads=reads, parsed={}, contents={}, resources={}), log


async def _content(context: Context, asked: Asked) -> _Proposal | None:
    """What is asked as one commit with its files; None for the next pass."""
    if asked.directory is not None:
        files = read_directory(asked.directory)
        return _Proposal(_commit_of(context, asked.directory, files), files)
    if asked.ref is None:
        return None
    sha = await context.source.revision(asked.ref)
    commits = await context.source.commits(None, sha) or ()
    return _Proposal(commits[-1], await context.source.manifests(sha))


def _commit_of(context: Context, directory: Path, files: Sequence[ManifestFile]) -> Commit:
    """A commit that nobody made; its id is a digest of the content."""
    content = hashlib.sha256()
    for file in files:
        content.update(f"{file.path}\0{file.blob}\0{file.refused}\n".encode())
    who = (context.actor.subject, "", f"{context.clock.now():%Y-%m-%dT%H:%M:%SZ}")
    return Commit(content.hexdigest()[:40], None, *who, *who, f"the files below {directory}")


def _check_pools(found: Foresight, wanted: Sequence[str] | None) -> None:
    known = [pool.view.pool.name for pool in found.pools]
    for name in wanted or ():
        if name not in known:
            raise UsageError(f"there is no pool {name}", where="--pool", remedy=f"pools: {', '.join(known) or 'none'}")


@dataclass(frozen=True)
class _Proposal:
    """ports.Source of one commit."""

    commit: Commit
    files: Sequence[ManifestFile]

    async def head(self) -> str:
        return self.commit.sha

    async def commits(self, since: str | None, head: str, *, limit: int | None = None) -> Sequence[Commit]:
        del since, head, limit
        return [self.commit]

    async def revision(self, name: str) -> str:
        del name
        return self.commit.sha

    async def manifests(self, commit: str) -> Sequence[ManifestFile]:
        del commit
        return self.files

    async def push(self, branch: str, proposal: Proposal) -> str:
        del branch, proposal
        raise SourceError("a plan pushes nothing")

    async def keys(self) -> str:
        return ""

    async def signatures(self, since: str | None, commit: str) -> Sequence[Signature]:
        del since, commit
        return ()


class _Nowhere:
    """ports.Source of an exported fleet: there is no repository, and the plan of a directory asks none."""

    async def head(self) -> str:
        raise SourceError(_NO_REPOSITORY)

    async def commits(self, since: str | None, head: str, *, limit: int | None = None) -> Sequence[Commit] | None:
        del since, head, limit
        raise SourceError(_NO_REPOSITORY)

    async def revision(self, name: str) -> str:
        raise UsageError(_NO_REPOSITORY, where=name, remedy="check it out and give its directory with --from")

    async def manifests(self, commit: str) -> Sequence[ManifestFile]:
        del commit
        raise SourceError(_NO_REPOSITORY)

    async def push(self, branch: str, proposal: Proposal) -> str:
        del branch, proposal
        raise SourceError(_NO_REPOSITORY)

    async def keys(self) -> str:
        raise SourceError(_NO_REPOSITORY)

    async def signatures(self, since: str | None, commit: str) -> Sequence[Signature]:
        del since, commit
        raise SourceError(_NO_REPOSITORY)


_NO_REPOSITORY = "an export has no repository"


class _ExportedReads(MemoryReadModel):
    """The read tables of an export: one snapshot, whenever it is asked for."""

    def __init__(self, log: MemoryEventLog, clock: Clock, exported: Snapshot) -> None:
        super().__init__(log, clock)
        self._exported = exported

    async def snapshot(self, fleet: str, at: int | None = None, tables: Sequence[Table] | None = None) -> Snapshot:
        del fleet, at, tables
        return self._exported
