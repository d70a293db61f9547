"""Upstream's plugins on small cases; the arithmetic stands beside each expected score."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from builders import make_node, make_pod
from carbon_scheduler.core.framework import Framework
from carbon_scheduler.core.model import (
    HostPort,
    Node,
    NodeName,
    NodeSelectorTerm,
    Pod,
    PreferredTerm,
    Requests,
    Requirement,
    Taint,
    Toleration,
)
from carbon_scheduler.core.plugin import by_maximum
from carbon_scheduler.core.plugins import default_profile
from carbon_scheduler.core.plugins.taints import tolerates
from carbon_scheduler.core.selectors import as_int64
from carbon_scheduler.core.snapshot import Snapshot

MIB = 2**20


def snapshot(*nodes: Node, pods: tuple[Pod, ...] = ()) -> Snapshot:
    snap = Snapshot(capacity=2)
    for node in nodes:
        snap.put_node(node, None)
    for pod in pods:
        assert pod.node_name
        snap.charge(snap.slot_of[pod.node_name], pod, 1)
    return snap


def status(pod: Pod, *nodes: Node, pods: tuple[Pod, ...] = ()) -> dict[str, tuple[str, str, tuple[str, ...]]]:
    return dict(Framework(default_profile(), snapshot(*nodes, pods=pods)).judge(pod).status())


def score(plugin: str, pod: Pod, *nodes: Node, pods: tuple[Pod, ...] = ()) -> list[int] | None:
    snap = snapshot(*nodes, pods=pods)
    slots = np.array([snap.slot_of[node.name] for node in nodes], np.intp)
    scores = Framework(default_profile(), snap).judge(pod).scores(slots)
    return scores[plugin].tolist() if plugin in scores else None


def requests(cpu_m: int = 0, memory_b: int = 0, **more: Any) -> Requests:
    return Requests(cpu_m=cpu_m, memory_b=memory_b, scoring_cpu_m=cpu_m, scoring_memory_b=memory_b, **more)


def asking(**fields: Any) -> Pod:
    return make_pod(spec=None, **fields)


FIT: dict[str, tuple[dict[str, Any], dict[str, Any], str, tuple[str, ...]]] = {
    "exactly the free cpu": ({"cpu": "4"}, {"cpu": "4"}, "Success", ()),
    "one millicore too many": ({"cpu": "4"}, {"cpu": "4001m"}, "UnschedulableAndUnresolvable", ("Insufficient cpu",)),
    "memory": ({"memory": "1Gi"}, {"memory": "2Gi"}, "UnschedulableAndUnresolvable", ("Insufficient memory",)),
    "two at once, sorted": (
        {"cpu": "1", "memory": "1Gi"},
        {"cpu": "2", "memory": "2Gi"},
        "UnschedulableAndUnresolvable",
        ("Insufficient cpu", "Insufficient memory"),
    ),
    "an extended resource": (
        {"extra": {"nvidia.com/gpu": 1}},
        {"scalars": {"nvidia.com_gpu": 2}},
        "UnschedulableAndUnresolvable",
        ("Insufficient nvidia.com/gpu",),
    ),
    "no room for another pod is not said to be hopeless": ({"pods": 0}, {}, "Unschedulable", ("Too many pods",)),
    "a pod that asks for nothing needs only a place": ({"cpu": "0", "memory": "0"}, {}, "Success", ()),
}


@pytest.mark.parametrize(("node", "pod", "code", "reasons"), FIT.values(), ids=FIT)
def test_fit(node: dict[str, Any], pod: dict[str, Any], code: str, reasons: tuple[str, ...]) -> None:
    got = status(make_pod("p", **pod), make_node("n", **node))["n"]
    assert got == (code, "NodeResourcesFit" if reasons else "", reasons)


def test_fit_says_unschedulable_where_preemption_could_help() -> None:
    pods = (make_pod(cpu="3", node="n"),)
    for wanted in ("2", "4"):  # 4 is all that the node has
        assert status(make_pod(cpu=wanted), make_node("n", cpu="4"), pods=pods)["n"][0] == "Unschedulable"


def test_scores_count_a_tenth_of_a_core_and_200_mib_for_pods_on_the_node_that_ask_for_nothing() -> None:
    # cpu (2000-10*100-100)*100/2000 = 45, memory (4096-10*200-200)*100/4096 = 46; (45+46)/2 = 45
    there = tuple(make_pod(node="n") for _ in range(10))
    assert score("NodeResourcesFit", make_pod(), make_node("n", cpu="2", memory="4Gi"), pods=there) == [45]


def test_taints_that_hold_the_time_are_judged_right_after_the_thousandth_of_them() -> None:
    """Autoscalers write the time into taints, so distinct lists are forgotten now and then."""
    snap = Snapshot()
    framework = Framework(default_profile(), snap)
    tolerates_3 = make_pod(spec={"tolerations": (Toleration("at", "Equal", "3", ""),)})
    for moment in range(4000):
        taints = (Taint("at", str(moment % 1999), "NoSchedule"),)
        slot = snap.put_node(make_node("n", taints=taints), None)
        if moment % 7 == 3 or moment % 1999 == 3:
            assert framework.judge(tolerates_3).feasible[slot] == (moment % 1999 == 3), moment


LEAST_ALLOCATED: dict[str, tuple[Requests, Requests, int]] = {
    # cpu (4000-0-1000)*100/4000 = 75, memory (16-0-4)*100/16 = 75
    "an empty node": (requests(), requests(1000, 4 * 1024 * MIB), 75),
    # cpu (4000-1000-1500)*100/4000 = 37.5 -> 37, memory (16384-8192-4096)*100/16384 = 25; (37+25)/2 = 31
    "integer division throughout": (requests(1000, 8192 * MIB), requests(1500, 4096 * MIB), 31),
    # cpu over: 0; memory 16384-0-0 -> 100; (0+100)/2 = 50
    "over the capacity counts 0": (requests(3900), requests(200), 50),
}


@pytest.mark.parametrize(("there", "wanted", "want"), LEAST_ALLOCATED.values(), ids=LEAST_ALLOCATED)
def test_least_allocated(there: Requests, wanted: Requests, want: int) -> None:
    node = make_node("n", cpu="4", memory="16Gi")
    present = make_pod(node="n", charge=there)
    pod = Pod(uid=make_pod().uid, namespace="default", name="p", spec=make_pod().spec.__class__(requests=wanted))
    assert score("NodeResourcesFit", pod, node, pods=(present,)) == [want]


BALANCE: dict[str, tuple[Requests, Requests, int | None]] = {
    # with: cpu 1000/4000 = .25, memory 4096/16384 = .25: std 0 -> 100; without: 100; 50 + (50+100-100)/2 = 75
    "no change of balance": (requests(), requests(1000, 4096 * MIB), 75),
    # with: .5 and 0: std .25 -> 75; without: 100; 50 + (50+75-100)/2 = 50 + 12 = 62
    "less balanced": (requests(), requests(2000, 0), 62),
    # without: .5, 0: 75; with: .5, .5: 100; 50 + (50+25)/2 = 50 + 37 = 87
    "more balanced": (requests(2000, 0), requests(0, 8192 * MIB), 87),
    "best effort is skipped": (requests(), requests(), None),
}


@pytest.mark.parametrize(("there", "wanted", "want"), BALANCE.values(), ids=BALANCE)
def test_balanced_allocation_of_1_36(there: Requests, wanted: Requests, want: int | None) -> None:
    node = make_node("n", cpu="4", memory="16Gi")
    pod = Pod(uid=make_pod().uid, namespace="default", name="p", spec=make_pod().spec.__class__(requests=wanted))
    got = score("NodeResourcesBalancedAllocation", pod, node, pods=(make_pod(node="n", charge=there),))
    assert got == (None if want is None else [want])


TOLERATES: dict[str, tuple[Toleration, Taint, bool]] = {
    "equal": (Toleration("k", "Equal", "v", "NoSchedule"), Taint("k", "v", "NoSchedule"), True),
    "no operator means Equal": (Toleration("k", "", "v", "NoSchedule"), Taint("k", "v", "NoSchedule"), True),
    "another value": (Toleration("k", "Equal", "w", "NoSchedule"), Taint("k", "v", "NoSchedule"), False),
    "exists": (Toleration("k", "Exists", "", "NoSchedule"), Taint("k", "v", "NoSchedule"), True),
    "no effect means every effect": (Toleration("k", "Exists", "", ""), Taint("k", "v", "NoExecute"), True),
    "another effect": (Toleration("k", "Exists", "", "NoExecute"), Taint("k", "v", "NoSchedule"), False),
    "no key and Exists tolerates everything": (Toleration("", "Exists", "", ""), Taint("k", "v", "NoSchedule"), True),
    "Gt is off by default": (Toleration("k", "Gt", "5", "NoSchedule"), Taint("k", "7", "NoSchedule"), False),
}


@pytest.mark.parametrize(("toleration", "taint", "want"), TOLERATES.values(), ids=TOLERATES)
def test_toleration(toleration: Toleration, taint: Taint, want: bool) -> None:
    assert tolerates(toleration, taint) is want


def test_soft_taints_score_and_hard_ones_reject() -> None:
    soft, hard = Taint("a", "", "PreferNoSchedule"), Taint("b", "", "NoExecute")
    nodes = (
        make_node("none"),
        make_node("one", taints=(soft,)),
        make_node("two", taints=(soft, Taint("c", "", "PreferNoSchedule"))),
        make_node("hard", taints=(hard,)),
    )
    assert status(make_pod(), *nodes)["hard"] == (
        "UnschedulableAndUnresolvable",
        "TaintToleration",
        ("node(s) had untolerated taint(s)",),
    )
    # raw 0, 1, 2; reversed: 100 - 100*raw/2
    assert score("TaintToleration", make_pod(), *nodes[:3]) == [100, 50, 0]


def test_cordoned_nodes_take_only_pods_that_tolerate_it() -> None:
    node = make_node("n", unschedulable=True)
    assert status(make_pod(), node)["n"][1:] == ("NodeUnschedulable", ("node(s) were unschedulable",))
    tolerant = make_pod(
        spec={"tolerations": (Toleration("node.kubernetes.io/unschedulable", "Exists", "", "NoSchedule"),)}
    )
    assert status(tolerant, node)["n"][0] == "Success"


def expr(key: str, operator: str, *values: str) -> NodeSelectorTerm:
    return NodeSelectorTerm(expressions=(Requirement(key, operator, values),))


AFFINITY: dict[str, tuple[tuple[NodeSelectorTerm, ...], str]] = {
    "In": ((expr("disk", "In", "ssd", "nvme"),), "ab"),
    "NotIn is true where the label is missing": ((expr("disk", "NotIn", "ssd"),), "bc"),
    "Exists": ((expr("disk", "Exists"),), "ab"),
    "DoesNotExist": ((expr("disk", "DoesNotExist"),), "c"),
    "Gt": ((expr("cores", "Gt", "4"),), "b"),
    "Lt": ((expr("cores", "Lt", "8"),), "a"),
    "Gt on what is no number is false": ((expr("disk", "Gt", "1"),), ""),
    "terms are ORed": ((expr("disk", "In", "ssd"), expr("disk", "DoesNotExist")), "ac"),
    "expressions are ANDed": (
        (NodeSelectorTerm((Requirement("disk", "Exists"), Requirement("cores", "Gt", ("4",)))),),
        "b",
    ),
    "an empty term matches nothing": ((NodeSelectorTerm(),), ""),
    "no terms match nothing": ((), ""),
    "a term that cannot be parsed is skipped": ((expr("cores", "Gt", "x"), expr("disk", "In", "ssd")), "a"),
    "metadata.name": ((NodeSelectorTerm(fields=(Requirement("metadata.name", "In", ("b",)),)),), "b"),
    "metadata.name NotIn": ((NodeSelectorTerm(fields=(Requirement("metadata.name", "NotIn", ("b",)),)),), "ac"),
    "NotIn a value that no label can have cannot be parsed": ((expr("disk", "NotIn", "a b"),), ""),
    "Gt a negative number neither: it is no label value": ((expr("cores", "Gt", "-1"),), ""),
    "another field matches nothing": ((NodeSelectorTerm(fields=(Requirement("spec.x", "In", ("b",)),)),), ""),
}


@pytest.mark.parametrize(("terms", "want"), AFFINITY.values(), ids=AFFINITY)
def test_required_node_affinity(terms: tuple[NodeSelectorTerm, ...], want: str) -> None:
    nodes = (
        make_node("a", labels={"disk": "ssd", "cores": "4"}),
        make_node("b", labels={"disk": "nvme", "cores": "8"}),
        make_node("c"),
    )
    got = status(make_pod(spec={"required_affinity": terms}), *nodes)
    assert "".join(sorted(name for name, (code, *_) in got.items() if code == "Success")) == want


def test_pods_pinned_to_a_node_say_so_of_the_others_as_upstream_does() -> None:
    pinned = NodeSelectorTerm(fields=(Requirement("metadata.name", "In", ("a",)),))
    got = status(make_pod(spec={"required_affinity": (pinned,)}), make_node("a"), make_node("b", unschedulable=True))
    assert got["b"] == (
        "UnschedulableAndUnresolvable",
        "NodeAffinity",
        ("node(s) didn't satisfy plugin(s) [NodeAffinity]",),
    )
    conflict = NodeSelectorTerm(
        fields=(Requirement("metadata.name", "In", ("a",)), Requirement("metadata.name", "In", ("b",)))
    )
    assert status(make_pod(spec={"required_affinity": (conflict,)}), make_node("a"))["a"][2] == (
        "pod affinity terms conflict",
    )


def test_preferred_affinity_scores_by_weight() -> None:
    nodes = (
        make_node("a", labels={"disk": "ssd", "gen": "new"}),
        make_node("b", labels={"disk": "ssd"}),
        make_node("c"),
    )
    preferred = (
        PreferredTerm(2, expr("disk", "Exists")),
        PreferredTerm(1, expr("gen", "In", "new")),
        PreferredTerm(0, expr("gen", "DoesNotExist")),
    )
    # raw 3, 2, 0; 100*raw/3
    assert score("NodeAffinity", make_pod(spec={"preferred_affinity": preferred}), *nodes) == [100, 66, 0]
    assert score("NodeAffinity", make_pod(), *nodes) is None


def test_a_preferred_term_that_cannot_be_parsed_is_an_error() -> None:
    pod = make_pod(spec={"preferred_affinity": (PreferredTerm(1, expr("cores", "Gt", "x")),)})
    verdict = Framework(default_profile(), snapshot(make_node("a"))).judge(pod)
    assert "must be an integer" in verdict.failed
    assert verdict.feasible.sum() == 1, "it filters all the same"
    unused = (PreferredTerm(0, expr("cores", "Gt", "x")),)
    assert not Framework(default_profile(), snapshot()).judge(make_pod(spec={"preferred_affinity": unused})).failed


PORTS: dict[str, tuple[HostPort, HostPort, bool]] = {
    "the same port": (HostPort("0.0.0.0", "TCP", 80), HostPort("0.0.0.0", "TCP", 80), False),
    "another protocol": (HostPort("0.0.0.0", "TCP", 80), HostPort("0.0.0.0", "UDP", 80), True),
    "another port": (HostPort("0.0.0.0", "TCP", 80), HostPort("0.0.0.0", "TCP", 81), True),
    "any address against one": (HostPort("0.0.0.0", "TCP", 80), HostPort("10.0.0.1", "TCP", 80), False),
    "one address against any": (HostPort("10.0.0.1", "TCP", 80), HostPort("0.0.0.0", "TCP", 80), False),
    "two addresses": (HostPort("10.0.0.1", "TCP", 80), HostPort("10.0.0.2", "TCP", 80), True),
}


@pytest.mark.parametrize(("wanted", "taken", "free"), PORTS.values(), ids=PORTS)
def test_host_ports(wanted: HostPort, taken: HostPort, free: bool) -> None:
    there = make_pod(node="n").spec.__class__(host_ports=(taken,))
    present = Pod(uid=make_pod().uid, namespace="default", name="x", spec=there, node_name=NodeName("n"))
    pod = Pod(uid=make_pod().uid, namespace="default", name="y", spec=there.__class__(host_ports=(wanted,)))
    got = status(pod, make_node("n"), pods=(present,))["n"]
    assert got[0] == ("Success" if free else "Unschedulable")


def test_node_name() -> None:
    got = status(make_pod(node="b"), make_node("a"), make_node("b"))
    assert got["a"][1:] == ("NodeName", ("node(s) didn't match the requested node name",))
    assert got["b"][0] == "Success"


def test_normalisation_by_maximum() -> None:
    raw = np.array([0, 1, 3], np.int64)
    assert by_maximum(raw, reverse=False).tolist() == [0, 33, 100]
    assert by_maximum(raw, reverse=True).tolist() == [100, 67, 0]
    assert by_maximum(raw * 0, reverse=True).tolist() == [100, 100, 100]
    assert by_maximum(raw * 0, reverse=False).tolist() == [0, 0, 0]


INTEGERS = {
    "5": 5,
    "-5": -5,
    "+5": 5,
    "05": 5,
    "5.0": None,
    "": None,
    " 5": None,
    "1_0": None,
    "٥": None,
    "9" * 19: None,
}


@pytest.mark.parametrize(("text", "want"), INTEGERS.items())
def test_integers_as_go_reads_them(text: str, want: int | None) -> None:
    assert as_int64(text) == want


def test_only_what_changed_is_judged_again() -> None:
    snap = snapshot(*(make_node(f"n{i}") for i in range(50)))
    framework = Framework(default_profile(), snap)
    pod = make_pod(cpu="100m", spec={"node_selector": (("disk", "ssd"),)})
    framework.judge(pod)
    before = framework.judged
    framework.judge(make_pod(cpu="100m", spec={"node_selector": (("disk", "ssd"),)}))
    assert framework.judged == before
    snap.charge(7, pod, 1)
    framework.judge(pod)
    assert framework.judged == before + 1  # one node, once for all plugins


def test_huge_quantities_saturate_and_do_not_wrap() -> None:
    huge = requests(2**62, 2**62)
    pods = tuple(make_pod(node="n", charge=huge) for _ in range(5))
    snap = snapshot(make_node("n"), pods=pods)
    verdict = Framework(default_profile(), snap).judge(make_pod(cpu="1m"))
    assert not verdict.feasible.any()
    for pod in pods:
        snap.charge(0, pod, -1)
    assert Framework(default_profile(), snap).judge(make_pod(cpu="1m")).feasible.sum() == 1
