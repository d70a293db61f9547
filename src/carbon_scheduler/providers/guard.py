"""Asks a source no more often than is sensible: a budget, one request at a time for the same thing, and a memory of refusals.

The rules are pure and take the time as a value; `Guard` puts them around a `Provider`.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING, Final

from carbon_scheduler.errors import (
    BudgetSpent,
    KeyRejected,
    MalformedBody,
    NoRecentData,
    NotInPlan,
    ProviderError,
    ProviderUnavailable,
    RateLimited,
    UnknownZone,
)
from carbon_scheduler.units import S_PER_HOUR

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Hashable

    from carbon_scheduler.core.model import GridZone
    from carbon_scheduler.core.settings import Signal
    from carbon_scheduler.providers.clock import Chance, Clock
    from carbon_scheduler.providers.source import Provider, Series

PLAN_HOLD_S: Final = 12 * S_PER_HOUR
NO_DATA_HOLD_S: Final = 300.0
KEY_HOLD_S: Final = S_PER_HOUR
"""A refused key is tried once an hour besides after every change: the refusal can be the source's own fault."""
RETRY_S: Final = (2.0, 8.0, 32.0, 128.0, 300.0)
"""Waits after the 1st, 2nd, ... failure of one zone in a row, each times 0.5 to 1 by chance; the last one from then on."""
LIMITED_S: Final = (60.0, 120.0, 300.0, 900.0)
"""Waits of all zones after being told to ask less, when the source does not say how long."""
BREAKER_FAILURES: Final = 5
BREAKER_S: Final = (30.0, 60.0, 120.0, 300.0)


class Budget:
    """At most `limit` requests in any 60 minutes: a sliding window. A token bucket with room for a burst would let nearly
    twice as many through in its first hour. `left` and `take` cost amortised O(1)."""

    def __init__(self, limit: int, window_s: float = S_PER_HOUR) -> None:
        self.limit = limit
        self._window_s = window_s
        self._taken: deque[float] = deque()

    def left(self, now_s: float) -> int:
        while self._taken and self._taken[0] <= now_s - self._window_s:
            self._taken.popleft()
        return self.limit - len(self._taken)

    def take(self, now_s: float) -> bool:
        """Uses one up; False when none is left."""
        if self.left(now_s) <= 0:
            return False
        self._taken.append(now_s)
        return True

    def free_at(self, now_s: float) -> float:
        """When the next request is allowed: `now_s` or later."""
        return now_s if self.left(now_s) > 0 else self._taken[0] + self._window_s


class Breaker:
    """Stops asking a source that is down. Opens when five different questions have failed in a row; then one probe after 30,
    60, 120, 300, 300 ... s. Different ones, because a single bad zone must not cut off the good ones: its own waits suffice."""

    def __init__(self) -> None:
        self._failing: set[Hashable] = set()
        self._openings = 0
        self._until_s = 0.0
        self._probing = False

    @property
    def open(self) -> bool:
        return self._openings > 0

    def free_at(self, now_s: float) -> float:
        """When asking is allowed: `now_s`, or the time of the next probe (infinity while one is under way)."""
        if not self.open:
            return now_s
        return float("inf") if self._probing else max(now_s, self._until_s)

    def asking(self) -> None:
        """A request is about to be sent."""
        self._probing = self.open

    def answered(self) -> None:
        """The source is up: it said something, be it a refusal."""
        self._failing.clear()
        self._openings = 0
        self._probing = False

    def failed(self, what: Hashable, now_s: float) -> None:
        self._failing.add(what)
        if len(self._failing) >= BREAKER_FAILURES and (self._probing or not self.open):
            self._until_s = now_s + BREAKER_S[min(self._openings, len(BREAKER_S) - 1)]
            self._openings += 1
        self._probing = False


class Guard:
    """A `Provider`'s questions about a zone, asked sparingly. Belongs to one event loop.

    A call that is not allowed now raises the error that forbids it, without a request: the remembered refusal, BudgetSpent, or
    ProviderUnavailable while the breaker is open. `wait_s` tells how long that will be so.
    """

    def __init__(
        self,
        provider: Provider,
        *,
        requests_per_hour: int,
        clock: Clock,
        chance: Chance,
        on_outcome: Callable[[str], None] | None = None,
    ) -> None:
        self._provider = provider
        self._clock = clock
        self._chance = chance
        self._on_outcome = on_outcome
        self.budget = Budget(requests_per_hour)
        self.breaker = Breaker()
        self._refused: dict[Hashable, tuple[float, ProviderError]] = {}
        self._held: tuple[float, ProviderError] | None = None
        self._failures: dict[Hashable, int] = {}
        self._limited = 0
        self._credential = provider.credential_version()
        self._flights: dict[Hashable, asyncio.Task[Series]] = {}

    @property
    def name(self) -> str:
        return self._provider.name

    @property
    def signal(self) -> Signal:
        return self._provider.signal

    def unusable(self) -> str | None:
        return self._provider.unusable()

    def credential_version(self) -> int:
        return self._provider.credential_version()

    async def latest(self, grid_zone: GridZone) -> Series:
        return await self._once(("latest", grid_zone), lambda: self._provider.latest(grid_zone))

    async def history(self, grid_zone: GridZone, hours: int = 24) -> Series:
        return await self._once(("history", grid_zone), lambda: self._provider.history(grid_zone, hours))

    async def forecast(self, grid_zone: GridZone, horizon_h: int = 24) -> Series:
        return await self._once(("forecast", grid_zone), lambda: self._provider.forecast(grid_zone, horizon_h))

    def left(self) -> int:
        """Requests left in the budget."""
        return self.budget.left(self._clock.monotonic())

    def wait_s(self, temporality: str, grid_zone: GridZone) -> float:
        """Seconds until the zone may be asked for: 0 when at once, infinity while a probe is under way."""
        now_s = self._clock.monotonic()
        self._notice_new_key()
        refused = self._refused.get((temporality, grid_zone))
        until_s = max(
            refused[0] if refused else 0.0,
            self._held[0] if self._held else 0.0,
            self.breaker.free_at(now_s),
            self.budget.free_at(now_s),
        )
        return max(0.0, until_s - now_s)

    def budget_error(self) -> BudgetSpent:
        now_s = self._clock.monotonic()
        wait_min = (self.budget.free_at(now_s) - now_s) / 60
        return BudgetSpent(
            f"{self.name}: our own budget of {self.budget.limit} requests per hour is used up for {wait_min:.0f} more minutes; "
            "raise electricity_maps.requests_per_hour if the plan allows more, or use fewer grid zones"
        )

    async def close(self) -> None:
        for flight in self._flights.values():
            flight.cancel()
        await asyncio.gather(*self._flights.values(), return_exceptions=True)
        await self._provider.close()

    async def _once(self, what: tuple[str, GridZone], ask: Callable[[], Awaitable[Series]]) -> Series:
        """Joins a request for the same thing that is under way; one caller's cancellation does not end it for the others."""
        flight = self._flights.get(what)
        if flight is None:
            flight = asyncio.create_task(self._ask(what, ask))
            self._flights[what] = flight
            flight.add_done_callback(lambda done: self._landed(what, done))
        return await asyncio.shield(flight)

    def _landed(self, what: tuple[str, GridZone], flight: asyncio.Task[Series]) -> None:
        self._flights.pop(what, None)
        if not flight.cancelled():
            flight.exception()  # retrieved: when every caller has gone nobody else does

    async def _ask(self, what: tuple[str, GridZone], ask: Callable[[], Awaitable[Series]]) -> Series:
        now_s = self._clock.monotonic()
        self._notice_new_key()
        self._allow(what, now_s)
        self.breaker.asking()
        try:
            series = await ask()
        except ProviderError as error:
            self._count(error.label)
            self._remember(what, error)
            raise
        except BaseException:
            # Cancelled, or a defect. A probe without a verdict must not keep the breaker open for ever.
            self.breaker.failed(what, self._clock.monotonic())
            raise
        self._count("ok")
        self.breaker.answered()
        self._limited = 0
        self._refused.pop(what, None)
        self._failures.pop(what, None)
        return series

    def _allow(self, what: tuple[str, GridZone], now_s: float) -> None:
        for held in (self._held, self._refused.get(what)):
            if held and held[0] > now_s:
                raise held[1].with_traceback(None)
        if self.breaker.free_at(now_s) > now_s:
            raise ProviderUnavailable(
                f"{self.name} did not answer for {BREAKER_FAILURES} zones in a row: it is not asked for a while"
            )
        if not self.budget.take(now_s):
            error = self.budget_error()
            self._count(error.label)
            raise error

    def _remember(self, what: tuple[str, GridZone], error: ProviderError) -> None:
        now_s = self._clock.monotonic()
        if isinstance(error, ProviderUnavailable):
            self.breaker.failed(what, now_s)
        else:
            self.breaker.answered()
        failures = self._failures[what] = self._failures.get(what, 0) + 1
        match error:
            case KeyRejected():
                self._held = (now_s + KEY_HOLD_S, error)
            case RateLimited():
                default_s = LIMITED_S[min(self._limited, len(LIMITED_S) - 1)]
                self._limited += 1
                wait_s = default_s if error.retry_after_s is None else max(1.0, error.retry_after_s)
                self._held = (now_s + wait_s, error)
            case NotInPlan() | UnknownZone():
                self._refused[what] = (now_s + PLAN_HOLD_S, error)
            case NoRecentData() | MalformedBody():
                self._refused[what] = (now_s + NO_DATA_HOLD_S, error)
            case _:
                wait_s = RETRY_S[min(failures, len(RETRY_S)) - 1] * (0.5 + 0.5 * self._chance.random())
                self._refused[what] = (now_s + wait_s, error)

    def _notice_new_key(self) -> None:
        version = self._provider.credential_version()
        if version != self._credential:
            self._credential = version
            self._refused.clear()
            self._failures.clear()
            self._held = None

    def _count(self, outcome: str) -> None:
        if self._on_outcome is not None:
            self._on_outcome(outcome)
