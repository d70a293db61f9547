"""In-tree volumes as CSI volumes; the cases of upstream's own tests (csi-translation-lib v0.36.3 plugins/*_test.go) among them."""

from __future__ import annotations

import pytest

from builders_volumes import make_volume
from carbon_scheduler.core.in_tree import (
    TYPES,
    NotTranslatable,
    inline_handle,
    migrated,
    translated_affinity,
    volume_handle,
)
from carbon_scheduler.core.model import NodeSelectorTerm, PodVolume, Requirement

ZONE, BETA_ZONE = "topology.kubernetes.io/zone", "failure-domain.beta.kubernetes.io/zone"
REGION, BETA_REGION = "topology.kubernetes.io/region", "failure-domain.beta.kubernetes.io/region"
EBS, GCE = TYPES["awsElasticBlockStore"].zone_label, TYPES["gcePersistentDisk"].zone_label
Terms = tuple[NodeSelectorTerm, ...]


def term(*expressions: tuple[str, str]) -> NodeSelectorTerm:
    """`(key, "a b")`: the key is one of these values."""
    return NodeSelectorTerm(tuple(Requirement(key, "In", tuple(values.split())) for key, values in expressions))


INLINE: dict[str, tuple[PodVolume, str]] = {
    "a bare EBS id": (PodVolume("awsElasticBlockStore", "vol-1"), "vol-1"),
    "an EBS id of whatever form is left as it is": (PodVolume("awsElasticBlockStore", "disk 1"), "disk 1"),
    "an EBS address with a zone": (PodVolume("awsElasticBlockStore", "aws://us-west-2b/vol-1"), "vol-1"),
    "an EBS address without": (PodVolume("awsElasticBlockStore", "aws:///vol-1"), "vol-1"),
    "an EBS address with slashes at the end": (PodVolume("awsElasticBlockStore", "aws:////vol-1//"), "vol-1"),
    "an EBS address of another thing": (PodVolume("awsElasticBlockStore", "aws://us-west-2b/snap-1"), ""),
    "an EBS address of nothing": (PodVolume("awsElasticBlockStore", "aws://vol-1"), ""),
    "a GCE disk, of whatever zone": (
        PodVolume("gcePersistentDisk", "pd"),
        "projects/UNSPECIFIED/zones/UNSPECIFIED/disks/pd",
    ),
    "a managed Azure disk": (PodVolume("azureDisk", "/disks/d", False, ("managed",)), "/disks/d"),
    "another Azure disk": (PodVolume("azureDisk", "/disks/d", False, ("Dedicated",)), ""),
    "a Cinder volume": (PodVolume("cinder", "c"), "c"),
    "a Portworx volume": (PodVolume("portworxVolume", "p"), "p"),
}


@pytest.mark.parametrize("sentence", INLINE)
def test_a_disk_in_a_pod(sentence: str) -> None:
    volume, want = INLINE[sentence]
    if want:
        assert inline_handle(volume) == want
    else:
        with pytest.raises(NotTranslatable, match="expected"):
            inline_handle(volume)


GCE_LABELS: dict[str, tuple[dict[str, str], str]] = {
    "none": ({}, "zones/UNSPECIFIED"),
    "a zone": ({ZONE: "us-central1-a"}, "zones/us-central1-a"),
    "two names for the zone": ({ZONE: "us-central1-a", BETA_ZONE: "us-central1-b"}, "zones/us-central1-b"),
    "several zones of a region": ({BETA_ZONE: "us-central1-a__us-central1-c"}, "regions/us-central1"),
    "zones of two regions": ({ZONE: "us-central1-a__us-west1-c"}, ""),
    "zones of another form": ({ZONE: "here__there"}, ""),
}


@pytest.mark.parametrize("sentence", GCE_LABELS)
def test_a_gce_disk_lies_where_its_labels_say(sentence: str) -> None:
    labels, want = GCE_LABELS[sentence]
    volume = make_volume("v", source=("gcePersistentDisk", "pd"), labels=labels)
    if want:
        assert volume_handle(volume) == f"projects/UNSPECIFIED/{want}/disks/pd"
    else:
        with pytest.raises(NotTranslatable, match="zone label"):
            volume_handle(volume)


AFFINITY: dict[str, tuple[Terms | None, dict[str, str], Terms | None]] = {
    "nothing said": (None, {}, None),
    "a zone in the affinity": ((term((ZONE, "a b")),), {}, (term((EBS, "a b")),)),
    "by its older name": ((term((BETA_ZONE, "a"), ("rack", "r")),), {}, (term((EBS, "a"), ("rack", "r")),)),
    "in every term": ((term((ZONE, "a")), term((ZONE, "b"))), {}, (term((EBS, "a")), term((EBS, "b")))),
    "both names: the newer is replaced": (
        (term((ZONE, "a"), (BETA_ZONE, "b")),),
        {},
        (term((EBS, "a"), (BETA_ZONE, "b")),),
    ),
    "an older region goes with an older zone": (
        (term((BETA_ZONE, "a"), (BETA_REGION, "r")),),
        {},
        (term((EBS, "a"), (REGION, "r")),),
    ),
    "and stays beside a newer one": (
        (term((ZONE, "a"), (BETA_REGION, "r")),),
        {},
        (term((EBS, "a"), (BETA_REGION, "r")),),
    ),
    "a zone in the labels alone": (None, {ZONE: "b__a"}, (term((EBS, "a b")),)),
    "is added to each term": (
        (term(("rack", "r")), term(("rack", "s"))),
        {BETA_ZONE: "a"},
        (term(("rack", "r"), (EBS, "a")), term(("rack", "s"), (EBS, "a"))),
    ),
    "a label that names no zone": (None, {ZONE: " __ "}, None),
    "the affinity comes before the labels": ((term((ZONE, "a")),), {ZONE: "b"}, (term((EBS, "a")),)),
}


@pytest.mark.parametrize("sentence", AFFINITY)
def test_zones_become_the_drivers(sentence: str) -> None:
    terms, labels, want = AFFINITY[sentence]
    volume = make_volume("v", source=("awsElasticBlockStore", "vol-1"), node_affinity=terms, labels=labels)
    assert translated_affinity(volume) == want


def test_drivers_without_a_zone_of_their_own_leave_the_affinity_as_it_is() -> None:
    terms = (term((ZONE, "a")),)
    for kind in ("azureDisk", "portworxVolume"):
        assert (
            translated_affinity(make_volume("v", source=(kind, "d"), node_affinity=terms, labels={ZONE: "b"})) == terms
        )


def test_a_volume_that_cannot_be_translated_has_no_affinity_either() -> None:
    with pytest.raises(NotTranslatable):
        translated_affinity(make_volume("v", source=("azureDisk", "d", "Shared")))


def test_files_and_vsphere_are_not_taken_over() -> None:
    assert [kind for kind in TYPES if migrated(kind) is None] == ["azureFile", "vsphereVolume"]
    assert migrated("iscsi") is None
    assert GCE == "topology.gke.io/zone"
