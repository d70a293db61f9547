"""What came of looking for victims on many nodes, and the choice among them.

Source: kube-scheduler v1.36.3 framework/preemption/preemption.go (pickOneNodeForPreemption, DryRunPreemption).
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import numpy as np

from carbon_scheduler.core.verdict import fit_error

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from carbon_scheduler.core.model import NodeName, Pod
    from carbon_scheduler.core.snapshot import Snapshot
    from carbon_scheduler.core.victims import VictimTable

_NO_HELP: Final = "Preemption is not helpful for scheduling"


class Candidate(NamedTuple):
    """A node, and who would have to go there, the most important first. `violations`: of PodDisruptionBudgets."""

    node: NodeName
    victims: tuple[Pod, ...]
    violations: int


class Part:
    """What came of trying some nodes, (n,) each. Of those that are `ok`: broken budgets, the highest priority of a victim, the
    sum of the victims' priorities (each plus 2**31), how many, and since when the longest running of the highest has run."""

    def __init__(self, slots: NDArray[np.intp]) -> None:
        n = len(slots)
        self.slots = slots
        self.ok: NDArray[np.bool_] = np.zeros(n, np.bool_)
        self.violations: NDArray[np.int64] = np.zeros(n, np.int64)
        self.top: NDArray[np.int64] = np.full(n, np.iinfo(np.int64).min, np.int64)
        self.total: NDArray[np.int64] = np.zeros(n, np.int64)
        self.pods: NDArray[np.int64] = np.zeros(n, np.int64)
        self.since: NDArray[np.float64] = np.full(n, np.inf)
        self.rows: list[tuple[NDArray[np.intp], NDArray[np.int64]]] = []
        """Victims that were found together: (places in this part, rows of the table)."""
        self.lists: dict[int, Sequence[Pod]] = {}
        """Victims that were found one by one, by place."""

    def count(
        self,
        at: NDArray[np.intp],
        priority: NDArray[np.int64],
        started: NDArray[np.float64],
        violating: NDArray[np.bool_],
    ) -> None:
        """One more victim for each of the places."""
        top, since = self.top[at], self.since[at]
        self.since[at] = np.where(priority > top, started, np.where(priority == top, np.minimum(since, started), since))
        self.top[at] = np.maximum(top, priority)
        self.total[at] += priority + 2**31
        self.pods[at] += 1
        self.violations[at] += violating


_CHOICE: Final = (("violations", 1), ("top", 1), ("total", 1), ("pods", 1), ("since", -1))
"""The fields of a part by which candidates are compared, one after the other; -1: the more the better."""


class Found:
    """The candidates so far, in the order in which the nodes were tried. `told`: why the others are none."""

    def __init__(self, snap: Snapshot, table: VictimTable) -> None:
        self.told: Counter[str] = Counter()
        self.no_help = 0
        self._snap = snap
        self._table = table
        self._parts: list[Part] = []
        self._of: NDArray[np.int64] = np.zeros(0, np.int64)
        self._place: NDArray[np.int64] = np.zeros(0, np.int64)

    def __len__(self) -> int:
        return len(self._of)

    @property
    def tried(self) -> bool:
        """Whether any node was tried at all."""
        return bool(self._parts)

    def add(self, part: Part) -> None:
        places = np.flatnonzero(part.ok)
        self._of = np.concatenate([self._of, np.full(len(places), len(self._parts))])
        self._place = np.concatenate([self._place, places])
        self._parts.append(part)

    def enough(self, wanted: int) -> bool:
        """Whether upstream would stop here; takes away what it would not have looked at any more. Of candidates that break a
        budget it keeps no more than are wanted."""
        breaks = self._values("violations") > 0
        clean, broken = (~breaks).cumsum(), breaks.cumsum()
        stop = np.flatnonzero((clean > 0) & (clean + np.minimum(broken, wanted) >= wanted))
        if not len(stop):
            return False
        kept = np.flatnonzero(~breaks | (broken <= wanted))
        kept = kept[kept <= stop[0]]
        self._of, self._place = self._of[kept], self._place[kept]
        return True

    def message(self, nodes: int) -> str:
        """Upstream's text when there is no candidate."""
        return fit_error(nodes, {text: n for text, n in (*self.told.items(), (_NO_HELP, self.no_help)) if n})

    def candidate(self, number: int) -> Candidate:
        part, place = self._parts[self._of[number]], int(self._place[number])
        slot = int(part.slots[place])
        node = self._snap.nodes[slot]
        assert node is not None
        victims = part.lists.get(place)
        if victims is None:
            begin = int(self._table.begin[slot])
            rows = sorted(int(row) for at, rows in part.rows for row in rows[at == place])
            victims = [self._table.pod(slot, row - begin) for row in rows]
        return Candidate(node.name, tuple(victims), int(part.violations[place]))

    def choose(self, costs_g: NDArray[np.float64] | None = None) -> int:
        """The best candidate: of upstream's equals the cheapest by cost, then the one that was tried first."""
        tied = self.tied()
        if costs_g is None:
            return int(tied[0])
        costs = costs_g[self._values("slots")[tied]]
        return int(tied[np.where(np.isnan(costs), np.inf, costs).argmin()])

    def tied(self) -> NDArray[np.intp]:
        """Those between which upstream lets chance decide (pickOneNodeForPreemption). At least one."""
        left = np.arange(len(self))
        for field, sign in _CHOICE:
            values = sign * self._values(field)[left]
            left = left[values == values.min()]
        return left

    def _values(self, field: str) -> NDArray[Any]:
        """A field of `Part` for all candidates."""
        if not self._parts:
            return np.zeros(0, np.int64)
        values = [getattr(part, field)[self._place[self._of == number]] for number, part in enumerate(self._parts)]
        return np.concatenate(values)
