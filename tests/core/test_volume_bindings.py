"""From a pod with claims that wait for their first consumer to its Binding: what is written, waited for, and taken back."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from builders import Story, make_node, make_pod
from builders_volumes import LOCAL, make_claim, make_class, make_volume, using
from carbon_scheduler.core.decision import Bind, BindVolumes, ClaimWrite, Evict, Nominate, Unschedulable, VolumeWrite
from carbon_scheduler.core.events import ObjectChanged, ObjectGone, PodGone, VolumesNotWritten, VolumesWritten
from carbon_scheduler.core.model import NodeName
from carbon_scheduler.core.objects import AnyObject, Claim, ClaimRef

CLAIM = make_claim("data")
FREE = make_volume("pv", on=("n1",), of_class="local")
ASKS_LOCAL = make_claim("data", of_class="local")
PREBIND = 'running PreBind plugin "VolumeBinding": '


def objects(story: Story, *found: AnyObject) -> Story:
    return story.apply(*(ObjectChanged(*story.now, one) for one in found))


def of(story: Story, kind: type) -> list[Any]:
    return [effect for effect in story.effects if isinstance(effect, kind)]


def local() -> tuple[Story, BindVolumes]:
    """A pod whose claim is to get the one local volume, on n1; the writes have been asked for."""
    story = objects(Story().nodes(make_node("n1"), make_node("n2")), LOCAL, ASKS_LOCAL, FREE)
    story.pods(using("data", cpu="1")).decide()
    (asked,) = of(story, BindVolumes)
    assert not of(story, Bind)
    return story, asked


def provisioned() -> tuple[Story, BindVolumes]:
    """A pod whose claim gets a volume made for it on the only node."""
    story = objects(Story().nodes(make_node("n1")), make_class(), CLAIM)
    story.pods(using("data", cpu="1")).decide()
    (asked,) = of(story, BindVolumes)
    return story, asked


def written(story: Story, asked: BindVolumes) -> Story:
    return story.apply(VolumesWritten(*story.now, asked.uid, asked.seq))


REF = ClaimRef("default", "data", "uid-data")
RESERVED = msgspec.structs.replace(FREE, claim_ref=REF, resource_version="2")
BOUND = msgspec.structs.replace(ASKS_LOCAL, volume_name="pv", bind_completed=True, phase="Bound", resource_version="2")


def test_a_volume_that_exists_is_written_for_the_claim_and_the_pod_bound_when_the_controller_has_bound_both() -> None:
    story, asked = local()
    assert (asked.node, asked.claims) == ("n1", ())
    assert asked.volumes == (VolumeWrite("pv", "1", "default", "data", "uid-data", found=True),)
    objects(story, RESERVED, BOUND).decide()
    assert of(story, Bind) == []  # seen, but not known to be what was written
    written(story, asked).decide()
    (bind,) = of(story, Bind)
    assert (bind.node, bind.decision.seq) == ("n1", asked.seq)
    assert not story.scheduler.cluster.snap.volumes.assumed


def test_what_comes_first_does_not_matter() -> None:
    story, asked = local()
    written(story, asked).decide()
    assert of(story, Bind) == []
    objects(story, BOUND).decide()
    assert of(story, Bind) == []  # the volume is as it was when it was chosen
    objects(story, RESERVED).decide()
    assert len(of(story, Bind)) == 1


def test_a_claim_to_be_provisioned_gets_the_node_and_the_pod_waits_for_its_volume() -> None:
    story, asked = provisioned()
    assert (asked.volumes, asked.claims) == ((), (ClaimWrite("default", "data", "1"),))
    written(story, asked)
    selected = msgspec.structs.replace(CLAIM, selected_node=NodeName("n1"), resource_version="2")
    objects(story, selected).decide()
    assert of(story, Bind) == []
    bound = msgspec.structs.replace(selected, volume_name="made", bind_completed=True, resource_version="3")
    objects(story, bound).decide()
    assert of(story, Bind) == []  # the volume itself has not been heard of
    objects(story, make_volume("made", on=("n1",))).wait(3).decide()
    (bind,) = of(story, Bind)
    assert bind.waited_s == 3


def test_two_pods_do_not_get_the_same_volume() -> None:
    story, _ = local()
    other = make_claim("more", of_class="local")
    objects(story, other).pods(using("more", name="q", cpu="1")).decide()
    assert of(story, BindVolumes) == []
    (waits,) = of(story, Unschedulable)
    assert "2 node(s) didn't find available persistent volumes to bind" in waits.message


def _changed(claim: Claim, **fields: Any) -> Claim:
    return msgspec.structs.replace(claim, resource_version="2", **fields)


ENDS: dict[str, tuple[list[AnyObject | tuple[str, str]], str]] = {
    "the provisioner has taken the node away: it failed": (
        [_changed(CLAIM)],
        'binding volumes: provisioning failed for PVC "data"',
    ),
    "all annotations were taken away": (
        [_changed(CLAIM, annotated=False)],
        'binding volumes: selectedNode annotation reset for PVC "data"',
    ),
    "the claim was deleted": (
        [("PersistentVolumeClaim", "default/data")],
        'binding volumes: failed to check provisioning pvc: could not find pvc "default/data"',
    ),
    "the volume that was made cannot be reached from the node": (
        [_changed(CLAIM, selected_node=NodeName("n1"), volume_name="made"), make_volume("made", on=("elsewhere",))],
        'binding volumes: pv "made" node affinity doesn\'t match node "n1": no matching NodeSelectorTerms',
    ),
}


@pytest.mark.parametrize("sentence", ENDS)
def test_the_pod_is_tried_again_when(sentence: str) -> None:
    story, asked = provisioned()
    written(story, asked).decide()
    changes, message = ENDS[sentence]
    for change in changes:
        if isinstance(change, tuple):
            story.apply(ObjectGone(*story.now, *change))  # type: ignore[arg-type]
        else:
            objects(story, change)
    story.decide()
    (said,) = of(story, Unschedulable)
    assert (said.reason, said.message) == ("SchedulerError", PREBIND + message)
    assert story.scheduler.cluster.snap.pod_count.sum() == 0
    assert not story.scheduler.cluster.snap.volumes.assumed


def test_the_claim_reference_was_taken_away_again() -> None:
    story, asked = local()
    written(story, asked)
    objects(story, msgspec.structs.replace(FREE, resource_version="2")).decide()
    (said,) = of(story, Unschedulable)
    assert said.message == PREBIND + 'binding volumes: ClaimRef got reset for pv "pv"'


def test_a_write_that_fails_frees_the_volume_and_the_pod_is_tried_again_after_a_backoff() -> None:
    story, asked = local()
    story.apply(VolumesNotWritten(*story.now, asked.uid, asked.seq, "409: the object has been modified"))
    story.decide()
    (said,) = of(story, Unschedulable)
    assert said.message == PREBIND + "409: the object has been modified"
    assert not story.scheduler.cluster.snap.volumes.assumed
    story.wait(1.1).decide()
    (again,) = of(story, BindVolumes)
    assert again.seq > asked.seq
    story.apply(VolumesNotWritten(*story.now, asked.uid, asked.seq, "late"), VolumesWritten(*story.now, asked.uid, 7))
    story.decide()
    assert story.effects == []  # answers to an earlier attempt concern nothing any more


def test_it_gives_up_after_the_time_limit_and_not_before() -> None:
    story, asked = provisioned()
    written(story, asked).decide()
    assert story.scheduler.next_at() == 600
    story.wait(599).decide()
    assert story.effects == []
    story.wait(1).decide()
    (said,) = of(story, Unschedulable)
    assert said.message == PREBIND + "binding volumes: context deadline exceeded"


def test_a_pod_that_is_deleted_meanwhile_leaves_nothing_behind() -> None:
    story, asked = local()
    story.apply(PodGone(*story.now, asked.uid)).decide()
    assert story.effects == []
    assert not story.scheduler.cluster.snap.volumes.assumed
    written(objects(story, RESERVED, BOUND), asked).decide()
    assert story.effects == []


def test_others_are_told_where_a_pod_is_going_to_be_that_waits_for_its_volumes() -> None:
    """kube-scheduler's NominatedNodeNameForExpectation: before the volumes are written, and once."""
    story, asked = local()
    assert [type(effect) for effect in story.effects][-2:] == [Nominate, BindVolumes]
    (told,) = of(story, Nominate)
    assert (told.uid, told.node) == (asked.uid, "n1")
    story.pods(using("data", cpu="1", nominated_node_name=NodeName("n1")))  # the echo
    story.apply(VolumesNotWritten(*story.now, asked.uid, asked.seq, "no")).decide()
    (said,) = of(story, Unschedulable)
    assert (said.nominate, said.patch) == ("", True), "it may end up elsewhere"
    story.pods(using("data", cpu="1", nominated_node_name=NodeName("n1"))).wait(1.1).decide()
    assert of(story, BindVolumes)
    assert not of(story, Nominate), "its status says so already"


def test_a_pod_that_is_being_deleted_keeps_no_room_while_it_waits_for_its_volumes() -> None:
    story, asked = provisioned()
    story.pods(make_pod("next", cpu="4")).decide()
    assert not of(story, Bind)
    story.pods(using("data", cpu="1", terminating=True)).wait(1.1).decide()
    assert [bind.name for bind in of(story, Bind)] == ["next"]
    story.apply(VolumesWritten(*story.now, asked.uid, asked.seq)).decide()
    assert not of(story, Bind)
    assert not story.scheduler.cluster.snap.volumes.assumed


def test_a_victim_of_preemption_that_waits_for_its_volumes_is_not_deleted() -> None:
    """It only has to look for another node, and the room is free at once."""
    story, asked = provisioned()
    story.pods(make_pod("high", cpu="4", priority=10)).decide()
    (told,) = of(story, Evict)
    assert (told.uid, told.preemptor_name, told.cancelled) == (asked.uid, "high", True)
    said = {effect.name: (effect.reason, effect.message, effect.nominate) for effect in of(story, Unschedulable)}
    assert said["high"] == ("Unschedulable", "0/1 nodes are available: 1 Insufficient cpu.", "n1")
    assert said[asked.name] == ("SchedulerError", PREBIND + "preempted by DefaultPreemption", "")
    assert not story.scheduler.cluster.snap.volumes.assumed
    story.wait(0.5).decide()
    assert [(bind.name, bind.node) for bind in of(story, Bind)] == [("high", "n1")]
    story.apply(VolumesWritten(*story.now, asked.uid, asked.seq)).decide()
    assert not of(story, Bind), "a late answer is to a decision that nobody follows any more"
