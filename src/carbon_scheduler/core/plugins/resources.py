"""NodeResourcesFit and NodeResourcesBalancedAllocation.

Sources: kube-scheduler v1.36.3 plugins/noderesources/fit.go, least_allocated.go, balanced_allocation.go. All arithmetic is
upstream's: integers, except the balance, which is float64 there too.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

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
from carbon_scheduler.core.plugins.strategies import BalanceOf, allocation
from carbon_scheduler.core.settings import FitArgs

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


_NOTHING: Final = int(np.iinfo(np.int64).min)
"""In place of an amount that is not asked for: less than any node's room, also on one that is over-committed."""


_DEFAULT: Final = FitArgs()
_BALANCED: Final = ("cpu", "memory")


class _Fit(State):
    filters = True
    scores = True

    def __init__(self, requests: Requests, ignored: frozenset[str] = frozenset()) -> None:
        self._wanted = [(name, amount) for name, amount in wanted(requests) if name not in ignored]
        amounts = (requests.cpu_m or _NOTHING, requests.memory_b or _NOTHING, 1)
        self._basic = np.array(amounts, np.int64)[:, np.newaxis]
        self._scoring = np.array((requests.scoring_cpu_m, requests.scoring_memory_b), np.int64)[:, np.newaxis]
        self._others = any(name not in ("cpu", "memory") for name, _ in self._wanted)
        self.reasons = ("Too many pods", *(f"Insufficient {name}" for name, _ in self._wanted))

    def fits(self, snap: Snapshot, rows: Rows) -> NDArray[np.bool_]:
        if self._others:
            return super().fits(snap, rows)
        enough: NDArray[np.bool_] = self._basic <= snap.basics(rows).room
        fits: NDArray[np.bool_] = enough[0] & enough[1]
        fits &= enough[2]
        return fits

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
        basics = snap.basics(rows)
        free = basics.free - self._scoring
        np.maximum(free, 0, out=free)
        free *= MAX_SCORE
        free //= basics.offered
        total: NDArray[np.int64] = free[0] + free[1]  # 0 of what a node does not offer
        total >>= basics.both if snap.lopsided else 1  # halved where it offers both
        return total


class _FitBy(_Fit):
    """With another strategy, or other resources and weights."""

    def __init__(self, requests: Requests, ignored: frozenset[str], args: FitArgs) -> None:
        super().__init__(requests, ignored)
        self._args = args
        asked = requests.scalars if requests.container_scalars is None else requests.container_scalars
        of = {
            "cpu": requests.scoring_cpu_m,
            "memory": requests.scoring_memory_b,
            "ephemeral-storage": requests.ephemeral_storage_b,
            **dict(asked),
        }
        self._amounts = [of.get(name, 0) for name, _ in args.resources]

    def score(self, snap: Snapshot, rows: Rows) -> NDArray[np.int64]:
        return allocation(self._args, self._amounts, snap, rows)


class NodeResourcesFit(Plugin):
    name = "NodeResourcesFit"
    weight = 1
    reads = "load"
    sums = True
    hears = frozenset({"node", "pod-gone", "pod-shrunk", "self"})
    hears_of_nodes = frozenset({"allocatable"})

    def __init__(self, args: FitArgs = _DEFAULT) -> None:
        self._args = args
        self._as_usual = (args.strategy, args.resources) == (_DEFAULT.strategy, _DEFAULT.resources)
        self._groups = frozenset(args.ignored_resource_groups)

    def key(self, pod: Pod) -> Requests:
        return pod.spec.requests

    def prepare(self, pod: Pod, snap: Snapshot) -> State | Rejected:
        requests = pod.spec.requests
        ignored = frozenset(name for name, _ in requests.scalars if self._ignores(name))
        state = _Fit(requests, ignored) if self._as_usual else _FitBy(requests, ignored, self._args)
        if self.filters and len(state.reasons) > MAX_REASONS:
            return Rejected(UNRESOLVABLE, (f"pod requests more than {MAX_REASONS - 1} different resources",))
        return state

    def _ignores(self, name: str) -> bool:
        """Whether an extended resource is left to others: an extender, as upstream meant it."""
        group, slash, _ = name.partition("/")
        if not slash or "kubernetes.io/" in name or name.startswith("requests."):
            return False
        return name in self._args.ignored_resources or group in self._groups

    def wakes(self, pod: Pod, change: Change, snap: Snapshot) -> bool:
        """Ignored resources count here, as they do upstream."""
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
        self._amounts = np.array((requests.cpu_m, requests.memory_b), np.int64)[:, np.newaxis]

    def score(self, snap: Snapshot, rows: Rows) -> NDArray[np.int64]:
        """50 + (50 + with - without) / 2, rounded down: does the pod make the shares in use of cpu and memory more alike?
        50..100."""
        basics = snap.basics(rows)
        halves = (basics.requested + self._amounts) / basics.twice  # of the shares: halving is exact
        np.minimum(halves, 0.5, out=halves)
        deviation: NDArray[np.float64] = halves[0] - halves[1]  # the standard deviation of two shares
        np.abs(deviation, out=deviation)
        np.subtract(1.0, deviation, out=deviation)
        deviation *= MAX_SCORE
        evenness = deviation.astype(np.int64)
        if snap.lopsided:
            evenness[basics.both == 0] = MAX_SCORE  # of one share alone the deviation is 0
        evenness += basics.uneven
        evenness >>= 1
        return evenness


class NodeResourcesBalancedAllocation(Plugin):
    name = "NodeResourcesBalancedAllocation"
    weight = 1
    reads = "load"

    def __init__(self, resources: tuple[str, ...] = _BALANCED) -> None:
        self._resources = resources

    def key(self, pod: Pod) -> tuple[int, ...] | None:
        """Pods that ask for none of the resources are skipped, as upstream does; by default these are best-effort pods."""
        requests = pod.spec.requests
        if self._resources == _BALANCED:
            return (requests.cpu_m, requests.memory_b) if requests.cpu_m or requests.memory_b else None
        amounts = dict(wanted(requests))
        found = tuple(amounts.get(name, 0) for name in self._resources)
        return found if any(found) else None

    def prepare(self, pod: Pod, snap: Snapshot) -> State:
        amounts = self.key(pod)
        if self._resources == _BALANCED or amounts is None:
            return _Balance(pod.spec.requests)
        return BalanceOf(self._resources, amounts)

    def wakes(self, pod: Pod, change: Change, snap: Snapshot) -> bool:
        return False  # it only scores
