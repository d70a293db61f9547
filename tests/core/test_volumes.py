"""Volumes and claims in the core: plans, what is assumed until the watch tells, what pods on each node use."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from builders import make_node, make_pod
from builders_volumes import CSI, LOCAL, fitting, make_claim, make_class, make_cluster, make_volume, put, slot, using
from carbon_scheduler.core.cluster import Cluster
from carbon_scheduler.core.model import NodeName, Pod, PodVolume
from carbon_scheduler.core.objects import AnyObject, Attachment, Claim, ClaimRef, CsiNode, StorageClass, Volume
from carbon_scheduler.core.plugins.volume_binding import plan
from carbon_scheduler.core.volumes import StaticBinding, VolumePlan

A, B = make_node("a"), make_node("b")
MIB = 2**20


def planned(cluster: Cluster, pod: Pod, node: str) -> VolumePlan:
    return plan(pod, cluster.snap, slot(cluster, node))


# -- plans ---------------------------------------------------------------------------------------------------------


def test_nothing_to_do_for_claims_that_are_bound() -> None:
    claim = make_claim("c", volume="v")
    cluster = make_cluster(A, claim, make_volume("v", claim=claim, phase="Bound"))
    assert planned(cluster, using("c"), "a").nothing_to_do


def test_the_smallest_volume_that_fits_is_taken_and_its_write_says_that_the_scheduler_chose_it() -> None:
    claim, small, large = make_claim("c"), make_volume("small", "1Gi"), make_volume("large", "5Gi")
    cluster = make_cluster(A, make_class(), claim, large, small, make_volume("tiny", "512Mi"))
    assert planned(cluster, using("c"), "a") == VolumePlan((StaticBinding(small, claim, found=True, done=False),))


def test_of_equal_volumes_the_first_by_name_is_taken_whichever_came_first() -> None:
    claim = make_claim("c")
    volumes = [make_volume("v2"), make_volume("v1"), make_volume("v3")]
    for order in (volumes, volumes[::-1]):
        cluster = make_cluster(A, make_class(), claim, *order)
        assert [b.volume.name for b in planned(cluster, using("c"), "a").bindings] == ["v1"]


RESERVED: dict[str, tuple[ClaimRef, bool]] = {
    "by name, so that the uid has to be written": (ClaimRef("default", "c"), False),
    "by uid, so that nothing has to be written": (ClaimRef("default", "c", "uid-c"), True),
}


@pytest.mark.parametrize("sentence", RESERVED)
def test_a_volume_that_somebody_reserved_comes_before_a_smaller_one(sentence: str) -> None:
    ref, done = RESERVED[sentence]
    claim, mine = make_claim("c"), make_volume("mine", "9Gi", claim_ref=ref, phase="Released")
    cluster = make_cluster(A, make_class(), claim, mine, make_volume("free"))
    assert planned(cluster, using("c"), "a").bindings == (StaticBinding(mine, claim, found=False, done=done),)


def test_each_claim_gets_a_volume_of_its_own_the_smallest_claim_first() -> None:
    big, little = make_claim("big", "2Gi"), make_claim("little", "1Gi")
    one, other = make_volume("v1", "2Gi"), make_volume("v2", "1Gi")
    cluster = make_cluster(A, make_class(), big, little, one, other)
    found = planned(cluster, using("big", "little"), "a").bindings
    assert [(b.claim.name, b.volume.name) for b in found] == [("little", "v2"), ("big", "v1")]


def test_what_no_volume_serves_is_provisioned() -> None:
    there, missing, chosen = (
        make_claim("there"),
        make_claim("missing", "2Gi"),
        make_claim("old", selected_node=NodeName("a")),
    )
    cluster = make_cluster(A, make_class(), there, missing, chosen, make_volume("v"))
    found = planned(cluster, using("there", "missing", "old"), "a")
    assert [b.claim for b in found.bindings] == [there]
    assert found.provisions == (chosen, missing)


def test_a_claim_that_a_pod_names_twice_is_planned_once() -> None:
    claim = make_claim("c")
    for volumes in ([], [make_volume("v1"), make_volume("v2")]):
        cluster = make_cluster(A, make_class(), claim, *volumes)
        found = planned(cluster, using("c", "c"), "a")
        assert [b.claim for b in found.bindings] + list(found.provisions) == [claim]


def test_no_plan_for_a_node_that_does_not_fit() -> None:
    cluster = make_cluster(
        A, B, LOCAL, make_claim("c", of_class="local"), make_volume("v", of_class="local", on=("b",))
    )
    with pytest.raises(ValueError, match="expected a feasible node"):
        planned(cluster, using("c"), "a")
    with pytest.raises(ValueError, match='"gone" not found'):
        planned(cluster, using("gone"), "a")


# -- assumed -------------------------------------------------------------------------------------------------------


def local() -> Cluster:
    """Two claims for one local volume on each of two nodes."""
    claims = [make_claim(name, of_class="local") for name in ("c", "d")]
    volumes = [make_volume(f"v{n}", of_class="local", on=(n,)) for n in "ab"]
    return make_cluster(A, B, LOCAL, *claims, *volumes)


def test_a_volume_that_is_assumed_is_no_other_pods() -> None:
    cluster, first, second = local(), using("c", name="first"), using("d", name="second")
    assert cluster.snap.volumes.assume(planned(cluster, first, "a"), first.uid, NodeName("a"))
    assert fitting(cluster, second) == ["b"]
    assert fitting(cluster, first) == ["a"]  # as it holds its volume there


def test_a_claim_whose_node_is_assumed_stays_there() -> None:
    cluster = make_cluster(A, B, make_class(), make_claim("c"))
    pod, other = using("c"), using("c", name="other")
    assert cluster.snap.volumes.assume(planned(cluster, pod, "b"), pod.uid, NodeName("b"))
    assert fitting(cluster, other) == ["b"]


def test_forgetting_frees_what_was_assumed_and_twice_does_no_harm() -> None:
    cluster, first, second = local(), using("c", name="first"), using("d", name="second")
    made = planned(cluster, first, "a")
    cluster.snap.volumes.assume(made, first.uid, NodeName("a"))
    for _ in range(2):
        cluster.snap.volumes.forget(made, first.uid)
        assert fitting(cluster, second) == ["a", "b"]
        assert not cluster.snap.volumes.assumed


def test_what_two_pods_assume_is_free_when_both_have_forgotten() -> None:
    cluster = make_cluster(A, B, make_class(), make_claim("c"))
    volumes, pods = cluster.snap.volumes, (using("c", name="p1"), using("c", name="p2"))
    plans = []
    for pod in pods:
        plans.append(planned(cluster, pod, "a"))
        assert volumes.assume(plans[-1], pod.uid, NodeName("a"))
    volumes.forget(plans[0], pods[0].uid)
    assert fitting(cluster, using("c", name="p3")) == ["a"]
    volumes.forget(plans[1], pods[1].uid)
    assert fitting(cluster, using("c", name="p3")) == ["a", "b"]


def test_a_newer_object_ends_what_was_assumed_and_the_same_one_does_not() -> None:
    cluster, pod = local(), using("c")
    volumes = cluster.snap.volumes
    volumes.assume(planned(cluster, pod, "a"), pod.uid, NodeName("a"))
    same = msgspec.structs.replace(make_volume("va", of_class="local", on=("a",)), labels={"again": ""})
    put(cluster, same)
    assert fitting(cluster, using("d")) == ["b"]
    put(cluster, msgspec.structs.replace(same, resource_version="2"))
    assert not volumes.assumed
    assert fitting(cluster, using("d")) == ["a", "b"]


def test_what_is_gone_is_not_assumed_any_more() -> None:
    cluster, pod = make_cluster(A, make_class(), make_claim("c")), using("c")
    made = planned(cluster, pod, "a")
    cluster.snap.volumes.assume(made, pod.uid, NodeName("a"))
    cluster.drop_object("PersistentVolumeClaim", "default/c")
    assert not cluster.snap.volumes.assumed
    cluster.snap.volumes.forget(made, pod.uid)


def test_a_plan_of_older_objects_is_not_assumed_at_all() -> None:
    cluster, pod = local(), using("c", "d")
    claims = [make_claim(name, of_class="local") for name in "cd"]
    elsewhere = make_cluster(
        A, LOCAL, *claims, make_volume("va", of_class="local", on=("a",)), make_volume("vz", of_class="local")
    )
    made = planned(elsewhere, pod, "a")
    assert [b.volume.name for b in made.bindings] == ["va", "vz"]
    assert not cluster.snap.volumes.assume(made, pod.uid, NodeName("a"))  # vz is unknown here
    assert not cluster.snap.volumes.assumed


@settings(max_examples=60, deadline=None)
@given(
    sizes=st.lists(st.integers(1, 4), min_size=1, max_size=5),
    volumes=st.lists(st.tuples(st.integers(1, 4), st.sampled_from("ab ")), max_size=6),
    nodes=st.lists(st.sampled_from("ab"), min_size=5, max_size=5),
)
def test_no_two_pods_are_given_one_volume(sizes: list[int], volumes: list[tuple[int, str]], nodes: list[str]) -> None:
    claims = [make_claim(f"c{i}", f"{size}Gi", "local") for i, size in enumerate(sizes)]
    there = [
        make_volume(f"v{i}", f"{size}Gi", "local", on=(on,) if on != " " else ())
        for i, (size, on) in enumerate(volumes)
    ]
    cluster = make_cluster(A, B, LOCAL, *claims, *there)
    taken: list[str] = []
    for claim, node in zip(claims, nodes, strict=False):
        pod = using(claim.name, name=f"pod-{claim.name}")
        if node in fitting(cluster, pod):
            made = planned(cluster, pod, node)
            (binding,) = made.bindings
            assert binding.volume.capacity_b >= claim.request_b
            assert cluster.snap.volumes.assume(made, pod.uid, NodeName(node))
            taken.append(binding.volume.name)
        else:
            large = [v for v in there if v.name not in taken and v.capacity_b >= claim.request_b]
            assert all(v.node_affinity and node not in v.node_affinity[0].expressions[0].values for v in large)
    assert len(taken) == len(set(taken))


# -- per node ------------------------------------------------------------------------------------------------------

_DISK = st.sampled_from(
    [
        PodVolume("claim", "c0"),
        PodVolume("claim", "c1"),
        PodVolume("ephemeral", "tmp"),
        PodVolume("gcePersistentDisk", "d", True),
        PodVolume("awsElasticBlockStore", "vol-1"),
        PodVolume("awsElasticBlockStore", "aws://zone/odd"),
        PodVolume("rbd", "i", False, ("rbd", "m1", "m2")),
        PodVolume("csi", CSI),
    ]
)
_THING = st.one_of(
    st.builds(
        lambda n, taken: make_node(n, labels={"taken": taken}), st.sampled_from("abcdef"), st.sampled_from(["", "x"])
    ),
    st.builds(
        lambda i, volumes, node: make_pod(f"p{i}", node=node, spec={"volumes": tuple(volumes)}),
        st.integers(0, 5),
        st.lists(_DISK, max_size=3),
        st.sampled_from("abc"),
    ),
    st.builds(
        lambda name, volume, of_class, owner: make_claim(name, of_class=of_class, volume=volume, owner_uid=owner),
        st.sampled_from(["c0", "c1", "p0-tmp", "p1-tmp"]),
        st.sampled_from(["", "v0", "v1"]),
        st.sampled_from(["wait", None, "old"]),
        st.sampled_from(["uid-default-p0", "uid-default-p1", ""]),
    ),
    st.builds(
        lambda name, source: make_volume(name, source=source),
        st.sampled_from(["v0", "v1"]),
        st.sampled_from([("csi", CSI, "h"), ("awsElasticBlockStore", "vol-1"), ("gcePersistentDisk", "d"), ()]),
    ),
    st.builds(make_class, st.sampled_from(["wait", "old"]), st.sampled_from([CSI, "kubernetes.io/aws-ebs"])),
    st.builds(
        lambda name, limits, migrated: CsiNode(name, dict(limits), migrated),
        st.sampled_from("abc"),
        st.lists(st.tuples(st.sampled_from([CSI, "ebs.csi.aws.com"]), st.sampled_from([None, 0, 2])), max_size=2),
        st.sampled_from([(), ("kubernetes.io/aws-ebs",)]),
    ),
    st.builds(
        lambda name, node, volume: Attachment(name, CSI, node, volume),
        st.sampled_from(["x", "y"]),
        st.sampled_from("ab"),
        st.sampled_from(["v0", "v1", ""]),
    ),
)


@settings(max_examples=150, deadline=None)
@given(st.lists(st.tuples(_THING, st.booleans()), max_size=25))
def test_what_nodes_use_is_the_same_however_it_came_about(events: list[tuple[object, bool]]) -> None:
    """`put` compares with a cluster built anew after each event."""
    cluster = make_cluster()
    for thing, leaves in events:
        assert isinstance(thing, (type(A), Pod, Claim, Volume, StorageClass, CsiNode, Attachment))
        if isinstance(thing, Pod) and thing.uid in cluster.pods:
            cluster.drop_pod(thing.uid)  # a pod's volumes do not change, and a uid does not come again
            cluster.debug_check()
            continue
        put(cluster, thing)
        if leaves:
            _drop(cluster, thing)
            cluster.debug_check()
    for name in [*cluster.snap.slot_of]:
        cluster.drop_node(name)
    for uid in [*cluster.pods]:
        cluster.drop_pod(uid)
    for kind in ("PersistentVolumeClaim", "PersistentVolume", "StorageClass", "CSINode", "VolumeAttachment"):
        for key in [*cluster.snap.objects.all(kind)]:
            cluster.drop_object(kind, key)
    assert not [what for what, left in cluster.snap.volumes.shown().items() if left]


def _drop(cluster: Cluster, thing: object) -> None:
    if isinstance(thing, type(A)):
        cluster.drop_node(thing.name)
    elif isinstance(thing, Pod):
        cluster.drop_pod(thing.uid)
    else:
        gone: AnyObject = thing  # type: ignore[assignment]
        cluster.drop_object(gone.kind, gone.key)
