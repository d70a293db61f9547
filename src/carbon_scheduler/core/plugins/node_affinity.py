"""NodeAffinity: nodeSelector, required and preferred node affinity.

Sources: kube-scheduler v1.36.3 plugins/nodeaffinity/node_affinity.go, component-helpers v0.36.3
scheduling/corev1/nodeaffinity/nodeaffinity.go, apimachinery labels.Requirement. A required term that cannot be parsed
matches nothing; a preferred one ends the attempt in an error when there is a choice to make, as upstream's PreScore does.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Literal

import numpy as np

from carbon_scheduler.core.model import NodeName, NodeSelectorTerm, PreferredTerm, Requirement
from carbon_scheduler.core.plugin import (
    UNRESOLVABLE,
    UNRESOLVABLE_BIT,
    Change,
    Plugin,
    Rejected,
    State,
    by_maximum,
)
from carbon_scheduler.core.selectors import meets, problem
from carbon_scheduler.core.settings import AddedAffinity

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from carbon_scheduler.core.model import Node, Pod
    from carbon_scheduler.core.plugin import Rows
    from carbon_scheduler.core.snapshot import LabelColumn, Snapshot

_NAME_FIELD: Final = "metadata.name"


def _rows_match(requirement: Requirement, column: LabelColumn, rows: Rows) -> NDArray[np.bool_]:
    """bool (rows,). Cost: one comparison a value asked for; for Gt and Lt one judgement a distinct value of the label."""
    ids = column.ids[rows]
    if requirement.operator in ("Exists", "DoesNotExist"):
        return (ids >= 0) if requirement.operator == "Exists" else (ids < 0)
    if requirement.operator in ("In", "NotIn"):
        found = np.zeros(ids.shape, np.bool_)
        for value in requirement.values:
            if (known := column.values.get(value)) is not None:
                found |= ids == known
        return found if requirement.operator == "In" else ~found
    judged = [meets(requirement, value) for value in column.values]
    return np.array([*judged, False], np.bool_)[ids]  # -1, a missing label, takes the last


def term_matches_node(term: NodeSelectorTerm, node: Node) -> bool:
    """One term against one node; used by queueing hints, where there is no array."""
    if not (term.expressions or term.fields) or any(map(problem, term.expressions)):
        return False
    return all(meets(r, node.labels.get(r.key)) for r in term.expressions) and all(
        _field_matches(r, node.name) for r in term.fields
    )


def _field_matches(requirement: Requirement, name: str) -> bool:
    if requirement.key != _NAME_FIELD or not field_is_valid(requirement):
        return False
    return (name == requirement.values[0]) == (requirement.operator == "In")


def field_is_valid(requirement: Requirement) -> bool:
    """Whether upstream can read it: In or NotIn with exactly one value."""
    return len(requirement.values) == 1 and requirement.operator in ("In", "NotIn")


def term_mask(term: NodeSelectorTerm, snap: Snapshot, rows: Rows) -> NDArray[np.bool_]:
    """bool (rows,): which nodes a term matches."""
    mask: NDArray[np.bool_] = snap.alive[rows].copy()
    if not (term.expressions or term.fields) or any(map(problem, term.expressions)):
        mask[:] = False
        return mask
    for requirement in term.expressions:
        mask &= _rows_match(requirement, snap.label(requirement.key), rows)
    for requirement in term.fields:
        here = np.zeros(snap.capacity, np.bool_)
        if requirement.key == _NAME_FIELD and len(requirement.values) == 1 and requirement.operator in ("In", "NotIn"):
            if (slot := snap.slot_of.get(NodeName(requirement.values[0]))) is not None:
                here[slot] = True
            if requirement.operator == "NotIn":
                here = ~here
        mask &= here[rows]
    return mask


def pinned_names(terms: tuple[NodeSelectorTerm, ...]) -> frozenset[str] | None:
    """The node names that required terms allow, when every term names some; None when any term leaves the name open."""
    names: set[str] = set()
    for term in terms:
        mine: set[str] | None = None
        for r in term.fields:
            if r.key == _NAME_FIELD and r.operator == "In":
                mine = set(r.values) if mine is None else mine & set(r.values)
        if mine is None:
            return None
        names |= mine
    return frozenset(names) if terms else None


_NONE: Final = AddedAffinity()


class _Affinity(State):
    reasons = (
        "node(s) didn't match Pod's node affinity/selector",
        "node(s) didn't match scheduler-enforced node affinity",
    )

    def __init__(
        self,
        selector: tuple[tuple[str, str], ...],
        required: tuple[NodeSelectorTerm, ...] | None,
        preferred: tuple[PreferredTerm, ...],
        added: AddedAffinity,
    ) -> None:
        self._selector = tuple(Requirement(key, "In", (value,)) for key, value in selector)
        self._required = required
        self._added = added.required
        self._preferred = tuple(
            p for p in (*added.preferred, *preferred) if p.weight and (p.term.expressions or p.term.fields)
        )
        self._pinned = pinned_names(required) if required else None
        wrong = ((r.key, text) for p in self._preferred for r in p.term.expressions if (text := problem(r)))
        self.failure = next((f"preferred node affinity on {key!r}: {text}" for key, text in wrong), "")
        self.filters = bool(selector) or required is not None or added.required is not None
        self.scores = bool(preferred) or bool(added.preferred)

    def only(self, snap: Snapshot) -> NDArray[np.intp] | None:
        if self._pinned is None:
            return None
        slots = [snap.slot_of[NodeName(name)] for name in self._pinned if name in snap.slot_of]
        return np.array(sorted(slots), np.intp)

    def reject(self, snap: Snapshot, rows: Rows) -> NDArray[np.uint64]:
        fits: NDArray[np.bool_] = snap.alive[rows].copy()
        for requirement in self._selector:
            fits &= _rows_match(requirement, snap.label(requirement.key), rows)
        if self._required is not None:
            any_term = np.zeros_like(fits)
            for term in self._required:
                any_term |= term_mask(term, snap, rows)
            fits &= any_term
        codes = np.where(fits, np.uint64(0), UNRESOLVABLE_BIT | np.uint64(1))
        if self._added is not None:  # it is asked first
            enforced = np.zeros_like(fits)
            for term in self._added:
                enforced |= term_mask(term, snap, rows)
            codes[~enforced] = UNRESOLVABLE_BIT | np.uint64(2)
        return codes

    def score(self, snap: Snapshot, rows: Rows) -> NDArray[np.int64]:
        total = np.zeros(len(snap.alive[rows]), np.int64)
        for preferred in self._preferred:
            total += preferred.weight * term_mask(preferred.term, snap, rows)
        return total

    def normalise(self, raw: NDArray[np.int64]) -> NDArray[np.int64]:
        return by_maximum(raw, reverse=False)


class NodeAffinity(Plugin):
    name = "NodeAffinity"
    weight = 2
    hears = frozenset({"node"})
    hears_of_nodes = frozenset({"labels"})

    def __init__(self, added: AddedAffinity = _NONE) -> None:
        """`added`: what the profile wants of every node beside the pod."""
        self._added = None if added == _NONE else added

    def key(self, pod: Pod) -> object:
        spec = pod.spec
        if (
            self._added is None
            and not spec.node_selector
            and spec.required_affinity is None
            and not spec.preferred_affinity
        ):
            return None
        return (spec.node_selector, spec.required_affinity, spec.preferred_affinity)

    def prepare(self, pod: Pod, snap: Snapshot) -> State | Rejected:
        spec = pod.spec
        if self.filters and spec.required_affinity and pinned_names(spec.required_affinity) == frozenset():
            return Rejected(UNRESOLVABLE, ("pod affinity terms conflict",))
        return _Affinity(spec.node_selector, spec.required_affinity, spec.preferred_affinity, self._added or _NONE)

    def wakes(self, pod: Pod, change: Change, snap: Snapshot) -> bool:
        if change.node is None or (change.node_before is not None and not change.of_labels):
            return False
        added = None if self._added is None else self._added.required
        if added is not None and not any(term_matches_node(term, change.node) for term in added):
            return False
        now = _selects(pod, change.node)
        before = change.node_before and _selects(pod, change.node_before)
        return now == "unreadable" or (now == "yes" and before != "yes")


def _selects(pod: Pod, node: Node) -> Literal["yes", "no", "unreadable"]:
    """Whether a pod selects a node. A term that cannot be parsed counts when no other term matches: upstream retries then."""
    if any(node.labels.get(key) != value for key, value in pod.spec.node_selector):
        return "no"
    required = pod.spec.required_affinity
    if required is None or any(term_matches_node(term, node) for term in required):
        return "yes"
    wrong = any(problem(r) for term in required for r in term.expressions) or any(
        not field_is_valid(r) for term in required for r in term.fields
    )
    return "unreadable" if wrong else "no"
