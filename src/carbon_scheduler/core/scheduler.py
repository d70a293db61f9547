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

import msgspec
import numpy as np

from carbon_scheduler.core.bindings import Bindings
from carbon_scheduler.core.cluster import Cluster
from carbon_scheduler.core.decision import (
    Bind,
    Effect,
    Nominate,
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
from carbon_scheduler.core.framework import Framework
from carbon_scheduler.core.grid_use import GridUse
from carbon_scheduler.core.overcommit import Overcommitments
from carbon_scheduler.core.placement import Placer
from carbon_scheduler.core.plugin import Change
from carbon_scheduler.core.plugins import make_profile
from carbon_scheduler.core.plugins.volume_binding import plan
from carbon_scheduler.core.policies import Policies, unknown
from carbon_scheduler.core.queue import Queue
from carbon_scheduler.core.room import Room
from carbon_scheduler.core.verdict import Ranks
from carbon_scheduler.core.volume_bindings import VolumeBindings
from carbon_scheduler.core.volumes import VolumePlan
from carbon_scheduler.core.waking import Waking, alike

if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Literal

    from numpy.typing import NDArray

    from carbon_scheduler.core.bindings import Binding
    from carbon_scheduler.core.evictions import Freed
    from carbon_scheduler.core.grid import GridZones
    from carbon_scheduler.core.model import GridZone, Node, NodeName, Pod, PodUid
    from carbon_scheduler.core.settings import Settings
    from carbon_scheduler.core.verdict import Verdict

_BIND = 'running Bind plugin "DefaultBinder": '
_RESERVE = 'running Reserve plugin "VolumeBinding": a volume or claim has changed since it was chosen'
_PREBIND = 'running PreBind plugin "VolumeBinding": '


class Scheduler:
    """See the module's docstring. Everything is driven from one thread."""

    def __init__(self, settings: Settings, grid: GridZones) -> None:
        self.cluster = Cluster(grid, settings.default_grid_zone)
        self.carbon = GridCarbon(self.cluster.snap, settings.signal)
        self._frameworks = {p.scheduler_name: Framework(make_profile(p), self.cluster.snap) for p in settings.profiles}
        self._policies = Policies(settings, self.cluster.namespaces)
        self._placer = Placer(settings.placement, self.cluster, self.carbon)
        self._room = Room(settings, self.cluster)
        self._nominations, self._evictions = self._room.nominations, self._room.evictions
        self._queue = Queue(settings.initial_backoff_s, settings.max_backoff_s, settings.flush_unschedulable_s)
        self._bindings = Bindings(settings.initial_backoff_s, settings.max_backoff_s)
        self._waking = Waking(self._frameworks, self.cluster, self._queue, self._evictions)
        self._volumes = VolumeBindings(self.cluster.snap)
        self._bind_timeout_s = {p.scheduler_name: p.bind_timeout_s for p in settings.profiles}
        self._gated: dict[PodUid, float] = {}
        """When each was first seen."""
        self._outbox: list[Effect] = []
        self._grid_use = GridUse(self.carbon, settings.first_data_wait_s)
        self._overcommitments = Overcommitments(self.cluster.snap, settings.profiles[0].scheduler_name)
        self._unknown_zones: dict[str, None] = {}
        self._zones_moved = False
        self._zones_told: tuple[GridZone, ...] = ()
        self._synced = False
        self._at = self._wall = 0.0

    # -- what happened -------------------------------------------------------------------------------------------

    def apply(self, event: Event) -> None:
        """Takes in one event. Cost: a few µs; a node or a freed pod also asks every parked pod's plugins."""
        self._at, self._wall = event.at, event.wall
        match event:
            case PodChanged(pod=pod):
                self._pod(pod)
            case PodGone(uid=uid):
                self._pod_gone(uid)
            case Bound(uid=uid, seq=seq):
                self._bound(uid, seq)
            case Refused():
                self._refused(event)
            case Unknown(uid=uid, seq=seq, message=why):
                self._lost(uid, seq, why)
            case PodRead(uid=uid, seq=seq, pod=answer):
                self._pod_read(uid, seq, answer)
            case VolumesWritten(uid=uid, seq=seq):
                self._volumes.written(uid, seq)
            case VolumesNotWritten(uid=uid, seq=seq, message=why):
                if self._volumes.concerns(uid, seq):
                    self._give_up(uid, _PREBIND + why)
            case Evicted(uid=uid):
                self._free(self._evictions.accept(uid))
            case NotEvicted(uid=uid):
                self._free(self._evictions.fail(uid))
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
                    self._wake(Change("namespace", namespace=namespace))
            case NamespaceGone(name=gone):
                self.cluster.drop_namespace(gone)
            case ObjectChanged(object=found):
                was = self.cluster.put_object(found)
                if was != found:
                    self._wake(Change("object", object_before=was, object=found))
            case ObjectGone(kind=kind, key=key):
                if (was := self.cluster.drop_object(kind, key)) is not None:
                    self._wake(Change("object", object_before=was))
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
            self._free(self._evictions.going(uid))
        if after.gated and not after.node_name and after.scheduler_name in self._frameworks:
            self._gated.setdefault(uid, self._at)
        else:
            gated_since = self._gated.pop(uid, None)
        if after.node_name:
            self._settled(uid)
            if before is None or not before.node_name:
                if charged_to and charged_to != after.node_name:  # it was assumed elsewhere
                    self._overcommitments.changed(charged_to)
                    self._wake(Change("pod-gone", pod=before))
                if charged_to != after.node_name:
                    self._overcommitments.changed(after.node_name)
                self._wake(Change("pod-placed", pod=after))
            elif before.spec.labels != after.spec.labels:
                self._wake(Change("pod-labels", pod_before=before, pod=after))
        if charged_to and before and before.takes != after.takes:
            self._overcommitments.changed(charged_to)
        if charged_to and before and before.takes.reduced_to(after.takes):
            self._wake(Change("pod-shrunk", pod_before=before, pod=after))
        if after.terminating and not after.node_name and uid in self._volumes:
            self._give_up(uid, "")  # it would keep room for as long as it waits (handleAssumedPodDeletion)
        if after.node_name or uid in self._bindings:
            return
        self._room.told(before, after, served=after.scheduler_name in self._frameworks)
        if before is not None and before.nominated_node_name != after.nominated_node_name:
            self._no_longer_nominated(before)
        if not self._ours(after):
            self._queue.drop(uid)
        elif uid not in self._queue:
            tie = (after.created_s, len(after.key), after.key)  # job-2 before job-10
            self._queue.add(uid, after.spec.priority, self._at, since=gated_since, tie=tie)
            if self._synced:
                self._detected(after)
        elif before is not None:
            if before.spec != after.spec or before.refusal != after.refusal:
                change = Change("self", pod_before=before, pod=after)
                of_a_kind = None if uid in self._evictions else alike(after)
                self._queue.touch(uid, self._at, of_a_kind, lambda by: self._waking.helped_itself(change, by))
            if self._synced and before.annotations != after.annotations:
                self._warn(after)

    def _begin(self) -> None:
        """From now on decisions are made: at the start, and on taking over. What is pending by then is detected now."""
        if self._synced:
            return
        self._synced = True
        for pod in self.cluster.pods.values():
            if pod.uid in self._queue:
                self._detected(pod)
        self._grid_use.begin(self._at)

    def _detected(self, pod: Pod) -> None:
        self._outbox.append(PodDetected(pod.uid, pod.namespace, pod.name))
        self._warn(pod)

    def _ours(self, pod: Pod) -> bool:
        return pod.scheduler_name in self._frameworks and not (pod.gated or pod.terminating)

    def _warn(self, pod: Pod) -> None:
        if (warning := unknown(pod)) is not None:
            self._outbox.append(warning)

    def _pod_gone(self, uid: PodUid) -> None:
        charged_to = self.cluster.node_of(uid)
        self._left(uid, self.cluster.drop_pod(uid), charged_to)

    def _left(self, uid: PodUid, before: Pod | None, charged_to: NodeName | None) -> None:
        """A pod finished or was deleted: whatever it took is free."""
        if charged_to:
            self._overcommitments.changed(charged_to)
        was_assumed = uid in self._bindings
        self._free(self._evictions.going(uid))
        self._settled(uid)
        if before is not None and (before.node_name or was_assumed):
            self._wake(Change("pod-gone", pod=before))
        elif before is not None:
            self._no_longer_nominated(before)

    def _no_longer_nominated(self, before: Pod) -> None:
        """Room was kept for it from pods that do not outrank it (v1.36.3 eventhandlers.go, hasNominatedNodeNameChanged)."""
        if before.nominated_node_name and before.scheduler_name in self._frameworks:
            self._wake(Change("pod-gone", pod=before), at_most=before.spec.priority)

    def _settled(self, uid: PodUid) -> None:
        self._bindings.end(uid)
        self._volumes.end(uid)
        self._gated.pop(uid, None)
        self._queue.drop(uid)
        self._room.leave(uid)

    def _node(self, node: Node) -> None:
        old_zone = self.cluster.zones.get(node.name)
        before = self.cluster.put_node(node)
        zone = self.cluster.zones[node.name]
        if zone.problem is not None and zone.problem.text not in self._unknown_zones:
            self._unknown_zones[zone.problem.text] = None
            self._outbox.append(ZoneNotKnown(node.name, zone.problem.text, zone.where, zone.problem.nearest))
        self._move(old_zone.grid_zone if old_zone else None, zone.grid_zone)
        if before != node:
            self._overcommitments.changed(node.name)
            self._wake(Change("node", node_before=before, node=node))

    def _node_gone(self, name: NodeName) -> None:
        zone = self.cluster.zones.get(name)
        if zone is not None:
            before = self.cluster.drop_node(name)
            self._overcommitments.changed(name)
            self._move(zone.grid_zone, None)
            self._wake(Change("node-gone", node_before=before))

    def _move(self, before: GridZone | None, after: GridZone | None) -> None:
        self._zones_moved = self._grid_use.move(before, after, self._at) or self._zones_moved

    # -- answers to Bindings ---------------------------------------------------------------------------------------

    def _bound(self, uid: PodUid, seq: int) -> None:
        """The echo will end the assumption; until then the pod stays charged to its node."""
        if binding := self._bindings.present(uid, seq):
            self._bindings.accepted(binding)

    def _refused(self, event: Refused) -> None:
        binding = self._bindings.present(event.uid, event.seq)
        if binding is None or binding.reading:  # nothing is under way while it is read: said twice
            return
        if event.code in (0, 429) and binding.lost:  # this one never arrived, which says nothing about the lost one
            binding.why = event.message
            self._read(binding)
        elif event.code in (404, 409) or binding.lost:
            binding.lost, binding.why = False, event.message
            self._read(binding)
        else:
            self._give_up(event.uid, _BIND + event.message)

    def _lost(self, uid: PodUid, seq: int, why: str) -> None:
        if binding := self._bindings.present(uid, seq):
            binding.lost, binding.why = True, why
            self._read(binding)

    def _read(self, binding: Binding) -> None:
        if not binding.reading:
            self._bindings.read(binding)
            bind = binding.effect
            self._outbox.append(ReadPod(bind.uid, bind.namespace, bind.name, bind.decision.seq))

    def _pod_read(self, uid: PodUid, seq: int, answer: Pod | None) -> None:
        if answer is None or answer.uid != uid:
            self._pod_gone(uid)
            return
        self._pod(answer)
        binding = self._bindings.present(uid, seq)
        if binding is None or not binding.reading:
            return
        binding.reading = False
        if not binding.lost:
            self._give_up(uid, _BIND + binding.why)
        elif self._still_fits(binding):
            if binding.sent > 1:
                self._say(self.cluster.pods[uid], "SchedulerError", f"binding was not answered: {binding.why}")
            self._bindings.repeat(binding, self._at)

    def _still_fits(self, binding: Binding) -> bool:
        """Whether the assumed pod could be assumed on its node again, as things are now; if not, it is given up."""
        uid, node = binding.effect.uid, binding.effect.node
        pod, slot = self.cluster.pods[uid], self.cluster.snap.slot_of.get(node)
        if slot is not None and self._ours(pod):
            self.cluster.forget(uid)
            fits = bool(self._frameworks[pod.scheduler_name].judge(pod).feasible[slot])
            self.cluster.assume(uid, node)
            if fits:
                return True
        self._give_up(uid, f"{_BIND}its answer was lost, and the pod does not fit on {node} any more")
        return False

    def _give_up(self, uid: PodUid, why: str) -> None:
        """The Binding was certainly not carried out: the room is free again, the pod is tried again after a backoff."""
        self._bindings.end(uid)
        self._volumes.end(uid)
        if node := self.cluster.node_of(uid):
            self._overcommitments.changed(node)
        self.cluster.forget(uid)
        pod = self.cluster.pods[uid]
        if self._ours(pod):
            self._queue.retry(uid, self._at)
            self._say(pod, "SchedulerError", why, nominate="")
        else:
            self._queue.drop(uid)
        self._wake(Change("pod-gone", pod=pod))

    # -- what to do --------------------------------------------------------------------------------------------------

    def decide(self, at: float, limit: int) -> list[Effect]:
        """Effects that are due, and those of up to `limit` attempts. Cost: O(nodes) vector operations an attempt."""
        self._wall += max(at - self._at, 0.0)
        self._at = max(at, self._at)
        self._tell_zones()
        if self._synced:
            self._outbox += self._overcommitments.news()
        self._outbox.sort(key=_whose)  # the order in which events of one batch were told must not matter
        self._outbox += [binding.effect for binding in self._bindings.due(self._at) if self._still_fits(binding)]
        for bind, problem in [*self._volumes.due(self._at)]:
            self._volumes_ended(bind, problem)
        if self._ready():
            for _ in range(limit):
                uid = self._queue.pop(self._at)
                if uid is None or self._attempt(self.cluster.pods[uid]):
                    break
        effects, self._outbox = self._outbox, []
        return effects

    def _tell_zones(self) -> None:
        """If after all that happened since other grid zones are in use."""
        if self._zones_moved:
            self._zones_moved = False
            if (zones := self._grid_use.zones) != self._zones_told:
                self._zones_told = zones
                self._outbox.append(ZonesInUse(zones))

    def next_at(self) -> float | None:
        """The monotonic time from which `decide` may have something to do without a further event; None: never.

        -inf means at once.
        """
        if self._outbox or self._zones_moved:
            return float("-inf")
        if not self._synced:
            return None
        due, waits = self._queue.next_at(), self._grid_use.waits_until(self._at)
        if due is not None and waits is not None:
            due = max(due, waits)
        times = (due, self._bindings.next_at(), self._volumes.next_at())
        return min((when for when in times if when is not None), default=None)

    @property
    def overcommitted_nodes(self) -> int:
        """How many nodes offer less than their pods request."""
        return len(self._overcommitments)

    @property
    def grid_zones_in_use(self) -> tuple[GridZone, ...]:
        """The grid zones of the nodes, sorted."""
        return self._grid_use.zones

    def counts(self) -> dict[str, int]:
        """How many pods of ours are active, backing off, unschedulable, being bound, gated."""
        return {**self._queue.counts(), "gated": len(self._gated)}

    def _ready(self) -> bool:
        """Whether decisions may be made: lists complete, and no zone's first answer still awaited."""
        return self._synced and self._grid_use.waits_until(self._at) is None

    def _attempt(self, pod: Pod) -> bool:
        """One pod's turn. True: it took so long (it looked for victims) that the shell should get its own."""
        uid = pod.uid
        if uid in self._evictions:  # as long as evictions are under way it would only look for further victims
            self._queue.put_back(uid)
            return False
        if pod.refusal:
            self._queue.park(uid, self._at, (), alike(pod))
            self._say(pod, "SchedulerError", pod.refusal)
            return False
        verdict = self._frameworks[pod.scheduler_name].judge(pod)
        self._nominations.heed(pod, verdict)
        nominated = self._room.kept_for(pod, verdict)
        policy = self._policies.of(pod)
        field = None if nominated is not None or policy == "weighted" else self._placer.field(verdict)
        feasible = 1 if nominated is not None else field.feasible if field else int(np.count_nonzero(verdict.feasible))
        if nominated is None and (failed := verdict.error or (verdict.failed if feasible > 1 else "")):
            self._queue.retry(uid, self._at)
            self._say(pod, "SchedulerError", failed, nominate="")
            return False
        if not feasible:
            return self._no_node(pod, verdict)
        nodes = field or (verdict.ranks() if nominated is None else _only(nominated, len(verdict.feasible)))
        decision = self._placer.place(pod, policy, nodes, feasible, self._wall)
        volumes = self._volumes_of(pod, decision.node)
        self.cluster.assume(uid, decision.node)
        self._nominations.put(uid, None)
        effect = Bind(
            uid,
            pod.namespace,
            pod.name,
            decision.node,
            decision,
            annotations_b=pod.annotations_b,
            attempts=self._queue.attempts(uid),
            waited_s=self._at - self._queue.first_at(uid),
            scheduler_name=pod.scheduler_name,
        )
        self._bindings.ask(effect)
        if volumes.nothing_to_do:
            self._outbox.append(effect)
        elif asked := self._volumes.ask(effect, volumes, self._at + self._bind_timeout_s[pod.scheduler_name]):
            if pod.nominated_node_name != decision.node:  # it may take long: others can see where it is going to be
                self._outbox.append(Nominate(uid, pod.namespace, pod.name, decision.node))
            self._outbox.append(asked)
        else:
            self._give_up(uid, _RESERVE)
        return False

    def _no_node(self, pod: Pod, verdict: Verdict) -> bool:
        """Nothing is feasible: room may be made. The pod waits for a change in any case. Whether it took long."""
        uid = pod.uid
        rejecting = verdict.rejecting if len(self.cluster.snap) else ()
        made = self._room.make(pod, verdict, self._costs_g(pod), self._volumes.__contains__)
        self._outbox += made.effects
        self._queue.park(uid, self._at, rejecting, None if uid in self._evictions else alike(pod))
        self._say(pod, "Unschedulable", made.message, nominate=made.nominate, victims=made.victims)
        for victim in made.unbound:
            self._give_up(victim.uid, f"{_PREBIND}preempted by DefaultPreemption")
        return made.long

    def _costs_g(self, pod: Pod) -> NDArray[np.float64] | None:
        return None if self._policies.of(pod) == "off" else self.carbon.costs.cost_g

    def _free(self, freed: Iterable[Freed]) -> None:
        """Pods whose evictions are all answered wait for their victims' end like others, or are tried again."""
        for one in freed:
            if one.uid in self._queue:
                self._queue.touch(one.uid, self._at, alike(self.cluster.pods[one.uid]), one.woken)

    def _volumes_of(self, pod: Pod, node: NodeName) -> VolumePlan:
        """How the pod's claims are to be met on the node that was chosen."""
        plugins = self._frameworks[pod.scheduler_name].plugins
        if not pod.spec.volumes or not any(plugin.name == "VolumeBinding" for plugin in plugins):
            return VolumePlan()
        return plan(pod, self.cluster.snap, self.cluster.snap.slot_of[node])

    def _volumes_ended(self, bind: Bind, problem: str) -> None:
        """A pod need not wait for its volumes any longer."""
        pod = self.cluster.pods[bind.uid]
        if problem or not self._ours(pod):
            self._give_up(bind.uid, _PREBIND + problem)
            return
        self._volumes.end(bind.uid)
        self._outbox.append(msgspec.structs.replace(bind, waited_s=self._at - self._queue.first_at(bind.uid)))

    def _wake(self, change: Change, at_most: int | None = None) -> None:
        self._waking.wake(self._at, change, at_most)

    def _say(
        self,
        pod: Pod,
        reason: Literal["Unschedulable", "SchedulerError"],
        message: str,
        *,
        nominate: NodeName | Literal[""] | None = None,
        victims: int | None = None,
    ) -> None:
        """Tells why a pod was not scheduled, and in the same write where room is kept for it ("": nowhere, None: as before)."""
        said = f"{reason}: {message}"
        if nominate is not None:
            self._nominations.put(pod.uid, nominate or None)
        self._outbox.append(
            Unschedulable(
                pod.uid,
                pod.namespace,
                pod.name,
                reason,
                message,
                patch=pod.scheduled_message != said or nominate not in (None, pod.nominated_node_name or ""),
                news=self._queue.says(pod.uid, said),
                scheduler_name=pod.scheduler_name,
                generation=pod.generation,
                nominate=nominate,
                victims=victims,
            )
        )


def _only(slot: int, capacity: int) -> Ranks:
    """One node alone."""
    ranked = np.full(capacity, -1, np.int64)
    ranked[slot] = 0
    return Ranks(ranked)


def _whose(effect: Effect) -> tuple[str, int, str]:
    """Orders effects by the pod that they are about, those about none first; those about one keep their order."""
    if isinstance(effect, (Bind, PodDetected, PodWarning, ReadPod, Unschedulable)):
        return effect.namespace, len(effect.name), effect.name
    return "", 0, ""
