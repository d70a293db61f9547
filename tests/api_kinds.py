"""One of each kind that a scheduler follows beside pods and nodes: as it is written to an API server, and as the core has it."""

from __future__ import annotations

import json
from typing import Any

import msgspec

from carbon_scheduler.core.model import NodeSelectorTerm, Requirement
from carbon_scheduler.core.objects import (
    AnyObject,
    Attachment,
    Budget,
    Claim,
    ClaimRef,
    CsiDriver,
    CsiNode,
    ObjectKind,
    Service,
    StorageCapacity,
    StorageClass,
    TopologyTerm,
    Volume,
    Workload,
)
from carbon_scheduler.kube.kinds import BY_NAME

JSON = dict[str, Any]

IS_WEB = (Requirement("app", "In", ("web",)),)
WEB = {"matchLabels": {"app": "web"}}
TEMPLATE = {
    "metadata": {"labels": {"app": "web"}},
    "spec": {"containers": [{"name": "c", "image": "web:1"}]},
}
ZONE_TERM = {"matchExpressions": [{"key": "zone", "operator": "In", "values": ["z1"]}]}
IN_ZONE = NodeSelectorTerm((Requirement("zone", "In", ("z1",)),))
CSI = {"driver": "d.example.com", "volumeHandle": "h"}

# kind -> (a body without metadata, a merge patch, the core's object of either). {n} is the object's name, {ns} its namespace.
OBJECTS: dict[ObjectKind, tuple[JSON, JSON, AnyObject, AnyObject]] = {
    "Service": (
        {"spec": {"selector": {"app": "web"}, "ports": [{"port": 80}]}},
        {"spec": {"selector": {"app": "api"}}},
        Service("{ns}", "{n}", (("app", "web"),)),
        Service("{ns}", "{n}", (("app", "api"),)),
    ),
    "ReplicationController": (
        {"spec": {"selector": {"app": "web"}, "template": TEMPLATE}},
        {"spec": {"replicas": 2}},
        Workload("{ns}", "{n}", "ReplicationController", IS_WEB),
        Workload("{ns}", "{n}", "ReplicationController", IS_WEB),
    ),
    "ReplicaSet": (
        {"spec": {"selector": WEB, "template": TEMPLATE}},
        {"spec": {"replicas": 2}},
        Workload("{ns}", "{n}", "ReplicaSet", IS_WEB),
        Workload("{ns}", "{n}", "ReplicaSet", IS_WEB),
    ),
    "StatefulSet": (
        {"spec": {"selector": WEB, "template": TEMPLATE, "serviceName": "web"}},
        {"spec": {"replicas": 2}},
        Workload("{ns}", "{n}", "StatefulSet", IS_WEB),
        Workload("{ns}", "{n}", "StatefulSet", IS_WEB),
    ),
    "PodDisruptionBudget": (
        {"spec": {"selector": WEB, "minAvailable": 1}},
        {"spec": {"selector": {"matchExpressions": [{"key": "app", "operator": "Exists"}]}}},
        Budget("{ns}", "{n}", IS_WEB),
        Budget("{ns}", "{n}", (Requirement("app", "In", ("web",)), Requirement("app", "Exists"))),
    ),
    "PersistentVolumeClaim": (
        {
            "spec": {
                "accessModes": ["ReadWriteOnce"],
                "resources": {"requests": {"storage": "1024Mi"}},
                "storageClassName": "fast",
                "selector": WEB,
            }
        },
        {"metadata": {"annotations": {"volume.kubernetes.io/selected-node": "n1"}}},
        Claim(
            "{ns}", "{n}", class_name="fast", access_modes=("ReadWriteOnce",), request_b=2**30, selector=IS_WEB, phase="Pending",
            annotated=False,
        ),
        Claim(
            "{ns}", "{n}", class_name="fast", access_modes=("ReadWriteOnce",), request_b=2**30, selector=IS_WEB, phase="Pending",
            selected_node="n1",  # type: ignore[arg-type]
        ),
    ),
    "PersistentVolume": (
        {
            "spec": {
                "capacity": {"storage": "1Gi"},
                "accessModes": ["ReadWriteOnce"],
                "storageClassName": "fast",
                "nodeAffinity": {"required": {"nodeSelectorTerms": [ZONE_TERM]}},
                "csi": CSI,
            }
        },
        {
            "metadata": {"annotations": {"pv.kubernetes.io/bound-by-controller": "yes"}},
            "spec": {"claimRef": {"kind": "PersistentVolumeClaim", "namespace": "{ns}", "name": "c", "uid": "u"}},
        },
        Volume(
            "{n}", capacity_b=2**30, class_name="fast", access_modes=("ReadWriteOnce",), node_affinity=(IN_ZONE,),
            phase="Pending", source=("csi", "d.example.com", "h"),
        ),
        Volume(
            "{n}", capacity_b=2**30, class_name="fast", access_modes=("ReadWriteOnce",), node_affinity=(IN_ZONE,),
            claim_ref=ClaimRef("{ns}", "c", "u"), phase="Pending", source=("csi", "d.example.com", "h"),
        ),
    ),
    "StorageClass": (
        {
            "provisioner": "d.example.com",
            "allowedTopologies": [{"matchLabelExpressions": [{"key": "zone", "values": ["z1"]}]}],
        },
        {"metadata": {"labels": {"a": "b"}}},
        StorageClass("{n}", "d.example.com", "Immediate", (TopologyTerm((("zone", ("z1",)),)),)),
        StorageClass("{n}", "d.example.com", "Immediate", (TopologyTerm((("zone", ("z1",)),)),)),
    ),
    "CSINode": (
        {"spec": {"drivers": [{"name": "d.example.com", "nodeID": "n", "allocatable": {"count": 3}}]}},
        {"metadata": {"annotations": {"storage.alpha.kubernetes.io/migrated-plugins": "kubernetes.io/cinder"}}},
        CsiNode("{n}", {"d.example.com": 3}),
        CsiNode("{n}", {"d.example.com": 3}, ("kubernetes.io/cinder",)),
    ),
    "CSIDriver": (
        {"spec": {"attachRequired": False}},
        {"spec": {"storageCapacity": True}},
        CsiDriver("{n}"),
        CsiDriver("{n}", True),
    ),
    "CSIStorageCapacity": (
        {"storageClassName": "fast", "capacity": "2Gi", "nodeTopology": WEB},
        {"capacity": "1Gi", "maximumVolumeSize": "512Mi"},
        StorageCapacity("{ns}", "{n}", "fast", 2**31, None, IS_WEB),
        StorageCapacity("{ns}", "{n}", "fast", 2**30, 2**29, IS_WEB),
    ),
    "VolumeAttachment": (
        {"spec": {"attacher": "d.example.com", "nodeName": "n1", "source": {"persistentVolumeName": "pv"}}},
        {"metadata": {"labels": {"a": "b"}}},
        Attachment("{n}", "d.example.com", "n1", "pv"),
        Attachment("{n}", "d.example.com", "n1", "pv"),
    ),
}  # fmt: skip


def filled(value: Any, namespace: str, name: str) -> Any:
    text = json.dumps(value).replace("{ns}", namespace).replace("{n}", name)
    return json.loads(text)


def collection(name: ObjectKind, namespace: str) -> str:
    """Where objects of a kind are created."""
    kind = BY_NAME[name]
    prefix, _, resource = kind.path.rpartition("/")
    return f"{prefix}/namespaces/{namespace}/{resource}" if kind.namespaced else kind.path


def expected(found: AnyObject, got: AnyObject, namespace: str, name: str) -> AnyObject:
    """`found` with its names filled in, and with what a server makes up itself taken from `got`."""
    tree = filled(msgspec.to_builtins(found), namespace, name)
    for field in ("uid", "resource_version"):
        if hasattr(got, field):
            tree[field] = getattr(got, field)
    return msgspec.convert(tree, type(found))
