"""NodeDeclaredFeatures: the node's kubelet has what the pod's spec cannot do without.

Source: kube-scheduler v1.36.3 plugins/nodedeclaredfeatures/nodedeclaredfeatures.go. What a spec needs is worked out by the
conversion (`PodSpec.needs_features`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from carbon_scheduler.core.plugin import UNRESOLVABLE_BIT, Change, Plugin, State

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from carbon_scheduler.core.model import Node, Pod
    from carbon_scheduler.core.plugin import Rows
    from carbon_scheduler.core.snapshot import Snapshot


class _Features(State):
    filters = True
    reasons = ("node(s) didn't match Pod's required features",)

    def __init__(self, needed: tuple[str, ...]) -> None:
        self._needed = frozenset(needed)

    def reject(self, snap: Snapshot, rows: Rows) -> NDArray[np.uint64]:
        """Cost: about 0.2 us a row; few pods need any feature, and nodes rarely change theirs."""
        slots = range(snap.capacity)[rows] if isinstance(rows, slice) else rows.tolist()
        lacking = [not self._on(snap.nodes[slot]) for slot in slots]
        return np.where(lacking, UNRESOLVABLE_BIT | np.uint64(1), np.uint64(0))

    def _on(self, node: Node | None) -> bool:
        return node is not None and self._needed.issubset(node.features)


class NodeDeclaredFeatures(Plugin):
    name = "NodeDeclaredFeatures"
    hears = frozenset({"node", "self"})
    hears_of_nodes = frozenset({"features"})

    def key(self, pod: Pod) -> tuple[str, ...] | None:
        return pod.spec.needs_features or None

    def prepare(self, pod: Pod, snap: Snapshot) -> State:
        return _Features(pod.spec.needs_features)

    def wakes(self, pod: Pod, change: Change, snap: Snapshot) -> bool:
        """A node that came or declares something else, whatever it is; the pod itself when it needs something else."""
        if change.kind == "node" and change.node is not None:
            return change.node_before is None or change.node_before.features != change.node.features
        if change.kind != "self" or change.pod is None or change.pod_before is None:
            return False
        return change.pod.spec.needs_features != change.pod_before.spec.needs_features
