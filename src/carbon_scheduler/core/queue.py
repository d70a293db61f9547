"""Which pod is next: active, backing off, parked until something changes, or being bound.

Semantics of kube-scheduler v1.36.3 backend/queue: higher priority first, then the earlier one; backoff of 1 s doubling to
10 s from the failed attempt; an idle scheduler takes a pod out of backoff early, unless an error put it there; what sat
parked for five minutes is tried again. Time is an argument. A pod is in exactly one place.
"""

from __future__ import annotations

import heapq
from typing import TYPE_CHECKING, Final, Literal

if TYPE_CHECKING:
    from collections.abc import Callable

    from carbon_scheduler.core.model import PodUid

Place = Literal["active", "backoff", "unschedulable", "binding"]

FLUSH_EVERY_S: Final = 30.0
"""How often upstream looks for pods that sat parked too long."""


class _Entry:
    __slots__ = (
        "at",
        "attempts",
        "errors",
        "failed_at",
        "first_at",
        "order",
        "place",
        "priority",
        "rejecting",
        "said",
        "uid",
    )

    def __init__(self, uid: PodUid, priority: int, at: float) -> None:
        self.uid = uid
        self.priority = priority
        self.first_at = self.at = at
        self.attempts = self.errors = 0
        self.failed_at = at
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
        self._active: list[tuple[int, float, int, PodUid]] = []
        self._backoff: list[tuple[float, int, PodUid]] = []
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
        self._activate(entry, at)

    def drop(self, uid: PodUid) -> None:
        """The pod is bound, gone, or not ours any more."""
        self._entries.pop(uid, None)
        self._parked.pop(uid, None)
        if len(self._active) + len(self._backoff) > 2 * len(self._entries) + 1024:  # a standby pops nothing for months
            self._active = [item for item in self._active if item[3] in self._entries]
            self._backoff = [item for item in self._backoff if item[2] in self._entries]
            heapq.heapify(self._active)
            heapq.heapify(self._backoff)

    def touch(self, uid: PodUid, at: float) -> None:
        """The pod itself changed in a way that may matter: if it was parked, it is tried again."""
        entry = self._entries[uid]
        if entry.place == "unschedulable":
            self._wake(entry, at)

    # -- out -----------------------------------------------------------------------------------------------------

    def pop(self, at: float) -> PodUid | None:
        """The next pod to try, or None. It is then `binding` until `park`, `retry` or `drop`. Cost: O(log pods)."""
        self._flush(at)
        while self._backoff and self._backoff[0][0] <= at:
            self._from_backoff(at)
        while True:
            while self._active:
                _, _, order, uid = heapq.heappop(self._active)
                entry = self._entries.get(uid)
                if entry is not None and entry.place == "active" and entry.order == order:
                    entry.place = "binding"
                    entry.attempts += 1
                    return uid
            if not self._early(at):
                return None

    def next_at(self) -> float | None:
        """When `pop` may have something that it has not now, without any event. None: never."""
        if any(self._entries[uid].place == "active" for *_, uid in self._active[:1] if uid in self._entries):
            return float("-inf")
        times = [self._backoff[0][0]] if self._backoff else []
        if self._parked:
            oldest = self._entries[next(iter(self._parked))]
            times.append(max(oldest.at + self._flush_after_s, self._flushed_at + FLUSH_EVERY_S))
        return min(times, default=None)

    # -- after an attempt ----------------------------------------------------------------------------------------

    def park(self, uid: PodUid, at: float, rejecting: tuple[str, ...]) -> None:
        """No node fits: wait for a change that one of the rejecting plugins cares about."""
        entry = self._entries[uid]
        entry.errors = 0
        entry.failed_at = entry.at = at
        entry.rejecting = rejecting
        entry.place = "unschedulable"
        self._parked[uid] = None

    def retry(self, uid: PodUid, at: float) -> None:
        """The attempt ended in an error: again after a backoff that grows with consecutive errors."""
        entry = self._entries[uid]
        entry.errors += 1
        entry.failed_at = at
        self._back_off(entry, at)

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

    def _backoff_s(self, entry: _Entry) -> float:
        tries = entry.errors or entry.attempts
        return 0.0 if not tries else min(self._initial_s * 2.0 ** min(tries - 1, 60), self._max_s)

    def _wake(self, entry: _Entry, at: float) -> None:
        self._parked.pop(entry.uid, None)
        if at >= entry.failed_at + self._backoff_s(entry):
            self._activate(entry, at)
        else:
            self._back_off(entry, at)

    def _activate(self, entry: _Entry, at: float) -> None:
        entry.place = "active"
        entry.at = at
        entry.order = self._count = self._count + 1
        heapq.heappush(self._active, (-entry.priority, at, entry.order, entry.uid))

    def _back_off(self, entry: _Entry, at: float) -> None:
        entry.place = "backoff"
        entry.at = at
        entry.order = self._count = self._count + 1
        heapq.heappush(self._backoff, (entry.failed_at + self._backoff_s(entry), entry.order, entry.uid))

    def _from_backoff(self, at: float) -> bool:
        _, order, uid = heapq.heappop(self._backoff)
        entry = self._entries.get(uid)
        if entry is None or entry.place != "backoff" or entry.order != order:
            return False
        self._activate(entry, at)
        return True

    def _early(self, at: float) -> bool:
        """Nothing is active: the pod whose backoff ends first may go now, unless an error put it there (1.36)."""
        waiting: list[tuple[float, int, PodUid]] = []
        found = False
        while self._backoff and not found:
            entry = self._entries.get(self._backoff[0][2])
            if entry is not None and entry.errors and entry.place == "backoff" and entry.order == self._backoff[0][1]:
                waiting.append(heapq.heappop(self._backoff))
            else:
                found = self._from_backoff(at)
        for item in waiting:
            heapq.heappush(self._backoff, item)
        return found

    def _flush(self, at: float) -> None:
        if at < self._flushed_at + FLUSH_EVERY_S:
            return
        self._flushed_at = at
        for uid in [u for u in self._parked if at - self._entries[u].at > self._flush_after_s]:
            self._wake(self._entries[uid], at)
