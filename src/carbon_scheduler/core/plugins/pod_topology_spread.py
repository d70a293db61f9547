"""PodTopologySpread: pods of a sort are spread over the domains of a topology, strictly or as well as possible.

Sources: kube-scheduler v1.36.3 framework/plugins/podtopologyspread: plugin.go (constraints, queueing hints), common.go. What
the constraints say of nodes is in `spread_rules`; what an attempt works out is kept for the next one of the same shape.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final
from weakref import WeakValueDictionary

import msgspec

from carbon_scheduler.core.model import Requirement, SpreadConstraint, Struct
from carbon_scheduler.core.plugin import ERROR, Change, Plugin, Rejected, State
from carbon_scheduler.core.plugins.spread_counts import DomainCounts, Places, Scope
from carbon_scheduler.core.plugins.spread_defaults import DefaultSelectors
from carbon_scheduler.core.plugins.spread_rules import HOSTNAME, Constraint, Hard, Soft, SpreadState
from carbon_scheduler.core.selectors import fault, matches

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterable, Mapping, Sequence

    from carbon_scheduler.core.model import Node, Pod, PodSpec, Selector
    from carbon_scheduler.core.peers import Wanted
    from carbon_scheduler.core.snapshot import Snapshot

SYSTEM_DEFAULTS: Final = (
    SpreadConstraint(HOSTNAME, 3, hard=False),
    SpreadConstraint("topology.kubernetes.io/zone", 5, hard=False),
)
MAX_SHAPES: Final = 256
"""Shapes of which the work is kept; the least recently used goes first. At 5,000 nodes one takes up to 20 KB; they share 20 KB
for each distinct selector, and 45 KB for each label with the rules of which nodes count."""


class Constraints(Struct, frozen=True):
    """A pod's. `whole`: nodes count, and are scored, only when they have the keys of all soft constraints."""

    hard: tuple[Constraint, ...]
    soft: tuple[Constraint, ...]
    whole: bool


class PodTopologySpread(Plugin):
    name = "PodTopologySpread"
    weight = 2
    reads = "cluster"
    hears = frozenset({"pod-placed", "pod-gone", "pod-labels", "self", "node", "node-gone"})
    hears_of_nodes = frozenset({"labels", "taints"})
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
        self._shapes: dict[int, tuple[PodSpec, tuple[int, ...] | None, Selector, SpreadState | Rejected]] = {}
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

    def _made(self, pod: Pod, default: Selector, snap: Snapshot) -> SpreadState | Rejected:
        found = self._constraints(pod.spec, default)
        if not self.filters:
            found = msgspec.structs.replace(found, hard=())
        if problem := next((c.fault for c in found.hard if c.fault), ""):
            return Rejected(ERROR, (f"obtaining pod's hard topology spread constraints: {problem}",))
        if problem := next((c.fault for c in found.soft if c.fault), ""):
            problem = f"obtaining pod's soft topology spread constraints: {problem}"
            found = msgspec.structs.replace(found, soft=())
        hard = [Hard(c, self._counted(c, found.hard, pod, snap)) for c in found.hard]
        soft = [self._softly(c, found.soft if found.whole else (), pod, snap) for c in found.soft]
        return SpreadState(hard, soft, problem, whole=found.whole)

    def _constraints(self, spec: PodSpec, default: Selector) -> Constraints:
        """plugin.go, getConstraints and common.go, buildDefaultConstraints."""
        labels = dict(spec.labels)
        own = bool(spec.spread)
        found = [
            _constraint(of, _selector(of, labels) if own else default, labels)
            for of in (spec.spread if own else self._defaults if default else ())
        ]
        return Constraints(
            tuple(c for c in found if c.of.hard), tuple(c for c in found if not c.of.hard), whole=own or self._whole
        )

    def _places(self, c: Constraint, together: Iterable[Constraint], pod: Pod, snap: Snapshot) -> Places:
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

    def _counted(self, c: Constraint, together: Iterable[Constraint], pod: Pod, snap: Snapshot) -> DomainCounts:
        places, wanted = self._places(c, together, pod, snap), c.wanted(pod.spec.namespace)
        key = (places.scope, wanted)
        if (known := self._counts.get(key)) is None:
            known = self._counts[key] = DomainCounts(places, wanted)
        return known

    def _softly(self, c: Constraint, together: Iterable[Constraint], pod: Pod, snap: Snapshot) -> Soft:
        counts = None if c.of.topology_key == HOSTNAME else self._counted(c, together, pod, snap)
        places = self._places(c, together, pod, snap) if counts is None else counts.places
        return Soft(c, places, counts, c.wanted(pod.spec.namespace))

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


def _constraint(of: SpreadConstraint, selector: Selector, labels: Mapping[str, str]) -> Constraint:
    problem = fault(selector)
    return Constraint(of, selector, int(not problem and matches(selector, labels)), problem)


def _selector(of: SpreadConstraint, labels: Mapping[str, str]) -> Selector:
    """With what matchLabelKeys add; no selector stays none (common.go, mergeLabelSetWithSelector)."""
    if of.selector is None:
        return None
    return (*of.selector, *(Requirement(key, "In", (labels[key],)) for key in of.match_label_keys if key in labels))


def _other_match(constraints: Iterable[Constraint], before: Pod | None, now: Pod | None) -> bool:
    """Whether a pod's change of labels takes it in or out of what a constraint counts."""
    if before is None or now is None or before.spec.labels == now.spec.labels:
        return False
    old, new = dict(before.spec.labels), dict(now.spec.labels)
    return any(matches(c.selector, old) != matches(c.selector, new) for c in constraints)


def _of_itself(constraints: Iterable[Constraint], before: Pod | None, now: Pod | None) -> bool:
    if before is None or now is None:
        return False
    if before.spec.tolerations != now.spec.tolerations and any(c.of.honor_taints for c in constraints):
        return True
    return _other_match(constraints, before, now)


def _of_node(constraints: Sequence[Constraint], before: Node | None, now: Node | None) -> bool:
    keys = [c.of.topology_key for c in constraints]
    had = before is not None and all(key in before.labels for key in keys)
    has = now is not None and all(key in now.labels for key in keys)
    if before is None or now is None:
        return had or has
    moved = any(before.labels.get(key, "") != now.labels.get(key, "") for key in keys)
    return had != has or (has and (moved or before.taints != now.taints))
