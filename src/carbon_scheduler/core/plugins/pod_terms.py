"""Terms of pod affinity and anti-affinity: which pods they speak of, and which changes could matter to a pod that has them.

Sources: kube-scheduler v1.36.3 plugins/interpodaffinity/plugin.go, and the types of its framework (types.go:
AffinityTerm.Matches, newAffinityTerm). A term without namespaces and namespaceSelector names its pod's own namespace already.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from carbon_scheduler.core.peers import Wanted
from carbon_scheduler.core.plugin import UNRESOLVABLE, Rejected
from carbon_scheduler.core.selectors import fault, matches

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from carbon_scheduler.core.model import Node, PodSpec, PodTerm
    from carbon_scheduler.core.snapshot import Snapshot

NO_LABELS: Final[dict[str, str]] = {}


def has_terms(spec: PodSpec) -> bool:
    return bool(
        spec.required_pod_affinity
        or spec.required_pod_anti_affinity
        or spec.preferred_pod_affinity
        or spec.preferred_pod_anti_affinity
    )


def own_terms(spec: PodSpec) -> Iterator[PodTerm]:
    yield from spec.required_pod_affinity
    yield from spec.required_pod_anti_affinity
    yield from (liked.term for liked in (*spec.preferred_pod_affinity, *spec.preferred_pod_anti_affinity))


def wanted_by(term: PodTerm, snap: Snapshot) -> Wanted:
    """Which pods a term of the newcomer speaks of (mergeAffinityTermNamespacesIfNotEmpty with its accident)."""
    selectors = (term.selector,)
    selector = term.namespace_selector
    if selector is None:
        return Wanted(frozenset(term.namespaces), selectors)
    if matches(selector, NO_LABELS):
        return Wanted(None, selectors)
    named = (name for name, labels in snap.namespaces.items() if matches(selector, labels))
    return Wanted(frozenset((*term.namespaces, *named)), selectors)


def common(parts: Sequence[Wanted]) -> Wanted:
    """The pods that each of these takes."""
    namespaces: frozenset[str] | None = None
    for part in parts:
        if part.namespaces is not None:
            mine = frozenset(part.namespaces)
            namespaces = mine if namespaces is None else namespaces & mine
    return Wanted(namespaces, tuple(dict.fromkeys(selector for part in parts for selector in part.selectors)))


def unreadable(spec: PodSpec) -> Rejected | None:
    """Upstream's refusal of a pod with a selector that it cannot parse (framework/types.go PodInfo.Update)."""
    lists = {
        "requiredAffinityTerms": spec.required_pod_affinity,
        "requiredAntiAffinityTerms": spec.required_pod_anti_affinity,
        "preferredAffinityTerms": [liked.term for liked in spec.preferred_pod_affinity],
        "preferredAntiAffinityTerms": [liked.term for liked in spec.preferred_pod_anti_affinity],
    }
    wrong: list[str] = []
    for name, terms in lists.items():
        faults = (fault(term.selector) or fault(term.namespace_selector) for term in terms)
        if text := next(filter(None, faults), ""):
            wrong.append(f"{name}: {text}")
    if not wrong:
        return None
    text = ", ".join(wrong)
    return Rejected(UNRESOLVABLE, (f"parsing pod: {text if len(wrong) == 1 else f'[{text}]'}",))


# -- queueing hints ----------------------------------------------------------------------------------------------------


def all_match(terms: Sequence[PodTerm], spec: PodSpec) -> bool:
    """Whether there are terms and each matches a pod; of namespaceSelectors only whether they match no labels."""
    if not terms:
        return False
    labels = dict(spec.labels)
    return all(
        (spec.namespace in term.namespaces or matches(term.namespace_selector, NO_LABELS))
        and matches(term.selector, labels)
        for term in terms
    )


def moved(spec: PodSpec, before: Node | None, node: Node) -> bool:
    """isSchedulableAfterNodeChange: whether a node came into a domain that affinity asks for, or out of one."""
    if before is None:
        return bool(spec.required_pod_anti_affinity) or any(
            term.topology_key in node.labels for term in spec.required_pod_affinity
        )

    def values(term: PodTerm) -> tuple[str | None, str | None]:
        return before.labels.get(term.topology_key), node.labels.get(term.topology_key)

    return any(now is not None and was != now for was, now in map(values, spec.required_pod_affinity)) or any(
        was is not None and was != now for was, now in map(values, spec.required_pod_anti_affinity)
    )
