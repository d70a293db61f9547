"""Spreading, kept up to date by events of every kind, always says what a plain recomputation says."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from builders import make_node, make_pod
from carbon_scheduler.core import peers, snapshot
from carbon_scheduler.core.cluster import Cluster
from carbon_scheduler.core.model import (
    Node,
    NodeName,
    NodeSelectorTerm,
    Owner,
    Pod,
    PodUid,
    Requirement,
    SpreadConstraint,
    Taint,
    Toleration,
)
from carbon_scheduler.core.objects import AnyObject, Service, Workload
from carbon_scheduler.core.plugin import ALL, UNRESOLVABLE_BIT
from carbon_scheduler.core.plugins import pod_topology_spread
from carbon_scheduler.core.plugins.pod_topology_spread import PodTopologySpread
from carbon_scheduler.providers.tables import grid_zones
from naive_spread import FITS, HOSTNAME, NO_LABEL, TOO_MANY, Naive

ZONE = "topology.kubernetes.io/zone"
NODES = [f"n{i}" for i in range(7)]
CODES = {0: FITS, 1: TOO_MANY, int(UNRESOLVABLE_BIT) | 2: NO_LABEL}

labels = st.fixed_dictionaries(
    {},
    optional={
        ZONE: st.sampled_from(["a", "b", "c", ""]),
        "rack": st.sampled_from(["r1", "r2", "r3", "r4"]),
        HOSTNAME: st.sampled_from(["twin", "other"]),
        "disk": st.just("ssd"),
    },
)
taints = st.sampled_from([(), (), (Taint("t", "", "NoSchedule"),), (Taint("t", "", "PreferNoSchedule"),)])


def node_of(name: str, own: dict[str, str], taints: tuple[Taint, ...], plain: bool) -> Node:
    return make_node(name, labels=own if plain else {**own, HOSTNAME: name}, taints=taints)


nodes = st.builds(node_of, st.sampled_from(NODES), labels, taints, st.sampled_from([False, False, False, True]))
apps = st.sampled_from([(), (("app", "a"),), (("app", "a"),), (("app", "a"), ("tier", "x")), (("app", "b"),)])
selectors = st.sampled_from(
    [
        None,
        (),
        (Requirement("app", "In", ("a",)),),
        (Requirement("app", "In", ("a",)),),
        (Requirement("app", "Exists"),),
        (Requirement("tier", "NotIn", ("x",)),),
    ]
)
constraints = st.builds(
    SpreadConstraint,
    st.sampled_from([ZONE, HOSTNAME, "rack"]),
    st.sampled_from([1, 1, 2, 5]),
    st.booleans(),
    selectors,
    st.sampled_from([(), (), ("tier",)]),
    st.sampled_from([None, None, 2, 4]),
    st.booleans(),
    st.booleans(),
)
pods = st.builds(
    lambda i, own, node, namespace, terminating: make_pod(
        f"p{i}", uid=f"u{i}", node=node, namespace=namespace, terminating=terminating, spec={"labels": own}
    ),
    st.integers(0, 25),
    apps,
    st.sampled_from(NODES),
    st.sampled_from(["default", "default", "default", "other"]),
    st.sampled_from([False, False, False, True]),
)
pending = st.builds(
    lambda own, spread, selects, required, tolerations, owner: make_pod(
        "pending",
        spec={
            "labels": own,
            "spread": tuple(spread),
            "node_selector": selects,
            "required_affinity": required,
            "tolerations": tolerations,
            "owner": owner,
        },
    ),
    apps,
    st.lists(constraints, max_size=3),
    st.sampled_from([(), (), (("disk", "ssd"),)]),
    st.sampled_from(
        [
            None,
            None,
            (),
            (NodeSelectorTerm((Requirement(ZONE, "In", ("a", "b")),)),),
            (NodeSelectorTerm(fields=(Requirement("metadata.name", "NotIn", ("n1",)),)),),
        ]
    ),
    st.sampled_from([(), (Toleration("t", "Exists", "", ""),)]),
    st.sampled_from([None, Owner("apps/v1", "ReplicaSet", "rs"), Owner("v1", "ReplicationController", "rc")]),
)
objects = st.sampled_from(
    [
        Service("default", "s", (("app", "a"),)),
        Service("default", "t", (("tier", "x"),)),
        Service("default", "s", None),
        Service("other", "s", (("app", "a"),)),
        Workload("default", "rs", "ReplicaSet", (Requirement("app", "Exists"),)),
        Workload("default", "rs", "ReplicaSet", None),
        Workload("default", "rc", "ReplicationController", (Requirement("app", "In", ("b",)),)),
    ]
)
WHAT: dict[str, tuple[int, st.SearchStrategy[Any]]] = {
    "pod": (9, pods),
    "node": (3, nodes),
    "ask": (4, st.tuples(st.integers(0, 3), st.integers(0, 2**7 - 1))),
    "object": (1, objects),
    "pod-gone": (2, st.integers(0, 25)),
    "node-gone": (1, st.sampled_from(NODES)),
    "object-gone": (1, objects),
    "taints": (1, st.sampled_from(NODES)),
}
steps = st.sampled_from([what for what, (weight, _) in WHAT.items() for _ in range(weight)]).flatmap(
    lambda what: st.tuples(st.just(what), WHAT[what][1])
)


class Story:
    """One cluster, a plugin that follows it, and what the two are asked about."""

    def __init__(self, asking: list[Pod], defaults: tuple[SpreadConstraint, ...] | None) -> None:
        self.cluster = Cluster(grid_zones(), None)
        self.cluster.snap = snapshot.Snapshot(capacity=2)
        self.plugin = PodTopologySpread(defaults)
        self.defaults = defaults
        self.asking = asking
        self.objects: dict[tuple[str, str], AnyObject] = {}

    def step(self, what: str, value: Any) -> None:
        cluster = self.cluster
        match what:
            case "pod":
                cluster.put_pod(value)
            case "node":
                cluster.put_node(value)
            case "pod-gone":
                if cluster.pods.pop(PodUid(f"u{value}"), None):
                    cluster._discharge(PodUid(f"u{value}"))  # as drop_pod, but it may come again
            case "node-gone":
                cluster.drop_node(NodeName(value))
            case "object":
                cluster.put_object(value)
                self.objects[value.kind, value.key] = value
            case "object-gone":
                cluster.drop_object(value.kind, value.key)
                self.objects.pop((value.kind, value.key), None)
            case "taints":
                self.renumber(value)
            case "ask":
                self.ask(self.asking[value[0] % len(self.asking)], value[1])

    def renumber(self, name: str) -> None:
        """So many lists of taints that their numbers start anew."""
        if (slot := self.cluster.snap.slot_of.get(NodeName(name))) is not None:
            node = self.cluster.snap.nodes[slot]
            assert node is not None
            for moment in range(1100):
                self.cluster.put_node(
                    make_node(name, labels=node.labels, taints=(Taint("at", str(moment), "NoExecute"),))
                )
            self.cluster.put_node(node)

    def ask(self, pod: Pod, feasible: int) -> None:
        snap = self.cluster.snap
        nodes = [node for node in snap.nodes if node is not None]
        on: dict[str, list[Pod]] = {}
        for other in self.cluster.pods.values():
            on.setdefault(other.node_name or "", []).append(other)
        naive = Naive(nodes, on, list(self.objects.values()), self.defaults)
        state = self.plugin.prepare(pod, snap)
        assert isinstance(state, pod_topology_spread.State)
        want = naive.filtered(pod)
        if state.filters:
            codes = state.reject(snap, ALL).tolist()
            assert {node.name: CODES[codes[snap.slot_of[node.name]]] for node in nodes} == want
            assert state.fits(snap, ALL).tolist() == [code == 0 for code in codes]
            some = np.array([snap.slot_of[node.name] for node in nodes[::2]], np.intp)
            assert state.reject(snap, some).tolist() == [codes[slot] for slot in some]
            assert state.fits(snap, some).tolist() == [codes[slot] == 0 for slot in some]
        else:
            assert set(want.values()) <= {FITS}
        names = [node.name for node in nodes if feasible >> int(node.name[1:]) & 1]
        scores = naive.scored(pod, names)
        assert state.scores == (scores is not None)
        if scores is not None and names:
            slots = np.sort(np.array([snap.slot_of[NodeName(name)] for name in names], np.intp))
            got = state.normalise(state.score(snap, slots)).tolist()
            found = {node.name: got[i] for i, slot in enumerate(slots.tolist()) if (node := snap.nodes[slot])}
            assert found == scores


@pytest.fixture(autouse=True, scope="module")
def tight() -> Any:
    """Limits so low that everything kept is thrown away now and then."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(peers, "MAX_COUNTS", 2)
        patch.setattr(peers, "KEPT_CHANGES", 6)
        patch.setattr(snapshot, "MAX_LABEL_COLUMNS", 2)
        patch.setattr(pod_topology_spread, "MAX_SHAPES", 2)
        yield


DEFAULTS = [
    None,
    None,
    (),
    (SpreadConstraint(ZONE, 1), SpreadConstraint("rack", 2, hard=False), SpreadConstraint(HOSTNAME, 1, hard=False)),
]


@settings(max_examples=150, deadline=None)
@given(st.lists(pending, min_size=1, max_size=4), st.sampled_from(DEFAULTS), st.lists(steps, min_size=20, max_size=80))
def test_incremental_is_plain(asking: list[Pod], defaults: Any, story: list[tuple[str, Any]]) -> None:
    told = Story(asking, defaults)
    for what, value in story:
        told.step(what, value)
    for pod in asking:
        told.ask(pod, 2**7 - 1)
