"""Conditions of nodes and pools, as Kubernetes has them: type, status, reason, message. From rows alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from reconciler.projections.order import Rows, lacks
from reconciler.projections.status import FleetStatus, NodeStatus, PoolStatus

NODE_CONDITIONS = ("Ready", "Converged", "Drifted", "Degraded")
POOL_CONDITIONS = ("Converged", "RolloutComplete", "Updated", "Updating", "Degraded", "Paused", "Held")


@dataclass(frozen=True)
class Condition:
    """One condition. `since` is when it became so, where that is known."""

    type: str
    status: bool
    reason: str
    message: str = ""
    since: datetime | None = None


def node_conditions(node: NodeStatus) -> tuple[Condition, ...]:
    """NODE_CONDITIONS of a node. Converged: its last receipt proves what is wanted, and nothing differs since."""
    why = "Answered" if node.ready else "NotReady" if node.reachable else "Unreachable"
    message = node.away if why == "NotReady" else node.reason
    ready = Condition("Ready", node.ready, why, message, node.unreachable_since)
    converged = node.files == "Converged"
    since = node.converged_at if converged else None
    drifted = bool(node.drift)
    bad = node.files in ("Failed", "Drifted")
    return (
        ready,
        Condition("Converged", converged, node.files, node.reason, since),
        Condition("Drifted", drifted, "DiffersFromReceipt" if drifted else "AsProved", ", ".join(node.drift)),
        Condition("Degraded", bad, node.files, node.reason if bad else ""),
    )


def pool_conditions(
    found: FleetStatus, rows: Rows, pool: PoolStatus, locks: Sequence[str] = ()
) -> tuple[Condition, ...]:
    """POOL_CONDITIONS of a pool; Updated, Updating and Degraded as `oc get mcp` has them.

    RolloutComplete: its content stands on every node that was not deferred. Converged: on every node, all ready.
    """
    lacking = lacks(found.fleet, rows, pool.name, pool.commit).removeprefix(f"waits for pool {pool.name}")
    lacking = pool.blocked or lacking.removeprefix(", ").removeprefix(": ")
    behind = [n.name for n in found.nodes if n.pool == pool.name and not (n.files == "Converged" and n.ready)]
    updated, updating = pool.updated == pool.machines, pool.rollout == "progressing"
    degraded = pool.degraded > 0 or pool.rollout == "halted" or bool(pool.blocked)
    counted = f"{pool.updated} of {pool.machines} nodes"
    return (
        Condition(
            "Converged", not behind and not pool.blocked, "AllNodes" if not behind else "NodesBehind", _some(behind)
        ),
        Condition("RolloutComplete", not lacking, "Lacking" if lacking else "Complete", lacking or pool.outcome),
        Condition("Updated", updated, "AllNodes" if updated else "NodesBehind", counted),
        Condition("Updating", updating, "Rollout" if updating else "NoRollout", pool.rollout),
        Condition(
            "Degraded", degraded, "Degraded" if degraded else "AsExpected", pool.blocked or pool.outcome * degraded
        ),
        Condition("Paused", bool(locks), "Locked" if locks else "NotLocked", "; ".join(locks)),
        Condition("Held", bool(pool.held), "Holds" if pool.held else "NoHold", ", ".join(pool.held)),
    )


def _some(names: Sequence[str], most: int = 5) -> str:
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")
