"""InterPodAffinity worked out plainly, one node and one pod at a time, as upstream's Go reads: what the arrays must agree with."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

from carbon_scheduler.core.selectors import matches

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from carbon_scheduler.core.model import Node, PodSpec, PodTerm

NEAR = "node(s) didn't match pod affinity rules"
FAR = "node(s) didn't match pod anti-affinity rules"
THEIRS = "node(s) didn't satisfy existing pods anti-affinity rules"

Pair = tuple[str, str]


@dataclass(frozen=True)
class Plain:
    """A cluster: nodes, the pods on them (None: on a node that is not there), labels of namespaces."""

    nodes: Sequence[Node]
    pods: Sequence[tuple[str, PodSpec]]
    namespaces: Mapping[str, Mapping[str, str]]
    hard_weight: int = 1
    ignores: bool = False

    def _placed(self) -> list[tuple[Mapping[str, str], PodSpec]]:
        labels: dict[str, Mapping[str, str]] = {node.name: node.labels for node in self.nodes}
        return [(labels[name], spec) for name, spec in self.pods if name in labels]

    def _named(self, term: PodTerm) -> set[str]:
        """The namespaces of a newcomer's term once its selector is rolled out."""
        found = set(term.namespaces)
        if term.namespace_selector:
            found |= {name for name, labels in self.namespaces.items() if matches(term.namespace_selector, labels)}
        return found

    def _mine(self, term: PodTerm, other: PodSpec) -> bool:
        here = other.namespace in self._named(term) or matches(term.namespace_selector, {})
        return here and matches(term.selector, dict(other.labels))

    def _speaks(self, term: PodTerm, pod: PodSpec) -> bool:
        here = pod.namespace in term.namespaces or matches(
            term.namespace_selector, self.namespaces.get(pod.namespace, {})
        )
        return here and matches(term.selector, dict(pod.labels))

    def rejections(self, pod: PodSpec) -> dict[str, str] | None:
        """node -> why not, "" where it fits; None when upstream skips the filter."""
        existing: Counter[Pair] = Counter()
        near: Counter[Pair] = Counter()
        far: Counter[Pair] = Counter()
        mine, against = pod.required_pod_affinity, pod.required_pod_anti_affinity
        for labels, other in self._placed():
            for term in other.required_pod_anti_affinity:
                if term.topology_key in labels and self._speaks(term, pod):
                    existing[term.topology_key, labels[term.topology_key]] += 1
            if mine and all(self._mine(term, other) for term in mine):
                near.update((t.topology_key, labels[t.topology_key]) for t in mine if t.topology_key in labels)
            for term in against:
                if term.topology_key in labels and self._mine(term, other):
                    far[term.topology_key, labels[term.topology_key]] += 1
        if not existing and not mine and not against:
            return None
        found: dict[str, str] = {}
        for node in self.nodes:
            pairs = [(t.topology_key, node.labels.get(t.topology_key)) for t in mine]
            there = all(value is not None for _, value in pairs)
            first = not near and bool(mine) and all(self._mine(term, pod) for term in mine)
            if mine and not (there and (first or all(near[key, value or ""] for key, value in pairs))):
                found[node.name] = NEAR
            elif any(
                far[t.topology_key, node.labels[t.topology_key]] for t in against if t.topology_key in node.labels
            ):
                found[node.name] = FAR
            elif any(existing[pair] for pair in node.labels.items()):
                found[node.name] = THEIRS
            else:
                found[node.name] = ""
        return found

    def scores(self, pod: PodSpec, feasible: Sequence[str]) -> dict[str, int] | None:
        """node -> 0..100; None when upstream skips the score."""
        liked = [(term.weight, term.term) for term in pod.preferred_pod_affinity]
        liked += [(-term.weight, term.term) for term in pod.preferred_pod_anti_affinity]
        if self.ignores and not liked:
            return None
        points: dict[Pair, int] = {}

        def give(term: PodTerm, labels: Mapping[str, str], weight: int) -> None:
            if (value := labels.get(term.topology_key)) is not None:
                points[term.topology_key, value] = points.get((term.topology_key, value), 0) + weight

        for labels, other in self._placed():
            for weight, term in liked:
                if self._mine(term, other):
                    give(term, labels, weight)
            theirs = [(self.hard_weight, term) for term in other.required_pod_affinity if self.hard_weight]
            theirs += [(term.weight, term.term) for term in other.preferred_pod_affinity]
            theirs += [(-term.weight, term.term) for term in other.preferred_pod_anti_affinity]
            for weight, term in theirs:
                if self._speaks(term, pod):
                    give(term, labels, weight)
        if not points:
            return None
        nodes = [node for node in self.nodes if node.name in feasible]
        raw = {node.name: sum(points.get(pair, 0) for pair in node.labels.items()) for node in nodes}
        low, high = min(raw.values(), default=0), max(raw.values(), default=0)
        return {
            name: int(100.0 * (float(found - low) / float(high - low))) if high > low else 0
            for name, found in raw.items()
        }
