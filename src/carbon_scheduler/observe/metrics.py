"""What Prometheus sees. Names in the shape of kube-scheduler's stable ones, base units, and no pod's name in any label.

Every label's values come from a closed set of ours, or are grid zones, kinds or the scheduler's own names: a cluster's users
cannot make series. Source of the first six and of their buckets: kube-scheduler v1.36, pkg/scheduler/metrics/metrics.go.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final, Literal

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    Info,
    PlatformCollector,
    ProcessCollector,
    disable_created_metrics,
)
from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics_core import GaugeMetricFamily
from prometheus_client.registry import Collector

from carbon_scheduler import __version__

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from prometheus_client.metrics_core import Metric

    from carbon_scheduler.core.carbon import CarbonValue
    from carbon_scheduler.core.model import GridZone

PREFIX: Final = "carbon_scheduler"
Attempt = Literal["scheduled", "unschedulable", "error"]
BindResult = Literal["bound", "refused", "unknown"]
ATTEMPTS: Final[tuple[Attempt, ...]] = ("scheduled", "unschedulable", "error")
EvictionResult = Literal["evicted", "gone", "failed"]
EVICTION_RESULTS: Final[tuple[EvictionResult, ...]] = ("evicted", "gone", "failed")
BIND_RESULTS: Final[tuple[BindResult, ...]] = ("bound", "refused", "unknown")
QUEUES: Final = ("active", "backoff", "unschedulable", "gated")


class Metrics:
    """All metrics of one process, in a registry of their own. An update costs 1 to 3 us, a scrape a few ms.

    `now` is Unix time, for the age of carbon values at the moment of the scrape.
    """

    def __init__(
        self, profiles: Sequence[str] = ("carbon-aware-scheduler",), now: Callable[[], float] = time.time
    ) -> None:
        # One more series per counter that nobody reads (a switch of the library, for the whole process).
        disable_created_metrics()  # type: ignore[no-untyped-call]
        registry = CollectorRegistry(auto_describe=True)
        self.registry = registry
        self._intensity = _Intensity(now)
        registry.register(self._intensity)
        ProcessCollector(registry=registry)
        PlatformCollector(registry=registry)
        Info(f"{PREFIX}_build", "The running program", registry=registry).info({"version": __version__})

        def counter(name: str, text: str, *labels: str) -> Counter:
            return Counter(f"{PREFIX}_{name}", text, labels, registry=registry)

        def gauge(name: str, text: str, *labels: str) -> Gauge:
            return Gauge(f"{PREFIX}_{name}", text, labels, registry=registry)

        def histogram(name: str, text: str, first: float, count: int, *labels: str) -> Histogram:
            buckets = [first * 2**power for power in range(count)]
            return Histogram(f"{PREFIX}_{name}", text, labels, registry=registry, buckets=buckets)

        attempts = counter("schedule_attempts_total", "Attempts to schedule pods, by result", "result", "profile")
        duration = histogram(
            "scheduling_attempt_duration_seconds",
            "Time from taking a pod off the queue to the answer of its Binding, or to the verdict that no node fits",
            0.001, 15, "result", "profile",
        )  # fmt: skip
        series = [(result, profile) for profile in profiles for result in ATTEMPTS]
        self._attempts = {one: attempts.labels(*one) for one in series}
        self._duration = {one: duration.labels(*one) for one in series}
        self._pending = gauge("pending_pods", "Pods waiting to be scheduled, by queue", "queue")
        for queue in QUEUES:
            self._pending.labels(queue)
        self._pod_attempts = Histogram(
            f"{PREFIX}_pod_scheduling_attempts",
            "Attempts that a scheduled pod took",
            registry=registry,
            buckets=(1, 2, 4, 8, 16),
        )
        self._sli = histogram(
            "pod_scheduling_sli_duration_seconds",
            "Time from first seeing a schedulable pod to its Binding, by the number of attempts (16+ together)",
            0.01, 20, "attempts",
        )  # fmt: skip
        self._binds = {
            result: child.labels(result)
            for child in [counter("binds_total", "Bindings sent, by what came back", "result")]
            for result in BIND_RESULTS
        }
        self._preemptions = counter("preemption_attempts_total", "Attempts to make room for a pod by evicting others")
        self._victims = histogram("preemption_victims", "Pods that one attempt chose to evict", 1, 7)
        self._evictions = {
            result: child.labels(result)
            for child in [counter("evictions_total", "Pods to be evicted for others, by what came of it", "result")]
            for result in EVICTION_RESULTS
        }
        self.provider_fetches = counter("provider_fetches_total", "Requests to the source of carbon data", "outcome")
        """`outcome`: "ok" or the `label` of a ProviderError."""
        self.provider_rejected_values = counter(
            "provider_rejected_values_total", "Values of the source that cannot be true, by reason", "reason"
        )
        self.provider_budget_left = gauge("provider_budget_left", "Requests to the source left in this hour's budget")
        self.events_dropped = counter(
            "events_dropped_total",
            "Kubernetes events that were not written (best effort; binding never waits for them)",
        )
        self.overcommitted_nodes = gauge("overcommitted_nodes", "Nodes that offer less than the pods on them request")
        self.watch_restarts = counter(
            "watch_restarts_total", "Watches begun again after their end or a failure", "kind"
        )
        self.relists = counter(
            "relists_total", "Full lists after the first, because a watch could not be resumed", "kind"
        )
        self.invalid_objects = counter("invalid_objects_total", "API objects that could not be read", "kind")
        self.leader = gauge("leader", "1 while this process may write, else 0")

    def attempt(self, result: Attempt, duration_s: float, profile: str) -> None:
        """One attempt to schedule one pod of this scheduler name has ended."""
        self._attempts[result, profile].inc()
        self._duration[result, profile].observe(duration_s)

    def scheduled(self, attempts: int, sli_s: float) -> None:
        """One pod was bound, in its `attempts`-th attempt, `sli_s` after it was first seen schedulable."""
        self._pod_attempts.observe(attempts)
        self._sli.labels("16+" if attempts > 15 else str(attempts)).observe(sli_s)

    def bind(self, result: BindResult) -> None:
        self._binds[result].inc()

    def preemption(self, victims: int) -> None:
        """An attempt to preempt has ended, with so many victims chosen."""
        self._preemptions.inc()
        if victims:
            self._victims.observe(victims)

    def eviction(self, result: EvictionResult) -> None:
        self._evictions[result].inc()

    def pending(self, pods: Mapping[str, int]) -> None:
        """Pods per queue; a queue that is not named has none."""
        for queue in QUEUES:
            self._pending.labels(queue).set(pods.get(queue, 0))

    def intensity(self, grid_zone: GridZone, value: CarbonValue | None) -> None:
        """The value in use for a grid zone, or None: its series then vanish instead of going stale."""
        self._intensity.put(grid_zone, value)

    def exposition(self, accept: str = "") -> tuple[bytes, str]:
        """The metrics as text and its content type, in the format that `accept` asks for."""
        encode, content_type = choose_encoder(accept)
        return encode(self.registry), content_type


class _Intensity(Collector):
    """Carbon values as they are at the scrape. Not a Gauge: a zone whose quality changes must not keep its old series."""

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self._values: dict[GridZone, CarbonValue] = {}

    def put(self, grid_zone: GridZone, value: CarbonValue | None) -> None:
        if value is None:
            self._values.pop(grid_zone, None)
        else:
            self._values[grid_zone] = value

    def collect(self) -> Iterable[Metric]:
        intensity = GaugeMetricFamily(
            f"{PREFIX}_grid_intensity_g_per_kwh",
            "Carbon intensity in use, in gCO2eq/kWh, and the rung of the ladder that it comes from",
            labels=["grid_zone", "quality"],
        )
        age = GaugeMetricFamily(
            f"{PREFIX}_grid_intensity_age_seconds",
            "Time since the start of the hour that the carbon intensity in use describes",
            labels=["grid_zone"],
        )
        now_s = self._now()
        for zone, value in sorted(self._values.items()):
            intensity.add_metric([zone, value.quality], value.g_per_kwh)
            age.add_metric([zone], value.age_s(now_s))
        return (intensity, age)
