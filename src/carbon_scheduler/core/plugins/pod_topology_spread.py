"""PodTopologySpread: pods of a sort are spread over the domains of a topology, strictly or as well as possible.

Sources: kube-scheduler v1.36.3 framework/plugins/podtopologyspread: plugin.go (constraints, queueing hints), common.go,
filtering.go, scoring.go. Arithmetic is upstream's: integers for the skew, float64 for the score.

What an attempt works out is kept for the next one of the same shape: the domains' sums move with the pods (`spread_counts`),
and arrays over nodes are made anew only when the set of refusing domains, or of feasible nodes, is another one than before.
"""

from __future__ import annotations

from math import log
from typing import TYPE_CHECKING, Final, cast
from weakref import WeakValueDictionary

import msgspec
import numpy as np

from carbon_scheduler.core.model import Requirement, SpreadConstraint, Struct
from carbon_scheduler.core.peers import Wanted
from carbon_scheduler.core.plugin import (
    ALL,
    ERROR,
    MAX_SCORE,
    UNRESOLVABLE_BIT,
    Change,
    Plugin,
    Rejected,
    State,
)
from carbon_scheduler.core.plugins.spread_counts import NOWHERE, DomainCounts, Places, Scope
from carbon_scheduler.core.plugins.spread_defaults import DefaultSelectors
from carbon_scheduler.core.selectors import fault, matches

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterable, Mapping, Sequence

    from numpy.typing import NDArray

    from carbon_scheduler.core.model import Node, Pod, PodSpec, Selector
    from carbon_scheduler.core.plugin import Rows
    from carbon_scheduler.core.snapshot import Snapshot

HOSTNAME: Final = "kubernetes.io/hostname"
SYSTEM_DEFAULTS: Final = (
    SpreadConstraint(HOSTNAME, 3, hard=False),
    SpreadConstraint("topology.kubernetes.io/zone", 5, hard=False),
)
MAX_SHAPES: Final = 256
"""Shapes of which the work is kept; the least recently used goes first. At 5,000 nodes one takes 40 KB when it has hard
constraints, 40 KB when it has soft ones and 40 KB for each of these. Shapes share 40 KB for each distinct selector, and 45 KB
for each label with the rules of which nodes count."""

_NO_MATCH: Final = "node(s) didn't match pod topology spread constraints"
_TOO_MANY: Final = np.uint64(1)
_NO_LABEL: Final = UNRESOLVABLE_BIT | np.uint64(2)


class _Constraint(Struct, frozen=True):
    """A constraint with the selector that counts. `self_match` is 1 when the pod is one of those that it counts."""

    of: SpreadConstraint
    selector: Selector
    self_match: int
    fault: str
    """Why the selector cannot be read, "" when it can."""

    def wanted(self, namespace: str) -> Wanted | None:
        """The pods to count. An empty selector counts none (common.go, countPodsMatchSelector), though the pod matches it."""
        return Wanted((namespace,), (self.selector,), terminating=False) if self.selector else None


class _Constraints(Struct, frozen=True):
    """`own`: the pod's. `whole`: nodes count, and are scored, only when they have the keys of all constraints."""

    hard: tuple[_Constraint, ...]
    soft: tuple[_Constraint, ...]
    whole: bool


class _Shape(State):
    """What is known of the pods of one shape."""

    reasons = (_NO_MATCH, f"{_NO_MATCH} (missing required label)")

    def __init__(self, hard: Sequence[_Hard], soft: Sequence[_Soft], failure: str, *, whole: bool) -> None:
        self._hard = hard
        self._soft = soft
        self._whole = whole
        self.filters = bool(hard)
        self.scores = bool(soft)
        self.failure = failure
        self._parts: list[NDArray[np.uint64]] = []
        self._codes: NDArray[np.uint64] = np.zeros(0, np.uint64)
        self._slots = b""
        self._versions: list[int] = []
        self._ignored: NDArray[np.bool_] | None = None

    # -- filter --------------------------------------------------------------------------------------------------

    def reject(self, snap: Snapshot, rows: Rows) -> NDArray[np.uint64]:
        """The first constraint that a node breaks refuses it (filtering.go, Filter). The array is kept: not to be changed."""
        if rows is not ALL:
            return _first([hard.some(snap, rows) for hard in self._hard])
        parts = [hard.all(snap) for hard in self._hard]
        if len(parts) == 1:
            return parts[0]
        if len(parts) != len(self._parts) or any(a is not b for a, b in zip(parts, self._parts, strict=True)):
            self._parts = parts
            self._codes = _first(parts)
        return self._codes

    # -- score ---------------------------------------------------------------------------------------------------

    def score(self, snap: Snapshot, rows: Rows) -> NDArray[np.int64]:
        """0..100, normalised already: `rows` are the feasible slots (scoring.go, Score and NormalizeScore)."""
        assert not isinstance(rows, slice)
        for soft in self._soft:
            soft.refresh(snap)
        versions = [soft.places.version for soft in self._soft]
        slots = rows.tobytes()
        if slots != self._slots or versions != self._versions:
            self._slots, self._versions = slots, versions
            self._choose(rows)
        first = self._soft[0]
        if len(self._soft) == 1 and first.counts is not None:
            found = _normalised(_rounded(first.of_domain(whole=self._whole)), first.there).take(first.where)
        else:
            total = first.term(rows, whole=self._whole)
            for soft in self._soft[1:]:
                total = total + soft.term(rows, whole=self._whole)
            found = _normalised(_rounded(total), None if self._ignored is None else ~self._ignored)
        if self._ignored is not None:
            found[self._ignored] = 0
        return found

    def _choose(self, slots: NDArray[np.intp]) -> None:
        """What the set of feasible nodes decides (scoring.go, initPreScoreState): which of them are left out, and in how many
        domains the others lie."""
        lacking = np.zeros(len(slots), np.bool_)
        for soft in self._soft:
            soft.where = soft.places.domain.take(slots)
            if self._whole:
                lacking |= soft.where == NOWHERE
        self._ignored = lacking if lacking.any() else None
        for soft in self._soft:
            soft.choose(~lacking, whole=self._whole)


def _first(parts: Sequence[NDArray[np.uint64]]) -> NDArray[np.uint64]:
    """Of each node the first code that is not 0."""
    codes = parts[0]
    for part in parts[1:]:
        codes = np.where(codes == 0, part, codes)
    return codes


def _rounded(score: NDArray[np.float64]) -> NDArray[np.int64]:
    """Go's math.Round, for what is 0 or at least 0.6."""
    return np.floor(score + 0.5).astype(np.int64)


def _normalised(raw: NDArray[np.int64], counted: NDArray[np.bool_] | None) -> NDArray[np.int64]:
    """100 * (max + min - raw) / max, integer, or 100 for a maximum of 0; both are taken over what is `counted`, of which there
    may be nothing."""
    counts = raw if counted is None else raw[counted]
    top = int(np.maximum.reduce(counts, initial=0))
    if not top:
        return np.full_like(raw, MAX_SCORE)
    return MAX_SCORE * (top + int(np.minimum.reduce(counts)) - raw) // top


class _Hard:
    """A hard constraint, and the codes of all nodes as it was last."""

    __slots__ = ("_codes", "_constraint", "_counts", "_refusing", "_version")

    def __init__(self, constraint: _Constraint, counts: DomainCounts) -> None:
        self._constraint = constraint
        self._counts = counts
        self._refusing = b""
        self._version = 0
        self._codes: NDArray[np.uint64] = np.zeros(0, np.uint64)

    def all(self, snap: Snapshot) -> NDArray[np.uint64]:
        """uint64 (capacity,): another array only when it differs."""
        domains = self._domains(snap)
        refusing, places = domains.tobytes(), self._counts.places
        if refusing != self._refusing or places.version != self._version:
            self._refusing, self._version = refusing, places.version
            self._codes = _codes(domains).take(places.domain)
        return self._codes

    def some(self, snap: Snapshot, rows: Rows) -> NDArray[np.uint64]:
        """uint64 (rows,)."""
        domains = self._domains(snap)
        return _codes(domains).take(self._counts.places.domain[rows])

    def _domains(self, snap: Snapshot) -> NDArray[np.bool_]:
        """bool (domains,): in which of them one pod more would be too many (filtering.go, Filter)."""
        counts, of = self._counts, self._constraint.of
        counts.refresh(snap)
        least = counts.lowest(1 if of.min_domains is None else of.min_domains)
        return counts.sums > of.max_skew + least - self._constraint.self_match


def _codes(refusing: NDArray[np.bool_]) -> NDArray[np.uint64]:
    """uint64 (domains,)."""
    codes = refusing.astype(np.uint64)
    codes[NOWHERE] = _NO_LABEL
    return codes


class _Soft:
    """A soft constraint: its pods by domain, or by node for the hostname, and what the feasible nodes make of it.

    `where` is intp (slots,): the domain of each feasible node; `there` bool (domains,): which domains have any that is scored.
    """

    __slots__ = ("_max_skew", "_pods", "_wanted", "_weight", "counts", "places", "there", "where")

    def __init__(
        self, constraint: _Constraint, places: Places, counts: DomainCounts | None, wanted: Wanted | None
    ) -> None:
        """`counts` None: by node."""
        self.places = places
        self.counts = counts
        self.where: NDArray[np.intp] = np.zeros(0, np.intp)
        self.there: NDArray[np.bool_] = np.zeros(0, np.bool_)
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

    def choose(self, scored: NDArray[np.bool_], *, whole: bool) -> None:
        """ln(domains + 2), of nodes for the hostname (scoring.go, topologyNormalizingWeight)."""
        self.there = np.bincount(self.where[scored], minlength=len(self.places.nodes)) > 0
        size = int(np.count_nonzero(scored if self.counts is None else self.there))
        if (
            self.counts is not None
            and not whole
            and self.places.empty
            and self.there[[NOWHERE, self.places.empty]].all()
        ):
            size -= 1  # upstream takes a missing label for an empty one
        self._weight = log(size + 2)

    def of_domain(self, *, whole: bool) -> NDArray[np.float64]:
        """float64 (domains,): pods * weight + maxSkew - 1; 0 for nodes without the label, unless they are left out anyway."""
        assert self.counts is not None
        sums = self.counts.sums
        if not whole and self.places.empty:
            sums = sums.copy()
            sums[self.places.empty] += sums[NOWHERE]
        found = sums * self._weight + (self._max_skew - 1)
        found[NOWHERE] = 0.0
        return cast("NDArray[np.float64]", found)

    def term(self, slots: NDArray[np.intp], *, whole: bool) -> NDArray[np.float64]:
        """float64 (slots,): the same for each feasible node."""
        if self.counts is not None:
            return self.of_domain(whole=whole).take(self.where)
        pods = np.zeros(len(slots), np.int64) if self._pods is None else self._pods.take(slots)
        found = pods * self._weight + (self._max_skew - 1)
        if self.there[NOWHERE]:
            found[self.where == NOWHERE] = 0.0
        return cast("NDArray[np.float64]", found)


class PodTopologySpread(Plugin):
    name = "PodTopologySpread"
    weight = 2
    reads = "cluster"
    hears = frozenset({"pod-placed", "pod-gone", "pod-labels", "self", "node", "node-gone"})
    wakes_on_taints = False

    def __init__(self, default_constraints: tuple[SpreadConstraint, ...] | None = None) -> None:
        """`default_constraints` are for pods without any of their own, whose Services and owner tell the selector; None are
        upstream's system defaults, under which nodes without a zone are spread over by hostname."""
        self._whole = default_constraints is not None
        self._defaults = SYSTEM_DEFAULTS if default_constraints is None else default_constraints
        self._snap: Snapshot | None = None

    def _begin(self, snap: Snapshot) -> None:
        if self._snap is snap:
            return
        self._snap = snap
        self._selectors = DefaultSelectors()
        self._shapes: dict[int, tuple[PodSpec, tuple[int, ...] | None, Selector, _Shape | Rejected]] = {}
        self._scopes: WeakValueDictionary[Scope, Places] = WeakValueDictionary()
        self._counts: WeakValueDictionary[tuple[Scope, Wanted | None], DomainCounts] = WeakValueDictionary()

    def key(self, pod: Pod) -> Hashable:
        return True if pod.spec.spread or self._defaults else None

    def prepare(self, pod: Pod, snap: Snapshot) -> State | Rejected:
        """Cost: a look-up, for shapes seen lately."""
        self._begin(snap)
        spec = pod.spec
        number = id(spec)  # which stays its own while the spec is held here
        known = self._shapes.pop(number, None)
        versions = None if spec.spread else self._selectors.versions(snap.objects)
        if known is None or known[1] != versions:
            selector = () if spec.spread else self._selectors.of(spec, snap.objects)
            if known is not None and known[2] == selector:
                known = (spec, versions, selector, known[3])
            else:
                known = (spec, versions, selector, self._made(pod, selector, snap))
        if len(self._shapes) >= MAX_SHAPES:
            del self._shapes[next(iter(self._shapes))]
        self._shapes[number] = known
        return known[3]

    def _made(self, pod: Pod, default: Selector, snap: Snapshot) -> _Shape | Rejected:
        found = self._constraints(pod.spec, default)
        if problem := next((c.fault for c in found.hard if c.fault), ""):
            return Rejected(ERROR, (f"obtaining pod's hard topology spread constraints: {problem}",))
        if problem := next((c.fault for c in found.soft if c.fault), ""):
            problem = f"obtaining pod's soft topology spread constraints: {problem}"
            found = msgspec.structs.replace(found, soft=())
        hard = [_Hard(c, self._counted(c, found.hard, pod, snap)) for c in found.hard]
        soft = [self._softly(c, found.soft if found.whole else (), pod, snap) for c in found.soft]
        return _Shape(hard, soft, problem, whole=found.whole)

    def _constraints(self, spec: PodSpec, default: Selector) -> _Constraints:
        """plugin.go, getConstraints and common.go, buildDefaultConstraints."""
        labels = dict(spec.labels)
        own = bool(spec.spread)
        found = [
            _constraint(of, _selector(of, labels) if own else default, labels)
            for of in (spec.spread if own else self._defaults if default else ())
        ]
        return _Constraints(
            tuple(c for c in found if c.of.hard), tuple(c for c in found if not c.of.hard), whole=own or self._whole
        )

    def _places(self, c: _Constraint, together: Iterable[_Constraint], pod: Pod, snap: Snapshot) -> Places:
        spec = pod.spec
        picky = spec.node_selector or spec.required_affinity is not None
        scope = Scope(
            c.of.topology_key,
            tuple(sorted({other.of.topology_key for other in together})),
            (spec.node_selector, spec.required_affinity) if c.of.honor_affinity and picky else None,
            spec.tolerations if c.of.honor_taints else None,
        )
        if (known := self._scopes.get(scope)) is None:
            known = self._scopes[scope] = Places(scope, pod, snap)
        return known

    def _counted(self, c: _Constraint, together: Iterable[_Constraint], pod: Pod, snap: Snapshot) -> DomainCounts:
        places, wanted = self._places(c, together, pod, snap), c.wanted(pod.spec.namespace)
        key = (places.scope, wanted)
        if (known := self._counts.get(key)) is None:
            known = self._counts[key] = DomainCounts(places, wanted)
        return known

    def _softly(self, c: _Constraint, together: Iterable[_Constraint], pod: Pod, snap: Snapshot) -> _Soft:
        counts = None if c.of.topology_key == HOSTNAME else self._counted(c, together, pod, snap)
        places = self._places(c, together, pod, snap) if counts is None else counts.places
        return _Soft(c, places, counts, c.wanted(pod.spec.namespace))

    # -- queueing hints --------------------------------------------------------------------------------------------

    def wakes(self, pod: Pod, change: Change, snap: Snapshot) -> bool:
        """plugin.go, isSchedulableAfterPodChange and isSchedulableAfterNodeChange."""
        spec = pod.spec
        self._begin(snap)
        default = () if spec.spread else self._selectors.of(spec, snap.objects)
        constraints = self._constraints(spec, default).hard
        if any(c.fault for c in constraints):  # upstream's hint fails too, and then retries
            return True
        if change.kind in ("node", "node-gone"):
            return _of_node(constraints, change.node_before, change.node)
        if change.kind == "self":
            return _of_itself(constraints, change.pod_before, change.pod)
        if change.pod is None or change.pod.spec.namespace != spec.namespace:
            return False
        if change.kind == "pod-labels":
            return _other_match(constraints, change.pod_before, change.pod)
        labels = dict(change.pod.spec.labels)
        return any(matches(c.selector, labels) for c in constraints)


def _constraint(of: SpreadConstraint, selector: Selector, labels: Mapping[str, str]) -> _Constraint:
    problem = fault(selector)
    return _Constraint(of, selector, int(not problem and matches(selector, labels)), problem)


def _selector(of: SpreadConstraint, labels: Mapping[str, str]) -> Selector:
    """With what matchLabelKeys add; no selector stays none (common.go, mergeLabelSetWithSelector)."""
    if of.selector is None:
        return None
    return (*of.selector, *(Requirement(key, "In", (labels[key],)) for key in of.match_label_keys if key in labels))


def _other_match(constraints: Iterable[_Constraint], before: Pod | None, now: Pod | None) -> bool:
    """Whether a pod's change of labels takes it in or out of what a constraint counts."""
    if before is None or now is None or before.spec.labels == now.spec.labels:
        return False
    old, new = dict(before.spec.labels), dict(now.spec.labels)
    return any(matches(c.selector, old) != matches(c.selector, new) for c in constraints)


def _of_itself(constraints: Iterable[_Constraint], before: Pod | None, now: Pod | None) -> bool:
    if before is None or now is None:
        return False
    if before.spec.tolerations != now.spec.tolerations and any(c.of.honor_taints for c in constraints):
        return True
    return _other_match(constraints, before, now)


def _of_node(constraints: Sequence[_Constraint], before: Node | None, now: Node | None) -> bool:
    keys = [c.of.topology_key for c in constraints]
    had = before is not None and all(key in before.labels for key in keys)
    has = now is not None and all(key in now.labels for key in keys)
    if before is None or now is None:
        return had or has
    moved = any(before.labels.get(key, "") != now.labels.get(key, "") for key in keys)
    return had != has or (has and (moved or before.taints != now.taints))
