"""The scheduler's core: events in, effects out. Read this file first.

    apply(event)        takes in what happened; decides nothing
    decide(at, limit)   takes up to `limit` pods off the queue, in its order, and returns what to do

No I/O, no clock, no randomness, no logging: equal events give equal effects, byte for byte. One attempt is, in order:

    1. pop      the next pending pod of ours
    2. filter   which nodes may run it, by upstream's plugins
    3. choose   among them the cleanest, by the policy; upstream's score decides between equally clean ones
    4. assume   charge it to the node, so that the next pod sees the room gone
    5. bind     ask the shell for the Binding; the answer comes back as an event. A pod whose volumes are still to be chosen
                waits for them first

If no node fits, room may be made by evicting pods of lower priority (room.py); the pod waits for a change that may help.

An assumption ends by the watch's echo, a deletion, or a definite refusal. A Binding whose answer was lost is settled by
reading the pod, and while that shows it unbound the same Binding is sent again, with a growing backoff: never another, for
the first may still land.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from carbon_scheduler.core.cluster import Cluster
from carbon_scheduler.core.cycle import Cycle
from carbon_scheduler.core.decision import (
    Bind,
    PodDetected,
    PodWarning,
    ReadPod,
    Unschedulable,
    ZoneNotKnown,
    ZonesInUse,
)
from carbon_scheduler.core.emissions import GridCarbon
from carbon_scheduler.core.events import (
    Bound,
    CarbonChanged,
    Event,
    Evicted,
    NamespaceChanged,
    NamespaceGone,
    NodeChanged,
    NodeGone,
    NotEvicted,
    ObjectChanged,
    ObjectGone,
    PodChanged,
    PodGone,
    PodRead,
    Refused,
    Synced,
    Tick,
    Unknown,
    VolumesNotWritten,
    VolumesWritten,
)
from carbon_scheduler.core.grid_use import GridUse
from carbon_scheduler.core.plugin import Change
from carbon_scheduler.core.policies import unknown

if TYPE_CHECKING:
    from carbon_scheduler.core.decision import Effect
    from carbon_scheduler.core.grid import GridZones
    from carbon_scheduler.core.model import GridZone, Node, NodeName, Pod, PodUid
    from carbon_scheduler.core.settings import Settings


class Scheduler:
    """See the module's docstring. Everything is driven from one thread."""

    def __init__(self, settings: Settings, grid: GridZones) -> None:
        self.cluster = Cluster(grid, settings.default_grid_zone)
        self.carbon = GridCarbon(self.cluster.snap, settings.signal)
        self.cycle = Cycle(settings, self.cluster, self.carbon)
        self._gated: dict[PodUid, float] = {}
        """When each was first seen."""
        self._grid_use = GridUse(self.carbon, settings.first_data_wait_s)
        self._unknown_zones: dict[str, None] = {}
        self._zones_moved = False
        self._zones_told: tuple[GridZone, ...] = ()
        self._synced = False

    # -- what happened -------------------------------------------------------------------------------------------

    def apply(self, event: Event) -> None:
        """Takes in one event. Cost: a few µs; a node or a freed pod also asks every parked pod's plugins."""
        self.cycle.at, self.cycle.wall = event.at, event.wall
        match event:
            case PodChanged(pod=pod):
                self._pod(pod)
            case PodGone(uid=uid):
                self._pod_gone(uid)
            case Bound(uid=uid, seq=seq):
                self.cycle.bound(uid, seq)
            case Refused():
                self.cycle.refused(event)
            case Unknown(uid=uid, seq=seq, message=why):
                self.cycle.lost(uid, seq, why)
            case PodRead(uid=uid, seq=seq, pod=answer):
                self._pod_read(uid, seq, answer)
            case VolumesWritten(uid=uid, seq=seq):
                self.cycle.volumes.written(uid, seq)
            case VolumesNotWritten(uid=uid, seq=seq, message=why):
                self.cycle.volumes_not_written(uid, seq, why)
            case Evicted(uid=uid):
                self.cycle.free(self.cycle.room.evictions.accept(uid))
            case NotEvicted(uid=uid):
                self.cycle.free(self.cycle.room.evictions.fail(uid))
            case NodeChanged(node=node):
                self._node(node)
            case NodeGone(name=name):
                self._node_gone(name)
            case CarbonChanged(grid_zone=grid_zone, value=value):
                self.carbon.put(grid_zone, value)
                self._grid_use.answered(grid_zone)
            case NamespaceChanged(namespace=namespace):
                before = self.cluster.put_namespace(namespace)
                if before is None or before.labels != namespace.labels:
                    self.cycle.wake(Change("namespace", namespace=namespace))
            case NamespaceGone(name=gone):
                self.cluster.drop_namespace(gone)
            case ObjectChanged(object=found):
                was = self.cluster.put_object(found)
                if was != found:
                    self.cycle.wake(Change("object", object_before=was, object=found))
            case ObjectGone(kind=kind, key=key):
                if (was := self.cluster.drop_object(kind, key)) is not None:
                    self.cycle.wake(Change("object", object_before=was))
            case Synced():
                self._begin()
            case Tick():
                pass

    def _pod(self, pod: Pod) -> None:
        charged_to = self.cluster.node_of(pod.uid)
        before, after = self.cluster.put_pod(pod)
        if after is None:
            self._left(pod.uid, before, charged_to)
            return
        uid, gated_since = after.uid, None
        if after.terminating:
            self.cycle.free(self.cycle.room.evictions.going(uid))
        if after.gated and not after.node_name and self.cycle.serves(after):
            self._gated.setdefault(uid, self.cycle.at)
        else:
            gated_since = self._gated.pop(uid, None)
        if after.node_name:
            self._settled(uid)
            if before is None or not before.node_name:
                if charged_to and charged_to != after.node_name:  # it was assumed elsewhere
                    self.cycle.overcommitments.changed(charged_to)
                    self.cycle.wake(Change("pod-gone", pod=before))
                if charged_to != after.node_name:
                    self.cycle.overcommitments.changed(after.node_name)
                self.cycle.wake(Change("pod-placed", pod=after))
            elif before.spec.labels != after.spec.labels:
                self.cycle.wake(Change("pod-labels", pod_before=before, pod=after))
        if charged_to and before and before.takes != after.takes:
            self.cycle.overcommitments.changed(charged_to)
        if charged_to and before and before.takes.reduced_to(after.takes):
            self.cycle.wake(Change("pod-shrunk", pod_before=before, pod=after))
        if after.terminating and not after.node_name and uid in self.cycle.volumes:
            self.cycle.give_up(uid, "")  # it would keep room for as long as it waits (handleAssumedPodDeletion)
        if after.node_name or uid in self.cycle.bindings:
            return
        self.cycle.room.told(before, after, served=self.cycle.serves(after))
        if before is not None and before.nominated_node_name != after.nominated_node_name:
            self._no_longer_nominated(before)
        if not self.cycle.ours(after):
            self.cycle.queue.drop(uid)
        elif uid not in self.cycle.queue:
            tie = (after.created_s, len(after.key), after.key)  # job-2 before job-10
            self.cycle.queue.add(uid, after.spec.priority, self.cycle.at, since=gated_since, tie=tie)
            if self._synced:
                self._detected(after)
        elif before is not None:
            if before.spec != after.spec or before.refusal != after.refusal:
                self.cycle.changed_itself(before, after)
            if self._synced and before.annotations != after.annotations:
                self._warn(after)

    def _begin(self) -> None:
        """From now on decisions are made: at the start, and on taking over. What is pending by then is detected now."""
        if self._synced:
            return
        self._synced = True
        for pod in self.cluster.pods.values():
            if pod.uid in self.cycle.queue:
                self._detected(pod)
        self._grid_use.begin(self.cycle.at)

    def _detected(self, pod: Pod) -> None:
        self.cycle.outbox.append(PodDetected(pod.uid, pod.namespace, pod.name))
        self._warn(pod)

    def _warn(self, pod: Pod) -> None:
        if (warning := unknown(pod)) is not None:
            self.cycle.outbox.append(warning)

    def _pod_read(self, uid: PodUid, seq: int, answer: Pod | None) -> None:
        if answer is None or answer.uid != uid:
            self._pod_gone(uid)
        else:
            self._pod(answer)
            self.cycle.read(uid, seq)

    def _pod_gone(self, uid: PodUid) -> None:
        charged_to = self.cluster.node_of(uid)
        self._left(uid, self.cluster.drop_pod(uid), charged_to)

    def _left(self, uid: PodUid, before: Pod | None, charged_to: NodeName | None) -> None:
        """A pod finished or was deleted: whatever it took is free."""
        if charged_to:
            self.cycle.overcommitments.changed(charged_to)
        was_assumed = uid in self.cycle.bindings
        self.cycle.free(self.cycle.room.evictions.going(uid))
        self._settled(uid)
        if before is not None and (before.node_name or was_assumed):
            self.cycle.wake(Change("pod-gone", pod=before))
        elif before is not None:
            self._no_longer_nominated(before)

    def _no_longer_nominated(self, before: Pod) -> None:
        """Room was kept for it from pods that do not outrank it (v1.36.3 eventhandlers.go, hasNominatedNodeNameChanged)."""
        if before.nominated_node_name and self.cycle.serves(before):
            self.cycle.wake(Change("pod-gone", pod=before), at_most=before.spec.priority)

    def _settled(self, uid: PodUid) -> None:
        self.cycle.bindings.end(uid)
        self.cycle.volumes.end(uid)
        self._gated.pop(uid, None)
        self.cycle.queue.drop(uid)
        self.cycle.room.leave(uid)

    def _node(self, node: Node) -> None:
        old_zone = self.cluster.zones.get(node.name)
        before = self.cluster.put_node(node)
        zone = self.cluster.zones[node.name]
        if zone.problem is not None and zone.problem.text not in self._unknown_zones:
            self._unknown_zones[zone.problem.text] = None
            self.cycle.outbox.append(ZoneNotKnown(node.name, zone.problem.text, zone.where, zone.problem.nearest))
        self._move(old_zone.grid_zone if old_zone else None, zone.grid_zone)
        if before != node:
            self.cycle.overcommitments.changed(node.name)
            self.cycle.wake(Change("node", node_before=before, node=node))

    def _node_gone(self, name: NodeName) -> None:
        zone = self.cluster.zones.get(name)
        if zone is not None:
            before = self.cluster.drop_node(name)
            self.cycle.overcommitments.changed(name)
            self._move(zone.grid_zone, None)
            self.cycle.wake(Change("node-gone", node_before=before))

    def _move(self, before: GridZone | None, after: GridZone | None) -> None:
        self._zones_moved = self._grid_use.move(before, after, self.cycle.at) or self._zones_moved

    # -- what to do --------------------------------------------------------------------------------------------------

    def decide(self, at: float, limit: int) -> list[Effect]:
        """Effects that are due, and those of up to `limit` attempts. Cost: O(nodes) vector operations an attempt."""
        self.cycle.wall += max(at - self.cycle.at, 0.0)
        self.cycle.at = max(at, self.cycle.at)
        self._tell_zones()
        if self._synced:
            self.cycle.outbox += self.cycle.overcommitments.news()
        self.cycle.outbox.sort(key=_whose)  # the order in which events of one batch were told must not matter
        self.cycle.due()
        if self._ready():
            for _ in range(limit):
                uid = self.cycle.queue.pop(self.cycle.at)
                if uid is None or self.cycle.attempt(self.cluster.pods[uid]):
                    break
        effects, self.cycle.outbox = self.cycle.outbox, []
        return effects

    def _tell_zones(self) -> None:
        """If after all that happened since other grid zones are in use."""
        if self._zones_moved:
            self._zones_moved = False
            if (zones := self._grid_use.zones) != self._zones_told:
                self._zones_told = zones
                self.cycle.outbox.append(ZonesInUse(zones))

    def next_at(self) -> float | None:
        """The monotonic time from which `decide` may have something to do without a further event; None: never.

        -inf means at once.
        """
        if self.cycle.outbox or self._zones_moved:
            return float("-inf")
        if not self._synced:
            return None
        due, waits = self.cycle.queue.next_at(), self._grid_use.waits_until(self.cycle.at)
        if due is not None and waits is not None:
            due = max(due, waits)
        times = (due, self.cycle.bindings.next_at(), self.cycle.volumes.next_at())
        return min((when for when in times if when is not None), default=None)

    @property
    def overcommitted_nodes(self) -> int:
        """How many nodes offer less than their pods request."""
        return len(self.cycle.overcommitments)

    @property
    def grid_zones_in_use(self) -> tuple[GridZone, ...]:
        """The grid zones of the nodes, sorted."""
        return self._grid_use.zones

    def counts(self) -> dict[str, int]:
        """How many pods of ours are active, backing off, unschedulable, being bound, gated."""
        return {**self.cycle.queue.counts(), "gated": len(self._gated)}

    def _ready(self) -> bool:
        """Whether decisions may be made: lists complete, and no zone's first answer still awaited."""
        return self._synced and self._grid_use.waits_until(self.cycle.at) is None


def _whose(effect: Effect) -> tuple[str, int, str]:
    """Orders effects by the pod that they are about, those about none first; those about one keep their order."""
    if isinstance(effect, (Bind, PodDetected, PodWarning, ReadPod, Unschedulable)):
        return effect.namespace, len(effect.name), effect.name
    return "", 0, ""
