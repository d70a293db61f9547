"""The one formula of emissions, and the intensity of every node as an array.

emissions_g = energy_kwh x PUE x intensity_g_per_kwh        (GHG Protocol Scope 2; ISO/IEC 21031:2024 SCI, the term E x I)
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

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

MAX_BOUNDS: Final = 64
"""Ranges of cost whose nodes are remembered."""


def emissions_g(
    energy_kwh: float | NDArray[np.float64], pue: float | NDArray[np.float64], intensity_g_per_kwh: NDArray[np.float64]
) -> NDArray[np.float64]:
    """gCO2e of a run. Shapes broadcast; NaN intensity gives NaN."""
    return np.asarray(energy_kwh * pue * intensity_g_per_kwh, np.float64)


class Costs:
    """What something costs on every node, and the nodes by cost. `cost_g` is float64 (capacity,), NaN where it is not known."""

    FEW: Final = 4
    """Distinct costs that are looked at one by one, cheapest first, before all nodes are."""

    def __init__(self, cost_g: NDArray[np.float64]) -> None:
        self.cost_g = cost_g
        self._or_inf = np.where(np.isnan(cost_g), np.inf, cost_g)
        self._cheapest = np.unique(cost_g[np.isfinite(cost_g)])[: self.FEW].tolist()
        self._slots: dict[tuple[float, float], NDArray[np.intp]] = {}
        self.known = bool(self._cheapest)

    def lowest(self, ranked: NDArray[np.int64], feasible: NDArray[np.bool_] | None = None) -> float | None:
        """The lowest known cost among the `feasible` nodes, bool (capacity,), or else those whose `ranked` (capacity,) is not
        negative. Cost: about 2 µs when one of the cheapest nodes of all is among them, else O(nodes)."""
        for cost in self._cheapest:
            slots = self.between(cost, cost)
            if feasible is None:
                found = np.maximum.reduce(ranked.take(slots)) >= 0
            else:
                found = bool(np.count_nonzero(feasible.take(slots)))
            if found:
                return float(cost)
        low = float(np.where(ranked >= 0 if feasible is None else feasible, self._or_inf, np.inf).min(initial=np.inf))
        return low if low < np.inf else None

    def between(self, low: float, high: float) -> NDArray[np.intp]:
        """The slots whose cost is within these bounds, both included. Cost: O(nodes) the first time. Read only."""
        found = self._slots.get((low, high))
        if found is None:
            if len(self._slots) >= MAX_BOUNDS:
                self._slots.clear()
            found = self._slots[low, high] = np.flatnonzero((self.cost_g >= low) & (self.cost_g <= high))
        return found


class GridCarbon:
    """The values of all grid zones, and their projection on the nodes. Values of another signal than ours count as none."""

    def __init__(self, snap: Snapshot, signal: Signal) -> None:
        self._snap = snap
        self._signal = signal
        self._values: dict[GridZone, CarbonValue | None] = {}
        self._intensities = self._costs = Costs(np.zeros(0))
        self._current_at = (-1, -1, -1)
        self._version = 0

    def put(self, grid_zone: GridZone, value: CarbonValue | None) -> None:
        self._values[grid_zone] = value if value is not None and value.signal == self._signal else None
        self._version += 1

    def answered(self, grid_zone: GridZone) -> bool:
        """Whether the zone's source has answered or failed at least once."""
        return grid_zone in self._values

    def value(self, grid_zone: GridZone | None) -> CarbonValue | None:
        return self._values.get(grid_zone) if grid_zone else None

    @property
    def intensities(self) -> Costs:
        """Each node's grid intensity now (gCO2e/kWh). Cost: O(nodes) after a change."""
        self._refresh()
        return self._intensities

    @property
    def costs(self) -> Costs:
        """Expected emissions of a run started now on each node (gCO2e). Cost: O(nodes) after a change."""
        self._refresh()
        return self._costs

    def _refresh(self) -> None:
        now = (self._version, self._snap.spec_log.position, self._snap.capacity)
        if now == self._current_at:
            return
        values = [self._values.get(zone) for zone in self._snap.grid_zones]
        by_zone = np.array([np.nan if value is None else value.g_per_kwh for value in values] + [np.nan])
        intensity = by_zone[self._snap.grid_zone]  # -1, no zone, takes the last
        self._intensities = Costs(intensity)
        cost_g = emissions_g(ENERGY_WITHOUT_MODEL_KWH, 1.0, intensity)
        self._costs = self._intensities if np.array_equal(cost_g, intensity, equal_nan=True) else Costs(cost_g)
        self._current_at = now
