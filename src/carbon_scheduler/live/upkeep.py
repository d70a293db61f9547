"""What watches over the shell: readiness, and metrics that are kept elsewhere as plain counters."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from carbon_scheduler.core.carbon import CarbonValue
    from carbon_scheduler.core.model import GridZone
    from carbon_scheduler.core.scheduler import Scheduler
    from carbon_scheduler.kube.clock import Clock
    from carbon_scheduler.kube.recorder import EventRecorder
    from carbon_scheduler.kube.watch import Reflector
    from carbon_scheduler.observe.metrics import Metrics

EVERY_S: Final = 1.0
DEAF_AFTER_S: Final = 60.0
"""A watch that has been failing for so long makes /readyz fail."""


class Upkeep:
    """Reads the parts once a second; costs some 20 µs each time, and as much again for each thousand pods that wait."""

    def __init__(
        self,
        metrics: Metrics,
        core: Scheduler,
        reflectors: Iterable[Reflector[Any, Any]],
        recorder: EventRecorder,
        clock: Clock,
        leads: Callable[[], bool],
    ) -> None:
        self._metrics = metrics
        self._core = core
        self._reflectors = tuple(reflectors)
        self._recorder = recorder
        self._clock = clock
        self._leads = leads
        self._counted: dict[str, tuple[int, int, int]] = {}
        self._dropped = 0
        self._deaf_since_s: float | None = None

    def ready_checks(self) -> dict[str, Callable[[], str | None]]:
        """Whether this process is fit to lead, or leads well; not whether it leads."""
        return {"caches": self._caches_problem, "carbon": self._carbon_problem}

    async def run(self) -> None:
        while True:
            await self._clock.sleep(EVERY_S)
            self._count()

    def _count(self) -> None:
        metrics = self._metrics
        metrics.pending(self._core.counts())
        metrics.leader.set(int(self._leads()))
        metrics.overcommitted_nodes.set(self._core.overcommitted_nodes)
        for reflector in self._reflectors:
            kind = reflector.resource.kind
            now = (reflector.resumes, reflector.relists, reflector.unreadable)
            was = self._counted.get(kind, (0, 0, 0))
            counters = (metrics.watch_restarts, metrics.relists, metrics.invalid_objects)
            for counter, before, after in zip(counters, was, now, strict=True):
                counter.labels(kind).inc(after - before)
            self._counted[kind] = now
        metrics.events_dropped.inc(self._recorder.dropped - self._dropped)
        self._dropped = self._recorder.dropped
        if not any(reflector.problem for reflector in self._reflectors):
            self._deaf_since_s = None
        elif self._deaf_since_s is None:
            self._deaf_since_s = self._clock.monotonic()

    def _caches_problem(self) -> str | None:
        for reflector in self._reflectors:
            if not reflector.synced.is_set():
                return f"the first list of {reflector.resource.kind} is not complete"
        if self._deaf_since_s is not None and self._clock.monotonic() - self._deaf_since_s > DEAF_AFTER_S:
            return "a watch has been failing for over a minute; the log says why"
        return None

    def _carbon_problem(self) -> str | None:
        if self._leads() and any(not self._core.carbon.answered(zone) for zone in self._core.grid_zones_in_use):
            return "the source of carbon data has neither answered nor failed yet"
        return None


class CarbonWatcher:
    """What the carbon poller reports, as metrics."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics

    def fetched(self, outcome: str) -> None:
        self._metrics.provider_fetches.labels(outcome).inc()

    def rejected(self, reason: str) -> None:
        self._metrics.provider_rejected_values.labels(reason).inc()

    def budget_left(self, requests: int) -> None:
        self._metrics.provider_budget_left.set(requests)

    def intensity(self, grid_zone: GridZone, value: CarbonValue | None) -> None:
        self._metrics.intensity(grid_zone, value)
