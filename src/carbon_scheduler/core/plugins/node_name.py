"""NodeName: a pending pod that names its node runs there or nowhere (v1.36.3 plugins/nodename/node_name.go)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from carbon_scheduler.core.plugin import UNRESOLVABLE_BIT, Change, Plugin, State

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from carbon_scheduler.core.model import NodeName as Name
    from carbon_scheduler.core.model import Pod
    from carbon_scheduler.core.plugin import Rows
    from carbon_scheduler.core.snapshot import Snapshot


class _Wanted(State):
    filters = True
    reasons = ("node(s) didn't match the requested node name",)

    def __init__(self, name: Name) -> None:
        self._name = name

    def reject(self, snap: Snapshot, rows: Rows) -> NDArray[np.uint64]:
        codes = np.full(snap.capacity, UNRESOLVABLE_BIT | np.uint64(1), np.uint64)
        if (slot := snap.slot_of.get(self._name)) is not None:
            codes[slot] = 0
        return codes[rows]


class NodeName(Plugin):
    name = "NodeName"
    hears = frozenset({"node"})
    hears_of_nodes = frozenset()

    def key(self, pod: Pod) -> Name | None:
        return pod.node_name

    def prepare(self, pod: Pod, snap: Snapshot) -> State:
        assert pod.node_name is not None
        return _Wanted(pod.node_name)

    def wakes(self, pod: Pod, change: Change, snap: Snapshot) -> bool:
        return change.node_before is None  # of whatever name, as upstream
