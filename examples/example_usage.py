"""Carbon intensity in a Python program: the newest value, the last hours, and the cleaner of two zones.

export ELECTRICITY_MAPS_API_KEY=...        # without it: annual averages, marked as static
python examples/example_usage.py US-NY-NYIS FR
"""

from __future__ import annotations

import sys
from datetime import UTC, datetime

from carbon_scheduler import CarbonIntensityClient
from carbon_scheduler.errors import ProviderError


def main(zones: list[str]) -> int:
    latest = []
    with CarbonIntensityClient() as client:
        for zone in zones:
            try:
                value = client.latest(zone)
                mean = client.average(zone, hours=24)
            except ProviderError as error:  # this zone has no value now; the others may
                print(f"{zone}: {error}", file=sys.stderr)
                continue
            hour = datetime.fromtimestamp(value.hour_s, UTC)
            print(f"{value.grid_zone}: {value.g_per_kwh:.0f} gCO2eq/kWh ({value.quality}, hour from {hour:%H:%M} UTC)")
            what = "annual average" if mean.static else f"{mean.estimated_h} estimated, {mean.missing_h} missing"
            print(f"  mean of 24 hours: {mean.g_per_kwh:.0f} ({what})")
            latest.append(value)
    if not latest:
        return 1
    cleanest = min(latest, key=lambda value: value.g_per_kwh)
    print(f"cleanest now: {cleanest.grid_zone}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:] or ["US-NY-NYIS", "FR"]))
