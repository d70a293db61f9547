"""What is kept of a pod's shape: which nodes fit and how they rank, brought up to date only where something changed.

Pods that every plugin sees alike share a `Shape`, two arrays over all nodes. What depends on the node alone is kept in a `Row`
for each plugin, which many shapes share; what also depends on a node's load goes straight into the shape. Plugins that read the
whole cluster are asked `Once` in each attempt.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

from carbon_scheduler.core.groups import Tops
from carbon_scheduler.core.plugin import ALL, Rejected, State

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from carbon_scheduler.core.groups import Groups
    from carbon_scheduler.core.plugin import Plugin, Rows
    from carbon_scheduler.core.snapshot import Snapshot

MAX_TOPS: Final = 4
"""Ways to group nodes for which a shape's best ones are kept."""


def _relative(state: State) -> bool:
    """Whether its scores depend on which nodes are feasible."""
    return type(state).normalise is not State.normalise


class Row:
    """What a plugin that looks at the node alone says of every slot.

    `flat` is the score of all nodes when it is the same for each, whichever of them are feasible; else None.
    """

    __slots__ = ("_at", "fits", "flat", "raw", "state")

    def __init__(self, state: State, snap: Snapshot) -> None:
        self.state = state
        self.fits: NDArray[np.bool_] = np.ones(snap.capacity, np.bool_)
        self.raw: NDArray[np.int64] = np.zeros(snap.capacity if state.scores else 0, np.int64)
        self.flat: int | None = None
        self._at = -1

    def refresh(self, snap: Snapshot) -> int:
        """Brings the arrays up to date and returns how many slots were judged again. Cost: O(changed), and O(nodes) to see
        whether the scores are flat."""
        if self._at == snap.spec_log.position:
            return 0
        rows = _rows(snap, snap.spec_log.rows_since(self._at) if self._at >= 0 else None)
        self._at = snap.spec_log.position
        if self.state.filters:
            self.fits[rows] = self.state.fits(snap, rows)
        if self.state.scores:
            self.raw[rows] = self.state.score(snap, rows)
            there = self.raw[snap.alive]
            even = not len(there) or bool((there == there[0]).all())
            self.flat = int(self.state.normalise(there[:1]).sum()) if even else None
        return _size(snap, rows)

    def codes(self, snap: Snapshot) -> NDArray[np.uint64]:
        return self.state.reject(snap, ALL)

    def score(self, snap: Snapshot, slots: NDArray[np.intp]) -> NDArray[np.int64]:
        return self.state.normalise(self.raw[slots])


class Load:
    """A plugin that also reads what runs on a node: judged where that changed, straight into the shape."""

    __slots__ = ("state",)

    def __init__(self, state: State) -> None:
        self.state = state

    def codes(self, snap: Snapshot) -> NDArray[np.uint64]:
        return self.state.reject(snap, ALL)

    def score(self, snap: Snapshot, slots: NDArray[np.intp]) -> NDArray[np.int64]:
        return self.state.normalise(self.state.score(snap, slots))


class Once:
    """A plugin that reads the whole cluster: its answers hold for one attempt."""

    __slots__ = ("_codes", "state")

    def __init__(self, state: State) -> None:
        self.state = state
        self._codes: NDArray[np.uint64] | None = None

    def codes(self, snap: Snapshot) -> NDArray[np.uint64]:
        if self._codes is None:
            self._codes = self.state.reject(snap, ALL)
        return self._codes

    def score(self, snap: Snapshot, slots: NDArray[np.intp]) -> NDArray[np.int64]:
        if self.state.constant is not None:
            return np.full(len(slots), self.state.constant, np.int64)
        return self.state.normalise(self.state.score(snap, slots))


class Shape:
    """Pods that all plugins but those that read the cluster see alike.

    `fits` is bool (capacity,). `ranked` is int64 (capacity,): the weighted sum of those scores that do not depend on which
    nodes are feasible, -1 where the node does not fit. `curved`: there are others, which are not equal for all nodes.
    `allowed` are the slots that the pod is pinned to, None without such a limit. Built up to the first plugin that refuses the
    pod as a whole.
    """

    __slots__ = (
        "_load_at",
        "_spec_at",
        "_standing",
        "_steady",
        "_tops",
        "allowed",
        "curved",
        "failed",
        "faulty",
        "fits",
        "loads",
        "parts",
        "ranked",
        "rejected",
        "rows",
    )

    def __init__(self, snap: Snapshot) -> None:
        self.parts: dict[int, Row | Load] = {}
        self.rows: list[tuple[Plugin, Row]] = []
        self.loads: list[tuple[Plugin, State]] = []
        self.rejected: tuple[int, Rejected] | None = None
        self.failed = ""
        self.faulty = False
        self.fits: NDArray[np.bool_] = np.zeros(snap.capacity, np.bool_)
        self.ranked: NDArray[np.int64] = np.full(snap.capacity, -1, np.int64)
        self.curved = False
        self.allowed: NDArray[np.bool_] | None = None
        self._standing: NDArray[np.bool_] = self.fits
        self._steady: NDArray[np.int64] | None = None
        self._spec_at = self._load_at = -1
        self._tops: dict[Groups, Tops] = {}

    def tops(self, groups: Groups) -> Tops:
        """What the shape's best nodes are by group. Cost: O(nodes) the first time."""
        found = self._tops.get(groups)
        if found is None:
            if len(self._tops) >= MAX_TOPS:
                del self._tops[next(iter(self._tops))]
            found = self._tops[groups] = Tops(groups, self.fits, self.ranked)
        return found

    def add(self, number: int, plugin: Plugin, part: Row | Load) -> None:
        self.parts[number] = part
        self.failed = self.failed or part.state.failure
        self.faulty = self.faulty or bool(part.state.error)
        if isinstance(part, Row):
            self.rows.append((plugin, part))
        else:
            self.loads.append((plugin, part.state))

    def refresh(self, snap: Snapshot) -> int:
        """Brings the arrays up to date and returns how many slots were judged again. Cost: O(changed); O(nodes) when a node
        itself changed."""
        spec, load = snap.spec_log, snap.load_log
        rows: Rows
        if self._spec_at != spec.position:
            changed = spec.rows_since(self._spec_at) if self._spec_at >= 0 else None
            if changed is not None:
                loads = load.rows_since(self._load_at)
                changed = None if loads is None else np.concatenate([changed, loads])
            judged = sum(row.refresh(snap) for _, row in self.rows)
            self._stand(snap)
            self._tops.clear()  # groups do not outlive a change of a node
            rows = _rows(snap, changed)
        elif self._load_at != load.position and self.loads:
            judged = 0
            rows = _rows(snap, load.rows_since(self._load_at))
        else:
            return 0
        self._spec_at, self._load_at = spec.position, load.position
        fits = self._standing[rows]
        if rows is ALL:
            fits = fits.copy()
            self._tops.clear()
        total: NDArray[np.int64] | None = None if self._steady is None else self._steady[rows]
        for plugin, state in self.loads:
            if state.filters:
                fits &= state.fits(snap, rows)
            if state.scores:
                score = state.score(snap, rows)
                score = score if plugin.weight == 1 else plugin.weight * score
                total = score if total is None else total + score
        ranked = np.where(fits, 0 if total is None else total, -1)
        if not isinstance(rows, slice):
            for tops in self._tops.values():
                tops.update(rows, self.fits[rows], fits, ranked)
        self.fits[rows] = fits
        self.ranked[rows] = ranked
        return judged + _size(snap, rows)

    def _stand(self, snap: Snapshot) -> None:
        """What depends on the nodes alone, put together."""
        standing = snap.alive.copy()
        self.allowed = None
        self.curved = any(state.scores and _relative(state) for _, state in self.loads)
        self._steady = None
        for plugin, row in self.rows:
            state = row.state
            if (only := state.only(snap)) is not None:
                self.allowed = np.zeros(snap.capacity, np.bool_)
                self.allowed[only] = True
                standing &= self.allowed
            if state.filters:
                standing &= row.fits
            if state.scores and not _relative(state):
                steady = plugin.weight * row.raw
                self._steady = steady if self._steady is None else self._steady + steady
            elif state.scores and row.flat is None:
                self.curved = True
        self._standing = standing


def _rows(snap: Snapshot, changed: NDArray[np.intp] | None) -> Rows:
    return ALL if changed is None or 4 * len(changed) > snap.capacity else changed


def _size(snap: Snapshot, rows: Rows) -> int:
    return snap.capacity if isinstance(rows, slice) else len(rows)
