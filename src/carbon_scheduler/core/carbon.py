"""Carbon intensity as the core sees it: one value per grid zone, with where it came from and how good it is."""

from __future__ import annotations

from typing import Final, Literal

from carbon_scheduler.core.model import GridZone, Struct
from carbon_scheduler.core.settings import Signal

Quality = Literal["measured", "estimated", "forecast", "stale", "profile", "static", "default"]
"""The rung of the ladder (design section 5), best first."""

LIVE: Final = ("measured", "estimated")
"""Qualities that the log and the user see without a remark."""


class CarbonValue(Struct, frozen=True):
    """The carbon intensity of one grid zone for one hour.

    `g_per_kwh` is finite and within 0..1500 (zero only for direct emissions). `hour_s` is the start of the hour it
    describes (Unix time), `known_s` when it was learnt. `error_frac` is one standard deviation relative to the value.
    """

    grid_zone: GridZone
    g_per_kwh: float
    quality: Quality
    source: str
    hour_s: float
    known_s: float
    error_frac: float = 0.0
    signal: Signal = "average-lifecycle"

    @property
    def live(self) -> bool:
        return self.quality in LIVE

    def age_s(self, now_s: float) -> float:
        """Seconds since the start of the hour described (the current hour has an age of 0 to 3600 s)."""
        return now_s - self.hour_s
