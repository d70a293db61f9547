"""The oracle itself: each of kube-scheduler's plugins finds what it reads in a case, and no case leaves anything behind."""

from __future__ import annotations

import json
import os
import random
import subprocess
from typing import TYPE_CHECKING, Any

import pytest

from carbon_scheduler.sim.control_plane import ControlPlaneMissing, find_binaries

if TYPE_CHECKING:
    from pathlib import Path

JSON = dict[str, Any]
DRIVER = "csi.example.com"


def node(name: str, **status: Any) -> JSON:
    labels = {"kubernetes.io/hostname": name, "topology.kubernetes.io/zone": f"zone-{name}"}
    status.setdefault("allocatable", {"cpu": "4", "memory": "8Gi", "pods": "110"})
    return {"metadata": {"name": name, "labels": labels}, "spec": {}, "status": status}


def pod(name: str, on: str | None = None, *, app: str | None = None, claim: str | None = None, **spec: Any) -> JSON:
    if claim:
        spec["volumes"] = [{"name": "v", "persistentVolumeClaim": {"claimName": claim}}]
    if on:
        spec["nodeName"] = on
    spec["containers"] = [{"name": "c", "image": "app:1", "resources": {"requests": {"cpu": "100m"}}}]
    labels = {"app": app} if app else {}
    return {
        "metadata": {"name": name, "namespace": "default", "uid": name, "labels": labels},
        "spec": spec,
        "status": {},
    }


def pvc(name: str, volume: str | None = None, mode: str = "ReadWriteOnce") -> JSON:
    spec: JSON = {"storageClassName": "late", "accessModes": [mode], "volumeMode": "Filesystem"}
    spec["resources"] = {"requests": {"storage": "1Gi"}}
    metadata: JSON = {"name": name, "namespace": "default", "uid": f"uid-{name}"}
    if volume:
        spec["volumeName"] = volume
        metadata["annotations"] = {"pv.kubernetes.io/bind-completed": "yes"}
    return {"metadata": metadata, "spec": spec, "status": {"phase": "Bound" if volume else "Pending"}}


def pv(name: str, claim: str | None = None, *, only_on: str | None = None, zone: str | None = None) -> JSON:
    spec: JSON = {"storageClassName": "late", "accessModes": ["ReadWriteOnce"], "volumeMode": "Filesystem"}
    spec |= {"capacity": {"storage": "2Gi"}, "csi": {"driver": DRIVER, "volumeHandle": name}}
    if only_on:
        expression = {"key": "kubernetes.io/hostname", "operator": "In", "values": [only_on]}
        spec["nodeAffinity"] = {"required": {"nodeSelectorTerms": [{"matchExpressions": [expression]}]}}
    if claim:
        spec["claimRef"] = {"namespace": "default", "name": claim, "uid": f"uid-{claim}"}
    labels = {"topology.kubernetes.io/zone": zone} if zone else {}
    return {
        "metadata": {"name": name, "labels": labels},
        "spec": spec,
        "status": {"phase": "Bound" if claim else "Available"},
    }


def storage(provisioner: str = "kubernetes.io/no-provisioner", mode: str = "WaitForFirstConsumer") -> list[JSON]:
    return [{"metadata": {"name": "late"}, "provisioner": provisioner, "volumeBindingMode": mode}]


def spread(when: str) -> list[JSON]:
    selector = {"matchLabels": {"app": "a"}}
    return [
        {"maxSkew": 1, "topologyKey": "kubernetes.io/hostname", "whenUnsatisfiable": when, "labelSelector": selector}
    ]


NEAR = {
    "labelSelector": {"matchLabels": {"app": "a"}},
    "topologyKey": "kubernetes.io/hostname",
    "namespaceSelector": {"matchLabels": {"team": "blue"}},
}
OTHER = pod("x", "a", app="a")
OTHER["metadata"]["namespace"] = "blue"
OWNED = pod("p", app="a")
OWNED["metadata"]["ownerReferences"] = [
    {"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "r", "uid": "r", "controller": True}
]
CLAIMED = pod("p", claim="c")

REJECTS: dict[str, tuple[JSON, dict[str, str], str]] = {
    "a volume to bind is found on one node": (
        {"pod": CLAIMED, "pvcs": [pvc("c")], "pvs": [pv("v", only_on="a")], "storageclasses": storage()},
        {"b": "VolumeBinding"},
        "node(s) didn't find available persistent volumes to bind",
    ),
    "a bound volume is tied to a node": (
        {"pod": CLAIMED, "pvcs": [pvc("c", "v")], "pvs": [pv("v", "c", only_on="b")], "storageclasses": storage()},
        {"a": "VolumeBinding"},
        "node(s) didn't match PersistentVolume's node affinity",
    ),
    "a volume of another zone": (
        {"pod": CLAIMED, "pvcs": [pvc("c", "v")], "pvs": [pv("v", "c", zone="zone-a")], "storageclasses": storage()},
        {"b": "VolumeZone"},
        "node(s) had no available volume zone",
    ),
    "no capacity left for a new volume": (
        {
            "pod": CLAIMED,
            "pvcs": [pvc("c")],
            "storageclasses": storage(DRIVER),
            "csidrivers": [{"metadata": {"name": DRIVER}, "spec": {"storageCapacity": True}}],
            "csistoragecapacities": [
                {
                    "metadata": {"name": "k", "namespace": "default"},
                    "storageClassName": "late",
                    "capacity": "5Gi",
                    "nodeTopology": {"matchLabels": {"kubernetes.io/hostname": "b"}},
                }
            ],
        },
        {"a": "VolumeBinding"},
        "node(s) did not have enough free storage",
    ),
    "a node holds no more volumes": (
        {
            "pod": CLAIMED,
            "pods": [pod("x", "a", claim="d")],
            "pvcs": [pvc("c", "v"), pvc("d", "w")],
            "pvs": [pv("v", "c"), pv("w", "d")],
            "storageclasses": storage(),
            "csinodes": [
                {
                    "metadata": {"name": "a"},
                    "spec": {"drivers": [{"name": DRIVER, "nodeID": "a", "allocatable": {"count": 1}}]},
                }
            ],
        },
        {"a": "NodeVolumeLimits"},
        "node(s) exceed max volume count",
    ),
    "a volume for one pod alone": (
        {
            "pod": CLAIMED,
            "pods": [pod("x", "a", claim="c")],
            "pvcs": [pvc("c", "v", "ReadWriteOncePod")],
            "pvs": [pv("v", "c")],
            "storageclasses": storage(),
        },
        {"a": "VolumeRestrictions", "b": "VolumeRestrictions"},
        "node(s) unavailable due to PersistentVolumeClaim with ReadWriteOncePod access mode already in-use by another pod",
    ),
    "near a pod of a namespace that is selected": (
        {
            "pod": pod("p", affinity={"podAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [NEAR]}}),
            "pods": [OTHER],
            "namespaces": [{"metadata": {"name": "blue", "labels": {"team": "blue"}}}],
        },
        {"b": "InterPodAffinity"},
        "node(s) didn't match pod affinity rules",
    ),
    "spread over the nodes": (
        {"pod": pod("p", app="a", topologySpreadConstraints=spread("DoNotSchedule")), "pods": [pod("x", "a", app="a")]},
        {"a": "PodTopologySpread"},
        "node(s) didn't match pod topology spread constraints",
    ),
    "a feature that no node declares": (
        {"pod": pod("p", hostNetwork=True, hostUsers=False)},
        {"a": "NodeDeclaredFeatures", "b": "NodeDeclaredFeatures"},
        "node(s) didn't match Pod's required features",
    ),
}
WHOLE: dict[str, tuple[JSON, str]] = {
    "a claim that is not there": ({"pod": CLAIMED}, 'persistentvolumeclaim "c" not found'),
    "a volume that is not there": (
        {"pod": CLAIMED, "pvcs": [pvc("c", "v")], "storageclasses": storage()},
        'persistentvolume "v" not found',
    ),
    "a claim that is bound at once": (
        {"pod": CLAIMED, "pvcs": [pvc("c")], "storageclasses": storage(mode="Immediate")},
        "pod has unbound immediate PersistentVolumeClaims",
    ),
}
SCORES: dict[str, tuple[JSON, str]] = {
    "pods of a service are spread": (
        {
            "pod": pod("p", app="a"),
            "pods": [pod("x", "a", app="a")],
            "services": [{"metadata": {"name": "s", "namespace": "default"}, "spec": {"selector": {"app": "a"}}}],
        },
        "PodTopologySpread",
    ),
    "pods of a replica set are spread": (
        {
            "pod": OWNED,
            "pods": [pod("x", "a", app="a")],
            "replicasets": [
                {"metadata": {"name": "r", "namespace": "default"}, "spec": {"selector": {"matchLabels": {"app": "a"}}}}
            ],
        },
        "PodTopologySpread",
    ),
    "an image is there already": (
        {"pod": pod("p"), "nodes": [node("a", images=[{"names": ["app:1"], "sizeBytes": 500_000_000}]), node("b")]},
        "ImageLocality",
    ),
}


def low(name: str, on: str, priority: int, *, app: str | None = None) -> JSON:
    made = pod(name, on, app=app, priority=priority)
    made["spec"]["containers"][0]["resources"]["requests"]["cpu"] = "2"
    made["status"]["startTime"] = "2026-01-01T00:00:00Z"
    return made


def high(cpu: str = "3", **spec: Any) -> JSON:
    made = pod("p", priority=10, **spec)
    made["spec"]["containers"][0]["resources"]["requests"]["cpu"] = cpu
    return made


BUDGET = {
    "metadata": {"name": "d", "namespace": "default"},
    "spec": {"selector": {"matchLabels": {"app": "a"}}},
    "status": {"disruptionsAllowed": 0},
}
X, Y = {"pods": ["default/x"], "violations": 0}, {"pods": ["default/y"], "violations": 0}
PREEMPTIONS: dict[str, tuple[JSON, JSON | None]] = {
    "the lower victim": (
        {"pod": high(), "pods": [low("x", "a", 1), low("y", "b", 2)]},
        {"candidates": {"a": X, "b": Y}, "chosen": ["a"], "message": ""},
    ),
    "a tie": (
        {"pod": high(), "pods": [low("x", "a", 1), low("y", "b", 1)]},
        {"candidates": {"a": X, "b": Y}, "chosen": ["a", "b"], "message": ""},
    ),
    "a budget spared": (
        {"pod": high(), "pods": [low("x", "a", 1, app="a"), low("y", "b", 2)], "pdbs": [BUDGET]},
        {"candidates": {"a": {**X, "violations": 1}, "b": Y}, "chosen": ["b"], "message": ""},
    ),
    "nobody below": (
        {"pod": high(), "pods": [low("x", "a", 10), low("y", "b", 11)]},
        {
            "candidates": {},
            "chosen": [],
            "message": "0/2 nodes are available: 2 No preemption victims found for incoming pod.",
        },
    ),
    "of no help": (
        {"pod": high("30")},
        {
            "candidates": {},
            "chosen": [],
            "message": "0/2 nodes are available: 2 Preemption is not helpful for scheduling.",
        },
    ),
    "not wanted": (
        {"pod": high(preemptionPolicy="Never"), "pods": [low("x", "a", 1), low("y", "b", 1)]},
        {"candidates": {}, "chosen": [], "message": "not eligible due to preemptionPolicy=Never."},
    ),
    "not needed": ({"pod": high()}, None),
}


@pytest.fixture(scope="module")
def program() -> Path:
    try:
        return find_binaries(["oracle"])["oracle"]
    except ControlPlaneMissing as missing:
        if os.environ.get("REQUIRE_CONTROL_PLANE") == "1":
            pytest.fail(f"REQUIRE_CONTROL_PLANE=1, but {missing}", pytrace=False)
        pytest.skip(str(missing))


def ask(program: Path, cases: list[JSON], *flags: str, want: int = 0) -> list[JSON]:
    """All plugins' answers, from one run of the program."""
    lines = "\n".join(json.dumps({"nodes": [node("a"), node("b")], "pods": [], **case}) for case in cases)
    done = subprocess.run([program, *flags], input=lines, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == want, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


pytestmark = pytest.mark.control_plane


@pytest.mark.parametrize("sentence", REJECTS)
def test_nodes_are_rejected(sentence: str, program: Path) -> None:
    case, want, reason = REJECTS[sentence]
    (answer,) = ask(program, [case])
    assert {name: found["plugin"] for name, found in answer["nodes"].items() if found["code"] != "Success"} == want
    assert all(answer["nodes"][name]["reasons"] == [reason] for name in want)
    assert answer.get("message") == (f"0/2 nodes are available: 2 {reason}." if len(want) == 2 else None)


@pytest.mark.parametrize("sentence", WHOLE)
def test_pods_are_rejected_as_a_whole(sentence: str, program: Path) -> None:
    case, reason = WHOLE[sentence]
    (answer,) = ask(program, [case])
    assert answer["prefilter"]["reasons"] == [reason]
    assert answer["nodes"] == dict.fromkeys(("a", "b"), answer["prefilter"])
    assert answer["message"] == f"0/2 nodes are available: {reason}."


@pytest.mark.parametrize("sentence", SCORES)
def test_scores_differ(sentence: str, program: Path) -> None:
    case, plugin = SCORES[sentence]
    (answer,) = ask(program, [case])
    assert answer["scores"][plugin]["a"] != answer["scores"][plugin]["b"]
    weights = answer["weights"]
    for name in ("a", "b"):
        assert answer["totals"][name] == sum(found[name] * weights[p] for p, found in answer["scores"].items())


@pytest.mark.parametrize("sentence", PREEMPTIONS)
def test_preemption_is_tried_and_not_done(sentence: str, program: Path) -> None:
    case, want = PREEMPTIONS[sentence]
    (answer,) = ask(program, [case], "-preempt")
    assert answer.get("preemption") == want
    assert "preemption" not in ask(program, [case])[0]


def test_a_case_leaves_nothing_behind(program: Path) -> None:
    cases = [{"id": s, **case[0]} for table in (REJECTS, WHOLE, SCORES, PREEMPTIONS) for s, case in table.items()]
    alone = {case["id"]: ask(program, [case], "-preempt")[0] for case in cases}
    many = cases * 20
    random.Random(1).shuffle(many)
    for answer in ask(program, many, "-preempt"):
        assert answer == alone[answer["id"]]


def test_a_line_that_is_no_case(program: Path) -> None:
    bad, good = ask(program, [{"id": 1}, {"id": 2, "pod": pod("p")}], want=2)
    assert bad == {"id": 1, "error": "pod: got nothing, expected the pending v1 Pod"}
    assert good["totals"].keys() == {"a", "b"}


def test_what_it_is(program: Path) -> None:
    told = subprocess.run([program, "-info"], capture_output=True, text=True, timeout=60, check=True).stdout
    info = json.loads(told)
    assert info["version"].startswith("v1.")
    assert info["plugins"][-1] == "NodeDeclaredFeatures"
    assert info["weights"]["TaintToleration"] == 3
    assert "DynamicResources" not in info["weights"]
    wrong = subprocess.run([program, "-plugins", "NodeNme"], capture_output=True, text=True, timeout=60, check=False)
    assert (wrong.returncode, wrong.stderr) == (3, "oracle: -plugins: not in the default profile: NodeNme\n")
