"""Reads the bodies of Electricity Maps: bytes in, a Series or a named error out, never another exception.

The API has three envelopes (a bare object; `history` or `forecast` with a list; `data` with a list or an object) and leaves
out fields from plan to plan and version to version. Only `carbonIntensity` and `datetime` are relied upon.
"""

from __future__ import annotations

import json
import math
from datetime import datetime
from typing import TYPE_CHECKING, Final, Literal

from carbon_scheduler.core.carbon import Quality
from carbon_scheduler.core.model import Struct
from carbon_scheduler.core.settings import Signal
from carbon_scheduler.errors import MalformedBody, NoRecentData, RejectedValue
from carbon_scheduler.observe.redact import printable
from carbon_scheduler.providers.source import Point, Reason, Rejected, Series, ZoneAccess
from carbon_scheduler.units import MAX_INTENSITY_G_PER_KWH, S_PER_HOUR

if TYPE_CHECKING:
    from collections.abc import Mapping

    from carbon_scheduler.core.model import GridZone

NAME: Final = "electricity-maps"
SKEW_S: Final = 300.0
OLDEST_S: Final = 48 * S_PER_HOUR
FURTHEST_S: Final = 75 * S_PER_HOUR
MAX_ROWS: Final = 3000
"""100 days of hours, the longest range the API serves in one call, and some."""
_TIME_CHARS: Final = 40
_METHOD_CHARS: Final = 64

Temporality = Literal["latest", "history", "forecast", "past-range"]
FactorType = Literal["lifecycle", "direct"]
SIGNALS: Final[dict[FactorType, Signal]] = {"lifecycle": "average-lifecycle", "direct": "average-direct"}


class Asked(Struct, frozen=True):
    """What an answer is held against. `now_s` is the time of the request."""

    grid_zone: GridZone
    temporality: Temporality
    factor_type: FactorType
    now_s: float

    @property
    def place(self) -> str:
        return f"carbon-intensity/{self.temporality} of {self.grid_zone}"


def read_series(body: bytes, asked: Asked) -> Series:
    """The believable points of an answer, one per hour.

    Rows that cannot be true are left out and told in `rejected`. Raises RejectedValue when none is left or the whole answer is
    about another zone, NoRecentData for an empty list, MalformedBody for anything that is not an answer.
    """
    top = _object(parse(body, asked.place), asked.place)
    if "error" in top and "carbonIntensity" not in top:
        raise NoRecentData(f"{asked.place}: the source answered {_show(top['error'], 200)} instead of values")
    echo = top.get("zone")
    if echo is not None and echo != asked.grid_zone:
        raise _rejection(_foreign_zone(echo, asked))
    points: dict[float, Point] = {}
    rejected: list[Rejected] = []
    for row in _rows(top, asked.place):
        point = _point(row, top, asked)
        if isinstance(point, Rejected):
            rejected.append(point)
        else:
            points[point.hour_s] = point
    if not points:
        if rejected:
            raise _rejection(rejected[-1])
        raise NoRecentData(f"{asked.place}: the source's list is empty; it has no values for now")
    return Series(
        grid_zone=asked.grid_zone,
        source=NAME,
        signal=SIGNALS[asked.factor_type],
        points=tuple(points[hour_s] for hour_s in sorted(points)),
        issued_s=asked.now_s,
        rejected=tuple(rejected),
    )


def read_zones(body: bytes) -> dict[str, ZoneAccess]:
    """The map of `/zones`. Entries that are no object are left out. Raises MalformedBody."""
    top = _object(parse(body, "/zones"), "/zones")
    found: dict[str, ZoneAccess] = {}
    for key, entry in top.items():
        if not isinstance(entry, dict):
            continue
        name = entry.get("displayName") or entry.get("zoneName") or ""
        access = entry.get("access")
        found[printable(key, 64)] = ZoneAccess(
            grid_zone=printable(key, 64),
            name=printable(name, 128) if isinstance(name, str) else "",
            access=tuple(printable(word, 128) for word in access if isinstance(word, str))
            if isinstance(access, list)
            else None,
        )
    if not found:
        raise MalformedBody("/zones: got no zones, expected an object of zone keys; is ELECTRICITY_MAPS_URL right?")
    return found


def parse(body: bytes, place: str) -> object:
    """JSON, with NaN and Infinity let through: they are told as wrong values, not as wrong syntax. Raises MalformedBody."""
    try:
        tree: object = json.loads(body)
    except (ValueError, RecursionError) as error:  # UnicodeDecodeError and JSONDecodeError are ValueErrors
        start = printable(body[:60].decode("utf-8", "replace"), 80)
        raise MalformedBody(
            f"{place}: the answer is not JSON ({type(error).__name__}): got {len(body)} bytes beginning with {start!r}; "
            "a proxy or a wrong ELECTRICITY_MAPS_URL can be the cause"
        ) from None
    return tree


def _object(tree: object, place: str) -> Mapping[str, object]:
    if not isinstance(tree, dict):
        raise MalformedBody(f"{place}: got a JSON {type(tree).__name__}, expected an object")
    return tree


def _rows(top: Mapping[str, object], place: str) -> list[object]:
    """The rows of whichever envelope."""
    if "carbonIntensity" in top:
        return [top]
    for name in ("history", "forecast", "data"):
        inner = top.get(name)
        if isinstance(inner, dict):
            return [inner]
        if isinstance(inner, list):
            if len(inner) > MAX_ROWS:
                raise MalformedBody(f"{place}: got {len(inner)} rows, expected at most {MAX_ROWS}")
            return inner
    fields = printable(", ".join(top), 120)
    raise MalformedBody(
        f"{place}: got the fields {fields or 'none'}, expected carbonIntensity, history, forecast or data"
    )


def _point(row: object, top: Mapping[str, object], asked: Asked) -> Point | Rejected:
    if not isinstance(row, dict):
        return _reject("type", asked, f"a row is {_show(row)}, expected an object")
    echo = row.get("zone")
    if echo is not None and echo != asked.grid_zone:
        return _foreign_zone(echo, asked)
    factor = row.get("emissionFactorType", top.get("emissionFactorType"))
    if factor is not None and factor != asked.factor_type:
        return _reject("factor_type", asked, f"got {_show(factor)} emissions, expected {asked.factor_type}")
    time_s = _time(row.get("datetime"))
    if time_s is None:
        return _reject("time", asked, f"datetime is {_show(row.get('datetime'))}, expected 2026-11-23T14:00:00.000Z")
    latest_s = asked.now_s + (FURTHEST_S if asked.temporality == "forecast" else SKEW_S)
    if time_s > latest_s:
        return _reject("future", asked, f"{_show(row['datetime'])} is in the future: check this machine's clock")
    if asked.temporality != "past-range" and time_s < asked.now_s - OLDEST_S:
        return _reject("stale", asked, f"{_show(row['datetime'])} is over 48 hours old")
    g_per_kwh = _intensity(row.get("carbonIntensity"), asked, _show(row["datetime"]))
    if isinstance(g_per_kwh, Rejected):
        return g_per_kwh
    quality: Quality = "forecast"
    if asked.temporality != "forecast":
        # Only a plain false counts as measured: a body without the flag (v3) does not say so.
        quality = "measured" if row.get("isEstimated") is False else "estimated"
    method = row.get("estimationMethod")
    return Point(
        hour_s=time_s - time_s % S_PER_HOUR,
        g_per_kwh=g_per_kwh,
        quality=quality,
        method=printable(method, _METHOD_CHARS) if isinstance(method, str) else "",
    )


def _intensity(value: object, asked: Asked, when: str) -> float | Rejected:
    where = f"carbonIntensity of {when} is"
    if value is None:
        return _reject("null", asked, f"{where} null")
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return _reject("type", asked, f"{where} {_show(value)}, expected a number")
    try:
        g_per_kwh = float(value)
    except OverflowError:
        g_per_kwh = math.inf
    if math.isnan(g_per_kwh):
        return _reject("nan", asked, f"{where} NaN")
    if g_per_kwh < 0:
        return _reject("negative", asked, f"{where} {g_per_kwh:g}, expected 0 to {MAX_INTENSITY_G_PER_KWH:g}")
    if g_per_kwh > MAX_INTENSITY_G_PER_KWH:
        return _reject("range", asked, f"{where} {g_per_kwh:g}, expected 0 to {MAX_INTENSITY_G_PER_KWH:g}")
    if g_per_kwh == 0 and asked.factor_type != "direct":
        return _reject("zero", asked, f"{where} 0, which only direct emissions can be")
    return g_per_kwh


def _time(value: object) -> float | None:
    """Unix time of an ISO 8601 text with its offset; None for anything else (without an offset it could be any zone's)."""
    if not isinstance(value, str) or len(value) > _TIME_CHARS:
        return None
    try:
        time = datetime.fromisoformat(value)
        return time.timestamp() if time.tzinfo is not None else None
    except (ValueError, OverflowError):
        return None


def _show(value: object, limit: int = 60) -> str:
    """A value of the body for a message. Containers by their type only: the repr of a deep one would exceed the stack."""
    if value is None or isinstance(value, (str, int, float)):
        return printable(repr(value), limit)
    return f"a JSON {type(value).__name__}"


def _foreign_zone(echo: object, asked: Asked) -> Rejected:
    return _reject("zone_echo", asked, f"the answer is about zone {_show(echo)}")


def _reject(reason: Reason, asked: Asked, text: str) -> Rejected:
    return Rejected(reason, f"{asked.place}: {text}")


def _rejection(rejected: Rejected) -> RejectedValue:
    return RejectedValue(
        f"{rejected.text}; the value is not believed: ask again in a few minutes, and tell Electricity Maps if it stays",
        reason=rejected.reason,
    )
