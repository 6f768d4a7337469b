"""What Prometheus scrapes from /metrics. The four machine counts mean what MCO's mco_* counts mean, per pool.

I/O: prometheus_client, in memory only. Called by the cycle and the service.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest

CONTENT_TYPE = CONTENT_TYPE_LATEST

_SECONDS = (0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600)


@dataclass(frozen=True, slots=True)
class PoolCounts:
    """Nodes of a pool: all; at the wanted files; failed; not reachable or not ready."""

    machines: int
    updated: int
    degraded: int
    unavailable: int


class Metrics:
    """One per process; every instance has a registry of its own."""

    def __init__(self, version: str) -> None:
        self._registry = CollectorRegistry()

        def gauge(name: str, text: str, *labels: str) -> Gauge:
            return Gauge(f"reconciler_{name}", text, labels, registry=self._registry)

        def counter(name: str, text: str, *labels: str) -> Counter:
            return Counter(f"reconciler_{name}_total", text, labels, registry=self._registry)

        self._pools = {
            "machines": gauge("machine_count", "Nodes of the pool", "fleet", "pool"),
            "updated": gauge("updated_machine_count", "Nodes of the pool with the wanted files", "fleet", "pool"),
            "degraded": gauge("degraded_machine_count", "Nodes of the pool that failed", "fleet", "pool"),
            "unavailable": gauge("unavailable_machine_count", "Nodes of the pool not in service", "fleet", "pool"),
        }
        self._cycles = Histogram(
            "reconciler_cycle_duration_seconds",
            "Time of one pass",
            ["fleet"],
            buckets=_SECONDS,
            registry=self._registry,
        )
        self._fetches = counter("fetch", "Looks at the repository", "fleet", "result")
        self._events = counter("events_appended", "Events appended to the log", "fleet")
        self._steps = counter("step", "Actions on nodes, by the receipt's result", "fleet", "result")
        self._drifted = gauge("drifted_nodes", "Nodes that differ from their last receipt", "fleet")
        self._position = gauge("log_position", "Position of the log's head")
        gauge("info", "Version of reconciler", "version").labels(version).set(1)

    def fleet(self, fleet: str, pools: Mapping[str, PoolCounts], drifted: int) -> None:
        """The fleet as it is now; series of pools that are gone are removed."""
        self._drifted.labels(fleet).set(drifted)
        for name, gauge in self._pools.items():
            for pool, counts in pools.items():
                gauge.labels(fleet, pool).set(getattr(counts, name))
            for other_fleet, pool in self._pools_in(gauge):
                if other_fleet == fleet and pool not in pools:
                    gauge.remove(fleet, pool)

    def cycle(self, fleet: str, seconds: float) -> None:
        self._cycles.labels(fleet).observe(seconds)

    def fetch(self, fleet: str, result: str) -> None:
        """`result`: `moved`, `unchanged` or `failed`."""
        self._fetches.labels(fleet, result).inc()

    def step(self, fleet: str, result: str) -> None:
        """`result`: a receipt's, or `unreachable`."""
        self._steps.labels(fleet, result).inc()

    def appended(self, fleet: str, events: int, position: int) -> None:
        """`events` were appended; the log's head is at `position` now."""
        self._events.labels(fleet).inc(events)
        self._position.set(position)

    def text(self) -> bytes:
        """Everything in Prometheus' text format, of type CONTENT_TYPE."""
        return generate_latest(self._registry)

    @staticmethod
    def _pools_in(gauge: Gauge) -> set[tuple[str, str]]:
        return {(s.labels["fleet"], s.labels["pool"]) for metric in gauge.collect() for s in metric.samples}
