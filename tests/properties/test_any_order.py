"""Whatever happens, in whatever order, lost or repeated: no Binding without room in the state known at that moment, and nobody
is evicted but by somebody of higher priority.

The test keeps its own, naive book of what the core has been told, in plain sums over dicts, and checks every effect by it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from builders import OURS, WALL, make_node, make_pod, make_value
from carbon_scheduler.core.decision import Bind, Evict, ReadPod
from carbon_scheduler.core.events import (
    Bound,
    CarbonChanged,
    Event,
    Evicted,
    NodeChanged,
    NodeGone,
    NotEvicted,
    PodChanged,
    PodGone,
    PodRead,
    Refused,
    Synced,
    Tick,
    Unknown,
)
from carbon_scheduler.core.model import GridZone, Node, NodeName, Pod, PodUid, Taint
from carbon_scheduler.core.scheduler import Scheduler
from carbon_scheduler.core.settings import Settings
from carbon_scheduler.providers.tables import grid_zones

NODES = [f"n{i}" for i in range(4)]
ZONES = ["FR", "PL", "FR", "PL", "DE", ""]


@dataclass
class Book:
    """What the core knows, kept naively: from the events given to it and the Bindings that it asked for."""

    nodes: dict[str, Node] = field(default_factory=dict)
    pods: dict[str, Pod] = field(default_factory=dict)
    asked: dict[str, Bind] = field(default_factory=dict)
    ended: set[str] = field(default_factory=set)
    lost: set[PodUid] = field(default_factory=set)
    unheard: set[PodUid] = field(default_factory=set)
    """Bindings of which an answer was lost; those of them about which nothing was heard since: they may still land."""

    def hears(self, event: Event) -> None:
        match event:
            case NodeChanged(node=node):
                self.nodes[node.name] = node
            case NodeGone(name=name):
                self.nodes.pop(name, None)
            case PodChanged(pod=pod):
                self.hears_pod(pod)
            case PodGone(uid=uid):
                self.ends(uid)
            case PodRead(uid=uid, pod=pod):
                self.unheard.discard(uid)
                if pod is None:
                    self.ends(uid)
                else:
                    self.hears_pod(pod)
            case Unknown(uid=uid, seq=seq) if self.present(uid, seq):
                self.lost.add(uid)
                self.unheard.add(uid)
            case Bound(uid=uid, seq=seq) if self.present(uid, seq):
                self.lost.discard(uid)
                self.unheard.discard(uid)
            case Refused(uid=uid, seq=seq) if self.present(uid, seq) and uid in self.lost:
                self.unheard.add(uid)

    def present(self, uid: str, seq: int) -> bool:
        return uid in self.asked and self.asked[uid].decision.seq == seq

    def hears_pod(self, pod: Pod) -> None:
        if pod.uid in self.ended:
            return
        if pod.finished:
            self.ends(pod.uid)
            return
        old = self.pods.get(pod.uid)
        if old and old.node_name and not pod.node_name:
            pod = msgspec.structs.replace(pod, node_name=old.node_name)
        if old and old.terminating:
            pod = msgspec.structs.replace(pod, terminating=True)
        self.pods[pod.uid] = pod
        if pod.node_name:
            self.settled(pod.uid)

    def settled(self, uid: PodUid) -> None:
        self.asked.pop(uid, None)
        self.lost.discard(uid)
        self.unheard.discard(uid)

    def ends(self, uid: PodUid) -> None:
        self.ended.add(uid)
        self.pods.pop(uid, None)
        self.settled(uid)

    def load(self, node: str) -> tuple[int, int, int, list[int]]:
        """Pods, millicores, bytes and host ports on a node: bound ones and asked ones."""
        here = [
            p for uid, p in self.pods.items() if (p.node_name or (uid in self.asked and self.asked[uid].node)) == node
        ]
        requests = [pod.charge or pod.spec.requests for pod in here]
        ports = [port.port for pod in here for port in pod.spec.host_ports]
        return len(here), sum(r.cpu_m for r in requests), sum(r.memory_b for r in requests), ports

    def would_take(self, node: Node, pod: Pod) -> bool:
        count, cpu_m, memory_b, ports = self.load(node.name)
        asks = pod.spec.requests
        return (
            count < node.allocatable["pods"]
            and (not asks.cpu_m or cpu_m + asks.cpu_m <= node.allocatable["cpu"])
            and (not asks.memory_b or memory_b + asks.memory_b <= node.allocatable["memory"])
            and not {port.port for port in pod.spec.host_ports} & set(ports)
            and not node.unschedulable
            and not any(taint.effect != "PreferNoSchedule" for taint in node.taints)
        )

    def checks(self, bind: Bind) -> None:
        again = self.asked.get(bind.uid)
        assert bind.uid not in self.ended, "a pod that is gone"
        pod = self.pods[bind.uid]
        assert again is None or again == bind, "a second Binding while the first may still land"
        assert pod.node_name is None, "a pod that is bound already"
        assert pod.scheduler_name == OURS
        assert not pod.gated
        assert not pod.terminating
        assert not pod.refusal
        node = self.nodes[bind.node]
        self.asked[bind.uid] = bind
        count, cpu_m, memory_b, ports = self.load(bind.node)
        asks = pod.spec.requests
        assert count <= node.allocatable["pods"], "more pods than the node takes"
        assert not asks.cpu_m or cpu_m <= node.allocatable["cpu"], "more cpu than the node has"
        assert not asks.memory_b or memory_b <= node.allocatable["memory"], "more memory than the node has"
        assert len(set(ports)) == len(ports) or not pod.spec.host_ports, "two pods on one host port"
        assert not node.unschedulable
        assert not any(taint.effect != "PreferNoSchedule" for taint in node.taints)

    def checks_eviction(self, effect: Evict) -> None:
        """A victim is on the node, less important, and not going yet; its preemptor waits for room and may preempt."""
        victim, preemptor = self.pods[effect.uid], self.pods[effect.preemptor_uid]
        where = victim.node_name or self.asked[effect.uid].node
        assert where == effect.node
        assert victim.spec.priority < preemptor.spec.priority
        assert not victim.terminating
        assert preemptor.may_preempt
        assert preemptor.uid not in self.asked
        assert preemptor.node_name is None


pods = st.builds(
    # Requests may change (a resize), host ports never do.
    lambda i, cpu, mem, **more: make_pod(
        f"p{i}", cpu=cpu, memory=mem, ports=(80,) if i % 4 == 0 else (), uid=f"u{i}", **more
    ),
    st.integers(0, 14),
    st.sampled_from(["", "500m", "1", "2", "3"]),
    st.sampled_from(["", "1Gi", "6Gi"]),
    node=st.sampled_from([None] * 12 + NODES),
    scheduler=st.sampled_from([OURS] * 7 + ["default-scheduler"]),
    gated=st.sampled_from([False] * 7 + [True]),
    terminating=st.sampled_from([False] * 7 + [True]),
    finished=st.sampled_from([False] * 15 + [True]),
    priority=st.sampled_from([0, 0, 10]),
    may_preempt=st.sampled_from([True, True, True, False]),
    started_s=st.sampled_from([None, 5.0, 9.0]),
    nominated_node_name=st.sampled_from([None] * 15 + NODES),
)
nodes = st.builds(
    make_node,
    st.sampled_from(NODES),
    cpu=st.sampled_from(["2", "4"]),
    memory=st.sampled_from(["4Gi", "8Gi"]),
    pods=st.sampled_from([2, 110]),
    zone=st.sampled_from(ZONES),
    unschedulable=st.sampled_from([False, False, False, True]),
    taints=st.sampled_from([(), (), (Taint("t", "", "NoSchedule"),), (Taint("t", "", "PreferNoSchedule"),)]),
)
WHAT: dict[str, tuple[int, st.SearchStrategy[Any]]] = {
    "pod": (8, pods),
    "decide": (6, st.integers(1, 5)),
    "answer": (5, st.tuples(st.integers(0, 30), st.sampled_from(["bound", "0", "403", "409", "unknown", "echo"]))),
    "read": (
        3,
        st.tuples(st.integers(0, 30), st.sampled_from(["as asked", "pending", "pending", "gone", "elsewhere"])),
    ),
    "node": (3, nodes),
    "evicted": (3, st.tuples(st.integers(0, 30), st.sampled_from(["going", "gone", "unseen", "failed"]))),
    "again": (3, st.integers(0, 200)),
    "wait": (3, st.sampled_from([0.1, 1.0, 30.0, 400.0])),
    "carbon": (2, st.tuples(st.sampled_from(["FR", "PL", "DE"]), st.sampled_from([None, 50.0, 52.0, 700.0]))),
    "pod-gone": (1, st.integers(0, 14)),
    "node-gone": (1, st.sampled_from(NODES)),
}
"""Steps by how often they come. Not one_of: it takes equal alternatives for one, so weights have no effect there."""
steps = st.sampled_from([what for what, (weight, _) in WHAT.items() for _ in range(weight)]).flatmap(
    lambda what: st.tuples(st.just(what), WHAT[what][1])
)
stories = st.tuples(
    st.lists(st.tuples(st.just("node"), nodes), min_size=2, max_size=4), st.lists(steps, min_size=40, max_size=100)
).map(lambda parts: [*parts[0], *parts[1]])
"""Nodes first: most stories of steps alone would end before anything can be bound."""


def play(story: list[tuple[str, Any]]) -> list[bytes]:
    """Runs the steps, checks every Binding, and returns the effects as bytes."""
    scheduler, book = Scheduler(Settings(), grid_zones()), Book()
    at = 10.0
    told: list[Event] = []
    binds: list[Bind] = []
    reads: list[ReadPod] = []
    evictions: list[Evict] = []
    trace: list[bytes] = []

    def tell(event: Event) -> None:
        told.append(event)
        book.hears(event)
        scheduler.apply(event)
        scheduler.cluster.debug_check()
        if isinstance(event, (Refused, PodRead)):
            given_up(event.uid)

    def given_up(uid: PodUid) -> None:
        """After what may end an assumption: takes over whether it did. When it must not, is checked here and by `checks`."""
        if uid in book.asked and uid not in scheduler.cluster.assumed:
            assert uid not in book.unheard, "the lost Binding may still land"
            del book.asked[uid]
            book.lost.discard(uid)

    def decide(limit: int) -> None:
        made = scheduler.decide(at, limit)
        for uid in list(book.lost):  # a repetition is due, and the pod does not fit any more
            given_up(uid)
        for effect in made:
            trace.append(msgspec.json.encode(effect))
            if isinstance(effect, Bind):
                book.checks(effect)
                binds.append(effect)
            elif isinstance(effect, ReadPod):
                reads.append(effect)
            elif isinstance(effect, Evict):
                book.checks_eviction(effect)
                evictions.append(effect)
        scheduler.cluster.debug_check()

    for zone in ZONES[:2]:  # DE stays without an answer: a node there holds decisions for a while
        tell(CarbonChanged(0.0, WALL, GridZone(zone), make_value(zone, 50.0)))
    tell(Synced(0.0, WALL))
    for what, value in story:
        now = (at, WALL + at)
        match what:
            case "pod":
                tell(PodChanged(*now, value))
            case "node":
                tell(NodeChanged(*now, value))
            case "pod-gone":
                tell(PodGone(*now, f"u{value}"))  # type: ignore[arg-type]
            case "node-gone":
                tell(NodeGone(*now, NodeName(value)))
            case "carbon":
                zone, g = value
                tell(CarbonChanged(*now, GridZone(zone), None if g is None else make_value(zone, g)))
            case "answer" if binds:
                which, answer = value
                bind = binds[which % len(binds)]
                whom = (bind.uid, bind.node, bind.decision.seq)
                if answer == "bound":
                    tell(Bound(*now, *whom))
                elif answer == "unknown":
                    tell(Unknown(*now, *whom))
                elif answer == "echo" and bind.uid in book.pods:
                    tell(PodChanged(*now, msgspec.structs.replace(book.pods[bind.uid], node_name=bind.node)))
                elif answer in ("0", "403", "409"):
                    tell(Refused(*now, *whom, int(answer), "no"))
            case "read" if reads:
                which, answer = value
                read = reads[which % len(reads)]
                known = book.pods.get(read.uid)
                if answer == "gone" or known is None:
                    tell(PodRead(*now, read.uid, read.seq, None))
                elif answer == "pending":
                    tell(PodRead(*now, read.uid, read.seq, known))
                else:
                    node = book.asked[read.uid].node if answer == "as asked" and read.uid in book.asked else NODES[0]
                    tell(PodRead(*now, read.uid, read.seq, msgspec.structs.replace(known, node_name=NodeName(node))))
            case "evicted" if evictions:
                which, answer = value
                victim = book.pods.get(evictions[which % len(evictions)].uid)
                if victim is not None and answer == "going":
                    tell(PodChanged(*now, msgspec.structs.replace(victim, terminating=True, preempted=True)))
                if victim is not None:
                    tell(NotEvicted(*now, victim.uid, 403, "no") if answer == "failed" else Evicted(*now, victim.uid))
                if victim is not None and answer == "gone":
                    tell(PodGone(*now, victim.uid))
            case "again" if told:
                tell(told[value % len(told)])
            case "wait":
                at += value
                tell(Tick(at, WALL + at))
            case "decide":
                decide(value)
    for _ in range(2):  # a Binding given up only now is decided again after its backoff
        for eviction in evictions:  # they are answered in the end
            tell(NotEvicted(at, WALL + at, eviction.uid, 0, "no answer"))
        at += 11.0  # longer than any backoff and any wait for data, shorter than the flush of parked pods
        for _ in range(40):  # one that looked for victims ends its turn early
            decide(100)
    for uid, pod in book.pods.items():
        pending = pod.scheduler_name == OURS and not (pod.node_name or pod.gated or pod.terminating)
        if pending and uid not in book.asked:
            assert uid in scheduler.cycle.queue, "a pending pod was lost"
            free = [node for node in book.nodes.values() if book.would_take(node, pod)]
            kept = [
                node
                for node in free
                if scheduler.cycle.room.nominations.beside(scheduler.cluster.snap.slot_of[node.name], pod)
            ]
            assert uid in scheduler.cycle.room.evictions or free == kept, "a pod waits beside free room"
    return trace


@pytest.mark.timeout(600)  # the whole state is compared after every event
def test_no_binding_without_room_and_no_pod_lost() -> None:
    seen = {"Bind": 0, "ReadPod": 0, "Unschedulable": 0, "Evict": 0}
    count = 120

    @settings(max_examples=count, deadline=None)
    @given(stories)
    def check(story: list[tuple[str, Any]]) -> None:
        for effect in play(story):
            for name in seen:
                seen[name] += effect.startswith(b'{"type":"%s"' % name.encode())

    check()
    # Who plays stories in which nothing happens checks nothing.
    assert seen["Bind"] > 2 * count
    assert seen["ReadPod"] > count / 10
    assert seen["Unschedulable"] > count
    assert seen["Evict"] > count / 20  # it takes a node of lower priorities that is full


@pytest.mark.timeout(600)
@settings(max_examples=30, deadline=None)
@given(stories)
def test_the_same_events_give_the_same_effects(story: list[tuple[str, Any]]) -> None:
    assert play(story) == play(story)
