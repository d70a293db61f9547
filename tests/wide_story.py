"""Random stories of a whole cluster: every kind of event, answers that are lost or come twice, in batches.

A story is made by a seed alone, so another process can tell it too. After each event the core's state is compared with one
built anew, and every pod must be in exactly one place; each Binding must have room in the state known at that moment.
"""

from __future__ import annotations

import random
import sys
from typing import TYPE_CHECKING, Any

import msgspec

from builders import OURS, WALL, make_node, make_pod, make_value
from carbon_scheduler.core.decision import Bind, BindVolumes, Evict, ReadPod
from carbon_scheduler.core.events import (
    Bound,
    CarbonChanged,
    Event,
    Evicted,
    NamespaceChanged,
    NamespaceGone,
    NodeChanged,
    NodeGone,
    NotEvicted,
    ObjectChanged,
    ObjectGone,
    PodChanged,
    PodGone,
    PodRead,
    Refused,
    Synced,
    Tick,
    Unknown,
    VolumesNotWritten,
    VolumesWritten,
)
from carbon_scheduler.core.model import (
    GridZone,
    Namespace,
    NodeName,
    Pod,
    PodTerm,
    PodUid,
    PodVolume,
    Requirement,
    SpreadConstraint,
    Taint,
    Toleration,
)
from carbon_scheduler.core.objects import (
    AnyObject,
    Attachment,
    Budget,
    Claim,
    ClaimRef,
    CsiDriver,
    CsiNode,
    Service,
    StorageCapacity,
    StorageClass,
    Volume,
    Workload,
)
from carbon_scheduler.core.scheduler import Scheduler
from carbon_scheduler.core.selectors import matches
from carbon_scheduler.core.settings import Settings
from carbon_scheduler.providers.tables import grid_zones

if TYPE_CHECKING:
    from collections.abc import Callable

NODES, PODS, CLAIMS = 5, 14, 4
ZONE = "topology.kubernetes.io/zone"
WEB = (Requirement("app", "In", ("web",)),)
SHAPES: tuple[dict[str, Any], ...] = (
    {},
    {"labels": (("app", "web"),)},
    {"ports": (80,)},
    {"labels": (("app", "web"),), "spread": (SpreadConstraint(ZONE, 1, selector=WEB),)},
    {"required_pod_affinity": (PodTerm(ZONE, WEB, ("default",)),)},
    {
        "labels": (("app", "web"),),
        "required_pod_anti_affinity": (PodTerm("kubernetes.io/hostname", WEB, ("default",)),),
    },
    {"required_pod_anti_affinity": (PodTerm(ZONE, WEB, (), (Requirement("team", "Exists"),)),)},
    {"volumes": (PodVolume("claim", "c0"),)},
    {"volumes": (PodVolume("claim", "c1"), PodVolume("claim", "c2"))},
    {"volumes": (PodVolume("ephemeral", "scratch"),)},
    {"tolerations": (Toleration("t", "Exists", "", ""),)},
    {"node_selector": (("disk", "ssd"),)},
)
Batch = list[tuple[str, Event]]
"""What each event is about, and the event."""


class Story:
    """`order` shuffles the events of each batch that are independent of one another; None leaves them."""

    def __init__(self, seed: int, order: random.Random | None = None) -> None:
        self.scheduler = Scheduler(Settings(), grid_zones())
        self.trace: list[bytes] = []
        self.binds: list[Bind] = []
        self._rng = random.Random(seed)
        self._order = order
        self._at = 10.0
        self._told: list[tuple[str, Event]] = []
        self._pods: dict[str, Pod] = {}
        """As the API server has them."""
        self._asked: list[Any] = []

    def play(self, batches: int = 40) -> list[bytes]:
        """The effects of each decision, as bytes."""
        for zone in ("FR", "PL"):
            self._tell(CarbonChanged(0.0, WALL, GridZone(zone), make_value(zone, 50.0)))
        self._tell(Synced(0.0, WALL))
        late = StorageClass("late", provisioner="csi.example.com", binding_mode="WaitForFirstConsumer")
        self._tell(ObjectChanged(*self._now, late))
        self._batch([self._event(kind) for kind in ("node", "node", "node", *["object"] * 6, "namespace")])
        for _ in range(batches):
            self._batch([self._event() for _ in range(self._rng.randint(1, 6))])
            if self._rng.random() < 0.7:
                self._decide(self._rng.randint(1, 6))
            if self._rng.random() < 0.5:
                self._at += self._rng.choice([0.05, 1.0, 11.0, 330.0])
                self._tell(Tick(*self._now))
        for _ in range(3):
            self._at += 11.0
            self._decide(50)
        return self.trace

    # -- what happens ----------------------------------------------------------------------------------------------

    @property
    def _now(self) -> tuple[float, float]:
        return self._at, WALL + self._at

    def _batch(self, made: Batch) -> None:
        """At most one event about each thing. Those about pods that wait keep their place: what wakes such a pod depends on
        what it is by then. So do answers that are judged by the cluster as it is."""
        batch = list(dict(made).items())
        fixed = [
            e
            for about, e in batch
            if self._waits(about) or isinstance(e, (PodRead, Evicted, NotEvicted, VolumesNotWritten))
        ]
        free = [e for _, e in batch if not any(e is other for other in fixed)]
        if self._order is not None:
            self._order.shuffle(free)
        for event in (*free, *fixed):
            self._tell(event)

    def _waits(self, about: str) -> bool:
        return about.startswith("u") and self.scheduler.cycle.queue.place(PodUid(about)) is not None

    def _tell(self, event: Event) -> None:
        self.scheduler.apply(event)
        self.scheduler.cluster.debug_check()
        self._each_in_one_place()

    def _event(self, kind: str = "") -> tuple[str, Event]:
        kind = kind or self._rng.choices(list(_KINDS), list(_KINDS.values()))[0]
        made: Callable[[], tuple[str, Event]] = getattr(self, f"_{kind.replace('-', '_')}")
        about, event = made()
        self._told.append((about, event))
        return about, event

    def _pod(self) -> tuple[str, Event]:
        rng, i = self._rng, self._rng.randrange(PODS)
        spec = dict(SHAPES[i % len(SHAPES)])
        if rng.random() < 0.1:
            spec["labels"] = (("app", rng.choice(["web", "db"])),)
        if rng.random() < 0.05:
            spec["tolerations"] = (Toleration("t", "Exists", "", ""),)
        pod = make_pod(
            f"p{i}",
            ports=spec.pop("ports", ()),
            cpu=rng.choice(["", "500m", "1", "1", "2"]),
            memory=rng.choice(["", "1Gi"]),
            uid=f"u{i}",
            priority=(0, 0, 10, 20)[i % 4],
            node=rng.choice([None] * 8 + [f"n{n}" for n in range(NODES)]) if i % 3 else None,
            scheduler=OURS if i % 7 else "default-scheduler",
            spec=spec,
            gated=rng.random() < 0.08,
            terminating=rng.random() < 0.06,
            finished=rng.random() < 0.02,
            nominated_node_name=NodeName("n1") if rng.random() < 0.03 else None,
        )
        self._pods[pod.uid] = pod
        return pod.uid, PodChanged(*self._now, pod)

    def _pod_gone(self) -> tuple[str, Event]:
        uid = PodUid(f"u{self._rng.randrange(PODS)}")
        return uid, PodGone(*self._now, uid)

    def _node(self) -> tuple[str, Event]:
        rng, i = self._rng, self._rng.randrange(NODES)
        node = make_node(
            f"n{i}",
            cpu=rng.choice(["2", "4"]),
            memory="8Gi",
            pods=rng.choice([3, 110]),
            zone=rng.choice(["FR", "PL", "DE", ""]),
            labels={ZONE: "ab"[i % 2], **({"disk": "ssd"} if rng.random() < 0.5 else {})},
            unschedulable=rng.random() < 0.1,
            taints=(Taint("t", "", "NoSchedule"),) if rng.random() < 0.2 else (),
        )
        return f"n{i}", NodeChanged(*self._now, node)

    def _node_gone(self) -> tuple[str, Event]:
        name = f"n{self._rng.randrange(NODES)}"
        return name, NodeGone(*self._now, NodeName(name))

    def _namespace(self) -> tuple[str, Event]:
        rng = self._rng
        if rng.random() < 0.2:
            return "ns", NamespaceGone(*self._now, "default")
        return "ns", NamespaceChanged(*self._now, Namespace("default", {"team": "a"} if rng.random() < 0.5 else {}))

    def _object(self) -> tuple[str, Event]:
        one = self._some_object()
        about = f"{one.kind} {one.key}"
        if self._rng.random() < 0.2:
            return about, ObjectGone(*self._now, one.kind, one.key)
        return about, ObjectChanged(*self._now, one)

    def _some_object(self) -> AnyObject:
        rng = self._rng
        n, version = rng.randrange(CLAIMS), str(rng.randrange(3))
        bound = rng.random() < 0.4
        match rng.randrange(12):
            case 0 | 1 | 2:
                name = f"c{n}" if n else rng.choice(["c0", "p9-scratch"])
                return Claim(
                    "default",
                    name,
                    uid=f"uid-{name}",
                    volume_name=f"v{n}" if bound else "",
                    class_name=rng.choice(["late", "late", "late", "now"]),
                    access_modes=(rng.choice(["ReadWriteOnce", "ReadWriteOncePod"]),),
                    request_b=2**30,
                    phase="Bound" if bound else "Pending",
                    bind_completed=bound,
                    owner_uid="u9" if name == "p9-scratch" else "",
                    resource_version=version,
                )
            case 3 | 4:
                return Volume(
                    f"v{n}",
                    capacity_b=2**31,
                    class_name="late",
                    access_modes=("ReadWriteOnce", "ReadWriteOncePod"),
                    claim_ref=ClaimRef("default", f"c{n}", f"uid-c{n}") if bound else None,
                    phase="Bound" if bound else "Available",
                    labels={ZONE: rng.choice("ab")} if rng.random() < 0.3 else {},
                    source=("csi", "csi.example.com", f"v{n}"),
                    resource_version=version,
                )
            case 5:
                mode = rng.choice(["WaitForFirstConsumer"] * 3 + ["Immediate"])
                return StorageClass(rng.choice(["late", "now"]), provisioner="csi.example.com", binding_mode=mode)
            case 6:
                return CsiNode(f"n{rng.randrange(NODES)}", limits={"csi.example.com": rng.choice([None, 1, 5])})
            case 7:
                return CsiDriver("csi.example.com", storage_capacity=rng.random() < 0.2)
            case 8:
                size = rng.choice([None, 2**29, 2**33])
                return StorageCapacity("default", "pool", class_name="late", capacity_b=size, topology=())
            case 9:
                return Attachment("a", attacher="csi.example.com", node_name="n1", volume_name=f"v{n}")
            case 10:
                return Budget("default", "budget", selector=WEB, disruptions_allowed=rng.randrange(2))
            case _:
                if rng.random() < 0.5:
                    return Service("default", "web", selector=(("app", "web"),))
                return Workload("default", "web", kind="ReplicaSet", selector=WEB)

    def _carbon(self) -> tuple[str, Event]:
        zone = self._rng.choice(["FR", "PL", "DE"])
        g = self._rng.choice([None, 50.0, 52.0, 700.0])
        return zone, CarbonChanged(*self._now, GridZone(zone), None if g is None else make_value(zone, g))

    def _again(self) -> tuple[str, Event]:
        """Something that was said before, however long ago."""
        if not self._told:
            return self._node()
        about, event = self._rng.choice(self._told)
        return about, msgspec.structs.replace(event, at=self._now[0], wall=self._now[1])

    def _answer(self) -> tuple[str, Event]:
        """To anything that was asked for, maybe long ago, maybe answered already."""
        if not self._asked:
            return self._pod()
        rng, asked = self._rng, self._rng.choice(self._asked[-12:])
        known = self._pods.get(asked.uid)
        match asked:
            case Bind():
                whom = (asked.uid, asked.node, asked.decision.seq)
                answer = rng.choice(["bound", "echo", "echo", "0", "403", "409", "unknown"])
                if answer == "bound":
                    return asked.uid, Bound(*self._now, *whom)
                if answer == "unknown":
                    return asked.uid, Unknown(*self._now, *whom)
                if answer == "echo" and known is not None:
                    return asked.uid, PodChanged(*self._now, msgspec.structs.replace(known, node_name=asked.node))
                return asked.uid, Refused(*self._now, *whom, int(answer) if answer.isdigit() else 500, "no")
            case ReadPod():
                return asked.uid, PodRead(*self._now, asked.uid, asked.seq, rng.choice([known, known, None]))
            case BindVolumes():
                if rng.random() < 0.7:
                    return asked.uid, VolumesWritten(*self._now, asked.uid, asked.seq)
                return asked.uid, VolumesNotWritten(*self._now, asked.uid, asked.seq, "conflict")
            case _:
                assert isinstance(asked, Evict)
                if rng.random() < 0.6:
                    return asked.uid, Evicted(*self._now, asked.uid)
                if rng.random() < 0.5:
                    return asked.uid, PodGone(*self._now, asked.uid)
                return asked.uid, NotEvicted(*self._now, asked.uid, rng.choice([0, 403, 429, 500]), "no")

    # -- what must hold --------------------------------------------------------------------------------------------

    def _decide(self, limit: int) -> None:
        made = self.scheduler.decide(self._at, limit)
        self.trace.append(msgspec.json.encode(made))
        self.scheduler.cluster.debug_check()
        self._each_in_one_place()
        for effect in made:
            if isinstance(effect, (Bind, ReadPod, BindVolumes, Evict)):
                self._asked.append(effect)
            if isinstance(effect, Bind):
                self._has_room(effect)
                self.binds.append(effect)

    def _each_in_one_place(self) -> None:
        core = self.scheduler
        queue = core.cycle.queue
        for uid, pod in core.cluster.pods.items():
            place = queue.place(uid)
            if uid in core.cycle.bindings or uid in core.cycle.volumes:
                assert place == "binding", (uid, place)
                assert uid in core.cluster.assumed
                assert pod.node_name is None
                continue
            assert uid not in core.cluster.assumed, uid
            ours = pod.scheduler_name == OURS and pod.node_name is None
            if ours and not (pod.gated or pod.terminating):
                assert place in ("active", "backoff", "unschedulable"), (uid, place)
            else:
                assert place is None, (uid, place)
            assert (uid in core._gated) == (ours and pod.gated), uid
            if place == "unschedulable" and uid in core.cycle.room.evictions:
                assert queue._entries[uid].alike == uid, "asked about together with pods that wait for no victims"
        assert set(queue._entries) <= set(core.cluster.pods), "a pod in the queue that is nowhere else"
        assert sum(queue.counts().values()) == len(queue._entries)
        parked = {uid for groups in queue._groups.values() for group in groups.values() for uid in group}
        assert parked == set(queue._parked), "a parked pod that no change is asked about"

    def _has_room(self, bind: Bind) -> None:
        """By plain sums over the pods that the node has, this one among them."""
        cluster = self.scheduler.cluster
        pod = cluster.pods[bind.uid]
        slot = cluster.snap.slot_of[bind.node]
        node = cluster.snap.nodes[slot]
        assert node is not None
        here = list(cluster.pods_on(bind.node))
        assert pod in here
        assert len(here) <= node.allocatable["pods"], "more pods than the node takes"
        asks = pod.spec.requests
        taken = [other.takes for other in here]
        assert not asks.cpu_m or sum(t.cpu_m for t in taken) <= node.allocatable["cpu"], "more cpu than there is"
        assert not asks.memory_b or sum(t.memory_b for t in taken) <= node.allocatable["memory"], (
            "more memory than there is"
        )
        ports = [port for other in here for port in other.spec.host_ports]
        assert not pod.spec.host_ports or len(set(ports)) == len(ports), "two pods on one host port"
        assert not node.unschedulable
        tolerant = any(toleration.key == "t" for toleration in pod.spec.tolerations)
        assert tolerant or not node.taints, "a taint that the pod does not tolerate"
        if SHAPES[5].items() <= _as_dict(pod).items():
            others = [other for other in here if other is not pod and other.namespace == "default"]
            assert not any(matches(WEB, dict(other.spec.labels)) for other in others), "beside a pod that it wants far"


def _as_dict(pod: Pod) -> dict[str, Any]:
    return {name: getattr(pod.spec, name) for name in pod.spec.__struct_fields__}


_KINDS = {
    "pod": 8, "answer": 8, "object": 5, "node": 3, "again": 3, "carbon": 1, "namespace": 1, "pod-gone": 1, "node-gone": 1
}  # fmt: skip
"""Events by how often they come."""


if __name__ == "__main__":  # python wide_story.py SEED...: for another process, under another PYTHONHASHSEED
    for argument in sys.argv[1:]:
        sys.stdout.buffer.write(b"\n".join(Story(int(argument)).play()) + b"\n")
