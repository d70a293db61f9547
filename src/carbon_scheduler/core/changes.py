"""A list of what changed, for readers that bring their own arrays up to date."""

from __future__ import annotations

from array import array
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray


class ChangeLog:
    """Which slots changed, in order. A reader keeps the `position` up to which it is current. Bounded."""

    __slots__ = ("_base", "_slots", "position")

    def __init__(self) -> None:
        self._slots = array("q")
        self._base = 0
        self.position = 0

    def add(self, slot: int) -> None:
        self._slots.append(slot)
        self.position += 1

    def trim(self, keep: int) -> None:
        """Forgets the older half when more than `keep` changes are held. Readers further behind start anew."""
        if len(self._slots) > keep:
            drop = len(self._slots) // 2
            del self._slots[:drop]
            self._base += drop

    def since(self, position: int) -> list[int] | None:
        """The distinct slots changed since `position`, in order of first change; None when that is no longer known."""
        if position < self._base:
            return None
        return list(dict.fromkeys(self._slots[position - self._base :]))

    def rows_since(self, position: int) -> NDArray[np.intp] | None:
        """The same as an array, in which a slot that changed twice is there twice."""
        if position < self._base:
            return None
        return np.frombuffer(self._slots[position - self._base :], np.int64)
