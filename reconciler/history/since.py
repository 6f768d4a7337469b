"""What changed of an image's verdict since a point in time, and through which events."""

from __future__ import annotations

import json
import uuid
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Any

from reconciler.events.catalogue import BaselineCaptured, CommitObserved, FilesRendered, NodeReleased
from reconciler.events.envelope import StoredEvent
from reconciler.events.summaries import summary
from reconciler.history.events import OBSERVED, about
from reconciler.history.files import chosen_nodes
from reconciler.ports import EventFilter
from reconciler.projections.desired import Desired
from reconciler.registries.explain import Explanation
from reconciler.stages.context import Context, FileSet, decode_file_set
from reconciler.stages.explained import Known, Question, ask
from reconciler.stages.host_files import Blobs, HostFiles, laid_over, own_files, recorded_files, released_since
from reconciler.stages.project import decode_origins

CAUSES = (*OBSERVED, "RolledBack", "HoldLifted", "ReleaseAsked", "NodeAdopted")
"""What a change of files goes back to."""

TURNS = (FilesRendered.__name__, NodeReleased.__name__, BaselineCaptured.__name__)
"""What may change the files that a node is to have."""

REDACTED = "a file of that time was redacted"


@dataclass
class _Group:
    """Nodes that are alike now, and were then; `before` are their files then. `apart`: a hold had set it apart by then,
    which it stays. `custody` are the positions at which they were given back, and seen anew."""

    host: HostFiles
    base: Mapping[str, str]
    was: HostFiles | None
    custody: tuple[int, ...]
    nodes: list[str] = field(default_factory=list)

    @property
    def before(self) -> Blobs | None:
        if self.was is None:
            return None
        return self.was.wanted if self.was.wanted is not None else self.was.applied


@dataclass(frozen=True)
class _Stage:
    """The files that a group was to have from an event on (None: from the point in time on; nobody knows them, or
    `unknown` says why)."""

    event: StoredEvent | None
    files: Blobs | None
    origins: str = ""
    unknown: str = ""


async def why_since(
    before: Context, after: Context, images: Sequence[str], *, pool: str | None = None, node: str | None = None
) -> list[dict[str, Any]]:
    """Per image and nodes of which the same is true: the verdict at `before` and at `after` by the files wanted, and
    each event in between by which the verdict, or what decides it, changed.

    `before` and `after` are contexts of the past (`stages.past`), settled. Raises UsageError for a node or pool that is
    not there.
    """
    events = await after.log.read(EventFilter(after.name, after=before.as_of or 0, types=TURNS))
    groups = await _groups(before, after, events, pool, node)
    stages, causes = await _stages(after, events, groups)
    sets = await _contents(after, stages)
    found: list[dict[str, Any]] = []
    for group, mine in zip(groups, stages, strict=True):
        answers = [_answers(images, stage, group, sets) for stage in mine]
        for number, image in enumerate(images):
            told = [(stage, answer[number]) for stage, answer in zip(mine, answers, strict=True)]
            found.append({"image": image, **_item(group, told, causes)})
    return _merged(found)


async def _groups(
    before: Context, after: Context, events: Iterable[StoredEvent], pool: str | None, node: str | None
) -> list[_Group]:
    then, now = await before.snapshot(), await after.snapshot()
    old, new = Desired(then.fleet, then.rows), Desired(now.fleet, now.rows)
    names = chosen_nodes(new, [node] if node else (), pool)
    past = {host.name: host for host in await recorded_files(before, then, old, [n for n in names if n in old.nodes])}
    custody = _custody(events, {name for name, host in past.items() if host.released})
    found: dict[tuple[Any, ...], _Group] = {}
    for host in await recorded_files(after, now, new, names):
        base = own_files(now, host.name)
        group = _Group(host, base, past.get(host.name), custody.get(host.name, ()))
        was = group.was and replace(group.was.group, notes=(), sights=())
        key = (host.group, was, tuple(sorted(base.items())), group.custody)
        found.setdefault(key, group).nodes.append(host.name)
    return list(found.values())


def _custody(events: Iterable[StoredEvent], released: Collection[str]) -> Mapping[str, tuple[int, ...]]:
    """By node, where it was given back, and where one that was, as those `released` were before, was seen anew."""
    found: dict[str, tuple[int, ...]] = dict.fromkeys(released, ())
    for event in events:
        body = event.body
        if isinstance(body, NodeReleased) or (isinstance(body, BaselineCaptured) and body.node in found):
            found[body.node] = (*found.get(body.node, ()), event.position)
    return found


async def _stages(
    after: Context, events: Sequence[StoredEvent], groups: Iterable[_Group]
) -> tuple[list[list[_Stage]], Mapping[uuid.UUID, StoredEvent]]:
    """Of each group, the files then and after each turn since; and what those go back to, by root cause."""
    sets = await _sets(after, {event.body.files for event in events if isinstance(event.body, FilesRendered)})
    stages = [_stages_of(group, events, sets) for group in groups]
    roots = sorted({event.correlation_id for event in events})
    found = await after.log.read(EventFilter(after.name, types=CAUSES, correlation_ids=roots)) if roots else ()
    causes: dict[uuid.UUID, StoredEvent] = {}
    for event in found:
        causes.setdefault(event.correlation_id, event)
    return stages, causes


def _stages_of(group: _Group, events: Iterable[StoredEvent], sets: Mapping[str, FileSet]) -> list[_Stage]:
    """Over the base of now; where the group was given back since, until then over the one before."""
    host, was = group.host, group.was
    away, apart = was.released if was else "", bool(was and was.own)
    base = was.base if was and group.custody else host.base
    found = [_Stage(None, group.before, was.origins if was and was.wanted is not None else "", away)]
    by_base = {was.base: found[0]} if was and was.wanted is not None else {}
    for event in events:
        body = event.body
        if isinstance(body, FilesRendered):
            apart = apart or (host.own != "" and body.node == host.own)
            if (body.pool, body.node) == (host.pool, host.own if apart else ""):
                files = laid_over(group.base, sets[body.files]) if body.files in sets else None
                by_base[body.base] = _Stage(event, files, body.origins, "" if files is not None else REDACTED)
                found += [by_base[base]] if body.base == base and not away else []
        elif event.position in group.custody:
            away = released_since({"released": {"reason": body.reason}}) if isinstance(body, NodeReleased) else ""
            base = host.base
            ours = by_base.get(base, _Stage(event, host.wanted, host.origins))
            found.append(_Stage(event, None, unknown=away) if away else replace(ours, event=event))
    return found


async def _sets(context: Context, names: Iterable[str]) -> dict[str, FileSet]:
    """Those that are not redacted."""
    return {name: decode_file_set(blob) for name, blob in (await context.load_known(names)).items()}


async def _contents(context: Context, stages: Iterable[Sequence[_Stage]]) -> Mapping[str, bytes]:
    named = {digest for mine in stages for stage in mine for _, digest in stage.files or ()}
    named |= {stage.origins for mine in stages for stage in mine if stage.origins}
    return await context.load_known(named)


def _answers(
    images: Sequence[str], stage: _Stage, group: _Group, contents: Mapping[str, bytes]
) -> Sequence[Explanation]:
    if stage.files is None or any(digest not in contents for _, digest in stage.files):
        why = REDACTED if stage.files is not None else stage.unknown or "nothing is known of the node at that time"
        return [Explanation(image, "cannot tell", why, None) for image in images]
    by_path = decode_origins(contents[stage.origins]) if stage.origins in contents else {}
    files = {path: contents[digest] for path, digest in stage.files}
    return ask(Question(list(images)), files, by_path, complete=group.host.complete).pulls


def _item(
    group: _Group, told: Sequence[tuple[_Stage, Explanation]], causes: Mapping[uuid.UUID, StoredEvent]
) -> dict[str, Any]:
    changes = []
    for (_, old), (stage, new) in pairwise(told):
        if stage.event is not None and _says(old) != _says(new):
            cause = causes.get(stage.event.correlation_id, stage.event)
            changes.append({**_through(stage.event, cause), "before": _brief(old), "after": _brief(new)})
    return {
        "before": _brief(told[0][1]),
        "after": _brief(told[-1][1]),
        "changes": changes,
        "pools": [group.host.pool] if group.host.pool else [],
        "nodes": group.nodes,
    }


def _through(event: StoredEvent, cause: StoredEvent) -> dict[str, Any]:
    """When the files were rendered that changed it, and what that goes back to."""
    commit = cause.body if isinstance(cause.body, CommitObserved) else None
    return {
        "position": event.position,
        "at": event.recorded_at.isoformat().replace("+00:00", "Z"),
        "cause": {
            "position": cause.position,
            "type": cause.type,
            "summary": summary(cause.body),
            "commit": cause.columns.get("commit"),
            **about(commit),
        },
    }


def _says(answer: Explanation) -> tuple[str, ...]:
    place = answer.place
    return answer.verdict, answer.reason, *((place.file, place.what) if place else ())


def _brief(answer: Explanation) -> dict[str, Any]:
    return {
        "verdict": answer.verdict,
        "reason": answer.reason,
        "decidedBy": Known().place(answer.place),
    }


def _merged(found: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Nodes of which the same is true are one item; what changed first."""
    same: dict[str, dict[str, Any]] = {}
    for item in found:
        told = json.dumps({name: item[name] for name in ("image", "before", "after", "changes")}, sort_keys=True)
        first = same.setdefault(told, {**item, "pools": [], "nodes": []})
        first["pools"] = sorted({*first["pools"], *item["pools"]})
        first["nodes"] = sorted({*first["nodes"], *item["nodes"]})
    return sorted(same.values(), key=lambda item: (item["image"], not item["changes"], item["nodes"]))
