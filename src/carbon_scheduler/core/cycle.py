"""A pod's way from the queue to its Binding, and back to the queue when that fails.

`attempt` is one pod's turn. What the API server answers comes back by `bound`, `refused`, `lost`, `read` and those of volumes;
a pod that is given up is tried again after a backoff. Effects pile up in `outbox` until the shell takes them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import msgspec
import numpy as np

from carbon_scheduler.core.bindings import Bindings
from carbon_scheduler.core.decision import (
    Bind,
    Nominate,
    ReadPod,
    Unschedulable,
)
from carbon_scheduler.core.framework import Framework
from carbon_scheduler.core.overcommit import Overcommitments
from carbon_scheduler.core.placement import Placer
from carbon_scheduler.core.plugin import Change
from carbon_scheduler.core.plugins import make_profile
from carbon_scheduler.core.plugins.volume_binding import plan
from carbon_scheduler.core.policies import Policies
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
    from carbon_scheduler.core.cluster import Cluster
    from carbon_scheduler.core.decision import Effect
    from carbon_scheduler.core.emissions import GridCarbon
    from carbon_scheduler.core.events import Refused
    from carbon_scheduler.core.evictions import Freed
    from carbon_scheduler.core.model import NodeName, Pod, PodUid
    from carbon_scheduler.core.settings import Settings
    from carbon_scheduler.core.verdict import Verdict

_BIND: Final = 'running Bind plugin "DefaultBinder": '
_RESERVE: Final = 'running Reserve plugin "VolumeBinding": a volume or claim has changed since it was chosen'
_PREBIND: Final = 'running PreBind plugin "VolumeBinding": '


class Cycle:
    """Of all profiles. The scheduler sets `at` (monotonic, seconds) and `wall` (Unix time, seconds): what time it is."""

    def __init__(self, settings: Settings, cluster: Cluster, carbon: GridCarbon) -> None:
        self.at = self.wall = 0.0
        self.outbox: list[Effect] = []
        self.queue = Queue(settings.initial_backoff_s, settings.max_backoff_s, settings.flush_unschedulable_s)
        self.bindings = Bindings(settings.initial_backoff_s, settings.max_backoff_s)
        self.volumes = VolumeBindings(cluster.snap)
        self.room = Room(settings, cluster)
        self.overcommitments = Overcommitments(cluster.snap, settings.profiles[0].scheduler_name)
        self._cluster = cluster
        self._carbon = carbon
        self._frameworks = {p.scheduler_name: Framework(make_profile(p), cluster.snap) for p in settings.profiles}
        self._policies = Policies(settings, cluster.namespaces)
        self._placer = Placer(settings.placement, cluster, carbon)
        self._waking = Waking(self._frameworks, cluster, self.queue, self.room.evictions)
        self._bind_timeout_s = {p.scheduler_name: p.bind_timeout_s for p in settings.profiles}

    def serves(self, pod: Pod) -> bool:
        """Whether a profile has the pod's scheduler name."""
        return pod.scheduler_name in self._frameworks

    def ours(self, pod: Pod) -> bool:
        """Whether it may be scheduled."""
        return self.serves(pod) and not (pod.gated or pod.terminating)

    # -- the attempt -----------------------------------------------------------------------------------------------

    def attempt(self, pod: Pod) -> bool:
        """One pod's turn. True: it took so long (it looked for victims) that the shell should get its own."""
        uid = pod.uid
        if uid in self.room.evictions:  # as long as evictions are under way it would only look for further victims
            self.queue.put_back(uid)
            return False
        if pod.refusal:
            self.queue.park(uid, self.at, (), alike(pod))
            self._say(pod, "SchedulerError", pod.refusal)
            return False
        verdict = self._frameworks[pod.scheduler_name].judge(pod)
        self.room.nominations.heed(pod, verdict)
        nominated = self.room.kept_for(pod, verdict)
        policy = self._policies.of(pod)
        field = None if nominated is not None or policy == "weighted" else self._placer.field(verdict)
        feasible = 1 if nominated is not None else field.feasible if field else int(np.count_nonzero(verdict.feasible))
        if nominated is None and (failed := verdict.error or (verdict.failed if feasible > 1 else "")):
            self.queue.retry(uid, self.at)
            self._say(pod, "SchedulerError", failed, nominate="")
            return False
        if not feasible:
            return self._no_node(pod, verdict)
        nodes = field or (verdict.ranks() if nominated is None else _only(nominated, len(verdict.feasible)))
        decision = self._placer.place(pod, policy, nodes, feasible, self.wall)
        volumes = self._volumes_of(pod, decision.node)
        self._cluster.assume(uid, decision.node)
        self.room.nominations.put(uid, None)
        effect = Bind(
            uid,
            pod.namespace,
            pod.name,
            decision.node,
            decision,
            annotations_b=pod.annotations_b,
            attempts=self.queue.attempts(uid),
            waited_s=self.at - self.queue.first_at(uid),
            scheduler_name=pod.scheduler_name,
        )
        self.bindings.ask(effect)
        if volumes.nothing_to_do:
            self.outbox.append(effect)
        elif asked := self.volumes.ask(effect, volumes, self.at + self._bind_timeout_s[pod.scheduler_name]):
            if pod.nominated_node_name != decision.node:  # it may take long: others can see where it is going to be
                self.outbox.append(Nominate(uid, pod.namespace, pod.name, decision.node))
            self.outbox.append(asked)
        else:
            self.give_up(uid, _RESERVE)
        return False

    def _no_node(self, pod: Pod, verdict: Verdict) -> bool:
        """Nothing is feasible: room may be made. The pod waits for a change in any case. Whether it took long."""
        uid = pod.uid
        rejecting = verdict.rejecting if len(self._cluster.snap) else ()
        made = self.room.make(pod, verdict, self._costs_g(pod), self.volumes.__contains__)
        self.outbox += made.effects
        self.queue.park(uid, self.at, rejecting, None if uid in self.room.evictions else alike(pod))
        self._say(pod, "Unschedulable", made.message, nominate=made.nominate, victims=made.victims)
        for victim in made.unbound:
            self.give_up(victim.uid, f"{_PREBIND}preempted by DefaultPreemption")
        return made.long

    def _costs_g(self, pod: Pod) -> NDArray[np.float64] | None:
        return None if self._policies.of(pod) == "off" else self._carbon.costs.cost_g

    def _volumes_of(self, pod: Pod, node: NodeName) -> VolumePlan:
        """How the pod's claims are to be met on the node that was chosen."""
        plugins = self._frameworks[pod.scheduler_name].plugins
        if not pod.spec.volumes or not any(plugin.name == "VolumeBinding" for plugin in plugins):
            return VolumePlan()
        return plan(pod, self._cluster.snap, self._cluster.snap.slot_of[node])

    # -- answers to Bindings ---------------------------------------------------------------------------------------

    def bound(self, uid: PodUid, seq: int) -> None:
        """The echo will end the assumption; until then the pod stays charged to its node."""
        if binding := self.bindings.present(uid, seq):
            self.bindings.accepted(binding)

    def refused(self, event: Refused) -> None:
        binding = self.bindings.present(event.uid, event.seq)
        if binding is None or binding.reading:  # nothing is under way while it is read: said twice
            return
        if event.code in (0, 429) and binding.lost:  # this one never arrived, which says nothing about the lost one
            binding.why = event.message
            self._read(binding)
        elif event.code in (404, 409) or binding.lost:
            binding.lost, binding.why = False, event.message
            self._read(binding)
        else:
            self.give_up(event.uid, _BIND + event.message)

    def lost(self, uid: PodUid, seq: int, why: str) -> None:
        if binding := self.bindings.present(uid, seq):
            binding.lost, binding.why = True, why
            self._read(binding)

    def _read(self, binding: Binding) -> None:
        if not binding.reading:
            self.bindings.read(binding)
            bind = binding.effect
            self.outbox.append(ReadPod(bind.uid, bind.namespace, bind.name, bind.decision.seq))

    def read(self, uid: PodUid, seq: int) -> None:
        """The pod was read, as `ReadPod` asked, and is there; the cluster has it as it is now."""
        binding = self.bindings.present(uid, seq)
        if binding is None or not binding.reading:
            return
        binding.reading = False
        if not binding.lost:
            self.give_up(uid, _BIND + binding.why)
        elif self._still_fits(binding):
            if binding.sent > 1:
                self._say(self._cluster.pods[uid], "SchedulerError", f"binding was not answered: {binding.why}")
            self.bindings.repeat(binding, self.at)

    def _still_fits(self, binding: Binding) -> bool:
        """Whether the assumed pod could be assumed on its node again, as things are now; if not, it is given up."""
        uid, node = binding.effect.uid, binding.effect.node
        pod, slot = self._cluster.pods[uid], self._cluster.snap.slot_of.get(node)
        if slot is not None and self.ours(pod):
            self._cluster.forget(uid)
            fits = bool(self._frameworks[pod.scheduler_name].judge(pod).feasible[slot])
            self._cluster.assume(uid, node)
            if fits:
                return True
        self.give_up(uid, f"{_BIND}its answer was lost, and the pod does not fit on {node} any more")
        return False

    def volumes_not_written(self, uid: PodUid, seq: int, why: str) -> None:
        if self.volumes.concerns(uid, seq):
            self.give_up(uid, _PREBIND + why)

    def give_up(self, uid: PodUid, why: str) -> None:
        """The Binding was certainly not carried out: the room is free again, the pod is tried again after a backoff."""
        self.bindings.end(uid)
        self.volumes.end(uid)
        if node := self._cluster.node_of(uid):
            self.overcommitments.changed(node)
        self._cluster.forget(uid)
        pod = self._cluster.pods[uid]
        if self.ours(pod):
            self.queue.retry(uid, self.at)
            self._say(pod, "SchedulerError", why, nominate="")
        else:
            self.queue.drop(uid)
        self.wake(Change("pod-gone", pod=pod))

    # -- what is due, and who is tried again -----------------------------------------------------------------------

    def due(self) -> None:
        """What is due now without any attempt: Bindings in doubt once more, and those whose volumes are ready."""
        self.outbox += [binding.effect for binding in self.bindings.due(self.at) if self._still_fits(binding)]
        for bind, problem in [*self.volumes.due(self.at)]:
            self._volumes_ended(bind, problem)

    def _volumes_ended(self, bind: Bind, problem: str) -> None:
        """A pod need not wait for its volumes any longer."""
        pod = self._cluster.pods[bind.uid]
        if problem or not self.ours(pod):
            self.give_up(bind.uid, _PREBIND + problem)
            return
        self.volumes.end(bind.uid)
        self.outbox.append(msgspec.structs.replace(bind, waited_s=self.at - self.queue.first_at(bind.uid)))

    def wake(self, change: Change, at_most: int | None = None) -> None:
        """Something changed that may help pods which wait: all, or those of a priority of `at_most`."""
        self._waking.wake(self.at, change, at_most)

    def changed_itself(self, before: Pod, after: Pod) -> None:
        """A waiting pod changed: if one of the plugins that rejected it thinks that this may help, it is tried again."""
        change = Change("self", pod_before=before, pod=after)
        of_a_kind = None if after.uid in self.room.evictions else alike(after)
        self.queue.touch(after.uid, self.at, of_a_kind, lambda by: self._waking.helped_itself(change, by))

    def free(self, freed: Iterable[Freed]) -> None:
        """Pods whose evictions are all answered wait for their victims' end like others, or are tried again."""
        for one in freed:
            if one.uid in self.queue:
                self.queue.touch(one.uid, self.at, alike(self._cluster.pods[one.uid]), one.woken)

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
            self.room.nominations.put(pod.uid, nominate or None)
        self.outbox.append(
            Unschedulable(
                pod.uid,
                pod.namespace,
                pod.name,
                reason,
                message,
                patch=pod.scheduled_message != said or nominate not in (None, pod.nominated_node_name or ""),
                news=self.queue.says(pod.uid, said),
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
