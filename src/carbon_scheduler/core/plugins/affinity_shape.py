"""What affinity between pods comes to for one shape of pods: whom its terms speak of, who speaks of it, on which nodes.

Kept from one attempt to the next. What changed is taken in from the peers' counts, the nodes' labels and the namespaces;
verdicts are made again where a domain turned from none to some or back.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from carbon_scheduler.core.plugin import ALL, UNRESOLVABLE_BIT
from carbon_scheduler.core.plugins.pod_terms import NO_LABELS, common, own_terms, unreadable, wanted_by

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from numpy.typing import NDArray

    from carbon_scheduler.core.model import PodSpec
    from carbon_scheduler.core.peers import CarrierCount, PeerCount, Wanted
    from carbon_scheduler.core.plugin import Rows
    from carbon_scheduler.core.plugins.domains import DomainCache, DomainSums
    from carbon_scheduler.core.snapshot import LabelColumn, Snapshot

    Count = PeerCount | CarrierCount

_NEAR, _FAR, _THEIRS = UNRESOLVABLE_BIT | np.uint64(1), np.uint64(2), np.uint64(4)
"""Bits of the plugin's `reasons`."""


class AffinityShape:
    """One shape of pods and all that other pods mean to it, kept up to date.

    `_near`: the pods that match all required terms, by each of their topology keys. `_far`: those that a required
    anti-affinity term of the shape matches. `_theirs`: those with such a term that matches the shape. `_liked`: those that
    add to the score, with the weight.
    """

    def __init__(self, spec: PodSpec, domains: DomainCache, *, hard: int, ignores: bool) -> None:
        self.spec = spec
        self.unreadable = unreadable(spec)
        preferred = spec.preferred_pod_affinity or spec.preferred_pod_anti_affinity
        self._domains = domains
        self._hard = hard
        self._may_score = bool(preferred) or not ignores
        self._requires = bool(spec.required_pod_affinity or spec.required_pod_anti_affinity)
        self._selects_namespaces = any(term.namespace_selector for term in own_terms(spec))
        self._wanted: dict[Wanted, PeerCount | None] = {}
        self._near_terms: list[tuple[Wanted, str]] = []
        self._far_terms: list[tuple[Wanted, str]] = []
        self._liked_terms: list[tuple[Wanted, str, int]] = []
        self._of_namespace: Mapping[str, str] | None = None
        self._at = (-1, -1, -1)
        self._namespaces_at = self._terms_at = -1
        self._spoken: list[tuple[str, str, int, CarrierCount]] = []
        self._near: list[DomainSums] = []
        self._far: list[DomainSums] = []
        self._theirs: list[DomainSums] = []
        self._liked: dict[str, list[tuple[DomainSums, int]]] = {}
        self._all: list[DomainSums] = []
        self.filters = self.scores = False
        self._matches_itself = self._is_first = False
        self._codes: NDArray[np.uint64] = np.zeros(0, np.uint64)
        self._fits: NDArray[np.bool_] = np.zeros(0, np.bool_)
        self._seen: list[tuple[int, int]] | None = None
        self._spec_at = -1
        self._was_first = False

    def refresh(self, snap: Snapshot) -> None:
        """Takes in what happened. `filters` and `scores` tell whether upstream would skip either."""
        now = (snap.load_log.position, snap.spec_log.position, snap.namespaces_version)
        if now == self._at:
            return
        self._at = now
        peers = snap.peers
        anew = False
        if self._namespaces_at != snap.namespaces_version:
            anew = self._read_namespaces(snap)
        if self._terms_at != peers.terms_version:
            anew = self._read_carried(snap) or anew
        for wanted, was in self._wanted.items():
            count = peers.matching(wanted)
            if count is not was:
                self._wanted[wanted] = count
                anew = True
        if anew:
            self._gather(snap)
        for sums in self._all:
            sums.refresh(snap)
        self._is_first = self._matches_itself and not any(sums.total for sums in self._near)
        self.filters = self._requires or any(sums.total for sums in self._theirs)
        self.scores = self._may_score and any(sums.total for part in self._liked.values() for sums, _ in part)

    # Others may have been tried on nodes since a state was prepared, and taken off again: each question refreshes.

    def reject(self, snap: Snapshot, rows: Rows) -> NDArray[np.uint64]:
        self.refresh(snap)
        if not isinstance(rows, slice):
            return self._judge(snap, rows)
        self._bring_up(snap)
        return self._codes[rows].copy()

    def fits(self, snap: Snapshot) -> NDArray[np.bool_]:
        """bool (capacity,). Read only, and changed in place by the next question."""
        self.refresh(snap)
        self._bring_up(snap)
        return self._fits

    def score(self, snap: Snapshot, rows: Rows) -> NDArray[np.int64]:
        self.refresh(snap)
        raw: NDArray[np.int64] = np.zeros(_length(snap, rows), np.int64)
        for parts in self._liked.values():
            column = parts[0][0].column
            points = _points([part for part in parts if part[0].column is column], column)
            raw += points.take(column.ids[rows])
            for sums, weight in parts:
                if sums.column is not column:  # made anew in between: more labels are asked for than may have a column
                    raw += weight * sums.of(rows)
        return raw

    def by_domain(self, snap: Snapshot) -> tuple[NDArray[np.int64], NDArray[np.int32]] | None:
        """The raw score of each value of the only topology key, and the value ids of all nodes; None when there are several."""
        self.refresh(snap)
        if len(self._liked) != 1:
            return None
        (parts,) = self._liked.values()
        column = parts[0][0].column
        if any(sums.column is not column for sums, _ in parts):
            return None
        return _points(parts, column), column.ids

    # -- which pods ------------------------------------------------------------------------------------------------

    def _read_namespaces(self, snap: Snapshot) -> bool:
        """Namespaces changed. Returns whether that may matter. Cost: O(namespaces) for each term that selects some."""
        self._namespaces_at = snap.namespaces_version
        of_namespace = snap.namespaces.get(self.spec.namespace, NO_LABELS)
        if of_namespace is not self._of_namespace:
            self._of_namespace = of_namespace
            self._terms_at = -1
        elif not self._selects_namespaces:
            return False
        spec = self.spec
        near = [wanted_by(term, snap) for term in spec.required_pod_affinity]
        together = common(near)
        self._matches_itself = bool(near) and together.takes(spec, terminating=False)
        self._near_terms = [
            (together, key) for key in dict.fromkeys(t.topology_key for t in spec.required_pod_affinity)
        ]
        self._far_terms = [(wanted_by(term, snap), term.topology_key) for term in spec.required_pod_anti_affinity]
        self._liked_terms = [
            (wanted_by(liked.term, snap), liked.term.topology_key, sign * liked.weight)
            for sign, terms in ((1, spec.preferred_pod_affinity), (-1, spec.preferred_pod_anti_affinity))
            for liked in terms
        ]
        every = (*self._near_terms, *self._far_terms, *((wanted, key) for wanted, key, _ in self._liked_terms))
        self._wanted = dict.fromkeys((wanted for wanted, _ in every), None)
        return True

    def _read_carried(self, snap: Snapshot) -> bool:
        """Terms came or went. Returns whether one of them speaks of this shape."""
        self._terms_at = snap.peers.terms_version
        assert self._of_namespace is not None
        spoken: list[tuple[str, str, int, CarrierCount]] = []
        for carried, count in snap.peers.speaking_of(self.spec, self._of_namespace):
            key = carried.term.topology_key
            match carried.sort:
                case "required-anti-affinity":
                    spoken.append(("theirs", key, 0, count))
                case "required-affinity" if self._hard > 0:
                    spoken.append(("liked", key, self._hard, count))
                case "preferred-affinity":
                    spoken.append(("liked", key, carried.weight, count))
                case "preferred-anti-affinity":
                    spoken.append(("liked", key, -carried.weight, count))
        if len(spoken) == len(self._spoken) and all(
            a[3] is b[3] and a[:3] == b[:3] for a, b in zip(spoken, self._spoken, strict=True)
        ):
            return False
        self._spoken = spoken
        return True

    def _gather(self, snap: Snapshot) -> None:
        """The sums to look at, anew."""

        def sums_of(count: Count | None, key: str) -> DomainSums:
            assert count is not None
            return self._domains.get(count, key, snap)

        self._near = [sums_of(self._wanted[wanted], key) for wanted, key in self._near_terms]
        self._far = _once(sums_of(self._wanted[wanted], key) for wanted, key in self._far_terms)
        self._theirs = _once(sums_of(count, key) for use, key, _, count in self._spoken if use == "theirs")
        self._liked = {}
        if self._may_score:
            for wanted, key, weight in self._liked_terms:
                self._liked.setdefault(key, []).append((sums_of(self._wanted[wanted], key), weight))
            for use, key, weight, count in self._spoken:
                if use == "liked":
                    self._liked.setdefault(key, []).append((sums_of(count, key), weight))
        liked = (sums for parts in self._liked.values() for sums, _ in parts)
        self._all = _once((*self._near, *self._far, *self._theirs, *liked))
        self._seen = None

    # -- which nodes -----------------------------------------------------------------------------------------------

    def _bring_up(self, snap: Snapshot) -> None:
        """The codes of all nodes are kept from one attempt to the next."""
        parts = (*self._near, *self._far, *self._theirs)
        rows = self._turned(snap, parts)
        if isinstance(rows, slice):
            self._codes = self._judge(snap, ALL)
            self._fits = self._codes == 0
        elif len(rows):
            self._codes[rows] = codes = self._judge(snap, rows)
            self._fits[rows] = codes == 0
        self._seen = [(sums.epoch, sums.flips.position) for sums in parts]
        self._spec_at = snap.spec_log.position
        self._was_first = self._is_first

    def _turned(self, snap: Snapshot, parts: Sequence[DomainSums]) -> Rows:
        """Which nodes may be judged otherwise than last time."""
        if self._seen is None or len(self._codes) != snap.capacity or self._is_first != self._was_first:
            return ALL
        slots = [] if self._spec_at == snap.spec_log.position else snap.spec_log.since(self._spec_at)
        if slots is None:
            return ALL
        for sums, (epoch, position) in zip(parts, self._seen, strict=True):
            if sums.epoch != epoch:
                return ALL
            if sums.flips.position != position:
                flipped = sums.flips.since(position)
                if flipped is None:
                    return ALL
                slots += flipped
        return ALL if 4 * len(slots) > snap.capacity else np.array(slots, np.intp)

    def _judge(self, snap: Snapshot, rows: Rows) -> NDArray[np.uint64]:
        codes: NDArray[np.uint64] = np.zeros(_length(snap, rows), np.uint64)
        for sums in self._theirs:
            codes[sums.of(rows) > 0] = _THEIRS
        for sums in self._far:
            codes[sums.of(rows) > 0] = _FAR
        for sums in self._near:
            if self._is_first:
                codes[sums.column.ids[rows] < 0] = _NEAR
            else:
                codes[sums.of(rows) <= 0] = _NEAR
        return codes


def _length(snap: Snapshot, rows: Rows) -> int:
    return snap.capacity if isinstance(rows, slice) else len(rows)


def _points(parts: Iterable[tuple[DomainSums, int]], column: LabelColumn) -> NDArray[np.int64]:
    """int64 (values + 1,): the weighted sum of each value of a label; the last is what -1, a missing label, finds."""
    values = len(column.values)
    points = np.zeros(values + 1, np.int64)
    for sums, weight in parts:
        points[:values] += weight * sums.sums[:values]
    return points


def _once(parts: Iterable[DomainSums]) -> list[DomainSums]:
    return list({id(sums): sums for sums in parts}.values())
