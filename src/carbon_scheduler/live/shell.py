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
from carbon_scheduler.core.grid import UnknownGridZone
from carbon_scheduler.core.scheduler import Scheduler
from carbon_scheduler.errors import ApiStatusError, ApiUnreachable, CarbonSchedulerError, ConfigError
from carbon_scheduler.kube.access import access
from carbon_scheduler.kube.client import ApiClient
from carbon_scheduler.kube.clock import Backoff, SystemClock
from carbon_scheduler.kube.convert import Converter
from carbon_scheduler.kube.fence import Fence
from carbon_scheduler.kube.kinds import needs
from carbon_scheduler.kube.lease import Election
from carbon_scheduler.kube.recorder import EventRecorder
from carbon_scheduler.kube.writes import Writer
from carbon_scheduler.live.follow import MOST_STREAMS, Following
from carbon_scheduler.live.hands import Hands
from carbon_scheduler.live.upkeep import CarbonWatcher, Upkeep
from carbon_scheduler.observe import log
from carbon_scheduler.observe.health import HealthServer
from carbon_scheduler.observe.metrics import Metrics
from carbon_scheduler.providers.poller import CarbonPoller
from carbon_scheduler.providers.tables import grid_zones

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path
    from typing import BinaryIO

    from carbon_scheduler.config import Config
    from carbon_scheduler.core.carbon import CarbonValue
    from carbon_scheduler.core.decision import Effect
    from carbon_scheduler.core.model import GridZone
    from carbon_scheduler.kube.endpoint import Access
    from carbon_scheduler.observe.log import Narrator
    from carbon_scheduler.observe.metrics import Attempt

ATTEMPTS_AT_ONCE: Final = 16
SLICE_S: Final = 0.01
"""How long the core may hold the loop before watches and leases get their turn."""
EVENT_QUEUE: Final = 20_000
AT_ONCE_S: Final = 1.0
"""A lease that is free is ours within this; if it takes longer, another leads and we wait with warm caches."""


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
    connections = 2 * config.api.bind_concurrency + MOST_STREAMS
    client = ApiClient(where, timeout_s=config.api.timeout_s, connections=connections)
    try:
        with contextlib.ExitStack() as files:
            trace = files.enter_context(_writable(record)) if record else None
            await Shell(config, client, environ, narrator, trace, Fence()).run(stop)
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
        fence: Fence | None = None,
    ) -> None:
        self._config = config
        self._client = client
        self._narrator = narrator
        self._clock = SystemClock()
        self.metrics = Metrics(config.scheduler_names)
        self._trace = trace
        settings = config.settings(self._default_zone())
        self.core = Scheduler(settings, grid_zones())
        self._record(wire.Began(settings))
        self._poller = CarbonPoller.of(
            config, environ, publish=self._carbon, narrator=narrator, watcher=CarbonWatcher(self.metrics)
        )
        self._election = self._candidacy(fence)
        # Before each write the lease's end is looked at: a process that woke up after it must not write once more.
        writing = client.guarded(self._election.check) if self._election else client
        converter = Converter()
        recorder = EventRecorder(writing, queue=EVENT_QUEUE)
        self._hands = Hands(
            Writer(writing, converter),
            recorder,
            narrator,
            self.metrics,
            self._clock,
            self._hear,
            config.api.bind_concurrency,
        )
        self._following = Following(
            client,
            converter,
            needs(settings.profiles, preemption=settings.preemption),
            self._take,
            self._now,
            page_size=config.api.page_size,
        )
        self._upkeep = Upkeep(self.metrics, self.core, self._following.reflectors, recorder, self._clock, self._leads)
        self._wake = asyncio.Event()
        self._leading = False
        self._attempt_s = 0.0

    # -- life ----------------------------------------------------------------------------------------------------

    async def run(self, stop: asyncio.Event) -> None:
        """Until `stop` is set; then Bindings and events under way are finished. Raises what ends any of its parts."""
        health = HealthServer(self.metrics, live={}, ready=self._upkeep.ready_checks())
        serve = self._config.serve
        if (port := await health.start(serve.address, serve.port)) is not None and port != serve.port:
            self._narrator.info(f"Serving /livez, /readyz and /metrics on http://{_in_url(serve.address)}:{port}")
        parts = [self._connect_and_follow(), self._decide_for_ever(), self._upkeep.run(), *self._hands.workers()]
        tasks = [asyncio.ensure_future(part) for part in parts]
        told = asyncio.ensure_future(stop.wait())
        try:
            await asyncio.wait({told, *tasks}, return_when=asyncio.FIRST_COMPLETED)
            for task in tasks:
                if task.done():
                    task.result()  # raises why it ended
            self._leading = False  # no new decisions; what was begun is finished
            drained = await self._hands.drain()
            if self._election is not None and drained:
                # Else the lease is left to run out: a Binding that lands late must not meet the next leader's.
                await self._election.release()
        finally:
            told.cancel()
            await _end(tasks)
            self._hands.drop()
            await health.close()

    async def _connect_and_follow(self) -> None:
        await self._connect()
        try:
            async with asyncio.TaskGroup() as group:
                await self._follow(group)
                self._lead()
                await self._poller.run()
        except BaseExceptionGroup as ended:
            known = [error for error in ended.exceptions if isinstance(error, CarbonSchedulerError)]
            raise known[0] if known else ended  # noqa: B904  # the group adds nothing to the one that ended it

    async def _follow(self, group: asyncio.TaskGroup) -> None:
        """Returns when we lead and know all that was written before we did."""
        winning = group.create_task(self._election.acquire()) if self._election else None
        at_once = winning is None or bool((await asyncio.wait({winning}, timeout=AT_ONCE_S))[0])
        self._following.run(group)
        if winning is not None and self._election is not None:
            if not at_once:
                self._narrator.info(f"Waiting for the lease; {self._election.leader or 'nobody'} leads")
            await winning
            group.create_task(self._election.run())
        await self._following.synced()
        if not at_once:  # listed while another led: what it wrote last must be known before we decide
            await self._following.relist()

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

    def _lead(self) -> None:
        gc.collect()
        gc.freeze()  # what was listed first lives long: full collections need not look at it again
        self._leading = True
        self._apply(events.Synced(*self._now()))
        self._wake.set()

    def _apply(self, event: events.Event) -> None:
        self._record(event)
        self.core.apply(event)

    def _record(self, line: wire.Line) -> None:
        if self._trace:
            self._trace.write(wire.encode(line))

    # -- in ------------------------------------------------------------------------------------------------------

    def _now(self) -> tuple[float, float]:
        return self._clock.monotonic(), self._clock.wall()

    def _take(self, found: Iterable[events.Event]) -> None:
        for event in found:
            self._apply(event)
        self._wake.set()

    def _hear(self, event: events.Event) -> None:
        self._apply(event)
        self._wake.set()

    def _carbon(self, grid_zone: GridZone, value: CarbonValue | None) -> None:
        self._hear(events.CarbonChanged(*self._now(), grid_zone, value))

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
        if wait_s == 0.0 and (self._hands.busy or self._following.deaf):
            wait_s = 0.25  # a Binding that ends, or a watch that is heard again, wakes us earlier
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(wait_s):
                await self._wake.wait()
        self._wake.clear()

    def _decide(self) -> bool:
        """Lets the core decide for one slice of time. Whether it has more to decide."""
        started = self._clock.monotonic()
        self._apply(events.Tick(*self._now()))
        while not (self._hands.busy or self._following.deaf):
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

    def _carry_out(self, effect: Effect) -> None:
        match effect:
            case effects.PodDetected():
                self._narrator.detected(effect)
            case effects.Bind():
                self._narrator.selected(effect)
                self._hands.bind(effect)
            case effects.BindVolumes():
                self._hands.bind_volumes(effect)
            case effects.ReadPod():
                self._hands.read(effect)
            case effects.Unschedulable():
                self._narrator.unschedulable(effect)
                result: Attempt = "unschedulable" if effect.reason == "Unschedulable" else "error"
                self.metrics.attempt(result, self._attempt_s, effect.scheduler_name)
                if effect.victims is not None:
                    self.metrics.preemption(effect.victims)
                self._hands.unschedulable(effect)
            case effects.Evict():
                self._hands.evict(effect)
            case effects.Nominate():
                self._hands.nominate(effect)
            case effects.PodWarning():
                self._hands.warn(effect)
            case effects.ZonesInUse(grid_zones=zones):
                self._poller.use(zones)
            case effects.ZoneNotKnown():
                self._narrator.zone_not_known(effect)
            case effects.Overcommitted():
                self._narrator.overcommitted(effect)
                self._hands.overcommitted(effect)

    def _leads(self) -> bool:
        return self._leading and (self._election is None or self._election.leads)

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

    def _candidacy(self, fence: Fence | None) -> Election | None:
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
            fence=fence,
        )


def _writable(record: Path) -> BinaryIO:
    try:
        return record.open("wb")
    except OSError as error:
        raise ConfigError(
            f"--record: {record} cannot be written: {error.strerror}; give a file in a folder that is there"
        ) from error


def _in_url(address: str) -> str:
    return f"[{address}]" if ":" in address else address


async def _end(tasks: Sequence[asyncio.Future[None]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
