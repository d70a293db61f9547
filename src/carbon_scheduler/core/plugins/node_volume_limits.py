"""NodeVolumeLimits: how many volumes of a CSI driver a node can have attached.

Source: kube-scheduler v1.36.3 plugins/nodevolumelimits/csi.go. A volume that is attached to a node, but used by no pod there,
counts as attached and, for a pod that wants it, as new: an accident of upstream's.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

import numpy as np

from carbon_scheduler.core.in_tree import TYPES, NotTranslatable, inline_handle
from carbon_scheduler.core.objects import Attachment, Claim, CsiNode
from carbon_scheduler.core.plugin import ERROR_BIT, UNRESOLVABLE_BIT, Change, Plugin, Rejected, State
from carbon_scheduler.core.pod_volumes import BadVolume, NoClaim, claim_key

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from carbon_scheduler.core.model import Pod, PodVolume
    from carbon_scheduler.core.plugin import Rows
    from carbon_scheduler.core.snapshot import Snapshot
    from carbon_scheduler.core.volume_use import VolumeUse

_TOO_MANY = np.uint64(1)
_NO_CLAIM = np.uint64(2) | UNRESOLVABLE_BIT


class _Limits(State):
    filters = True
    reasons: tuple[str, ...] = ("node(s) exceed max volume count",)

    def __init__(self, pod: Pod, snap: Snapshot) -> None:
        use = snap.volumes.use
        use.refresh()
        self._codes: NDArray[np.uint64] = np.zeros(snap.capacity, np.uint64)
        for migrating in (True, False):
            here = use.has_csi_node == migrating
            try:
                wanted = use.csi_volumes(pod, pending=True, migrating=migrating)
            except NoClaim as problem:
                self.reasons = (*_Limits.reasons, str(problem))
                self._codes[here] = _NO_CLAIM
            except BadVolume as problem:
                self.error = str(problem)
                self._codes[here] = ERROR_BIT
            else:
                if wanted and migrating:
                    self._check(use, wanted)

    def reject(self, snap: Snapshot, rows: Rows) -> NDArray[np.uint64]:
        return self._codes[rows]

    def _check(self, use: VolumeUse, wanted: dict[str, str]) -> None:
        """Turns down the nodes with limits that some of the wanted volumes would be too many for."""
        for driver, count in Counter(wanted.values()).items():
            if (limit := use.limit(driver)) is None:
                continue
            most, attached = limit
            new = np.full(len(most), count, np.int64)
            for volume, of in wanted.items():
                if of == driver:
                    new[use.slots_with(volume)] -= 1
            self._codes[(most >= 0) & (new > 0) & (attached + new > most)] = _TOO_MANY
        for slot, why in use.problems().items():
            self.error = self.error or why
            self._codes[slot] = ERROR_BIT


class NodeVolumeLimits(Plugin):
    name = "NodeVolumeLimits"
    reads = "cluster"
    hears = frozenset({"CSINode", "pod-gone", "PersistentVolumeClaim", "VolumeAttachment"})

    def key(self, pod: Pod) -> bool | None:
        return any(map(_counts, pod.spec.volumes)) or None

    def prepare(self, pod: Pod, snap: Snapshot) -> State | Rejected:
        return _Limits(pod, snap)

    def wakes(self, pod: Pod, change: Change, snap: Snapshot) -> bool:
        if change.kind == "pod-gone":
            return change.pod is not None and any(map(_counts, change.pod.spec.volumes))
        before, now = change.object_before, change.object
        if isinstance(now, CsiNode):
            return not isinstance(before, CsiNode) or _raised(before, now)
        if isinstance(now, Claim):
            return before is None and any(
                claim_key(pod, v) == now.key for v in pod.spec.volumes if v.kind in ("claim", "ephemeral")
            )
        return now is None and isinstance(before, Attachment) and _may_free(before, pod)


def _counts(volume: PodVolume) -> bool:
    """Whether upstream looks at such a volume here. Of those that are not migrated it then counts none."""
    return volume.kind in ("claim", "ephemeral") or volume.kind in TYPES


def _raised(before: CsiNode, now: CsiNode) -> bool:
    """Whether a driver takes more volumes. No limit counts as 0 here, as upstream has it."""
    return any((most or 0) > (before.limits.get(driver) or 0) for driver, most in now.limits.items())


def _may_free(gone: Attachment, pod: Pod) -> bool:
    """Whether a VolumeAttachment that went away may matter to a pod: by any claim (not that of an ephemeral volume), or by the
    driver of a volume in its spec."""
    for volume in pod.spec.volumes:
        if volume.kind == "claim":
            return True
        if volume.kind not in TYPES:
            continue
        try:
            inline_handle(volume)
        except NotTranslatable:
            return True
        if gone.attacher == TYPES[volume.kind].driver:
            return True
    return False
