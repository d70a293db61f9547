"""The one formula of emissions, and the intensity of every node as an array.

emissions_g = energy_kwh x PUE x intensity_g_per_kwh        (GHG Protocol Scope 2; ISO/IEC 21031:2024 SCI, the term E x I)
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from carbon_scheduler.core.carbon import CarbonValue
    from carbon_scheduler.core.model import GridZone
    from carbon_scheduler.core.settings import Signal
    from carbon_scheduler.core.snapshot import Snapshot

ENERGY_WITHOUT_MODEL_KWH = 1.0
"""With no power model every node is taken to need the same energy for a run, so that costs order nodes by intensity. The
amount is arbitrary and never reported: only differences between nodes matter to a choice."""


def emissions_g(
    energy_kwh: float | NDArray[np.float64], pue: float | NDArray[np.float64], intensity_g_per_kwh: NDArray[np.float64]
) -> NDArray[np.float64]:
    """gCO2e of a run. Shapes broadcast; NaN intensity gives NaN."""
    return np.asarray(energy_kwh * pue * intensity_g_per_kwh, np.float64)


class GridCarbon:
    """The values of all grid zones, and their projection on the nodes. Values of another signal than ours count as none."""

    def __init__(self, snap: Snapshot, signal: Signal) -> None:
        self._snap = snap
        self._signal = signal
        self._values: dict[GridZone, CarbonValue | None] = {}
        self._nodes: NDArray[np.float64] = np.zeros(0)
        self._current_at = (-1, -1)
        self._version = 0

    def put(self, grid_zone: GridZone, value: CarbonValue | None) -> None:
        self._values[grid_zone] = value if value is not None and value.signal == self._signal else None
        self._version += 1

    def answered(self, grid_zone: GridZone) -> bool:
        """Whether the zone's source has answered or failed at least once."""
        return grid_zone in self._values

    def value(self, grid_zone: GridZone | None) -> CarbonValue | None:
        return self._values.get(grid_zone) if grid_zone else None

    def intensity_g_per_kwh(self) -> NDArray[np.float64]:
        """float64 (capacity,): each node's grid intensity now, NaN without a usable value. Cost: O(nodes) after a change."""
        now = (self._version, self._snap.spec_log.position)
        if now != self._current_at or len(self._nodes) != self._snap.capacity:
            values = [self._values.get(zone) for zone in self._snap.grid_zones]
            by_zone = np.array([np.nan if value is None else value.g_per_kwh for value in values] + [np.nan])
            self._nodes = by_zone[self._snap.grid_zone]  # -1, no zone, takes the last
            self._current_at = now
        return self._nodes

    def cost_g(self) -> NDArray[np.float64]:
        """float64 (capacity,): expected gCO2e of a run started now on each node; NaN without a usable value."""
        return emissions_g(ENERGY_WITHOUT_MODEL_KWH, 1.0, self.intensity_g_per_kwh())
