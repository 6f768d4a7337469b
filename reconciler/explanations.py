"""Why images can or cannot be pulled on the nodes of a fleet, told from the log. As in `queries`, answers are data."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from reconciler.errors import UsageError
from reconciler.ports import Snapshot
from reconciler.projections.desired import Desired, Version, render_inputs
from reconciler.projections.tables import POOLS
from reconciler.registries.evidence import Origins
from reconciler.registries.explain import Explanation
from reconciler.registries.inputs import Inputs, collect
from reconciler.registries.model import Origin, Resource, canonical_json, digest
from reconciler.stages.context import Context
from reconciler.stages.explained import Answers, Known, Question, ask, brief, imports
from reconciler.stages.host_files import Blobs, HostFiles, live_files, recorded_files
from reconciler.stages.project import decode_origins
from reconciler.stages.traces import Scope, in_force, traces

Used = Mapping[str, tuple[Version, Resource]]
"""What a scope uses, by identity."""
_WORST_FIRST = ("not pullable", "cannot tell", "pullable")


@dataclass
class _Group:
    """Nodes that have and should have the same, and what becomes of the images there."""

    files: HostFiles
    nodes: list[str] = field(default_factory=list)
    notes: tuple[str, ...] = ()
    wanted: Answers = field(default_factory=lambda: Answers(()))
    applied: Sequence[Explanation | None] = ()
    observed: Sequence[Explanation | None] = ()

    @property
    def scope(self) -> Scope:
        return Scope(self.files.pool, self.files.own)


async def why(
    context: Context, question: Question, *, pool: str | None = None, node: str | None = None, live: bool = False
) -> list[dict[str, Any]]:
    """One item per image and answer, with the nodes it is true for: of the fleet, a pool or a node.

    The answer is that of the files a node should have. `applied` and `observed` are added where what its last
    receipt proved, or what it was last seen to have (now, with `live`), gives another. Line numbers on nodes are
    those of the first one named. Raises UsageError when there is no such pool or node.
    """
    snapshot = await context.snapshot()
    desired = Desired(context.name, snapshot.rows)
    hosts = await recorded_files(context, snapshot, desired, _asked(desired, pool, node))
    contents: dict[str, bytes] = {}
    if live:
        hosts, contents = await live_files(context, snapshot, hosts)
    groups = _grouped(hosts)
    contents |= await context.load_known(_digests(groups) - contents.keys())
    used = await in_force(context, desired, {group.scope for group in groups if group.files.pool})
    inputs = {scope: collect([resource for _, resource in found.values()]) for scope, found in used.items()}
    for group in groups:
        _answer(group, question, contents, inputs)
        group.notes = tuple(_notes(snapshot, desired, group, used.get(group.scope, {}), contents))
    named = {
        scope: {origin: found[origin.resource][0] for origin in _behind(groups, scope) if origin.resource in found}
        for scope, found in used.items()
    }
    told = await traces(context, snapshot, named)
    known = {
        scope: Known({name: resource for name, (_, resource) in found.items()}, told[scope])
        for scope, found in used.items()
    }
    return _merged(question, [_items(group, known.get(group.scope, Known())) for group in groups])


def _notes(
    snapshot: Snapshot, desired: Desired, group: _Group, used: Used, known: Mapping[str, bytes]
) -> Iterator[str]:
    """Holds, which also tell why a line is missing; what was redacted; and that the files are not those of the state in
    force, so that fields and commits may be of a newer one."""
    files = group.files
    for hold in desired.holds_on(*group.scope):
        yield f"hold {hold['hold']} is in force there: {hold['reason']}"
    if gone := [path for path, digest in files.applied or () if digest not in known]:
        yield f"{gone[0]}, as its last receipt proved it, was redacted"
    if files.wanted is None or desired.at_baseline(*group.scope):
        return
    if files.origins not in known:
        yield "where its lines come from was redacted"
    bodies = [(name, digest(resource.body)) for name, (_, resource) in used.items()]
    if render_inputs(desired.pools[files.pool], bodies, files.base) != files.inputs:
        row = snapshot.one(POOLS, snapshot.fleet, files.pool)
        blocked = f": {row['blocked']}" if row and row["blocked"] else ""
        yield f"the newest state is not rendered yet; this is the one before it{blocked}"


def _asked(desired: Desired, pool: str | None, node: str | None) -> list[str]:
    """The nodes that are asked about."""
    if node is not None and node not in desired.nodes:
        raise UsageError(f"there is no node {node}", where="--node", remedy="see `reconciler get nodes`")
    if pool is not None and pool not in desired.pools:
        raise UsageError(f"there is no pool {pool}", where="--pool", remedy="see `reconciler get pools`")
    found = [name for name, one in desired.nodes.items() if node in (None, name) and pool in (None, one.pool)]
    if not found:
        where = f"pool {pool}" if pool else f"fleet {desired.fleet}"
        raise UsageError("has no nodes", where=where, remedy="ask about manifests with --from, or sync first")
    return found


def _grouped(hosts: Iterable[HostFiles]) -> list[_Group]:
    found: dict[HostFiles, _Group] = {}
    for host in hosts:
        found.setdefault(host.group, _Group(host)).nodes.append(host.name)
    return list(found.values())


def _digests(groups: Iterable[_Group]) -> set[str]:
    found = {group.files.origins for group in groups if group.files.origins}
    for group in groups:
        for files in (group.files.wanted, group.files.applied, group.files.observed):
            found |= {digest for _, digest in files or ()}
    return found


def _answer(group: _Group, question: Question, contents: Mapping[str, bytes], inputs: Mapping[Scope, Inputs]) -> None:
    """The answers for one group: by what is wanted, and by what is there as far as that is something else."""
    files = group.files
    if files.wanted is None:
        pulls = [Explanation(image, "cannot tell", files.unknown, None) for image in question.images]
        group.wanted = Answers(pulls, imports(question, inputs.get(group.scope)))
    else:
        origins = decode_origins(contents[files.origins]) if files.origins in contents else {}
        group.wanted = _asked_of(question, files, contents, origins, inputs.get(group.scope))
    pulls = list(group.wanted.pulls)
    only_pulls = Question(question.images, question.namespace)

    def other(blobs: Blobs | None, than: Sequence[Explanation]) -> list[Explanation | None]:
        if blobs is None or any(digest not in contents for _, digest in blobs):
            return [None] * len(than)
        found = ask(only_pulls, _contents(blobs, contents), complete=files.complete).pulls
        return [new if _say(new) != _say(old) else None for new, old in zip(found, than, strict=True)]

    group.applied = other(files.applied if files.applied != files.wanted else None, pulls)
    if files.unread:
        reason = f"the content of {files.unread[0]} is not known"
        group.observed = [Explanation(image, "cannot tell", reason, None) for image in question.images]
    else:
        now = [new or old for new, old in zip(group.applied, pulls, strict=True)]
        group.observed = other(files.observed if files.observed != files.applied else None, now)


def _asked_of(
    question: Question, files: HostFiles, contents: Mapping[str, bytes], origins: Origins, inputs: Inputs | None
) -> Answers:
    """The answers of the wanted files; of one that was redacted nothing can be told."""
    gone = [path for path, digest in files.wanted or () if digest not in contents]
    if not gone:
        bytes_of = _contents(files.wanted or (), contents)
        return ask(question, bytes_of, origins, inputs, complete=files.complete)
    pulls = [Explanation(image, "cannot tell", f"{gone[0]} was redacted", None) for image in question.images]
    return Answers(pulls, imports(question, inputs))


def _say(explanation: Explanation) -> tuple[str, ...]:
    """By which two explanations are one answer: the verdict, and what decides it."""
    place = explanation.place
    return explanation.verdict, explanation.reason, *((place.file, place.what) if place else ())


def _contents(blobs: Blobs, contents: Mapping[str, bytes]) -> dict[str, bytes | None]:
    return {path: contents[digest] for path, digest in blobs}


def _behind(groups: Iterable[_Group], scope: Scope) -> set[Origin]:
    """The fields of resources that answers name."""
    return {origin for group in groups if group.scope == scope for origin in group.wanted.behind()}


def _items(group: _Group, known: Known) -> list[dict[str, Any]]:
    """One item per image."""
    files = group.files
    return [
        {
            **item,
            "notes": [*group.notes, *files.notes, *files.sights],
            "applied": brief(applied) if applied else None,
            "observed": {**brief(observed), "live": files.live} if observed else None,
            "pools": [files.pool] if files.pool else [],
            "nodes": group.nodes,
        }
        for item, applied, observed in zip(group.wanted.data(known), group.applied, group.observed, strict=True)
    ]


def _merged(question: Question, groups: Sequence[Sequence[dict[str, Any]]]) -> list[dict[str, Any]]:
    """Per image the answers, worst first; groups that agree are one."""
    found: list[dict[str, Any]] = []
    for number in range(len(question.images)):
        same: dict[str, dict[str, Any]] = {}
        for items in groups:
            item = items[number]
            first = same.setdefault(canonical_json(_without_lines(item)), {**item, "pools": [], "nodes": []})
            first["pools"] = sorted({*first["pools"], *item["pools"]})
            first["nodes"] = [*first["nodes"], *item["nodes"]]
        found += sorted(same.values(), key=lambda item: (min(map(_WORST_FIRST.index, _verdicts(item))), item["nodes"]))
    return found


def _without_lines(value: Any) -> Any:
    """An item without its nodes, and without the line numbers on them, which differ with each host's own files."""
    if isinstance(value, Mapping):
        left_out = {"nodes", "pools"} | ({"line"} if "what" in value else set())
        return {key: _without_lines(item) for key, item in value.items() if key not in left_out}
    return [_without_lines(item) for item in value] if isinstance(value, list) else value


def _verdicts(item: Mapping[str, Any]) -> Iterator[str]:
    """By what is wanted, and by what is there, where that is another."""
    yield item["verdict"]
    there = item["observed"] or item["applied"]
    if there:
        yield there["verdict"]
