"""TaintToleration and NodeUnschedulable: which taints a pod tolerates, and how many soft ones it does not.

Sources: kube-scheduler v1.36.3 plugins/tainttoleration, plugins/nodeunschedulable (their queueing hints too), and
k8s.io/api core/v1 toleration.go. The Gt and Lt operators are off by default there: such a toleration matches nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

from carbon_scheduler.core.model import Taint, Toleration
from carbon_scheduler.core.plugin import UNRESOLVABLE_BIT, Change, Plugin, State, by_maximum

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import NDArray

    from carbon_scheduler.core.model import Node, Pod
    from carbon_scheduler.core.plugin import Rows
    from carbon_scheduler.core.snapshot import Snapshot

_HARD: Final = ("NoSchedule", "NoExecute")
_SOFT: Final = "PreferNoSchedule"
_UNSCHEDULABLE: Final = Taint("node.kubernetes.io/unschedulable", "", "NoSchedule")


def tolerates(toleration: Toleration, taint: Taint) -> bool:
    """Whether one toleration matches one taint. "" matches every key and every effect."""
    if toleration.effect and toleration.effect != taint.effect:
        return False
    if toleration.key and toleration.key != taint.key:
        return False
    if toleration.operator in ("", "Equal"):
        return toleration.value == taint.value
    return toleration.operator == "Exists"


def tolerated(taint: Taint, tolerations: Iterable[Toleration]) -> bool:
    return any(tolerates(toleration, taint) for toleration in tolerations)


def _hard_untolerated(node: Node, tolerations: tuple[Toleration, ...]) -> bool:
    return any(taint.effect in _HARD and not tolerated(taint, tolerations) for taint in node.taints)


class _Taints(State):
    """Judges each distinct list of taints once; nodes look their list up."""

    filters = True
    scores = True
    reasons = ("node(s) had untolerated taint(s)",)

    def __init__(self, tolerations: tuple[Toleration, ...]) -> None:
        self._tolerations = tolerations
        self._codes: NDArray[np.uint64] = np.zeros(0, np.uint64)
        self._raw: NDArray[np.int64] = np.zeros(0, np.int64)

    def _extend(self, snap: Snapshot) -> None:
        new = snap.taint_classes[len(self._codes) :]
        if not new:
            return
        mine = self._tolerations
        hard = [any(t.effect in _HARD and not tolerated(t, mine) for t in taints) for taints in new]
        soft = [sum(t.effect == _SOFT and not tolerated(t, mine) for t in taints) for taints in new]
        codes = np.where(hard, UNRESOLVABLE_BIT | np.uint64(1), np.uint64(0))
        self._codes = np.concatenate([self._codes, codes])
        self._raw = np.concatenate([self._raw, np.array(soft, np.int64)])

    def reject(self, snap: Snapshot, rows: Rows) -> NDArray[np.uint64]:
        self._extend(snap)
        return self._codes[snap.taint_class[rows]]

    def score(self, snap: Snapshot, rows: Rows) -> NDArray[np.int64]:
        self._extend(snap)
        return self._raw[snap.taint_class[rows]]

    def normalise(self, raw: NDArray[np.int64]) -> NDArray[np.int64]:
        return by_maximum(raw, reverse=True)


class TaintToleration(Plugin):
    name = "TaintToleration"
    weight = 3
    hears = frozenset({"node", "self"})
    hears_of_nodes = frozenset({"taints"})
    wakes_on_taints = False

    def key(self, pod: Pod) -> tuple[Toleration, ...]:
        return pod.spec.tolerations

    def prepare(self, pod: Pod, snap: Snapshot) -> State:
        return _Taints(pod.spec.tolerations)

    def wakes(self, pod: Pod, change: Change, snap: Snapshot) -> bool:
        if change.kind == "self":
            return _got_toleration(change)
        if change.node is None or _hard_untolerated(change.node, pod.spec.tolerations):
            return False
        return change.node_before is None or _hard_untolerated(change.node_before, pod.spec.tolerations)


def _got_toleration(change: Change) -> bool:
    """Upstream's UpdatePodToleration: the API lets tolerations only be added."""
    before, now = change.pod_before, change.pod
    return before is not None and now is not None and before.spec.tolerations != now.spec.tolerations


class _Cordon(State):
    filters = True
    reasons = ("node(s) were unschedulable",)

    def reject(self, snap: Snapshot, rows: Rows) -> NDArray[np.uint64]:
        return np.where(snap.unschedulable[rows], UNRESOLVABLE_BIT | np.uint64(1), np.uint64(0))


class NodeUnschedulable(Plugin):
    name = "NodeUnschedulable"
    hears = frozenset({"node", "self"})
    hears_of_nodes = frozenset({"taints"})
    wakes_on_taints = False

    def key(self, pod: Pod) -> bool | None:
        return None if tolerated(_UNSCHEDULABLE, pod.spec.tolerations) else True

    def prepare(self, pod: Pod, snap: Snapshot) -> State:
        return _Cordon()

    def wakes(self, pod: Pod, change: Change, snap: Snapshot) -> bool:
        if change.kind == "self":
            return _got_toleration(change) and tolerated(_UNSCHEDULABLE, pod.spec.tolerations)
        if change.node is None or change.node.unschedulable:
            return False
        return change.node_before is None or change.node_before.unschedulable
