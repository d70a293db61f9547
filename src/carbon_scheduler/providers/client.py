"""`CarbonIntensityClient`: carbon intensity for scripts, notebooks and services.

Every question has two forms: `latest(...)` for plain code, `alatest(...)` for code that runs in an event loop (as Django's
and SQLAlchemy's `a...` and `async` twins). One class, because the answers are the same. The plain form works inside a running
loop too (a notebook), in a thread of its own.
"""

from __future__ import annotations

import asyncio
import dataclasses
import os
import threading
from typing import TYPE_CHECKING, Self, TypeVar

from msgspec.structs import replace

from carbon_scheduler.core.grid import UnknownGridZone
from carbon_scheduler.core.model import GridZone, Struct
from carbon_scheduler.errors import ConfigError, NoRecentData, NotInPlan
from carbon_scheduler.providers.clock import SystemClock
from carbon_scheduler.providers.electricity_maps import (
    HISTORY_H,
    HOW_TO_SET_KEY,
    RANGE_H,
    ElectricityMaps,
    Options,
)
from carbon_scheduler.providers.key import KeySource
from carbon_scheduler.providers.ladder import Ladder
from carbon_scheduler.providers.source import Point, Series, ZoneAccess
from carbon_scheduler.providers.tables import grid_zones
from carbon_scheduler.units import S_PER_HOUR

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Mapping

    from carbon_scheduler.core.carbon import CarbonValue
    from carbon_scheduler.providers.clock import Clock

_T = TypeVar("_T")


class Average(Struct, frozen=True):
    """The time-weighted mean over `hours` hours, the present one included: each hour counts the same.

    `missing_h` hours have no value and are left out of the mean; `estimated_h` of the others are not measured (yet).
    `source` and `signal` as in a Series. `static`: not of these hours at all, but the zone's annual average.
    """

    grid_zone: GridZone
    g_per_kwh: float
    hours: int
    missing_h: int
    estimated_h: int
    from_s: float
    to_s: float
    source: str
    static: bool = False


class CarbonIntensityClient:
    """Asks Electricity Maps; without a key it answers with annual averages and says so in `quality`.

        client = CarbonIntensityClient()                       # key from ELECTRICITY_MAPS_API_KEY or ..._FILE
        value = client.latest("US-NY-NYIS")                    # value.g_per_kwh, value.quality, value.hour_s
        mean = client.average("DE", 24)

        async with CarbonIntensityClient() as client:
            value = await client.alatest("FR")

    Zones may be written as people do (`us_ny_nyis`, `NYISO`, `DEU`). One call is one request; nothing is cached or retried.
    Raises ConfigError (also for a zone that does not exist) and the ProviderErrors of `carbon_scheduler.errors`.
    Thread-safe for the plain form. `close` it, or use it in a `with`.
    """

    def __init__(
        self,
        api_key: str | None = None,
        *,
        api_key_file: str = "",
        url: str = "",
        options: Options | None = None,
        environ: Mapping[str, str] | None = None,
        clock: Clock | None = None,
    ) -> None:
        """`api_key` and `api_key_file` come before the environment. `url` is the API's address (`ELECTRICITY_MAPS_URL`)."""
        environ = os.environ if environ is None else environ
        self._key = KeySource(api_key) if api_key is not None else KeySource.from_environ(environ, api_key_file)
        options = options or Options()
        url = url or environ.get("ELECTRICITY_MAPS_URL", "")
        if url:
            options = dataclasses.replace(options, url=url)
        self._clock = clock or SystemClock()
        self._options = options
        self._environ = environ
        self._signal = self._new().signal  # and the options are checked here, not at the first question
        self._zones = grid_zones()
        self._sources: dict[asyncio.AbstractEventLoop, ElectricityMaps] = {}
        self._background = _Background()

    @property
    def has_key(self) -> bool:
        """Whether live values can be asked for. Raises ConfigError when the key's file cannot be read."""
        return self._key.key() is not None

    def latest(self, zone: str) -> CarbonValue:
        """The newest value. `quality`: measured, estimated, stale (of an earlier hour) or static (no key)."""
        return self._background.run(self.alatest(zone))

    def history(self, zone: str, hours: int = HISTORY_H) -> Series:
        """Hourly values of the last `hours` hours, oldest first. Over 24 hours needs a plan with past data."""
        return self._background.run(self.ahistory(zone, hours))

    def average(self, zone: str, hours: int = HISTORY_H) -> Average:
        """The time-weighted mean of the last `hours` hours, and how many of them are missing or estimated."""
        return self._background.run(self.aaverage(zone, hours))

    def forecast(self, zone: str, horizon_h: int = 24) -> Series:
        """The present hour and the next `horizon_h` (6, 24, 48 or 72). Needs a key whose plan includes forecasts."""
        return self._background.run(self.aforecast(zone, horizon_h))

    def zones(self) -> Mapping[str, ZoneAccess]:
        """All zones; with a key what it may see, without one the zones known to this program."""
        return self._background.run(self.azones())

    async def alatest(self, zone: str) -> CarbonValue:
        grid_zone = self._resolve(zone)
        # The ladder turns an answer into a value: the present hour's, or an older one as stale, or the static average.
        ladder = Ladder(self._zones, signal=self._signal, max_stale_s=48 * S_PER_HOUR)
        if self.has_key:
            ladder.learn(await self._source().latest(grid_zone))
        value = ladder.value(grid_zone, self._clock.wall())
        if value is None:
            raise ConfigError(
                f"{grid_zone}: there are no averages of direct emissions to answer with, and there is no key: {HOW_TO_SET_KEY}"
            )
        return value

    async def ahistory(self, zone: str, hours: int = HISTORY_H) -> Series:
        grid_zone = self._resolve(zone)
        if not 1 <= hours <= 10 * RANGE_H:
            raise ConfigError(f"hours: got {hours}, expected 1 to {10 * RANGE_H}")
        if not self.has_key:
            return self._static(grid_zone, hours)
        if hours <= HISTORY_H:
            return await self._source().history(grid_zone, hours)
        return await self._range(grid_zone, hours)

    async def aaverage(self, zone: str, hours: int = HISTORY_H) -> Average:
        series = await self.ahistory(zone, hours)
        return average(series, hours, self._clock.wall())

    async def aforecast(self, zone: str, horizon_h: int = 24) -> Series:
        grid_zone = self._resolve(zone)
        if not self.has_key:
            raise ConfigError(
                f"a forecast of {grid_zone} needs an Electricity Maps key, and there is none: {HOW_TO_SET_KEY}"
            )
        return await self._source().forecast(grid_zone, horizon_h)

    async def azones(self) -> Mapping[str, ZoneAccess]:
        if not self.has_key:
            return {zone: ZoneAccess(zone, self._zones[zone].name) for zone in self._zones}
        return await self._source().zones()

    async def aclose(self) -> None:
        """Closes what the running loop has opened, and the plain form's thread."""
        source = self._sources.pop(asyncio.get_running_loop(), None)
        if source is not None:
            await source.close()
        await asyncio.to_thread(self.close)

    def close(self) -> None:
        loop = self._background.loop
        source = self._sources.pop(loop, None) if loop is not None else None
        self._background.close(source.close if source is not None else None)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    def _new(self) -> ElectricityMaps:
        return ElectricityMaps(self._key, self._options, self._clock, self._environ)

    def _resolve(self, zone: str) -> GridZone:
        if not isinstance(zone, str):
            raise ConfigError(
                f"zone: got a {type(zone).__name__}, expected a text such as 'DE' (in YAML, NO without quotes is false)"
            )
        found = self._zones.resolve(zone)
        if isinstance(found, UnknownGridZone):
            near = f" Did you mean {' or '.join(found.nearest)}?" if found.nearest else ""
            raise ConfigError(
                f"zone: {found.text!r} is not a grid zone.{near} `carbon-intensity --type zones` lists them"
            )
        return found

    def _source(self) -> ElectricityMaps:
        """The connection of the running loop: one each, because a connection belongs to its loop."""
        loop = asyncio.get_running_loop()
        for old in [old for old in self._sources if old.is_closed()]:
            del self._sources[old]
        if loop not in self._sources:
            self._sources[loop] = self._new()
        return self._sources[loop]

    async def _range(self, grid_zone: GridZone, hours: int) -> Series:
        now_s = self._clock.wall()
        end_s = now_s - now_s % S_PER_HOUR + S_PER_HOUR
        start_s = end_s - hours * S_PER_HOUR
        parts: list[Series] = []
        try:
            while start_s < end_s:
                until_s = min(end_s, start_s + RANGE_H * S_PER_HOUR)
                parts.append(await self._source().past_range(grid_zone, start_s, until_s))
                start_s = until_s
        except NotInPlan as error:
            raise NotInPlan(f"{error}; without past data in the plan {HISTORY_H} hours are the most") from error
        points = {point.hour_s: point for part in parts for point in part.points}
        return replace(parts[-1], points=tuple(points[hour_s] for hour_s in sorted(points)))

    def _static(self, grid_zone: GridZone, hours: int) -> Series:
        average = self._zones.average(grid_zone)
        if average is None or self._signal != "average-lifecycle":
            raise ConfigError(
                f"{grid_zone}: there are no averages of direct emissions to answer with, and there is no key: {HOW_TO_SET_KEY}"
            )
        now_s = self._clock.wall()
        present_s = now_s - now_s % S_PER_HOUR
        hours_s = [present_s - back * S_PER_HOUR for back in range(hours - 1, -1, -1)]
        points = tuple(Point(hour_s, average.g_per_kwh, "static") for hour_s in hours_s)
        return Series(grid_zone, average.label, self._signal, points, now_s)


def average(series: Series, hours: int, now_s: float) -> Average:
    """The mean of a series over `hours` hours up to the end of the present one. Raises NoRecentData when none has a value."""
    to_s = now_s - now_s % S_PER_HOUR + S_PER_HOUR
    from_s = to_s - hours * S_PER_HOUR
    points = [point for point in series.points if from_s <= point.hour_s < to_s]
    if not points:
        newest_h = (now_s - series.points[-1].hour_s) / S_PER_HOUR
        raise NoRecentData(
            f"{series.grid_zone}: no value within the last {hours} hours, the newest began {newest_h:.1f} hours ago; "
            "ask for more hours"
        )
    static = points[0].quality == "static"
    return Average(
        grid_zone=series.grid_zone,
        g_per_kwh=sum(point.g_per_kwh for point in points) / len(points),
        hours=hours,
        missing_h=hours - len(points),
        estimated_h=0 if static else sum(point.quality != "measured" for point in points),
        from_s=from_s,
        to_s=to_s,
        source=series.source,
        static=static,
    )


class _Background:
    """An event loop in a daemon thread, started on first use: `asyncio.run` would fail inside a running loop, and would open
    a new connection for every question."""

    def __init__(self) -> None:
        self.loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._lock = threading.Lock()

    def run(self, question: Coroutine[object, object, _T]) -> _T:
        with self._lock:
            if self.loop is None:
                self.loop = asyncio.new_event_loop()
                self._thread = threading.Thread(target=self.loop.run_forever, name="carbon-client", daemon=True)
                self._thread.start()
            loop = self.loop
        future = asyncio.run_coroutine_threadsafe(question, loop)
        try:
            return future.result()
        except BaseException:
            future.cancel()  # Ctrl-C: the request is not left behind
            raise

    def close(self, last: Callable[[], Coroutine[object, object, None]] | None) -> None:
        with self._lock:
            loop, thread, self.loop, self._thread = self.loop, self._thread, None, None
        if loop is None or thread is None:
            return
        if last is not None:
            asyncio.run_coroutine_threadsafe(last(), loop).result(timeout=5)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(timeout=5)
        loop.close()
