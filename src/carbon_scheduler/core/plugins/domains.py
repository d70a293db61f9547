"""Pods summed over topology domains: all nodes with the same value of one label."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

from carbon_scheduler.core.changes import ChangeLog
from carbon_scheduler.core.peers import KEPT_CHANGES

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from carbon_scheduler.core.peers import CarrierCount, PeerCount
    from carbon_scheduler.core.plugin import Rows
    from carbon_scheduler.core.snapshot import LabelColumn, Snapshot

MAX_SUMS: Final = 1024
"""Kept at the same time; the least recently used goes first. At 5,000 nodes one by hostname takes 40 KB, and 150 bytes for
each node that has such pods."""
_NOWHERE: Final = (-1, 0)
_NO_CHANGES: Final[list[int]] = []


class DomainSums:
    """How many of the counted pods are in each domain of a topology key.

    `sums` is int64 by value id of the label's column; more places than values, and the last one is always 0: it is what -1, a
    missing label, finds. `total` leaves out pods on nodes without the label. Where "some" became "none" or the reverse, `flips`
    has the slot when that node is alone in its domain; else `epoch` changes, and every node is to be looked at again.
    """

    __slots__ = ("_count_at", "_spec_at", "_was", "column", "count", "epoch", "flips", "key", "sums", "total")

    column: LabelColumn
    _count_at: int
    _spec_at: int

    def __init__(self, count: PeerCount | CarrierCount, key: str, snap: Snapshot) -> None:
        self.count = count
        self.key = key
        self.epoch = 0
        self.flips = ChangeLog(KEPT_CHANGES)
        self._start(snap)

    def refresh(self, snap: Snapshot) -> None:
        """Brings the sums up to date. Cost: O(1) when nothing changed, else 1 µs a change; O(pods) once in thousands of
        changes."""
        column, log = snap.label(self.key), self.count.log
        if column is self.column and log.position == self._count_at and snap.spec_log.position == self._spec_at:
            return
        spec_at = snap.spec_log.position
        pods = log.since(self._count_at)
        nodes = _NO_CHANGES if spec_at == self._spec_at else snap.spec_log.since(self._spec_at)
        if column is not self.column or pods is None or nodes is None:
            self._start(snap)
            return
        self._count_at, self._spec_at = log.position, spec_at
        self._make_room()
        for slot in pods:
            self._move(slot)
        for slot in nodes:
            self._move(slot)

    def of(self, rows: Rows) -> NDArray[np.int64]:
        """int64 (rows,): the sum of each node's domain, 0 where it has none."""
        return self.sums.take(self.column.ids[rows])

    def _start(self, snap: Snapshot) -> None:
        self.column = snap.label(self.key)
        self._count_at, self._spec_at = self.count.log.position, snap.spec_log.position
        self.sums: NDArray[np.int64] = np.zeros(len(self.column.values) + 64, np.int64)
        self.total = 0
        self._was: dict[int, tuple[int, int]] = {}
        """slot -> (value id, pods) as they are in the sums."""
        self.epoch += 1
        for slot in self.count.slots():
            self._move(slot)

    def _make_room(self) -> None:
        if len(self.column.values) >= len(self.sums):
            self.sums = np.concatenate([self.sums, np.zeros(len(self.column.values), np.int64)])

    def _move(self, slot: int) -> None:
        pods = self.count.on(slot)
        value: int = self.column.ids.item(slot) if pods else -1
        was = self._was.pop(slot, _NOWHERE)
        if value >= 0:
            self._was[slot] = (value, pods)
        if was[0] == value:
            pods -= was[1]
        elif was[0] >= 0:
            self._add(slot, was[0], -was[1])
        if value >= 0 and pods:
            self._add(slot, value, pods)

    def _add(self, slot: int, value: int, pods: int) -> None:
        before: int = self.sums.item(value)
        self.sums[value] = before + pods
        self.total += pods
        if before and before + pods:
            return
        others = self.column.members[value] - (self.column.ids.item(slot) == value)
        if others:
            self.epoch += 1
        else:
            self.flips.add(slot)


class DomainCache:
    """Sums that several shapes of pods share."""

    def __init__(self) -> None:
        self._kept: dict[tuple[int, str], DomainSums] = {}

    def get(self, count: PeerCount | CarrierCount, key: str, snap: Snapshot) -> DomainSums:
        """Current as of its last `refresh`."""
        name = (id(count), key)
        sums = self._kept.pop(name, None)
        if sums is None:
            sums = DomainSums(count, key, snap)
            if len(self._kept) >= MAX_SUMS:
                del self._kept[next(iter(self._kept))]
        self._kept[name] = sums  # it keeps the count alive, so that its id stays its own
        return sums
