"""The ladder: which value stands for a zone now, and how good it is. Pure: time comes as a value, nothing is fetched.

Rungs, best first: the current hour's value (measured or estimated); the last value, at most `max_stale_s` old; the zone's
static average; the operator's default; none.
"""

from __future__ import annotations

import math
from itertools import pairwise
from typing import TYPE_CHECKING, Final

from carbon_scheduler.core.carbon import LIVE, CarbonValue
from carbon_scheduler.core.model import GridZone
from carbon_scheduler.core.settings import Signal
from carbon_scheduler.providers.source import Point, Rejected, Series
from carbon_scheduler.units import S_PER_HOUR

if TYPE_CHECKING:
    from carbon_scheduler.core.grid import GridZones, StaticSource

_SIGMA_PER_MAE: Final = math.sqrt(math.pi / 2)
"""The studies give mean absolute errors, `error_frac` is a standard deviation. For a normal error sigma = MAE * sqrt(pi / 2)
= 1.2533 MAE; real errors have heavier tails, so this is the lower end."""

_AGE_MAE: Final = ((0, 0.0), (1, 0.038), (2, 0.071), (3, 0.102), (6, 0.164), (12, 0.192), (18, 0.199))
"""(hours old, mean absolute error of the last value as a fraction of the mean): hourly life-cycle data of 2024, median of 16
zones. Beyond 12 hours no better than the static average."""

_ESTIMATED_SIGMA: Final = 0.12
"""An estimated hour is revised once measured: the 95th percentile of the change is 24 % (median of five zones polled
half-hourly, 2021-22); 1.96 sigma of a normal error."""

_STATIC_SIGMA: Final[dict[StaticSource, float]] = {
    "em-annual-mean": 0.199 * _SIGMA_PER_MAE,  # last year's mean against hourly values of 2024, median of 16 zones
    "owid": 0.35,  # assumed: another method and year than the hourly values, on top of the above
    "owid-country": math.hypot(
        0.199 * _SIGMA_PER_MAE, 0.37
    ),  # 0.37: 24 zones with a mean of their own against their country's
    "world-default": math.hypot(0.199 * _SIGMA_PER_MAE, 0.53),  # 0.53: 209 countries against 460 g/kWh
}
_DEFAULT_SIGMA: Final = 0.37
"""The operator's default is one figure for zones of a kind: as far off as a country's for its parts."""

_KEEP_S: Final = 48 * S_PER_HOUR
_JUMP_G: Final = 200.0
_JUMP_FRAC: Final = 0.6
_JUMP_GAP_S: Final = 3 * S_PER_HOUR
OPERATOR_DEFAULT: Final = "operator default"


class _Learnt:
    """What is known of one zone: believed points by hour, and a newest point that waits for a second poll."""

    def __init__(self) -> None:
        self.points: dict[float, Point] = {}
        self.known_s: dict[float, float] = {}
        self.waiting: tuple[Point, float] | None = None
        self.source = ""


class Ladder:
    """Learns series and answers with a value. A zone costs about 10 kB, `value` a few lookups.

    `signal` is the kind that all values have. The static averages are life-cycle, so that rung is missing for another signal.
    """

    def __init__(
        self,
        zones: GridZones,
        *,
        signal: Signal = "average-lifecycle",
        max_stale_s: float = 3 * S_PER_HOUR,
        default_g_per_kwh: float | None = None,
    ) -> None:
        self._zones = zones
        self._signal = signal
        self._max_stale_s = max_stale_s
        self._default_g_per_kwh = default_g_per_kwh
        self._learnt: dict[GridZone, _Learnt] = {}

    def learn(self, series: Series) -> Rejected | None:
        """Takes in an answer. Returns the rejection when its newest point jumps and has to wait for a second poll.

        Real grids double within an hour, and sources have glitches (a live feed read 11 g/kWh for an hour that was corrected
        to 230), so a newest point further than max(200 g/kWh, 60 %) from the one before is believed only when a later poll
        says about the same. Older points are believed at once: they are settled, and nothing is decided by them.
        """
        if series.signal != self._signal:
            raise ValueError(f"series of {series.signal} for a ladder of {self._signal}: kinds are never mixed")
        if any(point.quality not in LIVE for point in series.points):
            raise ValueError(f"{series.grid_zone}: the ladder learns what was; a forecast is not among its rungs yet")
        learnt = self._learnt.setdefault(series.grid_zone, _Learnt())
        newest = series.points[-1]
        before = self._before(learnt, series, newest)
        jumps = before is not None and _jumps(newest.g_per_kwh, before.g_per_kwh)
        if jumps and learnt.waiting is not None:
            first, polled_s = learnt.waiting
            jumps = series.issued_s <= polled_s or _jumps(newest.g_per_kwh, first.g_per_kwh)
        learnt.waiting = (newest, series.issued_s) if jumps else None
        for point in series.points[: -1 if jumps else None]:
            learnt.points[point.hour_s] = point
            learnt.known_s[point.hour_s] = series.issued_s
        learnt.source = series.source
        oldest_s = max(learnt.points, default=newest.hour_s) - _KEEP_S
        for hour_s in [hour_s for hour_s in learnt.points if hour_s < oldest_s]:
            del learnt.points[hour_s], learnt.known_s[hour_s]
        if not jumps or before is None:
            return None
        return Rejected(
            "jump",
            f"{series.grid_zone}: {newest.g_per_kwh:g} gCO2eq/kWh after {before.g_per_kwh:g}: "
            "not believed until a second poll says about the same",
        )

    def value(self, grid_zone: GridZone, now_s: float) -> CarbonValue | None:
        """The value that stands for the zone in the hour of `now_s`, or None when no rung has one."""
        hour_s = now_s - now_s % S_PER_HOUR
        learnt = self._learnt.get(grid_zone)
        last = learnt.points.get(self._last_hour(learnt, hour_s)) if learnt else None
        if learnt and last and hour_s - last.hour_s <= self._max_stale_s:
            age_s = hour_s - last.hour_s
            own = _ESTIMATED_SIGMA if last.quality != "measured" else 0.0
            return CarbonValue(
                grid_zone=grid_zone,
                g_per_kwh=last.g_per_kwh,
                quality="stale" if age_s > 0 else last.quality,
                source=learnt.source,
                hour_s=last.hour_s,
                known_s=learnt.known_s[last.hour_s],
                error_frac=round(math.hypot(own, _ageing(age_s)), 4),
                signal=self._signal,
            )
        average = self._zones.average(grid_zone) if self._signal == "average-lifecycle" else None
        if average is not None:
            return CarbonValue(
                grid_zone=grid_zone,
                g_per_kwh=average.g_per_kwh,
                quality="static",
                source=average.label,
                hour_s=hour_s,
                known_s=hour_s,
                error_frac=round(_STATIC_SIGMA[average.source], 4),
                signal=self._signal,
            )
        if self._default_g_per_kwh is not None:
            return CarbonValue(
                grid_zone=grid_zone,
                g_per_kwh=self._default_g_per_kwh,
                quality="default",
                source=OPERATOR_DEFAULT,
                hour_s=hour_s,
                known_s=hour_s,
                error_frac=_DEFAULT_SIGMA,
                signal=self._signal,
            )
        return None

    def waits(self, grid_zone: GridZone) -> bool:
        """Whether a jump of the zone waits for a second poll."""
        learnt = self._learnt.get(grid_zone)
        return learnt is not None and learnt.waiting is not None

    def points(self, grid_zone: GridZone) -> tuple[Point, ...]:
        """The believed points of the last 48 hours, oldest first."""
        learnt = self._learnt.get(grid_zone)
        return tuple(learnt.points[hour_s] for hour_s in sorted(learnt.points)) if learnt else ()

    def forget(self, grid_zone: GridZone) -> None:
        """Drops what was learnt of a zone that is no longer in use."""
        self._learnt.pop(grid_zone, None)

    @staticmethod
    def _last_hour(learnt: _Learnt, hour_s: float) -> float:
        return max((known for known in learnt.points if known <= hour_s), default=-math.inf)

    @staticmethod
    def _before(learnt: _Learnt, series: Series, newest: Point) -> Point | None:
        """What the newest point is compared with: what was believed of the same hour, else the last point before it, from the
        answer or believed earlier; nothing when that is over three hours away (the figures are about steps of an hour)."""
        if newest.hour_s in learnt.points:
            return learnt.points[newest.hour_s]
        earlier = learnt.points | {
            point.hour_s: point for point in series.points[:-1] if point.hour_s not in learnt.points
        }
        hour_s = max((known for known in earlier if known < newest.hour_s), default=-math.inf)
        return earlier[hour_s] if newest.hour_s - hour_s <= _JUMP_GAP_S else None


def _jumps(g_per_kwh: float, before_g_per_kwh: float) -> bool:
    return abs(g_per_kwh - before_g_per_kwh) > max(_JUMP_G, _JUMP_FRAC * before_g_per_kwh)


def _ageing(age_s: float) -> float:
    """Standard deviation of the last value as a fraction, by its age: linear between the measured ages."""
    age_h = age_s / S_PER_HOUR
    for (left_h, left), (right_h, right) in pairwise(_AGE_MAE):
        if age_h <= right_h:
            return _SIGMA_PER_MAE * (left + (right - left) * (age_h - left_h) / (right_h - left_h))
    return _SIGMA_PER_MAE * _AGE_MAE[-1][1]
