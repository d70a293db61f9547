"""Rows of the plugins that look at volumes and claims."""

from __future__ import annotations

from typing import Any

from hints.node_rows import ADDED, GONE, GROWN, LABELLED, TAINTED
from hints.row import JSON, TAINT, changes, comes, goes, group, itself, labels, node, other, pod, taints, waiting

_STORAGE = "storage.k8s.io/v1"
_DRIVER = "csi.example.com"


def _added(kind: str) -> str:
    return f"{kind}Add"


def _updated(kind: str) -> str:
    return f"{kind}Update"


def _claim(name: str, volume: str = "", *, bound: bool = True, cls: str = "", **more: Any) -> JSON:
    """A claim of no class; with a volume it is bound to it."""
    spec = {
        "accessModes": ["ReadWriteOnce"],
        "resources": {"requests": {"storage": "1Gi"}},
        "storageClassName": cls,
        "volumeMode": "Filesystem",
        **more,
    }
    meta: JSON = {"uid": f"uid-of-{name}"}
    status: JSON = {"phase": "Pending"}
    if volume:
        spec["volumeName"] = volume
        if bound:
            meta["annotations"] = {"pv.kubernetes.io/bind-completed": "yes"}
            status = {"phase": "Bound"}
    return other("PersistentVolumeClaim", name, namespaced=True, meta=meta, spec=spec, status=status)


def _volume(name: str, claim: str = "", *, zone: str = "", driver: str = _DRIVER, **more: Any) -> JSON:
    spec: JSON = {
        "capacity": {"storage": "1Gi"},
        "accessModes": ["ReadWriteOnce"],
        "volumeMode": "Filesystem",
        "persistentVolumeReclaimPolicy": "Retain",
        "csi": {"driver": driver, "volumeHandle": name},
        **more,
    }
    if claim:
        spec["claimRef"] = {"kind": "PersistentVolumeClaim", "namespace": "default", "name": claim}
    meta = {"labels": {"topology.kubernetes.io/zone": zone}} if zone else {}
    return other("PersistentVolume", name, meta=meta, spec=spec, status={"phase": "Bound" if claim else "Available"})


def _using(*claims: str) -> JSON:
    return {"volumes": [{"name": claim, "persistentVolumeClaim": {"claimName": claim}} for claim in claims]}


def _class(name: str, mode: str = "Immediate", **more: Any) -> JSON:
    return other("StorageClass", name, _STORAGE, provisioner=_DRIVER, volumeBindingMode=mode, **more)


def _csi_node(name: str, count: int | None, driver: str = _DRIVER) -> JSON:
    limit = {} if count is None else {"allocatable": {"count": count}}
    return other("CSINode", name, _STORAGE, spec={"drivers": [{"name": driver, "nodeID": name, **limit}]})


def _limit(name: str, count: int) -> Any:
    return changes(
        "CSINode", name, {"spec": {"drivers": [{"name": _DRIVER, "nodeID": name, "allocatable": {"count": count}}]}}
    )


def _elsewhere(one: JSON) -> JSON:
    return {**one, "metadata": {**one["metadata"], "namespace": "elsewhere"}}


MISSING = group(
    "VolumeRestrictions",
    [node("one"), pod("there", "one", cpu="1"), other("Namespace", "elsewhere")],
    waiting(**_using("mine")),
    {
        "its claim comes": (True, _added("PersistentVolumeClaim"), [comes(_claim("mine"))]),
        "another claim comes": (False, _added("PersistentVolumeClaim"), [comes(_claim("other"))]),
        "a claim of that name comes in another namespace": (
            False,
            _added("PersistentVolumeClaim"),
            [comes(_elsewhere(_claim("mine")))],
        ),
        "a volume comes": (False, _added("PersistentVolume"), [comes(_volume("new"))]),
        "a node comes": (True, ADDED, [comes(node("new"))]),
        "a node gets a label": (False, LABELLED, [labels("Node", "one", disk="ssd")]),
        "a node gets a taint: most plugins are retried at any change of taints": (
            True,
            TAINTED,
            [taints("one", TAINT)],
        ),
        "a pod without volumes goes": (False, GONE, [goes("Pod", "there")]),
    },
)

IN_USE = group(
    "VolumeRestrictions",
    [
        node("one"),
        _volume("pv", "mine"),
        _claim("mine", "pv", accessModes=["ReadWriteOncePod"]),
        _volume("pv-2", "other"),
        _claim("other", "pv-2"),
        pod("user", "one", **_using("mine")),
        pod("neighbour", "one", **_using("other")),
    ],
    waiting(**_using("mine")),
    {
        "the pod that uses its claim goes": (True, GONE, [goes("Pod", "user")]),
        "a pod that uses another claim goes": (False, GONE, [goes("Pod", "neighbour")]),
    },
)

UNBOUND = group(
    "VolumeBinding",
    [
        node("one"),
        pod("there", "one", cpu="1"),
        _claim("mine", cls="slow"),
        _class("slow"),
        _claim("other", cls="slow"),
        _volume("free", storageClassName="another"),
        _csi_node("one", 5),
        other("CSIDriver", _DRIVER, _STORAGE, spec={"attachRequired": True, "storageCapacity": True}),
        other(
            "CSIStorageCapacity",
            "pool",
            _STORAGE,
            namespaced=True,
            storageClassName="slow",
            nodeTopology={},
            capacity="5Gi",
        ),
        other("Namespace", "elsewhere"),
    ],
    waiting(**_using("mine")),
    {
        "its claim changes": (
            True,
            _updated("PersistentVolumeClaim"),
            [changes("PersistentVolumeClaim", "mine", {"metadata": {"annotations": {"example.com/a": "b"}}})],
        ),
        "another claim changes": (
            False,
            _updated("PersistentVolumeClaim"),
            [changes("PersistentVolumeClaim", "other", {"metadata": {"annotations": {"example.com/a": "b"}}})],
        ),
        "another claim comes": (False, _added("PersistentVolumeClaim"), [comes(_claim("new"))]),
        "a volume comes": (True, _added("PersistentVolume"), [comes(_volume("new"))]),
        "a volume changes in whatever way": (
            True,
            _updated("PersistentVolume"),
            [changes("PersistentVolume", "free", {"metadata": {"annotations": {"example.com/a": "b"}}})],
        ),
        "a class comes": (True, _added("storage.k8s.io/StorageClass"), [comes(_class("new"))]),
        "a class changes, but not its topologies": (
            False,
            _updated("storage.k8s.io/StorageClass"),
            [changes("StorageClass", "slow", {"metadata": {"labels": {"a": "b"}}})],
        ),
        "a class changes its topologies": (
            True,
            _updated("storage.k8s.io/StorageClass"),
            [
                changes(
                    "StorageClass",
                    "slow",
                    {"allowedTopologies": [{"matchLabelExpressions": [{"key": "rack", "values": ["r1"]}]}]},
                )
            ],
            {"unseen": "the API server lets nobody change a class's topologies"},
        ),
        "a class goes": (False, "", [goes("StorageClass", "slow")]),
        "a CSINode comes": (True, _added("storage.k8s.io/CSINode"), [comes(_csi_node("two", 5))]),
        "a CSINode takes more volumes": (False, _updated("storage.k8s.io/CSINode"), [_limit("one", 6)]),
        "a CSINode says that plugins are migrated": (
            True,
            _updated("storage.k8s.io/CSINode"),
            [
                changes(
                    "CSINode",
                    "one",
                    {
                        "metadata": {
                            "annotations": {"storage.alpha.kubernetes.io/migrated-plugins": "kubernetes.io/gce-pd"}
                        }
                    },
                )
            ],
        ),
        "a CSIDriver does not ask for capacity any more, and the pod has no volume of it in its spec": (
            False,
            _updated("storage.k8s.io/CSIDriver"),
            [changes("CSIDriver", _DRIVER, {"spec": {"storageCapacity": False}})],
        ),
        "a CSIDriver does not ask for capacity any more, and the pod has a volume of it in its spec": (
            True,
            _updated("storage.k8s.io/CSIDriver"),
            [changes("CSIDriver", _DRIVER, {"spec": {"storageCapacity": False}})],
            {"waits": waiting(volumes=[*_using("mine")["volumes"], {"name": "inline", "csi": {"driver": _DRIVER}}])},
        ),
        "storage is published": (
            True,
            _added("storage.k8s.io/CSIStorageCapacity"),
            [
                comes(
                    other(
                        "CSIStorageCapacity",
                        "new",
                        _STORAGE,
                        namespaced=True,
                        storageClassName="slow",
                        nodeTopology={},
                        capacity="1Gi",
                    )
                )
            ],
        ),
        "storage grows": (
            True,
            _updated("storage.k8s.io/CSIStorageCapacity"),
            [changes("CSIStorageCapacity", "pool", {"capacity": "6Gi"})],
        ),
        "storage shrinks": (
            False,
            _updated("storage.k8s.io/CSIStorageCapacity"),
            [changes("CSIStorageCapacity", "pool", {"capacity": "4Gi"})],
        ),
        "a node comes": (True, ADDED, [comes(node("new"))]),
        "a node gets a label": (True, LABELLED, [labels("Node", "one", disk="ssd")]),
        "a node gets a taint: most plugins are retried at any change of taints": (
            True,
            TAINTED,
            [taints("one", TAINT)],
        ),
        "a node grows": (
            False,
            GROWN,
            [changes("Node", "one", {"status": {"allocatable": {"cpu": "8"}, "capacity": {"cpu": "8"}}}, "status")],
        ),
        "a pod goes": (False, GONE, [goes("Pod", "there")]),
        "it gets a label": (
            False,
            "UnschedulablePodUpdatePodLabel",
            [itself({"metadata": {"labels": {"app": "web"}}})],
        ),
    },
)

ZONE = group(
    "VolumeZone",
    [
        node("one", labels={"topology.kubernetes.io/zone": "a"}),
        pod("there", "one", cpu="1"),
        _volume("pv", "mine", zone="b"),
        _claim("mine", "pv"),
        _volume("pv-2", zone="c"),
        _claim("other", "pv-2", bound=False),
    ],
    waiting(**_using("mine")),
    {
        "a volume comes": (True, _added("PersistentVolume"), [comes(_volume("new"))]),
        "a volume moves to another zone": (
            True,
            _updated("PersistentVolume"),
            [changes("PersistentVolume", "pv", {"metadata": {"labels": {"topology.kubernetes.io/zone": "a"}}})],
        ),
        "a volume changes, but not its zone": (
            False,
            _updated("PersistentVolume"),
            [changes("PersistentVolume", "pv", {"metadata": {"annotations": {"example.com/a": "b"}}})],
        ),
        "its claim changes": (
            True,
            _updated("PersistentVolumeClaim"),
            [changes("PersistentVolumeClaim", "mine", {"metadata": {"labels": {"a": "b"}}})],
        ),
        "another claim changes": (
            False,
            _updated("PersistentVolumeClaim"),
            [changes("PersistentVolumeClaim", "other", {"metadata": {"labels": {"a": "b"}}})],
        ),
        "a class comes that waits for consumers": (
            True,
            _added("storage.k8s.io/StorageClass"),
            [comes(_class("new", "WaitForFirstConsumer"))],
        ),
        "a class comes that binds at once": (False, _added("storage.k8s.io/StorageClass"), [comes(_class("new"))]),
        "a node gets a label": (True, LABELLED, [labels("Node", "one", disk="ssd")]),
        "a node gets a taint: most plugins are retried at any change of taints": (
            True,
            TAINTED,
            [taints("one", TAINT)],
        ),
        "a node comes": (True, ADDED, [comes(node("new"))]),
        "a pod goes": (False, GONE, [goes("Pod", "there")]),
    },
)

LIMITS = group(
    "NodeVolumeLimits",
    [
        node("one"),
        _csi_node("one", 1),
        _volume("pv", "mine"),
        _claim("mine", "pv"),
        _volume("pv-2", "other"),
        _claim("other", "pv-2"),
        pod("user", "one", **_using("other")),
        pod("plain", "one", cpu="1"),
        other(
            "VolumeAttachment",
            "old",
            _STORAGE,
            spec={"attacher": "else.example.com", "nodeName": "one", "source": {"persistentVolumeName": "pv-9"}},
        ),
    ],
    waiting(**_using("mine")),
    {
        "a node takes more volumes": (True, _updated("storage.k8s.io/CSINode"), [_limit("one", 2)]),
        "a node takes fewer volumes": (False, _updated("storage.k8s.io/CSINode"), [_limit("one", 0)]),
        "a CSINode comes": (True, _added("storage.k8s.io/CSINode"), [comes(_csi_node("two", 5))]),
        "a pod with volumes goes": (True, GONE, [goes("Pod", "user")]),
        "a pod without volumes goes": (False, GONE, [goes("Pod", "plain")]),
        "a volume is detached": (True, "storage.k8s.io/VolumeAttachmentDelete", [goes("VolumeAttachment", "old")]),
        "another claim comes": (False, _added("PersistentVolumeClaim"), [comes(_claim("new"))]),
        "its claim goes and comes again": (
            True,
            _added("PersistentVolumeClaim"),
            [goes("PersistentVolumeClaim", "mine"), comes(_claim("mine", "pv"))],
        ),
        "a node comes: only its CSINode is heard of": (False, ADDED, [comes(node("new", taints=[TAINT]))]),
        "a node gets a taint": (False, TAINTED, [taints("one", TAINT)]),
    },
)

VOLUME_ROWS = MISSING | IN_USE | UNBOUND | ZONE | LIMITS
