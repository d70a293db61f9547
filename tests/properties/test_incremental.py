"""What is kept up to date change by change equals what is worked out anew from all nodes and pods.

The plain full recomputation is a fresh cluster and a fresh framework: no array of theirs has ever been brought up to date.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from builders import make_node, make_pod
from carbon_scheduler.core.cluster import Cluster
from carbon_scheduler.core.emissions import Costs
from carbon_scheduler.core.framework import Framework
from carbon_scheduler.core.groups import Groups
from carbon_scheduler.core.model import (
    HostPort,
    Node,
    NodeName,
    NodeSelectorTerm,
    Pod,
    PodSpec,
    PodTerm,
    PodUid,
    PreferredTerm,
    Requests,
    Requirement,
    SpreadConstraint,
    Taint,
    Toleration,
)
from carbon_scheduler.core.placement import choose, choose_in_groups
from carbon_scheduler.core.plugins import default_profile
from carbon_scheduler.core.settings import Placement, Policy
from carbon_scheduler.providers.tables import grid_zones

NODES: Final = [f"n{i}" for i in range(7)]
ON_SSD: Final = NodeSelectorTerm((Requirement("disk", "In", ("ssd",)),))
APP: Final = (Requirement("app", "In", ("a",)),)
BASE: Final = make_pod(cpu="500m", memory="1Gi").spec


def _like(**fields: object) -> PodSpec:
    return PodSpec(**{name: getattr(BASE, name) for name in ("namespace", "requests")} | fields)  # type: ignore[arg-type]


SPECS: Final = [
    BASE,
    _like(labels=(("app", "a"),), tolerations=(Toleration("soft", "Exists", "", ""),)),
    _like(requests=Requests(), priority=5, node_selector=(("disk", "ssd"),)),
    _like(preferred_affinity=(PreferredTerm(3, ON_SSD),), labels=(("app", "a"),)),
    _like(required_affinity=(ON_SSD,), host_ports=(HostPort("0.0.0.0", "TCP", 80),)),
    _like(spread=(SpreadConstraint("zone", 1, hard=True, selector=APP),), labels=(("app", "a"),)),
    _like(spread=(SpreadConstraint("zone", 2, hard=False, selector=APP),)),
    _like(required_pod_anti_affinity=(PodTerm("kubernetes.io/hostname", APP, ("default",)),), labels=(("app", "a"),)),
    _like(required_pod_affinity=(PodTerm("zone", APP, ("default",)),), labels=(("app", "b"),)),
]

taints = st.lists(
    st.sampled_from(
        [Taint("hard", "", "NoSchedule"), Taint("soft", "", "PreferNoSchedule"), Taint("x", "1", "NoExecute")]
    ),
    max_size=2,
    unique=True,
)


@st.composite
def nodes(draw: st.DrawFn) -> Node:
    labels = {key: value for key in ("disk", "zone") if (value := draw(st.sampled_from(["ssd", "hdd", ""])))}
    return make_node(
        draw(st.sampled_from(NODES)),
        cpu=draw(st.sampled_from(["0", "1", "4"])),
        memory=draw(st.sampled_from(["0", "2Gi", "64Gi"])),
        pods=draw(st.sampled_from([1, 3, 110])),
        labels=labels,
        taints=tuple(draw(taints)),
        unschedulable=draw(st.integers(0, 9)) == 0,
    )


@st.composite
def pods(draw: st.DrawFn) -> Pod:
    number = draw(st.integers(0, 9))
    fields = {"uid": PodUid(f"u{number}"), "namespace": "default", "name": f"p{number}"}
    return Pod(
        **fields,
        spec=draw(st.sampled_from(SPECS)),
        node_name=NodeName(draw(st.sampled_from(NODES))),
        terminating=draw(st.integers(0, 5)) == 0,
    )


steps = st.lists(
    st.one_of(
        nodes().map(lambda node: lambda cluster: cluster.put_node(node)),
        pods().map(lambda pod: lambda cluster: cluster.put_pod(pod)),
        pods().map(lambda pod: lambda cluster: cluster.put_pod(pod)),
        st.sampled_from(NODES).map(lambda name: lambda cluster: cluster.drop_node(name)),
        st.integers(0, 9).map(lambda number: lambda cluster: cluster.drop_pod(PodUid(f"u{number}"))),
        st.integers(0, len(SPECS) - 1),
        st.integers(0, len(SPECS) - 1),
    ),
    max_size=40,
)


@settings(max_examples=150, deadline=None)
@given(steps)
def test_brought_up_to_date_is_as_good_as_new(story: list[int | Callable[[Cluster], object]]) -> None:
    live = Cluster(grid_zones(), None)
    framework = Framework(default_profile(), live.snap)
    asked = [Pod(PodUid(f"new{i}"), "default", f"new{i}", spec) for i, spec in enumerate(SPECS)]
    for step in (*story, *range(len(SPECS))):
        if isinstance(step, int):
            _compare(live, framework, asked[step])
        else:
            step(live)
    live.debug_check()


@settings(max_examples=150, deadline=None)
@given(steps, st.integers(0, 2**64 - 1), st.sampled_from(["carbon-first", "off"]))
def test_the_choice_by_groups_is_the_choice_among_all_nodes(
    story: list[int | Callable[[Cluster], object]], start: int, policy: Policy
) -> None:
    live = Cluster(grid_zones(), None)
    framework = Framework(default_profile(), live.snap)
    kept: dict[tuple[int, ...], Groups] = {}
    at = -1

    def groups_of(divisions: list[NDArray[np.intp]]) -> Groups:
        nonlocal at
        if at != live.snap.spec_log.position:
            kept.clear()
            at = live.snap.spec_log.position
        key = tuple(map(id, divisions))
        return kept.setdefault(key, Groups(live.snap, _costs(live), divisions))

    for step in (*story, *range(len(SPECS))):
        if not isinstance(step, int):
            step(live)
            continue
        verdict = framework.judge(Pod(PodUid("new"), "default", "new", SPECS[step]))
        field = verdict.field(groups_of)
        if field is None:
            continue
        ranked = verdict.ranked()
        assert field.feasible == int((ranked >= 0).sum())
        if field.feasible:
            placement = Placement(tolerance_g_per_kwh=60.0)
            want = choose(policy, placement, verdict.ranks(), _costs(live), live.snap.ring, start)
            assert choose_in_groups(policy, placement, field, live.snap.ring, start) == want


def _costs(live: Cluster) -> Costs:
    """Four different ones and none, by the node's name."""
    known = [50.0, 100.0, 100.0, 300.0, float("nan"), 700.0, 50.0]
    return Costs(
        np.array([float("nan") if node is None else known[NODES.index(node.name)] for node in live.snap.nodes])
    )


def _compare(live: Cluster, framework: Framework, pod: Pod) -> None:
    fresh = Cluster(grid_zones(), None)
    for node in live.snap.nodes:
        if node is not None:
            fresh.put_node(node)
    for other in live.pods.values():
        fresh.put_pod(other)
    mine, anew = framework.judge(pod), Framework(default_profile(), fresh.snap).judge(pod)
    assert mine.status() == anew.status()
    assert mine.rejecting == anew.rejecting
    names = [
        node.name for node in fresh.snap.nodes if node is not None and anew.feasible[fresh.snap.slot_of[node.name]]
    ]
    here = np.array([live.snap.slot_of[name] for name in names], np.intp)
    there = np.array([fresh.snap.slot_of[name] for name in names], np.intp)
    assert int(np.count_nonzero(mine.feasible)) == len(names)
    scores, new_scores = mine.scores(here), anew.scores(there)
    assert {name: row.tolist() for name, row in scores.items()} == {n: row.tolist() for n, row in new_scores.items()}
    totals, ranked = mine.totals(here), mine.ranked()
    assert totals.tolist() == anew.totals(there).tolist()
    assert (
        len({int(total - rank) for total, rank in zip(totals, ranked[here], strict=True)}) <= 1
    )  # ranks leave out what all have
    assert (ranked >= 0).sum() == len(names)
