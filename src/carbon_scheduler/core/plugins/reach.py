"""Which nodes a volume, a class or a storage pool can be reached from: selectors over the labels of all nodes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

from carbon_scheduler.core.model import NodeSelectorTerm, Requirement
from carbon_scheduler.core.plugin import ALL
from carbon_scheduler.core.plugins.node_affinity import field_is_valid, term_mask
from carbon_scheduler.core.selectors import problem

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from carbon_scheduler.core.model import Selector
    from carbon_scheduler.core.objects import TopologyTerm
    from carbon_scheduler.core.snapshot import LabelColumn, Snapshot

    Terms = tuple[NodeSelectorTerm, ...] | None

MAX_KNOWN: Final = 50_000
"""Answers kept: local volumes have an affinity of their own for each node."""


class Reach:
    """Answers are slots (intp, ascending), kept while no node changes: O(nodes) the first time, then O(1).

    With `only`, nothing else than these slots is looked at: for a question about one node.
    """

    def __init__(self, only: NDArray[np.intp] | None = None) -> None:
        self._only = only
        self._known: dict[Terms, NDArray[np.intp]] = {}
        self._slots_of: dict[str, tuple[LabelColumn, dict[int, NDArray[np.intp]]]] = {}
        self._at: tuple[int, int] | None = None

    def affinity(self, terms: Terms, snap: Snapshot) -> NDArray[np.intp]:
        """Nodes that a PersistentVolume's node affinity allows; None is no restriction.

        Fields are not looked at, for upstream asks with the labels alone, but a term with one that cannot be read matches
        nothing (component-helpers v0.36.3 storage/volume/helpers.go CheckNodeAffinity).
        """
        now = (snap.generation, snap.spec_log.position)
        if self._at != now or len(self._known) > MAX_KNOWN:
            self._known.clear()
            self._slots_of.clear()
            self._at = now
        if (found := self._known.get(terms)) is None:
            found = self._known[terms] = self._look(terms, snap)
        return found

    def topologies(self, terms: tuple[TopologyTerm, ...], snap: Snapshot) -> NDArray[np.intp]:
        """Nodes that a class's allowedTopologies allow; no terms at all are no restriction, an empty one matches nothing
        (v1.36.3 pkg/apis/core/v1/helper MatchTopologySelectorTerms)."""
        if not terms:
            return self.affinity(None, snap)
        return self.affinity(
            tuple(
                NodeSelectorTerm(tuple(Requirement(key, "In", values) for key, values in term.expressions))
                for term in terms
            ),
            snap,
        )

    def selector(self, selector: Selector, snap: Snapshot) -> NDArray[np.intp]:
        """Nodes whose labels a selector matches: None none, () all."""
        if selector is None:
            return self.affinity((), snap)
        return self.affinity((NodeSelectorTerm(selector),) if selector else None, snap)

    def _look(self, terms: Terms, snap: Snapshot) -> NDArray[np.intp]:
        if terms is not None and len(terms) == 1 and not terms[0].fields and len(terms[0].expressions) == 1:
            requirement = terms[0].expressions[0]
            if requirement.operator == "In" and not problem(requirement):
                return self._having(requirement.key, requirement.values, snap)
        rows = ALL if self._only is None else self._only
        alive = snap.alive[rows]
        mask = alive if terms is None else np.zeros_like(alive)
        for term in terms or ():
            if not all(map(field_is_valid, term.fields)):
                continue
            mask |= (
                term_mask(NodeSelectorTerm(term.expressions), snap, rows)
                if term.expressions
                else alive & bool(term.fields)
            )
        found = np.flatnonzero(mask)
        return found if self._only is None else self._only[found]

    def _having(self, key: str, values: tuple[str, ...], snap: Snapshot) -> NDArray[np.intp]:
        """Nodes with one of these values: what nearly every volume asks for. O(nodes) for a key, then O(1) a value."""
        if self._only is not None:
            nodes = [(slot, snap.nodes[slot]) for slot in self._only.tolist()]
            return np.array([slot for slot, node in nodes if node and node.labels.get(key) in values], np.intp)
        column = snap.label(key)
        known_for, slots_of = self._slots_of.get(key, (None, {}))
        if known_for is not column:
            order = np.argsort(column.ids, kind="stable")
            ids, first = np.unique(column.ids[order], return_index=True)
            slots_of = dict(zip(ids.tolist(), np.split(order, first[1:]), strict=True))
            self._slots_of[key] = (column, slots_of)
        found = [
            slots_of[known]
            for value in dict.fromkeys(values)
            if (known := column.values.get(value, -1)) in slots_of and known >= 0
        ]
        if not found:
            return np.zeros(0, np.intp)
        return found[0] if len(found) == 1 else np.sort(np.concatenate(found))
