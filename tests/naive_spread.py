"""PodTopologySpread worked out anew from lists, node by node and pod by pod: what the incremental arrays must agree with.

It follows kube-scheduler v1.36.3 plugins/podtopologyspread line by line and shares with ours only what single labels, taints and
terms mean.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from carbon_scheduler.core.model import Node, Pod, PodSpec, Requirement, Selector, SpreadConstraint
from carbon_scheduler.core.objects import AnyObject, Service, Workload
from carbon_scheduler.core.plugins.node_affinity import term_matches_node
from carbon_scheduler.core.plugins.taints import tolerated
from carbon_scheduler.core.selectors import matches

HOSTNAME = "kubernetes.io/hostname"
SYSTEM = (
    SpreadConstraint(HOSTNAME, 3, hard=False),
    SpreadConstraint("topology.kubernetes.io/zone", 5, hard=False),
)
FITS, TOO_MANY, NO_LABEL = "fits", "too many", "no label"


@dataclass
class Naive:
    """A cluster as lists. `pods` are those on nodes, by node name. `defaults` None: the system's."""

    nodes: Sequence[Node]
    pods: Mapping[str, Sequence[Pod]]
    objects: Sequence[AnyObject] = ()
    defaults: tuple[SpreadConstraint, ...] | None = None

    def filtered(self, pod: Pod) -> dict[str, str]:
        constraints = self._constraints(pod.spec, hard=True)
        sums = []
        for c in constraints:
            found: dict[str, int] = {}
            for node in self.nodes:
                if all(other.key in node.labels for other in constraints) and c.counts_on(node, pod.spec):
                    value = node.labels[c.key]
                    found[value] = found.get(value, 0) + self._matching(node, c, pod.spec)
            sums.append(found)
        return {node.name: self._fits(node, constraints, sums, pod) for node in self.nodes}

    def _fits(self, node: Node, constraints: Sequence[_Constraint], sums: Sequence[dict[str, int]], pod: Pod) -> str:
        for c, found in zip(constraints, sums, strict=True):
            if c.key not in node.labels:
                return NO_LABEL
            least = min(found.values(), default=2**31 - 1)
            if len(found) < (1 if c.of.min_domains is None else c.of.min_domains):
                least = 0
            mine = matches(c.selector, dict(pod.spec.labels))
            if found.get(node.labels[c.key], 0) + mine - least > c.of.max_skew:
                return TOO_MANY
        return FITS

    def scored(self, pod: Pod, feasible: Iterable[str]) -> dict[str, int] | None:
        """None: not scored at all (PreScore's Skip)."""
        constraints = self._constraints(pod.spec, hard=False)
        if not constraints:
            return None
        whole = bool(pod.spec.spread) or self.defaults is not None
        names = set(feasible)
        candidates = [node for node in self.nodes if node.name in names]
        ignored = {node.name for node in candidates if whole and not all(c.key in node.labels for c in constraints)}
        raw = dict.fromkeys((node.name for node in candidates), 0.0)
        for c in constraints:
            left = [node for node in candidates if node.name not in ignored]
            sums = {node.labels.get(c.key, ""): 0 for node in left}
            weight = math.log((len(left) if c.key == HOSTNAME else len(sums)) + 2)
            for node in self.nodes:
                value = node.labels.get(c.key, "")
                if whole and not all(other.key in node.labels for other in constraints):
                    continue
                if value in sums and c.counts_on(node, pod.spec):
                    sums[value] += self._matching(node, c, pod.spec)
            for node in left:
                if c.key in node.labels:
                    count = self._matching(node, c, pod.spec) if c.key == HOSTNAME else sums[node.labels[c.key]]
                    raw[node.name] += float(count) * weight + float(c.of.max_skew - 1)
        rounded = {name: _go_round(score) for name, score in raw.items()}
        there = [score for name, score in rounded.items() if name not in ignored]
        most, least = max(there, default=0), min(there, default=0)
        return {
            name: 0 if name in ignored else 100 if not most else 100 * (most + least - score) // most
            for name, score in rounded.items()
        }

    def _constraints(self, spec: PodSpec, *, hard: bool) -> list[_Constraint]:
        if spec.spread:
            labels = dict(spec.labels)
            found = []
            for of in spec.spread:
                extra = [Requirement(key, "In", (labels[key],)) for key in of.match_label_keys if key in labels]
                found.append(_Constraint(of, None if of.selector is None else (*of.selector, *extra)))
        else:
            selector = self._default_selector(spec)
            found = [_Constraint(of, selector) for of in (SYSTEM if self.defaults is None else self.defaults)]
            found = found if selector else []
        return [c for c in found if c.of.hard == hard]

    def _default_selector(self, spec: PodSpec) -> Selector:
        asked: dict[str, str] = {}
        more: list[Requirement] = []
        for service in self.objects:
            if isinstance(service, Service) and service.namespace == spec.namespace and service.selector is not None:
                asked |= dict(service.selector) if set(service.selector) <= set(spec.labels) else {}
        for workload in self.objects:
            if not isinstance(workload, Workload) or spec.owner is None:
                continue
            group = "v1" if workload.kind == "ReplicationController" else "apps/v1"
            mine = (workload.namespace, workload.name) == (spec.namespace, spec.owner.name)
            if mine and (spec.owner.api_version, spec.owner.kind) == (group, workload.kind):
                if workload.kind == "ReplicationController":
                    asked |= {r.key: r.values[0] for r in workload.selector or ()}
                else:
                    more += workload.selector or ()
        return (*(Requirement(key, "In", (value,)) for key, value in asked.items()), *more)

    def _matching(self, node: Node, c: _Constraint, spec: PodSpec) -> int:
        if c.selector == ():
            return 0
        return sum(
            not pod.terminating and pod.namespace == spec.namespace and matches(c.selector, dict(pod.spec.labels))
            for pod in self.pods.get(node.name, ())
        )


@dataclass
class _Constraint:
    of: SpreadConstraint
    selector: Selector
    key: str = field(init=False)

    def __post_init__(self) -> None:
        self.key = self.of.topology_key

    def counts_on(self, node: Node, spec: PodSpec) -> bool:
        if self.of.honor_affinity:
            if any(node.labels.get(key) != value for key, value in spec.node_selector):
                return False
            required = spec.required_affinity
            if required is not None and not any(term_matches_node(term, node) for term in required):
                return False
        return not self.of.honor_taints or not any(
            taint.effect in ("NoSchedule", "NoExecute") and not tolerated(taint, spec.tolerations)
            for taint in node.taints
        )


def _go_round(x: float) -> int:
    """math.Round of Go: half away from zero."""
    whole = math.trunc(x)
    return whole + (x - whole >= 0.5)
