"""Services, owners, budgets, volumes and claims as the core has them."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from carbon_scheduler.core.events import Event, ObjectChanged, ObjectGone
from carbon_scheduler.core.model import NodeName, NodeSelectorTerm, Requirement
from carbon_scheduler.core.objects import (
    KINDS as CORE_KINDS,
)
from carbon_scheduler.core.objects import (
    AnyObject,
    Attachment,
    Budget,
    Claim,
    ClaimRef,
    CsiDriver,
    CsiNode,
    ObjectKind,
    Objects,
    Service,
    StorageCapacity,
    StorageClass,
    TopologyTerm,
    Volume,
    Workload,
)
from carbon_scheduler.core.selectors import matches
from carbon_scheduler.core.wire import encode
from carbon_scheduler.kube.cases import Case
from carbon_scheduler.kube.kinds import BY_NAME, KINDS

JSON = dict[str, Any]

IN_NS = {"name": "o", "namespace": "ns", "uid": "u", "resourceVersion": "7"}
ALONE = {"name": "o", "uid": "u", "resourceVersion": "7"}
EXISTS = {"matchExpressions": [{"key": "a", "operator": "Exists"}]}
A_EXISTS = (Requirement("a", "Exists"),)
UNREADABLE = {"matchExpressions": [{"key": "a", "operator": "Like", "values": ["x"]}]}
ZONE_TERM = {"matchExpressions": [{"key": "zone", "operator": "In", "values": ["z1"]}]}
IN_ZONE = NodeSelectorTerm((Requirement("zone", "In", ("z1",)),))


def convert(kind: ObjectKind, meta: JSON, **fields: Any) -> AnyObject:
    return BY_NAME[kind].one(json.dumps({"kind": kind, "metadata": meta, **fields}).encode())


def test_every_kind_of_the_core_is_known_once_and_listed_in_a_case() -> None:
    assert tuple(kind.name for kind in KINDS) == CORE_KINDS
    assert len({kind.listed_as for kind in KINDS}) == len({kind.path for kind in KINDS}) == len(KINDS)
    assert {kind.listed_as for kind in KINDS} <= set(Case.__struct_fields__)


OBJECTS: dict[str, tuple[ObjectKind, JSON, JSON, AnyObject]] = {
    "a service": ("Service", IN_NS, {"spec": {"selector": {"b": "2", "a": None}}}, Service("ns", "o", (("a", ""), ("b", "2")))),
    "a service that selects nothing": ("Service", IN_NS, {"spec": {}}, Service("ns", "o", None)),
    "no namespace: default": ("Service", ALONE, {"spec": None}, Service("default", "o", None)),
    "a ReplicationController": (
        "ReplicationController",
        IN_NS,
        {"spec": {"selector": {"b": "2", "a": "1"}}},
        Workload("ns", "o", "ReplicationController", (Requirement("a", "In", ("1",)), Requirement("b", "In", ("2",)))),
    ),
    "a ReplicaSet": ("ReplicaSet", IN_NS, {"spec": {"selector": EXISTS}}, Workload("ns", "o", "ReplicaSet", A_EXISTS)),
    "a StatefulSet": ("StatefulSet", IN_NS, {"spec": {"selector": EXISTS}}, Workload("ns", "o", "StatefulSet", A_EXISTS)),
    "a selector that cannot be parsed selects nothing": (
        "StatefulSet", IN_NS, {"spec": {"selector": UNREADABLE}}, Workload("ns", "o", "StatefulSet", None),
    ),
    "a budget": (
        "PodDisruptionBudget",
        IN_NS,
        {
            "spec": {"selector": EXISTS, "minAvailable": "50%"},
            "status": {"disruptionsAllowed": 2, "disruptedPods": {"p2": "2026-01-01T00:00:00Z", "p1": None}},
        },
        Budget("ns", "o", A_EXISTS, 2, ("p1", "p2")),
    ),
    "a budget with an empty selector": ("PodDisruptionBudget", IN_NS, {"spec": {"selector": {}}}, Budget("ns", "o", ())),
    "a bare claim": ("PersistentVolumeClaim", IN_NS, {"spec": {}}, Claim("ns", "o", uid="u", resource_version="7", annotated=False)),
    "a claim with everything": (
        "PersistentVolumeClaim",
        {
            **IN_NS,
            "deletionTimestamp": "2026-01-01T00:00:00Z",
            "annotations": {
                "pv.kubernetes.io/bind-completed": "yes",
                "volume.kubernetes.io/selected-node": "n1",
            },
            "ownerReferences": [{"kind": "ConfigMap", "uid": "c"}, {"kind": "Pod", "uid": "p-uid", "controller": True}],
        },
        {
            "spec": {
                "accessModes": ["ReadWriteOncePod", "ReadOnlyMany"],
                "resources": {"requests": {"storage": "1500m", "cpu": "1"}},
                "selector": EXISTS,
                "storageClassName": "fast",
                "volumeAttributesClassName": "gold",
                "volumeMode": "Block",
                "volumeName": "pv",
            },
            "status": {"phase": "Bound"},
        },
        Claim(
            "ns", "o", uid="u", volume_name="pv", class_name="fast", access_modes=("ReadOnlyMany", "ReadWriteOncePod"),
            request_b=2, volume_mode="Block", selector=A_EXISTS, phase="Bound", terminating=True, bind_completed=True,
            selected_node=NodeName("n1"), owner_uid="p-uid", attributes_class="gold", resource_version="7",
        ),
    ),
    "the beta annotation names the class": (
        "PersistentVolumeClaim",
        {**IN_NS, "annotations": {"volume.beta.kubernetes.io/storage-class": "slow"}},
        {"spec": {"storageClassName": "fast"}},
        Claim("ns", "o", uid="u", class_name="slow", resource_version="7"),
    ),
    "a claim for no class": (
        "PersistentVolumeClaim", IN_NS, {"spec": {"storageClassName": ""}},
        Claim("ns", "o", uid="u", class_name="", resource_version="7", annotated=False),
    ),
    "a claim's empty selector": (
        "PersistentVolumeClaim", IN_NS, {"spec": {"selector": {}}},
        Claim("ns", "o", uid="u", selector=(), resource_version="7", annotated=False),
    ),
    "a claim's selector that cannot be parsed": (
        "PersistentVolumeClaim", IN_NS, {"spec": {"selector": UNREADABLE}},
        Claim("ns", "o", uid="u", selector=None, resource_version="7", annotated=False),
    ),
    "annotations that are there without a value": (
        "PersistentVolumeClaim",
        {**IN_NS, "annotations": {"pv.kubernetes.io/bind-completed": None, "volume.kubernetes.io/selected-node": None}},
        {},
        Claim("ns", "o", uid="u", bind_completed=True, selected_node=NodeName(""), resource_version="7"),
    ),
    "a bare volume": ("PersistentVolume", ALONE, {}, Volume("o", resource_version="7")),
    "a volume with everything": (
        "PersistentVolume",
        {**ALONE, "labels": {"topology.kubernetes.io/zone": "z1"}, "deletionTimestamp": "2026-01-01T00:00:00Z"},
        {
            "spec": {
                "capacity": {"storage": "1Gi"},
                "storageClassName": "fast",
                "accessModes": ["ReadWriteOnce"],
                "volumeMode": "Block",
                "nodeAffinity": {"required": {"nodeSelectorTerms": [ZONE_TERM, None]}},
                "claimRef": {"kind": "PersistentVolumeClaim", "namespace": "ns", "name": "c", "uid": "c-uid"},
                "volumeAttributesClassName": "gold",
                "csi": {"driver": "d.example.com", "volumeHandle": "h"},
            },
            "status": {"phase": "Available"},
        },
        Volume(
            "o", capacity_b=2**30, class_name="fast", access_modes=("ReadWriteOnce",), volume_mode="Block",
            node_affinity=(IN_ZONE,), claim_ref=ClaimRef("ns", "c", "c-uid"), phase="Available", terminating=True,
            labels={"topology.kubernetes.io/zone": "z1"}, source=("csi", "d.example.com", "h"), attributes_class="gold",
            resource_version="7",
        ),
    ),
    "a volume's affinity without terms fits no node": (
        "PersistentVolume", ALONE, {"spec": {"nodeAffinity": {"required": {}}}},
        Volume("o", node_affinity=(), resource_version="7"),
    ),
    "a volume's affinity that requires nothing": (
        "PersistentVolume", ALONE, {"spec": {"nodeAffinity": {}}}, Volume("o", resource_version="7"),
    ),
    "a volume's class by the beta annotation": (
        "PersistentVolume",
        {**ALONE, "annotations": {"volume.beta.kubernetes.io/storage-class": ""}},
        {"spec": {"storageClassName": "fast"}},
        Volume("o", resource_version="7"),
    ),
    "a class": (
        "StorageClass",
        ALONE,
        {
            "provisioner": "d.example.com",
            "volumeBindingMode": "WaitForFirstConsumer",
            "parameters": {"type": "ssd"},
            "allowedTopologies": [
                {"matchLabelExpressions": [{"key": "zone", "values": ["z1", "z2"]}, {"key": "rack", "values": None}]},
                {},
            ],
        },
        StorageClass(
            "o", "d.example.com", "WaitForFirstConsumer",
            (TopologyTerm((("zone", ("z1", "z2")), ("rack", ()))), TopologyTerm()),
        ),
    ),
    "a class without a mode": ("StorageClass", ALONE, {"provisioner": "p"}, StorageClass("o", "p")),
    "a node's drivers": (
        "CSINode",
        {**ALONE, "annotations": {"storage.alpha.kubernetes.io/migrated-plugins": "kubernetes.io/aws-ebs,kubernetes.io/cinder"}},
        {"spec": {"drivers": [{"name": "a", "allocatable": {"count": 3}}, {"name": "b"}, {"name": "c", "allocatable": {}}, None]}},
        CsiNode("o", {"a": 3, "b": None, "c": None}, ("kubernetes.io/aws-ebs", "kubernetes.io/cinder")),
    ),
    "a node without drivers": ("CSINode", ALONE, {"spec": {"drivers": None}}, CsiNode("o")),
    "a driver": (
        "CSIDriver", ALONE, {"spec": {"storageCapacity": True, "preventPodSchedulingIfMissing": True}}, CsiDriver("o", True),
    ),
    "a driver that says nothing": ("CSIDriver", ALONE, {"spec": {}}, CsiDriver("o")),
    "a capacity": (
        "CSIStorageCapacity",
        IN_NS,
        {"storageClassName": "fast", "capacity": "2Gi", "maximumVolumeSize": "1.5", "nodeTopology": EXISTS},
        StorageCapacity("ns", "o", "fast", 2**31, 2, A_EXISTS),
    ),
    "a capacity that says nothing": ("CSIStorageCapacity", IN_NS, {"storageClassName": "fast"}, StorageCapacity("ns", "o", "fast")),
    "an attachment": (
        "VolumeAttachment",
        ALONE,
        {"spec": {"attacher": "d", "nodeName": "n", "source": {"persistentVolumeName": "pv"}}, "status": {"attached": True}},
        Attachment("o", "d", "n", "pv"),
    ),
    "an attachment of an inline volume": (
        "VolumeAttachment", ALONE, {"spec": {"attacher": "d", "nodeName": "n", "source": {"inlineVolumeSpec": {}}}},
        Attachment("o", "d", "n", ""),
    ),
}  # fmt: skip


@pytest.mark.parametrize("sentence", OBJECTS)
def test_an_object(sentence: str) -> None:
    kind, meta, fields, want = OBJECTS[sentence]
    assert convert(kind, meta, **fields) == want
    kept = Objects()
    kept.put(want)
    assert list(kept.all(kind)) == [want.key]


@pytest.mark.parametrize("sentence", OBJECTS)
def test_an_object_in_a_trace_is_read_as_it_was_written(sentence: str) -> None:
    kind, meta, fields, want = OBJECTS[sentence]
    for event in (ObjectChanged(1.5, 2.5, convert(kind, meta, **fields)), ObjectGone(1.5, 2.5, kind, want.key)):
        assert msgspec.json.decode(encode(event), type=Event) == event


SOURCES: dict[str, tuple[JSON, tuple[str, ...]]] = {
    "EBS": ({"awsElasticBlockStore": {"volumeID": "aws://z/vol-1"}}, ("awsElasticBlockStore", "aws://z/vol-1")),
    "GCE": ({"gcePersistentDisk": {"pdName": "pd"}}, ("gcePersistentDisk", "pd")),
    "Azure disk": ({"azureDisk": {"diskURI": "/d"}}, ("azureDisk", "/d", "Managed")),
    "an unmanaged Azure disk": ({"azureDisk": {"diskURI": "/d", "kind": "Shared"}}, ("azureDisk", "/d", "Shared")),
    "Cinder": ({"cinder": {"volumeID": "c"}}, ("cinder", "c")),
    "Portworx": ({"portworxVolume": {"volumeID": "x"}}, ("portworxVolume", "x")),
    "a local one": ({"local": {"path": "/mnt"}}, ()),
    "NFS": ({"nfs": {"server": "s", "path": "/"}}, ()),
}


@pytest.mark.parametrize("sentence", SOURCES)
def test_what_a_volume_is(sentence: str) -> None:
    source, want = SOURCES[sentence]
    got = convert("PersistentVolume", ALONE, spec=source)
    assert isinstance(got, Volume)
    assert got.source == want


def test_of_what_cannot_be_read_only_what_does_no_harm_is_kept() -> None:
    volume = convert("PersistentVolume", ALONE, spec={"nodeAffinity": "everywhere"}, status={"phase": "Available"})
    assert isinstance(volume, Volume)
    assert (volume.node_affinity, volume.phase) == ((), "")
    many = {"nodeSelectorTerms": [ZONE_TERM] * 1001}
    volume = convert("PersistentVolume", ALONE, spec={"nodeAffinity": {"required": many}})
    assert isinstance(volume, Volume)
    assert volume.node_affinity == ()
    budget = convert("PodDisruptionBudget", IN_NS, spec={"selector": 5}, status={"disruptionsAllowed": 9})
    assert isinstance(budget, Budget)
    assert budget.disruptions_allowed == 0
    assert budget.selector
    assert matches(budget.selector, {}) and matches(budget.selector, {"any": "label"})  # noqa: PT018
    claim = convert("PersistentVolumeClaim", IN_NS, spec=[])
    assert claim == Claim("ns", "o", uid="u", resource_version="7", annotated=False)
    broken = convert("StorageClass", ALONE, provisioner="p", volumeBindingMode=5)
    assert broken == StorageClass("o")
    long = [{"matchLabelExpressions": []}] * 1001
    capped = convert("StorageClass", ALONE, volumeBindingMode="Immediate", allowedTopologies=long)
    assert isinstance(capped, StorageClass)
    assert capped.binding_mode == ""


BYTES: dict[str, tuple[object, int | None]] = {
    "a number": (5, 5),
    "a broken number is rounded up": ("0.5", 1),
    "more than there are": ("1e99", 2**62),
    "less than none": ("-1Gi", 0),
    "no quantity": ("much", None),
    "null": (None, None),
}


@pytest.mark.parametrize("sentence", BYTES)
def test_a_capacity_in_bytes(sentence: str) -> None:
    written, want = BYTES[sentence]
    got = convert("CSIStorageCapacity", IN_NS, capacity=written)
    assert isinstance(got, StorageCapacity)
    assert got.capacity_b == want


_json = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**65), 2**65) | st.floats(allow_nan=False) | st.text(max_size=6),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=8,
)
_FIELDS = st.sampled_from(
    [
        "spec", "status", "selector", "matchLabels", "matchExpressions", "key", "operator", "values", "accessModes",
        "resources", "requests", "storage", "capacity", "claimRef", "nodeAffinity", "required", "nodeSelectorTerms", "csi",
        "driver", "drivers", "allocatable", "count", "allowedTopologies", "matchLabelExpressions", "disruptedPods",
        "disruptionsAllowed", "nodeTopology", "source", "persistentVolumeName", "maximumVolumeSize", "annotations",
        "ownerReferences", "volumeBindingMode", "storageClassName",
    ]
)  # fmt: skip
_fields = st.recursive(
    _json, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_FIELDS, inner, max_size=4), max_leaves=30
)


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
@given(_fields, _fields, _fields)
@settings(max_examples=40, deadline=None)
def test_nothing_in_an_object_raises(kind: Any, spec: object, status: object, meta: object) -> None:
    body = {"metadata": {"name": "o", "annotations": meta, "ownerReferences": meta}, "spec": spec, "status": status}
    if isinstance(spec, dict):
        body |= {key: value for key, value in spec.items() if key not in body}
    got = kind.one(msgspec.json.encode(body))
    assert (got.kind, got.name) == (kind.name, "o")
