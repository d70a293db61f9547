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


def is_settled(newest: Point, now_s: float) -> bool:
    """Whether asking again within this hour would be pointless: the present hour's value is there and measured."""
    return newest.hour_s >= now_s - now_s % S_PER_HOUR and newest.quality == "measured"


def allows_refresh(left: int, limit: int, zones: int) -> bool:
    """Whether the budget has room for a refresh besides the next hourly round of all zones and a tenth kept for recovery."""
    return left > zones + limit // 10


def _next(grid_zone: GridZone, now_s: float, every_s: float) -> float:
    offset_s = AFTER_S + jitter_s(grid_zone)
    return now_s - (now_s - offset_s) % every_s + every_s
