"""What decides where a pod may run beside its resources: each part of the API's pod as the core has it."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from carbon_scheduler.core.model import (
    Image,
    Node,
    Owner,
    Pod,
    PodTerm,
    PodVolume,
    Requirement,
    SpreadConstraint,
    WeightedPodTerm,
)
from carbon_scheduler.kube import wire
from carbon_scheduler.kube.convert import Converter
from carbon_scheduler.kube.refusal import MAX_TERMS

JSON = dict[str, Any]

REQUIRED = "requiredDuringSchedulingIgnoredDuringExecution"
PREFERRED = "preferredDuringSchedulingIgnoredDuringExecution"
HOST = "kubernetes.io/hostname"
WEB = {"matchLabels": {"app": "web"}}
IS_WEB = (Requirement("app", "In", ("web",)),)


def convert(spec: JSON | None = None, status: JSON | None = None, **meta: object) -> Pod:
    body = {"metadata": {"name": "p", "namespace": "ns", "uid": "u", **meta}, "spec": spec, "status": status}
    return Converter().pod(wire.PODS.one(msgspec.json.encode(body)))


def node(status: JSON) -> Node:
    return Converter().node(wire.NODES.one(msgspec.json.encode({"metadata": {"name": "n"}, "status": status})))


TERMS: dict[str, tuple[JSON, PodTerm]] = {
    "no namespaces and no selector of them: the pod's own": (
        {"topologyKey": HOST, "labelSelector": WEB},
        PodTerm(HOST, IS_WEB, ("ns",)),
    ),
    "namespaces: these, each once and in order": (
        {"topologyKey": HOST, "labelSelector": WEB, "namespaces": ["b", "a", "b", None]},
        PodTerm(HOST, IS_WEB, ("a", "b")),
    ),
    "a selector of namespaces: not the own one": (
        {"topologyKey": HOST, "labelSelector": WEB, "namespaceSelector": {"matchLabels": {"team": "x"}}},
        PodTerm(HOST, IS_WEB, (), (Requirement("team", "In", ("x",)),)),
    ),
    "an empty selector of namespaces: all": (
        {"topologyKey": HOST, "labelSelector": WEB, "namespaceSelector": {}},
        PodTerm(HOST, IS_WEB, (), ()),
    ),
    "no label selector: nothing": ({"topologyKey": HOST}, PodTerm(HOST, None, ("ns",))),
    "an empty label selector: everything": ({"topologyKey": HOST, "labelSelector": {}}, PodTerm(HOST, (), ("ns",))),
    "labels come first, by key; then the expressions, in their order": (
        {
            "topologyKey": HOST,
            "labelSelector": {
                "matchExpressions": [
                    {"key": "z", "operator": "NotIn", "values": ["2", "1"]},
                    None,
                    {"key": "a", "operator": "Exists"},
                ],
                "matchLabels": {"c": None, "b": "1"},
            },
        },
        PodTerm(
            HOST,
            (
                Requirement("b", "In", ("1",)),
                Requirement("c", "In", ("",)),
                Requirement("z", "NotIn", ("2", "1")),
                Requirement("a", "Exists"),
            ),
            ("ns",),
        ),
    ),
    "an operator that there is not: kept, the plugin says why": (
        {"topologyKey": HOST, "labelSelector": {"matchExpressions": [{"key": "a", "operator": "Gt", "values": ["1"]}]}},
        PodTerm(HOST, (Requirement("a", "Gt", ("1",)),), ("ns",)),
    ),
}


@pytest.mark.parametrize("sentence", TERMS)
def test_a_term_between_pods(sentence: str) -> None:
    given_term, want = TERMS[sentence]
    weighted = [{"weight": 7, "podAffinityTerm": given_term}]
    for field, of in (("podAffinity", "affinity"), ("podAntiAffinity", "anti_affinity")):
        spec = convert({"affinity": {field: {REQUIRED: [given_term], PREFERRED: weighted}}}).spec
        other = "anti_affinity" if of == "affinity" else "affinity"
        assert getattr(spec, f"required_pod_{of}") == (want,)
        assert getattr(spec, f"preferred_pod_{of}") == (WeightedPodTerm(7, want),)
        assert getattr(spec, f"required_pod_{other}") == getattr(spec, f"preferred_pod_{other}") == ()


SPREAD: dict[str, tuple[JSON, SpreadConstraint]] = {
    "hard, with the API's defaults": (
        {"maxSkew": 1, "topologyKey": HOST, "whenUnsatisfiable": "DoNotSchedule", "labelSelector": WEB},
        SpreadConstraint(HOST, 1, True, IS_WEB),
    ),
    "soft": (
        {"maxSkew": 5, "topologyKey": "zone", "whenUnsatisfiable": "ScheduleAnyway"},
        SpreadConstraint("zone", 5, False, None),
    ),
    "everything set": (
        {
            "maxSkew": 2,
            "topologyKey": "zone",
            "whenUnsatisfiable": "DoNotSchedule",
            "labelSelector": {},
            "minDomains": 3,
            "nodeAffinityPolicy": "Ignore",
            "nodeTaintsPolicy": "Honor",
            "matchLabelKeys": ["tier", "missing", "app"],
        },
        SpreadConstraint("zone", 2, True, (), ("app", "tier"), 3, False, True),
    ),
    "policies said as the defaults are": (
        {
            "maxSkew": 1,
            "topologyKey": "zone",
            "whenUnsatisfiable": "DoNotSchedule",
            "nodeAffinityPolicy": "Honor",
            "nodeTaintsPolicy": "Ignore",
        },
        SpreadConstraint("zone", 1, True, None),
    ),
}


@pytest.mark.parametrize("sentence", SPREAD)
def test_a_spread_constraint(sentence: str) -> None:
    constraint, want = SPREAD[sentence]
    got = convert({"topologySpreadConstraints": [None, constraint]}, labels={"app": "web", "tier": "front"})
    assert got.spec.spread == (want,)
    assert "cannot read" not in got.refusal


IMAGES: dict[str, tuple[JSON, tuple[str, ...], int]] = {
    "no tag: latest": ({"containers": [{"image": "nginx"}]}, ("nginx:latest",), 1),
    "a port is not a tag": ({"containers": [{"image": "reg:5000/nginx"}]}, ("reg:5000/nginx:latest",), 1),
    "a tag": ({"containers": [{"image": "reg:5000/nginx:1"}]}, ("reg:5000/nginx:1",), 1),
    "a digest": ({"containers": [{"image": "nginx@sha256:ab"}]}, ("nginx@sha256:ab",), 1),
    "init containers first; the same name twice counts twice": (
        {"initContainers": [{"image": "a"}], "containers": [{"image": "a"}, None, {"image": "b:1"}]},
        ("a:latest", "a:latest", "b:1"),
        3,
    ),
    "an image volume is no container": (
        {
            "containers": [{"image": "a"}],
            "volumes": [None, {"name": "v", "image": {"reference": "data"}}, {"name": "w", "image": {}}, {"name": "x"}],
        },
        ("a:latest", "data:latest", ":latest"),
        1,
    ),
}


@pytest.mark.parametrize("sentence", IMAGES)
def test_images(sentence: str) -> None:
    spec, want, containers = IMAGES[sentence]
    got = convert(spec).spec
    assert (got.images, got.containers) == (want, containers)


VOLUMES: dict[str, tuple[JSON, tuple[PodVolume, ...]]] = {
    "a claim": ({"persistentVolumeClaim": {"claimName": "data", "readOnly": True}}, (PodVolume("claim", "data"),)),
    "a claim without a name": ({"persistentVolumeClaim": {}}, (PodVolume("claim", ""),)),
    "generic ephemeral": ({"ephemeral": {"volumeClaimTemplate": {"spec": {}}}}, (PodVolume("ephemeral", "v"),)),
    "a CSI driver's own": ({"csi": {"driver": "secrets.example.com"}}, (PodVolume("csi", "secrets.example.com"),)),
    "EBS": (
        {"awsElasticBlockStore": {"volumeID": "vol-1", "readOnly": True}},
        (PodVolume("awsElasticBlockStore", "vol-1", True),),
    ),
    "GCE": ({"gcePersistentDisk": {"pdName": "pd"}}, (PodVolume("gcePersistentDisk", "pd"),)),
    "iSCSI: the name of the target alone": (
        {"iscsi": {"targetPortal": "10.0.0.1", "iqn": "iqn.x", "lun": 0, "readOnly": True}},
        (PodVolume("iscsi", "iqn.x", True),),
    ),
    "RBD: image, pool, monitors": (
        {"rbd": {"monitors": ["b", "a", "b"], "image": "i", "pool": "p"}},
        (PodVolume("rbd", "i", False, ("p", "a", "b")),),
    ),
    "RBD in the default pool": (
        {"rbd": {"monitors": ["a"], "image": "i"}},
        (PodVolume("rbd", "i", False, ("rbd", "a")),),
    ),
    "Azure disk": (
        {"azureDisk": {"diskName": "d", "diskURI": "/disks/d", "kind": "Dedicated"}},
        (PodVolume("azureDisk", "/disks/d", False, ("Dedicated",)),),
    ),
    "Cinder": ({"cinder": {"volumeID": "c"}}, (PodVolume("cinder", "c"),)),
    "Portworx": ({"portworxVolume": {"volumeID": "x"}}, (PodVolume("portworxVolume", "x"),)),
    "Azure file": ({"azureFile": {"shareName": "s", "secretName": "t"}}, (PodVolume("azureFile", "v"),)),
    "vSphere": ({"vsphereVolume": {"volumePath": "[ds] v"}}, (PodVolume("vsphereVolume", "v"),)),
    "what every node has": ({"projected": {"sources": []}}, ()),
    "an empty directory": ({"emptyDir": {}}, ()),
    "NFS": ({"nfs": {"server": "s", "path": "/"}}, ()),
}


@pytest.mark.parametrize("sentence", VOLUMES)
def test_a_volume(sentence: str) -> None:
    volume, want = VOLUMES[sentence]
    assert convert({"volumes": [None, {"name": "v", **volume}]}).spec.volumes == want


RULES = {"restartPolicyRules": [{"action": "Restart"}, None, {"action": "RestartAllContainers"}]}
FEATURES: dict[str, tuple[JSON, tuple[str, ...]]] = {
    "none": ({"containers": [{"name": "c"}]}, ()),
    "a container may restart all": (
        {"containers": [{"name": "c", **RULES}]},
        ("RestartAllContainersOnContainerExits",),
    ),
    "an init container may": ({"initContainers": [None, RULES]}, ("RestartAllContainersOnContainerExits",)),
    "only itself": ({"containers": [{"restartPolicyRules": [{"action": "Restart"}]}]}, ()),
    "the host's network with users of its own": (
        {"hostNetwork": True, "hostUsers": False},
        ("UserNamespacesHostNetworkSupport",),
    ),
    "the host's network and users": ({"hostNetwork": True, "hostUsers": True}, ()),
    "the host's network, users not said": ({"hostNetwork": True}, ()),
    "users of its own alone": ({"hostUsers": False}, ()),
    "both, in order": (
        {"hostNetwork": True, "hostUsers": False, "containers": [RULES]},
        ("RestartAllContainersOnContainerExits", "UserNamespacesHostNetworkSupport"),
    ),
}


@pytest.mark.parametrize("sentence", FEATURES)
def test_features_that_a_pod_needs(sentence: str) -> None:
    spec, want = FEATURES[sentence]
    assert convert(spec).spec.needs_features == want


def _owner(api_version: str, kind: str, **more: Any) -> JSON:
    return {"apiVersion": api_version, "kind": kind, "name": "o", "uid": "1", "controller": True, **more}


OWNERS: dict[str, tuple[list[JSON | None] | None, Owner | None]] = {
    "none": (None, None),
    "a ReplicaSet": ([_owner("apps/v1", "ReplicaSet")], Owner("apps/v1", "ReplicaSet", "o")),
    "a StatefulSet": ([_owner("apps/v1", "StatefulSet")], Owner("apps/v1", "StatefulSet", "o")),
    "a ReplicationController": ([_owner("v1", "ReplicationController")], Owner("v1", "ReplicationController", "o")),
    "a ReplicaSet of another group": ([_owner("extensions/v1beta1", "ReplicaSet")], None),
    "of another version": ([_owner("apps/v1beta2", "ReplicaSet")], None),
    "a Job, which default spreading does not read": ([_owner("batch/v1", "Job")], None),
    "an owner that is not the controller": ([_owner("apps/v1", "ReplicaSet", controller=None)], None),
    "the controller among others": (
        [None, _owner("v1", "ConfigMap", controller=False), _owner("apps/v1", "ReplicaSet"), _owner("batch/v1", "Job")],
        Owner("apps/v1", "ReplicaSet", "o"),
    ),
}


@pytest.mark.parametrize("sentence", OWNERS)
def test_the_owner(sentence: str) -> None:
    references, want = OWNERS[sentence]
    assert convert(ownerReferences=references).spec.owner == want


def test_what_preemption_reads() -> None:
    assert (convert().may_preempt, convert().preempted, convert().started_s) == (True, False, None)
    assert convert({"preemptionPolicy": "Never"}).may_preempt is False
    assert convert({"preemptionPolicy": "PreemptLowerPriority"}).may_preempt is True
    assert convert(status={"startTime": "2026-11-23T14:00:00Z"}).started_s == 1795442400.0
    assert convert(status={"startTime": "yesterday"}).started_s is None


DISRUPTED: dict[str, tuple[list[JSON | None], bool]] = {
    "by a scheduler": ([None, {"type": "DisruptionTarget", "status": "True", "reason": "PreemptionByScheduler"}], True),
    "by an eviction": ([{"type": "DisruptionTarget", "status": "True", "reason": "EvictionByEvictionAPI"}], False),
    "no longer": ([{"type": "DisruptionTarget", "status": "False", "reason": "PreemptionByScheduler"}], False),
    "another condition of that reason": (
        [{"type": "Ready", "status": "True", "reason": "PreemptionByScheduler"}],
        False,
    ),
    "only the first of two conditions counts": (
        [
            {"type": "DisruptionTarget", "status": "False"},
            {"type": "DisruptionTarget", "status": "True", "reason": "PreemptionByScheduler"},
        ],
        False,
    ),
}


@pytest.mark.parametrize("sentence", DISRUPTED)
def test_whether_a_pod_was_preempted(sentence: str) -> None:
    conditions, want = DISRUPTED[sentence]
    assert convert(status={"conditions": conditions}).preempted is want


def test_what_a_node_has() -> None:
    got = node(
        {
            "images": [
                {"names": ["a:1", "a@sha256:0", None], "sizeBytes": 5},
                None,
                {"names": None, "sizeBytes": 1},
                {"names": ["huge"], "sizeBytes": 2**63 - 1},
                {"names": ["less than none"], "sizeBytes": -1},
            ],
            "declaredFeatures": ["B", None, "A", "B"],
        }
    )
    assert got.images == (Image(("a:1", "a@sha256:0", ""), 5), Image(("huge",), 2**62), Image(("less than none",), 0))
    assert got.features == ("A", "B")


def test_an_image_that_many_nodes_have_is_kept_once() -> None:
    converter = Converter()

    def images(*sizes: int) -> tuple[Image, ...]:
        status = {"images": [{"names": [f"image-{size}:1"], "sizeBytes": size} for size in sizes]}
        body = msgspec.json.encode({"metadata": {"name": "n"}, "status": status})
        return converter.node(wire.NODES.one(body)).images

    assert images(1, 2)[1] is images(2, 3)[0]


MANY = range(MAX_TERMS + 1)
REFUSED: dict[str, tuple[JSON, str]] = {
    "a way to be spread that there is not": (
        {"topologySpreadConstraints": [{"topologyKey": "z", "maxSkew": 1, "whenUnsatisfiable": "Perhaps"}]},
        "cannot read the pod: spec.topologySpreadConstraints: whenUnsatisfiable: got 'Perhaps', expected one of",
    ),
    "too many constraints": (
        {"topologySpreadConstraints": [{"topologyKey": str(i), "whenUnsatisfiable": "ScheduleAnyway"} for i in MANY]},
        f"spec.topologySpreadConstraints: got {len(MANY)}, expected at most {MAX_TERMS}",
    ),
    "too many terms": (
        {"affinity": {"podAffinity": {PREFERRED: [{"weight": 1, "podAffinityTerm": {}} for _ in MANY]}}},
        f"preferred podAffinity: got {len(MANY)}, expected at most {MAX_TERMS}",
    ),
    "a selector of too many labels": (
        {"affinity": {"podAffinity": {PREFERRED: [{"podAffinityTerm": {"labelSelector": {"matchLabels": {str(i): "" for i in MANY}}}}]}}},
        f"matchLabels: got {len(MANY)}, expected at most {MAX_TERMS}",
    ),
    "too many namespaces": (
        {"affinity": {"podAffinity": {PREFERRED: [{"podAffinityTerm": {"namespaces": [str(i) for i in MANY]}}]}}},
        f"namespaces: got {len(MANY)}, expected at most {MAX_TERMS}",
    ),
    "too many volumes": (
        {"volumes": [{"name": str(i)} for i in MANY]},
        f"spec.volumes: got {len(MANY)}, expected at most {MAX_TERMS}",
    ),
    "too many containers": (
        {"containers": [{"name": str(i)} for i in MANY]},
        f"spec.containers: got {len(MANY)}, expected at most {MAX_TERMS}",
    ),
    "a volume that is a text": ({"volumes": ["v"]}, "cannot read the pod: Expected `object | null`, got `str`"),
    "resource claims": (
        {"resourceClaims": [{"name": "gpu"}]},
        "spec.resourceClaims is not empty: dynamic resource allocation (DRA) is not supported yet",
    ),
}  # fmt: skip


@pytest.mark.parametrize("sentence", REFUSED)
def test_a_pod_that_cannot_be_used_as_it_is(sentence: str) -> None:
    spec, want = REFUSED[sentence]
    assert want in convert(spec).refusal


_json = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**65), 2**65) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
_FIELDS = st.sampled_from(
    [
        "affinity", "podAffinity", "podAntiAffinity", REQUIRED, PREFERRED, "weight", "podAffinityTerm", "topologyKey",
        "labelSelector", "namespaceSelector", "namespaces", "matchLabels", "matchExpressions", "key", "operator", "values",
        "topologySpreadConstraints", "maxSkew", "minDomains", "whenUnsatisfiable", "matchLabelKeys", "volumes", "name",
        "persistentVolumeClaim", "claimName", "ephemeral", "image", "reference", "rbd", "monitors", "azureDisk",
        "containers", "initContainers", "restartPolicyRules", "action", "hostUsers", "preemptionPolicy", "priority",
    ]
)  # fmt: skip
_spec = st.recursive(
    _json, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_FIELDS, inner, max_size=4), max_leaves=30
)


@given(_spec, _spec)
@settings(max_examples=200, deadline=None)
def test_nothing_in_a_pod_raises(spec: object, references: object) -> None:
    body = {"metadata": {"name": "p", "ownerReferences": references}, "spec": spec, "status": spec}
    got = Converter().pod(wire.PODS.one(msgspec.json.encode(body)))
    assert hash(got.spec) == hash(got.spec)
    assert -(2**31) <= got.spec.priority < 2**31
