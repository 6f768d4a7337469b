"""What /metrics shows."""

from __future__ import annotations

from prometheus_client.parser import text_string_to_metric_families

from reconciler.metrics import Metrics, PoolCounts


def shown(metrics: Metrics) -> dict[str, float]:
    """`name{label=value,…}` → value, without the times of creation."""
    found = {}
    for family in text_string_to_metric_families(metrics.text().decode()):
        for sample in family.samples:
            labels = ",".join(f"{name}={value}" for name, value in sorted(sample.labels.items()))
            if not sample.name.endswith("_created"):
                found[f"{sample.name}{{{labels}}}"] = sample.value
    return found


def test_the_counts_of_a_pool() -> None:
    metrics = Metrics("1.2.3")
    metrics.fleet("default", {"worker": PoolCounts(machines=5, updated=3, degraded=1, unavailable=2)}, drifted=1)
    values = shown(metrics)
    assert values["reconciler_machine_count{fleet=default,pool=worker}"] == 5
    assert values["reconciler_updated_machine_count{fleet=default,pool=worker}"] == 3
    assert values["reconciler_degraded_machine_count{fleet=default,pool=worker}"] == 1
    assert values["reconciler_unavailable_machine_count{fleet=default,pool=worker}"] == 2
    assert values["reconciler_drifted_nodes{fleet=default}"] == 1
    assert values["reconciler_info{version=1.2.3}"] == 1


def test_series_of_deleted_pools_go_and_other_fleets_stay() -> None:
    metrics = Metrics("1")
    one = PoolCounts(1, 1, 0, 0)
    metrics.fleet("a", {"worker": one, "infra": one}, drifted=0)
    metrics.fleet("b", {"infra": one}, drifted=0)
    metrics.fleet("a", {"worker": one}, drifted=0)
    assert sorted(name for name in shown(metrics) if "machine_count" in name) == sorted(
        f"reconciler_{kind}machine_count{{{labels}}}"
        for kind in ("", "updated_", "degraded_", "unavailable_")
        for labels in ("fleet=a,pool=worker", "fleet=b,pool=infra")
    )


def test_counters_and_times() -> None:
    metrics = Metrics("1")
    metrics.fetch("default", "moved")
    metrics.fetch("default", "failed")
    metrics.fetch("default", "failed")
    metrics.step("default", "applied")
    metrics.appended("default", 3, 10)
    metrics.appended("default", 2, 12)
    metrics.cycle("default", 0.3)
    values = shown(metrics)
    assert values["reconciler_fetch_total{fleet=default,result=failed}"] == 2
    assert values["reconciler_fetch_total{fleet=default,result=moved}"] == 1
    assert values["reconciler_step_total{fleet=default,result=applied}"] == 1
    assert values["reconciler_events_appended_total{fleet=default}"] == 5
    assert values["reconciler_log_position{}"] == 12
    assert values["reconciler_cycle_duration_seconds_count{fleet=default}"] == 1
    assert values["reconciler_cycle_duration_seconds_bucket{fleet=default,le=0.25}"] == 0
    assert values["reconciler_cycle_duration_seconds_bucket{fleet=default,le=0.5}"] == 1
