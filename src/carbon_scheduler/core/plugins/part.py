"""A plugin of which a profile has enabled only a part: it filters and does not score, or the reverse."""

from __future__ import annotations

from typing import TYPE_CHECKING

from carbon_scheduler.core.plugin import Change, Plugin, Rejected, State

if TYPE_CHECKING:
    from collections.abc import Hashable

    import numpy as np
    from numpy.typing import NDArray

    from carbon_scheduler.core.model import Pod
    from carbon_scheduler.core.plugin import Rows
    from carbon_scheduler.core.snapshot import Snapshot


class _Part(State):
    def __init__(self, whole: State, *, filters: bool, prepares: bool, scores: bool) -> None:
        self._whole = whole
        self._narrows = filters
        self.filters = whole.filters and filters
        self.scores = whole.scores and scores
        self.reasons = whole.reasons
        self.failure = whole.failure if prepares else ""
        self.constant = whole.constant
        self.relents = whole.relents
        self.error = whole.error if filters else ""

    def only(self, snap: Snapshot) -> NDArray[np.intp] | None:
        return self._whole.only(snap) if self._narrows else None

    def reject(self, snap: Snapshot, rows: Rows) -> NDArray[np.uint64]:
        return self._whole.reject(snap, rows)

    def score(self, snap: Snapshot, rows: Rows) -> NDArray[np.int64]:
        return self._whole.score(snap, rows)

    def score_all(self, snap: Snapshot, feasible: NDArray[np.bool_]) -> NDArray[np.int64]:
        return self._whole.score_all(snap, feasible)


class _RelativePart(_Part):
    """Whose scores depend on which nodes are feasible: told by its having a `normalise` of its own."""

    def normalise(self, raw: NDArray[np.int64]) -> NDArray[np.int64]:
        return self._whole.normalise(raw)


class Part(Plugin):
    """`prepares`: PreScore runs, whose failure ends the attempt also where the score itself is off."""

    def __init__(self, whole: Plugin, *, filters: bool, prepares: bool, scores: bool) -> None:
        self._whole = whole
        whole.filters = self.filters = filters
        self._prepares = prepares
        self._scores = scores
        self.name = whole.name
        self.reads = whole.reads
        self.sums = whole.sums
        self.hears = whole.hears
        self.hears_of_nodes = whole.hears_of_nodes
        self.wakes_on_taints = whole.wakes_on_taints

    def key(self, pod: Pod) -> Hashable:
        return self._whole.key(pod)

    def prepare(self, pod: Pod, snap: Snapshot) -> State | Rejected:
        made = self._whole.prepare(pod, snap)
        if isinstance(made, Rejected):
            return made
        relative = type(made).normalise is not State.normalise
        part = _RelativePart if relative else _Part
        return part(made, filters=self.filters, prepares=self._prepares, scores=self._scores)

    def wakes(self, pod: Pod, change: Change, snap: Snapshot) -> bool:
        return self._whole.wakes(pod, change, snap)
