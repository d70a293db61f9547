"""Rows of the plugins that look at pods on other nodes."""

from __future__ import annotations

from hints.node_rows import ADDED, GONE, GONE_NODE, LABELLED, PLACED, RELABELLED, SELF_LABELS, TAINTED, UPDATED
from hints.row import (
    JSON,
    TAINT,
    changes,
    comes,
    goes,
    group,
    itself,
    labels,
    node,
    other,
    pod,
    taints,
    waiting,
)

_WEB = {"app": "web"}
_DB = {"app": "db"}


def _spread(**more: object) -> list[JSON]:
    constraint = {"maxSkew": 1, "topologyKey": "rack", "whenUnsatisfiable": "DoNotSchedule"}
    return [{**constraint, "labelSelector": {"matchLabels": _WEB}, **more}]


def _elsewhere(name: str) -> JSON:
    one = pod(name, "open", labels=_WEB)
    one["metadata"]["namespace"] = "elsewhere"
    return one


SPREAD = group(
    "NodeUnschedulable PodTopologySpread",
    [
        node("open", labels={"rack": "r1"}),
        node("closed", labels={"rack": "r2"}, unschedulable=True),
        pod("web", "open", labels=_WEB),
        pod("db", "open", labels=_DB),
        other("Namespace", "elsewhere"),
    ],
    waiting(labels=_WEB, topologySpreadConstraints=_spread()),
    {
        "a pod that counts is placed": (True, PLACED, [comes(pod("late", "closed", labels=_WEB))]),
        "a pod that does not count is placed": (False, PLACED, [comes(pod("late", "closed", labels=_DB))]),
        "a pod of another namespace is placed": (False, PLACED, [comes(_elsewhere("late"))]),
        "a pod that counts goes": (True, GONE, [goes("Pod", "web")]),
        "a pod that does not count goes": (False, GONE, [goes("Pod", "db")]),
        "a pod is being deleted and does not count any more: that is heard of only when it is gone": (
            False,
            UPDATED,
            [changes("Pod", "web", {}, "graceful-delete")],
        ),
        "a pod counts from now on": (True, RELABELLED, [labels("Pod", "db", app="web")]),
        "a pod that counts gets another label": (False, RELABELLED, [labels("Pod", "web", tier="x")]),
        "a cordoned node comes with the topology key": (
            True,
            ADDED,
            [comes(node("new", labels={"rack": "r3"}, unschedulable=True))],
        ),
        "a cordoned node comes without the topology key": (False, ADDED, [comes(node("new", unschedulable=True))]),
        "a node with the topology key goes": (True, GONE_NODE, [goes("Node", "closed")]),
        "a node without the topology key goes": (
            False,
            GONE_NODE,
            [goes("Node", "bare")],
            {"there": [node("bare", unschedulable=True)]},
        ),
        "a node moves to another domain": (True, LABELLED, [labels("Node", "closed", rack="r1")]),
        "a node leaves the topology": (True, LABELLED, [labels("Node", "closed", rack=None)]),
        "a node gets another label": (False, LABELLED, [labels("Node", "closed", disk="ssd")]),
        "a node of the topology gets a taint": (True, TAINTED, [taints("closed", TAINT)]),
        "a node outside the topology gets a taint": (
            False,
            TAINTED,
            [taints("bare", TAINT)],
            {"there": [node("bare", unschedulable=True)]},
        ),
        "it does not count itself any more": (True, SELF_LABELS, [itself({"metadata": {"labels": {"app": "x"}}})]),
        "it gets another label": (False, SELF_LABELS, [itself({"metadata": {"labels": {"tier": "x"}}})]),
        "it gets a toleration, and taints are honoured": (
            True,
            "UnschedulablePodUpdatePodToleration",
            [
                itself(
                    {
                        "spec": {
                            "tolerations": [
                                *(
                                    {
                                        "key": f"node.kubernetes.io/{key}",
                                        "operator": "Exists",
                                        "effect": "NoExecute",
                                        "tolerationSeconds": 300,
                                    }
                                    for key in ("not-ready", "unreachable")
                                ),
                                {**TAINT, "operator": "Exists"},
                            ]
                        }
                    }
                )
            ],
            {"waits": waiting(labels=_WEB, topologySpreadConstraints=_spread(nodeTaintsPolicy="Honor"))},
        ),
        "a service comes": (
            False,
            "",
            [comes(other("Service", "web", namespaced=True, spec={"selector": _WEB, "ports": [{"port": 80}]}))],
        ),
    },
)


def _near(kind: str, *, key: str = "rack", app: JSON = _DB, **more: object) -> JSON:
    term = {"topologyKey": key, "labelSelector": {"matchLabels": app}, **more}
    return {kind: {"requiredDuringSchedulingIgnoredDuringExecution": [term]}}


NEAR = group(
    "InterPodAffinity",
    [
        node("one", labels={"rack": "r1"}),
        pod("web", "one", labels=_WEB),
        other("Namespace", "elsewhere"),
    ],
    waiting(affinity=_near("podAffinity")),
    {
        "a pod that it wants near is placed": (True, PLACED, [comes(pod("db", "one", labels=_DB))]),
        "a pod that it does not want is placed": (False, PLACED, [comes(pod("late", "one", labels=_WEB))]),
        "a pod that it wants near comes and waits": (
            False,
            "",
            [comes(pod("db", scheduler="nobody", labels=_DB))],
        ),
        "a pod becomes one that it wants near": (True, RELABELLED, [labels("Pod", "web", app="db")]),
        "a pod gets another label": (False, RELABELLED, [labels("Pod", "web", tier="x")]),
        "a pod goes": (False, GONE, [goes("Pod", "web")]),
        "a node comes with the topology key": (True, ADDED, [comes(node("new", labels={"rack": "r2"}))]),
        "a node comes without the topology key": (False, ADDED, [comes(node("new"))]),
        "a node moves to another domain": (True, LABELLED, [labels("Node", "one", rack="r2")]),
        "a node leaves the topology": (False, LABELLED, [labels("Node", "one", rack=None)]),
        "a node goes": (False, GONE_NODE, [goes("Node", "spare")], {"there": [node("spare", labels={"rack": "r1"})]}),
        "a node gets a taint: most plugins are retried at any change of taints": (
            True,
            TAINTED,
            [taints("one", TAINT)],
        ),
        "a namespace gets the label that it selects by: that is not heard of": (
            False,
            "",
            [changes("Namespace", "elsewhere", {"metadata": {"labels": {"team": "a"}}})],
            {
                "waits": waiting(affinity=_near("podAffinity", namespaceSelector={"matchLabels": {"team": "a"}})),
                "there": [
                    {
                        **pod("db", "one", labels=_DB),
                        "metadata": {"name": "db", "namespace": "elsewhere", "labels": _DB},
                    }
                ],
            },
        ),
        "it gets a label": (True, SELF_LABELS, [itself({"metadata": {"labels": {"tier": "x"}}})]),
        "it gets an annotation": (
            False,
            "UnschedulablePodUpdate",
            [itself({"metadata": {"annotations": {"example.com/a": "b"}}})],
        ),
    },
)

FAR = group(
    "InterPodAffinity",
    [
        node("one", labels={"rack": "r1"}),
        pod("db", "one", labels=_DB),
        pod("web", "one", labels=_WEB),
    ],
    waiting(affinity=_near("podAntiAffinity")),
    {
        "the pod that it wants far goes": (True, GONE, [goes("Pod", "db")]),
        "another pod goes, while one that it wants far stays": (False, GONE, [goes("Pod", "web")]),
        "the pod becomes one that it does not mind": (True, RELABELLED, [labels("Pod", "db", app="x")]),
        "another pod becomes one that it wants far": (False, RELABELLED, [labels("Pod", "web", app="db")]),
        "any node comes, for one that wants no pod near": (True, ADDED, [comes(node("new"))]),
        "the node leaves the topology, and so the pods on it are not near": (
            True,
            LABELLED,
            [labels("Node", "one", rack=None)],
        ),
        "a pod is placed, for one that wants no pod near": (False, PLACED, [comes(pod("late", "one", labels=_DB))]),
    },
)

HATED = group(
    "InterPodAffinity",
    [
        node("one", labels={"rack": "r1"}),
        pod("hermit", "one", affinity=_near("podAntiAffinity", app=_WEB)),
        pod("db", "one", labels=_DB),
    ],
    waiting(labels=_WEB),
    {
        "the pod that does not want it near goes": (True, GONE, [goes("Pod", "hermit")]),
        "a pod that does not mind goes": (False, GONE, [goes("Pod", "db")]),
        "it becomes one that nobody minds": (True, SELF_LABELS, [itself({"metadata": {"labels": {"app": "x"}}})]),
        "a node comes, for one that has no terms of its own: that is not heard of": (
            False,
            ADDED,
            [comes(node("new", labels={"rack": "r1"}))],
        ),
    },
)

POD_ROWS = SPREAD | NEAR | FAR | HATED
