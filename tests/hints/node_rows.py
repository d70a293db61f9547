"""Rows of the plugins that look at one node at a time."""

from __future__ import annotations

from typing import Any

from hints.row import (
    JSON,
    OTHER_TAINT,
    OURS,
    TAINT,
    Step,
    changes,
    comes,
    goes,
    group,
    itself,
    labels,
    node,
    other,
    pod,
    requirement,
    taints,
    waiting,
)

ADDED, GONE_NODE = "NodeAdd", "NodeDelete"
TAINTED, LABELLED, GROWN = "NodeUpdateNodeTaint", "NodeUpdateNodeLabel", "NodeUpdateNodeAllocatable"
PLACED, GONE = "AssignedPodAdd", "AssignedPodDelete"
SHRUNK, RELABELLED, UPDATED = "AssignedPodUpdatePodScaleDown", "AssignedPodUpdatePodLabel", "AssignedPodUpdate"
SELF, SELF_LABELS, SELF_SHRUNK, SELF_TOLERATES, SELF_UNGATED = (
    f"UnschedulablePodUpdate{what}"
    for what in ("", "PodLabel", "PodScaleDown", "PodToleration", "PodSchedulingGatesEliminated")
)


def _containers(**requests: str) -> JSON:
    """A merge patch replaces the whole list."""
    main = {"name": "main", "image": "registry.example/app:1", "resources": {"requests": requests}}
    return {"spec": {"containers": [main]}}


def _allocatable(name: str, **values: str) -> Step:
    return changes("Node", name, {"status": {"allocatable": values, "capacity": values}}, "status")


def _tolerates(taint: JSON) -> Step:
    """The API server adds two of its own to each pod, and lets none be taken away."""
    own = [
        {"key": f"node.kubernetes.io/{key}", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 300}
        for key in ("not-ready", "unreachable")
    ]
    return itself({"spec": {"tolerations": [*own, {**taint, "operator": "Exists"}]}})


_CORDON = {"key": "node.kubernetes.io/unschedulable", "effect": "NoSchedule"}

FIT = group(
    "NodeResourcesFit",
    [node("full", cpu="1"), pod("occupant", "full", cpu="900m", memory="1Gi"), pod("small", "full")],
    waiting(cpu="500m"),
    {
        "a pod on a node goes": (True, GONE, [goes("Pod", "occupant")]),
        "a pod on a node goes, whatever it took": (True, GONE, [goes("Pod", "small")]),
        "a pod on a node finishes": (
            True,
            GONE,
            [changes("Pod", "small", {"status": {"phase": "Succeeded"}}, "status")],
        ),
        "a pod that had no node goes": (
            False,
            "",
            [goes("Pod", "nobodys")],
            {"there": [pod("nobodys", scheduler="nobody")]},
        ),
        "a pod shrinks in what this one asks for": (
            True,
            SHRUNK,
            [changes("Pod", "occupant", _containers(cpu="800m", memory="1Gi"), "resize")],
        ),
        "a pod shrinks in what this one does not ask for": (
            False,
            SHRUNK,
            [changes("Pod", "occupant", _containers(cpu="900m", memory="512Mi"), "resize")],
        ),
        "a pod grows": (
            False,
            UPDATED,
            [changes("Pod", "occupant", _containers(cpu="950m", memory="1Gi"), "resize")],
        ),
        "a pod on a node gets a label": (False, RELABELLED, [labels("Pod", "occupant", app="web")]),
        "a pod is placed": (False, PLACED, [comes(pod("late", "full"))]),
        "a node comes that could hold it": (True, ADDED, [comes(node("new"))]),
        "a node comes that is too small": (False, ADDED, [comes(node("new", cpu="400m"))]),
        "a node comes without place for a pod": (False, ADDED, [comes(node("new", pods="0"))]),
        "a node grows": (True, GROWN, [_allocatable("full", cpu="1100m")]),
        "a node grows and is still too small for it alone": (
            False,
            GROWN,
            [_allocatable("tiny", cpu="450m")],
            {"there": [node("tiny", cpu="400m")]},
        ),
        "a node grows in what it does not ask for": (False, GROWN, [_allocatable("full", memory="16Gi")]),
        "a node takes more pods": (True, GROWN, [_allocatable("full", pods="111")]),
        "a node shrinks": (False, GROWN, [_allocatable("full", cpu="950m")]),
        "a node gets a label": (False, LABELLED, [labels("Node", "full", disk="ssd")]),
        "a node gets a taint: most plugins are retried at any change of taints": (
            True,
            TAINTED,
            [taints("full", TAINT)],
        ),
        "a node is uncordoned, which counts as a change of taints": (
            True,
            TAINTED,
            [changes("Node", "closed", {"spec": {"unschedulable": None}})],
            {
                "there": [node("closed", cpu="400m", unschedulable=True)],
                "waits": waiting(cpu="500m", tolerations=[{**_CORDON, "operator": "Exists"}]),
            },
        ),
        "a node is cordoned": (False, "", [changes("Node", "full", {"spec": {"unschedulable": True}})]),
        "a node's condition changes": (
            False,
            "NodeUpdateNodeCondition",
            [changes("Node", "full", {"status": {"conditions": [{"type": "Ready", "status": "Unknown"}]}}, "status")],
        ),
        "a node goes": (False, GONE_NODE, [goes("Node", "spare")], {"there": [node("spare", cpu="100m")]}),
        "it asks for less": (
            True,
            SELF_SHRUNK,
            [itself(_containers(cpu="400m"), "resize")],
            {"unseen": "the API server resizes no pod without a node"},
        ),
        "it gets a label": (False, SELF_LABELS, [itself({"metadata": {"labels": {"app": "web"}}})]),
        "it gets an annotation": (False, SELF, [itself({"metadata": {"annotations": {"example.com/a": "b"}}})]),
        "it gets a toleration": (False, SELF_TOLERATES, [_tolerates(TAINT)]),
        "its status changes": (
            False,
            SELF,
            [itself({"status": {"conditions": [{"type": "example.com/x", "status": "True"}]}}, "status")],
        ),
        "a namespace gets a label": (
            False,
            "",
            [changes("Namespace", "default", {"metadata": {"labels": {"example.com/team": "a"}}})],
        ),
        "a nominated pod of no lower priority is not nominated any more": (
            True,
            GONE,
            [changes("Pod", "equal", {"status": {"nominatedNodeName": None}}, "status")],
            {"there": [pod("equal", scheduler=OURS, nominated="full")]},
        ),
        "a nominated pod of lower priority is not nominated any more": (
            False,
            GONE,
            [changes("Pod", "lower", {"status": {"nominatedNodeName": None}}, "status")],
            {
                "there": [pod("lower", scheduler=OURS, nominated="full")],
                "waits": waiting(cpu="500m", priority=1000, priorityClassName="hints-high", preemptionPolicy="Never"),
            },
        ),
        "a nominated pod of no lower priority goes": (
            True,
            GONE,
            [goes("Pod", "equal")],
            {"there": [pod("equal", scheduler=OURS, nominated="full")]},
        ),
    },
)

TAINTS = group(
    "TaintToleration",
    [node("tainted", taints=[TAINT, OTHER_TAINT]), node("single", taints=[TAINT]), pod("there", "single", cpu="1")],
    waiting(),
    {
        "the last taint that it does not tolerate goes": (True, TAINTED, [taints("single")]),
        "one taint of two goes": (False, TAINTED, [taints("tainted", TAINT)]),
        "a taint becomes a soft one": (True, TAINTED, [taints("single", {**TAINT, "effect": "PreferNoSchedule"})]),
        "a taint becomes one that evicts": (False, TAINTED, [taints("single", {**TAINT, "effect": "NoExecute"})]),
        "a node comes without taints": (True, ADDED, [comes(node("new"))]),
        "a node comes with a taint": (False, ADDED, [comes(node("new", taints=[TAINT]))]),
        "a node with a taint is uncordoned": (
            False,
            TAINTED,
            [changes("Node", "closed", {"spec": {"unschedulable": None}})],
            {
                "there": [node("closed", taints=[TAINT], unschedulable=True)],
                "waits": waiting(tolerations=[{**_CORDON, "operator": "Exists"}]),
            },
        ),
        "it gets a toleration": (True, SELF_TOLERATES, [_tolerates(TAINT)]),
        "it gets a toleration of something else": (True, SELF_TOLERATES, [_tolerates({"key": "example.com/z"})]),
        "it gets a label": (False, SELF_LABELS, [itself({"metadata": {"labels": {"app": "web"}}})]),
        "a pod on a node goes": (False, GONE, [goes("Pod", "there")]),
        "a node gets a label": (False, LABELLED, [labels("Node", "single", disk="ssd")]),
        "a node grows": (False, GROWN, [_allocatable("single", cpu="8")]),
    },
)

CORDON = group(
    "NodeUnschedulable",
    [node("closed", unschedulable=True), node("second", unschedulable=True), pod("there", "closed", cpu="1")],
    waiting(),
    {
        "a node is uncordoned": (True, TAINTED, [changes("Node", "closed", {"spec": {"unschedulable": None}})]),
        "a node comes": (True, ADDED, [comes(node("new"))]),
        "a node comes cordoned": (False, ADDED, [comes(node("new", unschedulable=True))]),
        "a cordoned node gets a taint": (False, TAINTED, [taints("closed", TAINT)]),
        "it tolerates cordons now": (True, SELF_TOLERATES, [_tolerates(_CORDON)]),
        "it tolerates something else now": (False, SELF_TOLERATES, [_tolerates(TAINT)]),
        "a pod on a node goes": (False, GONE, [goes("Pod", "there")]),
        "a node goes": (False, GONE_NODE, [goes("Node", "second")]),
    },
)


def _required(*expressions: JSON) -> JSON:
    terms = {"nodeSelectorTerms": [{"matchExpressions": list(expressions)}]}
    return {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": terms}}


AFFINITY = group(
    "NodeAffinity",
    [node("plain", labels={"disk": "hdd"}), pod("there", "plain", cpu="1")],
    waiting(nodeSelector={"disk": "ssd"}),
    {
        "a node gets the label": (True, LABELLED, [labels("Node", "plain", disk="ssd")]),
        "a node gets another label": (False, LABELLED, [labels("Node", "plain", rack="r1")]),
        "a node comes with the label": (True, ADDED, [comes(node("new", labels={"disk": "ssd"}))]),
        "a node comes without the label": (False, ADDED, [comes(node("new"))]),
        "a node gets a taint: most plugins are retried at any change of taints": (
            True,
            TAINTED,
            [taints("plain", TAINT)],
        ),
        "a node grows": (False, GROWN, [_allocatable("plain", cpu="8")]),
        "a pod on a node goes": (False, GONE, [goes("Pod", "there")]),
        "a node goes": (False, GONE_NODE, [goes("Node", "spare")], {"there": [node("spare")]}),
        "a required expression holds now": (
            True,
            LABELLED,
            [labels("Node", "plain", gen="5")],
            {"waits": waiting(affinity=_required(requirement("gen", "Gt", "4")))},
        ),
        "a required expression holds on a node that had what it asked for already": (
            False,
            LABELLED,
            [labels("Node", "good", gen="6")],
            {
                "waits": waiting(affinity=_required(requirement("gen", "Gt", "4"))),
                "there": [node("good", labels={"gen": "5"}, taints=[TAINT])],
                "by": "NodeAffinity TaintToleration",
            },
        ),
        "a required expression cannot be read, and any label changes": (
            True,
            LABELLED,
            [labels("Node", "plain", rack="r1")],
            {"waits": waiting(affinity=_required(requirement("gen", "Gt", "four")))},
        ),
    },
)

_PIN = {"matchFields": [requirement("metadata.name", "In", "single")]}
PINNED = group(
    "NodeAffinity TaintToleration",
    [node("single", taints=[TAINT])],
    waiting(
        affinity={"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [_PIN]}}}
    ),
    {
        "pinned to the only node there is, which gets one more taint": (
            True,
            TAINTED,
            [taints("single", TAINT, OTHER_TAINT)],
        ),
        "pinned to the only node there is, which gets a label": (
            False,
            LABELLED,
            [labels("Node", "single", disk="ssd")],
        ),
        "pinned to the only node there is, and another one comes": (False, ADDED, [comes(node("new", taints=[TAINT]))]),
    },
)

_PORT = {"hostPort": 8080, "containerPort": 8080}


def _with_port(**more: Any) -> JSON:
    return {"containers": [{"name": "main", "image": "registry.example/app:1", "ports": [{**_PORT, **more}]}]}


PORTS = group(
    "NodePorts",
    [
        node("used"),
        pod("same", "used", **_with_port()),
        pod("udp", "used", **_with_port(protocol="UDP")),
        pod("other", "used", **_with_port(hostPort=9090)),
        pod("none", "used", cpu="1"),
    ],
    waiting(**_with_port()),
    {
        "the pod with the port goes": (True, GONE, [goes("Pod", "same")]),
        "a pod with another port goes": (False, GONE, [goes("Pod", "other")]),
        "a pod with the port of another protocol goes": (False, GONE, [goes("Pod", "udp")]),
        "a pod without ports goes": (False, GONE, [goes("Pod", "none")]),
        "a node comes": (True, ADDED, [comes(node("new"))]),
        "a node gets a label": (False, LABELLED, [labels("Node", "used", disk="ssd")]),
        "a node gets a taint: most plugins are retried at any change of taints": (
            True,
            TAINTED,
            [taints("used", TAINT)],
        ),
        "a node grows": (False, GROWN, [_allocatable("used", cpu="8")]),
    },
)

FEATURES = group(
    "NodeDeclaredFeatures",
    [node("old"), pod("there", "old", cpu="1")],
    waiting(hostNetwork=True, hostUsers=False),
    {
        "a node declares a feature": (
            True,
            "NodeUpdateNodeDeclaredFeature",
            [changes("Node", "old", {"status": {"declaredFeatures": ["UserNamespacesHostNetworkSupport"]}}, "status")],
        ),
        "a node comes": (True, ADDED, [comes(node("new"))]),
        "a node gets a label": (False, LABELLED, [labels("Node", "old", disk="ssd")]),
        "a pod on a node goes": (False, GONE, [goes("Pod", "there")]),
        "a node gets a taint: most plugins are retried at any change of taints": (
            True,
            TAINTED,
            [taints("old", TAINT)],
        ),
        "it needs nothing any more": (
            True,
            SELF,
            [itself({"spec": {"hostUsers": True}})],
            {"unseen": "the API server lets no pod change what it needs"},
        ),
        "it gets a label": (False, SELF_LABELS, [itself({"metadata": {"labels": {"app": "web"}}})]),
    },
)

_GATES = [{"name": "example.com/a"}, {"name": "example.com/b"}]
GATES = group(
    "SchedulingGates",
    [node("free")],
    waiting(schedulingGates=_GATES),
    {
        "its last gate goes": (True, SELF_UNGATED, [itself({"spec": {"schedulingGates": None}})]),
        "one of its gates goes": (False, SELF, [itself({"spec": {"schedulingGates": _GATES[:1]}})]),
        "a node comes": (False, ADDED, [comes(node("new"))]),
        "it gets a label": (False, SELF_LABELS, [itself({"metadata": {"labels": {"app": "web"}}})]),
    },
)

NO_NODES = group(
    "",
    [],
    waiting(),
    {
        "nowhere to go, and a node comes": (
            True,
            ADDED,
            [comes(node("new"))],
            {"unseen": "there it is an error, tried again every few seconds whatever happens"},
        ),
        "nowhere to go, and a class of storage comes": (
            False,
            "",
            [comes(other("StorageClass", "new", "storage.k8s.io/v1", provisioner="example.com/csi"))],
            {"unseen": "there it is an error, tried again every few seconds whatever happens"},
        ),
    },
)

NODE_ROWS = FIT | TAINTS | CORDON | AFFINITY | PINNED | PORTS | FEATURES | GATES | NO_NODES
