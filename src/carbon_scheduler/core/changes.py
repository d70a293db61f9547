"""A list of what changed, for readers that bring their own arrays up to date."""

from __future__ import annotations


class ChangeLog:
    """Which slots changed, in order. A reader keeps the position up to which it is current. Bounded."""

    def __init__(self) -> None:
        self._slots: list[int] = []
        self._base = 0

    @property
    def position(self) -> int:
        return self._base + len(self._slots)

    def add(self, slot: int) -> None:
        self._slots.append(slot)

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
