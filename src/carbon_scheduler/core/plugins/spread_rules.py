"""What spread constraints say of nodes: which may not take one pod more, and how well each would serve.

Sources: kube-scheduler v1.36.3 framework/plugins/podtopologyspread: filtering.go, scoring.go. Arithmetic is upstream's:
integers for the skew, float64 for the score. Sums by domain come from `spread_counts`; arrays over nodes are made anew only
when the set of refusing domains is another one than before, or for a score.
"""

from __future__ import annotations

from math import log
from typing import TYPE_CHECKING, Final, cast

import numpy as np

from carbon_scheduler.core.model import SpreadConstraint, Struct
from carbon_scheduler.core.peers import Wanted
from carbon_scheduler.core.plugin import ALL, MAX_SCORE, UNRESOLVABLE_BIT, State
from carbon_scheduler.core.plugins.spread_counts import NOWHERE

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from carbon_scheduler.core.model import Selector
    from carbon_scheduler.core.plugin import Rows
    from carbon_scheduler.core.plugins.spread_counts import DomainCounts, Places
    from carbon_scheduler.core.snapshot import Snapshot

HOSTNAME: Final = "kubernetes.io/hostname"
_NO_MATCH: Final = "node(s) didn't match pod topology spread constraints"
_NO_LABEL: Final = UNRESOLVABLE_BIT | np.uint64(2)


class Constraint(Struct, frozen=True):
    """A constraint with the selector that counts. `self_match` is 1 when the pod is one of those that it counts."""

    of: SpreadConstraint
    selector: Selector
    self_match: int
    fault: str
    """Why the selector cannot be read, "" when it can."""

    def wanted(self, namespace: str) -> Wanted | None:
        """The pods to count. An empty selector counts none (common.go, countPodsMatchSelector), though the pod matches it."""
        return Wanted((namespace,), (self.selector,), terminating=False) if self.selector else None


class SpreadState(State):
    """The constraints of the pods of one shape. `whole`: a node that lacks the key of any soft constraint is left out."""

    relents = True  # the least of all sums falls by one at most, and then this node's falls too
    reasons = (_NO_MATCH, f"{_NO_MATCH} (missing required label)")

    def __init__(self, hard: Sequence[Hard], soft: Sequence[Soft], failure: str, *, whole: bool) -> None:
        self._hard = hard
        self._soft = soft
        self._whole = whole
        self.filters = bool(hard)
        self.scores = bool(soft)
        self.failure = failure
        self._feasible = b""
        self._versions: list[int] = []
        self._scored: NDArray[np.intp] = np.zeros(0, np.intp)
        self._left_out: NDArray[np.bool_] | None = None

    # -- filter --------------------------------------------------------------------------------------------------

    def reject(self, snap: Snapshot, rows: Rows) -> NDArray[np.uint64]:
        """The first constraint that a node breaks refuses it (filtering.go, Filter)."""
        codes = self._hard[0].codes(snap, rows)
        for hard in self._hard[1:]:
            codes = np.where(codes == 0, hard.codes(snap, rows), codes)
        return codes

    def fits(self, snap: Snapshot, rows: Rows) -> NDArray[np.bool_]:
        """The same array as before while it is the same: not to be changed."""
        if rows is not ALL:
            return super().fits(snap, rows)
        fits = self._hard[0].fits(snap)
        for hard in self._hard[1:]:
            fits = fits & hard.fits(snap)
        return fits

    def refusing(self, snap: Snapshot) -> Sequence[tuple[NDArray[np.intp], NDArray[np.bool_]]]:
        return [hard.refusing(snap) for hard in self._hard]

    # -- score ---------------------------------------------------------------------------------------------------

    def score(self, snap: Snapshot, rows: Rows) -> NDArray[np.int64]:
        """0..100, normalised already."""
        feasible = np.zeros(snap.capacity, np.bool_)
        feasible[rows] = True
        return self.score_all(snap, feasible)[rows]

    def score_all(self, snap: Snapshot, feasible: NDArray[np.bool_]) -> NDArray[np.int64]:
        """The more pods are in the way, the less (scoring.go, Score and NormalizeScore); 0 for nodes that are left out."""
        for soft in self._soft:
            soft.refresh(snap)
        versions = [soft.places.version for soft in self._soft]
        among = feasible.tobytes()
        if among != self._feasible or versions != self._versions:
            self._feasible, self._versions = among, versions
            self._choose(feasible)
        first = self._soft[0]
        if len(self._soft) == 1 and first.counts is not None:
            found = _normalised(_rounded(first.of_domain(whole=self._whole)), first.there)
            found[NOWHERE] = 0  # own constraints and lists of defaults, which may be one alone, leave such nodes out
            return found.take(first.places.domain)
        total = first.term(whole=self._whole)
        for soft in self._soft[1:]:
            total += soft.term(whole=self._whole)
        found = _normalised(_rounded(total), self._scored)
        if self._left_out is not None:
            found[self._left_out] = 0
        return found

    def _choose(self, feasible: NDArray[np.bool_]) -> None:
        """What the set of feasible nodes decides (scoring.go, initPreScoreState): which of them are scored, and in how many
        domains they lie."""
        lacking = np.zeros(len(feasible), np.bool_)
        for soft in self._soft if self._whole else ():
            lacking |= soft.places.domain == NOWHERE
        self._left_out = lacking if lacking.any() else None
        self._scored = np.flatnonzero(feasible & ~lacking)
        for soft in self._soft:
            soft.choose(self._scored, whole=self._whole)


def _rounded(score: NDArray[np.float64]) -> NDArray[np.int64]:
    """Go's math.Round, for what is 0 or at least 0.6."""
    return (score + 0.5).astype(np.int64)


def _normalised(raw: NDArray[np.int64], scored: NDArray[np.intp]) -> NDArray[np.int64]:
    """100 * (max + min - raw) / max, integer, or 100 for a maximum of 0, both of those that are `scored`."""
    counted = raw.take(scored)
    top = int(np.maximum.reduce(counted, initial=0))
    if not top:
        return np.full_like(raw, MAX_SCORE)
    found = top + int(np.minimum.reduce(counted)) - raw
    found *= MAX_SCORE
    found //= top
    return found


class Hard:
    """A hard constraint, and which nodes it let pass last."""

    __slots__ = ("_constraint", "_counts", "_fits", "_refusing", "_version")

    def __init__(self, constraint: Constraint, counts: DomainCounts) -> None:
        self._constraint = constraint
        self._counts = counts
        self._refusing = b""
        self._version = 0
        self._fits: NDArray[np.bool_] = np.zeros(0, np.bool_)

    def fits(self, snap: Snapshot) -> NDArray[np.bool_]:
        """bool (capacity,): another array only when it differs."""
        refusing = self._domains(snap)
        key, places = refusing.tobytes(), self._counts.places
        if key != self._refusing or places.version != self._version:
            self._refusing, self._version = key, places.version
            passing = ~refusing
            passing[NOWHERE] = False
            self._fits = passing.take(places.domain)
        return self._fits

    def refusing(self, snap: Snapshot) -> tuple[NDArray[np.intp], NDArray[np.bool_]]:
        refusing = self._domains(snap)
        refusing[NOWHERE] = True
        return self._counts.places.domain, refusing

    def codes(self, snap: Snapshot, rows: Rows) -> NDArray[np.uint64]:
        """uint64 (rows,)."""
        codes = self._domains(snap).astype(np.uint64)
        codes[NOWHERE] = _NO_LABEL
        return codes.take(self._counts.places.domain[rows])

    def _domains(self, snap: Snapshot) -> NDArray[np.bool_]:
        """bool (domains,): in which of them one pod more would be too many (filtering.go, Filter)."""
        counts, of = self._counts, self._constraint.of
        counts.refresh(snap)
        least = counts.lowest(1 if of.min_domains is None else of.min_domains)
        return counts.sums > of.max_skew + least - self._constraint.self_match


class Soft:
    """A soft constraint: its pods by domain, or by node for the hostname, and what the feasible nodes make of it.

    `there` are the domains that have a node which is scored.
    """

    __slots__ = ("_max_skew", "_nowhere", "_pods", "_wanted", "_weight", "counts", "places", "there")

    def __init__(
        self, constraint: Constraint, places: Places, counts: DomainCounts | None, wanted: Wanted | None
    ) -> None:
        """`counts` None: by node."""
        self.places = places
        self.counts = counts
        self.there: NDArray[np.intp] = np.zeros(0, np.intp)
        self._nowhere: NDArray[np.bool_] | None = None
        self._wanted = wanted
        self._max_skew = constraint.of.max_skew
        self._weight = 0.0
        self._pods: NDArray[np.int64] | None = None

    def refresh(self, snap: Snapshot) -> None:
        if self.counts is not None:
            self.counts.refresh(snap)
        else:
            self.places.refresh(snap)
            self._pods = None if self._wanted is None else snap.peers.matching(self._wanted).pods

    def choose(self, slots: NDArray[np.intp], *, whole: bool) -> None:
        """`slots` are scored. The weight is ln(domains + 2), of nodes for the hostname (scoring.go,
        topologyNormalizingWeight)."""
        size = len(slots)
        if self.counts is None:
            nowhere = self.places.domain == NOWHERE
            self._nowhere = nowhere if not whole and nowhere.any() else None
        else:
            there = np.bincount(self.places.domain.take(slots), minlength=len(self.places.nodes)) > 0
            self.there = np.flatnonzero(there)
            size = len(self.there)
            if not whole and self.places.empty and there[NOWHERE] and there[self.places.empty]:
                size -= 1  # upstream takes a missing label for an empty one
        self._weight = log(size + 2)

    def of_domain(self, *, whole: bool) -> NDArray[np.float64]:
        """float64 (domains,): pods * weight + maxSkew - 1; 0 for nodes without the label, unless they are left out anyway."""
        assert self.counts is not None
        sums = self.counts.sums
        if not whole and self.places.empty:
            sums = sums.copy()
            sums[self.places.empty] += sums[NOWHERE]
        found = sums * self._weight
        found += self._max_skew - 1
        found[NOWHERE] = 0.0
        return cast("NDArray[np.float64]", found)

    def term(self, *, whole: bool) -> NDArray[np.float64]:
        """float64 (capacity,): the same for each node."""
        if self.counts is not None:
            return self.of_domain(whole=whole).take(self.places.domain)
        found = np.zeros(len(self.places.domain)) if self._pods is None else self._pods * self._weight
        found += self._max_skew - 1
        if self._nowhere is not None:
            found[self._nowhere] = 0.0
        return cast("NDArray[np.float64]", found)
