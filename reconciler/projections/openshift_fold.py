"""Folds of a cluster: what we applied to it, what is not ours there, and what its Machine Config Operator reports."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from reconciler.events.catalogue import (
    ClusterAdoptionAsked,
    ClusterBaselineCaptured,
    ClusterCompared,
    ClusterContentApplied,
    ClusterDriftDetected,
    ClusterDriftRepaired,
    ClusterRepairAsked,
    ClusterResourceApplied,
    ClusterResourceDeleted,
    ClusterResourceRefused,
    ClusterResourcesRecovered,
    ClusterResourcesUnreachable,
    MachineConfigChanged,
    MachineConfigPoolChanged,
)
from reconciler.events.codec import plain
from reconciler.events.envelope import StoredEvent
from reconciler.projections.tables import (
    CLUSTER_OBJECTS,
    CLUSTERS,
    MACHINE_POOLS,
    MACHINES,
    Key,
    Touched,
    Working,
    on_body,
)

_NO_DRIFT: dict[str, Any] = {"drift": None, "drift_observed": None, "drift_since": None, "drift_cause": None}


def _cluster(event: StoredEvent) -> Iterator[Touched]:
    yield CLUSTERS, (event.fleet,)


def _key(event: StoredEvent) -> Key:
    return event.fleet, event.body.key  # type: ignore[attr-defined]  # registered only for events about one object


def _object(event: StoredEvent) -> Iterator[Touched]:
    yield CLUSTER_OBJECTS, _key(event)


def _object_and_cluster(event: StoredEvent) -> Iterator[Touched]:
    yield CLUSTER_OBJECTS, _key(event)
    yield CLUSTERS, (event.fleet,)


def _objects(event: StoredEvent) -> Iterator[Touched]:
    for key in event.body.objects:  # type: ignore[attr-defined]  # registered only for ClusterRepairAsked
        yield CLUSTER_OBJECTS, (event.fleet, key)


def _pool(event: StoredEvent) -> Iterator[Touched]:
    yield MACHINE_POOLS, (event.fleet, event.body.pool)  # type: ignore[attr-defined]  # pool-scoped events have it


def _machine(event: StoredEvent) -> Iterator[Touched]:
    yield MACHINES, (event.fleet, event.body.node)  # type: ignore[attr-defined]  # node-scoped events have it


def unreachable(event: StoredEvent, body: ClusterResourcesUnreachable, rows: Working) -> None:
    row = rows.get(CLUSTERS, event.fleet) or {}
    since = row.get("unreachable_since") or event.recorded_at
    rows.put(CLUSTERS, (event.fleet,), unreachable=body.reason, refused=body.refused, unreachable_since=since)


def recovered(event: StoredEvent, body: ClusterResourcesRecovered, rows: Working) -> None:  # noqa: ARG001  fold's form
    rows.put(CLUSTERS, (event.fleet,), unreachable=None, refused=None, unreachable_since=None)


def baseline_captured(event: StoredEvent, body: ClusterBaselineCaptured, rows: Working) -> None:
    rows.put(CLUSTERS, (event.fleet,), baseline=plain(body.objects), files=plain(body.files))


def compared(event: StoredEvent, body: ClusterCompared, rows: Working) -> None:
    rows.put(
        CLUSTERS,
        (event.fleet,),
        unadopted=plain(body.unadopted),
        beside=plain(body.foreign),
        others=plain(body.others),
        unserved=plain(body.unserved),
    )


def adoption_asked(event: StoredEvent, body: ClusterAdoptionAsked, rows: Working) -> None:
    row = rows.get(CLUSTERS, event.fleet) or {}
    rows.put(CLUSTERS, (event.fleet,), taken={**(row.get("taken") or {}), **plain(body.objects)})


def resource_applied(event: StoredEvent, body: ClusterResourceApplied, rows: Working) -> None:
    rows.put(
        CLUSTER_OBJECTS,
        _key(event),
        resource=body.resource,
        commit=body.commit,
        sent=body.sent,
        answer=body.answer,
        uid=body.uid,
        resource_version=body.resource_version,
        generation=body.generation,
        applied_at=event.recorded_at,
        allowed=None,
        refused=None,
        **_NO_DRIFT,
    )
    row = rows.get(CLUSTERS, event.fleet)
    if row is not None:  # an object that was just applied is ours
        left = {key: managers for key, managers in (row["taken"] or {}).items() if key != body.key}
        others = [item for item in row["unadopted"] or () if item["key"] != body.key]
        taken = body.purpose == "adopt" and body.before  # it may have come after first contact
        baseline = {**({body.key: body.before} if taken else {}), **(row["baseline"] or {})}
        rows.put(CLUSTERS, (event.fleet,), taken=left or None, unadopted=others, baseline=baseline)


def resource_deleted(event: StoredEvent, body: ClusterResourceDeleted, rows: Working) -> None:  # noqa: ARG001  as above
    rows.drop(CLUSTER_OBJECTS, _key(event))


def resource_refused(event: StoredEvent, body: ClusterResourceRefused, rows: Working) -> None:
    refused = {
        "reason": body.reason,
        "conflicts": plain(body.conflicts),
        "sent": body.sent,
        "resource_version": body.resource_version,
    }
    rows.put(CLUSTER_OBJECTS, _key(event), resource=body.resource, refused=refused, allowed=None)


def drift_detected(event: StoredEvent, body: ClusterDriftDetected, rows: Working) -> None:
    row = rows.get(CLUSTER_OBJECTS, *_key(event)) or {}
    rows.put(
        CLUSTER_OBJECTS,
        _key(event),
        drift=plain(body.differs),
        drift_observed=body.observed,
        drift_since=row.get("drift_since") or event.recorded_at,
        drift_cause=row.get("drift_cause") or str(event.correlation_id),
        allowed=None,
    )


def drift_repaired(event: StoredEvent, body: ClusterDriftRepaired, rows: Working) -> None:  # noqa: ARG001  as above
    rows.put(CLUSTER_OBJECTS, _key(event), allowed=None, **_NO_DRIFT)


def repair_asked(event: StoredEvent, body: ClusterRepairAsked, rows: Working) -> None:
    for key, managers in body.objects.items():
        rows.put(CLUSTER_OBJECTS, (event.fleet, key), allowed=plain(managers), refused=None)


def pool_changed(event: StoredEvent, body: MachineConfigPoolChanged, rows: Working) -> None:
    said = {name: plain(value) for name, value in body.as_data().items() if name != "pool"}
    rows.put(MACHINE_POOLS, (event.fleet, body.pool), **said)


def content_applied(event: StoredEvent, body: ClusterContentApplied, rows: Working) -> None:
    told = {"files": body.files, "before": body.before, "config": body.config, "applied_at": event.recorded_at}
    rows.put(MACHINE_POOLS, (event.fleet, body.pool), **told)


def machine_changed(event: StoredEvent, body: MachineConfigChanged, rows: Working) -> None:
    said = {name: value for name, value in body.as_data().items() if name != "node"}
    rows.put(MACHINES, (event.fleet, body.node), since=event.recorded_at, **said)


HANDLERS: dict[str, Any] = {
    "ClusterResourcesUnreachable": (_cluster, on_body(unreachable)),
    "ClusterResourcesRecovered": (_cluster, on_body(recovered)),
    "ClusterBaselineCaptured": (_cluster, on_body(baseline_captured)),
    "ClusterCompared": (_cluster, on_body(compared)),
    "ClusterAdoptionAsked": (_cluster, on_body(adoption_asked)),
    "ClusterResourceApplied": (_object_and_cluster, on_body(resource_applied)),
    "ClusterResourceDeleted": (_object, on_body(resource_deleted)),
    "ClusterResourceRefused": (_object, on_body(resource_refused)),
    "ClusterDriftDetected": (_object, on_body(drift_detected)),
    "ClusterDriftRepaired": (_object, on_body(drift_repaired)),
    "ClusterRepairAsked": (_objects, on_body(repair_asked)),
    "ClusterContentApplied": (_pool, on_body(content_applied)),
    "MachineConfigPoolChanged": (_pool, on_body(pool_changed)),
    "MachineConfigChanged": (_machine, on_body(machine_changed)),
}
