"""Start a command in the cleanest hour ahead: asks for the forecast, sleeps until then, and runs it.

    python examples/wait_for_clean_power.py DE 12 -- make nightly-build

Without a forecast (no key, or a plan without one) it runs the command at once: carbon is never a reason not to work.
"""

from __future__ import annotations

import asyncio
import sys
import time

from carbon_scheduler import CarbonIntensityClient
from carbon_scheduler.errors import CarbonSchedulerError


async def seconds_to_wait(zone: str, hours: int, now_s: float) -> float:
    """Until the cleanest hour among the next `hours`; 0 when that is now, or when there is no forecast."""
    try:
        async with CarbonIntensityClient() as client:
            series = await client.aforecast(zone)
    except CarbonSchedulerError as error:
        print(f"no forecast, running now: {error}", file=sys.stderr)
        return 0.0
    ahead = [point for point in series.points if point.hour_s < now_s + hours * 3600]
    if not ahead:
        return 0.0
    cleanest = min(ahead, key=lambda point: (point.g_per_kwh, point.hour_s))
    wait_s = max(0.0, cleanest.hour_s - now_s)
    print(
        f"{ahead[0].g_per_kwh:.0f} gCO2eq/kWh now, {cleanest.g_per_kwh:.0f} in {wait_s / 3600:.1f} h", file=sys.stderr
    )
    return wait_s


async def main(arguments: list[str]) -> int:
    if len(arguments) < 4 or arguments[2] != "--" or not arguments[1].isdigit():
        print(__doc__, file=sys.stderr)
        return 2
    zone, hours, _, *command = arguments
    await asyncio.sleep(await seconds_to_wait(zone, int(hours), time.time()))
    process = await asyncio.create_subprocess_exec(*command)
    return await process.wait()


if __name__ == "__main__":
    sys.exit(asyncio.run(main(sys.argv[1:])))
