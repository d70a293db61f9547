"""What a pod needs of a kubelet, and when it is worth another try."""

from __future__ import annotations

import msgspec
import pytest

from builders import make_node, make_pod
from carbon_scheduler.core.framework import Framework
from carbon_scheduler.core.model import Node, Pod
from carbon_scheduler.core.plugin import Change
from carbon_scheduler.core.plugins.node_declared_features import NodeDeclaredFeatures
from carbon_scheduler.core.snapshot import Snapshot

LACKS = ("UnschedulableAndUnresolvable", "NodeDeclaredFeatures", ("node(s) didn't match Pod's required features",))
FITS = ("Success", "", ())


def node(name: str, *features: str) -> Node:
    return msgspec.structs.replace(make_node(name), features=features)


def pod(*needed: str) -> Pod:
    return make_pod("p", spec={"needs_features": needed})


CASES: dict[str, tuple[Pod, Node, tuple[str, str, tuple[str, ...]]]] = {
    "needs nothing": (pod(), node("n"), FITS),
    "needs one that is there": (pod("A"), node("n", "A", "B"), FITS),
    "needs one that is not": (pod("A"), node("n", "B"), LACKS),
    "needs two, one is there": (pod("A", "B"), node("n", "B"), LACKS),
    "a node that declares nothing": (pod("A"), node("n"), LACKS),
}


@pytest.mark.parametrize("sentence", CASES)
def test_filter(sentence: str) -> None:
    asking, there, want = CASES[sentence]
    snap = Snapshot(capacity=4)
    snap.put_node(there, None)
    assert Framework([NodeDeclaredFeatures()], snap).judge(asking).status() == {"n": want}


def test_a_node_that_changes_is_judged_again() -> None:
    snap = Snapshot(capacity=4)
    framework = Framework([NodeDeclaredFeatures()], snap)
    for name in "abcdefgh":
        snap.put_node(node(name), None)
        assert framework.judge(pod("A")).feasible.sum() == 0
    slot = snap.put_node(node("c", "A"), None)
    assert framework.judge(pod("A")).feasible.nonzero()[0].tolist() == [slot]


HINTS: dict[str, tuple[Change, bool]] = {
    "a node comes, whatever it declares": (Change("node", node=node("n")), True),
    "a node declares something else": (Change("node", node_before=node("n"), node=node("n", "B")), True),
    "a node changes otherwise": (Change("node", node_before=node("n", "A"), node=node("n", "A")), False),
    "a node goes": (Change("node-gone", node_before=node("n")), False),
    "the pod needs something else": (Change("self", pod_before=pod("A"), pod=pod()), True),
    "the pod changes otherwise": (Change("self", pod_before=pod("A"), pod=pod("A")), False),
    "another pod goes": (Change("pod-gone", pod=make_pod(node="n")), False),
}


@pytest.mark.parametrize("sentence", HINTS)
def test_hints(sentence: str) -> None:
    change, want = HINTS[sentence]
    assert NodeDeclaredFeatures().wakes(pod("A"), change, Snapshot()) is want
