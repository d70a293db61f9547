"""The pods of every node as rows of arrays, the most important first: what preemption adds up over thousands of nodes at once.

Made when a pod looks for victims the first time, and from then on brought up to date for the nodes whose pods changed. So a
cluster in which nobody ever preempts pays nothing for it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

from carbon_scheduler.core.selectors import fault, matches

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from carbon_scheduler.core.cluster import Cluster
    from carbon_scheduler.core.model import Pod, PodSpec, PodUid
    from carbon_scheduler.core.objects import Budget

NOBODY: Final = np.iinfo(np.int64).max
"""The priority of a row that is not in use."""
NO_BUDGET: Final = -1
SEVERAL: Final = -2
"""Of a pod that is in several budgets, or in one that has counted some pods already."""
ODD: Final = 2**60
"""A pod that takes so much cannot be added up with others in int64."""


def importance(pod: Pod) -> tuple[int, float, PodUid]:
    """Sorts the most important first: the higher priority, then who runs longer (v1.36.3 util/utils.go MoreImportantPod).

    A pod that has not started is as if it started now. Upstream leaves the order of equals open; here it is that of uids.
    """
    return -pod.spec.priority, started_s(pod), pod.uid


def started_s(pod: Pod) -> float:
    return np.inf if pod.started_s is None else pod.started_s


class VictimTable:
    """`begin` and `count` (capacity,): where a node's rows are. Of each row: `priority`, `started_s`, `spec` (a number),
    `amounts` (resources, rows) and `below`: the same added up from this row to the node's last."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._snap = cluster.snap
        self._at = -1
        self._shape = (-1, -1)
        self._specs: list[PodSpec] = []
        self._spec_numbers: dict[int, int] = {}
        self._used = 0
        self._budgets_at = -1
        self._budgets: list[Budget] = []
        self._budget_of: list[int] = []
        self.uids: list[tuple[PodUid, ...]] = []
        self._make(1024)

    def refresh(self) -> None:
        """Brings it up to date. Cost: about 5 µs a pod of each node whose pods changed."""
        snap = self._snap
        shape = (snap.capacity, len(snap.requested))
        changed = self._cluster.moved.since(self._at) if self._at >= 0 and shape == self._shape else None
        self._at = self._cluster.moved.position
        if changed is None or not all(map(self._take, changed)):
            self._rebuild()

    def pod(self, slot: int, place: int) -> Pod:
        """A node's pod by its place among the node's rows."""
        return self._cluster.pods[self.uids[slot][place]]

    def budgets(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """(the budget that a row's pod is in, `NO_BUDGET` or `SEVERAL`, by the number of its spec; how many disruptions each
        budget allows)."""
        objects = self._snap.objects
        if self._budgets_at != objects.version["PodDisruptionBudget"]:
            self._budgets_at = objects.version["PodDisruptionBudget"]
            self._budgets = budgets_of(self._cluster)
            self._budget_of = []
        for spec in self._specs[len(self._budget_of) :]:
            mine = [i for i, budget in enumerate(self._budgets) if covers(budget, spec)]
            one = NO_BUDGET if not mine else mine[0] if len(mine) == 1 else SEVERAL
            self._budget_of.append(SEVERAL if one >= 0 and self._budgets[one].disrupted else one)
        allowed = [budget.disruptions_allowed for budget in self._budgets]
        return np.array([*self._budget_of, NO_BUDGET], np.int64), np.array(allowed, np.int64)

    # -- inside ----------------------------------------------------------------------------------------------------

    def _make(self, rows: int) -> None:
        capacity, resources = self._snap.capacity, len(self._snap.requested)
        self.begin: NDArray[np.int64] = np.zeros(capacity, np.int64)
        self.count: NDArray[np.int64] = np.zeros(capacity, np.int64)
        self._room: NDArray[np.int64] = np.zeros(capacity, np.int64)
        self.uids = [()] * capacity
        self.slot: NDArray[np.int64] = np.zeros(rows, np.int64)
        self.priority: NDArray[np.int64] = np.full(rows, NOBODY, np.int64)
        self.started_s: NDArray[np.float64] = np.zeros(rows, np.float64)
        self.spec: NDArray[np.int64] = np.full(rows, -1, np.int64)
        self.amounts: NDArray[np.int64] = np.zeros((resources, rows), np.int64)
        self.below: NDArray[np.int64] = np.zeros((resources, rows), np.int64)
        self._used = 0

    def _rebuild(self) -> None:
        snap = self._snap
        self._specs.clear()
        self._spec_numbers.clear()
        self._budget_of = []
        self._shape = (snap.capacity, len(snap.requested))
        pods = sum(self._cluster.priorities.values())
        self._make(2 * pods + 4 * snap.capacity + 1024)
        for slot in snap.slot_of.values():
            if not self._take(slot):
                raise AssertionError("the table of victims is too small for the pods that it was made for")

    def _take(self, slot: int) -> bool:
        """Writes the rows of a node anew. False: there is no room left, or too many specs are gone: begin anew."""
        node = self._snap.nodes[slot]
        pods = sorted(self._cluster.charged_on(node.name), key=lambda both: importance(both[0])) if node else []
        begin = int(self.begin[slot])
        if len(pods) > self._room[slot]:
            self.priority[begin : begin + int(self._room[slot])] = NOBODY
            begin, room = self._used, len(pods) + len(pods) // 2 + 2
            if begin + room > len(self.priority):
                return False
            self._used += room
            self.begin[slot], self._room[slot] = begin, room
        end = begin + len(pods)
        self.priority[begin : begin + int(self._room[slot])] = NOBODY
        self.count[slot] = len(pods)
        self.uids[slot] = tuple(pod.uid for pod, _ in pods)
        if not pods:
            return True
        self.slot[begin:end] = slot
        self.priority[begin:end] = [pod.spec.priority for pod, _ in pods]
        self.started_s[begin:end] = [started_s(pod) for pod, _ in pods]
        self.spec[begin:end] = [self._number(pod.spec) for pod, _ in pods]
        amounts = np.zeros((len(self.amounts), len(pods)), np.int64)
        for column, (_, charged) in enumerate(pods):
            for row, amount in self._snap.amounts(charged.takes):
                amounts[row, column] += amount
        self.amounts[:, begin:end] = amounts
        self.below[:, begin:end] = amounts[:, ::-1].cumsum(axis=1)[:, ::-1]
        return len(self._specs) <= 2 * len(self.priority)

    def _number(self, spec: PodSpec) -> int:
        """A small number for a shape, which is held so that its id stays its own."""
        if (known := self._spec_numbers.get(id(spec))) is None:
            known = self._spec_numbers[id(spec)] = len(self._specs)
            self._specs.append(spec)
        return known


def budgets_of(cluster: Cluster) -> list[Budget]:
    """All PodDisruptionBudgets, by their keys."""
    found = cluster.snap.objects.all("PodDisruptionBudget")
    return [found[key] for key in sorted(found)]  # type: ignore[misc]  # of this kind there is one class


def covers(budget: Budget, spec: PodSpec) -> bool:
    """Whether a budget is about a pod: of its namespace, by a selector that is neither missing nor empty; never a pod without
    labels."""
    if not budget.selector or not spec.labels or budget.namespace != spec.namespace or fault(budget.selector):
        return False
    return matches(budget.selector, dict(spec.labels))
