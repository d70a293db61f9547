"""The pods and nodes as last heard of, and what each pod takes from which node.

A pod is charged to its node from the moment it is assumed there. Events may come twice, late or stale: a pod that has a node
never loses it, one that is terminating stays so, and one that is gone does not come back (uids are never used again).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import msgspec
import numpy as np

from carbon_scheduler.core.changes import ChangeLog, changes_kept
from carbon_scheduler.core.objects import KINDS
from carbon_scheduler.core.snapshot import Snapshot

if TYPE_CHECKING:
    from collections.abc import Iterator

    from carbon_scheduler.core.grid import GridZones, NodeZone
    from carbon_scheduler.core.model import GridZone, Namespace, Node, NodeName, Pod, PodUid
    from carbon_scheduler.core.objects import AnyObject, ObjectKind

REMEMBERED: Final = 20_000
"""Uids of pods that are gone, kept so that a late event cannot bring one back."""


class Cluster:
    """What is known. The snapshot is its other half: changed only from here."""

    def __init__(self, grid: GridZones, default_grid_zone: GridZone | None) -> None:
        self.snap = Snapshot()
        self.pods: dict[PodUid, Pod] = {}
        self.zones: dict[NodeName, NodeZone] = {}
        self.assumed: dict[PodUid, NodeName] = {}
        self.namespaces: dict[str, Namespace] = {}
        self.priorities: dict[int, int] = {}
        """How many of the pods charged to a node have which priority."""
        self.moved = ChangeLog(changes_kept(self.snap.capacity))
        """Slots whose pods came, went, or became more or less dear as victims of preemption."""
        self._grid = grid
        self._default = default_grid_zone
        self._charged: dict[PodUid, tuple[NodeName, Pod]] = {}
        self._on: dict[NodeName, dict[PodUid, None]] = {}
        self._gone: dict[PodUid, None] = {}

    # -- nodes ---------------------------------------------------------------------------------------------------

    def put_node(self, node: Node) -> Node | None:
        """Adds or replaces a node; returns what it was before. Pods that came before their node are charged now."""
        slot = self.snap.slot_of.get(node.name)
        before = None if slot is None else self.snap.nodes[slot]
        if before == node:
            if slot is not None:
                self.snap.renew_images(slot)
            return before
        zone = self._grid.of_node(node.labels, node.provider_id, self._default)
        self.zones[node.name] = zone
        slot = self.snap.put_node(node, zone.grid_zone)
        if before is None:
            self._note(node.name)
            for uid in self._on.get(node.name, ()):
                self.snap.charge(slot, self._charged[uid][1], 1)
        return before

    def drop_node(self, name: NodeName) -> Node | None:
        """Forgets a node; its pods stay known, and are charged again should it come back."""
        slot = self.snap.slot_of.get(name)
        if slot is None:
            return None
        before = self.snap.nodes[slot]
        for uid in self._on.get(name, ()):
            self.snap.charge(slot, self._charged[uid][1], -1)
        self._note(name)
        self.snap.drop_node(name)
        del self.zones[name]
        return before

    # -- pods ----------------------------------------------------------------------------------------------------

    def put_pod(self, pod: Pod) -> tuple[Pod | None, Pod | None]:
        """Takes in a pod as heard of; returns (before, after). After is None when it takes nothing any more."""
        before = self.pods.get(pod.uid)
        if pod.uid in self._gone:
            return None, None
        if pod.finished:
            return self.drop_pod(pod.uid), None
        if before is not None:
            if before.node_name and not pod.node_name:  # an old event: a node is never taken away
                pod = msgspec.structs.replace(pod, node_name=before.node_name)
            if before.terminating and not pod.terminating:
                pod = msgspec.structs.replace(pod, terminating=True)
        self.pods[pod.uid] = pod
        if before is not None and before.started_s != pod.started_s and (charged := self._charged.get(pod.uid)):
            self._note(charged[0])
        if pod.node_name:
            self.assumed.pop(pod.uid, None)
            self._charge(pod, pod.node_name)
        elif pod.uid in self.assumed:
            self._charge(pod, self.assumed[pod.uid])
        return before, pod

    def drop_pod(self, uid: PodUid) -> Pod | None:
        """Forgets a pod for good and frees what it took; returns what it was."""
        self._gone[uid] = None
        if len(self._gone) > REMEMBERED:
            del self._gone[next(iter(self._gone))]
        self.assumed.pop(uid, None)
        self._discharge(uid)
        return self.pods.pop(uid, None)

    def assume(self, uid: PodUid, node: NodeName) -> None:
        """Charges a pending pod to the node that it is being bound to."""
        self.assumed[uid] = node
        self._charge(self.pods[uid], node)

    def forget(self, uid: PodUid) -> None:
        """Takes an assumption back: the Binding was certainly not carried out."""
        if self.assumed.pop(uid, None) is not None:
            self._discharge(uid)

    def node_of(self, uid: PodUid) -> NodeName | None:
        """The node a pod is charged to: bound or assumed."""
        charged = self._charged.get(uid)
        return charged[0] if charged else None

    def pods_on(self, name: NodeName) -> Iterator[Pod]:
        """The pods charged to a node, bound and assumed."""
        return (self.pods[uid] for uid in self._on.get(name, ()))

    def charged_on(self, name: NodeName) -> list[tuple[Pod, Pod]]:
        """The same, each with the pod as it was when it was charged: what the snapshot has of it."""
        return [(self.pods[uid], self._charged[uid][1]) for uid in self._on.get(name, ())]

    def _charge(self, pod: Pod, node: NodeName) -> None:
        was = self._charged.get(pod.uid)
        if was and was[0] == node and _takes_alike(was[1], pod):
            return
        if was:
            self._discharge(pod.uid)
        self._charged[pod.uid] = (node, pod)
        self._on.setdefault(node, {})[pod.uid] = None
        self.priorities[pod.spec.priority] = self.priorities.get(pod.spec.priority, 0) + 1
        self._note(node)
        if (slot := self.snap.slot_of.get(node)) is not None:
            self.snap.charge(slot, pod, 1)

    def _discharge(self, uid: PodUid) -> None:
        if (was := self._charged.pop(uid, None)) is None:
            return
        node, pod = was
        del self._on[node][uid]
        if not self._on[node]:
            del self._on[node]
        priority = pod.spec.priority
        self.priorities[priority] -= 1
        if not self.priorities[priority]:
            del self.priorities[priority]
        self._note(node)
        if (slot := self.snap.slot_of.get(node)) is not None:
            self.snap.charge(slot, pod, -1)

    def _note(self, node: NodeName) -> None:
        if (slot := self.snap.slot_of.get(node)) is not None:
            self.moved.add(slot)
            self.moved.keep = changes_kept(self.snap.capacity)

    # -- other objects -------------------------------------------------------------------------------------------

    def put_object(self, new: AnyObject) -> AnyObject | None:
        """Adds or replaces a volume, claim, service, ...; returns what it was before."""
        before = self.snap.objects.put(new)
        if before != new:
            self.snap.volumes.changed(before, new)
        return before

    def drop_object(self, kind: ObjectKind, key: str) -> AnyObject | None:
        """Forgets one; returns what it was."""
        before = self.snap.objects.drop(kind, key)
        if before is not None:
            self.snap.volumes.changed(before, None)
        return before

    def put_namespace(self, namespace: Namespace) -> Namespace | None:
        """Adds or replaces a namespace; returns what it was before."""
        before = self.namespaces.get(namespace.name)
        self.namespaces[namespace.name] = namespace
        self.snap.put_namespace(namespace.name, namespace.labels)
        return before

    def drop_namespace(self, name: str) -> Namespace | None:
        self.snap.drop_namespace(name)
        return self.namespaces.pop(name, None)

    # -- checks --------------------------------------------------------------------------------------------------

    def debug_check(self) -> None:
        """Compares the arrays with ones built anew from pods and nodes. For tests. Raises AssertionError on a difference."""
        fresh = Cluster(self._grid, self._default)
        for node in self.snap.nodes:
            if node is not None:
                fresh.put_node(node)
        for kind in KINDS:
            for found in self.snap.objects.all(kind).values():
                fresh.put_object(found)
        for uid, pod in self.pods.items():
            fresh.put_pod(pod)
            if uid in self.assumed:
                fresh.assume(uid, self.assumed[uid])
        old, new = self.snap, fresh.snap
        assert set(old.slot_of) == set(new.slot_of)
        assert int(old.alive.sum()) == len(old.slot_of)
        names = sorted(old.slot_of)
        mine = np.array([old.slot_of[n] for n in names], np.intp)
        theirs = np.array([new.slot_of[n] for n in names], np.intp)
        for what in ("pod_count", "max_pods", "unschedulable", "hash64"):
            assert (getattr(old, what)[mine] == getattr(new, what)[theirs]).all(), what
        for kept, anew in zip(old.basics(mine), new.basics(theirs), strict=True):
            assert (kept == anew).all(), (kept, anew)
        for resource in old.resource_of:
            new.know_resource(resource)  # a node that offered it may have gone, and pods that ask for it not
        for resource, row in old.resource_of.items():
            other = new.resource_of[resource]
            for name in ("allocatable", "requested"):
                have = getattr(old, name)[row, mine]
                want = getattr(new, name)[other, theirs]
                assert (have == want).all(), (name, resource)
        for a, b, n in zip(mine, theirs, names, strict=True):
            assert old.taint_classes[old.taint_class[a]] == new.taint_classes[new.taint_class[b]], n
            zone = old.grid_zones[old.grid_zone[a]] if old.grid_zone[a] >= 0 else None
            assert zone == self.zones[n].grid_zone, n
        assert _ports_by_name(old) == _ports_by_name(new)
        assert old.images.counts() == new.images.counts()  # their sizes depend on who reported them first
        for image in old.images.counts():
            have = old.images.having(image)[mine]
            assert (have == new.images.having(image)[theirs]).all(), image
        assert old.volumes.shown() == new.volumes.shown()
        assert _peers_by_name(old) == _peers_by_name(new)
        for wanted, count in old.peers.asked():
            assert (count.pods[mine] == new.peers.matching(wanted).pods[theirs]).all(), wanted
            assert count.pods.sum() == count.pods[mine].sum(), wanted


def _takes_alike(was: Pod, now: Pod) -> bool:
    """Whether a pod takes the same from its node as before."""
    return was.terminating == now.terminating and was.spec == now.spec and was.takes == now.takes


def _peers_by_name(snap: Snapshot) -> dict[object, dict[str, int]]:
    return {
        what: {node.name: pods for slot, pods in by_slot.items() if (node := snap.nodes[slot])}
        for what, by_slot in snap.peers.shown().items()
    }


def _ports_by_name(snap: Snapshot) -> dict[tuple[str, int], dict[str, dict[str, int]]]:
    return {
        port: {node.name: dict(ips) for slot, ips in by_slot.items() if (node := snap.nodes[slot])}
        for port, by_slot in snap.ports.items()
    }
