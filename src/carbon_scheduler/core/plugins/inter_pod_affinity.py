"""InterPodAffinity: where pods that a pod wants near, or far, already run; and what those pods say of the newcomer.

Sources: kube-scheduler v1.36.3 plugins/interpodaffinity (plugin.go, filtering.go, scoring.go) and the types of its framework
(types.go: AffinityTerm.Matches, newAffinityTerm). Pods that are being deleted count. A pod counts for its node's domain: all
nodes with the same value of the term's topology key.

What upstream does by accident is done here too. A namespaceSelector of the newcomer that is not empty is matched against no
labels as well: made of NotIn and DoesNotExist alone, it means every namespace. A waiting pod's namespaceSelector is not looked
up when something changes. A pod without terms, kept away by existing pods alone, is not woken by a new node.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

from carbon_scheduler.core.peers import readable
from carbon_scheduler.core.plugin import MAX_SCORE, Change, Plugin, Rejected, State
from carbon_scheduler.core.plugins.affinity_shape import AffinityShape
from carbon_scheduler.core.plugins.domains import DomainCache
from carbon_scheduler.core.plugins.pod_terms import all_match, has_terms, moved

if TYPE_CHECKING:
    from collections.abc import Hashable

    from numpy.typing import NDArray

    from carbon_scheduler.core.model import Pod, PodSpec
    from carbon_scheduler.core.plugin import Rows
    from carbon_scheduler.core.snapshot import Snapshot

MAX_SHAPES: Final = 512
"""Shapes of pods whose terms are kept ready; the least recently used goes first. One that filters takes 40 KB at 5,000
nodes."""
MAX_READ: Final = 4096

_SILENT: Final = State()


class InterPodAffinity(Plugin):
    """Cost of an attempt: about 1 µs for a pod that neither has terms nor is spoken of; else a few µs a term, some vector
    operations over the nodes where something turned, and for the score three over all feasible nodes for each topology key."""

    name = "InterPodAffinity"
    weight = 2
    reads = "cluster"
    hears = frozenset({"node", "pod-placed", "pod-gone", "pod-labels", "self"})
    hears_of_nodes = frozenset({"labels"})

    def __init__(
        self, hard_pod_affinity_weight: int = 1, *, ignore_preferred_terms_of_existing_pods: bool = False
    ) -> None:
        self._hard = hard_pod_affinity_weight
        self._ignores = ignore_preferred_terms_of_existing_pods
        self._shapes: dict[int, AffinityShape] = {}
        self._read: dict[int, tuple[PodSpec, bool]] = {}
        self._domains = DomainCache()

    def key(self, pod: Pod) -> Hashable:
        return id(pod.spec)

    def prepare(self, pod: Pod, snap: Snapshot) -> State | Rejected:
        spec = pod.spec
        shape = self._shapes.pop(id(spec), None)
        if shape is None:
            if not (snap.peers.carries or has_terms(spec)):
                return _SILENT
            shape = AffinityShape(spec, self._domains, hard=self._hard, ignores=self._ignores)
            if len(self._shapes) >= MAX_SHAPES:
                del self._shapes[next(iter(self._shapes))]
        self._shapes[id(spec)] = shape  # it keeps the spec alive, so that its id stays its own
        if shape.unreadable is not None:
            return shape.unreadable if self.filters else self._unscored(spec, shape.unreadable)
        shape.refresh(snap)
        return _Now(shape) if shape.filters or shape.scores else _SILENT

    def _unscored(self, spec: PodSpec, why: Rejected) -> State:
        """Terms that cannot be read, where a profile has the filter off: PreScore fails, unless it need not look at them."""
        if self._ignores and not (spec.preferred_pod_affinity or spec.preferred_pod_anti_affinity):
            return _SILENT
        failed = State()
        failed.failure = why.reasons[0]
        return failed

    def wakes(self, pod: Pod, change: Change, snap: Snapshot) -> bool:
        if change.kind == "self":
            return change.of_labels
        mine = pod.spec
        if not self._readable(mine):
            return True
        if change.kind == "node":
            return change.node is not None and moved(mine, change.node_before, change.node)
        if change.pod is None:
            return False
        theirs = change.pod.spec
        match change.kind:
            case "pod-placed":
                return all_match(mine.required_pod_affinity, theirs)
            case "pod-gone":
                if all_match(mine.required_pod_anti_affinity, theirs):
                    return True
                if not readable(theirs.required_pod_anti_affinity):
                    return True
                return all_match(theirs.required_pod_anti_affinity, mine)
            case "pod-labels" if change.pod_before is not None:
                before = change.pod_before.spec
                near, far = mine.required_pod_affinity, mine.required_pod_anti_affinity
                return (not all_match(near, before) and all_match(near, theirs)) or (
                    all_match(far, before) and not all_match(far, theirs)
                )
        return False

    def _readable(self, spec: PodSpec) -> bool:
        """Whether the required terms are. Asked of each waiting shape at each event, so it is remembered."""
        known = self._read.get(id(spec))
        if known is None:
            if len(self._read) >= MAX_READ:
                self._read.clear()
            found = readable(spec.required_pod_affinity) and readable(spec.required_pod_anti_affinity)
            known = self._read[id(spec)] = (spec, found)  # it keeps the spec alive, so that its id stays its own
        return known[1]


class _Now(State):
    """What upstream has after PreFilter and PreScore: whether it filters and scores stays as it was, whatever is asked about
    the same shape later."""

    reasons = (
        "node(s) didn't match pod affinity rules",
        "node(s) didn't match pod anti-affinity rules",
        "node(s) didn't satisfy existing pods anti-affinity rules",
    )

    def __init__(self, shape: AffinityShape) -> None:
        self._shape = shape
        self.filters = shape.filters
        self.scores = shape.scores
        self.relents = not shape.spec.required_pod_affinity  # whoever leaves may have been wanted near

    def reject(self, snap: Snapshot, rows: Rows) -> NDArray[np.uint64]:
        return self._shape.reject(snap, rows)

    def fits(self, snap: Snapshot, rows: Rows) -> NDArray[np.bool_]:
        return self._shape.fits(snap)[rows]

    def score(self, snap: Snapshot, rows: Rows) -> NDArray[np.int64]:
        return self._shape.score(snap, rows)

    def normalise(self, raw: NDArray[np.int64]) -> NDArray[np.int64]:
        return _scaled(raw, raw)

    def score_all(self, snap: Snapshot, feasible: NDArray[np.bool_]) -> NDArray[np.int64]:
        """By domain, where there is one topology key: a tenth of the work for zones, half of it for hostnames."""
        found = self._shape.by_domain(snap)
        if found is None:
            return super().score_all(snap, feasible)
        points, domain = found
        return _scaled(points, points.take(domain.take(np.flatnonzero(feasible)))).take(domain)


def _scaled(raw: NDArray[np.int64], of: NDArray[np.int64]) -> NDArray[np.int64]:
    """0..100 between the lowest and the highest `of`, in upstream's floats (scoring.go, NormalizeScore): 29 of 100 gives 28."""
    if not len(of):
        return np.zeros_like(raw)
    low, high = int(of.min()), int(of.max())
    if low == high:
        return np.zeros_like(raw)
    return (MAX_SCORE * ((raw - low) / (high - low))).astype(np.int64)
