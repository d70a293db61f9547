"""What a source of carbon data gives, whichever it is: the shape of its answers and of its interface."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, Protocol

from carbon_scheduler.core.carbon import Quality
from carbon_scheduler.core.model import GridZone, Struct
from carbon_scheduler.core.settings import Signal

if TYPE_CHECKING:
    from collections.abc import Mapping

Reason = Literal[
    "null", "type", "nan", "negative", "zero", "range", "zone_echo", "factor_type", "time", "future", "stale", "jump"
]
"""Why a well-formed value was not believed: the `reason` of RejectedValue and of the metric."""


class Point(Struct, frozen=True):
    """The intensity of one hour. `hour_s` is its start; `g_per_kwh` is finite and within 0..1500.

    `quality` is measured or estimated; forecast in a forecast; static when there is no source. `method` is the source's own
    word for how it estimated, for people: an open set.
    """

    hour_s: float
    g_per_kwh: float
    quality: Quality
    method: str = ""


class Rejected(Struct, frozen=True):
    """A row of an answer that was not believed."""

    reason: Reason
    text: str


class Series(Struct, frozen=True):
    """One answer of a source about one zone: points oldest first, one per hour, gaps possible, at least one.

    `issued_s` is when it was asked for. `rejected` are the rows left out.
    """

    grid_zone: GridZone
    source: str
    signal: Signal
    points: tuple[Point, ...]
    issued_s: float
    rejected: tuple[Rejected, ...] = ()


class ZoneAccess(Struct, frozen=True):
    """A zone as the source lists it. `access` holds `signal/temporality` words or `*`; None without a key."""

    grid_zone: str
    name: str
    access: tuple[str, ...] | None = None


class Provider(Protocol):
    """A source of carbon data. Every call is one request and raises a ProviderError; none retries.

    `hours` and `horizon_h` are upper bounds. An answer without a single believable value raises RejectedValue or NoRecentData.
    """

    @property
    def name(self) -> str:
        """Stands in `source` of every value: "electricity-maps"."""

    @property
    def signal(self) -> Signal: ...

    def unusable(self) -> str | None:
        """None when it can be asked, else why not and what to do (no key). Cheap: may be called every few seconds."""

    def credential_version(self) -> int:
        """Changes when the key has changed: refusals from before are then worth nothing."""

    async def latest(self, grid_zone: GridZone) -> Series: ...

    async def history(self, grid_zone: GridZone, hours: int = 24) -> Series: ...

    async def forecast(self, grid_zone: GridZone, horizon_h: int = 24) -> Series: ...

    async def zones(self) -> Mapping[str, ZoneAccess]: ...

    async def close(self) -> None: ...
