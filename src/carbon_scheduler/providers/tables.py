"""The packaged tables: grid zones, their aliases, cloud regions, country codes. Origins: `tables/README.md`."""

from __future__ import annotations

import csv
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING, get_args

from carbon_scheduler.core.grid import GridZones, StaticAverage, StaticSource, Zone
from carbon_scheduler.core.model import GridZone

if TYPE_CHECKING:
    from collections.abc import Iterator


@cache
def grid_zones() -> GridZones:
    """All grid zones. Read once per process, about 10 ms. Raises ValueError when a packaged table is damaged."""
    return GridZones(
        zones=[_zone(row) for row in _rows("zones.csv")],
        aliases={row["alias"]: row["zone"] for row in _rows("zone_aliases.csv")},
        cloud_regions={(row["provider"], row["region"]): row["zone"] for row in _rows("cloud_regions.csv")},
        countries={row["alpha_3"]: row["alpha_2"] for row in _rows("countries.csv")},
    )


def _zone(row: dict[str, str]) -> Zone:
    source = next((known for known in _SOURCES if known == row["static_source"]), None)
    if source is None:
        raise ValueError(f"zones.csv: {row['zone']}: static_source {row['static_source']!r} is none of {_SOURCES}")
    return Zone(
        grid_zone=GridZone(row["zone"]),
        name=row["name"],
        country=row["country"],
        average=StaticAverage(
            float(row["static_average_g_per_kwh"]),
            source,
            int(row["static_year"]) if row["static_year"] else None,
        ),
        sub_zones=tuple(GridZone(zone) for zone in row["sub_zones"].split()),
        timezone=row["timezone"],
    )


_SOURCES: tuple[StaticSource, ...] = get_args(StaticSource)


def _rows(name: str) -> Iterator[dict[str, str]]:
    text = (files("carbon_scheduler.providers") / "tables" / name).read_text(encoding="utf-8")
    yield from csv.DictReader(text.splitlines())
