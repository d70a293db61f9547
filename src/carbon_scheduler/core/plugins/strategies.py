"""Resource scores other than kube-scheduler's defaults: other resources, weights, and ways to count.

Source: kube-scheduler v1.36.3 plugins/noderesources/resource_allocation.go, least_allocated.go, most_allocated.go,
requested_to_capacity_ratio.go, balanced_allocation.go and plugins/helper/shape_score.go. Integers, except where upstream takes
float64 too.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

import numpy as np

from carbon_scheduler.core.plugin import MAX_SCORE, State
from carbon_scheduler.core.snapshot import CPU, FIXED, MEMORY

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    from carbon_scheduler.core.plugin import Rows
    from carbon_scheduler.core.settings import FitArgs
    from carbon_scheduler.core.snapshot import Snapshot

    Ints = NDArray[np.int64]

_SCALE = 10
"""A shape's scores go from 0 to 10, a plugin's from 0 to 100."""


def _use(
    snap: Snapshot, rows: Rows, resources: Sequence[str], amounts: Sequence[int], *, scoring: bool
) -> Iterator[tuple[int, Ints, Ints]]:
    """(index, requested by the pods there, allocatable) of each resource that counts: not a scalar that the pod does not ask
    for. `scoring`: with 100m and 200 MiB for each container that asks for none."""
    for i, (name, amount) in enumerate(zip(resources, amounts, strict=True)):
        row = snap.resource_of.get(name)
        if row is None or (not amount and name not in FIXED):
            continue
        allocatable = snap.allocatable[row, rows]
        if scoring and row in (CPU, MEMORY):
            yield i, allocatable - snap.basics(rows).free[row], allocatable
        else:
            yield i, snap.requested[row, rows], allocatable


def allocation(args: FitArgs, amounts: Sequence[int], snap: Snapshot, rows: Rows) -> Ints:
    """int64 (rows,), 0..100: the weighted mean of the resources' scores by the strategy. `amounts`: what the pod asks for of
    each resource. A resource that a node does not offer does not count there."""
    total = np.zeros(len(snap.alive[rows]), np.int64)
    weights = np.zeros_like(total)
    ratio = args.strategy == "RequestedToCapacityRatio"
    for i, used, allocatable in _use(snap, rows, [name for name, _ in args.resources], amounts, scoring=True):
        weight, there = args.resources[i][1], allocatable > 0
        requested, divisor = used + amounts[i], np.where(there, allocatable, 1)
        match args.strategy:
            case "LeastAllocated":
                score = np.maximum(allocatable - requested, 0) * MAX_SCORE // divisor
            case "MostAllocated":
                score = np.minimum(requested, allocatable) * MAX_SCORE // divisor
            case "RequestedToCapacityRatio":
                used_percent = np.where(requested > allocatable, 100, requested * 100 // divisor)
                score = curve(args.shape)[np.clip(used_percent, 0, 100)]
                there &= score > 0  # a resource that scores nothing does not weigh either
        total += np.where(there, score * weight, 0)
        weights += np.where(there, weight, 0)
    divisor = np.maximum(weights, 1)
    return (2 * total + divisor) // (2 * divisor) if ratio else total // divisor  # rounded half up, or cut


@cache
def curve(shape: tuple[tuple[int, int], ...]) -> Ints:
    """int64 (101,), read only: the score of each utilisation in percent, straight between the points and level beyond them.
    Cost: none after the first time; there are as many shapes as profiles."""
    found = [shape[-1][1] * _SCALE] * 101
    for p in range(101):
        for i, (x, y) in enumerate(shape):
            if p <= x:
                if i == 0:
                    found[p] = y * _SCALE
                else:
                    x0, y0 = shape[i - 1]
                    rise = (y - y0) * _SCALE * (p - x0)
                    found[p] = y0 * _SCALE + (abs(rise) // (x - x0)) * (1 if rise >= 0 else -1)  # as Go: towards zero
                break
    return np.array(found, np.int64)


class BalanceOf(State):
    """NodeResourcesBalancedAllocation over other resources than cpu and memory."""

    scores = True

    def __init__(self, resources: Sequence[str], amounts: Sequence[int]) -> None:
        self._resources = resources
        self._amounts = amounts

    def score(self, snap: Snapshot, rows: Rows) -> Ints:
        """50 + (50 + with - without)/2 of the evenness with and without the pod. 50..100."""
        used = list(_use(snap, rows, self._resources, self._amounts, scoring=False))
        size = len(snap.alive[rows])
        now = _evenness([(requested, allocatable) for _, requested, allocatable in used], size)
        then = _evenness([(requested + self._amounts[i], allocatable) for i, requested, allocatable in used], size)
        return 50 + (50 + then - now) // 2


def _evenness(used: Sequence[tuple[Ints, Ints]], size: int) -> Ints:
    """int((1 - std) * 100) of the shares in use, of those resources that a node offers; 100 for one or none of them.

    Additions in upstream's order, for float64 sums depend on it; of two shares the deviation is half their distance.
    """
    count = np.zeros(size, np.int64)
    total, first, last, squares = (np.zeros(size) for _ in range(4))
    shares = []
    for requested, allocatable in used:
        there = allocatable > 0
        share = np.where(there, np.minimum(requested / np.where(there, allocatable, 1), 1.0), 0.0)
        first = np.where(there & (count == 0), share, first)
        last = np.where(there, share, last)
        total += share
        count += there
        shares.append((there, share))
    mean = total / np.maximum(count, 1)
    for there, share in shares:
        squares += np.where(there, (share - mean) * (share - mean), 0.0)
    many = np.sqrt(squares / np.maximum(count, 1))
    std = np.where(count > 2, many, np.where(count == 2, np.abs((first - last) / 2), 0.0))
    found: Ints = ((1 - std) * float(MAX_SCORE)).astype(np.int64)
    return found
