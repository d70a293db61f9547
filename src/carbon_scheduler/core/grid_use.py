"""Which grid zones the nodes are in, and which of them nobody has heard of yet (design 3.6)."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from carbon_scheduler.core.emissions import GridCarbon
    from carbon_scheduler.core.model import GridZone


class GridUse:
    """Counts nodes per grid zone. A zone whose source has neither answered nor failed holds decisions for a while."""

    def __init__(self, carbon: GridCarbon, first_data_wait_s: float) -> None:
        self._carbon = carbon
        self._wait_s = first_data_wait_s
        self._nodes: dict[GridZone, int] = {}
        self._awaited: dict[GridZone, float] = {}
        """Until when each zone without an answer is waited for. What was waited for once is not waited for again."""

    @property
    def zones(self) -> tuple[GridZone, ...]:
        """The zones in use, sorted."""
        return tuple(sorted(self._nodes))

    def move(self, before: GridZone | None, after: GridZone | None, at: float) -> bool:
        """One node is no longer in the one zone but in the other. Whether the zones in use changed."""
        if before == after:
            return False
        changed = False
        if before is not None:
            self._nodes[before] -= 1
            if not self._nodes[before]:
                del self._nodes[before]
                changed = True
        if after is not None:
            self._nodes[after] = self._nodes.get(after, 0) + 1
            if self._nodes[after] == 1:
                if not self._carbon.answered(after):
                    self._awaited.setdefault(after, at + self._wait_s)
                changed = True
        return changed

    def begin(self, at: float) -> None:
        """Decisions begin now, so the wait for zones without an answer does too."""
        waited_for = (grid_zone for grid_zone in self._nodes if not self._carbon.answered(grid_zone))
        self._awaited = dict.fromkeys(waited_for, at + self._wait_s)

    def answered(self, grid_zone: GridZone) -> None:
        self._awaited.pop(grid_zone, None)

    def waits_until(self, at: float) -> float | None:
        """Until when decisions wait at the latest, None when they need not."""
        return max((t for grid_zone, t in self._awaited.items() if t > at and grid_zone in self._nodes), default=None)
