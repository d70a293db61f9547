"""A list of what changed, for readers that bring their own arrays up to date."""

from __future__ import annotations

from array import array
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray


def changes_kept(capacity: int) -> int:
    """How many changes of nodes are worth keeping: a reader further behind is as quick to begin anew."""
    return 4 * capacity + 4096


class ChangeLog:
    """Which slots changed, in order. A reader keeps the `position` up to which it is current. When more than `keep` changes are
    held the older half is forgotten, and readers further behind start anew."""

    __slots__ = ("_base", "_slots", "keep", "position")

    def __init__(self, keep: int) -> None:
        self.keep = keep
        self._slots = array("q")
        self._base = 0
        self.position = 0

    def add(self, slot: int) -> None:
        self._slots.append(slot)
        self.position += 1
        if len(self._slots) > self.keep:
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
