"""Pieces that several kinds of API objects are made of, as they come over the wire: selectors, volumes and their sources."""

from __future__ import annotations

import msgspec


class Wire(msgspec.Struct, rename="camel", gc=False):
    """Base of all. `gc=False`: trees without cycles need no garbage collector, and there are very many of them."""


Quantities = dict[str, str | int | float | None]
Words = dict[str, str | None]


class Requirement(Wire):
    key: str | None = None
    operator: str | None = None
    values: list[str | None] | None = None


class LabelSelector(Wire):
    match_labels: Words | None = None
    match_expressions: list[Requirement | None] | None = None


class NodeSelectorTerm(Wire):
    match_expressions: list[Requirement | None] | None = None
    match_fields: list[Requirement | None] | None = None


class NodeSelector(Wire):
    node_selector_terms: list[NodeSelectorTerm | None] | None = None


class PodTerm(Wire):
    topology_key: str | None = None
    label_selector: LabelSelector | None = None
    namespaces: list[str | None] | None = None
    namespace_selector: LabelSelector | None = None


class WeightedPodTerm(Wire):
    weight: int | None = None
    pod_affinity_term: PodTerm | None = None


class PodTerms(Wire):
    required: list[PodTerm | None] | None = msgspec.field(
        default=None, name="requiredDuringSchedulingIgnoredDuringExecution"
    )
    preferred: list[WeightedPodTerm | None] | None = msgspec.field(
        default=None, name="preferredDuringSchedulingIgnoredDuringExecution"
    )


class SpreadConstraint(Wire):
    max_skew: int | None = None
    topology_key: str | None = None
    when_unsatisfiable: str | None = None
    label_selector: LabelSelector | None = None
    min_domains: int | None = None
    node_affinity_policy: str | None = None
    node_taints_policy: str | None = None
    match_label_keys: list[str | None] | None = None


class Present(Wire):
    """An object of which only the presence matters."""


class ClaimSource(Wire):
    claim_name: str | None = None


class InlineCsi(Wire):
    driver: str | None = None


class ImageSource(Wire):
    reference: str | None = None


class Ebs(Wire):
    volume_id: str | None = msgspec.field(default=None, name="volumeID")
    read_only: bool | None = None


class GcePd(Wire):
    pd_name: str | None = None
    read_only: bool | None = None


class Iscsi(Wire):
    iqn: str | None = None
    read_only: bool | None = None


class Rbd(Wire):
    monitors: list[str | None] | None = None
    image: str | None = None
    pool: str | None = None
    read_only: bool | None = None


class AzureDisk(Wire):
    disk_uri: str | None = msgspec.field(default=None, name="diskURI")
    kind: str | None = None
    read_only: bool | None = None


class VolumeId(Wire):
    """Of Cinder and Portworx."""

    volume_id: str | None = msgspec.field(default=None, name="volumeID")
    read_only: bool | None = None


class Volume(Wire):
    """A volume of a pod."""

    name: str | None = None
    persistent_volume_claim: ClaimSource | None = None
    ephemeral: Present | None = None
    csi: InlineCsi | None = None
    image: ImageSource | None = None
    aws_elastic_block_store: Ebs | None = None
    gce_persistent_disk: GcePd | None = None
    iscsi: Iscsi | None = None
    rbd: Rbd | None = None
    azure_disk: AzureDisk | None = None
    cinder: VolumeId | None = None
    portworx_volume: VolumeId | None = None
    azure_file: Present | None = None
    vsphere_volume: Present | None = None


class Owner(Wire):
    """One of metadata.ownerReferences."""

    api_version: str | None = None
    kind: str | None = None
    name: str | None = None
    uid: str | None = None
    controller: bool | None = None
