"""Nodes in groups: those of equal cost and in the same domains, so that a choice looks at groups before it looks at nodes.

What a constraint on domains refuses, and what is clean, it is for whole groups. Of each group a pod's shape remembers how many
nodes fit and how high the best of them ranks at most; only the groups that may win are looked into. In this way a choice among
50,000 nodes costs little more than one among 5,000. `placement.choose` is the same choice by looking at every node.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

import numpy as np

from carbon_scheduler.core.ring import CHUNK

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from carbon_scheduler.core.emissions import Costs
    from carbon_scheduler.core.ring import Ring
    from carbon_scheduler.core.snapshot import Snapshot

MAX_GROUPS: Final = 2048
"""More are not worth it."""
MAX_RANGES: Final = 16
"""Ranges of cost whose nodes are remembered."""
MIN_CAPACITY: Final = 16_384
"""With fewer slots than this, looking at every node is faster (bench/core.py)."""


class Groups:
    """`of` is intp (capacity,): each slot's group; `count`, one more than there are groups, for free slots. `cost_g` is float64
    (count + 1,), inf where it is not known; `domains[i]` intp (count + 1,): the domain in the i-th of the `divisions`, each of
    which is intp (capacity,). Holds as long as no node and no cost changes. Cost: O(nodes log nodes)."""

    def __init__(self, snap: Snapshot, costs: Costs, divisions: Sequence[NDArray[np.intp]]) -> None:
        self.divisions = tuple(divisions)
        self._costs = costs
        self._between: dict[tuple[float, float], tuple[NDArray[np.intp], list[NDArray[np.intp]]]] = {}
        slots = np.flatnonzero(snap.alive)
        _, ids = np.unique(costs.cost_g[slots], return_inverse=True)  # all NaN are one
        for domain in divisions:
            _, ids = np.unique(ids * (int(domain.max(initial=0)) + 1) + domain[slots], return_inverse=True)
        self.count = int(ids.max(initial=-1)) + 1
        self.of: NDArray[np.intp] = np.full(snap.capacity, self.count, np.intp)
        self.of[slots] = ids
        first = np.zeros(self.count, np.intp)
        first[ids[::-1]] = slots[::-1]
        cost = costs.cost_g[first]
        self.cost_g: NDArray[np.float64] = np.append(np.where(np.isnan(cost), np.inf, cost), np.inf)
        self.domains = [np.append(domain[first], 0) for domain in divisions]
        self._order = slots[np.argsort(ids, kind="stable")]
        self._ends = np.cumsum(np.bincount(ids, minlength=self.count)).tolist()

    def slots(self, group: int) -> NDArray[np.intp]:
        """The slots of a group, ascending."""
        return self._order[self._ends[group - 1] if group else 0 : self._ends[group]]

    def between(self, low_g: float, high_g: float) -> tuple[NDArray[np.intp], list[NDArray[np.intp]]]:
        """The slots whose cost is within these bounds, both included, and their domain in each division. Read only. Cost:
        O(nodes) the first time."""
        found = self._between.get((low_g, high_g))
        if found is None:
            if len(self._between) >= MAX_RANGES:
                self._between.clear()
            slots = self._costs.between(low_g, high_g)
            found = self._between[low_g, high_g] = (slots, [domain.take(slots) for domain in self.divisions])
        return found


class Tops:
    """Of one shape, for every group: `fitting` int64 (count + 1,) how many nodes fit, and how high the best ranks at most."""

    def __init__(self, groups: Groups, fits: NDArray[np.bool_], ranked: NDArray[np.int64]) -> None:
        self.groups = groups
        self.fitting: NDArray[np.int64] = np.bincount(groups.of[fits], minlength=groups.count + 1)
        self._most: NDArray[np.int64] = np.full(groups.count + 1, -1, np.int64)
        np.maximum.at(self._most, groups.of, ranked)
        self._unsure: NDArray[np.bool_] = np.zeros(groups.count + 1, np.bool_)

    def update(
        self,
        rows: NDArray[np.intp],
        before: NDArray[np.bool_],
        fits: NDArray[np.bool_],
        ranked: NDArray[np.int64],
    ) -> None:
        """`rows` were judged again: all that is new of them, and whether they fitted before. A slot may be there twice."""
        touched = self.groups.of.take(rows)
        np.maximum.at(self._most, touched, ranked)
        self._unsure[touched] = True
        moved = before != fits
        if np.count_nonzero(moved):
            _, at = np.unique(rows, return_index=True)
            at = at[moved[at]]
            np.add.at(self.fitting, touched[at], np.where(fits[at], 1, -1))

    def best(self, open_: NDArray[np.bool_], ranked: NDArray[np.int64]) -> int:
        """The highest rank among the nodes of the `open_` groups (count + 1,), at least one of which fits."""
        most = np.where(open_, self._most, -1)
        while True:
            group = int(most.argmax())
            if not self._unsure[group]:
                return int(most[group])
            most[group] = self._most[group] = int(np.maximum.reduce(ranked.take(self.groups.slots(group))))
            self._unsure[group] = False

    def first_best(self, open_: NDArray[np.bool_], ranked: NDArray[np.int64], ring: Ring, start: int) -> int:
        """The first of the best nodes of the open groups at or after `start`."""
        best = self.best(open_, ranked)
        groups = self.groups
        near = ring.near(start, CHUNK)
        hits = ranked.take(near) == best
        hits &= open_.take(groups.of.take(near))
        if len(near) and hits[hit := int(hits.argmax())]:
            return int(near[hit])
        level = np.flatnonzero(open_ & (self._most >= best)).tolist()
        these = groups.slots(level[0]) if len(level) == 1 else np.concatenate([groups.slots(g) for g in level])
        return ring.first_best_of(these, ranked.take(these), start)


class Field(NamedTuple):
    """The feasible nodes of one attempt: those that fit in the `open_` groups (bool (count + 1,)), which are those whose domain
    in every division is `passing` (bool (domains,)). `ranked` int64 (capacity,) is the shape's, and means nothing elsewhere."""

    tops: Tops
    open_: NDArray[np.bool_]
    passing: list[NDArray[np.bool_]]
    ranked: NDArray[np.int64]

    @property
    def feasible(self) -> int:
        return int(np.add.reduce(self.tops.fitting[self.open_]))

    def cheapest(self) -> float | None:
        """The lowest known cost of a feasible node, at least one of which there is."""
        low = float(np.minimum.reduce(self.tops.groups.cost_g[self.open_]))
        return low if low < np.inf else None

    def first_best(self, ring: Ring, start: int) -> int:
        """The first of the best nodes at or after `start`."""
        return self.tops.first_best(self.open_, self.ranked, ring, start)

    def first_best_of_cost(self, low_g: float, high_g: float, ring: Ring, start: int) -> int:
        """The same among those whose cost is within these bounds, at least one of which there is."""
        slots, domains = self.tops.groups.between(low_g, high_g)
        ranked = self.ranked.take(slots)
        for passing, domain in zip(self.passing, domains, strict=True):
            ranked = np.where(passing.take(domain), ranked, -1)
        return ring.first_best_of(slots, ranked, start)
