"""The live shell: what the cluster and the grid say goes into the core, what the core wants is done.

One thread, one loop. Reflectors and the carbon poller feed events as they arrive; one task lets the core decide, for at most
about 10 ms at a time; workers carry the Bindings out and bring their answers back as events. Nothing here decides anything.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import signal
from typing import TYPE_CHECKING, Final

import uvloop

from carbon_scheduler.core import decision as effects
from carbon_scheduler.core import events, wire
from carbon_scheduler.core.decision import Bind, Effect
from carbon_scheduler.core.grid import UnknownGridZone
from carbon_scheduler.core.model import NodeName, PodUid
from carbon_scheduler.core.scheduler import Scheduler
from carbon_scheduler.errors import ApiStatusError, ApiUnreachable, CarbonSchedulerError, ConfigError
from carbon_scheduler.kube import watch
from carbon_scheduler.kube.access import access
from carbon_scheduler.kube.client import ApiClient
from carbon_scheduler.kube.clock import Backoff, SystemClock
from carbon_scheduler.kube.convert import Converter
from carbon_scheduler.kube.lease import Election
from carbon_scheduler.kube.recorder import EventRecorder
from carbon_scheduler.kube.writes import Writer
from carbon_scheduler.observe import log
from carbon_scheduler.observe.health import HealthServer
from carbon_scheduler.observe.metrics import Metrics
from carbon_scheduler.providers.poller import CarbonPoller
from carbon_scheduler.providers.tables import grid_zones

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Mapping, Sequence
    from pathlib import Path
    from typing import Any, BinaryIO

    from carbon_scheduler.config import Config
    from carbon_scheduler.core.carbon import CarbonValue
    from carbon_scheduler.core.model import GridZone, Namespace, Node, Pod
    from carbon_scheduler.kube.access import Access
    from carbon_scheduler.kube.watch import Change, Reflector
    from carbon_scheduler.observe.log import Narrator

ATTEMPTS_AT_ONCE: Final = 16
SLICE_S: Final = 0.01
"""How long the core may hold the loop before watches and leases get their turn."""
EVENT_QUEUE: Final = 20_000
HOUSEKEEPING_S: Final = 1.0
DRAIN_S: Final = 5.0
"""How long a clean end waits for Bindings under way, and then for events."""
DEAF_AFTER_S: Final = 60.0
"""A watch that reported a problem for so long makes /readyz fail."""


def run(config: Config, *, kubeconfig: Path | None, environ: Mapping[str, str], record: Path | None = None) -> int:
    """Schedules until SIGTERM or SIGINT (returns 0). Raises ConfigError, ClusterError, LeaseLost.

    `record` is a file that gets the trace (`core/wire.py`): it grows by every event of the cluster, about 1 KB a pod.
    """
    narrator, _ = log.start(config.log_format, config.log_level)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.get_loop().set_exception_handler(narrator.loop_exception)
        return runner.run(_until_told(config, access(kubeconfig, environ), environ, narrator, record))


async def _until_told(
    config: Config, where: Access, environ: Mapping[str, str], narrator: Narrator, record: Path | None
) -> int:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    client = ApiClient(where, timeout_s=config.api.timeout_s, connections=2 * config.api.bind_concurrency)
    try:
        with contextlib.ExitStack() as files:
            trace = files.enter_context(_writable(record)) if record else None
            await Shell(config, client, environ, narrator, trace).run(stop)
    finally:
        await client.close()
    return 0


class Shell:
    """One running scheduler over one API server."""

    def __init__(
        self,
        config: Config,
        client: ApiClient,
        environ: Mapping[str, str],
        narrator: Narrator,
        trace: BinaryIO | None = None,
    ) -> None:
        self._config = config
        self._client = client
        self._narrator = narrator
        self._clock = SystemClock()
        self.metrics = Metrics(config.scheduler_name)
        self._trace = trace
        settings = config.settings(self._default_zone())
        self.core = Scheduler(settings, grid_zones())
        self._record(wire.Began(settings))
        self._poller = CarbonPoller.of(
            config, environ, publish=self._carbon, narrator=narrator, watcher=_Watcher(self.metrics)
        )
        converter = Converter()
        self._election = self._candidacy()
        # Before each write the lease's end is looked at: a process that woke up after it must not write once more.
        writing = client.guarded(self._election.check) if self._election else client
        self._writer = Writer(writing, converter)
        self._recorder = EventRecorder(writing, queue=EVENT_QUEUE)
        page = config.api.page_size
        self._pods = watch.Reflector(client, watch.pods(converter), self._sink(self._pod), page_size=page)
        self._nodes = watch.Reflector(client, watch.nodes(converter), self._sink(self._node), page_size=page)
        self._namespaces = watch.Reflector(
            client, watch.namespaces(converter), self._sink(self._namespace), page_size=page
        )
        self._binds: asyncio.Queue[tuple[Bind, float]] = asyncio.Queue()
        self._chores: asyncio.Queue[Coroutine[Any, Any, None]] = asyncio.Queue()
        self._wake = asyncio.Event()
        self._leading = False
        self._zones_in_use: tuple[GridZone, ...] = ()
        self._counted: dict[str, tuple[int, int, int]] = {}
        self._dropped = 0
        self._attempt_s = 0.0
        self._deaf_since_s: float | None = None

    # -- life ----------------------------------------------------------------------------------------------------

    async def run(self, stop: asyncio.Event) -> None:
        """Until `stop` is set; then Bindings and events under way are finished. Raises what ends any of its parts."""
        health = HealthServer(self.metrics, live={}, ready=self._ready_checks())
        serve = self._config.serve
        if (port := await health.start(serve.address, serve.port)) is not None and port != serve.port:
            self._narrator.info(f"Serving /livez, /readyz and /metrics on http://{_in_url(serve.address)}:{port}")
        self._recorder.start()
        parts = [
            self._connect_and_follow(),
            self._decide_for_ever(),
            self._keep_house(),
            *(self._bind_for_ever() for _ in range(self._config.api.bind_concurrency)),
            *(self._do_chores() for _ in range(self._config.api.bind_concurrency)),
        ]
        tasks = [asyncio.ensure_future(part) for part in parts]
        told = asyncio.ensure_future(stop.wait())
        try:
            await asyncio.wait({told, *tasks}, return_when=asyncio.FIRST_COMPLETED)
            for task in tasks:
                if task.done():
                    task.result()  # raises why it ended
            await self._drain()
        finally:
            told.cancel()
            await _end(tasks)
            while not self._chores.empty():
                self._chores.get_nowait().close()
            await health.close()

    async def _connect_and_follow(self) -> None:
        await self._connect()
        reflectors = (self._pods, self._nodes, self._namespaces)
        try:
            async with asyncio.TaskGroup() as group:
                for reflector in reflectors:
                    group.create_task(reflector.run())
                waited = False
                if self._election is not None:
                    waited = await self._acquire(self._election)
                    group.create_task(self._election.run())
                for reflector in reflectors:
                    await reflector.synced.wait()
                if waited:  # another led until now: what it wrote last must be known before we decide
                    await asyncio.gather(*(reflector.relist() for reflector in reflectors))
                self._lead()
                await self._poller.run()
        except BaseExceptionGroup as ended:
            known = [error for error in ended.exceptions if isinstance(error, CarbonSchedulerError)]
            raise known[0] if known else ended  # noqa: B904  # the group adds nothing to the one that ended it

    async def _connect(self) -> None:
        """Waits for the API server; says why it has to, once. Raises when the server is there and refuses us."""
        backoff = Backoff(self._client.chance, base_s=0.25, cap_s=5.0)
        server = self._client.access.server
        while True:
            try:
                await self._client.request("GET", "/version")
                break
            except ApiUnreachable as error:
                self._narrator.problem("api server", f"{error}; trying on until it answers")
            except ApiStatusError as error:
                if error.code in (401, 403):
                    raise
                self._narrator.problem("api server", f"{error}; trying on")
            await self._clock.sleep(backoff.next_s())
        self._narrator.recovered("api server", f"The API server answers again: {server}")
        self._narrator.connected(server)

    async def _acquire(self, election: Election) -> bool:
        """Returns when we lead: whether we had to wait for another."""
        winning = asyncio.ensure_future(election.acquire())
        waited = False
        try:
            while not (await asyncio.wait({winning}, timeout=HOUSEKEEPING_S))[0]:
                if election.leader not in ("", election.identity) and not waited:
                    waited = True
                    self._narrator.info(f"Waiting for the lease: {election.leader} leads")
            await winning
        finally:
            winning.cancel()
        return waited

    def _lead(self) -> None:
        gc.collect()
        gc.freeze()  # what was listed first lives long: full collections need not look at it again
        self._leading = True
        self._apply(events.Synced(*self._now()))
        self._wake.set()

    async def _drain(self) -> None:
        """A clean end: no new decisions, but what was begun is finished."""
        self._leading = False
        await _within(DRAIN_S, self._binds.join())
        await _within(DRAIN_S, self._chores.join())
        await self._recorder.close(DRAIN_S)
        if self._election is not None:
            await self._election.release()

    def _apply(self, event: events.Event) -> None:
        self._record(event)
        self.core.apply(event)

    def _record(self, line: wire.Line) -> None:
        if self._trace:
            self._trace.write(wire.encode(line))

    # -- in ------------------------------------------------------------------------------------------------------

    def _now(self) -> tuple[float, float]:
        return self._clock.monotonic(), self._clock.wall()

    def _sink(self, event: Callable[[Any, float, float], events.Event]) -> Callable[[list[Change[Any]]], None]:
        def take(changes: list[Change[Any]]) -> None:
            at, wall = self._now()
            for change in changes:
                self._apply(event(change, at, wall))
            self._wake.set()

        return take

    @staticmethod
    def _pod(change: Change[Pod], at: float, wall: float) -> events.Event:
        if isinstance(change, watch.Changed):
            return events.PodChanged(at, wall, change.obj)
        return events.PodGone(at, wall, PodUid(change.uid))

    @staticmethod
    def _node(change: Change[Node], at: float, wall: float) -> events.Event:
        if isinstance(change, watch.Changed):
            return events.NodeChanged(at, wall, change.obj)
        return events.NodeGone(at, wall, NodeName(change.name))

    @staticmethod
    def _namespace(change: Change[Namespace], at: float, wall: float) -> events.Event:
        if isinstance(change, watch.Changed):
            return events.NamespaceChanged(at, wall, change.obj)
        return events.NamespaceGone(at, wall, change.name)

    def _carbon(self, grid_zone: GridZone, value: CarbonValue | None) -> None:
        self._apply(events.CarbonChanged(*self._now(), grid_zone, value))
        self._wake.set()

    # -- decide --------------------------------------------------------------------------------------------------

    async def _decide_for_ever(self) -> None:
        while True:
            await self._next_turn()
            while self._leading and self._decide():  # noqa: ASYNC110  # nothing is polled: the others get their turn
                await asyncio.sleep(0)

    async def _next_turn(self) -> None:
        """Waits for an event or for the core's next timer."""
        due = self.core.next_at() if self._leading else None
        wait_s = None if due is None else max(due - self._clock.monotonic(), 0.0)
        if wait_s == 0.0 and (self._busy() or self._deaf()):
            wait_s = 0.25  # a Binding that ends, or a watch that is heard again, wakes us earlier
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(wait_s):
                await self._wake.wait()
        self._wake.clear()

    def _decide(self) -> bool:
        """Lets the core decide for one slice of time. Whether it has more to decide."""
        started = self._clock.monotonic()
        self._apply(events.Tick(*self._now()))
        while not (self._busy() or self._deaf()):
            at = self._clock.monotonic()
            todo = self.core.decide(at, ATTEMPTS_AT_ONCE)
            self._attempt_s = (self._clock.monotonic() - at) / max(len(todo), 1)
            if self._trace:
                self._record(wire.Decided(at, ATTEMPTS_AT_ONCE, tuple(todo)))
            for effect in todo:
                self._carry_out(effect)
            if not todo:
                return False
            if self._clock.monotonic() - started > SLICE_S:
                return True
        return False

    def _busy(self) -> bool:
        """Enough Bindings are waiting: deciding further ahead would use older data and pass by higher priorities."""
        return self._binds.qsize() >= 4 * self._config.api.bind_concurrency

    def _deaf(self) -> bool:
        """A watch has failed and is not back: what others bound meanwhile is not known."""
        return bool(self._pods.problem or self._nodes.problem)

    def _carry_out(self, effect: Effect) -> None:
        match effect:
            case effects.PodDetected():
                self._narrator.detected(effect)
            case effects.Bind():
                self._narrator.selected(effect)
                self._binds.put_nowait((effect, self._clock.monotonic()))
            case effects.ReadPod():
                self._chores.put_nowait(self._read(effect))
            case effects.Unschedulable():
                self._narrator.unschedulable(effect)
                self.metrics.attempt("unschedulable" if effect.reason == "Unschedulable" else "error", self._attempt_s)
                self._recorder.failed_scheduling(effect)
                if effect.patch:
                    self._chores.put_nowait(self._condition(effect))
            case effects.PodWarning():
                self._recorder.warning(effect)
            case effects.ZonesInUse(grid_zones=zones):
                self._zones_in_use = zones
                self._poller.use(zones)
            case effects.ZoneNotKnown():
                self._narrator.zone_not_known(effect)

    # -- out -----------------------------------------------------------------------------------------------------

    async def _bind_for_ever(self) -> None:
        while True:
            effect, decided_s = await self._binds.get()
            try:
                answer = await self._writer.bind(effect)
                at, wall = self._now()
                self.metrics.bind(answer.outcome)
                match answer.outcome:
                    case "bound":
                        self._narrator.recovered("binding", "Bindings reach the API server again")
                        self._narrator.scheduled(effect)
                        self._recorder.scheduled(effect)
                        self.metrics.attempt("scheduled", at - decided_s)
                        self.metrics.scheduled(effect.attempts, effect.waited_s + at - decided_s)
                    case "refused" if answer.code == 0:
                        self._narrator.problem("binding", f"{answer.message}; the pods concerned are decided again")
                    case "refused":
                        self._narrator.refused(effect, answer.code, answer.message)
                    case "unknown":
                        self._narrator.unknown(effect)
                self._apply(answer.event(effect, at, wall))
                self._wake.set()
            finally:
                self._binds.task_done()

    async def _do_chores(self) -> None:
        while True:
            chore = await self._chores.get()
            try:
                await chore
            finally:
                self._chores.task_done()

    async def _read(self, effect: effects.ReadPod) -> None:
        pod = await self._writer.read_pod(effect.namespace, effect.name, effect.uid)
        self._apply(events.PodRead(*self._now(), effect.uid, effect.seq, pod))
        self._wake.set()

    async def _condition(self, effect: effects.Unschedulable) -> None:
        await self._writer.condition(effect)

    # -- watched over ----------------------------------------------------------------------------------------------

    def _ready_checks(self) -> dict[str, Callable[[], str | None]]:
        return {"caches": self._caches_problem, "carbon": self._carbon_problem}

    def _caches_problem(self) -> str | None:
        for reflector in self._reflectors():
            if not reflector.synced.is_set():
                return f"the first list of {reflector.resource.kind} is not complete"
        if self._deaf_since_s is not None and self._clock.monotonic() - self._deaf_since_s > DEAF_AFTER_S:
            return "a watch has been failing for over a minute; the log says why"
        return None

    def _carbon_problem(self) -> str | None:
        if self._leading and any(not self.core.carbon.answered(zone) for zone in self._zones_in_use):
            return "the source of carbon data has neither answered nor failed yet"
        return None

    def _reflectors(self) -> tuple[Reflector[Any, Any], ...]:
        return self._pods, self._nodes, self._namespaces

    async def _keep_house(self) -> None:
        """What changes slowly: gauges, and counters that live in the parts."""
        while True:
            await self._clock.sleep(HOUSEKEEPING_S)
            self.metrics.pending(self.core.counts())
            self.metrics.leader.set(int(self._leading and (self._election is None or self._election.leads)))
            for reflector in self._reflectors():
                kind = reflector.resource.kind
                was = self._counted.get(kind, (0, 0, 0))
                now = (reflector.resumes, reflector.relists, reflector.unreadable)
                counters = (self.metrics.watch_restarts, self.metrics.relists, self.metrics.invalid_objects)
                for counter, before, after in zip(counters, was, now, strict=True):
                    counter.labels(kind).inc(after - before)
                self._counted[kind] = now
            self.metrics.events_dropped.inc(self._recorder.dropped - self._dropped)
            self._dropped = self._recorder.dropped
            if not self._deaf():
                self._deaf_since_s = None
            elif self._deaf_since_s is None:
                self._deaf_since_s = self._clock.monotonic()

    # -- made of the configuration ---------------------------------------------------------------------------------

    def _default_zone(self) -> GridZone | None:
        text = self._config.carbon.default_zone
        if not text:
            return None
        found = grid_zones().resolve(text)
        if not isinstance(found, UnknownGridZone):
            return found
        near = f" Did you mean {' or '.join(map(repr, found.nearest))}?" if found.nearest else ""
        self._narrator.problem(
            "default zone",
            f"DEFAULT_CARBON_ZONE: {self._narrator.foreign(text)!r} is not a grid zone, so nodes without a zone of their own "
            f"have no carbon intensity.{near} `carbon-intensity --type zones` lists them",
        )
        return None

    def _candidacy(self) -> Election | None:
        wanted = self._config.leader_election
        where = self._client.access
        if wanted.enabled == "off" or (wanted.enabled == "auto" and not where.in_cluster):
            return None
        return Election(
            self._client,
            wanted.namespace or (where.namespace if where.in_cluster else "kube-system"),
            wanted.lease_name,
            lease_duration_s=wanted.lease_duration_s,
            renew_deadline_s=wanted.renew_deadline_s,
            retry_period_s=wanted.retry_period_s,
        )


class _Watcher:
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


def _writable(record: Path) -> BinaryIO:
    try:
        return record.open("wb")
    except OSError as error:
        raise ConfigError(
            f"--record: {record} cannot be written: {error.strerror}; give a file in a folder that is there"
        ) from error


def _in_url(address: str) -> str:
    return f"[{address}]" if ":" in address else address


async def _within(limit_s: float, waiting: Coroutine[Any, Any, object]) -> None:
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(limit_s):
            await waiting


async def _end(tasks: Sequence[asyncio.Future[None]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
