"""Room for pods that fit nowhere: whom preemption would have evicted, whose eviction is under way, for whom room is kept."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, NamedTuple

from carbon_scheduler.core.decision import Evict, Nominate
from carbon_scheduler.core.evictions import Evictions
from carbon_scheduler.core.nominations import Nominations
from carbon_scheduler.core.plugins.profiles import enabled
from carbon_scheduler.core.preemption import NO_CLAIMS, Enough, Preemption, leaving

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy as np
    from numpy.typing import NDArray

    from carbon_scheduler.core.cluster import Cluster
    from carbon_scheduler.core.decision import Effect
    from carbon_scheduler.core.model import NodeName, Pod, PodUid
    from carbon_scheduler.core.settings import Settings
    from carbon_scheduler.core.verdict import Verdict


class Made(NamedTuple):
    """What came of trying to make room.

    `message`: all that is to be said of the pod. `nominate`: where room is made, "" nowhere any more, None as before.
    `victims`: how many were chosen, None when preemption was not tried. `unbound`: those of them that wait for their volumes
    and only have to look for another node. `long`: it took its time.
    """

    message: str
    nominate: NodeName | Literal[""] | None = None
    victims: int | None = None
    effects: tuple[Effect, ...] = ()
    unbound: tuple[Pod, ...] = ()
    long: bool = False


class Room:
    """`nominations` and `evictions` are its two halves: for whom, and by whose going."""

    def __init__(self, settings: Settings, cluster: Cluster) -> None:
        self.nominations = Nominations(cluster.snap, cluster.pods)
        self.evictions = Evictions()
        self._snap = cluster.snap
        self._preemption = Preemption(cluster, self.nominations)
        self._enough = {
            p.scheduler_name: Enough(p.min_candidate_nodes_percentage, p.min_candidate_nodes_absolute)
            for p in settings.profiles
            if settings.preemption and enabled(p).preempts
        }
        """Of those whose pods may preempt."""

    def kept_for(self, pod: Pod, verdict: Verdict) -> int | None:
        """The slot of the node that a pod is nominated to, if it fits there: then no other is looked at, nor scored."""
        node = self.nominations.node_of(pod.uid)
        slot = None if node is None else self._snap.slot_of.get(node)
        return slot if slot is not None and verdict.feasible[slot] else None

    def told(self, before: Pod | None, after: Pod, *, served: bool) -> None:
        """A pod that waits is nominated to where its status says, if we serve its scheduler name. What we decided since then
        holds until the status changes: an echo of something else comes first."""
        if after.gated or not served:
            self.nominations.put(after.uid, None)
        elif before is None or before.gated or before.nominated_node_name != after.nominated_node_name:
            self.nominations.put(after.uid, after.nominated_node_name)

    def leave(self, uid: PodUid) -> None:
        """The pod has a node, or is gone, or is not ours."""
        self.nominations.put(uid, None)
        self.evictions.drop(uid)

    def make(
        self,
        pod: Pod,
        verdict: Verdict,
        costs_g: NDArray[np.float64] | None,
        waits_for_volumes: Callable[[PodUid], bool],
    ) -> Made:
        """Tries to make room for a pod that no node can take. Cost: `Preemption.scan`'s."""
        message = verdict.message()
        if not len(self._snap):
            return Made(message, nominate="")
        if verdict.rejected is not None:  # preemption helps no pod that is rejected as a whole
            return Made(message)
        enough = self._enough.get(pod.scheduler_name)
        if enough is None:
            return Made(f"{message} {NO_CLAIMS}")
        outcome = self._preemption.attempt(pod, verdict, enough, costs_g, self._is_leaving)
        if outcome.node is None:
            message = f"{message} {NO_CLAIMS}, preemption: {outcome.sentence}"
            return Made(message, "" if outcome.helpless else None, 0, long=outcome.tried)
        unbound = tuple(victim for victim in outcome.victims if waits_for_volumes(victim.uid))
        bound = [victim for victim in outcome.victims if victim not in unbound]
        effects: list[Effect] = [_eviction(victim, pod, outcome.node) for victim in self.evictions.ask(pod.uid, bound)]
        effects += [_eviction(victim, pod, outcome.node, cancelled=True) for victim in unbound]
        if unbound or pod.uid in self.evictions:
            # Those that wait there for less important reasons look for another node now, not when the victims are gone.
            for other in self.nominations.below(outcome.node, pod.spec.priority):
                self.nominations.put(other.uid, None)
                if other.nominated_node_name:
                    effects.append(Nominate(other.uid, other.namespace, other.name))
        return Made(message, outcome.node, len(outcome.victims), tuple(effects), unbound, long=True)

    def _is_leaving(self, pod: Pod) -> bool:
        return leaving(pod) or self.evictions.accepted(pod.uid)


def _eviction(victim: Pod, pod: Pod, node: NodeName, *, cancelled: bool = False) -> Evict:
    return Evict(
        victim.uid,
        victim.namespace,
        victim.name,
        node,
        pod.uid,
        pod.namespace,
        pod.name,
        scheduler_name=pod.scheduler_name,
        generation=victim.generation,
        marked=victim.preempted,
        cancelled=cancelled,
    )
