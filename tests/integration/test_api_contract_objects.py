"""The contract of the API server for what schedulers read beside pods and nodes: what is stored of it, and what tells of it."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from api_contract import MERGE
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

if TYPE_CHECKING:
    from api_contract import JSON, Api

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
            "{ns}", "{n}", class_name="fast", access_modes=("ReadWriteOnce",), request_b=2**30, selector=IS_WEB, phase="Pending"
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


def _filled(value: Any, namespace: str, name: str) -> Any:
    text = json.dumps(value).replace("{ns}", namespace).replace("{n}", name)
    return json.loads(text)


def _want(found: AnyObject, got: AnyObject, namespace: str, name: str) -> AnyObject:
    """With what each server makes up itself, and the names filled in."""
    tree = _filled(msgspec.to_builtins(found), namespace, name)
    for field in ("uid", "resource_version"):
        if hasattr(got, field):
            tree[field] = getattr(got, field)
    return msgspec.convert(tree, type(found))


@pytest.mark.parametrize("name", OBJECTS)
async def test_a_kind_is_created_patched_listed_watched_and_deleted(api: Api, name: ObjectKind) -> None:
    kind = BY_NAME[name]
    body, patch, want, want_patched = OBJECTS[name]
    own = f"o-{api.namespace}"
    prefix, _, resource = kind.path.rpartition("/")
    collection = f"{prefix}/namespaces/{api.namespace}/{resource}" if kind.namespaced else kind.path
    made = await api.ok("POST", collection, {"metadata": {"name": own}, **_filled(body, api.namespace, own)})
    try:
        got = kind.one(json.dumps(made).encode())
        assert got == _want(want, got, api.namespace, own)
        watching = asyncio.create_task(
            api.watch(
                f"{kind.path}?fieldSelector=metadata.name%3D{own}&resourceVersion={made['metadata']['resourceVersion']}",
                events=2,
            )
        )
        patched = await api.ok("PATCH", f"{collection}/{own}", _filled(patch, api.namespace, own), content_type=MERGE)
        assert patched["metadata"]["resourceVersion"] != made["metadata"]["resourceVersion"]
        got = kind.one(json.dumps(patched).encode())
        assert got == _want(want_patched, got, api.namespace, own)
        listed = await api.ok("GET", f"{kind.path}?fieldSelector=metadata.name%3D{own}")
        assert listed["kind"] == f"{name}List"
        (found,) = kind.codec.page(json.dumps(listed).encode()).items
        assert kind.convert(found) == got
        assert await api.ok("GET", f"{collection}/{own}") == patched
    finally:
        if name in ("PersistentVolume", "PersistentVolumeClaim"):
            await api.ok("PATCH", f"{collection}/{own}", {"metadata": {"finalizers": None}}, content_type=MERGE)
        # A ReplicationController else stays until a controller has taken leave of its pods.
        await api.ok("DELETE", f"{collection}/{own}?propagationPolicy=Background")
    told = await watching
    assert told[0]["type"] == "MODIFIED"
    assert kind.one(json.dumps(told[0]["object"]).encode()) == got
    assert [one["metadata"]["name"] for one in (await api.ok("GET", kind.path))["items"]].count(own) == 0


@pytest.mark.parametrize("name", ["PersistentVolume", "PersistentVolumeClaim"])
async def test_a_patch_that_names_an_older_version_is_a_conflict(api: Api, name: ObjectKind) -> None:
    """What keeps two who choose the same volume apart."""
    kind, body = BY_NAME[name], OBJECTS[name][0]
    own = f"v-{api.namespace}"
    prefix, _, resource = kind.path.rpartition("/")
    collection = f"{prefix}/namespaces/{api.namespace}/{resource}" if kind.namespaced else kind.path
    made = await api.ok("POST", collection, {"metadata": {"name": own}, **body})
    version = made["metadata"]["resourceVersion"]
    ours = {"metadata": {"resourceVersion": version, "annotations": {"chosen": "first"}}}
    assert (await api.call("PATCH", f"{collection}/{own}", ours, content_type=MERGE)).status == 200
    late = await api.call("PATCH", f"{collection}/{own}", ours, content_type=MERGE)
    assert (late.status, late.body["reason"]) == (409, "Conflict")
    await api.ok("PATCH", f"{collection}/{own}", {"metadata": {"finalizers": None}}, content_type=MERGE)
    await api.ok("DELETE", f"{collection}/{own}")


async def test_a_budgets_status_is_a_resource_of_its_own(api: Api) -> None:
    path = f"/apis/policy/v1/namespaces/{api.namespace}/poddisruptionbudgets"
    await api.ok(
        "POST", path, {"metadata": {"name": "b"}, "spec": {"selector": WEB}, "status": {"disruptionsAllowed": 5}}
    )
    status = {
        "disruptionsAllowed": 2, "currentHealthy": 3, "desiredHealthy": 1, "expectedPods": 3,
        "disruptedPods": {"p": "2026-01-01T00:00:00Z"},
    }  # fmt: skip
    await api.ok("PATCH", f"{path}/b/status", {"status": status}, content_type=MERGE)
    got = BY_NAME["PodDisruptionBudget"].one(json.dumps(await api.ok("GET", f"{path}/b")).encode())
    assert got == Budget(api.namespace, "b", IS_WEB, 2, ("p",))


REQUIRED = "requiredDuringSchedulingIgnoredDuringExecution"
PREFERRED = "preferredDuringSchedulingIgnoredDuringExecution"


async def test_keys_of_labels_to_match_are_written_into_selectors(api: Api) -> None:
    """Of a pod's affinity and spread, at its creation: schedulers read the selectors alone."""
    keys = {"matchLabelKeys": ["hash", "missing"]}
    term = {"topologyKey": "zone", "labelSelector": WEB, **keys, "mismatchLabelKeys": ["tenant"]}
    affinity = {
        "podAffinity": {REQUIRED: [term, {"topologyKey": "rack", "labelSelector": {}}]},
        "podAntiAffinity": {PREFERRED: [{"weight": 1, "podAffinityTerm": {**term, "matchLabelKeys": []}}]},
    }
    spread = [
        {"maxSkew": 1, "topologyKey": "zone", "whenUnsatisfiable": "DoNotSchedule", "labelSelector": {}, **keys},
        {"maxSkew": 1, "topologyKey": "rack", "whenUnsatisfiable": "DoNotSchedule", "labelSelector": WEB},
    ]
    made = await api.pod(
        "p", meta={"labels": {"hash": "h", "tenant": "t"}}, affinity=affinity, topologySpreadConstraints=spread
    )
    in_hash = {"key": "hash", "operator": "In", "values": ["h"]}
    not_in_tenant = {"key": "tenant", "operator": "NotIn", "values": ["t"]}
    got = made["spec"]["affinity"]
    assert got["podAffinity"][REQUIRED][0]["labelSelector"] == {**WEB, "matchExpressions": [in_hash, not_in_tenant]}
    assert got["podAffinity"][REQUIRED][1]["labelSelector"] == {}
    (weighted,) = got["podAntiAffinity"][PREFERRED]
    assert weighted["podAffinityTerm"]["labelSelector"] == {**WEB, "matchExpressions": [not_in_tenant]}
    spread = made["spec"]["topologySpreadConstraints"]
    assert [one["labelSelector"] for one in spread] == [{"matchExpressions": [in_hash]}, WEB]
