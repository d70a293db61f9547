"""Electricity Maps: the API's client. One call is one request; nothing is retried or remembered here (that is `guard.py`)."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from typing import TYPE_CHECKING, Final, Literal

from carbon_scheduler.errors import (
    ConfigError,
    KeyRejected,
    MalformedBody,
    NoRecentData,
    NotInPlan,
    ProviderError,
    ProviderUnavailable,
    RateLimited,
    UnknownZone,
)
from carbon_scheduler.observe.redact import printable
from carbon_scheduler.providers.electricity_maps_body import (
    NAME,
    SIGNALS,
    Asked,
    FactorType,
    Temporality,
    parse,
    read_series,
    read_zones,
)
from carbon_scheduler.providers.http import MAX_BODY_B, Answer, Http
from carbon_scheduler.providers.key import KEY_VARIABLE, ApiKey, KeySource
from carbon_scheduler.units import MIB_B, S_PER_HOUR

if TYPE_CHECKING:
    from collections.abc import Mapping

    from carbon_scheduler.config import ElectricityMapsConfig
    from carbon_scheduler.core.model import GridZone
    from carbon_scheduler.core.settings import Signal
    from carbon_scheduler.providers.clock import Clock
    from carbon_scheduler.providers.source import Series, ZoneAccess

DEFAULT_URL: Final = "https://api.electricitymaps.com"
HISTORY_H: Final = 24
RANGE_H: Final = 10 * 24
"""The longest range of hourly values in one call."""
MAX_ZONES_B: Final = 8 * MIB_B
MAX_RETRY_AFTER_S: Final = 3600.0
_SAID_CHARS: Final = 300

SET_KEY: Final = (
    "kubectl create secret generic carbon-aware-scheduler -n kube-system --from-literal=api-key=... "
    "--dry-run=client -o yaml | kubectl apply -f -"
)
"""How an administrator sets the key of a scheduler in a cluster."""
HOW_TO_SET_KEY: Final = f"set {KEY_VARIABLE}, or in a cluster: {SET_KEY}"
NO_KEY: Final = f"No Electricity Maps key: static averages are used instead of live values; {HOW_TO_SET_KEY}"


@dataclass(frozen=True, kw_only=True)
class Options:
    """How to reach the API. `ca_file` "" trusts the system's certificates. A version at the end of `url` wins."""

    url: str = DEFAULT_URL
    version: Literal["v3", "v4"] = "v4"
    emission_factor_type: FactorType = "lifecycle"
    timeout_s: float = 10.0
    ca_file: str = ""

    @classmethod
    def of(cls, config: ElectricityMapsConfig) -> Options:
        return cls(
            url=config.url,
            version=config.version,
            emission_factor_type=config.emission_factor_type,
            timeout_s=config.timeout_s,
            ca_file=config.ca_file,
        )


class ElectricityMaps:
    """A `Provider`. Belongs to one event loop from its first call to `close`.

    Raises ConfigError from the constructor for options that cannot be used.
    """

    name = NAME

    def __init__(self, key: KeySource, options: Options, clock: Clock, environ: Mapping[str, str]) -> None:
        url, version = options.url.rstrip("/"), options.version
        if url.endswith(("/v3", "/v4")):
            url, version = url[:-3], "v3" if url.endswith("3") else "v4"
        self._http = Http(url, timeout_s=options.timeout_s, ca_file=options.ca_file, environ=environ)
        self._version = version
        self._factor_type = options.emission_factor_type
        self._key = key
        self._clock = clock

    @property
    def exposed(self) -> bool:
        """Whether requests leave the machine without encryption."""
        return self._http.base.scheme == "http" and self._http.base.host not in ("localhost", "127.0.0.1", "::1")

    @property
    def signal(self) -> Signal:
        return SIGNALS[self._factor_type]

    def unusable(self) -> str | None:
        """None when it has a key, else what to do. Looks at the key's file."""
        try:
            return None if self._key.key() else NO_KEY
        except ConfigError as error:
            return f"{error}. Static averages are used instead of live values"

    def credential_version(self) -> int:
        """Changes when the key has changed."""
        return self._key.version

    async def latest(self, grid_zone: GridZone) -> Series:
        return await self._series(grid_zone, "latest")

    async def history(self, grid_zone: GridZone, hours: int = HISTORY_H) -> Series:
        """The last `hours` hours up to the present one, at most 24 (what the API's `history` holds)."""
        series = await self._series(grid_zone, "history")
        return series if hours >= HISTORY_H else _last(series, hours, self._clock.wall())

    async def forecast(self, grid_zone: GridZone, horizon_h: int = 24) -> Series:
        """The present hour and the next `horizon_h` (6, 24, 48 or 72). Most free plans do not include it."""
        return await self._series(grid_zone, "forecast", {"horizonHours": str(horizon_h)})

    async def past_range(self, grid_zone: GridZone, start_s: float, end_s: float) -> Series:
        """Hours from `start_s` to before `end_s`, at most 240. Not in the free plan."""
        return await self._series(grid_zone, "past-range", {"start": _iso(start_s), "end": _iso(end_s)})

    async def zones(self) -> Mapping[str, ZoneAccess]:
        """All zones of the API; works without a key, then without `access`."""
        path = f"/{self._version}/zones"
        key = self._key.key()
        answer = await self._http.get(path, {}, key, MAX_ZONES_B)
        self._check(answer, path, "all zones", key)
        return read_zones(answer.body)

    async def close(self) -> None:
        await self._http.close()

    async def _series(
        self, grid_zone: GridZone, temporality: Temporality, extra: Mapping[str, str] | None = None
    ) -> Series:
        # Without disableCallerLookup an unresolved zone becomes that of the caller's IP address: a valid-looking wrong value.
        query = {
            "zone": grid_zone,
            "disableCallerLookup": "true",
            "emissionFactorType": self._factor_type,
            **(extra or {}),
        }
        path = f"/{self._version}/carbon-intensity/{temporality}"
        asked = Asked(grid_zone, temporality, self._factor_type, self._clock.wall())
        key = self._key.key()
        answer = await self._http.get(path, query, key, MAX_BODY_B)
        if answer.status == HTTPStatus.UNAUTHORIZED and self._key.read_again() not in (None, key):
            key = self._key.key()  # the key was renewed in the meantime
            answer = await self._http.get(path, query, key, MAX_BODY_B)
        self._check(answer, path, f"zone {grid_zone}", key)
        return read_series(answer.body, asked)

    def _check(self, answer: Answer, path: str, what: str, key: ApiKey | None) -> None:
        if answer.status == HTTPStatus.OK:
            return
        where = f"{self._http.place}{path}, {what}"
        raise failure(answer, where=where, key=key, origin=self._key.origin, now_s=self._clock.wall())


def failure(answer: Answer, *, where: str, key: ApiKey | None, origin: str, now_s: float) -> ProviderError:
    """The error that an answer without values stands for. Its text begins `API request failed with status 401: ...`.

    401 means three things, told apart by the body: the key is wrong ("Invalid auth-token"), the plan does not cover this
    ("Request unauthorized for"), and too many requests at once (anything else: reported by users, not contradicted by the
    vendor).
    """
    status = answer.status
    error, said = _said(answer, key)
    # The first words of a 401 are the user's own and the same for all three.
    phrase = "Request unauthorized" if status == HTTPStatus.UNAUTHORIZED else _phrase(status)
    text = f"API request failed with status {status}: {phrase}; {where}"
    text += f"; Electricity Maps said: {said!r}" if said else "; without a word of explanation"

    def told(fix: str) -> str:
        return f"{text}; {fix}"

    if status == HTTPStatus.UNAUTHORIZED and error.startswith("Invalid auth-token"):
        if key is None:
            return KeyRejected(told(f"no key was sent: {HOW_TO_SET_KEY}"))
        return KeyRejected(
            told(
                f"the key from {origin} is not accepted: compare it with the one at https://portal.electricitymaps.com, and "
                "see that the Secret holds it in base64 exactly once"
            )
        )
    if status == HTTPStatus.FORBIDDEN:
        return KeyRejected(told(f"the key from {origin} may have been revoked: see https://portal.electricitymaps.com"))
    if status == HTTPStatus.UNAUTHORIZED and error.startswith("Request unauthorized"):
        return NotInPlan(
            told(
                "the key is right but its plan does not cover this (a free key is tied to one zone): see "
                "https://portal.electricitymaps.com"
            )
        )
    if status in (HTTPStatus.UNAUTHORIZED, HTTPStatus.TOO_MANY_REQUESTS):
        return RateLimited(
            told(
                "too many requests for this key: ask less often (electricity_maps.requests_per_hour), or share the key with "
                "fewer programs"
            ),
            retry_after_s=_retry_after(answer.retry_after, now_s),
        )
    if status == HTTPStatus.BAD_REQUEST and re.search(r"zone\b.*does not exist", said, re.IGNORECASE):
        return UnknownZone(told("choose one of `carbon-intensity --type zones`"))
    if status == HTTPStatus.BAD_REQUEST:
        return MalformedBody(told("the request is not understood: is electricity_maps.version right?"))
    if status == HTTPStatus.NOT_FOUND and "html" not in answer.content_type:
        return NoRecentData(told("the source has no value of this zone for now: ask again in a few minutes"))
    if 300 <= status < 400:
        return ProviderUnavailable(
            told(
                f"it redirects to {answer.location or 'nowhere'}: not followed, the key would travel along; if that address is "
                "right, set ELECTRICITY_MAPS_URL to it"
            )
        )
    if status == HTTPStatus.NOT_FOUND:
        return ProviderUnavailable(
            told("this address does not serve Electricity Maps' API: correct ELECTRICITY_MAPS_URL")
        )
    if status == HTTPStatus.PROXY_AUTHENTICATION_REQUIRED:
        return ProviderUnavailable(told("the proxy wants a user and password: put them into HTTPS_PROXY"))
    return ProviderUnavailable(told("the fault is not on this side: ask again later"))


def _said(answer: Answer, key: ApiKey | None) -> tuple[str, str]:
    """(the body's `error`, all that the provider said in one printable line), from two kinds of JSON, HTML or plain text."""
    error = message = ""
    try:
        tree = parse(answer.body, "")
    except MalformedBody:
        tree = None
    if isinstance(tree, dict):
        error, message = (word if isinstance(word, str) else "" for word in (tree.get("error"), tree.get("message")))
    elif answer.body:
        text = answer.body[: 8 * 1024].decode("utf-8", "replace")
        message = " ".join(re.sub(r"(?is)<head.*?</head>|<[^>]*>", " ", text).split())
    said = " - ".join(word for word in (error, message) if word)
    return error, printable(key.hide_in(said) if key else said, _SAID_CHARS)


def _phrase(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return "Unknown status"


def _retry_after(text: str, now_s: float) -> float | None:
    """Seconds or an HTTP date (RFC 9110 10.2.3), within 0 and an hour; None when absent or unreadable."""
    text = text.strip()
    if text.isascii() and text.isdigit():
        wait_s = float(text[:9])
    else:
        try:
            wait_s = parsedate_to_datetime(text).timestamp() - now_s
        except (ValueError, TypeError, OverflowError):
            return None
    return min(max(wait_s, 0.0), MAX_RETRY_AFTER_S)


def _last(series: Series, hours: int, now_s: float) -> Series:
    """Without the points older than `hours` hours (but never empty: the newest stays)."""
    from msgspec.structs import replace

    first_s = now_s - now_s % S_PER_HOUR - (hours - 1) * S_PER_HOUR
    points = tuple(point for point in series.points if point.hour_s >= first_s) or series.points[-1:]
    return replace(series, points=points)


def _iso(time_s: float) -> str:
    return datetime.fromtimestamp(time_s, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
