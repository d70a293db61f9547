"""Nodes that have become over-committed: the pods on them request more than they offer.

The API server binds a pod to any node. Two schedulers that use the same nodes can therefore fill the same gap at one moment;
so can a node that shrinks, or a pod that names its node. The filter keeps further pods away by itself; this tells of it, once
for each spell. A kubelet fails a pod that does not fit (OutOfcpu, OutOfmemory, OutOfpods; v1.36.3 pkg/kubelet/lifecycle).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from carbon_scheduler.core.decision import Overcommitted

if TYPE_CHECKING:
    from carbon_scheduler.core.model import NodeName
    from carbon_scheduler.core.snapshot import Snapshot


class Overcommitments:
    """`len` is how many nodes are over-committed, as last looked at."""

    def __init__(self, snap: Snapshot, scheduler_name: str) -> None:
        self._snap = snap
        self._scheduler_name = scheduler_name
        self._changed: dict[NodeName, None] = {}
        self._now: dict[NodeName, None] = {}

    def __len__(self) -> int:
        return len(self._now)

    def changed(self, name: NodeName) -> None:
        """The node offers something else, or pods came or went that this scheduler had not counted yet."""
        self._changed[name] = None

    def news(self) -> list[Overcommitted]:
        """Of the nodes that changed, those that are over-committed and were not before. In the order of their names.

        Asked between batches of events, not within one: there a pod that takes another's place may be told of before the
        other is gone. Cost: none when nothing changed, else some 10 µs and 0.1 µs for each node that did.
        """
        if not self._changed:
            return []
        snap = self._snap
        known = [name for name in sorted(self._changed) if name in snap.slot_of]
        slots = np.array([snap.slot_of[name] for name in known], np.intp)
        requested, offered = snap.requested[:, slots], snap.allocatable[:, slots]
        over = ((requested > offered) & (offered > 0)).any(axis=0)
        over |= (snap.pod_count[slots] > snap.max_pods[slots]) & (snap.max_pods[slots] > 0)
        full = {known[row] for row in np.flatnonzero(over).tolist()}
        found = [self._told(name) for name in known if name in full and name not in self._now]
        for name in self._changed:
            if name not in full:
                self._now.pop(name, None)
        self._now.update(dict.fromkeys(effect.node for effect in found))
        self._changed.clear()
        return found

    def _told(self, name: NodeName) -> Overcommitted:
        """What of the node is over-committed. What it does not offer at all is left out."""
        snap, slot = self._snap, self._snap.slot_of[name]
        amounts = {
            resource: (int(snap.requested[row, slot]), int(snap.allocatable[row, slot]))
            for resource, row in snap.resource_of.items()
        } | {"pods": (int(snap.pod_count[slot]), int(snap.max_pods[slot]))}
        node = snap.nodes[slot]
        assert node is not None
        short = tuple((what, asked, most) for what, (asked, most) in sorted(amounts.items()) if asked > most > 0)
        return Overcommitted(name, node.uid, short, self._scheduler_name)
