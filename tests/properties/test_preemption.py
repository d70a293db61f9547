"""Victims: many nodes together or one after the other, by arrays or by plain sums, the answer is the same, and nothing is left
changed by having looked."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from builders import make_node, make_pod
from carbon_scheduler.core import preemption as module
from carbon_scheduler.core.cluster import Cluster
from carbon_scheduler.core.framework import Framework
from carbon_scheduler.core.model import NodeName, PodTerm, Requirement, SpreadConstraint
from carbon_scheduler.core.nominations import Nominations
from carbon_scheduler.core.objects import Budget
from carbon_scheduler.core.plugins import default_profile
from carbon_scheduler.core.preemption import Preemption
from carbon_scheduler.core.trial import Trial
from carbon_scheduler.core.victims import VictimTable
from carbon_scheduler.providers.tables import grid_zones

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from carbon_scheduler.core.model import Node, Pod
    from carbon_scheduler.core.verdict import Verdict

NODES = ["n0", "n1", "n2", "n3"]
HUGE = 2**61


def selector(app: str) -> tuple[Requirement, ...]:
    return (Requirement("app", "In", (app,)),)


def labelled(app: str | None, **more: Any) -> dict[str, Any]:
    return {"labels": (("app", app),) if app else (), **more}


HOST, ZONE = "kubernetes.io/hostname", "zone"


def term(key: str, app: str) -> PodTerm:
    return PodTerm(key, selector(app), ("default",))


def spread(key: str) -> SpreadConstraint:
    return SpreadConstraint(key, 1, hard=True, selector=selector("a"))


MORE: list[dict[str, Any]] = [
    {"required_pod_anti_affinity": (term(HOST, "a"),)},
    {"required_pod_anti_affinity": (term(ZONE, "b"),)},
    {"required_pod_affinity": (term(ZONE, "a"),)},
    labelled("a", spread=(spread(ZONE),)),
    labelled("a", spread=(spread(HOST), spread(ZONE))),
    labelled("a"),
]
AGAINST_A = {"required_pod_anti_affinity": (term(HOST, "a"),)}
pods = st.builds(
    lambda i, app, against, **more: make_pod(f"p{i}", uid=f"u{i}", spec=labelled(app, **against), **more),
    st.integers(0, 30),
    st.sampled_from([None, "a", "b", "c"]),
    st.sampled_from([*[{}] * 9, AGAINST_A]),
    cpu=st.sampled_from(["", "500m", "1", "1"]),
    memory=st.sampled_from(["", "1Gi", "1Gi", "3Gi"]),
    priority=st.sampled_from([0, 0, 5, 10, 20]),
    started_s=st.sampled_from([None, 1.0, 2.0, 3.0]),
    node=st.sampled_from([*NODES[:2] * 4, *NODES, None, "gone"]),
    ports=st.sampled_from([(), (), (), (80,)]),
    terminating=st.sampled_from([False] * 7 + [True]),
    scalars=st.sampled_from([None, None, {"x.y_gpu": 1}]),
)
nodes = st.builds(
    make_node,
    st.sampled_from(NODES),
    cpu=st.sampled_from(["2", "3", "4"]),
    memory=st.sampled_from(["4Gi", "8Gi"]),
    pods=st.sampled_from([2, 4, 110]),
    unschedulable=st.sampled_from([False] * 7 + [True]),
    labels=st.sampled_from([{"zone": "z1"}, {"zone": "z2"}, {}]),
    extra=st.sampled_from([None, {"x.y/gpu": 2}]),
)
budgets = st.builds(
    Budget,
    st.sampled_from(["default", "other"]),
    st.sampled_from(["x", "y", "z"]),
    selector=st.sampled_from([selector("a"), selector("b"), (Requirement("app", "Exists"),), (), None]),
    disruptions_allowed=st.integers(0, 2),
    disrupted=st.sampled_from([(), (), ("p1",)]),
)
nominated = st.tuples(
    st.integers(100, 103), st.sampled_from(NODES), st.sampled_from([0, 10, 50]), st.sampled_from(["500m", "2"])
)
wanted = st.builds(
    lambda cpu, memory, priority, **more: make_pod("new", uid="new", cpu=cpu, memory=memory, priority=priority, **more),
    st.sampled_from(["1", "2", "2", "3"]),
    st.sampled_from(["", "", "2Gi"]),
    st.sampled_from([5, 10, 30, 30, 30]),
    scalars=st.sampled_from([None, None, {"x.y_gpu": 2}]),
    ports=st.sampled_from([(), (), (80,)]),
    spec=st.sampled_from([*[{}] * 4, *MORE]),
)
worlds = st.fixed_dictionaries(
    {
        "nodes": st.lists(nodes, min_size=1, max_size=3, unique_by=lambda node: node.name),
        "pods": st.lists(pods, min_size=10, max_size=25, unique_by=lambda pod: pod.uid),
        "budgets": st.lists(budgets, max_size=3),
        "nominated": st.lists(nominated, max_size=3, unique_by=lambda one: one[0]),
        "later": st.lists(pods, max_size=4, unique_by=lambda pod: pod.uid),
        "wanted": wanted,
    }
)


class World:
    def __init__(self, parts: dict[str, Any]) -> None:
        self.cluster = Cluster(grid_zones(), None)
        self.framework = Framework(default_profile(), self.cluster.snap)
        self.nominations = Nominations(self.cluster.snap, self.cluster.pods)
        self.table = VictimTable(self.cluster)
        for node in parts["nodes"]:
            self.cluster.put_node(node)
        for pod in parts["pods"]:
            self.cluster.put_pod(pod)
        for budget in parts["budgets"]:
            self.cluster.put_object(budget)
        for i, node, priority, cpu in parts["nominated"]:
            self.cluster.put_pod(pod := make_pod(f"p{i}", uid=f"u{i}", cpu=cpu, priority=priority))
            self.nominations.put(pod.uid, NodeName(node))

    def judge(self, pod: Pod, *, exactly: bool = True) -> Verdict:
        verdict = self.framework.judge(pod)
        self.nominations.heed(pod, verdict, exactly=exactly)
        return verdict

    def candidates(
        self, pod: Pod, table: VictimTable | None = None
    ) -> tuple[dict[str, tuple[list[str], int]], list[str], str]:
        """Victims and broken budgets by node, the nodes between which nothing decides, and the message."""
        preemption = Preemption(self.cluster, self.nominations, table or VictimTable(self.cluster))
        found = preemption.scan(pod, self.judge(pod), len(self.cluster.snap))
        made = [found.candidate(i) for i in range(len(found))]
        told = {one.node: ([victim.uid for victim in one.victims], one.violations) for one in made}
        tied = sorted(made[i].node for i in found.tied()) if made else []
        return told, tied, found.message(len(self.cluster.snap))


def picture(cluster: Cluster) -> Any:
    """All that a trial changes for a while."""
    snap = cluster.snap
    kinds = {(kind.spec, kind.terminating): dict(kind.on) for kind in snap.peers._kinds.values()}
    arrays = {name: getattr(snap, name).tolist() for name in ("requested", "pod_count")}
    arrays["basics"] = [part.tolist() for part in snap.basics(slice(None))]
    return copy.deepcopy((arrays, snap.ports)), kinds


class OneByOne(Trial):
    def relenting(self) -> NDArray[np.bool_]:
        return np.zeros(self._snap.capacity, np.bool_)


seen = {"candidates": 0, "together": 0, "violations": 0, "several": 0, "kept away": 0, "relenting": 0}


@settings(max_examples=400, deadline=None)
@given(worlds)
def check(parts: dict[str, Any]) -> None:
    world = World(parts)
    pod = parts["wanted"]
    quick, exact = world.judge(pod, exactly=False), world.judge(pod)
    assert (quick.feasible == exact.feasible).all()
    seen["kept away"] += bool(parts["nominated"]) and bool(
        (world.framework.judge(pod).feasible != exact.feasible).any()
    )
    if exact.feasible.any():
        return
    assert quick.message() == exact.message()
    together = world.candidates(pod, world.table)
    before = picture(world.cluster)
    module.Trial = OneByOne  # type: ignore[misc]
    try:
        assert world.candidates(pod) == together
    finally:
        module.Trial = Trial  # type: ignore[misc]
    assert picture(world.cluster) == before
    world.cluster.debug_check()
    trial = Trial(pod, world.judge(pod), world.cluster.snap)
    relenting = {
        node.name for node, may in zip(world.cluster.snap.nodes, trial.relenting(), strict=True) if node and may
    }
    seen["relenting"] += not trial.sums_only and not relenting.isdisjoint(together[0])
    if trial.sums_only:
        seen["together"] += bool(together[0])
        assert together[0] == naive(world, pod)
    seen["candidates"] += bool(together[0])
    seen["violations"] += any(violations for _, violations in together[0].values())
    seen["several"] += any(len(victims) > 1 for victims, _ in together[0].values())
    # The table follows what happens.
    for later in parts["later"]:
        world.cluster.put_pod(later)
    world.cluster.put_node(msgspec.structs.replace(parts["nodes"][0], unschedulable=False))
    for uid in [pod.uid for pod in parts["pods"][::5]]:
        world.cluster.drop_pod(uid)
    if not world.judge(pod).feasible.any():
        assert world.candidates(pod, world.table) == world.candidates(pod)


def test_victims_are_the_same_however_they_are_found() -> None:
    check()
    assert seen["candidates"] > 40
    assert seen["together"] > 20
    assert seen["violations"] > 5
    assert seen["several"] > 10
    assert seen["kept away"] > 3
    assert seen["relenting"] > 10


# -- the same from the definition -----------------------------------------------------------------------------------


def naive(world: World, pod: Pod) -> dict[str, tuple[list[str], int]]:
    """Victims by plain sums over dicts, for a pod that nothing but what pods take keeps away."""
    found = {}
    for node in world.cluster.snap.nodes:
        if node is None or node.unschedulable or not _ever(node, pod):
            continue
        here = [other for other in world.cluster.pods.values() if other.node_name == node.name]
        kept = [other for other in here if other.spec.priority >= pod.spec.priority]
        waiting = [
            other
            for other in world.cluster.pods.values()
            if world.nominations.node_of(other.uid) == node.name and other.spec.priority >= pod.spec.priority
        ]
        below = sorted((other for other in here if other not in kept), key=_importance)
        if not below or _fits(node, [*kept, *below, *waiting], pod) or not _fits(node, [*kept, *waiting], pod):
            continue
        left = {
            budget.key: budget.disruptions_allowed
            for budget in world.cluster.snap.objects.all("PodDisruptionBudget").values()
            if isinstance(budget, Budget)
        }
        breaking = [other for other in below if _breaks(world, other, left)]
        victims = []
        for other in [*breaking, *(other for other in below if other not in breaking)]:
            if _fits(node, [*kept, other, *waiting], pod):
                kept.append(other)
            else:
                victims.append(other)
        found[str(node.name)] = (
            [victim.uid for victim in sorted(victims, key=_importance)],
            sum(victim in breaking for victim in victims),
        )
    return found  # type: ignore[return-value]


def _importance(pod: Pod) -> tuple[int, float, str]:
    return -pod.spec.priority, np.inf if pod.started_s is None else pod.started_s, pod.uid


def _breaks(world: World, pod: Pod, left: dict[str, int]) -> bool:
    breaks = False
    labels = dict(pod.spec.labels)
    for budget in world.cluster.snap.objects.all("PodDisruptionBudget").values():
        assert isinstance(budget, Budget)
        if not budget.selector or not labels or budget.namespace != pod.namespace or pod.name in budget.disrupted:
            continue
        (asked,) = budget.selector
        if labels.get(asked.key) in asked.values if asked.operator == "In" else asked.key in labels:
            left[budget.key] -= 1
            breaks |= left[budget.key] < 0
    return breaks


def _fits(node: Node, others: list[Pod], pod: Pod) -> bool:
    everyone = [*others, pod]
    if len(everyone) > node.allocatable["pods"]:
        return False
    asks = pod.spec.requests
    sums = {
        "cpu": (asks.cpu_m, sum(one.spec.requests.cpu_m for one in everyone)),
        "memory": (asks.memory_b, sum(one.spec.requests.memory_b for one in everyone)),
        "x.y/gpu": (
            dict(asks.scalars).get("x.y/gpu", 0),
            sum(dict(one.spec.requests.scalars).get("x.y/gpu", 0) for one in everyone),
        ),
    }
    return all(not asked or total <= node.allocatable.get(name, 0) for name, (asked, total) in sums.items())


def _ever(node: Node, pod: Pod) -> bool:
    """Whether the pod would fit on the empty node; what asks for more than that is hopeless."""
    asks = pod.spec.requests
    amounts = {"cpu": asks.cpu_m, "memory": asks.memory_b, **dict(asks.scalars)}
    return all(amount <= node.allocatable.get(name, 0) for name, amount in amounts.items() if amount)


def test_sums_beyond_64_bits_are_done_one_by_one() -> None:
    cluster = Cluster(grid_zones(), None)
    cluster.put_node(make_node("n", memory="8Gi"))
    for i in range(3):
        pod = make_pod(f"huge{i}", node="n")
        requests = msgspec.structs.replace(pod.spec.requests, memory_b=HUGE)
        cluster.put_pod(msgspec.structs.replace(pod, spec=msgspec.structs.replace(pod.spec, requests=requests)))
    framework = Framework(default_profile(), cluster.snap)
    pod = make_pod("new", memory="1Gi", priority=10)
    found = Preemption(cluster, Nominations(cluster.snap, cluster.pods)).scan(pod, framework.judge(pod), 1)
    assert len(found.candidate(0).victims) == 3
