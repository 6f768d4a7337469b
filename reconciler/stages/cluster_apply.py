"""Apply: bring a cluster's resources to what is wanted, then follow what its Machine Config Operator makes of it.

What is about to be done is begun in the log (RolloutStarted), done call by call, and recorded as one group. Killed in
between, the next pass finds our mark on what was done and does it again, which changes nothing.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from reconciler.errors import ClusterError, ClusterRefused, FieldConflict, WrongExpectation
from reconciler.events.catalogue import (
    ClusterContentApplied,
    ClusterDriftRepaired,
    ClusterResourceApplied,
    ClusterResourceDeleted,
    ClusterResourceRefused,
    Event,
    RolloutStarted,
    RolloutSuperseded,
)
from reconciler.events.envelope import EVENT_NAMESPACE, fleet_stream, pool_stream, stream_of
from reconciler.faults import fault_point
from reconciler.ports import ClusterResources, EventFilter, Snapshot
from reconciler.projections.openshift import OPENSHIFT_BASE, applied_files, cluster_pools
from reconciler.projections.tables import CLUSTER_OBJECTS, CLUSTERS, MACHINE_POOLS, POOLS, RENDERS, Row, rollout_of
from reconciler.registries.model import canonical_json, digest
from reconciler.rollout.cluster_objects import Action, Comparison, compare
from reconciler.rollout.managed_fields import differences, without_foreign
from reconciler.rollout.plan import STOPPED
from reconciler.stages.cluster_gates import gate
from reconciler.stages.cluster_rollouts import follow_rollouts
from reconciler.stages.cluster_watch import ClusterSight
from reconciler.stages.cluster_wishes import Wishes, holds_secret, wishes
from reconciler.stages.context import Context, Progress, anew
from reconciler.stages.roll import Rolled

CONTESTED_AFTER, CONTESTED_WITHIN = 3, timedelta(hours=24)
"""An object put right so often within this time is left alone: somebody else keeps writing it."""


@dataclass
class ClusterPlan:
    """What would be done next, and why it waits, if it does."""

    found: Wishes
    comparison: Comparison
    waits: str = ""
    contested: tuple[str, ...] = ()
    targets: Mapping[str, str] = field(default_factory=dict)
    """Pool → the file set that MCO is to render."""

    @property
    def repairs(self) -> bool:
        """Whether drift is put right."""
        return any(action.purpose == "repair" for action in self.actions)

    @property
    def actions(self) -> tuple[Action, ...]:
        return self.comparison.actions


async def plan_cluster(context: Context, snapshot: Snapshot, sight: ClusterSight) -> ClusterPlan:
    """The next calls for a cluster, in order. Appends nothing."""
    found = await wishes(context, snapshot)
    row = snapshot.one(CLUSTERS, context.name) or {}
    heal, contested = await _to_heal(context, snapshot, found)
    adopted = {key: frozenset(names) for key, names in (row.get("taken") or {}).items()}
    comparison = Comparison()
    if not found.none:
        given = (found.wanted, found.known, sight.live)
        log_id = context.log.log_id
        comparison = compare(*given, log_id=log_id, fleet=context.name, heal=heal, adopted=adopted)
    targets = {pool.name: _target(snapshot, pool.name) for pool in found.pools}
    plan = ClusterPlan(found, comparison, "", contested, targets)
    plan.waits = sight.out or await gate(context, snapshot, found, comparison)
    return plan


def _target(snapshot: Snapshot, pool: str) -> str:
    row = snapshot.one(RENDERS, snapshot.fleet, pool, "", OPENSHIFT_BASE)
    return str(row["files"]) if row else ""


async def _to_heal(
    context: Context, snapshot: Snapshot, found: Wishes
) -> tuple[dict[str, frozenset[str]], tuple[str, ...]]:
    """The drifted objects that are to be put right, each with those who changed it; and those that are contested."""
    heals = bool(found.pools) and found.pools[0].spec["drift"] == "heal"
    heal, contested = {}, []
    for (_, key), row in sorted(snapshot.table(CLUSTER_OBJECTS).items()):
        if row["allowed"] is not None:
            heal[key] = frozenset(row["allowed"])
        elif heals and any(item["kind"] != "extra" for item in row["drift"] or ()):  # the others are not ours to take
            if await _repairs(context, row) >= CONTESTED_AFTER:
                contested.append(key)
            else:
                heal[key] = frozenset(item["manager"] for item in row["drift"])
    return heal, tuple(contested)


async def _repairs(context: Context, row: Row) -> int:
    since = context.clock.now() - CONTESTED_WITHIN
    types = (ClusterResourceApplied.__name__,)
    events = await context.log.read(EventFilter(context.name, types=types, resource=row["resource"], since_time=since))
    return sum(getattr(event.body, "purpose", "") == "repair" for event in events)


async def roll_cluster(context: Context, sight: ClusterSight | None) -> list[Rolled]:
    """What a pass does to pools of `manage: cluster`."""
    if sight is None:
        return []
    why = await _advance(context, sight)
    rolled = await anew(lambda: follow_rollouts(context, sight))
    for done in rolled:
        if why:
            done.waits = {done.pool: why, **done.waits}
    return rolled


async def _advance(context: Context, sight: ClusterSight) -> str:
    """Do what is to be done; why something waits, or nothing."""
    snapshot = await context.snapshot()
    plan = await plan_cluster(context, snapshot, sight)
    resources = context.cluster_resources
    if plan.found.none or context.stopping:
        return ""
    if plan.waits or resources is None:
        if plan.found.pools and not plan.found.pools[0].enforces:
            await anew(lambda: _end_rollouts(context))
        return plan.waits
    names = ", ".join(plan.contested)
    waits = f"{names} was put right {CONTESTED_AFTER} times in 24 h and differs again" if names else ""
    if not context.retry_now and any(_conflicts(snapshot, action) for action in plan.actions):
        return waits or "others manage fields of a resource: see `reconciler status`"
    same = all(applied_files(context.name, snapshot.rows, pool) == files for pool, files in plan.targets.items())
    if same and not plan.actions:
        return waits
    try:
        snapshot = await _begin(context, snapshot, plan)
    except WrongExpectation:
        return "another replica is faster; planned anew at the next pass"
    return await _carry_out(context, snapshot, sight, plan, resources) or waits


def _conflicts(snapshot: Snapshot, action: Action) -> bool:
    """Whether exactly this met fields of others, on the same object, and nobody has said a word since."""
    refused = (snapshot.one(CLUSTER_OBJECTS, snapshot.fleet, action.key) or {}).get("refused") or {}
    return bool(refused.get("conflicts")) and _place(refused) == (digest(action.document), _version(action))


def _place(refused: Mapping[str, Any]) -> tuple[str, str]:
    return refused["sent"], refused["resource_version"]


def _version(action: Action) -> str:
    return action.live.resource_version if action.live else ""


async def _begin(context: Context, snapshot: Snapshot, plan: ClusterPlan) -> Snapshot:
    """Say what is about to be done, where MCO will roll it out; the state after that. Of two replicas one may."""
    bodies: list[Event] = []
    for pool, files in plan.targets.items():
        bodies += _rollout(context, snapshot, pool, files, repairs=plan.repairs)
    events, streams = [], {fleet_stream(context.name)}
    for body in bodies:
        name = str(getattr(body, "pool", ""))
        cause = (snapshot.one(POOLS, context.name, name) or {}).get("cause")
        events += context.events(snapshot, [body], correlation=cause)
        streams.add(stream_of(context.name, body))
    await context.append(events, snapshot, streams)
    return await context.snapshot() if events else snapshot


def _rollout(context: Context, snapshot: Snapshot, pool: str, files: str, *, repairs: bool) -> list[Event]:
    """The rollout of a pool that is to get other files than what was applied for it last, or what somebody may have
    made MCO take away from it."""
    row = snapshot.table(POOLS)[context.name, pool]
    rollout, targets = rollout_of(snapshot.rows, row), {OPENSHIFT_BASE: files}
    open_one = rollout if rollout and rollout["state"] in ("progressing", *STOPPED) else None
    if open_one and open_one["targets"] == targets:
        return []
    if not files or (applied_files(context.name, snapshot.rows, pool) == files and not repairs):
        return []
    bodies: list[Event] = []
    if open_one:
        bodies.append(RolloutSuperseded(pool, open_one["rollout"], digest(targets)))
    key = f"rollout\n{context.name}\n{pool}\n{snapshot.version(pool_stream(context.name, pool))}\n{digest(targets)}"
    rendered = snapshot.one(RENDERS, context.name, pool, "", OPENSHIFT_BASE) or {}
    machines = (snapshot.one(MACHINE_POOLS, context.name, pool) or {}).get("machines")
    started = RolloutStarted(
        pool=pool,
        rollout=str(uuid.uuid5(EVENT_NAMESPACE, key)),
        plan=digest({"targets": targets}),
        targets=targets,
        nodes=int(machines or 0),
        disruption=str(rendered.get("disruption") or "none"),
        effective=str(rendered.get("disruption") or "none"),
        reasons=("the Machine Config Operator rolls it out",),
        commit=row["commit"],
    )
    return [*bodies, started]


async def _carry_out(
    context: Context, snapshot: Snapshot, sight: ClusterSight, plan: ClusterPlan, resources: ClusterResources
) -> str:
    """Make the calls, one after the other, and record what came of them as one group; why it was not all."""
    bodies: list[Event] = []
    why = ""
    for action in plan.actions:
        try:
            bodies += await _call(context, resources, action)
            context.progress(Progress("cluster", f"{action.verb} {action.key}"))
        except ClusterRefused as error:
            why = f"{action.key}: {error.what}"
            bodies += await _refusal(context, snapshot, action, error)
            break
        except ClusterError as error:
            why = f"{error.where}: {error.what}" if error.where else error.what
            break
        fault_point("between-resources")
    if not why:
        bodies += _applied(context, snapshot, sight, plan)
        fault_point("before-resources-recorded")
    await anew(lambda: _record(context, plan, bodies))
    return why


async def _refusal(context: Context, snapshot: Snapshot, action: Action, error: ClusterRefused) -> list[Event]:
    """That the API refused a resource, where that is news."""
    conflicts = error.conflicts if isinstance(error, FieldConflict) else ()
    told = tuple({"manager": manager, "field": name} for manager, name in conflicts)
    [sent] = await context.keep([canonical_json(action.document).encode()])
    refused = (snapshot.one(CLUSTER_OBJECTS, context.name, action.key) or {}).get("refused") or {}
    if refused and (refused["reason"], *_place(refused)) == (error.what, sent, _version(action)):
        return []
    return [ClusterResourceRefused(action.resource, action.key, error.what, told, sent, _version(action))]


async def _call(context: Context, resources: ClusterResources, action: Action) -> list[Event]:
    """One call, and what it came to."""
    live = action.live
    if action.verb == "forget":
        return [ClusterResourceDeleted(action.resource, action.key, "", "")]
    before = [canonical_json(live.document).encode()] if live and not holds_secret(live.document) else []
    if action.verb == "delete":
        if live is not None:
            await resources.delete(live)
        kept = [*await context.keep(before), ""]
        return [ClusterResourceDeleted(action.resource, action.key, live.uid if live else "", kept[0])]
    answer = await resources.apply(action.document, live, action.against)
    changed = differences(answer.document, live.document) if live else ()
    told = without_foreign(action.document, answer)
    told = action.document if holds_secret(told) else told
    kept = [*await context.keep([*(canonical_json(item).encode() for item in (action.document, told)), *before]), ""]
    applied = ClusterResourceApplied(
        resource=action.resource,
        key=action.key,
        purpose=action.purpose,
        commit=action.commit or None,
        sent=kept[0],
        answer=kept[1],
        before=kept[2],
        changed=tuple(item.text for item in changed),
        taken=tuple(sorted(action.against)),
        uid=answer.uid,
        resource_version=answer.resource_version,
        generation=answer.generation,
    )
    repaired = [ClusterDriftRepaired(action.resource, action.key, "apply")] if action.purpose == "repair" else []
    return [applied, *repaired]


def _applied(context: Context, snapshot: Snapshot, sight: ClusterSight, plan: ClusterPlan) -> list[Event]:
    """That the cluster says what is wanted, for each pool of which that was not said yet, or was not so."""
    bodies: list[Event] = []
    for pool, files in plan.targets.items():
        before = applied_files(context.name, snapshot.rows, pool)
        if files and (files != before or plan.repairs):
            config = sight.pools[pool].target if pool in sight.pools else ""
            bodies.append(ClusterContentApplied(pool, files, before if files != before else "", config))
    return bodies


async def _record(context: Context, plan: ClusterPlan, bodies: Sequence[Event]) -> None:
    """As one group: what a repair does comes of the drift, all else of what last changed the pools' content."""
    snapshot, events = await context.snapshot(), []
    causes = [(snapshot.one(POOLS, context.name, pool.name) or {}).get("cause") for pool in plan.found.pools]
    for body in bodies:
        cause = next(filter(None, causes), None)
        key = getattr(body, "key", "")
        if getattr(body, "purpose", "") == "repair" or isinstance(body, ClusterDriftRepaired):
            cause = (snapshot.one(CLUSTER_OBJECTS, context.name, key) or {}).get("drift_cause") or cause
        events += context.events(snapshot, [body], correlation=cause)
    await context.append(events, snapshot, {stream_of(context.name, body) for body in bodies})


async def _end_rollouts(context: Context) -> None:
    """A pool that only observes by now rolls nothing out."""
    snapshot = await context.snapshot()
    for pool in cluster_pools(context.name, snapshot.rows):
        rollout = rollout_of(snapshot.rows, snapshot.table(POOLS)[context.name, pool])
        if rollout and rollout["state"] == "progressing":
            body = RolloutSuperseded(pool, rollout["rollout"], "mode: observe")
            await context.append(context.events(snapshot, [body]), snapshot, [pool_stream(context.name, pool)])
