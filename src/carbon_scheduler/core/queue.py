"""Which pod is next: active, backing off, parked until something changes, or being bound.

Semantics of kube-scheduler v1.36.3 backend/queue: higher priority first, then who waits longest since being added or failing
last; backoff of 1 s doubling to 10 s from the failed attempt, by the count of consecutive errors or else of failures to fit; an
idle scheduler takes a pod out of backoff early, unless an error put it there; what sat parked for five minutes is tried again.
Time is an argument. A pod is in exactly one place.
"""

from __future__ import annotations

import heapq
import math
from typing import TYPE_CHECKING, Final, Literal

from carbon_scheduler.core.model import PodUid

if TYPE_CHECKING:
    from collections.abc import Callable

Place = Literal["active", "backoff", "unschedulable", "binding"]
_Item = tuple[float, int, float, int, PodUid]
"""Of a heap: the time from which, minus the priority, waiting since, the entry's order, its uid."""

FLUSH_EVERY_S: Final = 30.0
"""How often upstream looks for pods that sat parked too long."""


class _Entry:
    """`since` is when it was added or failed last. `order` is that of its one item in a heap that is not stale."""

    __slots__ = (
        "attempts",
        "errors",
        "first_at",
        "misfits",
        "order",
        "place",
        "priority",
        "rejecting",
        "said",
        "since",
        "uid",
    )

    def __init__(self, uid: PodUid, priority: int, at: float) -> None:
        self.uid = uid
        self.priority = priority
        self.first_at = self.since = at
        self.attempts = self.misfits = self.errors = 0
        self.place: Place = "active"
        self.rejecting: tuple[str, ...] = ()
        self.said = ""
        self.order = 0


class Queue:
    """All pending pods that are ours."""

    def __init__(self, initial_backoff_s: float, max_backoff_s: float, flush_after_s: float) -> None:
        self._initial_s = initial_backoff_s
        self._max_s = max_backoff_s
        self._flush_after_s = flush_after_s
        self._entries: dict[PodUid, _Entry] = {}
        self._active: list[_Item] = []
        self._backoff: list[_Item] = []
        self._after_error: list[_Item] = []
        self._parked: dict[PodUid, None] = {}
        self._count = 0
        self._flushed_at = float("-inf")

    def __contains__(self, uid: PodUid) -> bool:
        return uid in self._entries

    def place(self, uid: PodUid) -> Place | None:
        entry = self._entries.get(uid)
        return entry.place if entry else None

    def counts(self) -> dict[str, int]:
        """How many pods are where. Cost: O(pods in the queue)."""
        found: dict[str, int] = {"active": 0, "backoff": 0, "unschedulable": 0, "binding": 0}
        for entry in self._entries.values():
            found[entry.place] += 1
        return found

    def attempts(self, uid: PodUid) -> int:
        return self._entries[uid].attempts

    def first_at(self, uid: PodUid) -> float:
        return self._entries[uid].first_at

    # -- in ------------------------------------------------------------------------------------------------------

    def add(self, uid: PodUid, priority: int, at: float) -> None:
        """A new pending pod: active at once."""
        entry = self._entries[uid] = _Entry(uid, priority, at)
        self._activate(entry)

    def drop(self, uid: PodUid) -> None:
        """The pod is bound, gone, or not ours any more."""
        self._entries.pop(uid, None)
        self._parked.pop(uid, None)
        heaps = (self._active, self._backoff, self._after_error)
        if sum(map(len, heaps)) > 2 * len(self._entries) + 1024:  # a standby pops nothing for months
            for heap in heaps:
                heap[:] = [item for item in heap if self._entry(item)]
                heapq.heapify(heap)

    def touch(self, uid: PodUid, at: float) -> None:
        """The pod itself changed in a way that may matter: if it was parked, it is tried again."""
        entry = self._entries[uid]
        if entry.place == "unschedulable":
            self._wake(entry, at)

    # -- out -----------------------------------------------------------------------------------------------------

    def pop(self, at: float) -> PodUid | None:
        """The next pod to try, or None. It is then `binding` until `park`, `retry` or `drop`. Cost: O(log pods)."""
        self._flush(at)
        for heap in (self._backoff, self._after_error):
            while (entry := self._first(heap)) and heap[0][0] <= at:
                heapq.heappop(heap)
                self._activate(entry)
        # When nothing is active, the pod whose backoff ends first may go now, unless an error put it there (1.36).
        for heap in (self._active, self._backoff):
            if entry := self._first(heap):
                heapq.heappop(heap)
                entry.place = "binding"
                entry.attempts += 1
                return entry.uid
        return None

    def next_at(self) -> float | None:
        """When `pop` may have something, without any event; -inf: now. None: never."""
        if self._first(self._active) or self._first(self._backoff):
            return float("-inf")
        times = [self._after_error[0][0]] if self._first(self._after_error) else []
        if self._parked:
            oldest = self._entries[next(iter(self._parked))]
            times.append(max(oldest.since + self._flush_after_s, self._flushed_at + FLUSH_EVERY_S))
        return min(times, default=None)

    # -- after an attempt ----------------------------------------------------------------------------------------

    def park(self, uid: PodUid, at: float, rejecting: tuple[str, ...]) -> None:
        """No node fits: wait for a change that one of the rejecting plugins cares about."""
        entry = self._entries[uid]
        entry.errors = 0
        entry.misfits += 1
        entry.since = at
        entry.rejecting = rejecting
        entry.place = "unschedulable"
        self._parked[uid] = None

    def retry(self, uid: PodUid, at: float) -> None:
        """The attempt ended in an error: again after a backoff that grows with consecutive errors."""
        entry = self._entries[uid]
        entry.errors += 1
        entry.since = at
        self._push(self._after_error, "backoff", entry, self._backoff_until(entry))

    def wake(self, at: float, woken_by: Callable[[PodUid, tuple[str, ...]], bool]) -> int:
        """Moves the parked pods that a change may help; returns how many. Cost: one call a parked pod."""
        woken = [uid for uid in self._parked if woken_by(uid, self._entries[uid].rejecting)]
        for uid in woken:
            self._wake(self._entries[uid], at)
        return len(woken)

    def says(self, uid: PodUid, text: str) -> bool:
        """Whether the text differs from what was last said of the pod; remembers it."""
        entry = self._entries[uid]
        new = entry.said != text
        entry.said = text
        return new

    # -- inside --------------------------------------------------------------------------------------------------

    def _backoff_until(self, entry: _Entry) -> float:
        tries = entry.errors or entry.misfits  # at least 1: it has failed
        return entry.since + min(self._initial_s * 2.0 ** min(tries - 1, 60), self._max_s)

    def _wake(self, entry: _Entry, at: float) -> None:
        self._parked.pop(entry.uid, None)
        until = self._backoff_until(entry)
        if at >= until:
            self._activate(entry)
        else:
            # In windows of one second the higher priority goes first: room that appears is not for who failed 0.1 s sooner.
            self._push(self._backoff, "backoff", entry, math.floor(until))

    def _activate(self, entry: _Entry) -> None:
        self._push(self._active, "active", entry, 0.0)

    def _push(self, heap: list[_Item], place: Place, entry: _Entry, first: float) -> None:
        entry.place = place
        entry.order = self._count = self._count + 1
        heapq.heappush(heap, (first, -entry.priority, entry.since, entry.order, entry.uid))

    def _entry(self, item: _Item) -> _Entry | None:
        """Whose item this is; None for one that is stale."""
        entry = self._entries.get(item[4])
        return entry if entry is not None and entry.order == item[3] else None

    def _first(self, heap: list[_Item]) -> _Entry | None:
        """Whose turn it is in a heap. Drops stale items on the way."""
        while heap:
            if entry := self._entry(heap[0]):
                return entry
            heapq.heappop(heap)
        return None

    def _flush(self, at: float) -> None:
        if at < self._flushed_at + FLUSH_EVERY_S:
            return
        self._flushed_at = at
        for uid in [u for u in self._parked if at - self._entries[u].since > self._flush_after_s]:
            self._wake(self._entries[uid], at)
