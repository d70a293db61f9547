"""Where: the node for one pod among the feasible ones, by carbon and upstream's score (design section 3)."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from carbon_scheduler.core.decision import Decision
from carbon_scheduler.core.emissions import ENERGY_WITHOUT_MODEL_KWH
from carbon_scheduler.core.plugin import MAX_SCORE
from carbon_scheduler.core.ring import name_hash

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from carbon_scheduler.core.cluster import Cluster
    from carbon_scheduler.core.emissions import Costs, GridCarbon
    from carbon_scheduler.core.model import Pod
    from carbon_scheduler.core.ring import Ring
    from carbon_scheduler.core.settings import Placement, Policy


class Placer:
    """Makes decisions and numbers them: `seq` starts at the wall clock's microseconds, so it grows across restarts too."""

    def __init__(self, placement: Placement, cluster: Cluster, carbon: GridCarbon) -> None:
        self._placement = placement
        self._cluster = cluster
        self._carbon = carbon
        self._seq = 0

    def place(self, pod: Pod, policy: Policy, ranked: NDArray[np.int64], feasible: int, wall_s: float) -> Decision:
        """The node for a pod, with all that explains it. `ranked` int64 (capacity,): upstream's weighted score of the
        `feasible` nodes (1 at least), negative elsewhere. Cost: about fifteen vector operations."""
        snap = self._cluster.snap
        intensities = self._carbon.intensities
        costs = self._carbon.costs
        taken, blind, cheapest = choose(policy, self._placement, ranked, costs, snap.ring, name_hash(pod.uid))
        cleanest = cheapest if costs is intensities else intensities.lowest(ranked)
        node, other = snap.nodes[taken], snap.nodes[blind]
        assert node is not None
        assert other is not None
        mine, theirs = _number(intensities.cost_g[taken]), _number(intensities.cost_g[blind])
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
            cleanest_g_per_kwh=cleanest,
            quality=value.quality if value else None,
            source=value.source if value else None,
            feasible=feasible,
            policy=policy,
            blind=other.name,
            saved_g_per_kwh=None if mine is None or theirs is None else theirs - mine,
            blind_g_per_kwh=theirs,
            blind_grid_zone=self._cluster.zones[other.name].grid_zone,
        )


def _number(value: float) -> float | None:
    return None if math.isnan(value) else float(value)


def choose(
    policy: Policy, placement: Placement, ranked: NDArray[np.int64], costs: Costs, ring: Ring, start: int
) -> tuple[int, int, float | None]:
    """Slots of the node to take and of the one that upstream's score alone would take, and the lowest cost of a feasible node:
    None when no such cost is known.

    `ranked` int64 (n,) is upstream's weighted score, normalised over the feasible nodes and negative elsewhere, for at least
    one node not; `costs` are those of the n slots; `ring` fixes the order of ties, `start` is the pod's own place on it.
    Cost: about ten vector operations.
    """
    blind = ring.first_best(ranked, start)
    cheapest = costs.lowest(ranked)
    if policy == "off" or cheapest is None:
        return blind, blind, cheapest
    if policy == "weighted":
        score = _carbon_score(costs.cost_g, ranked >= 0)
        total = np.where(ranked >= 0, ranked + placement.carbon_weight * score, -1)
        return ring.first_best(total, start), blind, cheapest
    tolerance = max(placement.tolerance_frac * cheapest, placement.tolerance_g_per_kwh * ENERGY_WITHOUT_MODEL_KWH)
    clean = costs.between(
        cheapest, cheapest + tolerance
    )  # without nodes that have no value: these come after all others
    return ring.first_best_of(clean, ranked.take(clean), start), blind, cheapest


def _carbon_score(cost_g: NDArray[np.float64], feasible: NDArray[np.bool_]) -> NDArray[np.int64]:
    """0..100 as any plugin's: 100 for the cheapest feasible node, 0 for the dearest and for nodes without a value; all 100
    when equal. Of nodes that are not feasible it means nothing."""
    known = feasible & np.isfinite(cost_g)
    there = cost_g[known]
    low, high = float(there.min(initial=np.inf)), float(there.max(initial=-np.inf))
    share = np.ones_like(cost_g) if high <= low else (high - cost_g) / (high - low)
    return np.where(known, np.where(known, share, 0.0) * MAX_SCORE, 0.0).astype(np.int64)
