"""Who is next in a rollout: canaries, their soak, then waves of 10, 20 and 40 % of the pool, then the rest."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from reconciler.events.catalogue import WaveStarted
from reconciler.rollout.views import NodeView, PoolView, RolloutView

WAVES = (10, 20, 40)
"""Percent of the pool's nodes in each wave after the canaries; the last wave is all that are left."""


@dataclass(frozen=True)
class Turn:
    """The nodes that may be begun now, the wave that begins with them (None: it has begun), and why others wait."""

    nodes: Sequence[NodeView]
    wave: WaveStarted | None
    why: str


def next_turn(view: PoolView, rollout: RolloutView, ready: Sequence[NodeView], now: datetime) -> Turn:
    """Whose turn it is among `ready`, the nodes that are behind and can be acted on."""
    begun = rollout.begun
    allowed = [node for node in ready if node.name in begun]
    rest = [node for node in ready if node.name not in begun]
    if rollout.kind == "rollout" and not rollout.waves and _needs(view, rollout, "always", "start"):
        return Turn((), None, _approval(view, "to begin"))
    if rollout.waves and _under_way(view, rollout):
        return Turn(allowed, None, f"waits for {'the canary' if _canaries_missing(view, rollout) else 'its wave'}")
    if not rest:
        return Turn(allowed, None, "")
    if rollout.kind == "rollout":
        if missing := _canaries_missing(view, rollout):
            return _begin(view, rollout, allowed, rest[:missing], "canary")
        if why := _soak(view, rollout, now):
            return Turn(allowed, None, why)
    return _begin(view, rollout, allowed, rest[: _size(view, rollout)], "wave")


def is_held(view: PoolView, rollout: RolloutView, now: datetime) -> bool:
    """Whether canaries, their soak or a person's approval still stand between the content and the other nodes."""
    if rollout.kind != "rollout":
        return False
    start = not rollout.waves and _needs(view, rollout, "always", "start")
    return start or bool(_canaries_missing(view, rollout)) or bool(_soak(view, rollout, now))


def _begin(
    view: PoolView, rollout: RolloutView, allowed: Sequence[NodeView], chosen: Sequence[NodeView], kind: str
) -> Turn:
    number = len(rollout.waves) + 1
    wave = WaveStarted(view.pool.name, rollout.rollout, number, kind, tuple(node.name for node in chosen))
    return Turn([*allowed, *chosen], wave, f"waits for {'the canary' if kind == 'canary' else 'its wave'}")


def _under_way(view: PoolView, rollout: RolloutView) -> bool:
    """Whether a node of the latest wave is being acted on, or can still be begun."""
    latest = rollout.waves[-1].nodes
    return any(node.step is not None or _open(view, node) for node in view.nodes if node.name in latest)


def _open(view: PoolView, node: NodeView) -> bool:
    over = node.out or node.tried or node.blocked or node.content_failed or node.target in view.refused
    return node.behind and not over


def _canaries(view: PoolView, rollout: RolloutView) -> list[NodeView]:
    """Nodes that have the content by now and count as canaries: those converged first."""
    if any(wave.kind == "wave" for wave in rollout.waves):
        named = frozenset().union(*(wave.nodes for wave in rollout.waves if wave.kind == "canary"))
    else:
        named = rollout.begun
    done = [
        node
        for node in view.nodes
        if node.name in named and not node.behind and node.converged_at and node.converged_at >= rollout.started_at
    ]
    return sorted(done, key=lambda node: (node.converged_at or rollout.started_at, node.name))


def _canaries_missing(view: PoolView, rollout: RolloutView) -> int:
    """How many more canaries must converge before anybody else is begun."""
    if rollout.kind != "rollout" or any(wave.kind == "wave" for wave in rollout.waves):
        return 0
    wanted: int = view.pool.spec["canary"]["nodes"]
    return max(0, wanted - len(_canaries(view, rollout)))


def _soak(view: PoolView, rollout: RolloutView, now: datetime) -> str:
    """Why the others may not follow the canaries yet."""
    canary = view.pool.spec["canary"]
    if not canary["nodes"] or any(wave.kind == "wave" for wave in rollout.waves):
        return ""
    done = _canaries(view, rollout)
    sick = [node.name for node in done if not node.healthy]
    if sick:
        return f"the canary {sick[0]} is not healthy"
    last = max(node.converged_at for node in done if node.converged_at)
    until = last + timedelta(seconds=canary["soak"])
    if now < until:
        return f"canary soaks until {until:%Y-%m-%dT%H:%M:%SZ}"
    if _needs(view, rollout, "afterCanary", "canary"):
        return _approval(view, "to go on after its canaries")
    return ""


def _needs(view: PoolView, rollout: RolloutView, approval: str, stage: str) -> bool:
    return bool(view.pool.spec["approval"] == approval) and stage not in rollout.approved


def _approval(view: PoolView, what: str) -> str:
    return f"waits for approval {what}: `reconciler approve --pool {view.pool.name}`"


def _size(view: PoolView, rollout: RolloutView) -> int:
    """Nodes of the next wave: a share of the pool, at least one; a catch-up takes all at once."""
    number = sum(wave.kind == "wave" for wave in rollout.waves)
    if rollout.kind != "rollout" or number >= len(WAVES):
        return len(view.nodes)
    return max(1, len(view.nodes) * WAVES[number] // 100)
