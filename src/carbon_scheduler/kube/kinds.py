"""The other kinds that are followed: where the API has each of them, how it is decoded and converted, and what needs it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal

from carbon_scheduler.core.plugins.profiles import enabled
from carbon_scheduler.kube import convert_objects as to
from carbon_scheduler.kube import wire_objects as found
from carbon_scheduler.kube.wire import Codec

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from carbon_scheduler.core.objects import AnyObject, ObjectKind
    from carbon_scheduler.core.settings import Profile

Need = Literal["spreading", "volumes", "preemption"]
_VOLUMES: Final = {"VolumeRestrictions", "NodeVolumeLimits", "VolumeBinding", "VolumeZone"}


def needs(profiles: Iterable[Profile], *, preemption: bool = True) -> frozenset[Need]:
    """What the plugins of some profile read: what none of them reads needs no right and is not followed."""
    found: set[Need] = set()
    for profile in profiles:
        on = enabled(profile)
        if "PodTopologySpread" in {*on.filters, *on.scores}:
            found.add("spreading")
        if not _VOLUMES.isdisjoint(on.filters):
            found.add("volumes")
        if on.preempts and preemption:
            found.add("preemption")
    return frozenset(found)


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind. `listed_as` is its list in a saved case; `need` what it is read for."""

    name: ObjectKind
    path: str
    listed_as: str
    need: Need
    codec: Codec[Any]
    convert: Callable[[Any], AnyObject]

    @property
    def namespaced(self) -> bool:
        return self.name not in _OF_THE_CLUSTER

    def one(self, body: bytes) -> AnyObject:
        """A single object. Raises ValueError when it has no readable name."""
        return self.convert(self.codec.one(body))


_OF_THE_CLUSTER: Final = {"PersistentVolume", "StorageClass", "CSINode", "CSIDriver", "VolumeAttachment"}
_CORE, _APPS, _STORAGE = "/api/v1", "/apis/apps/v1", "/apis/storage.k8s.io/v1"

KINDS: Final = (
    Kind("Service", f"{_CORE}/services", "services", "spreading", Codec(found.Service), to.service),
    Kind(
        "ReplicationController",
        f"{_CORE}/replicationcontrollers",
        "replicationcontrollers",
        "spreading",
        Codec(found.ReplicationController),
        to.replication_controller,
    ),
    Kind("ReplicaSet", f"{_APPS}/replicasets", "replicasets", "spreading", Codec(found.Workload), to.replica_set),
    Kind("StatefulSet", f"{_APPS}/statefulsets", "statefulsets", "spreading", Codec(found.Workload), to.stateful_set),
    Kind(
        "PodDisruptionBudget",
        "/apis/policy/v1/poddisruptionbudgets",
        "pdbs",
        "preemption",
        Codec(found.Budget),
        to.budget,
    ),
    Kind("PersistentVolumeClaim", f"{_CORE}/persistentvolumeclaims", "pvcs", "volumes", Codec(found.Claim), to.claim),
    Kind("PersistentVolume", f"{_CORE}/persistentvolumes", "pvs", "volumes", Codec(found.Volume), to.volume),
    Kind(
        "StorageClass",
        f"{_STORAGE}/storageclasses",
        "storageclasses",
        "volumes",
        Codec(found.StorageClass),
        to.storage_class,
    ),
    Kind("CSINode", f"{_STORAGE}/csinodes", "csinodes", "volumes", Codec(found.CsiNode), to.csi_node),
    Kind("CSIDriver", f"{_STORAGE}/csidrivers", "csidrivers", "volumes", Codec(found.CsiDriver), to.csi_driver),
    Kind(
        "CSIStorageCapacity",
        f"{_STORAGE}/csistoragecapacities",
        "csistoragecapacities",
        "volumes",
        Codec(found.StorageCapacity),
        to.storage_capacity,
    ),
    Kind(
        "VolumeAttachment",
        f"{_STORAGE}/volumeattachments",
        "volumeattachments",
        "volumes",
        Codec(found.Attachment),
        to.attachment,
    ),
)
BY_NAME: Final = {kind.name: kind for kind in KINDS}
