"""Certificates in force that expire soon, by today's clock: what no event can say (DESIGN §4, `ca-expires`)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from reconciler.ports import Snapshot
from reconciler.projections.desired import Desired, shadowed_out
from reconciler.registries.certs import EXPIRED, expiring
from reconciler.registries.inputs import collect
from reconciler.registries.warnings import annotations_of, silenced
from reconciler.stages.context import Context
from reconciler.stages.record import as_data


def is_expired(problem: Mapping[str, Any]) -> bool:
    """Whether a certificate that `expiring_certificates` names has expired already."""
    return EXPIRED in problem["message"]


async def expiring_certificates(context: Context, snapshot: Snapshot) -> list[dict[str, Any]]:
    """Each such certificate as a problem, with the `pools` whose nodes have it. Of a past state, what was redacted is
    not known."""
    desired = Desired(context.name, snapshot.rows)
    found: dict[str, dict[str, Any]] = {}
    for name, pool in desired.pools.items():
        versions = shadowed_out(desired.in_force(name), pool)
        asked = [v for v in versions if v.resource.rpartition(":")[2].startswith(("Image/", "ConfigMap/"))]
        loaded = await context.known_resources(asked)
        inputs = collect(list(loaded.values()))
        by_identity = {resource.identity: resource for resource in inputs.config_maps}
        for problem in expiring(inputs.image, inputs.config_maps, context.clock.now()):
            if list(silenced([problem], annotations_of(by_identity[problem.object]))):
                found.setdefault(str(problem), {**as_data(problem), "pools": []})["pools"].append(name)
    return [found[text] for text in sorted(found)]
