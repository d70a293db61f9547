"""Fakes for carbon data: a clock moved by hand, a source in memory, a log that is a list, the fake server in a thread."""

from __future__ import annotations

import asyncio
import logging
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from carbon_scheduler.core.model import GridZone
from carbon_scheduler.observe.log import Narrator, Sink
from carbon_scheduler.observe.redact import Redactor
from carbon_scheduler.providers.source import Point, Series
from carbon_scheduler.sim.electricity_maps import FakeElectricityMaps

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

NOON = 1_767_268_800.0
"""2026-01-01T12:00:00Z."""
HOUR = 3600.0
DE, FR, GB = GridZone("DE"), GridZone("FR"), GridZone("GB")


class FakeClock:
    """Stands still until `advance`, which wakes sleepers in the order of their times and lets the loop settle after each."""

    def __init__(self, wall: float = NOON) -> None:
        self._start = wall
        self._now = 0.0
        self._sleepers: list[tuple[float, asyncio.Future[None]]] = []

    def monotonic(self) -> float:
        return self._now

    def wall(self) -> float:
        return self._start + self._now

    def set_wall(self, wall: float) -> None:
        """Somebody moves the machine's clock; `monotonic` does not notice."""
        self._start = wall - self._now

    async def sleep(self, delay_s: float) -> None:
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._sleepers.append((self._now + delay_s, future))
        await future

    async def advance(self, seconds: float) -> None:
        end = self._now + seconds
        await settle()
        while True:
            self._sleepers = [(at, future) for at, future in self._sleepers if not future.done()]
            due = min((at for at, _ in self._sleepers), default=end + 1)
            if due > end:
                break
            self._now = max(self._now, due)
            for at, future in self._sleepers:
                if at <= self._now and not future.done():
                    future.set_result(None)
            await settle()
        self._now = end
        await settle()


async def settle() -> None:
    for _ in range(20):
        await asyncio.sleep(0)


class NoChance:
    """The middle of every range."""

    def random(self) -> float:
        return 0.5


def make_series(
    *values: float, zone: GridZone = DE, now: float = NOON, quality: Any = "measured", issued: float | None = None
) -> Series:
    """Hourly points, the last one for the hour of `now`."""
    hour = now - now % HOUR
    points = tuple(
        Point(hour - back * HOUR, value, quality)
        for back, value in zip(range(len(values) - 1, -1, -1), values, strict=True)
    )
    return Series(zone, "electricity-maps", "average-lifecycle", points, now if issued is None else issued)


class FakeSource:
    """A source in memory. `answers` maps a zone to a value in g/kWh, an error, or a function of the time; `calls` lists the
    zones asked for. A zone in `hanging` does not answer until `release`."""

    name = "electricity-maps"
    signal = "average-lifecycle"

    def __init__(self, clock: FakeClock, **answers: Any) -> None:
        self.clock = clock
        self.answers: dict[str, Any] = answers
        self.quality = "measured"
        self.calls: list[str] = []
        self.latest_calls: list[str] = []
        self.hanging: set[str] = set()
        self.problem: str | None = None
        self.version = 0
        self.closed = False
        self._gate = asyncio.Event()

    def unusable(self) -> str | None:
        return self.problem

    def credential_version(self) -> int:
        return self.version

    def release(self) -> None:
        self.hanging.clear()
        self._gate.set()

    async def history(self, grid_zone: GridZone, hours: int = 24) -> Series:
        self.calls.append(grid_zone)
        if grid_zone in self.hanging:
            await self._gate.wait()
        return self._answer(grid_zone)

    async def latest(self, grid_zone: GridZone) -> Series:
        self.latest_calls.append(grid_zone)
        return self._answer(f"latest {grid_zone}", grid_zone)

    async def forecast(self, grid_zone: GridZone, horizon_h: int = 24) -> Series:
        raise NotImplementedError

    async def zones(self) -> Any:
        raise NotImplementedError

    async def close(self) -> None:
        self.closed = True

    def _answer(self, key: str, grid_zone: GridZone | None = None) -> Series:
        answer = self.answers[key]
        now = self.clock.wall()
        if callable(answer):
            answer = answer(now)
        if isinstance(answer, Exception):
            raise answer
        if isinstance(answer, Series):
            return answer
        return make_series(answer, zone=grid_zone or GridZone(key), now=now, quality=self.quality)


def narrator_to(lines: list[str], level: int = logging.INFO) -> Narrator:
    return Narrator(Sink("text", lines.append, Redactor()), level)


@contextmanager
def fake_server(
    configure: Callable[[FakeElectricityMaps], None] | None = None, **options: Any
) -> Iterator[FakeElectricityMaps]:
    """The fake Electricity Maps in a thread, for tests of code that blocks. Change `modes` at any time."""
    started = threading.Event()
    stop: list[Callable[[], object]] = []
    server = FakeElectricityMaps(**options)
    if configure:
        configure(server)

    async def serve() -> None:
        await server.start()
        over = asyncio.Event()
        loop = asyncio.get_running_loop()
        stop.append(lambda: loop.call_soon_threadsafe(over.set))
        started.set()
        await over.wait()
        await server.stop()

    thread = threading.Thread(target=lambda: asyncio.run(serve()), daemon=True)
    thread.start()
    assert started.wait(10), "the fake server did not start"
    try:
        yield server
    finally:
        stop[0]()
        thread.join(10)
