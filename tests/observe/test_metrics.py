"""The exposition, read back with the client library's own parser."""

from __future__ import annotations

from typing import TYPE_CHECKING

from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text

from carbon_scheduler import __version__
from carbon_scheduler.core.carbon import CarbonValue
from carbon_scheduler.core.model import GridZone
from carbon_scheduler.observe.metrics import Metrics

if TYPE_CHECKING:
    from carbon_scheduler.core.carbon import Quality

HOUR_S = 1_795_627_200.0


def make_metrics(now_s: float = HOUR_S + 600) -> Metrics:
    return Metrics(now=lambda: now_s)


def value(zone: str, g_per_kwh: float, quality: Quality = "measured") -> CarbonValue:
    return CarbonValue(GridZone(zone), g_per_kwh, quality, "test", HOUR_S, HOUR_S)


def samples(metrics: Metrics) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    text, content_type = metrics.exposition()
    assert content_type.startswith("text/plain; version=0.0.4")
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in parse_text(text.decode())
        for sample in family.samples
    }


def key(name: str, **labels: str) -> tuple[str, frozenset[tuple[str, str]]]:
    return (f"carbon_scheduler_{name}", frozenset(labels.items()))


PROFILE = "carbon-aware-scheduler"


def test_attempts_and_bindings() -> None:
    metrics = make_metrics()
    metrics.attempt("scheduled", 0.0015, "carbon-aware-scheduler")
    metrics.attempt("unschedulable", 0.5, "carbon-aware-scheduler")
    metrics.scheduled(attempts=1, sli_s=0.02)
    metrics.scheduled(attempts=17, sli_s=40.0)
    metrics.bind("bound")
    metrics.bind("bound")
    metrics.bind("unknown")
    got = samples(metrics)
    assert got[key("schedule_attempts_total", result="scheduled", profile=PROFILE)] == 1
    assert got[key("schedule_attempts_total", result="error", profile=PROFILE)] == 0  # there before the first error
    labels = {"result": "scheduled", "profile": PROFILE}
    assert got[key("scheduling_attempt_duration_seconds_bucket", le="0.001", **labels)] == 0
    assert got[key("scheduling_attempt_duration_seconds_bucket", le="0.002", **labels)] == 1
    assert got[key("scheduling_attempt_duration_seconds_bucket", le="16.384", **labels)] == 1
    assert got[key("pod_scheduling_attempts_count")] == 2
    assert got[key("pod_scheduling_sli_duration_seconds_count", attempts="1")] == 1
    assert got[key("pod_scheduling_sli_duration_seconds_count", attempts="16+")] == 1
    assert got[key("binds_total", result="bound")] == 2
    assert got[key("binds_total", result="refused")] == 0
    assert got[key("binds_total", result="unknown")] == 1


def test_preemption() -> None:
    metrics = make_metrics()
    for victims in (0, 3, 200):
        metrics.preemption(victims)
    metrics.eviction("evicted")
    got = samples(metrics)
    assert got[key("preemption_attempts_total")] == 3
    assert got[key("preemption_victims_count")] == 2, "an attempt without victims is no size of a group of victims"
    assert got[key("preemption_victims_bucket", le="2.0")] == 0
    assert got[key("preemption_victims_bucket", le="4.0")] == 1
    assert got[key("preemption_victims_bucket", le="64.0")] == 1
    assert got[key("evictions_total", result="evicted")] == 1
    assert got[key("evictions_total", result="failed")] == 0


def test_pending_pods_of_every_queue() -> None:
    metrics = make_metrics()
    metrics.pending({"active": 3, "gated": 1})
    metrics.pending({"active": 2})
    got = samples(metrics)
    assert {
        queue: got[key("pending_pods", queue=queue)] for queue in ("active", "backoff", "unschedulable", "gated")
    } == {
        "active": 2,
        "backoff": 0,
        "unschedulable": 0,
        "gated": 0,
    }


def test_intensity_with_its_age_at_the_scrape() -> None:
    metrics = make_metrics(now_s=HOUR_S + 5400)
    metrics.intensity(GridZone("FR"), value("FR", 42.5))
    got = samples(metrics)
    assert got[key("grid_intensity_g_per_kwh", grid_zone="FR", quality="measured")] == 42.5
    assert got[key("grid_intensity_age_seconds", grid_zone="FR")] == 5400


def test_a_zone_that_changes_quality_or_goes_leaves_no_series_behind() -> None:
    metrics = make_metrics()
    metrics.intensity(GridZone("FR"), value("FR", 42.5))
    metrics.intensity(GridZone("FR"), value("FR", 100.0, "static"))
    metrics.intensity(GridZone("DE"), value("DE", 330.0))
    metrics.intensity(GridZone("DE"), None)
    series = [series for series in samples(metrics) if "grid_intensity" in series[0]]
    assert series == [
        key("grid_intensity_g_per_kwh", grid_zone="FR", quality="static"),
        key("grid_intensity_age_seconds", grid_zone="FR"),
    ]


def test_every_name_is_ours_or_the_process_and_every_family_is_explained() -> None:
    text, _ = make_metrics().exposition()
    families = list(parse_text(text.decode()))
    assert all(family.name.startswith(("carbon_scheduler_", "process_", "python_")) for family in families)
    assert all(family.documentation for family in families)
    ours = {family.name for family in families}
    assert ours >= {
        f"carbon_scheduler_{name}"
        for name in (
            "schedule_attempts", "scheduling_attempt_duration_seconds", "pending_pods", "pod_scheduling_attempts",
            "pod_scheduling_sli_duration_seconds", "grid_intensity_g_per_kwh", "grid_intensity_age_seconds",
            "provider_fetches", "provider_rejected_values", "provider_budget_left", "binds", "events_dropped",
            "watch_restarts", "relists", "invalid_objects", "leader",
        )
    }  # fmt: skip
    assert {"process_resident_memory_bytes", "process_cpu_seconds"} <= ours
    assert not any(name.endswith("_created") for name in ours)


def test_labels_come_from_closed_sets() -> None:
    metrics = make_metrics()
    metrics.provider_fetches.labels(outcome="ok").inc()
    metrics.provider_rejected_values.labels(reason="null").inc()
    for counter in (metrics.watch_restarts, metrics.relists, metrics.invalid_objects):
        counter.labels(kind="pods").inc()
    metrics.intensity(GridZone("FR"), value("FR", 1.0))
    names = {label for _, labels in samples(metrics) for label, _ in labels}
    assert names <= {
        "result", "profile", "queue", "attempts", "le", "outcome", "reason", "kind", "grid_zone", "quality", "version",
        "implementation", "major", "minor", "patchlevel",
    }  # fmt: skip


def test_openmetrics_on_request() -> None:
    text, content_type = make_metrics().exposition("application/openmetrics-text; version=1.0.0")
    assert content_type.startswith("application/openmetrics-text")
    assert any(family.name == "carbon_scheduler_leader" for family in parse_openmetrics(text.decode()))


def test_the_version_is_there() -> None:
    assert samples(make_metrics())[key("build_info", version=__version__)] == 1


def test_two_registries_do_not_meet() -> None:
    first, second = make_metrics(), make_metrics()
    first.leader.set(1)
    assert samples(first)[key("leader")] == 1
    assert samples(second)[key("leader")] == 0
