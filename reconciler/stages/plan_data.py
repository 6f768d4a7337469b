"""A foresight as data: per pool what changes on which nodes, in which order, and who waits for what."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

from reconciler.events.catalogue import CommitAccepted, CommitRejected
from reconciler.events.envelope import StoredEvent
from reconciler.events.summaries import summary
from reconciler.projections.guard_state import GuardState
from reconciler.projections.tables import FLEETS, POOLS
from reconciler.registries.explain import Explanation, explain_all
from reconciler.registries.model import DISRUPTION_ORDER
from reconciler.registries.runtime_config import load
from reconciler.rollout.forecast import waves_to_come
from reconciler.rollout.plan import EFFECTIVE_ORDER
from reconciler.rollout.views import NodeView
from reconciler.stages.context import Context
from reconciler.stages.differences import file_differences, wanted_paths
from reconciler.stages.foresee import Foresight, PoolForesight
from reconciler.stages.sight import Sight, is_unread

CONTENT_TYPES = (
    "ResourceAdded", "ResourceChanged", "ResourceRemoved", "PoolConfigured", "PoolRemoved",
    "NodeRegistered", "NodeChanged", "NodeRemoved", "HoldLifted", "HoldExtended", "CommitHeldBack",
)  # fmt: skip
"""What a commit changes, of all that recording it appends."""


async def plan_data(
    context: Context,
    found: Foresight,
    events: Sequence[StoredEvent],
    *,
    pools: Sequence[str] | None = None,
    images: Sequence[str] = (),
) -> dict[str, Any]:
    """The plan. `events` are those foreseen; `pools` limits what is shown, `images` are judged before and after."""
    chosen = [pool for pool in found.pools if pools is None or pool.view.pool.name in pools]
    items = [await _pool(context, found, pool, images) for pool in chosen]
    content = content_data(events)
    row = found.snapshot.one(FLEETS, context.name) or {}
    return {
        "fleet": context.name,
        **content,
        "removes": list(found.removes),
        "rewritten": row.get("rewritten"),
        "sourceUnreachable": row.get("unreachable"),
        "clusterUnreachable": (row.get("cluster") or {}).get("unreachable"),
        "pools": items,
        "changes": bool(content["content"]) or any(_is_change(item) for item in items),
    }


def _is_change(item: Mapping[str, Any]) -> bool:
    """A pool that only observes shows what differs, and changes nothing."""
    return item["mode"] == "enforce" and bool(item["behind"] or item["repairs"] or item["returns"])


def content_data(events: Sequence[StoredEvent]) -> dict[str, Any]:
    """What the commits foreseen bring. `verdict`: accepted, rejected, partly rejected, or None without a commit."""
    rejected = [event.body for event in events if isinstance(event.body, CommitRejected)]
    accepted = [event.body for event in events if isinstance(event.body, CommitAccepted)]
    verdict = "rejected" if rejected and not accepted else "partly rejected" if rejected else ""
    return {
        "verdict": verdict or ("accepted" if accepted else None),
        "problems": [dict(problem) for body in rejected for problem in body.problems],
        "warnings": [dict(warning) for body in accepted for warning in body.warnings],
        "content": [
            {
                "type": event.type,
                "subject": event.columns["resource"] or event.columns["node"] or event.columns["pool"] or "",
                "summary": summary(event.body),
            }
            for event in events
            if event.type in CONTENT_TYPES
        ],
    }


async def _pool(context: Context, found: Foresight, pool: PoolForesight, images: Sequence[str]) -> dict[str, Any]:
    view, plan, now = pool.view, pool.plan, context.clock.now()
    row = found.snapshot.table(POOLS)[context.name, view.pool.name]
    behind = [node for node in view.nodes if node.behind]
    groups = _groups(node for node in view.nodes if node.change and (node.behind or node.back))
    changes = [await _change(context, pool, nodes) for nodes in groups]
    spec = view.pool.spec
    return {
        "name": view.pool.name,
        "mode": spec["mode"],
        "commit": row["commit"],
        "digest": plan.digest,
        "nodes": len(view.nodes),
        "behind": len(behind),
        "disruption": _highest((item["disruption"] for item in changes), DISRUPTION_ORDER),
        "effective": _highest((item["effective"] for item in changes), EFFECTIVE_ORDER),
        "reasons": sorted({reason for item in changes for reason in item["reasons"]}),
        "changes": changes,
        "waves": _waves(pool, now),
        "order": {name: spec[name] for name in ("canary", "approval", "maxParallel", "maxUnavailable", "after")},
        "begins": sorted(step.node for step in plan.steps),
        "waits": _by_reason({name: why for name, why in plan.waits.items() if name not in pool.unknown}),
        "unknown": _by_reason(pool.unknown),
        "unanswered": sorted(pool.unanswered),
        "repairs": _repairs(pool),
        "returns": sorted(node.name for node in view.nodes if node.back is not None),
        "guard": GuardState.of(context.name, found.snapshot.rows, view.pool).text,
        "blocked": row["blocked"] or "",
        "rejected": row["rejected"],
        "images": await _images(context, pool, groups, images) if images else [],
    }


def _highest(found: Iterable[str], order: Sequence[str]) -> str:
    return max(found, key=order.index, default="none")


def _groups(nodes: Iterable[NodeView]) -> list[list[NodeView]]:
    """Nodes that show the same and get the same."""
    groups: dict[tuple[str, str], list[NodeView]] = {}
    for node in nodes:
        groups.setdefault((node.start, str(node.back or node.target)), []).append(node)
    return [groups[key] for key in sorted(groups, key=lambda key: groups[key][0].name)]


async def _change(context: Context, pool: PoolForesight, nodes: Sequence[NodeView]) -> dict[str, Any]:
    first = nodes[0]
    assert first.change is not None  # noqa: S101  only such nodes are grouped
    return {
        "start": first.start,
        "files": first.back or first.target,
        "nodes": [node.name for node in nodes],
        "disruption": first.change.disruption,
        "effective": first.change.effective,
        "actions": list(first.change.actions),
        "reasons": list(first.change.reasons),
        "diff": await file_differences(context, pool.sights[first.name], str(first.back or first.target)),
    }


def _waves(pool: PoolForesight, now: datetime) -> list[dict[str, Any]]:
    order = {node.name: place for place, node in enumerate(pool.view.nodes)}
    return [
        {"wave": number, "kind": wave.kind, "nodes": sorted(wave.nodes, key=order.__getitem__)}
        for number, wave in enumerate(waves_to_come(pool.view, now), len(_begun(pool)) + 1)
    ]


def _begun(pool: PoolForesight) -> Sequence[object]:
    """The waves that the rollout under way has begun; one of other content does not count."""
    superseded = any(event.type == "RolloutSuperseded" for event in pool.plan.events)
    rollout = pool.view.rollout
    return rollout.waves if rollout and rollout.state == "progressing" and not superseded else ()


def _by_reason(waits: Mapping[str, str]) -> list[dict[str, Any]]:
    reasons: dict[str, list[str]] = {}
    for node, why in sorted(waits.items()):
        reasons.setdefault(why, []).append(node)
    return [{"reason": why, "nodes": names} for why, names in reasons.items()]


def _repairs(pool: PoolForesight) -> list[dict[str, Any]]:
    return [
        {"node": step.node, "paths": sorted(item["path"] for item in pool.sights[step.node].state.get("drift") or ())}
        for step in pool.plan.steps
        if step.purpose == "repair"
    ]


async def _images(
    context: Context, pool: PoolForesight, groups: Sequence[Sequence[NodeView]], images: Sequence[str]
) -> list[dict[str, Any]]:
    """The images whose verdict the change turns, with the nodes it turns on."""
    turned: dict[tuple[str, str, str, str], list[str]] = {}
    for nodes in groups:
        sight = pool.sights[nodes[0].name]
        before = await _seen_contents(context, sight)
        after = dict(before)
        wanted = str(nodes[0].back or nodes[0].target)
        for path, digest in (await wanted_paths(context, sight, wanted)).items():
            after[path] = (await context.load([digest]))[digest] if digest else None
        pairs = zip(_verdicts(before, images), _verdicts(after, images), strict=True)
        for old, new in pairs:
            if old.verdict != new.verdict:
                key = (new.reference, old.verdict, new.verdict, new.reason)
                turned.setdefault(key, []).extend(node.name for node in nodes)
    return [
        {"image": image, "before": before, "after": after, "reason": reason, "nodes": names}
        for (image, before, after, reason), names in sorted(turned.items())
    ]


def _verdicts(files: Mapping[str, bytes | None], images: Sequence[str]) -> list[Explanation]:
    return list(explain_all(load(files), images, files))


async def _seen_contents(context: Context, sight: Sight) -> dict[str, bytes | None]:
    """The bytes of all files that a node was seen to have; those not read are left out."""
    seen = sight.observation
    files = seen.files.values() if seen else ()
    readable = {file.path: file.sha256 for file in files if file.kind == "file" and not is_unread(sight, file)}
    contents = await context.load(readable.values())
    return {path: contents[digest] for path, digest in readable.items()}
