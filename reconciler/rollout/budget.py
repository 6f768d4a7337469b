"""How many nodes may be touched and taken down at once (NodePool maxParallel, maxUnavailable, maxUnavailableTotal)."""

from __future__ import annotations

from reconciler.rollout.views import NodeView, PoolView


class Budget:
    """What is left of a pool's budgets, less what open steps have spent."""

    def __init__(self, view: PoolView) -> None:
        count = len(view.nodes)
        down = sum(node.is_down for node in view.nodes)
        touched = sum(node.step is not None and not node.is_down for node in view.nodes)
        self._parallel = view.pool.max_parallel(count) - touched
        self._down = view.pool.max_unavailable(count) - down
        total = view.pool.max_unavailable_total(count)
        away = sum(node.away and not node.is_down for node in view.nodes)
        self._total = None if total is None else total - down - away

    def spend(self, node: NodeView) -> str:
        """Take what beginning `node` costs; where there is not enough, why it waits, and nothing is taken."""
        if not node.goes_down:
            if self._parallel < 1:
                return "waits for maxParallel"
            self._parallel -= 1
            return ""
        if self._down < 1:
            return "waits for maxUnavailable"
        if self._total is not None and self._total < 1:
            return "waits for maxUnavailableTotal: too many nodes are down already"
        self._down -= 1
        if self._total is not None:
            self._total -= 1
        return ""
