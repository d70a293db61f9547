"""Time and chance as values. The same shape as the cluster client's clock, so that one object serves both."""

from __future__ import annotations

import asyncio
import time
from typing import Protocol


class Clock(Protocol):
    """Seconds: `monotonic` for waits and budgets, `wall` (Unix time) for the hours of carbon data."""

    def monotonic(self) -> float: ...

    def wall(self) -> float: ...

    async def sleep(self, delay_s: float) -> None: ...


class Chance(Protocol):
    """Random numbers in [0, 1), `random.Random` for one."""

    def random(self) -> float: ...


class SystemClock:
    """The machine's."""

    def monotonic(self) -> float:
        return time.monotonic()

    def wall(self) -> float:
        return time.time()

    async def sleep(self, delay_s: float) -> None:
        await asyncio.sleep(delay_s)
