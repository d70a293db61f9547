"""Resource scores by other strategies, resources and weights; the arithmetic stands beside each expected score."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from builders import make_node, make_pod
from carbon_scheduler.core.framework import Framework
from carbon_scheduler.core.model import Node, Pod
from carbon_scheduler.core.plugin import Plugin
from carbon_scheduler.core.plugins.resources import NodeResourcesBalancedAllocation, NodeResourcesFit
from carbon_scheduler.core.plugins.strategies import curve
from carbon_scheduler.core.settings import FitArgs
from carbon_scheduler.core.snapshot import Snapshot

BOTH = (("cpu", 1), ("memory", 1))
GPU = (("cpu", 1), ("memory", 1), ("example.com/gpu", 1))
FALLING = ((0, 10), (100, 0))
RISING = ((0, 0), (100, 10))


def judged(plugin: Plugin, pod: Pod, *nodes: Node, pods: tuple[Pod, ...] = ()) -> Any:
    snap = Snapshot(capacity=2)
    for node in nodes:
        snap.put_node(node, None)
    for one in pods:
        assert one.node_name
        snap.charge(snap.slot_of[one.node_name], one, 1)
    slots = np.array([snap.slot_of[node.name] for node in nodes], np.intp)
    verdict = Framework([plugin], snap).judge(pod)
    return {name: found.tolist() for name, found in verdict.scores(slots).items()}.get(plugin.name), verdict.status()


def sized(cpu: str, memory: str, gpu: int = 0) -> dict[str, Any]:
    return {"cpu": cpu, "memory": memory, "extra": {"example.com/gpu": gpu} if gpu else None}


ASKS = {"cpu": "3", "memory": "5000"}
WITH_GPU = {**ASKS, "scalars": {"example.com_gpu": 2}}
FIT: dict[str, tuple[FitArgs, dict[str, Any], list[dict[str, Any]], list[int]]] = {
    # (3000*100/4000 + 5000*100/10000) / 2 = (75 + 50) / 2 = 62; (50 + 50) / 2
    "most allocated": (FitArgs("MostAllocated"), ASKS, [sized("4", "10000"), sized("6", "10000")], [62, 50]),
    # (75 + 2 * 50) / 3 = 58
    "memory weighs twice": (
        FitArgs("MostAllocated", (("memory", 2), ("cpu", 1))),
        ASKS,
        [sized("4", "10000"), sized("6", "10000")],
        [58, 50],
    ),
    # 100m of 50m counts as all of it: (100 + 200 MiB of 400 MiB) / 2 = 75
    "what a container without requests is taken for fits nowhere": (FitArgs("MostAllocated"), {}, [sized("50m", "400Mi")], [75]),
    "an extended resource that is not asked for does not count": (
        FitArgs("MostAllocated", GPU),
        ASKS,
        [sized("6", "10000"), sized("6", "10000", 4)],
        [50, 50],
    ),
    # (50 + 50 + 2*100/4) / 3 = 50; (50 + 50 + 20) / 3 = 40
    "an extended resource that is": (
        FitArgs("MostAllocated", GPU),
        WITH_GPU,
        [sized("6", "10000", 4), sized("6", "10000", 10)],
        [50, 40],
    ),
    # (6-3)*100/6 = 50 and (4-2)*100/4 = 50, weighed 1 to 3
    "least allocated of other resources": (
        FitArgs("LeastAllocated", (("cpu", 1), ("example.com/gpu", 3))),
        WITH_GPU,
        [sized("6", "10000", 4)],
        [50],
    ),
    "a resource that no node can offer": (FitArgs("LeastAllocated", (("pods", 5), ("cpu", 1))), ASKS, [sized("6", "1Gi")], [50]),
    "no resource counts": (FitArgs("LeastAllocated", (("odd", 1),)), ASKS, [sized("6", "1Gi")], [0]),
    # utilisation 75 and 50 give 25 and 50: 37.5, rounded up
    "a ratio is rounded": (FitArgs("RequestedToCapacityRatio", BOTH, FALLING), ASKS, [sized("4", "10000")], [38]),
    # cpu 100% scores 0 and is left out: memory alone counts
    "a resource that scores nothing does not weigh": (
        FitArgs("RequestedToCapacityRatio", BOTH, FALLING),
        ASKS,
        [sized("3", "10000")],
        [50],
    ),
    # 2 of 8 and of 4: a quarter and a half of 10
    "bin packing of an extended resource": (
        FitArgs("RequestedToCapacityRatio", (("example.com/gpu", 1),), ((0, 0), (100, 1))),
        WITH_GPU,
        [sized("6", "10000", 8), sized("6", "10000", 4)],
        [2, 5],
    ),
    "nothing asked for, nothing scored": (
        FitArgs("RequestedToCapacityRatio", (("example.com/gpu", 1),), RISING),
        ASKS,
        [sized("6", "10000", 8)],
        [0],
    ),
}  # fmt: skip


@pytest.mark.parametrize("sentence", FIT)
def test_fit(sentence: str) -> None:
    args, asked, nodes, want = FIT[sentence]
    named = [make_node(f"n{i}", **node) for i, node in enumerate(nodes)]
    assert judged(NodeResourcesFit(args), make_pod(**asked), *named)[0] == want


def test_the_default_given_in_words_is_the_default() -> None:
    pod, nodes = make_pod(cpu="1", memory="1Gi"), [make_node("a", cpu="3"), make_node("b", memory="5Gi")]
    there = (make_pod(cpu="700m", memory="3Gi", node="b"),)
    usual = judged(NodeResourcesFit(), pod, *nodes, pods=there)
    assert judged(NodeResourcesFit(FitArgs(resources=(("memory", 7), ("cpu", 7)))), pod, *nodes, pods=there) == usual
    balanced = judged(NodeResourcesBalancedAllocation(), pod, *nodes, pods=there)
    assert judged(NodeResourcesBalancedAllocation(("memory", "cpu")), pod, *nodes, pods=there) == balanced


IGNORED: dict[str, tuple[FitArgs, str, str]] = {
    "by name": (FitArgs(ignored_resources=("example.com/gpu",)), "example.com/gpu", "Success"),
    "by group": (FitArgs(ignored_resource_groups=("example.com",)), "example.com/gpu", "Success"),
    "another name": (FitArgs(ignored_resources=("example.com/gp",)), "example.com/gpu", "UnschedulableAndUnresolvable"),
    "huge pages are no extended resource": (
        FitArgs(ignored_resources=("hugepages-2Mi",)),
        "hugepages-2Mi",
        "UnschedulableAndUnresolvable",
    ),
    "nor is what kubernetes.io names": (
        FitArgs(ignored_resource_groups=("x.kubernetes.io",)),
        "x.kubernetes.io/y",
        "UnschedulableAndUnresolvable",
    ),
}


@pytest.mark.parametrize("sentence", IGNORED)
def test_ignored_resources(sentence: str) -> None:
    args, name, want = IGNORED[sentence]
    _, status = judged(NodeResourcesFit(args), make_pod(scalars={name: 1}), make_node("n"))
    assert status["n"][0] == want


BALANCE: dict[str, tuple[tuple[str, ...], dict[str, Any], dict[str, Any], list[int] | None]] = {
    # shares 0.5, 0.5, 0.5: 100; before: 100; 50 + (50 + 0)/2
    "three alike": (("cpu", "memory", "example.com/gpu"), {"cpu": "3", "memory": "5000", "scalars": {"example.com_gpu": 2}}, sized("6", "10000", 4), [75]),
    # shares 0.5, 0, 0: std = sqrt(2/36 + 1/9)... = 0.2357: 76, before 100: 50 + (50 - 24)/2
    "one of three": (("cpu", "memory", "ephemeral-storage"), {"cpu": "3"}, {**sized("6", "10000"), "extra": {"ephemeral-storage": 5}}, [63]),
    # shares 0.5 and 0 of the two that there are: std 0.25: 75, before 100: 50 + (50 - 25)/2
    "a resource that the node does not offer": (("cpu", "memory", "ephemeral-storage"), {"cpu": "3"}, sized("6", "10000"), [62]),
    "none of the resources is asked for": (("example.com/gpu",), {"cpu": "3"}, sized("6", "10000", 4), None),
}  # fmt: skip


@pytest.mark.parametrize("sentence", BALANCE)
def test_balance(sentence: str) -> None:
    resources, asked, node, want = BALANCE[sentence]
    assert judged(NodeResourcesBalancedAllocation(resources), make_pod(**asked), make_node("n", **node))[0] == want


CURVES: dict[str, tuple[tuple[tuple[int, int], ...], dict[int, int]]] = {
    "level beyond its ends": (((10, 1), (90, 9)), {0: 10, 9: 10, 10: 10, 15: 15, 89: 89, 90: 90, 100: 90}),
    "up and down": (((0, 2), (40, 10), (100, 0)), {0: 20, 20: 60, 30: 80, 40: 100, 70: 50, 100: 0}),
    "one point": (((50, 3),), {0: 30, 50: 30, 100: 30}),
    # 70 - 70 * 1/30, cut towards the first point as Go divides: 70 - 2
    "falling is cut towards zero": (((0, 7), (30, 0)), {1: 68, 29: 3, 30: 0}),
}


@pytest.mark.parametrize("sentence", CURVES)
def test_curves(sentence: str) -> None:
    shape, want = CURVES[sentence]
    assert {at: int(curve(shape)[at]) for at in want} == want
