"""Carbon intensity for simulations: recorded hours from CSV files, or a synthetic daily course.

Files: one zone each (`datetime_utc,zone,carbon_intensity_gco2eq_per_kwh`), a folder of such files, or a wide file
(`datetime_utc` and a column per zone). `.csv` or `.csv.gz`; hourly, UTC, ISO 8601; an empty cell or an absent hour is a gap.
"""

from __future__ import annotations

import csv
import gzip
import math
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final, Protocol
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import numpy as np

from carbon_scheduler.core.grid import UnknownGridZone
from carbon_scheduler.errors import ConfigError
from carbon_scheduler.observe.redact import printable
from carbon_scheduler.units import MAX_INTENSITY_G_PER_KWH, S_PER_HOUR

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from pathlib import Path

    from numpy.typing import NDArray

    from carbon_scheduler.core.grid import GridZones
    from carbon_scheduler.core.model import GridZone

MAX_ROWS: Final = 200_000
"""Of one file: 22 years of hours."""
_VALUE_COLUMNS: Final = ("carbon_intensity_gco2eq_per_kwh", "carbon_intensity", "g_per_kwh")


class Hours:
    """Hourly values of one zone without gaps in its index: `g_per_kwh[i]` is the hour that starts at `start_s` + i hours, NaN
    where nothing was recorded."""

    def __init__(self, start_s: float, g_per_kwh: NDArray[np.float64]) -> None:
        self.start_s = start_s
        self.g_per_kwh = g_per_kwh

    @property
    def end_s(self) -> float:
        return self.start_s + len(self.g_per_kwh) * S_PER_HOUR


def read_intensity(paths: Iterable[Path], zones: GridZones) -> dict[GridZone, Hours]:
    """Everything in the files, by grid zone. An hour given twice: the later file wins.

    Names are resolved, so old data can be used for present zones; where a file has both (IN-MH and IN-WE, into which it was
    merged), the present one's values stand.

    A year of 123 zones takes about 1 s. Raises ConfigError with file and line for what cannot be read.
    """
    cells: dict[GridZone, dict[int, float]] = {}
    for path in paths:
        files = (
            sorted(file for file in path.iterdir() if file.name.endswith((".csv", ".csv.gz")))
            if path.is_dir()
            else [path]
        )
        if not files:
            raise ConfigError(f"{path}: holds no .csv or .csv.gz file, expected hourly carbon intensity")
        for file in files:
            for zone, hour, g_per_kwh in _read(file, zones):
                cells.setdefault(zone, {})[hour] = g_per_kwh
    return {zone: _hours(by_hour) for zone, by_hour in sorted(cells.items()) if by_hour}


class GridData(Protocol):
    """Where a simulation's values come from."""

    @property
    def label(self) -> str:
        """For people: what these values are."""

    def g_per_kwh(self, grid_zone: GridZone, hour_s: float) -> float | None:
        """The value of the hour that starts at `hour_s`, or None without one."""


class Recorded:
    """Recorded hours, over and over: time runs in a circle over each zone's record.

    `shift_s` (whole hours) is added to the time asked for, so that a record of 2022 can play as the present.
    """

    def __init__(self, hours: Mapping[GridZone, Hours], shift_s: float = 0.0) -> None:
        self._hours = hours
        self._shift_s = shift_s
        self.label = f"recorded, {len(hours)} zones"

    def g_per_kwh(self, grid_zone: GridZone, hour_s: float) -> float | None:
        hours = self._hours.get(grid_zone)
        if hours is None:
            return None
        at = round((hour_s + self._shift_s - hours.start_s) / S_PER_HOUR) % len(hours.g_per_kwh)
        value = float(hours.g_per_kwh[at])
        return None if math.isnan(value) else value

    def between(self) -> tuple[float, float]:
        """The time that at least one zone has values of."""
        return min(h.start_s for h in self._hours.values()), max(h.end_s for h in self._hours.values())


class Synthetic:
    """Not measured by anyone: each zone's static average times one daily course in its local time.

    The course: a dip of 22 % around 13:00 (sun) and a rise of 12 % around 20:00 (evening peak), bell-shaped, scaled so that
    the day's mean is the static average. Every day is the same. Rounded to whole grams.
    """

    label = "synthetic: annual averages with one daily course"

    def __init__(self, zones: GridZones) -> None:
        self._zones = zones
        raw = [1 - 0.22 * _bell(hour, 13, 3.0) + 0.12 * _bell(hour, 20, 2.5) for hour in range(24)]
        self._course = [factor * 24 / sum(raw) for factor in raw]
        self._clocks: dict[str, ZoneInfo | None] = {}

    def g_per_kwh(self, grid_zone: GridZone, hour_s: float) -> float | None:
        if grid_zone not in self._zones:
            return None
        zone = self._zones[grid_zone]
        local = datetime.fromtimestamp(hour_s, self._clock(zone.timezone) or UTC)
        return float(max(1, round(zone.average.g_per_kwh * self._course[local.hour])))

    def _clock(self, name: str) -> ZoneInfo | None:
        """UTC on a machine without a time zone database: the course is then shifted, which does no harm here."""
        if name not in self._clocks:
            try:
                self._clocks[name] = ZoneInfo(name)
            except (ZoneInfoNotFoundError, ValueError, OSError):
                self._clocks[name] = None
        return self._clocks[name]


def _bell(hour: int, middle: float, width_h: float) -> float:
    away_h = min(abs(hour - middle), 24 - abs(hour - middle))
    return math.exp(-((away_h / width_h) ** 2))


def _read(file: Path, zones: GridZones) -> Iterator[tuple[GridZone, int, float]]:
    """(zone, hours since 1970, g/kWh) of one file."""
    try:
        with (
            gzip.open(file, "rt", encoding="utf-8", newline="")
            if file.suffix == ".gz"
            else file.open(encoding="utf-8", newline="") as stream
        ):
            rows = csv.reader(stream)
            header = next(rows, [])
            if "datetime_utc" not in header:
                raise ConfigError(
                    f"{file}:1: got columns {printable(', '.join(header), 200)!r}, expected one named datetime_utc"
                )
            at = header.index("datetime_utc")
            value_column = next((name for name in _VALUE_COLUMNS if name in header), None)
            if value_column is not None:
                yield from _long(file, rows, header, at, header.index(value_column), zones)
            else:
                columns = _columns(file, header, at, zones)
                for line, row in _bounded(file, rows, len(header)):
                    hour = _hour(file, line, row[at])
                    for index, zone in columns:
                        if row[index]:
                            yield zone, hour, _value(file, line, row[index])
    except (OSError, EOFError, UnicodeDecodeError, csv.Error) as error:
        raise ConfigError(
            f"{file}: cannot be read: {error}; expected hourly carbon intensity as .csv or .csv.gz"
        ) from error


def _columns(file: Path, header: list[str], at: int, zones: GridZones) -> list[tuple[int, GridZone]]:
    """The column of each zone in a wide file. A column under the zone's own key wins over those of its former parts."""
    chosen: dict[GridZone, int] = {}
    for index, name in enumerate(header):
        if index != at and name.strip():
            zone = _zone(file, 1, name, zones)
            if zone not in chosen or name == zone:
                chosen[zone] = index
    return [(index, zone) for zone, index in chosen.items()]


def _long(
    file: Path, rows: Iterator[list[str]], header: list[str], at: int, value_at: int, zones: GridZones
) -> Iterator[tuple[GridZone, int, float]]:
    zone_at = header.index("zone") if "zone" in header else None
    known: dict[str, GridZone] = {}
    for line, row in _bounded(file, rows, len(header)):
        name = row[zone_at] if zone_at is not None else file.name.split("_")[0]
        if name not in known:
            known[name] = _zone(file, line, name, zones)
        if row[value_at]:
            yield known[name], _hour(file, line, row[at]), _value(file, line, row[value_at])


def _bounded(file: Path, rows: Iterator[list[str]], width: int) -> Iterator[tuple[int, list[str]]]:
    for line, row in enumerate(rows, start=2):
        if line > MAX_ROWS:
            raise ConfigError(f"{file}: more than {MAX_ROWS} lines; split it")
        if not row:
            continue
        if len(row) != width:
            raise ConfigError(f"{file}:{line}: got {len(row)} columns, expected {width} as in the header")
        yield line, row


def _zone(file: Path, line: int, name: str, zones: GridZones) -> GridZone:
    zone = zones.resolve(name)
    if isinstance(zone, UnknownGridZone):
        near = f"; did you mean {' or '.join(zone.nearest)}?" if zone.nearest else ""
        raise ConfigError(f"{file}:{line}: {printable(name, 64)!r} is not a grid zone{near}")
    return zone


def _hour(file: Path, line: int, text: str) -> int:
    try:
        time = datetime.fromisoformat(text)
        hours = (time if time.tzinfo else time.replace(tzinfo=UTC)).timestamp() / S_PER_HOUR
    except (ValueError, OverflowError):
        hours = math.nan
    if not hours.is_integer():
        raise ConfigError(
            f"{file}:{line}: datetime_utc is {printable(text, 40)!r}, expected a full hour such as 2022-01-01T00:00:00Z"
        )
    return int(hours)


def _value(file: Path, line: int, text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.inf
    if not 0 <= value <= MAX_INTENSITY_G_PER_KWH:
        raise ConfigError(
            f"{file}:{line}: got {printable(text, 40)!r} g/kWh, expected 0 to {MAX_INTENSITY_G_PER_KWH:g}"
        )
    return value


def _hours(by_hour: Mapping[int, float]) -> Hours:
    first, last = min(by_hour), max(by_hour)
    if last - first >= MAX_ROWS:
        raise ConfigError(
            f"carbon intensity from {first} to {last} (hours since 1970) is a span of over 22 years: a wrong date?"
        )
    g_per_kwh = np.full(last - first + 1, np.nan)
    g_per_kwh[np.fromiter(by_hour, dtype=np.int64) - first] = np.fromiter(by_hour.values(), dtype=np.float64)
    return Hours(first * S_PER_HOUR, g_per_kwh)
