"""Where: the node for one pod among the feasible ones, by carbon and upstream's score (design section 3)."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final

import numpy as np

from carbon_scheduler.core.decision import Decision
from carbon_scheduler.core.emissions import ENERGY_WITHOUT_MODEL_KWH
from carbon_scheduler.core.groups import MAX_GROUPS, MIN_CAPACITY, Field, Groups
from carbon_scheduler.core.plugin import MAX_SCORE
from carbon_scheduler.core.ring import name_hash

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from carbon_scheduler.core.cluster import Cluster
    from carbon_scheduler.core.emissions import Costs, GridCarbon
    from carbon_scheduler.core.model import Pod
    from carbon_scheduler.core.ring import Ring
    from carbon_scheduler.core.settings import Placement, Policy
    from carbon_scheduler.core.verdict import Ranks, Verdict

MAX_DIVISIONS: Final = 32
"""Ways to divide the nodes into domains for which groups are kept."""


class Placer:
    """Makes decisions and numbers them: `seq` starts at the wall clock's microseconds, so it grows across restarts too."""

    def __init__(self, placement: Placement, cluster: Cluster, carbon: GridCarbon) -> None:
        self._placement = placement
        self._cluster = cluster
        self._carbon = carbon
        self._seq = 0
        self._groups: dict[tuple[int, ...], Groups] = {}
        self._groups_at: tuple[Costs, int, int] | None = None

    def field(self, verdict: Verdict) -> Field | None:
        """The feasible nodes by groups, where the choice can be made so."""
        if self._cluster.snap.capacity < MIN_CAPACITY or self._carbon.costs is not self._carbon.intensities:
            return None
        return verdict.field(self._groups_of)

    def _groups_of(self, divisions: list[NDArray[np.intp]]) -> Groups | None:
        now = (self._carbon.costs, self._cluster.snap.spec_log.position, self._cluster.snap.generation)
        if now != self._groups_at:
            self._groups_at = now
            self._groups.clear()
        key = tuple(map(id, divisions))  # which the groups hold, so that their ids stay their own
        found = self._groups.get(key)
        if found is None:
            if len(self._groups) >= MAX_DIVISIONS:
                del self._groups[next(iter(self._groups))]
            found = self._groups[key] = Groups(self._cluster.snap, self._carbon.costs, divisions)
        return found if found.count <= MAX_GROUPS else None

    def place(self, pod: Pod, policy: Policy, nodes: Ranks | Field, feasible: int, wall_s: float) -> Decision:
        """The node for a pod, with all that explains it, among the `feasible` ones, of which there is one at least: `nodes`, by
        groups or by slots. Cost: about twenty vector operations."""
        snap = self._cluster.snap
        intensities, costs = self._carbon.intensities, self._carbon.costs
        start = name_hash(pod.uid)
        if isinstance(nodes, Field):
            taken, blind, cleanest = choose_in_groups(policy, self._placement, nodes, snap.ring, start)
        else:
            taken, blind, cheapest = choose(policy, self._placement, nodes, costs, snap.ring, start)
            cleanest = cheapest if costs is intensities else intensities.lowest(nodes.ranked, nodes.feasible)
        node, other = snap.nodes[taken], snap.nodes[blind]
        assert node is not None
        assert other is not None
        mine, theirs = _number(intensities.cost_g.item(taken)), _number(intensities.cost_g.item(blind))
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
    return None if math.isnan(value) else value


def choose(
    policy: Policy, placement: Placement, ranks: Ranks, costs: Costs, ring: Ring, start: int
) -> tuple[int, int, float | None]:
    """Slots of the node to take and of the one that upstream's score alone would take, and the lowest cost of a feasible node:
    None when no such cost is known.

    `costs` are those of the n slots; `ring` fixes the order of ties, `start` is the pod's own place on it. Cost: about ten
    vector operations.
    """
    ranked, feasible = ranks.ranked, ranks.feasible
    blind = ring.first_best(ranked, start, feasible)
    cheapest = costs.lowest(ranked, feasible)
    if policy == "off" or cheapest is None:
        return blind, blind, cheapest
    if policy == "weighted":
        fits = ranks.fits()
        total = np.where(fits, ranked + placement.carbon_weight * _carbon_score(costs.cost_g, fits), -1)
        return ring.first_best(total, start), blind, cheapest
    # Nodes without a value are not clean: they come after all others.
    clean = costs.between(cheapest, cheapest + _tolerance_g(placement, cheapest))
    best = ranked.take(clean)
    if feasible is not None:
        best = np.where(feasible.take(clean), best, -1)
    return ring.first_best_of(clean, best, start), blind, cheapest


def choose_in_groups(
    policy: Policy, placement: Placement, field: Field, ring: Ring, start: int
) -> tuple[int, int, float | None]:
    """The same choice by groups of nodes, for all policies but `weighted`. Cost: does not grow with the nodes, apart from the
    groups that changed since the shape's last attempt."""
    blind = field.first_best(ring, start)
    cheapest = field.cheapest()
    if policy == "off" or cheapest is None:
        return blind, blind, cheapest
    dearest = cheapest + _tolerance_g(placement, cheapest)
    return field.first_best_of_cost(cheapest, dearest, ring, start), blind, cheapest


def _tolerance_g(placement: Placement, cheapest_g: float) -> float:
    return max(placement.tolerance_frac * cheapest_g, placement.tolerance_g_per_kwh * ENERGY_WITHOUT_MODEL_KWH)


def _carbon_score(cost_g: NDArray[np.float64], feasible: NDArray[np.bool_]) -> NDArray[np.int64]:
    """0..100 as any plugin's: 100 for the cheapest feasible node, 0 for the dearest and for nodes without a value; all 100
    when equal. Of nodes that are not feasible it means nothing."""
    known = feasible & np.isfinite(cost_g)
    there = cost_g[known]
    low, high = float(there.min(initial=np.inf)), float(there.max(initial=-np.inf))
    share = np.ones_like(cost_g) if high <= low else (high - cost_g) / (high - low)
    return np.where(known, np.where(known, share, 0.0) * MAX_SCORE, 0.0).astype(np.int64)
