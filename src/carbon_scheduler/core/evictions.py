"""Who waits for whose eviction: from the moment the shell is asked for it until it was answered or seen.

A pod that preempts is not tried again while that is going on, for it would look for further victims: kube-scheduler's
asynchronous preemption, v1.36.3 framework/preemption/executor.go. A victim counts as gone only when the API server says so.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable

    from carbon_scheduler.core.model import Pod, PodUid


class Freed(NamedTuple):
    """A pod that need not wait any more. `at_once`: something happened meanwhile that would have woken it, or an eviction
    failed; else it goes on waiting for its victims' end."""

    uid: PodUid
    at_once: bool

    def woken(self, rejecting: tuple[str, ...]) -> bool:  # as the queue asks of a change
        return self.at_once


class Evictions:
    """`uid in evictions`: the pod waits for answers."""

    def __init__(self) -> None:
        self._waits_for: dict[PodUid, dict[PodUid, None]] = {}
        self._waited_for_by: dict[PodUid, dict[PodUid, None]] = {}
        self._accepted: dict[PodUid, None] = {}
        self._restless: dict[PodUid, None] = {}

    def __contains__(self, uid: PodUid) -> bool:
        return uid in self._waits_for

    def accepted(self, uid: PodUid) -> bool:
        """Whether the API server took a pod's deletion, and the pod is not known to be going yet."""
        return uid in self._accepted

    def ask(self, preemptor: PodUid, victims: Iterable[Pod]) -> list[Pod]:
        """The victims that somebody has to be asked to evict: not those that are going already."""
        asked: list[Pod] = []
        for victim in victims:
            if victim.terminating or victim.uid in self._accepted:
                continue
            if victim.uid not in self._waited_for_by:
                asked.append(victim)
            self._waited_for_by.setdefault(victim.uid, {})[preemptor] = None
            self._waits_for.setdefault(preemptor, {})[victim.uid] = None
        return asked

    def disturb(self, preemptor: PodUid) -> None:
        """Something would have woken the pod, had it not waited."""
        self._restless[preemptor] = None

    def accept(self, victim: PodUid) -> list[Freed]:
        """The API server took the victim's deletion."""
        if victim in self._waited_for_by:
            self._accepted[victim] = None
        return self._answered(victim)

    def fail(self, victim: PodUid) -> list[Freed]:
        """The victim stays, or nobody knows: those that wait for it look again when their other evictions are answered."""
        for preemptor in self._waited_for_by.get(victim, ()):
            self._restless[preemptor] = None
        return self._answered(victim)

    def going(self, victim: PodUid) -> list[Freed]:
        """The victim was seen to be deleted, or on its way."""
        self._accepted.pop(victim, None)
        return self._answered(victim)

    def drop(self, preemptor: PodUid) -> None:
        """The pod waits for nobody any more: it is bound, or gone."""
        self._restless.pop(preemptor, None)
        for victim in self._waits_for.pop(preemptor, ()):
            del self._waited_for_by[victim][preemptor]
            if not self._waited_for_by[victim]:
                del self._waited_for_by[victim]

    def _answered(self, victim: PodUid) -> list[Freed]:
        freed: list[Freed] = []
        for preemptor in self._waited_for_by.pop(victim, ()):
            left = self._waits_for[preemptor]
            del left[victim]
            if not left:
                del self._waits_for[preemptor]
                freed.append(Freed(preemptor, preemptor in self._restless))
                self._restless.pop(preemptor, None)
        return freed
