"""The other objects that decide where a pod may run, as they come over the wire: see `wire` for how they are decoded."""

from __future__ import annotations

import msgspec

from carbon_scheduler.kube.wire import Object, Resources
from carbon_scheduler.kube.wire_parts import (
    AzureDisk,
    Ebs,
    GcePd,
    LabelSelector,
    NodeSelector,
    Present,
    Quantities,
    VolumeId,
    Wire,
    Words,
)


class ServiceSpec(Wire):
    selector: Words | None = None


class Service(Object):
    spec: ServiceSpec | None = None


class ReplicationController(Object):
    spec: ServiceSpec | None = None


class WorkloadSpec(Wire):
    selector: LabelSelector | None = None


class Workload(Object):
    """A ReplicaSet or StatefulSet."""

    spec: WorkloadSpec | None = None


class BudgetStatus(Wire):
    disruptions_allowed: int | None = None
    disrupted_pods: dict[str, str | None] | None = None


class Budget(Object):
    spec: WorkloadSpec | None = None
    status: BudgetStatus | None = None


class ClaimSpec(Wire):
    access_modes: list[str | None] | None = None
    resources: Resources | None = None
    selector: LabelSelector | None = None
    storage_class_name: str | None = None
    volume_attributes_class_name: str | None = None
    volume_mode: str | None = None
    volume_name: str | None = None


class Phase(Wire):
    phase: str | None = None


class Claim(Object):
    spec: ClaimSpec | None = None
    status: Phase | None = None


class Csi(Wire):
    driver: str | None = None
    volume_handle: str | None = None


class ClaimRef(Wire):
    namespace: str | None = None
    name: str | None = None
    uid: str | None = None


class VolumeNodeAffinity(Wire):
    required: NodeSelector | None = None


class VolumeSpec(Wire):
    access_modes: list[str | None] | None = None
    capacity: Quantities | None = None
    claim_ref: ClaimRef | None = None
    node_affinity: VolumeNodeAffinity | None = None
    storage_class_name: str | None = None
    volume_attributes_class_name: str | None = None
    volume_mode: str | None = None
    csi: Csi | None = None
    aws_elastic_block_store: Ebs | None = None
    gce_persistent_disk: GcePd | None = None
    azure_disk: AzureDisk | None = None
    cinder: VolumeId | None = None
    portworx_volume: VolumeId | None = None


class Volume(Object):
    spec: VolumeSpec | None = None
    status: Phase | None = None


class TopologyExpression(Wire):
    key: str | None = None
    values: list[str | None] | None = None


class TopologyTerm(Wire):
    match_label_expressions: list[TopologyExpression | None] | None = None


class StorageClass(Object):
    provisioner: str | None = None
    volume_binding_mode: str | None = None
    allowed_topologies: list[TopologyTerm | None] | None = None


class DriverResources(Wire):
    count: int | None = None


class NodeDriver(Wire):
    name: str | None = None
    allocatable: DriverResources | None = None


class CsiNodeSpec(Wire):
    drivers: list[NodeDriver | None] | None = None


class CsiNode(Object):
    spec: CsiNodeSpec | None = None


class CsiDriverSpec(Wire):
    storage_capacity: bool | None = None


class CsiDriver(Object):
    spec: CsiDriverSpec | None = None


class StorageCapacity(Object):
    storage_class_name: str | None = None
    capacity: str | int | float | None = None
    maximum_volume_size: str | int | float | None = None
    node_topology: LabelSelector | None = None


class AttachmentSource(Wire):
    persistent_volume_name: str | None = None
    inline_volume_spec: Present | None = None


class AttachmentSpec(Wire):
    attacher: str | None = None
    node_name: str | None = None
    source: AttachmentSource | None = None


class Attachment(Object):
    spec: AttachmentSpec | None = msgspec.field(default=None)
