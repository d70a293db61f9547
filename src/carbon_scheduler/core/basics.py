"""Cpu, memory and pods of every node in the form in which resource plugins read them: one gather serves all of them.

The sums themselves are the snapshot's; this is written anew for a node whenever one of them changes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Rows = slice | NDArray[np.intp]

_PARTS: Final = (slice(0, 3), slice(3, 5), slice(5, 7), slice(7, 9), slice(9, 11), 11, 12)
"""The table's rows by the fields of `Basics`."""
_ROWS: Final = 13
_MOST: Final = 2**63 - 1
_MAX_EVENNESS: Final = 100


class Basics(NamedTuple):
    """What resource plugins read of some nodes, int64 (rows, n) each; read only. Cpu is in millicores, memory in bytes.

    `room`: what is left to ask for of cpu, memory and pods, less than 0 where that is over-committed. `free`: cpu and memory
    that the scores take as free. `requested`, `offered` and `twice` what is offered: cpu and memory, 1 in place of nothing
    offered. `both`: 1 where a node offers the two, else 0. `uneven`: 150 less `evenness_of`.
    """

    room: NDArray[np.int64]
    free: NDArray[np.int64]
    requested: NDArray[np.int64]
    offered: NDArray[np.int64]
    twice: NDArray[np.int64]
    both: NDArray[np.int64]
    uneven: NDArray[np.int64]


class BasicsTable:
    """`lopsided` is how many nodes offer cpu without memory, or memory without cpu."""

    def __init__(self, capacity: int) -> None:
        self.lopsided = 0
        self._table = _empty(capacity)
        self._odd: dict[int, None] = {}
        self._last: tuple[object, int, Basics] | None = None

    def put(
        self,
        slot: int,
        offered: tuple[int, int],
        cpu_m: int,
        memory_b: int,
        scoring: tuple[int, int],
        pods_left: int,
    ) -> None:
        """`offered` and `scoring` (what the scores take as requested) are of cpu and memory. Cost: about 2 µs."""
        cpu, memory = offered
        self._table[:, slot] = (
            cpu - cpu_m,
            memory - memory_b,
            pods_left,
            cpu - scoring[0],
            memory - scoring[1],
            cpu_m,
            memory_b,
            cpu or 1,
            memory or 1,
            min(2 * (cpu or 1), _MOST),
            min(2 * (memory or 1), _MOST),
            1 if cpu and memory else 0,
            150 - evenness_of((cpu_m, memory_b), offered),
        )
        if bool(cpu) != bool(memory):
            self._odd[slot] = None
        elif self._odd:
            self._odd.pop(slot, None)
        self.lopsided = len(self._odd)

    def of(self, rows: Rows, now: int) -> Basics:
        """Of some slots. Several plugins ask for the same rows in turn, so the last answer is kept; `now` is another number
        after each change."""
        if self._last is not None and self._last[0] is rows and self._last[1] == now:
            return self._last[2]
        table = self._table[:, rows] if isinstance(rows, slice) else self._table.take(rows, 1)
        found = Basics(*[table[part] for part in _PARTS])
        if not isinstance(rows, slice):
            self._last = (rows, now, found)
        return found

    def with_room(self, rows: Rows, room: NDArray[np.int64], pods: NDArray[np.int64]) -> Basics:
        """The same with other room: of cpu and memory (2, rows), and for pods (rows,)."""
        table = self._table[:, rows].copy()
        table[0:2], table[2] = room, pods
        return Basics(*[table[part] for part in _PARTS])

    def grow(self, more: int) -> None:
        self._table = np.concatenate([self._table, _empty(more)], axis=1)


def _empty(capacity: int) -> NDArray[np.int64]:
    table = np.zeros((_ROWS, capacity), np.int64)
    table[_PARTS[3]] = 1
    table[_PARTS[4]] = 2
    return table


def evenness_of(requested: tuple[int, int], offered: tuple[int, int]) -> int:
    """int((1 - std) * 100) of the shares of cpu and memory in use, 50..100; 100 where a node offers only one of them.

    Source: kube-scheduler v1.36.3 plugins/noderesources/balanced_allocation.go balancedResourceScorer, in float64 as there.
    """
    if not (offered[0] and offered[1]):
        return _MAX_EVENNESS
    cpu, memory = min(requested[0] / offered[0], 1.0), min(requested[1] / offered[1], 1.0)
    return int((1.0 - abs(cpu - memory) * 0.5) * _MAX_EVENNESS)
