"""The contract of the API server for pods and nodes, put to the embedded and the real one."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from api_contract import MERGE, STRATEGIC, pod

if TYPE_CHECKING:
    from api_contract import JSON, Api


async def test_a_pod_gets_the_defaults_that_a_scheduler_relies_on(api: Api) -> None:
    container = {
        "name": "c",
        "image": "nginx",
        "ports": [{"containerPort": 80}],
        "resources": {"limits": {"cpu": "1.5", "memory": "1Gi"}},
    }
    made = await api.pod("p", containers=[container])
    assert made["spec"] == {
        "containers": [
            {
                "name": "c",
                "image": "nginx",
                "ports": [{"containerPort": 80, "protocol": "TCP"}],
                "resources": {
                    "limits": {"cpu": "1500m", "memory": "1Gi"},
                    "requests": {"cpu": "1500m", "memory": "1Gi"},
                },
                "terminationMessagePath": "/dev/termination-log",
                "terminationMessagePolicy": "File",
                "imagePullPolicy": "Always",
            }
        ],
        "restartPolicy": "Always",
        "terminationGracePeriodSeconds": 30,
        "dnsPolicy": "ClusterFirst",
        "securityContext": {},
        "schedulerName": "default-scheduler",
        "tolerations": [
            {"key": key, "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 300}
            for key in ("node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable")
        ],
        "priority": 0,
        "enableServiceLinks": True,
        "preemptionPolicy": "PreemptLowerPriority",
    }
    assert made["status"] == {"phase": "Pending", "qosClass": "Guaranteed"}
    assert made["metadata"]["generation"] == 1


def _container(requests: JSON | None = None, limits: JSON | None = None) -> list[JSON]:
    resources = {"requests": requests or {}, "limits": limits or {}}
    return [{"name": "c", "image": "x", "resources": resources}]


QOS: dict[str, tuple[list[JSON], str]] = {
    "nothing asked": (_container(), "BestEffort"),
    "a request alone": (_container({"cpu": "1"}), "Burstable"),
    "requests equal to limits": (
        _container({"cpu": "1", "memory": "1Gi"}, {"cpu": "1", "memory": "1Gi"}),
        "Guaranteed",
    ),
    "limits alone become requests": (_container(None, {"cpu": "1", "memory": "1Gi"}), "Guaranteed"),
    "a limit on one of two": (_container(None, {"cpu": "1"}), "Burstable"),
    "a resource that does not count": (_container(None, {"ephemeral-storage": "1Gi"}), "BestEffort"),
}


async def test_quality_of_service(api: Api) -> None:
    got = {}
    for n, (sentence, (containers, _)) in enumerate(QOS.items()):
        got[sentence] = (await api.pod(f"p{n}", containers=containers))["status"]["qosClass"]
    assert got == {sentence: want for sentence, (_, want) in QOS.items()}


QUANTITIES = {
    "1e99": "1e99",
    "0.1m": "1m",
    "1Ki": "1Ki",
    "1.5Gi": "1536Mi",
    "1500m": "1500m",
    "0.5": "500m",
    "1e3": "1e3",
    "100000000m": "100k",
    ".5": "500m",
    "1E": "1E",
    "+1": "+1",
    "12e6": "12e6",
    "1024": "1024",
    "0.0001": "1m",
    "2000": "2k",
    "1000000000": "1G",
    "1000Ki": "1000Ki",
    "1024Ki": "1Mi",
    "0": "0",
    "9223372036854775808": "9223372036854775808",
}


async def test_quantities_are_written_in_their_canonical_form(api: Api) -> None:
    got = {}
    for given in QUANTITIES:
        made = await api.ok("POST", f"{api.pods}?dryRun=All", pod("q", containers=_container({"memory": given})))
        got[given] = made["spec"]["containers"][0]["resources"]["requests"]["memory"]
    assert got == QUANTITIES


async def test_host_network_makes_host_ports(api: Api) -> None:
    containers = [{"name": "c", "image": "x", "ports": [{"containerPort": 80}]}]
    made = await api.pod("p", hostNetwork=True, containers=containers)
    assert made["spec"]["containers"][0]["ports"] == [{"hostPort": 80, "containerPort": 80, "protocol": "TCP"}]


async def test_priority_comes_from_the_class(api: Api) -> None:
    name = f"{api.namespace}-high"
    await api.ok("POST", "/apis/scheduling.k8s.io/v1/priorityclasses", {"metadata": {"name": name}, "value": 1000})
    made = await api.pod("p", priorityClassName=name)
    assert made["spec"]["priority"] == 1000
    assert (await api.pod("q", priorityClassName="system-node-critical"))["spec"]["priority"] == 2_000_001_000
    await api.ok("DELETE", f"/apis/scheduling.k8s.io/v1/priorityclasses/{name}")


async def test_own_tolerations_of_the_two_taints_replace_the_defaults(api: Api) -> None:
    all_of_them = [{"operator": "Exists"}]
    assert (await api.pod("p", tolerations=all_of_them))["spec"]["tolerations"] == all_of_them


# Binding


async def test_a_binding_sets_node_condition_annotations_and_labels(api: Api) -> None:
    made = await api.pod("p", meta={"labels": {"a": "1"}, "annotations": {"x": "1"}})
    status = {
        "nominatedNodeName": "other",
        "conditions": [{"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "m"}],
    }
    await api.ok("PATCH", f"{api.pods}/p/status", {"status": status}, content_type=STRATEGIC)
    got = await api.bind("p", uid=made["metadata"]["uid"], annotations={"x": "2", "y": "3"}, labels={"b": "2"})
    assert (got.status, got.body) == (
        201,
        {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "code": 201},
    )
    bound = await api.ok("GET", f"{api.pods}/p")
    assert bound["spec"]["nodeName"] == "n1"
    assert bound["metadata"]["labels"] == {"a": "1", "b": "2"}
    assert bound["metadata"]["annotations"] == {"x": "2", "y": "3"}
    assert bound["metadata"]["generation"] == 1
    (condition,) = bound["status"]["conditions"]
    assert condition.pop("lastTransitionTime")
    assert condition == {"type": "PodScheduled", "status": "True", "lastProbeTime": None}
    assert bound["status"]["phase"] == "Pending"
    assert "nominatedNodeName" not in bound["status"]


async def test_the_target_of_a_binding_is_not_checked(api: Api) -> None:
    await api.pod("p")
    assert (await api.bind("p", "no-such-node")).status == 201


async def test_bindings_have_a_collection_of_their_own(api: Api) -> None:
    await api.pod("p")
    collection = f"/api/v1/namespaces/{api.namespace}/bindings"
    body = {"apiVersion": "v1", "kind": "Binding", "metadata": {"name": "p"}, "target": {"kind": "Node", "name": "n2"}}
    assert (await api.call("POST", collection, body)).status == 201
    assert (await api.ok("GET", f"{api.pods}/p"))["spec"]["nodeName"] == "n2"
    assert (await api.call("GET", collection)).status == 405
    nameless = await api.call("POST", collection, {**body, "metadata": {}})
    assert (nameless.status, nameless.message) == (400, "Name parameter required.")


async def test_binding_a_pod_twice_is_a_conflict(api: Api) -> None:
    await api.pod("p")
    await api.bind("p", "n1")
    for node in ("n1", "n2"):
        got = await api.bind("p", node)
        assert (got.status, got.body["reason"], got.message) == (
            409,
            "Conflict",
            'Operation cannot be fulfilled on pods/binding "p": pod p is already assigned to node "n1"',
        )
    assert got.body["details"] == {"name": "p", "kind": "pods/binding"}


async def test_only_one_of_many_bindings_wins(api: Api) -> None:
    await api.pod("p")
    answers = await asyncio.gather(*(api.bind("p", f"n{n}") for n in range(8)))
    assert sorted(answer.status for answer in answers) == [201, *[409] * 7]


async def test_a_binding_of_a_recreated_pod_is_a_conflict(api: Api) -> None:
    made = await api.pod("p")
    got = await api.bind("p", uid="of-the-earlier-pod")
    uid = made["metadata"]["uid"]
    assert got.status == 409
    assert got.message == (
        f'Operation cannot be fulfilled on pods "p": StorageError: invalid object, Code: 4, Key: /registry/pods/'
        f"{api.namespace}/p, ResourceVersion: 0, AdditionalErrorMsg: Precondition failed: UID in precondition: "
        f"of-the-earlier-pod, UID in object meta: {uid}"
    )
    old = await api.bind("p", resourceVersion="1")
    assert (old.status, "Precondition failed: ResourceVersion in precondition: 1" in old.message) == (409, True)


_CONFLICT = "Operation cannot be fulfilled on pods/binding "


async def test_what_cannot_be_bound(api: Api) -> None:
    await api.pod("gated", schedulingGates=[{"name": "example.com/g"}])
    await api.pod("terminating", meta={"finalizers": ["a.b/c"]})
    await api.ok("DELETE", f"{api.pods}/terminating")
    await api.pod("p")
    gated, terminating, missing = [await api.bind(name) for name in ("gated", "terminating", "missing")]
    assert (gated.status, gated.message) == (
        409,
        _CONFLICT + '"gated": pod gated has non-empty .spec.schedulingGates',
    )
    assert (terminating.status, terminating.message) == (
        409,
        _CONFLICT + '"terminating": pod terminating is being deleted, cannot be assigned to a host',
    )
    assert (missing.status, missing.message) == (404, 'pods "missing" not found')
    path = f"{api.pods}/p/binding"
    for sentence, (body, code, want) in {
        "another name": (
            {"metadata": {"name": "q"}, "target": {"name": "n"}},
            400,
            "does not match name in Binding object",
        ),
        "another namespace": (
            {"metadata": {"name": "p", "namespace": "other"}, "target": {"name": "n"}},
            400,
            "the namespace of the provided object does not match the namespace sent on the request",
        ),
        "a target that is no node": (
            {"metadata": {"name": "p"}, "target": {"kind": "Pod", "name": "n"}},
            500,
            'target.kind: Unsupported value: "Pod"',
        ),
        "no target": ({"metadata": {"name": "p"}, "target": {"kind": "Node"}}, 500, "target.name: Required value"),
    }.items():
        got = await api.call("POST", path, body)
        assert (got.status, want in got.message) == (code, True), f"{sentence}: {got.status} {got.message}"
    await api.ok("PATCH", f"{api.pods}/terminating", {"metadata": {"finalizers": None}}, content_type=MERGE)


async def test_the_size_of_a_bindings_annotations_is_not_checked_but_that_of_an_update_is(api: Api) -> None:
    await api.pod("p")
    assert (await api.bind("p", annotations={"a": "x" * 270_000})).status == 201
    got = await api.call("PATCH", f"{api.pods}/p/status", {"status": {"phase": "Running"}}, content_type=MERGE)
    assert (got.status, got.message) == (
        422,
        'Pod "p" is invalid: metadata.annotations: Too long: may not be more than 262144 bytes',
    )
    assert (await api.call("DELETE", f"{api.pods}/p?gracePeriodSeconds=0")).status == 200


# Status


async def test_a_status_patch_changes_status_and_metadata_but_not_the_spec(api: Api) -> None:
    await api.pod("p")
    patch = {
        "metadata": {"annotations": {"x": "y"}, "labels": {"l": "m"}},
        "spec": {"nodeName": "evil"},
        "status": {
            "conditions": [{"type": "PodScheduled", "status": "False", "reason": "CarbonDeferred", "message": "m"}]
        },
    }
    got = await api.ok("PATCH", f"{api.pods}/p/status", patch, content_type=STRATEGIC)
    assert "nodeName" not in got["spec"]
    assert got["metadata"]["annotations"] == {"x": "y"}
    assert got["metadata"]["labels"] == {"l": "m"}
    assert got["metadata"]["generation"] == 1
    (condition,) = got["status"]["conditions"]
    assert condition == {
        "type": "PodScheduled",
        "status": "False",
        "lastProbeTime": None,
        "lastTransitionTime": None,
        "reason": "CarbonDeferred",
        "message": "m",
    }


async def test_conditions_merge_by_type(api: Api) -> None:
    await api.pod("p")
    for type_, status in (("A", "True"), ("B", "False"), ("A", "Unknown")):
        patch = {"status": {"conditions": [{"type": type_, "status": status}]}}
        got = await api.ok("PATCH", f"{api.pods}/p/status", patch, content_type=STRATEGIC)
    assert [(each["type"], each["status"]) for each in got["status"]["conditions"]] == [
        ("B", "False"),
        ("A", "Unknown"),
    ]
    removal = {"status": {"conditions": [{"type": "A", "$patch": "delete"}]}}
    got = await api.ok("PATCH", f"{api.pods}/p/status", removal, content_type=STRATEGIC)
    assert [each["type"] for each in got["status"]["conditions"]] == ["B"]
    replaced = {"status": {"conditions": [{"type": "C", "status": "True"}]}}
    got = await api.ok("PATCH", f"{api.pods}/p/status", replaced, content_type=MERGE)
    assert [each["type"] for each in got["status"]["conditions"]] == ["C"]


async def test_other_writes_leave_the_status_alone(api: Api) -> None:
    await api.pod("p")
    patch = {"metadata": {"labels": {"a": "b"}}, "status": {"phase": "Running"}}
    got = await api.ok("PATCH", f"{api.pods}/p", patch, content_type=MERGE)
    assert got["status"]["phase"] == "Pending"
    assert got["metadata"]["labels"] == {"a": "b"}


async def test_a_status_is_put_and_read_on_its_own(api: Api) -> None:
    made = await api.pod("p")
    got = await api.ok(
        "PUT", f"{api.pods}/p/status", {**made, "status": {"phase": "Running", "qosClass": "BestEffort"}}
    )
    assert got["status"]["phase"] == "Running"
    assert (await api.ok("GET", f"{api.pods}/p/status")) == got
    stale = await api.call("PUT", f"{api.pods}/p/status", made)
    assert stale.status == 409


STATUS_REFUSED: dict[str, tuple[JSON, int, str]] = {
    "an old version": (
        {"metadata": {"resourceVersion": "5"}, "status": {"message": "x"}},
        409,
        "the object has been modified",
    ),
    "another uid": ({"metadata": {"uid": "5"}, "status": {"message": "x"}}, 422, 'metadata.uid: Invalid value: "5"'),
    "a bad annotation": ({"metadata": {"annotations": {"a b": "x"}}}, 422, "metadata.annotations: Invalid value"),
    "a bad nomination": ({"status": {"nominatedNodeName": "A_B"}}, 422, "status.nominatedNodeName: Invalid value"),
    "a time that is none": (
        {"status": {"conditions": [{"type": "A", "status": "True", "lastTransitionTime": "yesterday"}]}},
        422,
        'parsing time "yesterday" as "2006-01-02T15:04:05Z07:00": cannot parse "yesterday" as "2006"',
    ),
}


async def test_a_status_is_validated(api: Api) -> None:
    await api.pod("p")
    for sentence, (patch, code, want) in STATUS_REFUSED.items():
        got = await api.call("PATCH", f"{api.pods}/p/status", patch, content_type=MERGE)
        assert (got.status, want in got.message) == (code, True), f"{sentence}: {got.status} {got.message}"


async def test_times_of_conditions_are_whole_seconds(api: Api) -> None:
    await api.pod("p")
    condition = {"type": "A", "status": "True", "lastTransitionTime": "2026-01-01T00:00:00.123456Z"}
    got = await api.ok("PATCH", f"{api.pods}/p/status", {"status": {"conditions": [condition]}}, content_type=MERGE)
    assert got["status"]["conditions"][0]["lastTransitionTime"] == "2026-01-01T00:00:00Z"


# Updates and gates

PODS_REFUSED: dict[str, tuple[JSON, str]] = {
    "the node": ({"spec": {"nodeName": "x"}}, "spec: Forbidden: pod updates may not change fields other than"),
    "the scheduler": (
        {"spec": {"schedulerName": "x"}},
        "spec: Forbidden: pod updates may not change fields other than",
    ),
    "a new gate": (
        {"spec": {"schedulingGates": [{"name": "new"}]}},
        "spec.schedulingGates[0].name: Forbidden: only deletion is allowed, but found new scheduling gate 'new'",
    ),
}


async def test_what_of_a_pod_may_not_change(api: Api) -> None:
    await api.pod("p")
    for sentence, (patch, want) in PODS_REFUSED.items():
        got = await api.call("PATCH", f"{api.pods}/p", patch, content_type=MERGE)
        assert (got.status, want in got.message) == (422, True), f"{sentence}: {got.status} {got.message}"


async def test_what_of_a_pod_may_change(api: Api) -> None:
    await api.pod("p")
    changes: list[JSON] = [
        {"spec": {"activeDeadlineSeconds": 5}},
        {"spec": {"containers": [{"name": "c", "image": "y"}]}},
        {"metadata": {"labels": {"a": "b"}}},
    ]
    for change in changes:
        got = await api.ok("PATCH", f"{api.pods}/p", change, content_type=STRATEGIC)
    assert got["metadata"]["generation"] == 3
    assert got["spec"]["containers"][0]["image"] == "y"


async def test_a_gated_pod(api: Api) -> None:
    gates = [{"name": "example.com/a"}, {"name": "b"}]
    made = await api.pod("p", schedulingGates=gates)
    (condition,) = made["status"]["conditions"]
    assert condition.pop("lastTransitionTime")
    assert condition == {
        "type": "PodScheduled",
        "status": "False",
        "lastProbeTime": None,
        "reason": "SchedulingGated",
        "message": "Scheduling is blocked due to non-empty scheduling gates",
    }
    await api.ok("PATCH", f"{api.pods}/p", {"spec": {"nodeSelector": {"a": "b"}}}, content_type=MERGE)
    changed = await api.call("PATCH", f"{api.pods}/p", {"spec": {"nodeSelector": {"a": "c"}}}, content_type=MERGE)
    assert changed.message.endswith(
        'Invalid value: {"a":"c"}: only additions to spec.nodeSelector are allowed (no mutations or deletions)'
    )
    await api.ok("PATCH", f"{api.pods}/p", {"spec": {"schedulingGates": gates[:1]}}, content_type=MERGE)
    freed = await api.ok("PATCH", f"{api.pods}/p", {"spec": {"schedulingGates": []}}, content_type=MERGE)
    assert "schedulingGates" not in freed["spec"]
    assert (await api.bind("p")).status == 201
    bound = await api.call("POST", api.pods, pod("q", nodeName="n", schedulingGates=gates))
    assert "spec.nodeName: Forbidden: cannot be set until all schedulingGates have been cleared" in bound.message


# Deletion


async def test_a_bound_pod_terminates_for_its_grace_period(api: Api) -> None:
    await api.pod("p")
    await api.bind("p")
    first = await api.ok("DELETE", f"{api.pods}/p")
    assert (first["metadata"]["deletionGracePeriodSeconds"], first["metadata"]["generation"]) == (30, 2)
    again = await api.ok("DELETE", f"{api.pods}/p")
    assert again["metadata"] == first["metadata"]
    shorter = await api.ok("DELETE", f"{api.pods}/p?gracePeriodSeconds=5")
    assert shorter["metadata"]["deletionGracePeriodSeconds"] == 5
    assert (await api.call("GET", f"{api.pods}/p")).status == 200
    now = await api.ok("DELETE", f"{api.pods}/p", {"gracePeriodSeconds": 0})
    assert now["kind"] == "Pod"
    assert (await api.call("GET", f"{api.pods}/p")).status == 404


async def _bound(api: Api) -> None:
    await api.bind("p")


async def _finished(api: Api) -> None:
    await api.bind("p")
    await api.ok("PATCH", f"{api.pods}/p/status", {"status": {"phase": "Succeeded"}}, content_type=MERGE)


async def _nothing(api: Api) -> None:
    """Leaves the pod pending."""


@pytest.mark.parametrize(
    ("spec", "prepare"),
    [({}, _nothing), ({"terminationGracePeriodSeconds": 0}, _bound), ({}, _finished)],
    ids=["a pending pod", "a pod without grace", "a finished pod"],
)
async def test_goes_at_once(api: Api, spec: JSON, prepare: Any) -> None:
    await api.pod("p", **spec)
    await prepare(api)
    got = await api.ok("DELETE", f"{api.pods}/p")
    assert (got["kind"], got["metadata"]["deletionGracePeriodSeconds"]) == ("Pod", 0)
    assert (await api.call("GET", f"{api.pods}/p")).status == 404


async def test_eviction_deletes(api: Api) -> None:
    await api.pod("p")
    body = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": "p"}}
    assert (await api.call("POST", f"{api.pods}/p/eviction", body)).status == 201
    assert (await api.call("GET", f"{api.pods}/p")).status == 404


# Selection

FIELDS: dict[str, tuple[str, list[str]]] = {
    "on no node": ("spec.nodeName=", ["pending"]),
    "on a node": ("spec.nodeName!=", ["bound", "done"]),
    "on that node": ("spec.nodeName==n1", ["bound", "done"]),
    "not finished": ("status.phase!=Succeeded,status.phase!=Failed", ["bound", "pending"]),
    "finished": ("status.phase=Succeeded", ["done"]),
    "for another scheduler": ("spec.schedulerName=mine", ["pending"]),
    "by name": ("metadata.name=bound", ["bound"]),
    "by name and namespace": ("metadata.name=bound,metadata.namespace=elsewhere", []),
    "pending on no node": ("spec.nodeName=,status.phase=Pending", ["pending"]),
}


async def test_pods_are_selected_by_fields(api: Api) -> None:
    await api.pod("pending", schedulerName="mine")
    for name in ("bound", "done"):
        await api.pod(name)
        await api.bind(name)
    await api.ok("PATCH", f"{api.pods}/done/status", {"status": {"phase": "Succeeded"}}, content_type=MERGE)
    got = {}
    for sentence, (selector, _) in FIELDS.items():
        answer = await api.ok("GET", f"{api.pods}?fieldSelector={selector}")
        got[sentence] = [each["metadata"]["name"] for each in answer["items"]]
    assert got == {sentence: names for sentence, (_, names) in FIELDS.items()}


# Nodes


async def test_a_node_is_created_with_its_status(api: Api) -> None:
    name = f"{api.namespace}-node"
    resources = {"cpu": "4", "memory": "8192Mi", "pods": "110"}
    made = await api.ok(
        "POST", "/api/v1/nodes", {"metadata": {"name": name, "labels": {"a": "b"}}, "status": {"capacity": resources}}
    )
    assert made["status"]["capacity"] == {"cpu": "4", "memory": "8Gi", "pods": "110"}
    assert made["status"]["allocatable"] == made["status"]["capacity"]
    assert "generation" not in made["metadata"]
    patch: JSON = {"status": {"capacity": {"cpu": "8"}}, "spec": {"unschedulable": True}}
    main = await api.ok("PATCH", f"/api/v1/nodes/{name}", patch, content_type=STRATEGIC)
    assert main["spec"] == {"unschedulable": True}
    assert main["status"]["capacity"]["cpu"] == "4"
    back = await api.ok("PATCH", f"/api/v1/nodes/{name}", {"spec": {"unschedulable": False}}, content_type=MERGE)
    assert back["spec"] == {}
    patch = {"status": {"capacity": {"cpu": "8"}, "conditions": [{"type": "Ready", "status": "True"}]}}
    status = await api.ok("PATCH", f"/api/v1/nodes/{name}/status", patch, content_type=STRATEGIC)
    assert status["status"]["capacity"]["cpu"] == "8"
    assert status["status"]["conditions"] == [
        {"type": "Ready", "status": "True", "lastHeartbeatTime": None, "lastTransitionTime": None}
    ]
    taint = {"spec": {"taints": [{"key": "a", "effect": "Never"}]}}
    bad = await api.call("PATCH", f"/api/v1/nodes/{name}", taint, content_type=MERGE)
    assert (bad.status, "metadata.taints[0].effect: Unsupported value: " in bad.message) == (422, True)
    gone = await api.ok("DELETE", f"/api/v1/nodes/{name}")
    assert gone["details"] == {"name": name, "kind": "nodes", "uid": made["metadata"]["uid"]}
