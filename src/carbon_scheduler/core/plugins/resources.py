"""NodeResourcesFit and NodeResourcesBalancedAllocation.

Sources: kube-scheduler v1.36.3 plugins/noderesources/fit.go, least_allocated.go, balanced_allocation.go. All arithmetic is
upstream's: integers, except the balance, which is float64 there too.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from carbon_scheduler.core.plugin import (
    MAX_REASONS,
    MAX_SCORE,
    UNRESOLVABLE,
    UNRESOLVABLE_BIT,
    Change,
    Plugin,
    Rejected,
    State,
)
from carbon_scheduler.core.snapshot import CPU, EPHEMERAL, MEMORY

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from carbon_scheduler.core.model import Node, Pod, Requests
    from carbon_scheduler.core.plugin import Rows
    from carbon_scheduler.core.snapshot import Snapshot


def wanted(requests: Requests) -> list[tuple[str, int]]:
    """The resources asked for, in upstream's order of checking."""
    fixed = [
        ("cpu", requests.cpu_m),
        ("memory", requests.memory_b),
        ("ephemeral-storage", requests.ephemeral_storage_b),
    ]
    return [(name, amount) for name, amount in (*fixed, *requests.scalars) if amount > 0]


class _Fit(State):
    filters = True
    scores = True

    def __init__(self, requests: Requests) -> None:
        self._requests = requests
        self._wanted = wanted(requests)
        self.reasons = ("Too many pods", *(f"Insufficient {name}" for name, _ in self._wanted))

    def reject(self, snap: Snapshot, rows: Rows) -> NDArray[np.uint64]:
        codes = (snap.pod_count[rows] + 1 > snap.max_pods[rows]).astype(np.uint64)
        for bit, (name, amount) in enumerate(self._wanted, start=1):
            row = snap.resource_of.get(name)
            if row is None:  # no node offers it
                codes |= UNRESOLVABLE_BIT | np.uint64(1 << bit)
                continue
            allocatable = snap.allocatable[row, rows]
            short = amount > allocatable - snap.requested[row, rows]
            if short.any():
                codes[short] |= np.uint64(1 << bit)
                codes[short & (amount > allocatable)] |= UNRESOLVABLE_BIT
        return codes

    def score(self, snap: Snapshot, rows: Rows) -> NDArray[np.int64]:
        """LeastAllocated over cpu and memory, weight 1 each: the mean of the free shares, 0..100."""
        total = np.zeros(1, np.int64)
        weights = np.zeros(1, np.int64)
        for row, amount in ((CPU, self._requests.scoring_cpu_m), (MEMORY, self._requests.scoring_memory_b)):
            allocatable = snap.allocatable[row, rows]
            free = allocatable - snap.scoring_requested[row, rows] - amount
            there = allocatable > 0
            share = np.maximum(free, 0) * MAX_SCORE // np.where(there, allocatable, 1)
            total = total + np.where(there, share, 0)
            weights = weights + there
        return total // np.maximum(weights, 1)


class NodeResourcesFit(Plugin):
    name = "NodeResourcesFit"
    weight = 1
    reads = "load"
    hears = frozenset({"node", "pod-gone", "pod-shrunk", "self"})

    def key(self, pod: Pod) -> Requests:
        return pod.spec.requests

    def prepare(self, pod: Pod, snap: Snapshot) -> State | Rejected:
        state = _Fit(pod.spec.requests)
        if len(state.reasons) > MAX_REASONS:
            return Rejected(UNRESOLVABLE, (f"pod requests more than {MAX_REASONS - 1} different resources",))
        return state

    def wakes(self, pod: Pod, change: Change, snap: Snapshot) -> bool:
        requests = pod.spec.requests
        if change.kind == "pod-gone":
            return True
        if change.kind in ("pod-shrunk", "self"):
            was, now = change.pod_before, change.pod
            if was is None or now is None:
                return False
            less = was.takes.reduced_to(now.takes)
            return bool(less) if change.kind == "self" else not less.isdisjoint(name for name, _ in wanted(requests))
        node, before = change.node, change.node_before
        if node is None or not _fits_empty(node, requests):
            return False
        return before is None or _grew(before, node, requests)


def _fits_empty(node: Node, requests: Requests) -> bool:
    room = node.allocatable
    return room.get("pods", 0) >= 1 and all(room.get(name, 0) >= amount for name, amount in wanted(requests))


def _grew(before: Node, node: Node, requests: Requests) -> bool:
    names = ("pods", *(name for name, _ in wanted(requests)))
    return any(node.allocatable.get(name, 0) > before.allocatable.get(name, 0) for name in names)


class _Balance(State):
    scores = True

    def __init__(self, requests: Requests) -> None:
        self._amounts = ((CPU, requests.cpu_m), (MEMORY, requests.memory_b))

    def score(self, snap: Snapshot, rows: Rows) -> NDArray[np.int64]:
        """50 + (50 + with - without)/2: whether the pod makes the shares of cpu and memory in use more alike. 50..100."""
        allocatable = snap.allocatable[CPU:EPHEMERAL, rows]
        there = allocatable > 0
        divisor = np.where(there, allocatable, 1)
        now = snap.requested[CPU:EPHEMERAL, rows]
        then = now + np.array([[self._amounts[0][1]], [self._amounts[1][1]]], np.int64)
        both: NDArray[np.bool_] = np.logical_and(there[0], there[1])
        gain: NDArray[np.int64] = _evenness(then, divisor, both) - _evenness(now, divisor, both)
        return 50 + (50 + gain) // 2


def _evenness(
    requested: NDArray[np.int64], allocatable: NDArray[np.int64], both: NDArray[np.bool_]
) -> NDArray[np.int64]:
    """int((1 - std) * 100) of the two shares in use; 100 where a node offers only one of the two. Shape (rows,)."""
    shares = np.minimum(requested / allocatable, 1.0)
    std = np.where(both, np.abs((shares[0] - shares[1]) / 2), 0.0)
    return ((1 - std) * float(MAX_SCORE)).astype(np.int64)


class NodeResourcesBalancedAllocation(Plugin):
    name = "NodeResourcesBalancedAllocation"
    weight = 1
    reads = "load"

    def key(self, pod: Pod) -> tuple[int, int] | None:
        """Best-effort pods (neither cpu nor memory asked for) are skipped, as upstream does."""
        amounts = (pod.spec.requests.cpu_m, pod.spec.requests.memory_b)
        return amounts if any(amounts) else None

    def prepare(self, pod: Pod, snap: Snapshot) -> State:
        return _Balance(pod.spec.requests)

    def wakes(self, pod: Pod, change: Change, snap: Snapshot) -> bool:
        return False  # it only scores
