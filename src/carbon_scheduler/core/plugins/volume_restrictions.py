"""VolumeRestrictions: no two pods of a node share certain disks, and no two pods anywhere a ReadWriteOncePod claim.

Source: kube-scheduler v1.36.3 plugins/volumerestrictions/volume_restrictions.go.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from carbon_scheduler.core.objects import Claim
from carbon_scheduler.core.plugin import UNRESOLVABLE, Change, Plugin, Rejected, State
from carbon_scheduler.core.pod_volumes import DISKS, claim_key, claim_missing, clash

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from carbon_scheduler.core.model import Pod, PodVolume
    from carbon_scheduler.core.plugin import Rows
    from carbon_scheduler.core.snapshot import Snapshot

_DISK = np.uint64(1)
_ONE_POD = np.uint64(2)


class _Restrictions(State):
    """The text about the disk comes before that about the claim: a node that has both says the first alone."""

    relents = True
    reasons = (
        "node(s) had no available disk",
        "node(s) unavailable due to PersistentVolumeClaim with ReadWriteOncePod access mode already in-use by another pod",
    )

    def __init__(self, disks: tuple[PodVolume, ...], in_use: bool) -> None:
        self._disks = disks
        self._in_use = in_use
        self.filters = bool(disks) or in_use

    def reject(self, snap: Snapshot, rows: Rows) -> NDArray[np.uint64]:
        codes = np.full(snap.capacity, _ONE_POD if self._in_use else 0, np.uint64)
        for disk in self._disks:
            codes[snap.volumes.use.clashing(disk)] = _DISK
        return codes[rows]


class VolumeRestrictions(Plugin):
    name = "VolumeRestrictions"
    reads = "cluster"
    hears = frozenset({"node", "pod-gone", "PersistentVolumeClaim"})
    hears_of_nodes = frozenset()

    def key(self, pod: Pod) -> tuple[PodVolume, ...] | None:
        return tuple(v for v in pod.spec.volumes if v.kind == "claim" or v.kind in DISKS) or None

    def prepare(self, pod: Pod, snap: Snapshot) -> State | Rejected:
        in_use = False
        for volume in pod.spec.volumes:
            if volume.kind != "claim":
                continue
            key = claim_key(pod, volume)
            claim = snap.objects.get(Claim, key)
            if claim is None:
                return Rejected(UNRESOLVABLE, (claim_missing(volume.ref),))
            if "ReadWriteOncePod" in claim.access_modes and snap.volumes.use.claim_used(key):
                in_use = True
        return _Restrictions(tuple(v for v in pod.spec.volumes if v.kind in DISKS), in_use)

    def wakes(self, pod: Pod, change: Change, snap: Snapshot) -> bool:
        if change.kind == "node":
            return change.node_before is None
        if change.kind == "pod-gone":
            return change.pod is not None and change.pod.namespace == pod.namespace and _gives_way(change.pod, pod)
        claim = change.object
        return change.object_before is None and isinstance(claim, Claim) and _names(pod, claim)


def _gives_way(gone: Pod, pod: Pod) -> bool:
    """Whether a pod that left had a disk or claim that this one wants. Whether the claim is for one pod is not looked at."""
    return any(
        (mine.kind == "claim" and mine.ref == theirs.ref) or clash(mine, theirs)
        for mine in pod.spec.volumes
        for theirs in gone.spec.volumes
        if mine.kind == theirs.kind
    )


def _names(pod: Pod, claim: Claim) -> bool:
    return claim.namespace == pod.namespace and any(v.kind == "claim" and v.ref == claim.name for v in pod.spec.volumes)
