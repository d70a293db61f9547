"""Where: the node for one pod among the feasible ones, by carbon and upstream's score (design section 3)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from carbon_scheduler.core.decision import Decision
from carbon_scheduler.core.emissions import ENERGY_WITHOUT_MODEL_KWH
from carbon_scheduler.core.plugin import MAX_SCORE
from carbon_scheduler.core.snapshot import name_hash

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from carbon_scheduler.core.cluster import Cluster
    from carbon_scheduler.core.emissions import GridCarbon
    from carbon_scheduler.core.model import Pod
    from carbon_scheduler.core.settings import Placement, Policy


class Placer:
    """Makes decisions and numbers them: `seq` starts at the wall clock's microseconds, so it grows across restarts too."""

    def __init__(self, placement: Placement, cluster: Cluster, carbon: GridCarbon) -> None:
        self._placement = placement
        self._cluster = cluster
        self._carbon = carbon
        self._seq = 0

    def place(
        self, pod: Pod, policy: Policy, slots: NDArray[np.intp], totals: NDArray[np.int64], wall_s: float
    ) -> Decision:
        """The node for a pod among its feasible `slots` (n >= 1), with all that explains it. `totals` int64 (n,): upstream's
        weighted score. Cost: about twenty vector operations."""
        snap = self._cluster.snap
        intensity = self._carbon.intensity_g_per_kwh()[slots]
        cost_g = self._carbon.cost_g()[slots]
        taken, blind = choose(policy, self._placement, totals, cost_g, snap.hash64[slots], name_hash(pod.uid))
        node, other = snap.nodes[int(slots[taken])], snap.nodes[int(slots[blind])]
        assert node is not None
        assert other is not None
        mine, theirs = _number(intensity[taken]), _number(intensity[blind])
        grid_zone = self._cluster.zones[node.name].grid_zone
        value = self._carbon.value(grid_zone)
        at_us = int(wall_s * 1e6)
        self._seq = max(self._seq + 1, at_us)
        return Decision(
            seq=self._seq,
            at_us=at_us,
            node=node.name,
            grid_zone=grid_zone,
            intensity_g_per_kwh=mine,
            cleanest_g_per_kwh=_number(np.fmin.reduce(intensity)),
            quality=value.quality if value else None,
            source=value.source if value else None,
            feasible=len(slots),
            policy=policy,
            blind=other.name,
            saved_g_per_kwh=None if mine is None or theirs is None else theirs - mine,
            blind_g_per_kwh=theirs,
            blind_grid_zone=self._cluster.zones[other.name].grid_zone,
        )


def _number(value: float) -> float | None:
    return None if np.isnan(value) else float(value)


_NOTHING = np.iinfo(np.int64).min


def choose(
    policy: Policy,
    placement: Placement,
    totals: NDArray[np.int64],
    cost_g: NDArray[np.float64],
    hash64: NDArray[np.uint64],
    start: int,
) -> tuple[int, int]:
    """Indices of (the node to take, the node that upstream's score alone would take) among n >= 1 feasible nodes.

    `totals` int64 (n,) is upstream's weighted score, normalised over these nodes; `cost_g` float64 (n,), NaN without a
    value; `hash64` uint64 (n,) fixes the order of ties, `start` is the pod's own place in that order.
    Cost: about ten vector operations.
    """
    distance = hash64 - np.uint64(start)  # wraps around: the first node at or after `start` is nearest
    blind = _best(totals, distance)
    if policy == "off" or not np.isfinite(cost_g).any():
        return blind, blind
    if policy == "weighted":
        return _best(totals + placement.carbon_weight * _carbon_score(cost_g), distance), blind
    cheapest = float(np.nanmin(cost_g))
    tolerance = max(placement.tolerance_frac * cheapest, placement.tolerance_g_per_kwh * ENERGY_WITHOUT_MODEL_KWH)
    clean = cost_g <= cheapest + tolerance  # False for NaN: nodes without a value come after all that have one
    return _best(np.where(clean, totals, _NOTHING), distance), blind


def _best(scores: NDArray[np.int64], distance: NDArray[np.uint64]) -> int:
    tied = np.flatnonzero(scores == scores.max())
    return int(tied[distance[tied].argmin()])


def _carbon_score(cost_g: NDArray[np.float64]) -> NDArray[np.int64]:
    """0..100 as any plugin's: 100 for the cheapest, 0 for the dearest and for nodes without a value; all 100 when equal."""
    low, high = float(np.nanmin(cost_g)), float(np.nanmax(cost_g))
    known = np.isfinite(cost_g)
    share = np.ones_like(cost_g) if high <= low else (high - cost_g) / (high - low)
    return np.where(known, np.where(known, share, 0.0) * MAX_SCORE, 0.0).astype(np.int64)
