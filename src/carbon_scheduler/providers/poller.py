"""Keeps the carbon values of the zones in use current: asks the source, feeds the ladder, publishes what it answers.

The loop wakes when something is due, starts requests as tasks of their own, and never waits for any of them: a zone whose
source takes 30 seconds holds up nobody. Everything about "when" is in `schedule.py` and `guard.py`.
"""

from __future__ import annotations

import asyncio
import logging
import math
import random
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Protocol

from carbon_scheduler.errors import (
    BudgetSpent,
    ConfigError,
    KeyRejected,
    MalformedBody,
    NoRecentData,
    NotInPlan,
    ProviderError,
    RateLimited,
    RejectedValue,
    UnknownZone,
)
from carbon_scheduler.providers import schedule
from carbon_scheduler.providers.clock import Chance, Clock, SystemClock
from carbon_scheduler.providers.electricity_maps import ElectricityMaps, Options
from carbon_scheduler.providers.electricity_maps_body import SIGNALS
from carbon_scheduler.providers.guard import Guard
from carbon_scheduler.providers.key import KeySource
from carbon_scheduler.providers.ladder import Ladder
from carbon_scheduler.providers.tables import grid_zones
from carbon_scheduler.units import S_PER_HOUR

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from carbon_scheduler.config import Config
    from carbon_scheduler.core.carbon import CarbonValue
    from carbon_scheduler.core.model import GridZone
    from carbon_scheduler.observe.log import Narrator
    from carbon_scheduler.providers.source import Provider, Series

MAX_WAIT_S: Final = 10.0
"""The loop looks up at least this often: for a key that was set, a clock that was moved, a machine that slept."""
MAX_ZONES: Final = 512
"""More than exist. A bound, because zones come from labels."""
GOES_ON: Final = "scheduling goes on with older or average values, and it is asked again by itself"
_OF_ALL: Final = (KeyRejected, RateLimited, BudgetSpent)
"""Problems of the source as a whole: said once, whichever zone met them first."""
_OF_ZONE: Final = (NotInPlan, UnknownZone, NoRecentData, MalformedBody)


class Watcher(Protocol):
    """Is told what happens, for metrics. Every call must return at once."""

    def fetched(self, outcome: str) -> None:
        """A request ended: "ok" or the `label` of a ProviderError."""

    def rejected(self, reason: str) -> None:
        """A value was not believed."""

    def budget_left(self, requests: int) -> None: ...

    def intensity(self, grid_zone: GridZone, value: CarbonValue | None) -> None:
        """The value in use for a zone; None: none, or the zone is no longer in use."""


class _Nobody:
    def fetched(self, outcome: str) -> None: ...

    def rejected(self, reason: str) -> None: ...

    def budget_left(self, requests: int) -> None: ...

    def intensity(self, grid_zone: GridZone, value: CarbonValue | None) -> None: ...


@dataclass
class _Zone:
    """One zone in use. `due_s` is Unix time, `since_s` and `asked_s` (the last request) monotonic; `published` is a tuple, so
    that a published None differs from nothing published."""

    due_s: float
    since_s: float
    asked_s: float = -math.inf
    flight: asyncio.Task[None] | None = None
    published: tuple[CarbonValue | None] | None = None
    answered: bool = False
    only_latest: bool = False
    """The plan has `latest` of this zone and no `history`."""


class CarbonPoller:
    """Publishes each zone's value: first as soon as its source has answered or failed, after `first_wait_s` at the latest, then
    whenever the ladder's answer changes.

    `publish` is called on the loop's thread and must return at once.

        poller = CarbonPoller.of(config, os.environ, publish=on_value, narrator=narrator, watcher=metrics)
        poller.use(zones)      # at any time, again and again
        await poller.run()     # until cancelled; closes the connection
    """

    def __init__(
        self,
        provider: Provider,
        ladder: Ladder,
        publish: Callable[[GridZone, CarbonValue | None], None],
        *,
        narrator: Narrator,
        requests_per_hour: int,
        first_wait_s: float = 4.5,
        watcher: Watcher | None = None,
        clock: Clock | None = None,
        chance: Chance | None = None,
    ) -> None:
        self._ladder = ladder
        self._publish = publish
        self._narrator = narrator
        self._watcher: Watcher = watcher or _Nobody()
        self._clock: Clock = clock or SystemClock()
        self._guard = Guard(
            provider,
            requests_per_hour=requests_per_hour,
            clock=self._clock,
            chance=chance or random.SystemRandom(),
            on_outcome=self._watcher.fetched,
        )
        self._first_wait_s = first_wait_s
        self._zones: dict[GridZone, _Zone] = {}
        self._resting: dict[GridZone, _Zone] = {}
        self._known = grid_zones()
        self._wake = asyncio.Event()
        self._troubled: dict[str, set[GridZone]] = {}
        self._unusable: str | None = None
        self._credential = provider.credential_version()

    @classmethod
    def of(
        cls,
        config: Config,
        environ: Mapping[str, str],
        *,
        publish: Callable[[GridZone, CarbonValue | None], None],
        narrator: Narrator,
        watcher: Watcher | None = None,
        clock: Clock | None = None,
    ) -> CarbonPoller:
        """The poller of a configuration, with Electricity Maps. Raises ConfigError (address, proxy, CA file, key)."""
        source = config.electricity_maps
        clock = clock or SystemClock()
        key = KeySource.from_environ(environ, source.api_key_file, on_key=narrator.redact.add)
        ladder = Ladder(
            grid_zones(),
            signal=SIGNALS[source.emission_factor_type],
            max_stale_s=config.carbon.max_stale_s,
            default_g_per_kwh=config.carbon.default_g_per_kwh,
        )
        provider = ElectricityMaps(key, Options.of(source), clock, environ)
        if provider.exposed:
            narrator.warning(
                f"{source.url} is not https: the key and the values travel readable and can be changed on the way"
            )
        return cls(
            provider,
            ladder,
            publish,
            narrator=narrator,
            requests_per_hour=source.requests_per_hour,
            first_wait_s=max(0.0, config.carbon.first_data_wait_s - 0.5),
            watcher=watcher,
            clock=clock,
        )

    def use(self, zones: Iterable[GridZone]) -> None:
        """The zones that need values from now on. What is no grid zone is never asked for: None is published for it.

        From the loop's thread. May be called before `run`. A zone that leaves is told to the watcher, not to `publish`.
        """
        wanted = dict.fromkeys(sorted(zones)[:MAX_ZONES])
        for zone in [zone for zone in self._zones if zone not in wanted]:
            gone = self._zones.pop(zone)
            if gone.flight is not None:
                gone.flight.cancel()
            if zone in self._known:  # a zone that comes and goes must not cost a request each time
                self._resting[zone] = _Zone(gone.due_s, gone.since_s, gone.asked_s, answered=gone.answered)
            for name, troubled in list(self._troubled.items()):
                troubled.discard(zone)
                if not troubled:  # nobody has it any more, but nothing has recovered either
                    del self._troubled[name]
            self._watcher.intensity(zone, None)
        for zone in wanted:
            if zone not in self._zones:
                fresh = _Zone(self._clock.wall(), self._clock.monotonic())
                self._zones[zone] = self._resting.pop(zone, fresh)
        self._wake.set()

    async def run(self) -> None:
        """Works until cancelled."""
        self._narrator.client_ready(self._guard.name)
        try:
            while True:
                self._wake.clear()
                wait_s = self._step()
                await self._sleep(wait_s)
        finally:
            flights = [zone.flight for zone in self._zones.values() if zone.flight is not None]
            for flight in flights:
                flight.cancel()
            await asyncio.gather(*flights, return_exceptions=True)
            await self._guard.close()

    def _step(self) -> float:
        """Starts what is due and publishes what has changed; the seconds until there is something to do again. O(zones)."""
        now_s = self._clock.wall()
        self._look_at_key(now_s)
        next_s = now_s - now_s % S_PER_HOUR + S_PER_HOUR
        # Those asked longest ago first: when the budget is short every zone has its turn.
        for grid_zone, zone in sorted(self._zones.items(), key=lambda entry: entry[1].asked_s):
            if self._unusable is not None or grid_zone not in self._known:
                zone.answered = True
            elif zone.flight is None:
                # A due time more than two hours ahead is left over from before the clock was set back.
                if zone.due_s <= now_s or zone.due_s > now_s + 2 * S_PER_HOUR:
                    next_s = min(next_s, now_s + self._start(grid_zone, zone))
                else:
                    next_s = min(next_s, zone.due_s)
            if not zone.answered:
                left_s = zone.since_s + self._first_wait_s - self._clock.monotonic()
                zone.answered = left_s <= 0
                next_s = min(next_s, now_s + max(left_s, 0.0))
            if zone.answered:
                self._show(grid_zone, zone, now_s)
        self._watcher.budget_left(self._guard.left())
        return min(max(next_s - now_s, 0.05), MAX_WAIT_S)

    def _start(self, grid_zone: GridZone, zone: _Zone) -> float:
        """Starts the zone's request; the seconds until it may be started when it is not allowed now: the zone stays due."""
        wait_s = self._guard.wait_s("latest" if zone.only_latest else "history", grid_zone)
        if wait_s > 0:
            zone.answered = True
            if self._guard.left() <= 0:
                self._trouble(grid_zone, self._guard.budget_error())
            # While the breaker's probe is under way the wait is infinite; its end wakes the loop.
            return min(max(wait_s, 1.0), MAX_WAIT_S)
        zone.flight = asyncio.create_task(self._fetch(grid_zone, zone), name=f"carbon {grid_zone}")
        return MAX_WAIT_S

    async def _fetch(self, grid_zone: GridZone, zone: _Zone) -> None:
        try:
            series = await self._ask(grid_zone, zone)
        except ProviderError as error:
            self._failed(grid_zone, zone, error)
        except ConfigError:  # the key's file cannot be read: `_look_at_key` says so
            zone.due_s = self._clock.wall() + MAX_WAIT_S
        except Exception as error:  # noqa: BLE001  # a defect met by one zone's answer must not end the data of all zones
            self._narrator.exception(f"the carbon data of {grid_zone} could not be read; please report it", error)
            zone.due_s = self._clock.wall() + schedule.TICK_S
        else:
            self._succeeded(grid_zone, zone, series)
        finally:
            zone.flight = None
        zone.answered = True
        self._wake.set()

    async def _ask(self, grid_zone: GridZone, zone: _Zone) -> Series:
        """`history` first: for the price of `latest` it has 24 hours, so older values and corrections. A plan may lack it."""
        zone.only_latest = False
        try:
            return await self._guard.history(grid_zone)
        except NotInPlan as refused:
            try:
                series = await self._guard.latest(grid_zone)
            except NotInPlan:
                raise refused from None
            zone.only_latest = True
            return series

    def _succeeded(self, grid_zone: GridZone, zone: _Zone, series: Series) -> None:
        now_s = self._clock.wall()
        zone.asked_s = self._clock.monotonic()
        for rejected in series.rejected:
            self._watcher.rejected(rejected.reason)
        jump = self._ladder.learn(series)
        if jump is not None:
            self._watcher.rejected(jump.reason)
            self._narrator.warning(jump.text, grid_zone=grid_zone)
        present = series.points[-1].hour_s >= now_s - now_s % S_PER_HOUR
        if series.rejected and not present:  # a bad row of an hour gone by decides nothing: counted, not said
            self._trouble(grid_zone, RejectedValue(series.rejected[-1].text, reason=series.rejected[-1].reason))
        else:
            self._recovered(grid_zone)
        room = schedule.allows_refresh(self._guard.left(), self._guard.budget.limit, len(self._zones))
        zone.due_s = schedule.next_fetch_s(grid_zone, now_s, series.points[-1], doubtful=jump is not None, room=room)

    def _failed(self, grid_zone: GridZone, zone: _Zone, error: ProviderError) -> None:
        if not isinstance(error, BudgetSpent):  # then it was not asked, and keeps its place in the line
            zone.asked_s = self._clock.monotonic()
        if isinstance(error, RejectedValue):
            self._watcher.rejected(error.reason)
        self._trouble(grid_zone, error)
        zone.due_s = self._clock.wall()  # when it may be asked again, the guard decides

    def _trouble(self, grid_zone: GridZone, error: ProviderError) -> None:
        """Says a problem once, until it is over for every zone that has it."""
        name = f"carbon {error.label}" + (f" {grid_zone}" if isinstance(error, _OF_ZONE) else "")
        for other, zones in self._troubled.items():
            if other != name:
                zones.discard(grid_zone)
        self._troubled.setdefault(name, set()).add(grid_zone)
        level = logging.WARNING if isinstance(error, (BudgetSpent, RejectedValue, NoRecentData)) else logging.ERROR
        self._narrator.problem(name, f"{error}; {GOES_ON}", level=level, grid_zone=grid_zone)

    def _recovered(self, grid_zone: GridZone) -> None:
        for name in list(self._troubled):
            zones = self._troubled[name]
            if name.endswith(_OF_ALL_LABELS):
                zones.clear()
            zones.discard(grid_zone)
            if not zones:
                del self._troubled[name]
                what = f"Carbon data of {grid_zone}" if name.endswith(f" {grid_zone}") else "Carbon data"
                self._narrator.recovered(name, f"{what} from {self._guard.name} are available again")

    def _look_at_key(self, now_s: float) -> None:
        """Notices that there is no key, or a new one."""
        unusable = self._guard.unusable()
        if unusable is not None:
            self._narrator.problem("carbon key", unusable, kind=unusable, level=logging.WARNING)
        elif self._unusable is not None:
            self._narrator.recovered("carbon key", f"There is a key for {self._guard.name} now: asking for live values")
        credential = self._guard.credential_version()
        if credential != self._credential:
            self._credential = credential
            for zone in self._zones.values():
                zone.due_s = now_s
        self._unusable = unusable

    def _show(self, grid_zone: GridZone, zone: _Zone, now_s: float) -> None:
        value = self._ladder.value(grid_zone, now_s)
        if zone.published != (value,):
            zone.published = (value,)
            self._watcher.intensity(grid_zone, value)
            self._publish(grid_zone, value)

    async def _sleep(self, wait_s: float) -> None:
        woken = asyncio.ensure_future(self._wake.wait())
        slept = asyncio.ensure_future(self._clock.sleep(wait_s))
        try:
            await asyncio.wait({woken, slept}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            woken.cancel()
            slept.cancel()


_OF_ALL_LABELS: Final = tuple(error.label for error in _OF_ALL)
