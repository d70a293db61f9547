"""What the fake Electricity Maps answers: bodies, statuses and headers as recorded from the real one. Pure."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final, Literal, get_args

from carbon_scheduler.units import S_PER_HOUR

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from carbon_scheduler.core.grid import GridZones
    from carbon_scheduler.core.model import GridZone

ModeName = Literal[
    # what the values are
    "live", "measured", "estimated", "revised", "stale", "frozen", "value", "null", "zero", "nan", "negative", "text",
    "glitch", "wrong-zone", "v3-minimal", "no-data",
    # what the server does
    "slow", "drop", "truncated", "cut", "huge", "redirect", "html-500", "429", "bad-key", "plan", "throttle-401",
]  # fmt: skip
MODES: Final[tuple[ModeName, ...]] = get_args(ModeName)


@dataclass(frozen=True)
class Mode:
    """How a zone behaves. `number` is hours for stale, seconds for slow, g/kWh for value, frozen and glitch, and Retry-After in
    seconds for 429 (None: without the header).

    live: as the real one, the present and the last hour estimated, older ones measured. revised: estimated hours change with
    every quarter of an hour. glitch: the present hour alone reads `number`. cut: less body than announced, then the connection
    ends.
    """

    name: ModeName = "live"
    number: float | None = None


HTML: Final = "text/html; charset=utf-8"
JSON: Final = "application/json; charset=utf-8"


@dataclass(frozen=True)
class Reply:
    """Status, body, content type, further headers."""

    status: int
    body: bytes
    content_type: str = JSON
    headers: tuple[tuple[str, str], ...] = ()


NO_TOKEN: Final = (
    "Please provide a valid authentication header. See https://app.electricitymaps.com/docs/getting-started#authorization for "
    "details"
)
WRONG_TOKEN: Final = (
    "The provided token is invalid. If this token used to work, please visit https://help.electricitymaps.com "
    "to get support"
)
OUTSIDE_PLAN: Final = (
    "You do not have access to this specific endpoint for this specific zone. Please visit https://help.electricitymaps.com if "
    "this is a mistake"
)
METHODS: Final = ("TIME_SLICER_AVERAGE", "FORECASTS_HIERARCHY")


def reply(status: int, body: Mapping[str, object]) -> Reply:
    return Reply(status, json.dumps(body, separators=(",", ":"), ensure_ascii=False).encode())


def invalid_token(text: str) -> Reply:
    return reply(401, {"error": "Invalid auth-token", "message": text})


def outside_plan(zone: str, temporality: str) -> Reply:
    error = f"Request unauthorized for zoneKey={zone},requestType={temporality},dataType=carbon-intensity."
    return reply(401, {"error": error, "message": OUTSIDE_PLAN})


def bad_request(message: str) -> Reply:
    return reply(400, {"status": "error", "message": message})


def no_recent_data(zone: str) -> Reply:
    return reply(404, {"error": f'No recent data for zone "{zone}"'})


def not_found(method: str, path: str) -> Reply:
    safe = path.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return Reply(404, _page(f"Cannot {method} {safe}"), HTML)


def server_fault() -> Reply:
    return Reply(500, _page("Internal Server Error"), HTML)


def _page(text: str) -> bytes:
    """An error page of Express."""
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n<title>Error</title>\n</head>\n'
        f"<body>\n<pre>{text}</pre>\n</body>\n</html>\n"
    ).encode()


class Rows:
    """Rows about one zone at one time. `value` gives the zone's intensity of an hour, or None."""

    def __init__(
        self,
        zone: str,
        mode: Mode,
        now_s: float,
        factor_type: str,
        version: str,
        value: Callable[[float], float | None],
    ) -> None:
        self._zone = zone
        self._mode = mode
        self._now_s = now_s
        self._factor_type = factor_type
        self._minimal = version == "v3" and mode.name == "v3-minimal"
        self._value = value
        self._present_s = now_s - now_s % S_PER_HOUR

    def newest_s(self) -> float:
        """The start of the newest hour that there is a row for."""
        behind_h = (self._mode.number or 0.0) if self._mode.name == "stale" else 0.0
        return self._present_s - behind_h * S_PER_HOUR

    def row(self, hour_s: float) -> dict[str, object] | None:
        """The row of an hour with all its fields, None where the data have a gap."""
        value = self._shown(hour_s)
        if value is _GAP:
            return None
        if self._mode.name == "v3-minimal":
            return {"zone": self._zone, "carbonIntensity": value, "datetime": iso(hour_s)}
        estimated = self._estimated(hour_s)
        # Times as recorded: a row is created the evening before, and updated in the source's quarter-hourly runs.
        updated_s = min(self._now_s - (self._now_s - 240) % 900, hour_s + 20 * S_PER_HOUR)
        return {
            "zone": self._zone,
            "carbonIntensity": value,
            "datetime": iso(hour_s),
            "updatedAt": iso(updated_s + 8.708),
            "createdAt": iso(hour_s - 18.4 * S_PER_HOUR),
            "emissionFactorType": self._factor_type,
            "flowTraced": True,
            "isEstimated": estimated,
            "estimationMethod": METHODS[hour_s == self._present_s] if estimated else None,
        }

    def future(self, hour_s: float) -> dict[str, object] | None:
        value = self._shown(hour_s)
        return None if value is _GAP else {"carbonIntensity": value, "datetime": iso(hour_s)}

    def _estimated(self, hour_s: float) -> bool:
        if self._mode.name in ("measured", "estimated"):
            return self._mode.name == "estimated"
        return hour_s >= self._present_s - S_PER_HOUR

    def _shown(self, hour_s: float) -> object:
        """What stands in carbonIntensity; `_GAP` where there is no row."""
        mode, number = self._mode.name, self._mode.number
        newest = hour_s == self._present_s
        wrong: Mapping[str, object] = {
            "null": None, "zero": 0, "nan": float("nan"), "negative": -5, "text": "84",
        }  # fmt: skip
        if mode in wrong:
            return wrong[mode]
        if mode in ("frozen", "value") and number is not None:
            return _number(number)
        if mode == "glitch" and newest:
            return _number(11.0 if number is None else number)
        value = self._value(self._present_s - self._present_s % 86400 if mode == "frozen" else hour_s)
        if value is None:
            return _GAP
        if mode == "revised" and self._estimated(hour_s):
            value *= 1 + 0.1 * ((int(self._now_s // 900) % 4) - 1.5)
        if self._factor_type == "direct":
            value *= 0.85  # not a claim about any grid: it only has to differ
        return _number(value)


_GAP: Final = object()


def _number(value: float) -> float | int:
    """Recorded answers hold integers; data with decimals keep two of them."""
    return int(value) if value == int(value) else round(value, 2)


def zones_body(zones: GridZones, access: Callable[[GridZone], list[str]] | None) -> Reply:
    """`/zones`: with a key every entry has `access`."""
    body: dict[str, object] = {}
    parents = {part: zone for zone in zones for part in zones[zone].sub_zones}
    for key in zones:
        zone = zones[key]
        entry: dict[str, object] = {
            "zoneName": zone.name,
            "zoneKey": key,
            "countryCode": key[:2],
            "zoneParentKey": parents.get(key),
            "subZoneKeys": list(zone.sub_zones),
            "isCommerciallyAvailable": True,
            "tier": None if zone.sub_zones else "TIER_A",
        }
        if key in parents:
            entry["countryName"] = zone.country
        if access is not None:
            entry["access"] = access(key)
        body[key] = entry
    return reply(200, body)


def iso(time_s: float) -> str:
    return datetime.fromtimestamp(time_s, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
