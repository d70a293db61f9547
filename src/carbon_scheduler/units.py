"""Constants of units, and the suffixes that every number's name carries.

`_g` gram CO2-equivalent, `_g_per_kwh`, `_kwh`, `_j` joule, `_w` watt, `_s` second (a point in time with `_s` is Unix time
in UTC), `_m` millicore, `_b` byte, `_frac` ratio between 0 and 1.
"""

from __future__ import annotations

from typing import Final

J_PER_KWH: Final = 3_600_000.0
S_PER_HOUR: Final = 3600.0
MIB_B: Final = 1024 * 1024

MAX_INTENSITY_G_PER_KWH: Final = 1500.0
"""Upper bound of a credible carbon intensity. The highest hourly value on record in 53 zone-years is 1,062 (PL, 2022)."""

LABEL_PREFIX: Final = "carbon-scheduler.io/"
