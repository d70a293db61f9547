"""How many pods of a sort run in each domain of a topology, kept up to date by what changed.

A domain is a value of a label of nodes. `Places` says in which domain each node lies and whether it counts; `DomainCounts` adds
up the pods of the nodes that count. Both belong to one snapshot and are brought up to date by `refresh`, as often as somebody
asks: nothing to do costs a comparison, a pod that came or went a few array items, a node that moved O(nodes).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

from carbon_scheduler.core.model import Struct, Toleration
from carbon_scheduler.core.plugin import ALL, Rejected, State
from carbon_scheduler.core.plugins.node_affinity import NodeAffinity
from carbon_scheduler.core.plugins.taints import TaintToleration

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from carbon_scheduler.core.model import NodeSelectorTerm, Pod
    from carbon_scheduler.core.peers import PeerCount, Wanted
    from carbon_scheduler.core.plugin import Plugin, Rows
    from carbon_scheduler.core.snapshot import LabelColumn, Snapshot

NOWHERE: Final = 0
"""The domain of nodes without the label."""
_NO_DOMAIN: Final = 2**60
"""In place of the sum of a domain without a node that counts: never the lowest."""


class Scope(Struct, frozen=True, cache_hash=True):
    """Which nodes count, and by which label they are divided. What is None is not looked at.

    A node counts that has all of `required_keys`, matches the pod's node selector and required affinity, and has no hard taint
    that the pod does not tolerate.
    """

    key: str
    required_keys: tuple[str, ...]
    affinity: tuple[tuple[tuple[str, str], ...], tuple[NodeSelectorTerm, ...] | None] | None = None
    tolerations: tuple[Toleration, ...] | None = None


class Places:
    """The nodes of a scope. `domain` is intp (capacity,): 1 + the id of the label's value, `NOWHERE` without one. `counted` is
    bool (capacity,), `nodes` int64 (domains,) how many count in each. `empty` is the domain of the value "", 0 when there is
    none. `version` changes with any of them. Read only; `domain` and `counted` change in place."""

    def __init__(self, scope: Scope, pod: Pod, snap: Snapshot) -> None:
        self.scope = scope
        self.domain: NDArray[np.intp] = np.zeros(0, np.intp)
        self.counted: NDArray[np.bool_] = np.zeros(0, np.bool_)
        self.nodes: NDArray[np.int64] = np.zeros(1, np.int64)
        self.empty = NOWHERE
        self.version = 0
        self._pod = pod
        self._judges: list[State] | None = []
        self._columns: list[LabelColumn] = []
        self._generation = snap.generation - 1
        self._at = 0

    def refresh(self, snap: Snapshot) -> None:
        log = snap.spec_log
        if self._at == log.position and self._generation == snap.generation:
            return
        columns = [snap.label(key) for key in (self.scope.key, *self.scope.required_keys)]
        changed = log.rows_since(self._at)
        renewed = self._generation != snap.generation
        self._at, self._generation = log.position, snap.generation
        if renewed:
            self._judges = self._judges_of(snap)
        if renewed or changed is None or any(a is not b for a, b in zip(columns, self._columns, strict=True)):
            self._columns = columns
            self.domain, self.counted = self._judged(snap, ALL)
        else:
            domain, counted = self._judged(snap, changed)
            if (domain == self.domain[changed]).all() and (counted == self.counted[changed]).all():
                return
            self.domain[changed], self.counted[changed] = domain, counted
        values = columns[0].values
        self.nodes = np.bincount(self.domain[self.counted], minlength=1 + len(values))
        self.empty = 1 + values.get("", NOWHERE - 1)
        self.version += 1

    def _judges_of(self, snap: Snapshot) -> list[State] | None:
        """What a node must pass; None: no node can."""
        wanted: list[tuple[object, Plugin]] = [
            (self.scope.affinity, NodeAffinity()),
            (self.scope.tolerations, TaintToleration()),
        ]
        made = [plugin.prepare(self._pod, snap) for part, plugin in wanted if part is not None]
        judges = [state for state in made if isinstance(state, State) and state.filters]
        return None if any(isinstance(state, Rejected) for state in made) else judges

    def _judged(self, snap: Snapshot, rows: Rows) -> tuple[NDArray[np.intp], NDArray[np.bool_]]:
        """(domain, counted) of these rows. A free slot has no label, so it has no domain."""
        domain = self._columns[0].ids[rows].astype(np.intp) + 1
        counted = snap.alive[rows].copy()
        for column in self._columns[1:]:
            counted &= column.ids[rows] >= 0
        for judge in self._judges or ():
            counted &= judge.reject(snap, rows) == 0
        if self._judges is None:
            counted[:] = False
        return domain, counted


class DomainCounts:
    """`sums` is int64 (domains,): the pods on the nodes that count. Read only; changes in place."""

    def __init__(self, places: Places, wanted: Wanted | None) -> None:
        """`wanted` None: no pods, but domains all the same."""
        self.places = places
        self.sums: NDArray[np.int64] = np.zeros(1, np.int64)
        self._wanted = wanted
        self._of_domains = self.sums
        self._domains = 0
        self._version = 0
        self._count: PeerCount | None = None
        self._seen: NDArray[np.int32] = np.zeros(0, np.int32)
        self._at = 0

    def refresh(self, snap: Snapshot) -> None:
        places = self.places
        places.refresh(snap)
        count = None if self._wanted is None else snap.peers.matching(self._wanted)
        if places.version != self._version or count is not self._count:
            self._count = count
            self._add_up()
        elif count is not None and count.log.position != self._at:
            slots = count.log.since(self._at)
            if slots is None:
                self._add_up()
            else:
                self._at = count.log.position
                for slot in slots:
                    self._move(slot, count.pods.item(slot))

    def lowest(self, min_domains: int) -> int:
        """The least of all domains; 0 when there are fewer than `min_domains` (filtering.go, minMatchNum)."""
        if self._domains < min_domains:
            return 0
        return int(np.minimum.reduce(self._of_domains)) if self._domains else 2**31 - 1

    def _move(self, slot: int, now: int) -> None:
        by = now - self._seen.item(slot)
        if not by:
            return
        self._seen[slot] = now
        if self.places.counted[slot]:
            domain = self.places.domain.item(slot)
            self.sums[domain] += by
            self._of_domains[domain] += by

    def _add_up(self) -> None:
        places, count = self.places, self._count
        self._version = places.version
        self.sums = np.zeros(len(places.nodes), np.int64)
        if count is not None:
            self._at = count.log.position
            self._seen = count.pods.astype(np.int32)  # half the memory of a copy
            on = np.flatnonzero(places.counted & (self._seen > 0))
            np.add.at(self.sums, places.domain[on], self._seen[on])
        there = places.nodes > 0
        self._of_domains = np.where(there, self.sums, _NO_DOMAIN)
        self._domains = int(np.count_nonzero(there))
