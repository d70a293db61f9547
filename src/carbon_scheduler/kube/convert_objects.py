"""Volumes and claims, services, owners and budgets as the core's.

Nothing here raises for what an object holds. Of an object that cannot be read only what can do no harm is kept: a volume
that fits no node, a class without a binding mode, a budget that allows no disruption.

Sources: component-helpers v0.36.3 storage/volume (helpers.go, pv_helpers.go), pkg/scheduler/framework/plugins of 1.36.3
(helper/spread.go, volumebinding/binder.go, nodevolumelimits, volumezone).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from carbon_scheduler.core import model, objects
from carbon_scheduler.core.model import NodeName
from carbon_scheduler.core.selectors import fault
from carbon_scheduler.kube import wire
from carbon_scheduler.kube import wire_objects as found_objects
from carbon_scheduler.kube.pod_parts import INT32, controller_of
from carbon_scheduler.kube.quantity import BadQuantity, milli, units
from carbon_scheduler.kube.refusal import MAX_TERMS, Refusal, within, words
from carbon_scheduler.kube.selectors import label_selector, map_selector, node_term

if TYPE_CHECKING:
    from collections.abc import Iterable

    from carbon_scheduler.kube import wire_parts as parts

BETA_CLASS: Final = "volume.beta.kubernetes.io/storage-class"
BIND_COMPLETED: Final = "pv.kubernetes.io/bind-completed"
SELECTED_NODE: Final = "volume.kubernetes.io/selected-node"
MIGRATED_PLUGINS: Final = "storage.alpha.kubernetes.io/migrated-plugins"
MAX_DISRUPTED: Final = 2000
"""status.disruptedPods: the disruption controller stops at as many (MaxDisruptedPodSize)."""


# -- services and owners


def service(found: found_objects.Service) -> objects.Service:
    namespace, name = _named(found)
    return objects.Service(namespace, name, map_selector((found.spec or found_objects.ServiceSpec()).selector))


def replication_controller(found: found_objects.ReplicationController) -> objects.Workload:
    labels = map_selector((found.spec or found_objects.ServiceSpec()).selector)
    selector = None if labels is None else tuple(model.Requirement(key, "In", (value,)) for key, value in labels)
    return objects.Workload(*_named(found), "ReplicationController", selector)


def replica_set(found: found_objects.Workload) -> objects.Workload:
    return objects.Workload(*_named(found), "ReplicaSet", _selector_of(found))


def stateful_set(found: found_objects.Workload) -> objects.Workload:
    return objects.Workload(*_named(found), "StatefulSet", _selector_of(found))


def budget(found: found_objects.Budget) -> objects.Budget:
    """One that cannot be read protects every pod of its namespace."""
    status = found.status or found_objects.BudgetStatus()
    disrupted = sorted(status.disrupted_pods or {})[:MAX_DISRUPTED]
    everything = (model.Requirement("", "DoesNotExist"),)  # an empty selector would protect none
    selector = _selector_of(found) if found.problem is None else everything
    return objects.Budget(*_named(found), selector, within(status.disruptions_allowed, *INT32), tuple(disrupted))


def _selector_of(found: found_objects.Workload | found_objects.Budget) -> model.Selector:
    return _selector((found.spec or found_objects.WorkloadSpec()).selector)


def _selector(found: parts.LabelSelector | None) -> model.Selector:
    """One that cannot be parsed, or is too long, matches nothing, as a missing one."""
    refusal = Refusal(None)
    selector = label_selector(found, refusal)
    return None if refusal.text or fault(selector) else selector


# -- volumes


def claim(found: found_objects.Claim) -> objects.Claim:
    meta, spec = found.metadata or wire.Meta(), found.spec or found_objects.ClaimSpec()
    annotations = meta.annotations or {}
    owner = controller_of(meta.owner_references)
    return objects.Claim(
        *_named(found),
        uid=meta.uid or "",
        volume_name=spec.volume_name or "",
        class_name=(annotations[BETA_CLASS] or "") if BETA_CLASS in annotations else spec.storage_class_name,
        access_modes=_modes(spec.access_modes),
        request_b=_bytes(((spec.resources or wire.Resources()).requests or {}).get("storage")) or 0,
        volume_mode=spec.volume_mode or "Filesystem",
        selector="none" if spec.selector is None else _selector(spec.selector),
        phase=(found.status or found_objects.Phase()).phase or "",
        terminating=meta.deletion_timestamp is not None,
        bind_completed=BIND_COMPLETED in annotations,
        selected_node=NodeName(annotations[SELECTED_NODE] or "") if SELECTED_NODE in annotations else None,
        annotated=bool(annotations),
        owner_uid=(owner.uid or "") if owner else "",
        attributes_class=spec.volume_attributes_class_name,
        resource_version=meta.resource_version or "",
    )


def volume(found: found_objects.Volume) -> objects.Volume:
    """One whose node affinity cannot be read fits no node."""
    meta, spec = found.metadata or wire.Meta(), found.spec or found_objects.VolumeSpec()
    annotations = meta.annotations or {}
    refusal = Refusal(found.problem, "volume")
    required = None if spec.node_affinity is None else spec.node_affinity.required
    affinity: tuple[model.NodeSelectorTerm, ...] | None = None
    if required is not None:
        terms = refusal.bounded(required.node_selector_terms, "spec.nodeAffinity")
        affinity = tuple(node_term(term, refusal) for term in terms)
    ref = spec.claim_ref
    return objects.Volume(
        meta.name or "",
        capacity_b=_bytes((spec.capacity or {}).get("storage")) or 0,
        class_name=(annotations[BETA_CLASS] or "") if BETA_CLASS in annotations else spec.storage_class_name or "",
        access_modes=_modes(spec.access_modes),
        volume_mode=spec.volume_mode or "Filesystem",
        node_affinity=() if refusal.text else affinity,
        claim_ref=None if ref is None else objects.ClaimRef(ref.namespace or "", ref.name or "", ref.uid or ""),
        phase=(found.status or found_objects.Phase()).phase or "",
        terminating=meta.deletion_timestamp is not None,
        labels=words(meta.labels),
        source=_source(spec),
        attributes_class=spec.volume_attributes_class_name,
        resource_version=meta.resource_version or "",
    )


def _source(spec: found_objects.VolumeSpec) -> tuple[str, ...]:
    """Only the kinds that a CSI driver stands for, itself or by migration."""
    if (csi := spec.csi) is not None:
        return "csi", csi.driver or "", csi.volume_handle or ""
    if (ebs := spec.aws_elastic_block_store) is not None:
        return "awsElasticBlockStore", ebs.volume_id or ""
    if (gce := spec.gce_persistent_disk) is not None:
        return "gcePersistentDisk", gce.pd_name or ""
    if (azure := spec.azure_disk) is not None:
        return "azureDisk", azure.disk_uri or "", azure.kind or "Managed"
    if (cinder := spec.cinder) is not None:
        return "cinder", cinder.volume_id or ""
    if (portworx := spec.portworx_volume) is not None:
        return "portworxVolume", portworx.volume_id or ""
    return ()


def storage_class(found: found_objects.StorageClass) -> objects.StorageClass:
    """One that cannot be read has no binding mode, which makes its claims an error rather than a guess."""
    refusal = Refusal(found.problem, "class")
    terms = tuple(
        objects.TopologyTerm(
            tuple(
                (part.key or "", tuple(value or "" for value in part.values or ()))
                for part in refusal.bounded(term.match_label_expressions, "matchLabelExpressions")
            )
        )
        for term in refusal.bounded(found.allowed_topologies, "allowedTopologies")
    )
    mode = "" if refusal.text else found.volume_binding_mode or ""
    return objects.StorageClass(_name(found), found.provisioner or "", mode, terms)


def csi_node(found: found_objects.CsiNode) -> objects.CsiNode:
    limits: dict[str, int | None] = {}
    for driver in ((found.spec or found_objects.CsiNodeSpec()).drivers or ())[:MAX_TERMS]:
        if driver is not None:
            count = None if driver.allocatable is None else driver.allocatable.count
            limits[driver.name or ""] = None if count is None else within(count, *INT32)
    migrated = words((found.metadata or wire.Meta()).annotations).get(MIGRATED_PLUGINS, "")
    return objects.CsiNode(_name(found), limits, tuple(migrated.split(",")) if migrated else ())


def csi_driver(found: found_objects.CsiDriver) -> objects.CsiDriver:
    spec = found.spec or found_objects.CsiDriverSpec()
    return objects.CsiDriver(_name(found), bool(spec.storage_capacity))


def storage_capacity(found: found_objects.StorageCapacity) -> objects.StorageCapacity:
    return objects.StorageCapacity(
        *_named(found),
        class_name=found.storage_class_name or "",
        capacity_b=_bytes(found.capacity),
        maximum_volume_b=_bytes(found.maximum_volume_size),
        topology=_selector(found.node_topology),
    )


def attachment(found: found_objects.Attachment) -> objects.Attachment:
    spec = found.spec or found_objects.AttachmentSpec()
    source = spec.source or found_objects.AttachmentSource()
    return objects.Attachment(
        _name(found), spec.attacher or "", spec.node_name or "", source.persistent_volume_name or ""
    )


# -- parts


def _name(found: wire.Object) -> str:
    return (found.metadata or wire.Meta()).name or ""


def _named(found: wire.Object) -> tuple[str, str]:
    meta = found.metadata or wire.Meta()
    return meta.namespace or "default", meta.name or ""


def _modes(found: Iterable[str | None] | None) -> tuple[str, ...]:
    return tuple(sorted({mode for mode in found or () if mode}))


def _bytes(found: str | float | None) -> int | None:
    """Whole bytes, rounded up; None without a readable quantity. Negative ones are 0."""
    if found is None:
        return None
    try:
        return units(max(milli(found if isinstance(found, str) else repr(found)), 0))
    except BadQuantity:
        return None
