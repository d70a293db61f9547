"""Pods that wait for room on a certain node, and what they mean for others.

A pod is nominated when room is made for it by preemption, or when its status says so. Others of less priority must leave it
that room: a node is feasible only if they fit there with the nominated pods of at least their priority and without them
(v1.36.3 framework/runtime/framework.go RunFilterPluginsWithNominatedPods; backend/queue/nominator.go).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

from carbon_scheduler.core.trial import Trial, grouped

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from numpy.typing import NDArray

    from carbon_scheduler.core.model import NodeName, Pod, PodUid
    from carbon_scheduler.core.snapshot import Snapshot
    from carbon_scheduler.core.trial import Refusal
    from carbon_scheduler.core.verdict import Reasons, Verdict

HUGE: Final = 2**61
"""More than this is not added up in arrays: with what a node's pods take it must stay within int64."""
MAX_PRIORITIES: Final = 64
"""Priorities of pods for which the sums are kept."""
MAX_TOLD: Final = 256
"""Nodes that are tried one by one for the sake of a message. Beyond that it gives the reasons that hold without nominated
pods."""


class Reserved:
    """What the nominated pods of at least some priority would take: `amounts` int64 (resources, n), `pods` int64 (n,) on
    `slots` (n,)."""

    def __init__(self, snap: Snapshot, by_node: Mapping[int, list[Pod]]) -> None:
        self.slots = np.array(list(by_node), np.intp)
        self.pods = np.array([len(pods) for pods in by_node.values()], np.int64)
        self.amounts = np.zeros((len(snap.requested), len(by_node)), np.int64)
        for column, pods in enumerate(by_node.values()):
            sums = [0] * len(snap.requested)
            for pod in pods:
                for row, amount in snap.amounts(pod.spec.requests):
                    sums[row] += amount
            self.amounts[:, column] = [min(total, HUGE) for total in sums]


class Nominations:
    """Who is nominated to which node. `pods` is the cluster's, to which every nominated pod belongs."""

    def __init__(self, snap: Snapshot, pods: Mapping[PodUid, Pod]) -> None:
        self._snap = snap
        self._pods = pods
        self._node: dict[PodUid, NodeName] = {}
        self._on: dict[NodeName, dict[PodUid, None]] = {}
        self._reserved: dict[int, Reserved] = {}
        self._reserved_at: tuple[int, ...] = ()
        self._version = 0

    def __len__(self) -> int:
        return len(self._node)

    def node_of(self, uid: PodUid) -> NodeName | None:
        return self._node.get(uid)

    def put(self, uid: PodUid, node: NodeName | None) -> None:
        """Nominates a pod to a node, or takes its nomination away."""
        was = self._node.pop(uid, None)
        if was is not None:
            del self._on[was][uid]
            if not self._on[was]:
                del self._on[was]
        if node is not None:
            self._node[uid] = node
            self._on.setdefault(node, {})[uid] = None
        if was is not None or node is not None:
            self._version += 1

    def below(self, node: NodeName, priority: int) -> list[Pod]:
        """The pods of less priority that are nominated to a node."""
        return [pod for uid in self._on.get(node, ()) if (pod := self._pods[uid]).spec.priority < priority]

    def beside(self, slot: int, pod: Pod) -> list[Pod]:
        """The pods that this one would have to leave room for on a node."""
        node = self._snap.nodes[slot]
        others = self._on.get(node.name, ()) if node is not None else ()
        return [
            other for uid in others if uid != pod.uid and (other := self._pods[uid]).spec.priority >= pod.spec.priority
        ]

    def reserved(self, pod: Pod) -> Reserved:
        """What this pod has to leave to others, itself not counted. Cost: O(1) when asked before for its priority and nothing
        was nominated, nor any node changed since; else O(nominated pods)."""
        snap = self._snap
        at = (self._version, snap.spec_log.position, snap.generation, len(snap.requested))
        if at != self._reserved_at:
            self._reserved.clear()
            self._reserved_at = at
        priority = pod.spec.priority
        own = self._node.get(pod.uid)
        found = None if own else self._reserved.get(priority)
        if found is None:
            by_node: dict[int, list[Pod]] = {}
            for name in self._on:
                slot = snap.slot_of.get(name)
                if slot is not None and (others := self.beside(slot, pod)):
                    by_node[slot] = others
            found = Reserved(snap, by_node)
            if own is None:
                if len(self._reserved) >= MAX_PRIORITIES:
                    self._reserved.clear()
                self._reserved[priority] = found
        return found

    # -- filtering -------------------------------------------------------------------------------------------------

    def heed(self, pod: Pod, verdict: Verdict, *, exactly: bool = False) -> None:
        """Takes from a verdict the nodes on which the pod does not fit beside nominated ones. Only nodes with such pods are
        looked at again: together where what the pods take decides, else one by one. Cost: nothing when there are none.

        While some node is feasible, nobody asks for the reasons of others, and which plugin is the first to turn one of them
        away beside nominated pods is worked out only if `exactly` is asked for.
        """
        if not self._node or verdict.rejected is not None:
            return
        reserved = self.reserved(pod)
        slots = reserved.slots[verdict.allowed[reserved.slots]]
        if not len(slots):
            return
        trial = Trial(pod, verdict, self._snap)
        if not exactly and verdict.feasible.any():
            here = slots[verdict.feasible[slots]]
            away = self._away(pod, trial, reserved, here)
            left = verdict.feasible.copy()
            for _, out, _, _ in away:
                left[out] = False
            if left.any() or len(slots) > MAX_TOLD:
                verdict.turn_away(away)
                return
        if trial.sums_only:
            verdict.turn_away(self._away(pod, trial, reserved, slots))
        else:
            found = ((slot, self.try_beside(slot, pod, trial)) for slot in slots.tolist())
            verdict.turn_away(grouped((slot, why) for slot, why in found if why))

    def _away(self, pod: Pod, trial: Trial, reserved: Reserved, slots: NDArray[np.intp]) -> Reasons:
        """Which of some nodes the pod cannot have beside nominated ones: by sums, and where these do not tell, by trials."""
        if not len(slots):
            return []
        fits, reasons = trial.at_sums(self.view(reserved), slots)
        if trial.sums_only:
            return reasons
        found = ((slot, self.try_beside(slot, pod, trial)) for slot in slots[fits].tolist())
        return [*reasons, *grouped((slot, why) for slot, why in found if why)]

    def try_beside(self, slot: int, pod: Pod, trial: Trial) -> Refusal | None:
        """What keeps the pod from a node on which the nominated ones run. The snapshot is as before afterwards."""
        others = self.beside(slot, pod)
        with_them(self._snap, slot, others, 1)
        found = trial.at(slot)
        with_them(self._snap, slot, others, -1)
        return found

    def view(self, reserved: Reserved) -> Snapshot:
        """The snapshot with what is reserved added to its sums (`Snapshot.apart`)."""
        view = self._snap.apart()
        view.requested[:, reserved.slots] += reserved.amounts
        view.pod_count[reserved.slots] += reserved.pods
        return view


def with_them(snap: Snapshot, slot: int, pods: Iterable[Pod], sign: int) -> None:
    """Puts pods on a node that they are not on, or takes them away again."""
    for pod in pods:
        snap.charge(slot, pod, sign)
