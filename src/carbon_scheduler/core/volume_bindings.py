"""Pods that have a node and wait for their volumes: from the writes that were asked for until every claim is bound.

What upstream does in PreBind (v1.36.3 plugins/volumebinding/binder.go BindPodVolumes, checkBindings): the volumes chosen for a
pod's claims are written down in the API, and the PersistentVolume controller and the provisioners do the rest. Here too the
state in the API counts, not what is assumed. Upstream looks once a second; here every change of a volume or claim is looked at.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from carbon_scheduler.core.decision import BindVolumes, ClaimWrite, VolumeWrite
from carbon_scheduler.core.in_tree import NotTranslatable, migrated, translated_affinity
from carbon_scheduler.core.objects import Claim, Volume
from carbon_scheduler.core.plugins.reach import Reach

if TYPE_CHECKING:
    from collections.abc import Iterator

    from carbon_scheduler.core.decision import Bind
    from carbon_scheduler.core.model import NodeName, PodUid
    from carbon_scheduler.core.snapshot import Snapshot
    from carbon_scheduler.core.volumes import VolumePlan


class _Waiting:
    """`bind` is what is to be done when all is bound. `written`: the API server has taken all writes of the plan."""

    __slots__ = ("bind", "plan", "until", "written")

    def __init__(self, bind: Bind, plan: VolumePlan, until: float) -> None:
        self.bind = bind
        self.plan = plan
        self.until = until
        self.written = False


class VolumeBindings:
    """`uid in volume_bindings`: the pod waits. Whoever leaves takes back what it assumed and nobody has written."""

    def __init__(self, snap: Snapshot) -> None:
        self._snap = snap
        self._of: dict[PodUid, _Waiting] = {}
        self._seen = (-1, -1, -1)

    def __contains__(self, uid: PodUid) -> bool:
        return uid in self._of

    def ask(self, bind: Bind, plan: VolumePlan, until: float) -> BindVolumes | None:
        """What has to be written so that the pod can be bound; None when an object has changed since the plan was made.

        `until` is the monotonic time at which the pod gives up.
        """
        if not self._snap.volumes.assume(plan, bind.uid, bind.node):
            return None
        self._of[bind.uid] = _Waiting(bind, plan, until)
        return BindVolumes(
            bind.uid,
            bind.namespace,
            bind.name,
            bind.node,
            bind.decision.seq,
            tuple(
                VolumeWrite(
                    b.volume.name,
                    b.volume.resource_version,
                    b.claim.namespace,
                    b.claim.name,
                    b.claim.uid,
                    found=b.found,
                )
                for b in plan.bindings
                if not b.done
            ),
            tuple(ClaimWrite(claim.namespace, claim.name, claim.resource_version) for claim in plan.provisions),
        )

    def written(self, uid: PodUid, seq: int) -> None:
        """The API server has taken all that `ask` wanted to be written."""
        if waiting := self._present(uid, seq):
            waiting.written = True
            self._seen = (-1, -1, -1)

    def concerns(self, uid: PodUid, seq: int) -> bool:
        """Whether the pod still waits because of this decision."""
        return self._present(uid, seq) is not None

    def end(self, uid: PodUid) -> None:
        """The pod need not wait any more: it is bound, gone, or looks for another node."""
        if (waiting := self._of.pop(uid, None)) is not None:
            self._snap.volumes.forget(waiting.plan, uid)

    def due(self, at: float) -> Iterator[tuple[Bind, str]]:
        """Those that need not wait any longer: with "", every claim is bound; else with the reason why it will not be. They
        wait until `end` all the same. Cost: O(waiting) when a volume, a claim or a node changed, else nothing."""
        now = self._now()
        changed, self._seen = now != self._seen, now
        for waiting in [*self._of.values()]:
            if changed and waiting.written and (found := self._look(waiting)) is not None:
                yield waiting.bind, found
            elif at >= waiting.until:
                yield waiting.bind, "binding volumes: context deadline exceeded"

    def next_at(self) -> float | None:
        """When the next one gives up; -inf when something changed that may have ended somebody's waiting."""
        if self._of and self._now() != self._seen:
            return float("-inf")
        return min((waiting.until for waiting in self._of.values()), default=None)

    # -- inside --------------------------------------------------------------------------------------------------

    def _now(self) -> tuple[int, int, int]:
        versions = self._snap.objects.version
        return versions["PersistentVolume"], versions["PersistentVolumeClaim"], self._snap.spec_log.position

    def _present(self, uid: PodUid, seq: int) -> _Waiting | None:
        waiting = self._of.get(uid)
        return waiting if waiting is not None and waiting.bind.decision.seq == seq else None

    def _look(self, waiting: _Waiting) -> str | None:
        """None: not yet; "": all bound; else why not. An object that is as old as the plan is waited for."""
        objects, node = self._snap.objects, waiting.bind.node
        ready = True
        for binding in waiting.plan.bindings:
            volume, claim = objects.get(Volume, binding.volume.key), objects.get(Claim, binding.claim.key)
            if volume is None or claim is None:
                missing = "pv" if volume is None else "pvc"
                name = binding.volume.name if volume is None else binding.claim.key
                return f'binding volumes: failed to check binding: could not find {missing} "{name}"'
            if not binding.done and volume.resource_version == binding.volume.resource_version:
                return None
            if problem := self._unreachable(volume, node):
                return problem
            if volume.claim_ref is None or not volume.claim_ref.uid:
                return f'binding volumes: ClaimRef got reset for pv "{volume.name}"'
            ready = ready and bool(claim.volume_name) and claim.bind_completed
        for planned in waiting.plan.provisions:
            claim = objects.get(Claim, planned.key)
            if claim is None:
                return f'binding volumes: failed to check provisioning pvc: could not find pvc "{planned.key}"'
            if claim.resource_version == planned.resource_version:
                return None
            if not claim.annotated:
                return f'binding volumes: selectedNode annotation reset for PVC "{claim.name}"'
            if claim.selected_node != node:  # how a provisioner says that it failed
                return f'binding volumes: provisioning failed for PVC "{claim.name}"'
            if claim.volume_name:
                volume = objects.get(Volume, claim.volume_name)
                if volume is None:
                    return None
                if problem := self._unreachable(volume, node):
                    return problem
            ready = ready and bool(claim.volume_name) and claim.bind_completed
        return "" if ready else None

    def _unreachable(self, volume: Volume, node: NodeName) -> str:
        slot = self._snap.slot_of.get(node)
        if slot is None:
            return f'binding volumes: failed to get node "{node}": node "{node}" not found'
        terms = volume.node_affinity
        in_tree = migrated(volume.source[0]) if volume.source else None
        if in_tree is not None:
            self._snap.volumes.use.refresh()
            if self._snap.volumes.use.migrated(in_tree.plugin)[slot]:
                try:
                    terms = translated_affinity(volume)
                except NotTranslatable as error:
                    return f"binding volumes: failed to translate pv to csi: {error}"
        if len(Reach(only=np.array([slot], np.intp)).affinity(terms, self._snap)):
            return ""
        return f'binding volumes: pv "{volume.name}" node affinity doesn\'t match node "{node}": no matching NodeSelectorTerms'
