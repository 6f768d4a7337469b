"""Record: each new commit of the branch becomes one append group, taken or refused (DESIGN §4)."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

from reconciler.errors import InputRejected, SourceError, WrongExpectation, redacted
from reconciler.events.catalogue import (
    CommitAccepted,
    CommitObserved,
    CommitRejected,
    Event,
    FleetConfigured,
    HistoryRestored,
    HistoryRewritten,
    MassRemovalDetected,
    PoolConfigured,
    PoolRemoved,
    ResourceAdded,
    ResourceChanged,
    ResourceRemoved,
    SourceRecovered,
    SourceUnreachable,
)
from reconciler.events.codec import plain
from reconciler.events.envelope import fleet_stream
from reconciler.ports import Commit, ManifestFile, Snapshot
from reconciler.projections.desired import meaning
from reconciler.projections.tables import FLEETS, NODES, POOLS, RESOURCES, Row
from reconciler.registries.model import Problem, RenderOptions, Resource, canonical_json, digest
from reconciler.registries.parse import parse_file
from reconciler.registries.render import RENDERER_VERSION
from reconciler.rollout.acceptance import NO_POOL, Judgement, judge, mass_removals
from reconciler.rollout.bases import ParsedFile, is_template_name
from reconciler.rollout.pools import Pool
from reconciler.stages.context import Context, Progress
from reconciler.stages.held import beside_holds, held_back_whole, waits_for_other_holds
from reconciler.stages.inventory import known_nodes, node_changes
from reconciler.stages.kept import brought_back
from reconciler.stages.left_behind import left_behind
from reconciler.stages.signatures import Checked, check_ahead, check_signatures

_PULL_REQUEST = re.compile(r"Merge pull request #(\d+)|\(#(\d+)\)\s*$|See merge request \S*!(\d+)", re.MULTILINE)


async def fetch(context: Context) -> str | None:
    """The branch's head; None when Git cannot be read now, which is recorded once and ends nothing else."""
    snapshot = await context.snapshot()
    row = snapshot.one(FLEETS, context.name)
    unreachable = row["unreachable"] if row else None
    try:
        head = await context.source.head()
    except SourceError as error:
        if unreachable is None:
            body = SourceUnreachable(f"{error.where}: {error.what}" if error.where else error.what)
            await context.append(context.events(snapshot, [body]), snapshot, [fleet_stream(context.name)])
        return None
    configured = FleetConfigured(context.fleet.url, context.fleet.branch, context.fleet.path)
    bodies: list[Event] = []
    if row is None or any(row[name] != value for name, value in configured.as_data().items()):
        bodies.append(configured)
    if unreachable is not None:
        bodies.append(SourceRecovered())
    await context.append(context.events(snapshot, bodies), snapshot, [fleet_stream(context.name)])
    return head


async def record(context: Context, head: str, *, recheck: bool = False) -> int:
    """Append every commit up to `head` that is not recorded yet; returns how many groups were appended."""
    snapshot = await context.snapshot()
    row = snapshot.one(FLEETS, context.name) or {}
    if row.get("rewritten") == head:
        return 0  # waits to be accepted
    if row.get("head") == head and not row.get("rewritten"):
        return await _judge_again(context, snapshot, row, head, recheck=recheck)
    accepted = (row.get("approved") or {}).get("subject") if row.get("head") is None else None
    commits = await _new_commits(context, row.get("head"), accepted, head)
    if commits is None:
        rewritten = HistoryRewritten(str(row.get("head") or accepted), head)
        await context.append(context.events(snapshot, [rewritten]), snapshot, [fleet_stream(context.name)])
        return 1
    if row.get("rewritten"):
        restored = HistoryRestored(head)
        await context.append(context.events(snapshot, [restored]), snapshot, [fleet_stream(context.name)])
        snapshot = await context.snapshot()
    await check_ahead(context, snapshot, head)
    recorded = row.get("head")
    for commit in commits:
        snapshot = await context.snapshot()
        if (snapshot.one(FLEETS, context.name) or {}).get("head") != recorded:
            raise WrongExpectation("another replica recorded commits meanwhile", remedy="this is retried")
        await record_commit(context, snapshot, commit)
        recorded = commit.sha
    return len(commits)


async def _new_commits(context: Context, recorded: str | None, accepted: str | None, head: str) -> list[Commit] | None:
    """The commits to record, oldest first; None when the branch does not contain what was recorded or accepted.

    Of a branch accepted after a rewrite, the commit that the person saw comes first, as one group.
    """
    if accepted is None:
        found = await context.source.commits(recorded, head)
        return None if found is None else list(found)
    since = await context.source.commits(accepted, head)
    seen = await context.source.commits(None, accepted)
    return None if since is None or seen is None else [*seen, *since]


async def _judge_again(context: Context, snapshot: Snapshot, row: Row, head: str, *, recheck: bool) -> int:
    """A head that was refused, or waits, is judged anew when something it depends on changed."""
    refused = row["rejected"] == head
    waiting = row["waiting"] is not None and row["waiting"]["commit"] == head
    approved = waiting and (_approved(row, head) or waits_for_other_holds(snapshot, row["waiting"]))
    if not approved and not (refused or waiting):
        return 0
    if not approved and not recheck and row["judged_with"] == await judged_with(context):
        return 0
    commits = await context.source.commits(None, head)
    for commit in commits or ():
        await record_commit(context, snapshot, commit)
    return 1


async def judged_with(context: Context) -> str:
    """Digest of what a judgement depends on besides the commit."""
    verify = context.fleet.verify
    return digest(
        {
            "validation": context.fleet.validation,
            "verify": verify,
            "keys": "" if verify == "none" else await context.source.keys(),
            "tool": context.tool_version,
            "renderer": RENDERER_VERSION,
        }
    )


async def record_commit(context: Context, snapshot: Snapshot, commit: Commit) -> None:
    """Judge a commit and append its group: what it changes, or why it is not taken."""
    settings = await judged_with(context)
    checked = await check_signatures(context, snapshot, commit.sha)
    difference = await _judged(context, snapshot, commit, checked)
    bodies = [_observed(commit, settings, checked.data), *difference.events]
    await context.append(context.events(snapshot, bodies), snapshot, [fleet_stream(context.name)])
    verdicts = ", ".join(sorted({body.type for body in bodies if body.type.startswith(("CommitA", "CommitR", "Mass"))}))
    context.progress(Progress("record", f"{commit.sha[:12]} {commit.subject} ({verdicts})"))


async def _judged(context: Context, snapshot: Snapshot, commit: Commit, checked: Checked) -> Difference:
    """What the commit changes. Of one that is not signed as it must be, nothing is looked at."""
    refused = tuple(problem for problem in checked.problems if problem.severity == "error")
    if refused:
        return _rejected(commit.sha, _pools(snapshot), refused)
    try:
        files, now = await parse(context, commit.sha), _time(commit.committed_at)
        judgement = judge(files, context.fleet.validation, now, known_nodes(snapshot))
    except InputRejected as error:
        return _rejected(commit.sha, _pools(snapshot), [Problem("unreadable", error.what, remedy=error.remedy)])
    judgement = replace(judgement, warnings=(*checked.problems, *judgement.warnings))
    return await _beside_holds(context, snapshot, judgement, commit.sha)


async def _beside_holds(context: Context, snapshot: Snapshot, judgement: Judgement, commit: str) -> Difference:
    """What the commit changes and what that means for the holds. Pools whose state in force would not hold together
    with it do not take it."""

    def options(pool: Pool) -> RenderOptions:
        return pool.render_options(judgement.bases.of(pool))

    difference = compare(judgement, snapshot, commit)
    if gone := await brought_back(context, difference.events):
        return _rejected(commit, _pools(snapshot) or judgement.inventory.pools, gone)
    await context.keep(difference.blobs.values())
    bodies, wrong = await beside_holds(context, snapshot, difference.events, options, commit)
    if wrong:
        rejected = {**judgement.rejected, **wrong}
        difference = compare(replace(judgement, rejected=rejected), snapshot, commit, wrong)
        bodies, _ = await beside_holds(context, snapshot, difference.events, options, commit)
    difference.events.extend(bodies)
    return difference


async def parse(context: Context, commit: str) -> list[ParsedFile]:
    """The files of a commit, parsed once per path and blob id."""
    files = await context.source.manifests(commit)
    seen = {}
    for file in files:
        key = (file.path, file.blob)
        seen[key] = context.parsed.get(key) or parse_manifest(file)
    context.parsed = dict(seen)
    return list(seen.values())


def parse_manifest(file: ManifestFile) -> ParsedFile:
    """The documents of one file, or why it may not be read."""
    if file.refused:
        problem = Problem("refused-file", f"{file.path}: {file.refused}", None, "", "", "commit a plain file instead")
        return ParsedFile(file.path, (), (problem,))
    if not is_template_name(file.path):
        return ParsedFile(file.path, *parse_file(file.path, file.data))
    # A policy.json that belongs to no base is refused as a manifest; a registries.conf is nobody's.
    read = parse_file(file.path, file.data) if file.path.endswith(".json") else ((), ())
    return ParsedFile(file.path, *read, file.data)


@dataclass
class Difference:
    """What a judged commit changes: events, and the blobs they name."""

    events: list[Event] = field(default_factory=list)
    blobs: dict[str, bytes] = field(default_factory=dict)


def _rejected(commit: str, pools: Iterable[str], problems: Iterable[Problem]) -> Difference:
    """Refused for all pools."""
    return Difference([CommitRejected(commit, tuple(pools), True, tuple(as_data(p) for p in problems))])


def compare(
    judgement: Judgement, snapshot: Snapshot, commit: str, held_back: Mapping[str, Sequence[Problem]] | None = None
) -> Difference:
    """The difference between what is recorded and what the commit says, as far as it is taken.

    `held_back`: pools among those rejected that would take it, were it not for their holds; and why.
    """
    held_back = held_back or {}
    stranded = left_behind(judgement, snapshot)
    if stranded or judgement.whole:
        return _rejected(commit, _pools(snapshot) or judgement.inventory.pools, (*stranded, *judgement.problems))
    removed = _mass_removals(judgement, snapshot, commit)
    if removed:
        return Difference([MassRemovalDetected(commit, judgement.accepted, removed)])
    difference = Difference()
    if judgement.accepted or not judgement.rejected:
        warnings = tuple(as_data(problem) for problem in judgement.warnings)
        difference.events.append(CommitAccepted(commit, judgement.accepted, warnings))
    if rejected := {pool: why for pool, why in judgement.rejected.items() if pool not in held_back}:
        problems_data = tuple(as_data(problem) for problem in replace(judgement, rejected=rejected).problems)
        difference.events.append(CommitRejected(commit, tuple(sorted(rejected)), False, problems_data))
    if held_back:
        difference.events.append(held_back_whole(snapshot, commit, held_back))
    _compare_pools(judgement, snapshot, commit, difference)
    _compare_resources(judgement, snapshot, commit, difference)
    difference.events.extend(node_changes(judgement.inventory, snapshot, commit))
    return difference


def _compare_pools(judgement: Judgement, snapshot: Snapshot, commit: str, difference: Difference) -> None:
    """A pool that refuses the commit keeps its settings too: with others, what it has would mean something else."""
    for name, pool in sorted(judgement.inventory.pools.items()):
        row = snapshot.one(POOLS, snapshot.fleet, name)
        before = (Pool(name, row["spec"]).spec, row["base_files"]) if row and row["spec"] else (None, None)
        templates = {digest_bytes(content): content for content in judgement.bases.of(pool).values()}
        base_files = {path: digest_bytes(content) for path, content in judgement.bases.of(pool).items()}
        if before[0] is None or (name not in judgement.rejected and before != (plain(pool.spec), base_files)):
            place = pool.location
            file, line = (place.file, place.line) if place else ("", 0)
            difference.events.append(PoolConfigured(name, commit, file, line, pool.spec, base_files))
            difference.blobs.update(templates)
    gone = sorted(set(_pools(snapshot)) - set(judgement.inventory.pools))
    difference.events.extend(PoolRemoved(name, commit) for name in gone)


def _compare_resources(judgement: Judgement, snapshot: Snapshot, commit: str, difference: Difference) -> None:
    """One event per resource and change, naming the pools it is true for."""
    groups: dict[tuple[str, str, str | None], list[str]] = {}
    wanted: dict[str, Resource] = {}
    gone = set(_pools(snapshot)) - set(judgement.inventory.pools)
    for pool in (*judgement.accepted, NO_POOL, *gone):
        before = _recorded(snapshot, pool)
        after = judgement.resources.get(pool, {})
        for identity in sorted(set(before) | set(after)):
            resource = after.get(identity)
            old = before.get(identity)
            if resource is None and old is not None:
                groups.setdefault((identity, "", old), []).append(pool)
            elif resource is not None and resource.content != old:
                wanted[identity] = resource
                groups.setdefault((identity, resource.content, old), []).append(pool)
    for (identity, content, old), pools in sorted(groups.items(), key=lambda item: (item[0][0], item[1])):
        names = tuple(sorted(pools))
        if not content:
            difference.events.append(ResourceRemoved(identity, names, commit, str(old)))
        else:
            difference.events.append(_set(wanted[identity], names, commit, old, difference.blobs))


def _set(
    resource: Resource, pools: tuple[str, ...], commit: str, old: str | None, blobs: dict[str, bytes]
) -> ResourceAdded | ResourceChanged:
    content = canonical_json(resource.document).encode()
    lines = canonical_json(dict(resource.lines)).encode()
    text = resource.text.encode()
    blobs.update({digest_bytes(blob): blob for blob in (content, text, lines)})
    place = resource.location
    added = ResourceAdded(
        resource=resource.identity,
        pools=pools,
        commit=commit,
        file=place.file,
        line=place.line,
        content=resource.content,
        text=digest_bytes(text),
        lines=digest_bytes(lines),
        meaning=meaning(resource.document),
    )
    return added if old is None else ResourceChanged(**added.as_data(), previous=old)


def _mass_removals(judgement: Judgement, snapshot: Snapshot, commit: str) -> tuple[str, ...]:
    row = snapshot.one(FLEETS, snapshot.fleet)
    if row and _approved(row, commit):
        return ()
    before = {pool: _kinds(_recorded(snapshot, pool)) for pool in (*judgement.accepted, NO_POOL)}
    after = {pool: _kinds(judgement.resources.get(pool, ())) for pool in (*judgement.accepted, NO_POOL)}
    nodes = [key[1] for key, row in snapshot.table(NODES).items() if not row["discovered"]]
    gone = [name for name in nodes if name not in judgement.inventory.nodes]
    return mass_removals(before, after, len(nodes), gone)


def _approved(row: Row, commit: str) -> bool:
    """Whether a person approved what the commit takes away; accepting a rewritten branch does not say that."""
    approved = row["approved"] or {}
    return approved.get("subject") == commit and not approved.get("history")


def _kinds(identities: Iterable[str]) -> list[tuple[str, str]]:
    return [(kind, name) for kind, _, name in (i.rpartition(":")[2].partition("/") for i in identities)]


def _recorded(snapshot: Snapshot, pool: str) -> dict[str, str]:
    """Identity → content of what the pool has from Git."""
    return {key[2]: row["content"] for key, row in snapshot.table(RESOURCES).items() if key[1] == pool}


def _pools(snapshot: Snapshot) -> list[str]:
    return sorted(key[1] for key, row in snapshot.table(POOLS).items() if row["spec"] is not None)


def _observed(commit: Commit, settings: str, signature: Mapping[str, Any] | None) -> CommitObserved:
    found = _PULL_REQUEST.search(commit.message)
    return CommitObserved(
        commit=commit.sha,
        parent=commit.parent,
        author=commit.author,
        author_email=commit.author_email,
        authored_at=commit.authored_at,
        committer=commit.committer,
        committer_email=commit.committer_email,
        committed_at=commit.committed_at,
        subject=redacted(commit.subject),
        message=redacted(commit.message),
        pull_request=next((number for number in found.groups() if number), None) if found else None,
        judged_with=settings,
        signature=signature,
    )


def as_data(problem: Problem) -> dict[str, Any]:
    """A problem as events hold it."""
    place = problem.location
    return {
        "name": problem.name,
        "severity": problem.severity,
        "file": place.file if place else "",
        "line": place.line if place else 0,
        "object": problem.object,
        "field": problem.field,
        "message": problem.message,
        "remedy": problem.remedy,
    }


def digest_bytes(content: bytes) -> str:
    """A blob's address."""
    return hashlib.sha256(content).hexdigest()


def _time(text: str) -> datetime:
    return datetime.fromisoformat(text)
