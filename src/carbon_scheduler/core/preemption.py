"""DefaultPreemption: which pods of less priority would have to go so that one that fits nowhere fits somewhere.

Sources: kube-scheduler v1.36.3 framework/preemption/preemption.go, framework/plugins/defaultpreemption/default_preemption.go.

    1. may it    not with preemptionPolicy Never, nor while victims of an earlier attempt are still going
    2. where     on nodes that turned the pod away for what pods are there
    3. whom      on each of them all pods of less priority are taken away, then put back as long as the pod still fits: the most
                 important first, before them those that a PodDisruptionBudget protects
    4. which     fewest broken budgets, lowest highest priority, lowest sum of priorities, fewest pods, youngest; of equals the
                 cleanest node

Everything is tried out by the plugins' own code on the snapshot, which is as before afterwards. Where nothing but sums of what
pods take decides, all nodes are tried together. Nodes are tried in an order that is the pod's own, until there are enough
candidates (upstream begins at a random one). Two accidents of upstream are not copied: pods that are being deleted stay out of
spreading's counts in trials too, and a ReadWriteOncePod claim of another namespace is another claim.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

import numpy as np

from carbon_scheduler.core.candidates import Found, Part
from carbon_scheduler.core.model import Struct
from carbon_scheduler.core.nominations import with_them
from carbon_scheduler.core.ring import name_hash
from carbon_scheduler.core.trial import Refusal, Trial
from carbon_scheduler.core.victims import (
    NO_BUDGET,
    ODD,
    SEVERAL,
    VictimTable,
    budgets_of,
    covers,
    importance,
    started_s,
)

if TYPE_CHECKING:
    from collections import Counter
    from collections.abc import Callable, Iterable, Sequence

    from numpy.typing import NDArray

    from carbon_scheduler.core.cluster import Cluster
    from carbon_scheduler.core.model import NodeName, Pod
    from carbon_scheduler.core.nominations import Nominations, Reserved
    from carbon_scheduler.core.objects import Budget
    from carbon_scheduler.core.verdict import Reasons, Verdict

NO_CLAIMS: Final = "no new claims to deallocate"
"""What DynamicResources says first after each failed attempt."""
_NEVER: Final = "not eligible due to preemptionPolicy=Never."
_GOING: Final = "not eligible due to a terminating pod on the nominated node."
_NOBODY: Final = "No preemption victims found for incoming pod"

CHUNK: Final = 256
"""Nodes that are tried together at least."""


class Outcome(Struct, frozen=True):
    """What came of an attempt. `node` None: nothing; `sentence` then says why, and `helpless` that no node can be made to fit,
    so that a nomination that the pod may have is of no use any more. `tried`: nodes were looked through, which takes time."""

    node: NodeName | None = None
    victims: tuple[Pod, ...] = ()
    sentence: str = ""
    helpless: bool = False
    tried: bool = False


class Enough(NamedTuple):
    """DefaultPreemptionArgs: of how many nodes the victims are made out before one is chosen."""

    percentage: int = 10
    absolute: int = 100

    def of(self, nodes: int) -> int:
        """At least 1, where upstream's arguments could come to none at all."""
        return max(1, min(max(nodes * self.percentage // 100, self.absolute), nodes))


def leaving(pod: Pod) -> bool:
    """Whether a pod was told to go by a preemption."""
    return pod.terminating and pod.preempted


class Preemption:
    """Finds victims in a cluster. Keeps nothing but the table of pods, which many attempts share."""

    def __init__(self, cluster: Cluster, nominations: Nominations, table: VictimTable | None = None) -> None:
        self._cluster = cluster
        self._snap = cluster.snap
        self._nominations = nominations
        self._table = table or VictimTable(cluster)

    def attempt(
        self,
        pod: Pod,
        verdict: Verdict,
        enough: Enough,
        costs_g: NDArray[np.float64] | None = None,
        leaving: Callable[[Pod], bool] = leaving,
    ) -> Outcome:
        """What preemption can do for a pod that has no feasible node.

        `costs_g` float64 (capacity,) of its run on each node, NaN where not known, decides between equals. `leaving`: whether a
        pod was told to go already. Cost: `scan`'s.
        """
        if why := self._not_eligible(pod, verdict, leaving):
            return Outcome(sentence=why)
        found = self.scan(pod, verdict, enough.of(int(np.count_nonzero(_fixable(verdict)))))
        if not len(found):
            return Outcome(sentence=found.message(len(self._snap)), helpless=True, tried=found.tried)
        best = found.candidate(found.choose(costs_g))
        return Outcome(best.node, best.victims, tried=True)

    def _not_eligible(self, pod: Pod, verdict: Verdict, leaving: Callable[[Pod], bool]) -> str:
        if not pod.may_preempt:
            return _NEVER
        node = self._nominations.node_of(pod.uid)
        slot = None if node is None else self._snap.slot_of.get(node)
        if node is None or slot is None or not _fixable(verdict)[slot]:
            return ""
        below = (other for other in self._cluster.pods_on(node) if other.spec.priority < pod.spec.priority)
        return _GOING if any(map(leaving, below)) else ""

    def scan(self, pod: Pod, verdict: Verdict, enough: int) -> Found:
        """The candidates among the nodes that the verdict turned away for what is there: at least `enough` if there are as
        many, and further ones until one breaks no budget.

        Cost: where only sums decide some 20 vector operations for each pod that the fullest node has to lose, over
        `2 * enough` nodes at a time; else a trial for each pod of less priority, each some 50 µs, more when the plugins read
        the whole cluster.
        """
        found = Found(self._snap, self._table)
        slots = np.flatnonzero(_fixable(verdict))
        found.no_help = len(self._snap) - len(slots)
        slots = slots[np.argsort(self._snap.hash64[slots] - np.uint64(name_hash(pod.uid)), kind="stable")]
        if not len(slots) or min(self._cluster.priorities, default=pod.spec.priority) >= pod.spec.priority:
            found.told[_NOBODY] += len(slots)
            return found
        self._table.refresh()
        attempt = _Attempt(pod, Trial(pod, verdict, self._snap), self._nominations, self._cluster, self._table)
        size = max(2 * enough, CHUNK)
        for begin in range(0, len(slots), size):
            found.add(attempt.part(slots[begin : begin + size], found.told))
            if found.enough(enough):
                break
        return found


def _fixable(verdict: Verdict) -> NDArray[np.bool_]:
    """bool (capacity,): where the pod does not fit, and would if other pods were gone (code Unschedulable)."""
    mask = np.zeros(len(verdict.feasible), np.bool_)
    if verdict.rejected is None:
        for _, slots, codes, _ in verdict.reasons():
            mask[slots[(codes >> np.uint64(63)) == 0]] = True
    return mask


class _Attempt:
    """One pod tried on parts of the cluster."""

    def __init__(self, pod: Pod, trial: Trial, nominations: Nominations, cluster: Cluster, table: VictimTable) -> None:
        self._pod = pod
        self._trial = trial
        self._nominations = nominations
        self._cluster = cluster
        self._snap = cluster.snap
        self._table = table
        self._budgets: list[Budget] = budgets_of(cluster)
        self._reserved: Reserved = nominations.reserved(pod)
        below = table.priority < pod.spec.priority
        self._victims = np.bincount(table.slot[below], minlength=self._snap.capacity)
        self._alone = self._not_by_sums(below)
        self._view = nominations.view(self._reserved)

    def _not_by_sums(self, below: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """bool (capacity,): nodes that must be tried one by one."""
        alone: NDArray[np.bool_] = ~self._trial.relenting()
        if not self._trial.sums_only:
            alone[self._reserved.slots] = True  # a nominated pod may be in the way by more than what it takes
        alone |= np.any(self._snap.requested >= ODD, axis=0)
        if self._budgets:
            budget_of, _ = self._table.budgets()
            alone[self._table.slot[below & (budget_of[self._table.spec] == SEVERAL)]] = True
        return alone

    def part(self, slots: NDArray[np.intp], told: Counter[str]) -> Part:
        """Tries some nodes, and counts in `told` why they are no candidates."""
        part = Part(slots)
        none = self._victims[slots] == 0
        told[_NOBODY] += int(np.count_nonzero(none))
        alone = self._alone[slots]
        self._together(part, np.flatnonzero(~none & ~alone), told)
        self._snap.peers.hold()
        try:
            for place in np.flatnonzero(~none & alone).tolist():
                self._one(part, place, told)
        finally:
            self._snap.peers.release()
        return part

    # -- many nodes --------------------------------------------------------------------------------------------------

    def _together(self, part: Part, places: NDArray[np.intp], told: Counter[str]) -> None:
        """By sums: first without all victims, then each node's victims come back one after the other."""
        table, view, trial = self._table, self._view, self._trial
        slots = part.slots[places]
        count = self._victims[slots]
        base = table.begin[slots] + table.count[slots] - count  # a node's victims are its last rows
        view.requested[:, slots] -= table.below[:, base]
        view.pod_count[slots] -= count
        fits, reasons = trial.at_sums(view, slots)
        _tell(told, reasons)
        places, slots, count, base = places[fits], slots[fits], count[fits], base[fits]
        if not len(places):
            return
        offset = np.cumsum(count) - count
        rows = np.repeat(base - offset, count) + np.arange(int(count.sum()))
        violating = self._violating(rows, np.repeat(np.arange(len(places)), count))
        if violating.any():
            first = np.argsort(np.repeat(np.arange(len(places)), count) * 2 + ~violating, kind="stable")
            rows, violating = rows[first], violating[first]
        for turn in range(int(count.max())):
            here = np.flatnonzero(count > turn)
            mine = offset[here] + turn
            row, slot = rows[mine], slots[here]
            view.requested[:, slot] += table.amounts[:, row]
            view.pod_count[slot] += 1
            out = ~trial.fits_sums(view, slot)
            if out.any():
                row, slot, at = row[out], slot[out], places[here[out]]
                view.requested[:, slot] -= table.amounts[:, row]
                view.pod_count[slot] -= 1
                part.count(at, table.priority[row], table.started_s[row], violating[mine[out]])
                part.rows.append((at, row))
        part.ok[places] = part.pods[places] > 0

    def _violating(self, rows: NDArray[np.int64], node: NDArray[np.intp]) -> NDArray[np.bool_]:
        """bool (rows,): whose eviction would break a budget, when a node's victims go in the order of their rows."""
        violating = np.zeros(len(rows), np.bool_)
        if not self._budgets:
            return violating
        budget_of, allowed = self._table.budgets()
        budget = budget_of[self._table.spec[rows]]
        covered = np.flatnonzero(budget > NO_BUDGET)
        if not len(covered):
            return violating
        group = node[covered] * len(allowed) + budget[covered]
        order = np.argsort(group, kind="stable")
        group = group[order]
        start = np.concatenate([[True], group[1:] != group[:-1]])
        number = np.arange(len(group))
        nth = number - np.maximum.accumulate(np.where(start, number, 0))
        covered = covered[order]
        violating[covered] = nth >= allowed[budget[covered]]
        return violating

    # -- one node ----------------------------------------------------------------------------------------------------

    def _one(self, part: Part, place: int, told: Counter[str]) -> None:
        """The same on the snapshot itself, by all plugins."""
        snap, slot = self._snap, int(part.slots[place])
        node = snap.nodes[slot]
        assert node is not None
        below = [
            both for both in self._cluster.charged_on(node.name) if both[0].spec.priority < self._pod.spec.priority
        ]
        below.sort(key=lambda both: importance(both[0]))
        charged = {now.uid: then for now, then in below}
        with_them(snap, slot, charged.values(), -1)
        away = dict(charged)
        try:
            if (refusal := self._refusal(slot)) is not None:
                _tell(told, [(refusal.plugin, np.array([slot]), np.array([refusal.code], np.uint64), refusal.texts)])
                return
            victims: list[tuple[Pod, bool]] = []
            for pod, breaks in split([now for now, _ in below], self._budgets):
                then = away.pop(pod.uid)
                snap.charge(slot, then, 1)
                if self._refusal(slot) is not None:
                    snap.charge(slot, then, -1)
                    away[pod.uid] = then
                    victims.append((pod, breaks))
        finally:
            with_them(snap, slot, away.values(), 1)
        victims.sort(key=lambda both: importance(both[0]))
        at = np.array([place])
        for pod, breaks in victims:
            part.count(at, np.array([pod.spec.priority]), np.array([started_s(pod)]), np.array([breaks]))
        part.lists[place] = [pod for pod, _ in victims]
        part.ok[place] = bool(victims)

    def _refusal(self, slot: int) -> Refusal | None:
        """Beside the nominated pods, and without them."""
        if slot in self._reserved.slots and (found := self._nominations.try_beside(slot, self._pod, self._trial)):
            return found
        return self._trial.at(slot)


def split(pods: Iterable[Pod], budgets: Sequence[Budget]) -> list[tuple[Pod, bool]]:
    """The pods, each with whether its eviction would break a budget if they went in this order; those that would come first
    (filterPodsWithPDBViolation). A budget does not count pods whose eviction it has counted already."""
    left = {budget.key: budget.disruptions_allowed for budget in budgets}
    told: list[tuple[Pod, bool]] = []
    for pod in pods:
        breaks = False
        for budget in budgets:
            if covers(budget, pod.spec) and pod.name not in budget.disrupted:
                left[budget.key] -= 1
                breaks |= left[budget.key] < 0
        told.append((pod, breaks))
    return sorted(told, key=lambda both: not both[1])


def _tell(told: Counter[str], reasons: Reasons) -> None:
    for _, _, codes, texts in reasons:
        for bit, text in enumerate(texts):
            told[text] += int(np.count_nonzero(codes & np.uint64(1 << bit)))
