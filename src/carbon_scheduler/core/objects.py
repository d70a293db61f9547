"""The other objects of a cluster that decide where a pod may run: volumes and their claims, services, owners, budgets.

Like the nodes and pods of `model`, they are compact, immutable and already converted. All of them are kept in one place,
`Objects`, by kind and key, in which nothing is ever looked for by going through all of a kind unless a docstring says so.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Final, Literal, TypeVar, get_args

import msgspec

from carbon_scheduler.core.model import NodeName, NodeSelectorTerm, Selector, Struct

if TYPE_CHECKING:
    from collections.abc import Mapping

ObjectKind = Literal[
    "Service",
    "ReplicationController",
    "ReplicaSet",
    "StatefulSet",
    "PodDisruptionBudget",
    "PersistentVolumeClaim",
    "PersistentVolume",
    "StorageClass",
    "CSINode",
    "CSIDriver",
    "CSIStorageCapacity",
    "VolumeAttachment",
]


class _Cluster(Struct, frozen=True, tag=True):
    """An object outside any namespace."""

    name: str

    @property
    def key(self) -> str:
        return self.name


class _Namespaced(Struct, frozen=True, tag=True):
    namespace: str
    name: str

    @property
    def key(self) -> str:
        return f"{self.namespace}/{self.name}"


class Service(_Namespaced, frozen=True):
    """`selector` is None without one, which selects no pod."""

    kind: ClassVar[ObjectKind] = "Service"
    selector: tuple[tuple[str, str], ...] | None = None


class Workload(_Namespaced, frozen=True):
    """A ReplicationController, ReplicaSet or StatefulSet, for its selector: None without one, or with one that cannot be
    parsed."""

    kind: Literal["ReplicationController", "ReplicaSet", "StatefulSet"]
    selector: Selector = None


class Budget(_Namespaced, frozen=True):
    """A PodDisruptionBudget. `disrupted` are names of pods whose eviction it has already counted (status.disruptedPods)."""

    kind: ClassVar[ObjectKind] = "PodDisruptionBudget"
    selector: Selector = None
    disruptions_allowed: int = 0
    disrupted: tuple[str, ...] = ()


class Claim(_Namespaced, frozen=True):
    """A PersistentVolumeClaim. `class_name` is None with neither field nor beta annotation, "" when it asks for none."""

    kind: ClassVar[ObjectKind] = "PersistentVolumeClaim"
    uid: str = ""
    volume_name: str = ""
    class_name: str | None = None
    access_modes: tuple[str, ...] = ()
    request_b: int = 0
    volume_mode: str = "Filesystem"
    selector: Selector | Literal["none"] = "none"
    """Of volumes; "none" when the claim has none, which is not the same as an empty one, and None when it cannot be parsed
    (an error upstream)."""
    phase: str = ""
    terminating: bool = False
    bind_completed: bool = False
    """Has the annotation pv.kubernetes.io/bind-completed."""
    selected_node: NodeName | None = None
    """The annotation volume.kubernetes.io/selected-node."""
    annotated: bool = True
    """Has any annotation at all."""
    owner_uid: str = ""
    """The uid of its controller: a generic ephemeral volume's pod."""
    attributes_class: str | None = None
    resource_version: str = ""


class ClaimRef(Struct, frozen=True):
    namespace: str
    name: str
    uid: str = ""


class Volume(_Cluster, frozen=True):
    """A PersistentVolume. `source` is ("csi", driver, handle), or an in-tree type that CSI drivers have taken over with its
    identity (as `PodVolume`: kind, ref, more), or () for all others, which no plugin tells apart."""

    kind: ClassVar[ObjectKind] = "PersistentVolume"
    capacity_b: int = 0
    class_name: str = ""
    access_modes: tuple[str, ...] = ()
    volume_mode: str = "Filesystem"
    node_affinity: tuple[NodeSelectorTerm, ...] | None = None
    claim_ref: ClaimRef | None = None
    phase: str = ""
    terminating: bool = False
    labels: dict[str, str] = msgspec.field(default_factory=dict)
    source: tuple[str, ...] = ()
    attributes_class: str | None = None
    resource_version: str = ""


class TopologyTerm(Struct, frozen=True):
    """One of a class's allowedTopologies: every key's value must be among those listed."""

    expressions: tuple[tuple[str, tuple[str, ...]], ...] = ()


class StorageClass(_Cluster, frozen=True):
    """`binding_mode` is Immediate, WaitForFirstConsumer, or "" when missing (an error upstream)."""

    kind: ClassVar[ObjectKind] = "StorageClass"
    provisioner: str = ""
    binding_mode: str = ""
    allowed_topologies: tuple[TopologyTerm, ...] = ()


class CsiNode(_Cluster, frozen=True):
    """`limits` maps each driver of the node to how many volumes it takes, None without a limit."""

    kind: ClassVar[ObjectKind] = "CSINode"
    limits: dict[str, int | None] = msgspec.field(default_factory=dict)
    migrated: tuple[str, ...] = ()
    """In-tree plugins that the annotation storage.alpha.kubernetes.io/migrated-plugins names."""


class CsiDriver(_Cluster, frozen=True):
    kind: ClassVar[ObjectKind] = "CSIDriver"
    storage_capacity: bool = False


class StorageCapacity(_Namespaced, frozen=True):
    """A CSIStorageCapacity. None: not given."""

    kind: ClassVar[ObjectKind] = "CSIStorageCapacity"
    class_name: str = ""
    capacity_b: int | None = None
    maximum_volume_b: int | None = None
    topology: Selector = None


class Attachment(_Cluster, frozen=True):
    """A VolumeAttachment. `volume_name` is the PersistentVolume's, "" for an inline one, which no plugin counts."""

    kind: ClassVar[ObjectKind] = "VolumeAttachment"
    attacher: str = ""
    node_name: str = ""
    volume_name: str = ""


AnyObject = (
    Service | Workload | Budget | Claim | Volume | StorageClass | CsiNode | CsiDriver | StorageCapacity | Attachment
)

KINDS: Final[tuple[ObjectKind, ...]] = get_args(ObjectKind)
ObjectT = TypeVar("ObjectT", bound=AnyObject)


class Objects:
    """Every object by kind and key (`namespace/name`, or the name). `version[kind]` grows with each change of that kind."""

    def __init__(self) -> None:
        self._of: dict[ObjectKind, dict[str, AnyObject]] = {kind: {} for kind in KINDS}
        self.version: dict[ObjectKind, int] = dict.fromkeys(KINDS, 0)

    def put(self, new: AnyObject) -> AnyObject | None:
        """Adds or replaces one; returns what it was before."""
        mine = self._of[new.kind]
        before = mine.get(new.key)
        if before != new:
            mine[new.key] = new
            self.version[new.kind] += 1
        return before

    def drop(self, kind: ObjectKind, key: str) -> AnyObject | None:
        """Forgets one; returns what it was."""
        before = self._of[kind].pop(key, None)
        if before is not None:
            self.version[kind] += 1
        return before

    def get(self, kind: type[ObjectT], key: str) -> ObjectT | None:
        """One object by its class and key; not for `Workload`, which is three kinds (`all` serves those)."""
        found = self._of[kind.kind].get(key)
        return found if isinstance(found, kind) else None

    def all(self, kind: ObjectKind) -> Mapping[str, AnyObject]:
        """All of a kind by key, in the order in which they came. Not to be changed."""
        return self._of[kind]
