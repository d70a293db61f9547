"""Time and chance as values, so that tests need neither sleep nor luck."""

from __future__ import annotations

import asyncio
import random
import time
from typing import Protocol

_BOOT = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


class Clock(Protocol):
    """What the parts of this package know of time. All in seconds."""

    def monotonic(self) -> float:
        """Never steps back and goes on while the process or the machine sleeps."""
        ...

    def wall(self) -> float:
        """Unix time in UTC."""
        ...

    async def sleep(self, delay_s: float) -> None: ...


class SystemClock:
    """The machine's. `monotonic` is CLOCK_BOOTTIME: CLOCK_MONOTONIC stands still in suspend, and a lease would seem to live."""

    def monotonic(self) -> float:
        return time.clock_gettime(_BOOT)

    def wall(self) -> float:
        return time.time()

    async def sleep(self, delay_s: float) -> None:
        await asyncio.sleep(delay_s)


class Chance(Protocol):
    """A source of random numbers in [0, 1), `random.Random` for one."""

    def random(self) -> float: ...


SYSTEM_CHANCE: Chance = random.SystemRandom()


class Backoff:
    """Growing waits with full jitter: uniform in [0, min(cap, base x 2^n)] ("Exponential Backoff And Jitter", AWS, 2015)."""

    def __init__(self, chance: Chance, *, base_s: float, cap_s: float) -> None:
        self._chance = chance
        self._base_s = base_s
        self._cap_s = cap_s
        self.failures = 0

    def reset(self) -> None:
        self.failures = 0

    def next_s(self) -> float:
        """The wait before the next try, in seconds."""
        bound_s = min(self._cap_s, self._base_s * 2.0 ** min(self.failures, 32))
        self.failures += 1
        return self._chance.random() * bound_s
