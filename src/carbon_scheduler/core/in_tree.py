"""Volumes of types that were built into Kubernetes once, as the CSI volumes that stand for them today.

Sources: k8s.io/csi-translation-lib v0.36.3 (translate.go, plugins/*.go), and which of them kube-scheduler v1.36.3 regards as
migrated (plugins/nodevolumelimits/utils.go, plugins/volumebinding/binder.go isCSIMigrationOnForPlugin): not azureFile and
vsphereVolume, although their translation exists.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from carbon_scheduler.core.model import NodeSelectorTerm, Requirement, Struct

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from carbon_scheduler.core.model import PodVolume
    from carbon_scheduler.core.objects import Volume

    Terms = tuple[NodeSelectorTerm, ...]

ZONE: Final = "topology.kubernetes.io/zone"
REGION: Final = "topology.kubernetes.io/region"
BETA_ZONE: Final = "failure-domain.beta.kubernetes.io/zone"
BETA_REGION: Final = "failure-domain.beta.kubernetes.io/region"
SEVERAL: Final = "__"
"""Between the zones in a PersistentVolume's label."""


class NotTranslatable(ValueError):
    """A volume of a migrated type that has no CSI counterpart, as the message says; upstream's attempt ends in an error."""


class InTree(Struct, frozen=True):
    """One type: the name of its plugin, of the driver that replaces it, and of that driver's label for zones (""; none)."""

    plugin: str
    driver: str
    zone_label: str = ""
    migrated: bool = True


TYPES: Final[Mapping[str, InTree]] = {
    "awsElasticBlockStore": InTree("kubernetes.io/aws-ebs", "ebs.csi.aws.com", "topology.ebs.csi.aws.com/zone"),
    "gcePersistentDisk": InTree("kubernetes.io/gce-pd", "pd.csi.storage.gke.io", "topology.gke.io/zone"),
    "azureDisk": InTree("kubernetes.io/azure-disk", "disk.csi.azure.com"),
    "cinder": InTree("kubernetes.io/cinder", "cinder.csi.openstack.org", "topology.cinder.csi.openstack.org/zone"),
    "portworxVolume": InTree("kubernetes.io/portworx-volume", "pxd.portworx.com"),
    "azureFile": InTree("kubernetes.io/azure-file", "file.csi.azure.com", migrated=False),
    "vsphereVolume": InTree("kubernetes.io/vsphere-volume", "csi.vsphere.vmware.com", migrated=False),
}
"""By the name of the field that holds such a volume in a pod or PersistentVolume."""

PROVISIONERS: Final[Mapping[str, InTree]] = {known.plugin: known for known in TYPES.values()}


def migrated(kind: str) -> InTree | None:
    """The type, when a CSI driver stands for its volumes wherever the node has one."""
    found = TYPES.get(kind)
    return found if found is not None and found.migrated else None


# -- handles -------------------------------------------------------------------------------------------------------


def inline_handle(volume: PodVolume) -> str:
    """The CSI volume handle of a migrated volume in a pod's spec. Raises NotTranslatable."""
    if volume.kind == "gcePersistentDisk":
        return _gce_handle("zones", _UNSPECIFIED, volume.ref)
    return _handle(volume.kind, volume.ref, volume.more)


def volume_handle(volume: Volume) -> str:
    """The CSI volume handle of a PersistentVolume of a migrated type. Raises NotTranslatable."""
    kind, ref, *more = volume.source
    if kind == "gcePersistentDisk":
        zones = (volume.labels.get(BETA_ZONE) or volume.labels.get(ZONE) or "").split(SEVERAL)
        if len(zones) > 1:
            return _gce_handle("regions", _gce_region(zones), ref)
        return _gce_handle("zones", zones[0] or _UNSPECIFIED, ref)
    return _handle(kind, ref, more)


_UNSPECIFIED: Final = "UNSPECIFIED"
_EBS_ID: Final = re.compile(r"vol-[^/]*\Z")


def _handle(kind: str, ref: str, more: tuple[str, ...] | list[str]) -> str:
    if kind == "awsElasticBlockStore" and ref.startswith("aws://"):
        path = re.split(r"[?#]", ref.removeprefix("aws://"), maxsplit=1)[0].partition("/")[2].strip("/")
        if not _EBS_ID.match(path):
            raise NotTranslatable(f"awsElasticBlockStore: volumeID: got {ref!r}, expected aws://ZONE/vol-ID or vol-ID")
        return path
    if kind == "azureDisk" and more and more[0] and more[0].lower() != "managed":
        raise NotTranslatable(f"azureDisk: kind: got {more[0]!r}, expected Managed, the only one that has a CSI driver")
    return ref


def _gce_handle(extent: str, place: str, disk: str) -> str:
    return f"projects/{_UNSPECIFIED}/{extent}/{place}/disks/{disk}"


def _gce_region(zones: list[str]) -> str:
    regions: dict[str, None] = {}
    for zone in zones:
        parts = zone.split("-")
        if len(parts) != 3:
            raise NotTranslatable(f"gcePersistentDisk: zone label: got {zone!r}, expected CONTINENT-REGION-ZONE")
        regions["-".join(parts[:2])] = None
    if len(regions) != 1:
        raise NotTranslatable(
            f"gcePersistentDisk: zone label: got zones of {len(regions)} regions, expected one region"
        )
    return next(iter(regions))


# -- topology ------------------------------------------------------------------------------------------------------


def translated_affinity(volume: Volume) -> Terms | None:
    """The node affinity that a PersistentVolume of a migrated type has as a CSI volume. Raises NotTranslatable."""
    volume_handle(volume)
    label = TYPES[volume.source[0]].zone_label
    terms = volume.node_affinity
    if not label:
        return terms
    zone, region = _topology_labels(volume)
    if _values(terms, zone):
        terms = _rewritten(terms or (), lambda r: Requirement(label, r.operator, r.values) if r.key == zone else r)
    elif zone in volume.labels:
        zones = {text.strip() for text in volume.labels[zone].split(SEVERAL)} - {""}
        if zones:
            wanted = Requirement(label, "In", tuple(sorted(zones)))
            terms = tuple(
                NodeSelectorTerm((*term.expressions, wanted), term.fields) for term in terms or (NodeSelectorTerm(),)
            )
    if region == BETA_REGION and _values(terms, region):
        terms = _rewritten(terms or (), lambda r: Requirement(REGION, r.operator, r.values) if r.key == region else r)
    return terms


def _topology_labels(volume: Volume) -> tuple[str, str]:
    """Which generation of labels for zone and region the volume is described in (getTopologyLabel)."""
    keys = {r.key for term in volume.node_affinity or () for r in term.expressions}
    for here in (keys, volume.labels):
        if ZONE in here:
            return ZONE, REGION
        if BETA_ZONE in here:
            return BETA_ZONE, BETA_REGION
    return ZONE, REGION


def _values(terms: Terms | None, key: str) -> bool:
    return any(r.key == key and r.values for term in terms or () for r in term.expressions)


def _rewritten(terms: Terms, change: Callable[[Requirement], Requirement]) -> Terms:
    return tuple(NodeSelectorTerm(tuple(map(change, term.expressions)), term.fields) for term in terms)
