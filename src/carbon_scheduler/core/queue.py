"""Which pod is next: active, backing off, parked until something changes, or being bound.

Semantics of kube-scheduler v1.36.3 backend/queue: higher priority first, then who waits longest since being added or failing
last; backoff of 1 s doubling to 10 s from the failed attempt, by the count of consecutive errors or else of failures to fit; an
idle scheduler takes a pod out of backoff early, unless an error put it there; what sat parked for five minutes is tried again.
Time is an argument. A pod is in exactly one place.

Two of upstream's traits are left out. There a backoff ends with the whole second of the wall clock in which it runs out; here
when it runs out. And a pod for which there was no node at all, not even one that does not fit, counts there as an error and
is tried again every few seconds; here it is parked until anything changes.
"""

from __future__ import annotations

import heapq
import math
from typing import TYPE_CHECKING, Final, Literal

from carbon_scheduler.core.model import PodUid

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable

Place = Literal["active", "backoff", "unschedulable", "binding"]
Tie = tuple[float, int, str]
_Item = tuple[float, int, float, Tie, int, PodUid]
"""Of a heap: time from which, minus the priority, waiting since, what decides between equals, the entry's order, its uid."""
Rejecting = tuple[str, ...]

FLUSH_EVERY_S: Final = 30.0
"""How often upstream looks for pods that sat parked too long."""


class _Entry:
    """`since` is when it was added or failed last. `order` is that of its one item in a heap that is not stale. `alike` is what
    all waiting pods have in common for which a change is worth as much as for this one."""

    __slots__ = (
        "alike",
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
        "tie",
        "uid",
    )

    def __init__(self, uid: PodUid, priority: int, at: float, since: float, tie: Tie) -> None:
        self.uid = uid
        self.priority = priority
        self.first_at = at
        self.since = since
        self.tie = tie
        self.alike: Hashable = uid
        self.attempts = self.misfits = self.errors = 0
        self.place: Place = "active"
        self.rejecting: Rejecting = ()
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
        self._groups: dict[Rejecting, dict[Hashable, dict[PodUid, None]]] = {}
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

    @property
    def any_parked(self) -> bool:
        return bool(self._parked)

    def attempts(self, uid: PodUid) -> int:
        return self._entries[uid].attempts

    def first_at(self, uid: PodUid) -> float:
        return self._entries[uid].first_at

    # -- in ------------------------------------------------------------------------------------------------------

    def add(
        self, uid: PodUid, priority: int, at: float, *, since: float | None = None, tie: Tie = (0.0, 0, "")
    ) -> None:
        """A new pending pod: active at once. `since`: when it was first seen, if it could not be tried before (gated).

        `tie` decides between pods of one priority that wait since the same moment: by it, not by the order in which events
        of one batch were told, so that the order of these does not matter.
        """
        entry = self._entries[uid] = _Entry(uid, priority, at, at if since is None else since, tie)
        self._activate(entry)

    def drop(self, uid: PodUid) -> None:
        """The pod is bound, gone, or not ours any more."""
        entry = self._entries.pop(uid, None)
        if entry is not None and entry.place == "unschedulable":
            self._unpark(entry)
        heaps = (self._active, self._backoff, self._after_error)
        if sum(map(len, heaps)) > 2 * len(self._entries) + 1024:  # a standby pops nothing for months
            for heap in heaps:
                heap[:] = [item for item in heap if self._entry(item)]
                heapq.heapify(heap)

    def touch(self, uid: PodUid, at: float, alike: Hashable, woken_by: Callable[[Rejecting], bool]) -> None:
        """The pod itself changed: if it was parked, and the change may help, it is tried again; else it is `alike` others now
        (None: no other). A pod that is active or backs off stays where it is, as upstream has it."""
        entry = self._entries[uid]
        if entry.place != "unschedulable":
            return
        if woken_by(entry.rejecting):
            self._wake(entry, at)
        else:
            self._unpark(entry)
            self._park(entry, uid if alike is None else alike)

    # -- out -----------------------------------------------------------------------------------------------------

    def pop(self, at: float) -> PodUid | None:
        """The next pod to try, or None. It is then `binding` until `park`, `retry` or `drop`. Cost: O(log pods)."""
        self._flush(at)
        for heap in (self._backoff, self._after_error):
            while heap and heap[0][0] <= at:
                if entry := self._entry(heapq.heappop(heap)):
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

    def park(self, uid: PodUid, at: float, rejecting: Rejecting, alike: Hashable = None) -> None:
        """No node fits: wait for a change that one of the rejecting plugins cares about. Pods with equal `alike` (None: no
        other) that the same plugins rejected are asked about once for all of them."""
        entry = self._entries[uid]
        entry.errors = 0
        entry.misfits += 1
        entry.since = at
        entry.rejecting = rejecting
        entry.place = "unschedulable"
        self._park(entry, uid if alike is None else alike)

    def put_back(self, uid: PodUid) -> None:
        """It cannot be tried yet: parked as it was, as if it had not been taken."""
        entry = self._entries[uid]
        entry.attempts -= 1
        entry.place = "unschedulable"
        self._park(entry, uid)

    def retry(self, uid: PodUid, at: float) -> None:
        """The attempt ended in an error: again after a backoff that grows with consecutive errors."""
        entry = self._entries[uid]
        entry.errors += 1
        entry.since = at
        self._push(self._after_error, "backoff", entry, self._backoff_until(entry))

    def wake(
        self,
        at: float,
        woken_by: Callable[[PodUid, Rejecting], bool],
        heard_by: Callable[[Rejecting], bool] = lambda rejecting: True,
    ) -> int:
        """Moves the parked pods that a change may help; returns how many. `heard_by` tells whether any of these plugins cares
        for such changes at all, `woken_by` whether this one helps the pod, and with it all that are alike.

        Cost: a call for each different set of rejecting plugins, and one for each kind of pod that one of them rejected.
        """
        woken = [
            uid
            for rejecting, groups in self._groups.items()
            if heard_by(rejecting)
            for group in groups.values()
            if woken_by(next(iter(group)), rejecting)
            for uid in group
        ]
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

    def _park(self, entry: _Entry, alike: Hashable) -> None:
        entry.alike = alike
        self._parked[entry.uid] = None
        self._groups.setdefault(entry.rejecting, {}).setdefault(alike, {})[entry.uid] = None

    def _unpark(self, entry: _Entry) -> None:
        del self._parked[entry.uid]
        groups = self._groups[entry.rejecting]
        group = groups[entry.alike]
        del group[entry.uid]
        if not group:
            del groups[entry.alike]
        if not groups:
            del self._groups[entry.rejecting]

    def _wake(self, entry: _Entry, at: float) -> None:
        self._unpark(entry)
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
        heapq.heappush(heap, (first, -entry.priority, entry.since, entry.tie, entry.order, entry.uid))

    def _entry(self, item: _Item) -> _Entry | None:
        """Whose item this is; None for one that is stale."""
        entry = self._entries.get(item[5])
        return entry if entry is not None and entry.order == item[4] else None

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
