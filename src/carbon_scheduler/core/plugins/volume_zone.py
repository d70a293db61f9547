"""VolumeZone: a bound PersistentVolume's zone and region labels must agree with the node's.

Source: kube-scheduler v1.36.3 plugins/volumezone/volume_zone.go, cloud-provider v0.36.3 volume/helpers/zones.go.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

from carbon_scheduler.core.in_tree import BETA_REGION, BETA_ZONE, REGION, SEVERAL, ZONE
from carbon_scheduler.core.objects import Claim, StorageClass, Volume
from carbon_scheduler.core.plugin import UNRESOLVABLE, UNRESOLVABLE_BIT, Change, Plugin, Rejected, State
from carbon_scheduler.core.pod_volumes import claim_key, claim_missing

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from carbon_scheduler.core.model import Pod
    from carbon_scheduler.core.plugin import Rows
    from carbon_scheduler.core.snapshot import LabelColumn, Snapshot

_KEYS: Final = (BETA_ZONE, BETA_REGION, ZONE, REGION)
_GENERAL: Final = {BETA_ZONE: ZONE, BETA_REGION: REGION}
"""A volume's beta label may be met by the node's label that replaced it; not the reverse."""

Topology = tuple[str, frozenset[str]]
"""A label's key, and the values that a node may have there."""


def _topologies(volume: Volume) -> list[Topology]:
    """What a volume's labels ask of a node. One that cannot be read asks for nothing."""
    found: list[Topology] = []
    for key in _KEYS:
        if (text := volume.labels.get(key)) is not None:
            values = frozenset(value.strip() for value in text.split(SEVERAL))
            if "" not in values:
                found.append((key, values))
    return found


class _Zones(State):
    relents = True  # what pods are there does not matter
    reasons = ("node(s) had no available volume zone",)

    def __init__(self, wanted: list[Topology]) -> None:
        self._wanted = wanted
        self.filters = bool(wanted)

    def reject(self, snap: Snapshot, rows: Rows) -> NDArray[np.uint64]:
        """A node without any of the four labels fits: a cluster of one zone need not say so."""
        labelled = np.zeros(len(snap.alive[rows]), np.bool_)
        for key in _KEYS:
            labelled |= snap.label(key).ids[rows] >= 0
        fits = np.ones_like(labelled)
        for key, values in self._wanted:
            column = snap.label(key)
            here = _among(column, values, rows)
            if key in _GENERAL:
                instead = _among(snap.label(_GENERAL[key]), values, rows)
                here = np.where(column.ids[rows] >= 0, here, instead)
            fits &= here
        return np.where(fits | ~labelled, np.uint64(0), UNRESOLVABLE_BIT | np.uint64(1))


def _among(column: LabelColumn, values: frozenset[str], rows: Rows) -> NDArray[np.bool_]:
    """bool (rows,): whether a node has one of the values."""
    return np.isin(column.ids[rows], [known for value in values if (known := column.values.get(value)) is not None])


class VolumeZone(Plugin):
    name = "VolumeZone"
    reads = "cluster"
    hears = frozenset({"node", "StorageClass", "PersistentVolumeClaim", "PersistentVolume"})
    hears_of_nodes = frozenset({"labels"})

    def key(self, pod: Pod) -> bool | None:
        return any(volume.kind == "claim" for volume in pod.spec.volumes) or None

    def prepare(self, pod: Pod, snap: Snapshot) -> State | Rejected:
        wanted: list[Topology] = []
        for pod_volume in pod.spec.volumes:
            if pod_volume.kind != "claim":
                continue
            found = _volume_of(pod, claim_key(pod, pod_volume), pod_volume.ref, snap)
            if isinstance(found, str):
                return Rejected(UNRESOLVABLE, (found,))
            if found is not None:
                wanted += _topologies(found)
        return _Zones(wanted)

    def wakes(self, pod: Pod, change: Change, snap: Snapshot) -> bool:
        if change.kind == "node":
            return change.node_before is None or change.of_labels
        before, now = change.object_before, change.object
        match now:
            case StorageClass():
                return before is None and now.binding_mode == "WaitForFirstConsumer"
            case Claim():
                return any(v.kind == "claim" and claim_key(pod, v) == now.key for v in pod.spec.volumes)
            case Volume():
                return not isinstance(before, Volume) or _topologies(before) != _topologies(now)
            case _:
                return False


def _volume_of(pod: Pod, key: str, name: str, snap: Snapshot) -> Volume | str | None:
    """The claim's volume, None where one is yet to be chosen for the node, or why the pod cannot be scheduled."""
    if not name:
        return "PersistentVolumeClaim had no name"
    claim = snap.objects.get(Claim, key)
    if claim is None:
        return claim_missing(name)
    if claim.volume_name:
        return snap.objects.get(Volume, claim.volume_name) or f'persistentvolume "{claim.volume_name}" not found'
    if not claim.class_name:
        return "PersistentVolumeClaim had no pv name and storageClass name"
    of_class = snap.objects.get(StorageClass, claim.class_name)
    if of_class is None:
        return f'storageclass.storage.k8s.io "{claim.class_name}" not found'
    if not of_class.binding_mode:
        return f'VolumeBindingMode not set for StorageClass "{claim.class_name}"'
    return None if of_class.binding_mode == "WaitForFirstConsumer" else "PersistentVolume had no name"
