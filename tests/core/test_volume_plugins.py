"""The four volume plugins on small clusters. Node a stands where something is wrong, node b where nothing is."""

from __future__ import annotations

import pytest

from builders import make_node, make_pod
from builders_volumes import (
    CSI,
    LOCAL,
    ZONE,
    Status,
    make_claim,
    make_class,
    make_cluster,
    make_volume,
    slot,
    status_of,
    using,
)
from carbon_scheduler.core.framework import Framework
from carbon_scheduler.core.model import Node, NodeSelectorTerm, Pod, PodVolume, Requirement
from carbon_scheduler.core.objects import (
    AnyObject,
    Attachment,
    Claim,
    ClaimRef,
    CsiDriver,
    CsiNode,
    StorageCapacity,
    TopologyTerm,
    Volume,
)
from carbon_scheduler.core.plugin import Plugin
from carbon_scheduler.core.plugins import default_profile
from carbon_scheduler.core.plugins.node_volume_limits import NodeVolumeLimits
from carbon_scheduler.core.plugins.volume_binding import VolumeBinding
from carbon_scheduler.core.plugins.volume_restrictions import VolumeRestrictions
from carbon_scheduler.core.plugins.volume_zone import VolumeZone

A = make_node("a", labels={ZONE: "z1", "rack": "1"})
B = make_node("b", labels={ZONE: "z2", "rack": "2"})
Things = tuple[Node | Pod | AnyObject, ...]

DISK = "node(s) had no available disk"
ONE_POD = (
    "node(s) unavailable due to PersistentVolumeClaim with ReadWriteOncePod access mode already in-use by another pod"
)
TOO_MANY = "node(s) exceed max volume count"
AFFINITY = "node(s) didn't match PersistentVolume's node affinity"
NO_VOLUME = "node(s) didn't find available persistent volumes to bind"
NO_SPACE = "node(s) did not have enough free storage"
WRONG_ZONE = "node(s) had no available volume zone"

EBS, GCE, ISCSI = "awsElasticBlockStore", "gcePersistentDisk", "iscsi"


def disk(kind: str, ref: str = "d", read_only: bool = False, more: tuple[str, ...] = ()) -> PodVolume:
    return PodVolume(kind, ref, read_only, more)


def rbd(*monitors: str, pool: str = "p", image: str = "d") -> PodVolume:
    return PodVolume("rbd", image, False, (pool, *monitors))


def on(node: str, *volumes: PodVolume, name: str = "there", namespace: str = "default") -> Pod:
    return make_pod(name, node=node, namespace=namespace, spec={"volumes": volumes})


def claims(*names: str) -> tuple[PodVolume, ...]:
    return tuple(PodVolume("claim", name) for name in names)


def bound(name: str, **fields: object) -> tuple[Claim, Volume]:
    claim = make_claim(name, volume=f"pv-{name}")
    return claim, make_volume(f"pv-{name}", claim=claim, phase="Bound", **fields)  # type: ignore[arg-type]


def where(*terms: NodeSelectorTerm) -> dict[str, object]:
    return {"node_affinity": terms}


IN_A = Requirement("kubernetes.io/hostname", "In", ("a",))
RWOP = make_claim("c", access_modes=("ReadWriteOncePod",), volume="pv-c")
UNRESOLVABLE, UNSCHEDULABLE = "UnschedulableAndUnresolvable", "Unschedulable"

ON_A: dict[str, tuple[Things, Pod, tuple[str, str, str]]] = {
    "the same EBS volume": ((on("a", disk(EBS)),), using(more=(disk(EBS),)), (UNSCHEDULABLE, "VolumeRestrictions", DISK)),
    "the same EBS volume, both only reading": (
        (on("a", disk(EBS, read_only=True)),),
        using(more=(disk(EBS, read_only=True),)),
        (UNSCHEDULABLE, "VolumeRestrictions", DISK),
    ),
    "a GCE disk that one of them writes": (
        (on("a", disk(GCE, read_only=True)),),
        using(more=(disk(GCE),)),
        (UNSCHEDULABLE, "VolumeRestrictions", DISK),
    ),
    "the same iSCSI target": ((on("a", disk(ISCSI)),), using(more=(disk(ISCSI),)), (UNSCHEDULABLE, "VolumeRestrictions", DISK)),
    "an RBD image with a monitor in common": (
        (on("a", rbd("m1", "m2")), on("b", rbd("m1"), name="x")),
        using(more=(rbd("m2", "m3"),)),
        (UNSCHEDULABLE, "VolumeRestrictions", DISK),
    ),
    "no place for a CSI volume more": (
        (CsiNode("a", {CSI: 1}), CsiNode("b", {CSI: 2}), *bound("x"), *bound("y"), on("a", *claims("x")),
         on("b", *claims("x"), name="z")),
        using("y"),
        (UNSCHEDULABLE, "NodeVolumeLimits", TOO_MANY),
    ),
    "a volume attached that no pod uses takes a place, from its own pod too": (
        (CsiNode("a", {CSI: 1}), CsiNode("b", {CSI: 1}), *bound("x"), Attachment("t", CSI, "a", "pv-x")),
        using("x"),
        (UNSCHEDULABLE, "NodeVolumeLimits", TOO_MANY),
    ),
    "a disk in the pod's spec, where a driver stands for it": (
        (CsiNode("a", {"ebs.csi.aws.com": 0}), CsiNode("b")),
        using(more=(disk(EBS, "vol-1"),)),
        (UNSCHEDULABLE, "NodeVolumeLimits", TOO_MANY),
    ),
    "a volume yet to be made": (
        (CsiNode("a", {CSI: 0}), make_class(), make_claim("c")),
        using("c"),
        (UNSCHEDULABLE, "NodeVolumeLimits", TOO_MANY),
    ),
    "a bound volume that only another node reaches": (
        bound("c", on=("b",)),
        using("c"),
        (UNRESOLVABLE, "VolumeBinding", AFFINITY),
    ),
    "a term with a field that cannot be read matches nothing": (
        bound("c", **where(NodeSelectorTerm((IN_A,), (Requirement("metadata.name", "Exists"),)), NodeSelectorTerm(
            (Requirement("kubernetes.io/hostname", "In", ("b",)),)))),
        using("c"),
        (UNRESOLVABLE, "VolumeBinding", AFFINITY),
    ),
    "a disk of an old type, where its zone is the driver's": (
        (
            CsiNode("a", {}, ("kubernetes.io/aws-ebs",)),
            *bound("c", source=(EBS, "vol-1"), **where(NodeSelectorTerm((Requirement(ZONE, "In", ("z1", "z2")),)))),
        ),
        using("c"),
        (UNRESOLVABLE, "VolumeBinding", AFFINITY),
    ),
    "no free volume reached, and none can be made": (
        (LOCAL, make_claim("c", of_class="local"), make_volume("v", of_class="local", on=("b",))),
        using("c"),
        (UNRESOLVABLE, "VolumeBinding", NO_VOLUME),
    ),
    "a volume for one of two claims": (
        (LOCAL, make_claim("c", of_class="local"), make_claim("d", of_class="local"),
         make_volume("v", of_class="local"), make_volume("w", of_class="local", on=("b",))),
        using("c", "d"),
        (UNRESOLVABLE, "VolumeBinding", NO_VOLUME),
    ),
    "a reserved volume elsewhere, though a free one is near": (
        (LOCAL, make_claim("c", of_class="local"), make_volume("v", of_class="local"),
         make_volume("mine", of_class="local", on=("b",), claim_ref=ClaimRef("default", "c"))),
        using("c"),
        (UNRESOLVABLE, "VolumeBinding", NO_VOLUME),
    ),
    "a topology that the class does not allow": (
        (make_class(allowed_topologies=(TopologyTerm(), TopologyTerm(((ZONE, ("z2",)),)))), make_claim("c")),
        using("c"),
        (UNRESOLVABLE, "VolumeBinding", NO_VOLUME),
    ),
    "a claim for which another node was chosen": (
        (make_class(), make_claim("c", selected_node="b")),
        using("c"),
        (UNRESOLVABLE, "VolumeBinding", NO_VOLUME),
    ),
    "no room, by what the driver says": (
        (
            make_class(), make_claim("c"), CsiDriver(CSI, storage_capacity=True),
            StorageCapacity("default", "r1", "wait", 2**40, 2**20, (Requirement("rack", "In", ("1",)),)),
            StorageCapacity("default", "r2", "wait", 2**30, None, (Requirement("rack", "In", ("2",)),)),
            StorageCapacity("default", "r3", "wait", 2**40, None, None),
        ),
        using("c"),
        (UNRESOLVABLE, "VolumeBinding", NO_SPACE),
    ),
    "another zone than the volume's label": (
        bound("c", labels={ZONE: "z2__z3"}),
        using("c"),
        (UNRESOLVABLE, "VolumeZone", WRONG_ZONE),
    ),
    "a zone by the name of before": (
        bound("c", labels={"failure-domain.beta.kubernetes.io/zone": "z2"}),
        using("c"),
        (UNRESOLVABLE, "VolumeZone", WRONG_ZONE),
    ),
}  # fmt: skip


@pytest.mark.parametrize("sentence", ON_A)
def test_node_a_is_turned_down_and_node_b_is_not(sentence: str) -> None:
    things, pod, (code, plugin, reason) = ON_A[sentence]
    assert status_of(make_cluster(A, B, *things), pod) == {"a": (code, plugin, (reason,)), "b": ("Success", "", ())}


FINE: dict[str, tuple[Things, Pod]] = {
    "a GCE disk that both only read": ((on("a", disk(GCE, read_only=True)),), using(more=(disk(GCE, read_only=True),))),
    "an RBD image of another pool": ((on("a", rbd("m1")),), using(more=(rbd("m1", pool="q"),))),
    "no limit for the driver": (
        (CsiNode("a", {CSI: None}), *bound("x"), *bound("y"), on("a", *claims("x"))),
        using("y"),
    ),
    "a volume that a pod there has already": (
        (CsiNode("a", {CSI: 1}), *bound("x"), on("a", *claims("x"))),
        using("x"),
    ),
    "a disk in the pod's spec without a CSINode": ((), using(more=(disk(EBS, "aws://odd"),))),
    "a volume without a node affinity": (bound("c"), using("c")),
    "a field is not looked at": (
        bound("c", **where(NodeSelectorTerm((), (Requirement("metadata.name", "In", ("elsewhere",)),)))),
        using("c"),
    ),
    "a volume that can be made anywhere": ((make_class(), make_claim("c")), using("c")),
    "room is not told by a driver that does not": ((make_class(), make_claim("c"), CsiDriver(CSI)), using("c")),
    "a zone label that cannot be read": (bound("c", labels={ZONE: "z9__"}), using("c")),
    "its own ephemeral volume": (
        (make_class(), make_claim("p-tmp", owner_uid="uid-default-p")),
        using(more=(PodVolume("ephemeral", "tmp"),)),
    ),
    "a claim for one pod that no other uses": ((RWOP, make_volume("pv-c", claim=RWOP)), using("c")),
    "a volume for the pod alone": ((), using(more=(PodVolume("csi", CSI),))),
}


@pytest.mark.parametrize("sentence", FINE)
def test_both_nodes_will_do(sentence: str) -> None:
    things, pod = FINE[sentence]
    fine = ("Success", "", ())
    assert status_of(make_cluster(A, B, *things), pod) == {"a": fine, "b": fine}


def test_nodes_without_any_zone_are_in_every_zone() -> None:
    plain, found = make_node("plain"), bound("c", labels={ZONE: "z1"})
    assert status_of(make_cluster(plain, *found), using("c")) == {"plain": ("Success", "", ())}


def everywhere(code: str, plugin: str, reason: str) -> Status:
    return {"a": (code, plugin, (reason,)), "b": (code, plugin, (reason,))}


EPHEMERAL = using(more=(PodVolume("ephemeral", "tmp"),))
WHOLE: dict[str, tuple[Things, Pod, tuple[str, str]]] = {
    "a claim that is not there": ((), using("c"), ("VolumeRestrictions", 'persistentvolumeclaim "c" not found')),
    "a claim that has lost its volume": (
        (make_claim("c", volume="v", phase="Lost"),),
        using("c"),
        ("VolumeBinding", 'persistentvolumeclaim "c" bound to non-existent persistentvolume "v"'),
    ),
    "a claim that is being deleted": (
        (make_claim("c", terminating=True),),
        using("c"),
        ("VolumeBinding", 'persistentvolumeclaim "c" is being deleted'),
    ),
    "a claim that is bound at once": (
        (make_class(mode="Immediate"), make_claim("c")),
        using("c"),
        ("VolumeBinding", "pod has unbound immediate PersistentVolumeClaims"),
    ),
    "a claim of a class that is not there": (
        (make_claim("c", of_class="gone"),),
        using("c"),
        ("VolumeBinding", "pod has unbound immediate PersistentVolumeClaims"),
    ),
    "a claim that names its volume and is not bound": (
        (make_class(), make_claim("c", volume="v", bind_completed=False)),
        using("c"),
        ("VolumeBinding", "pod has unbound immediate PersistentVolumeClaims"),
    ),
    "a volume that is not there": (
        (make_claim("c", volume="v"),),
        using("c"),
        ("VolumeZone", 'persistentvolume "v" not found'),
    ),
    "an ephemeral claim yet to come": (
        (),
        EPHEMERAL,
        ("VolumeBinding", 'waiting for ephemeral volume controller to create the persistentvolumeclaim "p-tmp"'),
    ),
    "an ephemeral claim of another pod": (
        (make_class(), make_claim("p-tmp", owner_uid="other")),
        EPHEMERAL,
        ("VolumeBinding", "PVC default/p-tmp was not created for pod default/p (pod is not owner)"),
    ),
}


@pytest.mark.parametrize("sentence", WHOLE)
def test_the_pod_as_a_whole(sentence: str) -> None:
    things, pod, (plugin, reason) = WHOLE[sentence]
    assert status_of(make_cluster(A, B, *things), pod) == everywhere(UNRESOLVABLE, plugin, reason)


def test_a_claim_for_one_pod_that_another_uses_is_nowhere_free() -> None:
    cluster = make_cluster(A, B, RWOP, make_volume("pv-c", claim=RWOP), on("b", *claims("c")))
    assert status_of(cluster, using("c")) == everywhere(UNSCHEDULABLE, "VolumeRestrictions", ONE_POD)
    cluster.drop_pod(on("b").uid)
    assert set(status_of(cluster, using("c")).values()) == {("Success", "", ())}


def test_an_equally_named_claim_of_another_namespace_is_another_claim() -> None:
    cluster = make_cluster(A, B, RWOP, make_volume("pv-c", claim=RWOP), on("b", *claims("c"), namespace="other"))
    assert set(status_of(cluster, using("c")).values()) == {("Success", "", ())}


ERRORS: dict[str, tuple[Things, Pod, str]] = {
    "a class without a binding mode": (
        (make_class(mode=""), make_claim("c")),
        using("c"),
        'VolumeBindingMode not set for StorageClass "wait"',
    ),
    "a disk that no driver can stand for": (
        (CsiNode("a"),),
        using(more=(disk(EBS, "aws://zone/odd"),)),
        "expected aws://ZONE/vol-ID",
    ),
    "the same in a volume that is bound": (
        (CsiNode("a", {}, ("kubernetes.io/azure-disk",)), *bound("c", source=("azureDisk", "d", "Shared"))),
        using("c"),
        "could not translate PersistentVolume pv-c",
    ),
    "a pod on a node with limits that uses another pod's ephemeral claim": (
        (CsiNode("a", {CSI: 9}), *bound("c"), make_claim("there-tmp"), on("a", PodVolume("ephemeral", "tmp"))),
        using("c"),
        "PVC default/there-tmp was not created for pod default/there (pod is not owner)",
    ),
}


@pytest.mark.parametrize("sentence", ERRORS)
def test_the_attempt_ends_in_an_error(sentence: str) -> None:
    things, pod, want = ERRORS[sentence]
    cluster = make_cluster(A, B, *things)
    assert want in Framework(default_profile(), cluster.snap).judge(pod).error


def test_an_error_on_a_node_that_another_plugin_turned_down_before_is_none() -> None:
    cordoned = make_node("a", unschedulable=True)
    cluster = make_cluster(cordoned, B, CsiNode("a"))
    verdict = Framework(default_profile(), cluster.snap).judge(using(more=(disk(EBS, "aws://zone/odd"),)))
    assert not verdict.error
    assert verdict.feasible[slot(cluster, "b")]


def test_pods_without_volumes_are_nothing_to_these_plugins() -> None:
    plugins: tuple[Plugin, ...] = (VolumeRestrictions(), NodeVolumeLimits(), VolumeBinding(), VolumeZone())
    assert [plugin.key(make_pod()) for plugin in plugins] == [None] * 4
    assert [plugin.key(using(more=(PodVolume("csi", CSI),))) for plugin in plugins] == [None] * 4
