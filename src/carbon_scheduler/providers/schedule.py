"""When a zone is asked for next. Pure: it follows the source's rhythm, not the time since the last request.

Electricity Maps works every quarter of an hour: answers change at about :04, :19, :34 and :49. So the ticks are at :06, :21,
:36 and :51, each zone some seconds later by a hash of its name: a cluster's zones do not ask all at once.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final
from zlib import crc32

from carbon_scheduler.units import S_PER_HOUR

if TYPE_CHECKING:
    from carbon_scheduler.core.model import GridZone
    from carbon_scheduler.providers.source import Point

TICK_S: Final = 900.0
AFTER_S: Final = 360.0
JITTER_S: Final = 120


def jitter_s(grid_zone: GridZone) -> float:
    """0 to 120 s, fixed per zone."""
    return float(crc32(grid_zone.encode()) % (JITTER_S + 1))


def next_hour_s(grid_zone: GridZone, now_s: float) -> float:
    """The zone's next hourly fetch: six minutes past the hour and its jitter, after `now_s`."""
    return _next(grid_zone, now_s, S_PER_HOUR)


def next_tick_s(grid_zone: GridZone, now_s: float) -> float:
    """The zone's next quarter-hourly fetch after `now_s`. One of four is the hourly one."""
    return _next(grid_zone, now_s, TICK_S)


def next_fetch_s(grid_zone: GridZone, now_s: float, newest: Point, *, doubtful: bool, room: bool) -> float:
    """When to ask again after an answer whose newest point is `newest`.

    A measured value of the present hour is final: the next hour's fetch. An estimated, late or doubtful one (a jump) may be
    better at the next tick, if the budget has `room`. Without room: this hour's fetch when the hour's value is still missing.
    """
    hour_s = now_s - now_s % S_PER_HOUR
    present = newest.hour_s >= hour_s
    if room and (doubtful or not present or newest.quality != "measured"):
        return next_tick_s(grid_zone, now_s)
    return next_hour_s(grid_zone, hour_s + S_PER_HOUR if present else now_s)


def allows_refresh(left: int, limit: int, zones: int) -> bool:
    """Whether the budget has room for a refresh besides the next hourly round of all zones and a tenth kept for recovery."""
    return left > zones + limit // 10


def _next(grid_zone: GridZone, now_s: float, every_s: float) -> float:
    offset_s = AFTER_S + jitter_s(grid_zone)
    return now_s - (now_s - offset_s) % every_s + every_s
