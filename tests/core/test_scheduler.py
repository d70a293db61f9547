"""Stories of the core: a list of events, and the effects that they must have."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from builders import NOBODY, OURS, WALL, Story, make_node, make_pod, make_value, unhelped
from carbon_scheduler.core.decision import (
    Bind,
    PodDetected,
    PodWarning,
    ReadPod,
    Unschedulable,
    ZoneNotKnown,
    ZonesInUse,
)
from carbon_scheduler.core.events import (
    Bound,
    NamespaceChanged,
    NodeGone,
    PodChanged,
    PodGone,
    PodRead,
    Refused,
    Synced,
    Unknown,
)
from carbon_scheduler.core.model import (
    GridZone,
    Namespace,
    NodeName,
    NodeSelectorTerm,
    Pod,
    PreferredTerm,
    Requirement,
    Taint,
)
from carbon_scheduler.core.settings import Placement, Settings

CLEAN, DIRTY = "FR", "PL"


def two_zones(**settings: Any) -> Story:
    """One node in a clean grid (FR, 50 g/kWh) and one in a dirty one (PL, 700), four cores each."""
    return (
        Story(Settings(**settings))
        .nodes(make_node("clean", zone=CLEAN), make_node("dirty", zone=DIRTY))
        .carbon(FR=50, PL=700)
    )


def binds(story: Story) -> dict[str, str]:
    return {effect.name: effect.node for effect in story.effects if isinstance(effect, Bind)}


def of(story: Story, kind: type) -> list[Any]:
    return [effect for effect in story.effects if isinstance(effect, kind)]


def bound(pod: Pod, node: str) -> Pod:
    return msgspec.structs.replace(pod, node_name=NodeName(node))


def test_a_pod_goes_to_the_cleanest_node_and_the_decision_says_why() -> None:
    story = two_zones().pods(make_pod("web", cpu="1", memory="1Gi"))
    story.decide()
    assert of(story, PodDetected) == [PodDetected("uid-default-web", "default", "web")]
    (bind,) = of(story, Bind)
    decision = bind.decision
    assert (bind.node, decision.grid_zone, decision.quality, decision.source) == (
        "clean",
        "FR",
        "measured",
        "electricity-maps",
    )
    assert (decision.intensity_g_per_kwh, decision.cleanest_g_per_kwh, decision.feasible) == (50.0, 50.0, 2)
    assert decision.policy == "carbon-first"
    blind_g = {"clean": 50.0, "dirty": 700.0}[decision.blind]
    assert decision.saved_g_per_kwh == blind_g - 50.0
    assert decision.at_us == int(WALL * 1e6)


def test_when_the_cleanest_node_is_full_the_next_cleanest_is_taken() -> None:
    story = two_zones().nodes(make_node("middle", zone="ES")).carbon(ES=200)
    story.pods(*(make_pod(f"p{i}", cpu="3") for i in range(3)))
    story.decide()
    assert list(binds(story).values()) == ["clean", "middle", "dirty"]


def test_a_pod_that_fits_nowhere_says_so_and_runs_within_the_same_second_as_room_appears() -> None:
    story = two_zones()
    big = [make_pod(f"big{i}", cpu="4", generation=3) for i in range(3)]
    story.pods(*big)
    story.decide()
    (waiting,) = of(story, Unschedulable)
    assert waiting.message == "0/2 nodes are available: 2 Insufficient cpu." + unhelped(2, NOBODY)
    assert (waiting.reason, waiting.patch, waiting.generation) == ("Unschedulable", True, 3)
    story.wait(60).apply(PodGone(*story.now, big[0].uid))
    story.decide()
    assert binds(story) == {"big2": "clean"}


def test_the_room_of_a_pod_that_is_being_bound_is_taken() -> None:
    story = two_zones().pods(make_pod("first", cpu="4"))
    story.decide()
    story.pods(make_pod("second", cpu="4"))
    story.decide()
    assert binds(story) == {"second": "dirty"}


def test_the_condition_is_patched_until_the_api_server_has_it_and_said_once() -> None:
    """The write may fail: only the echo tells that it did not."""
    big = make_pod("big", cpu="64")
    story = two_zones().pods(big)
    story.decide()
    assert [(effect.patch, effect.news) for effect in of(story, Unschedulable)] == [(True, True)]
    story.wait(400)
    story.decide()
    assert [(effect.patch, effect.news) for effect in of(story, Unschedulable)] == [(True, False)]
    echo = "Unschedulable: 0/2 nodes are available: 2 Insufficient cpu." + unhelped(2)
    story.pods(msgspec.structs.replace(big, scheduled_message=echo)).wait(400)
    story.decide()
    assert [(effect.patch, effect.news) for effect in of(story, Unschedulable)] == [(False, False)]


def test_a_pod_whose_condition_already_says_so_is_not_patched_again_after_a_restart() -> None:
    said = "Unschedulable: 0/2 nodes are available: 2 Insufficient cpu." + unhelped(2)
    story = two_zones().pods(make_pod("big", cpu="64", scheduled_message=said))
    story.decide()
    assert [(effect.patch, effect.news) for effect in of(story, Unschedulable)] == [(False, True)]


NEVER_TOUCHED: dict[str, dict[str, Any]] = {
    "another scheduler's": {"scheduler": "default-scheduler"},
    "already bound": {"node": "dirty"},
    "gated": {"gated": True},
    "being deleted": {"terminating": True},
    "finished": {"finished": True},
}


@pytest.mark.parametrize("fields", NEVER_TOUCHED.values(), ids=NEVER_TOUCHED)
def test_pods_that_are_not_ours_to_schedule_are_never_touched(fields: dict[str, Any]) -> None:
    story = two_zones().pods(make_pod("other", **fields))
    story.decide()
    assert not of(story, Bind)
    assert not of(story, Unschedulable)
    assert not of(story, PodDetected)


COUNTED: dict[str, dict[str, Any]] = {
    "another scheduler's pod": {"scheduler": "default-scheduler"},
    "a static pod": {"namespace": "kube-system", "scheduler": "default-scheduler"},
    "a pod that is being deleted": {"terminating": True},
    "our own pod": {},
}


@pytest.mark.parametrize("fields", COUNTED.values(), ids=COUNTED)
def test_every_pod_on_a_node_counts_against_it(fields: dict[str, Any]) -> None:
    story = two_zones().pods(make_pod("there", cpu="4", node="clean", **fields))
    story.pods(make_pod("new", cpu="1"))
    story.decide()
    assert binds(story) == {"new": "dirty"}


def test_a_pod_that_came_before_its_node_counts_once_the_node_is_known() -> None:
    story = Story().carbon(FR=50, PL=700).pods(make_pod("early", cpu="4", node="clean"))
    story.nodes(make_node("clean", zone=CLEAN), make_node("dirty", zone=DIRTY)).pods(make_pod("new", cpu="1"))
    story.decide()
    assert binds(story) == {"new": "dirty"}


def test_a_gate_that_is_removed_lets_the_pod_in() -> None:
    story = two_zones().pods(
        make_pod("gated", gated=True), make_pod("theirs", gated=True, scheduler="default-scheduler")
    )
    story.decide()
    assert story.scheduler.counts()["gated"] == 1
    story.pods(make_pod("gated"))
    story.decide()
    assert binds(story) == {"gated": "clean"}
    assert story.scheduler.counts()["gated"] == 0


def test_nothing_is_decided_before_the_first_lists_are_complete() -> None:
    story = Story(synced=False).nodes(make_node("only", zone=CLEAN)).carbon(FR=50).pods(make_pod("web"))
    story.decide()
    assert not of(story, Bind)
    assert not of(story, PodDetected)
    story.apply(Synced(*story.now))
    story.decide()
    assert [effect.name for effect in of(story, PodDetected)] == ["web"]
    assert binds(story) == {"web": "only"}


def test_on_taking_over_decisions_wait_for_data_from_that_moment_on() -> None:
    story = Story(synced=False).nodes(make_node("only", zone=CLEAN)).pods(make_pod("web")).wait(3600)
    story.apply(Synced(*story.now)).decide()
    assert not binds(story)
    story.wait(1).carbon(FR=50)
    story.decide()
    assert binds(story) == {"web": "only"}


def test_a_zone_seen_for_the_first_time_is_waited_for_until_its_source_answers() -> None:
    story = Story().nodes(make_node("clean", zone=CLEAN), make_node("dirty", zone=DIRTY)).pods(make_pod("web"))
    story.decide()
    assert of(story, ZonesInUse) == [ZonesInUse((GridZone("FR"), GridZone("PL")))]
    assert not of(story, Bind)
    story.wait(1).carbon(PL=700)
    story.decide()
    assert not of(story, Bind)
    story.wait(1).carbon(FR=50)
    story.decide()
    assert binds(story) == {"web": "clean"}


def test_after_five_seconds_without_an_answer_decisions_go_on_without_it() -> None:
    story = Story().nodes(make_node("clean", zone=CLEAN), make_node("dirty", zone=DIRTY)).pods(make_pod("web"))
    story.carbon(PL=700).wait(4.9)
    story.decide()
    assert not of(story, Bind)
    assert story.scheduler.next_at() == pytest.approx(5.0)
    story.wait(0.2)
    story.decide()
    assert binds(story) == {"web": "dirty"}  # a node with a value comes before one without


def test_without_any_value_upstreams_score_decides_and_the_decision_says_so() -> None:
    story = two_zones().carbon(FR=None, PL=None)
    story.pods(make_pod("there", cpu="2", node="clean"), make_pod("web", cpu="1"))
    story.decide()
    (bind,) = of(story, Bind)
    assert bind.node == "dirty"  # the emptier one
    assert (bind.decision.intensity_g_per_kwh, bind.decision.quality, bind.decision.saved_g_per_kwh) == (
        None,
        None,
        None,
    )


def test_a_value_of_another_signal_counts_as_none() -> None:
    story = two_zones()
    marginal = make_value("FR", 1.0, signal="marginal")
    from carbon_scheduler.core.events import CarbonChanged

    story.apply(CarbonChanged(*story.now, GridZone("FR"), marginal)).pods(make_pod("web"))
    story.decide()
    assert binds(story) == {"web": "dirty"}


EQUALLY_CLEAN: dict[str, tuple[float, float, str]] = {
    "5 g/kWh more is equally clean": (20.0, 25.0, "empty"),
    "more than 5 g/kWh is not, below 100": (20.0, 25.1, "loaded"),
    "5 % more is equally clean": (400.0, 420.0, "empty"),
    "more than 5 % is not": (400.0, 420.1, "loaded"),
}


@pytest.mark.parametrize(("clean_g", "other_g", "want"), EQUALLY_CLEAN.values(), ids=EQUALLY_CLEAN)
def test_among_equally_clean_nodes_upstreams_score_decides(clean_g: float, other_g: float, want: str) -> None:
    story = Story().nodes(make_node("loaded", zone="FR"), make_node("empty", zone="PL"))
    story.carbon(FR=clean_g, PL=other_g).pods(make_pod("there", cpu="2", memory="8Gi", node="loaded"))
    story.pods(make_pod("web", cpu="1", memory="1Gi"))
    story.decide()
    assert binds(story) == {"web": want}


POLICIES: dict[str, tuple[dict[str, str], dict[str, str], str]] = {
    "the configuration's carbon-first": ({}, {}, "clean"),
    "the pod's annotation": ({"carbon-scheduler.io/placement": "off"}, {}, "dirty"),
    "the namespace's": ({}, {"carbon-scheduler.io/placement": "off"}, "dirty"),
    "the pod's before the namespace's": (
        {"carbon-scheduler.io/placement": "carbon-first"},
        {"carbon-scheduler.io/placement": "off"},
        "clean",
    ),
    "an unknown word counts as none": ({"carbon-scheduler.io/placement": "greenest"}, {}, "clean"),
}


@pytest.mark.parametrize(("pod", "namespace", "want"), POLICIES.values(), ids=POLICIES)
def test_the_policy_comes_from_pod_namespace_and_configuration(
    pod: dict[str, str], namespace: dict[str, str], want: str
) -> None:
    story = two_zones().pods(make_pod("there", cpu="2", node="clean"))
    story.apply(NamespaceChanged(*story.now, Namespace("default", {}, tuple(namespace.items()))))
    story.pods(make_pod("web", cpu="1", annotations=tuple(pod.items())))
    story.decide()
    assert binds(story) == {"web": want}
    warned = [effect.reason for effect in of(story, PodWarning)]
    assert warned == (["InvalidAnnotation"] if "greenest" in pod.values() else [])


def test_weighted_trades_carbon_against_upstreams_score() -> None:
    for weight, want in ((0, "dirty"), (100, "clean")):
        story = two_zones(placement=Placement(policy="weighted", carbon_weight=weight))
        story.pods(make_pod("there", cpu="2", node="clean"), make_pod("web", cpu="1"))
        story.decide()
        assert binds(story) == {"web": want}


def test_an_unknown_zone_is_said_once_with_the_nearest_names_and_has_no_value() -> None:
    story = Story().nodes(
        make_node("typo", zone="US-NY-NYSI"), make_node("again", zone="US-NY-NYSI"), make_node("fine", zone="FR")
    )
    story.carbon(FR=50).pods(make_pod("web"))
    story.decide()
    (said,) = of(story, ZoneNotKnown)
    assert said.text == "US-NY-NYSI"
    assert "US-NY-NYIS" in said.nearest
    assert of(story, ZonesInUse)[-1].grid_zones == ("FR",)
    assert binds(story) == {"web": "fine"}


def test_the_zones_in_use_are_said_only_when_they_change() -> None:
    story = two_zones()
    story.decide()
    story.nodes(make_node("clean", zone=CLEAN, labels={"other": "label"}), make_node("more", zone=DIRTY))
    story.decide()
    assert not of(story, ZonesInUse)
    story.apply(NodeGone(*story.now, NodeName("clean")))
    story.decide()
    assert of(story, ZonesInUse) == [ZonesInUse((GridZone("PL"),))]


def test_a_node_label_that_changes_takes_effect_at_once() -> None:
    story = two_zones()
    story.nodes(make_node("clean", zone=DIRTY), make_node("dirty", zone=CLEAN)).pods(make_pod("web"))
    story.decide()
    assert binds(story) == {"web": "dirty"}


# -- answers to Bindings


def one_in_flight() -> tuple[Story, Pod, Bind]:
    story = two_zones().pods(pod := make_pod("web", cpu="4"))
    story.decide()
    (bind,) = of(story, Bind)
    return story, pod, bind


def room_is_taken(story: Story) -> bool:
    story.pods(make_pod("probe", cpu="4"))
    story.decide()
    return binds(story)["probe"] == "dirty"


def test_a_bound_pod_keeps_its_room_until_and_after_the_echo() -> None:
    story, pod, bind = one_in_flight()
    story.apply(Bound(*story.now, pod.uid, bind.node, bind.decision.seq))
    story.pods(bound(pod, "clean"))
    assert room_is_taken(story)
    assert story.scheduler.counts()["binding"] == 1  # the probe alone


def test_a_stale_event_does_not_take_the_node_away_again() -> None:
    story, pod, _ = one_in_flight()
    story.pods(bound(pod, "clean"), pod)
    assert room_is_taken(story)


def test_a_refused_binding_frees_the_room_and_the_pod_backs_off() -> None:
    story, pod, bind = one_in_flight()
    story.apply(Refused(*story.now, pod.uid, bind.node, bind.decision.seq, 403, "forbidden"))
    story.decide()
    (said,) = of(story, Unschedulable)
    assert (said.reason, said.message) == ("SchedulerError", 'running Bind plugin "DefaultBinder": forbidden')
    assert not binds(story)
    assert story.scheduler.next_at() == pytest.approx(1.0)
    story.wait(1)
    story.decide()
    assert binds(story) == {"web": "clean"}


READ_AGAIN: dict[str, tuple[int, str | None, str]] = {
    "409, bound meanwhile by someone else": (409, "dirty", "counts there"),
    "409, still pending": (409, None, "tried again"),
    "404, gone": (404, "", "forgotten"),
}


@pytest.mark.parametrize(("code", "now", "want"), READ_AGAIN.values(), ids=READ_AGAIN)
def test_a_conflict_is_read_again_and_not_retried_blindly(code: int, now: str | None, want: str) -> None:
    story, pod, bind = one_in_flight()
    story.apply(Refused(*story.now, pod.uid, bind.node, bind.decision.seq, code, "no"))
    story.decide()
    assert story.effects == [ReadPod(pod.uid, "default", "web", bind.decision.seq)]
    answer = None if now == "" else pod if now is None else bound(pod, now)
    story.apply(PodRead(*story.now, pod.uid, bind.decision.seq, answer))
    story.decide()
    if want == "tried again":
        assert not binds(story)
        story.wait(1)
        story.decide()
        assert binds(story) == {"web": "clean"}
        return
    assert not binds(story)
    story.pods(make_pod("probe", cpu="4"))
    story.decide()
    assert binds(story) == {"probe": "clean"}
    assert pod.uid not in story.scheduler.cluster.assumed


def test_a_lost_answer_is_settled_by_reading_and_the_same_binding_is_sent_again() -> None:
    story, pod, bind = one_in_flight()
    story.apply(Unknown(*story.now, pod.uid, bind.node, bind.decision.seq))
    story.decide()
    assert of(story, ReadPod)
    story.carbon(FR=900, PL=10)  # another node would be chosen now; the first Binding may still land
    story.apply(PodRead(*story.now, pod.uid, bind.decision.seq, pod))
    story.decide()
    assert of(story, Bind) == [bind]


def loses(story: Story, bind: Bind, pod: Pod, why: str = "") -> list[Any]:
    """The Binding's answer is lost, and the read shows the pod unbound; what comes next."""
    whom = (pod.uid, bind.node, bind.decision.seq)
    story.apply(Unknown(*story.now, *whom, why))
    assert [type(effect) for effect in story.decide()] == [ReadPod]
    story.apply(PodRead(*story.now, pod.uid, bind.decision.seq, pod))
    return story.decide()


def test_a_binding_whose_answers_are_lost_each_time_is_sent_after_growing_waits_and_the_pod_says_why() -> None:
    """A webhook that is down makes the API server answer each with 500, as fast as it is asked."""
    story, pod, bind = one_in_flight()
    assert loses(story, bind, pod) == [bind], "at once after the first"
    for wait_s in (1, 2, 4, 8, 10, 10):
        (said,) = loses(story, bind, pod, "failed calling webhook")
        assert (said.reason, said.message) == ("SchedulerError", "binding was not answered: failed calling webhook")
        assert story.scheduler.next_at() == story.at + wait_s
        story.wait(wait_s - 0.01)
        assert story.decide() == []
        story.wait(0.01)
        assert story.decide() == [bind]
    assert room_is_taken(story)


def test_a_pod_that_stopped_fitting_while_its_binding_waited_is_decided_anew() -> None:
    story, pod, bind = one_in_flight()
    loses(story, bind, pod)
    loses(story, bind, pod)
    story.apply(NodeGone(*story.now, NodeName("clean"))).wait(1)
    (said,) = [effect for effect in story.decide() if isinstance(effect, Unschedulable)]
    assert (
        said.message
        == 'running Bind plugin "DefaultBinder": its answer was lost, and the pod does not fit on clean any more'
    )
    story.wait(1)
    story.decide()
    assert binds(story) == {"web": "dirty"}


@pytest.mark.parametrize("code", [0, 429])
def test_a_repeated_binding_that_never_arrived_says_nothing_about_the_lost_one(code: int) -> None:
    story, pod, bind = one_in_flight()
    assert loses(story, bind, pod) == [bind]
    story.apply(Refused(*story.now, pod.uid, bind.node, bind.decision.seq, code, "connection refused"))
    assert [type(effect) for effect in story.decide()] == [ReadPod]
    assert room_is_taken(story)
    story.apply(PodRead(*story.now, pod.uid, bind.decision.seq, pod)).wait(1)
    said, again = story.decide()
    assert said.message == "binding was not answered: connection refused"
    assert again == bind


def test_a_repeated_binding_that_is_refused_is_settled_by_reading() -> None:
    story, pod, bind = one_in_flight()
    assert loses(story, bind, pod) == [bind]
    story.apply(Refused(*story.now, pod.uid, bind.node, bind.decision.seq, 403, "forbidden"))
    assert [type(effect) for effect in story.decide()] == [ReadPod]
    story.apply(PodRead(*story.now, pod.uid, bind.decision.seq, pod))
    (said,) = story.decide()
    assert said.reason == "SchedulerError"


def test_a_lost_answer_to_a_node_that_is_gone_means_another_node() -> None:
    story, pod, bind = one_in_flight()
    story.apply(Unknown(*story.now, pod.uid, bind.node, bind.decision.seq), NodeGone(*story.now, NodeName("clean")))
    story.apply(PodRead(*story.now, pod.uid, bind.decision.seq, pod))
    story.decide()
    assert not binds(story)
    story.wait(1)
    story.decide()
    assert binds(story) == {"web": "dirty"}


def test_a_lost_answer_to_a_node_that_filled_up_meanwhile_means_another_node() -> None:
    story, pod, bind = one_in_flight()
    story.apply(Unknown(*story.now, pod.uid, bind.node, bind.decision.seq))
    story.pods(make_pod("theirs", cpu="1", node="clean", scheduler="default-scheduler"))
    story.apply(PodRead(*story.now, pod.uid, bind.decision.seq, pod)).wait(1)
    story.decide()
    assert binds(story) == {"web": "dirty"}


def test_a_pod_that_turns_out_bound_elsewhere_frees_its_assumed_room_for_those_who_wait() -> None:
    story, pod, _ = one_in_flight()
    story.pods(make_pod("fills", cpu="4", node="dirty"), make_pod("waits", cpu="4"))
    story.decide()
    assert not binds(story)
    story.pods(bound(pod, "dirty")).wait(1)
    story.decide()
    assert binds(story) == {"waits": "clean"}


def test_time_alone_never_ends_an_assumption() -> None:
    story, _, _ = one_in_flight()
    story.wait(7 * 86400)
    assert room_is_taken(story)


def test_an_answer_to_an_earlier_attempt_is_not_taken_for_one_to_the_present() -> None:
    story, pod, first = one_in_flight()
    refused = Refused(*story.now, pod.uid, first.node, first.decision.seq, 500, "no")
    story.apply(refused).wait(2)
    story.decide()
    (second,) = of(story, Bind)
    assert second.decision.seq > first.decision.seq
    story.apply(refused, Unknown(*story.now, pod.uid, first.node, first.decision.seq))
    story.decide()
    assert story.effects == []
    assert room_is_taken(story)


def test_a_pod_that_is_gone_does_not_come_back_with_a_late_event() -> None:
    story, pod, _ = one_in_flight()
    story.apply(PodGone(*story.now, pod.uid), PodChanged(*story.now, bound(pod, "clean")))
    assert not room_is_taken(story)


def test_a_preferred_term_that_cannot_be_parsed_matters_only_where_there_is_a_choice() -> None:
    """schedule_one.go takes the one feasible node without scoring, and says why there is none before it would score."""
    bad = PreferredTerm(1, NodeSelectorTerm((Requirement("cores", "Gt", ("x",)),)))
    spec = {"preferred_affinity": (bad,)}
    story = two_zones().pods(make_pod("choice", cpu="1", spec=spec), make_pod("none", cpu="64", spec=spec))
    story.decide()
    assert {said.name: said.reason for said in of(story, Unschedulable)} == {
        "choice": "SchedulerError",
        "none": "Unschedulable",
    }
    alone = Story().nodes(make_node("only")).pods(make_pod("one", spec=spec))
    alone.decide()
    assert binds(alone) == {"one": "only"}


def test_while_a_pod_is_read_no_late_answer_gives_its_room_away() -> None:
    story, pod, bind = one_in_flight()
    whom = (pod.uid, bind.node, bind.decision.seq)
    story.apply(Unknown(*story.now, *whom), Refused(*story.now, *whom, 403, "no"), Refused(*story.now, *whom, 0, "no"))
    assert [type(effect) for effect in story.decide()] == [ReadPod]
    assert room_is_taken(story)


def test_a_pod_that_shrinks_while_it_is_being_bound_makes_room() -> None:
    story, pod, _ = one_in_flight()
    story.pods(make_pod("fills", cpu="4", node="dirty"), make_pod("waits", cpu="2"))
    story.decide()
    assert not binds(story)
    story.pods(msgspec.structs.replace(pod, spec=make_pod(cpu="1").spec)).wait(1)
    story.decide()
    assert binds(story) == {"waits": "clean"}


WAKES: dict[str, tuple[dict[str, Any], dict[str, Any], dict[str, Any]]] = {
    "a node that grows": ({"cpu": "8"}, {"cpu": "4"}, {"cpu": "8"}),
    "a node that takes more pods": ({"cpu": "1"}, {"pods": 0}, {"pods": 1}),
    "a label that appears": ({"spec": {"node_selector": (("disk", "ssd"),)}}, {}, {"labels": {"disk": "ssd"}}),
    "a taint that goes": ({}, {"taints": (Taint("t", "", "NoExecute"),)}, {}),
    "a node that is uncordoned": ({}, {"unschedulable": True}, {}),
}


@pytest.mark.parametrize(("pod", "before", "after"), WAKES.values(), ids=WAKES)
def test_a_node_that_changes_so_that_a_pod_fits_wakes_it(
    pod: dict[str, Any], before: dict[str, Any], after: dict[str, Any]
) -> None:
    story = Story().nodes(make_node("n", **before)).pods(make_pod("p", **pod))
    story.decide()
    assert not binds(story)
    story.wait(60).nodes(make_node("n", **before, provider_id="another"))
    assert story.decide() == [], "a change that does not help"
    story.nodes(make_node("n", **after))
    story.decide()
    assert binds(story) == {"p": "n"}


def test_a_late_event_does_not_bring_a_pod_back_from_its_deletion() -> None:
    pod = make_pod("p", cpu="1")
    story = two_zones().pods(msgspec.structs.replace(pod, terminating=True), pod)
    story.decide()
    assert not binds(story)


def test_decisions_wait_for_the_last_zone_that_has_not_answered() -> None:
    story = Story().nodes(make_node("a", zone="FR"))
    story.wait(3).nodes(make_node("b", zone="PL")).pods(make_pod("p"))
    for second in (4.9, 5.1, 7.9):
        story.at = second
        story.decide()
        assert not binds(story), second
    story.at = 8.1
    story.decide()
    assert binds(story)


def test_one_pod_that_cannot_run_never_blocks_another() -> None:
    story = two_zones().pods(make_pod("big", cpu="64", priority=1000), make_pod("small", cpu="1"))
    story.decide()
    assert binds(story) == {"small": "clean"}


def test_the_higher_priority_goes_first_then_the_earlier() -> None:
    story = two_zones()
    story.pods(make_pod("a"), make_pod("b"), make_pod("c", priority=5))
    story.decide()
    assert list(binds(story)) == ["c", "a", "b"]


def test_a_pod_that_could_not_be_read_is_refused_alone_with_its_reason() -> None:
    story = two_zones().pods(make_pod("bad", refusal="containers[0].resources.requests.cpu: got '-1'"), make_pod("ok"))
    story.decide()
    assert binds(story) == {"ok": "clean"}
    (said,) = of(story, Unschedulable)
    assert said.reason == "SchedulerError"
    assert "got '-1'" in said.message


def test_a_pod_that_could_not_be_read_is_tried_again_only_when_it_changes_itself() -> None:
    """Else everyone who may create pods could make each event of the cluster cost an attempt and a line for each of them."""
    bad = make_pod("bad", refusal="spec: got 5")
    story = two_zones().pods(bad, make_pod("ok"))
    story.decide()
    for number in range(3):
        story.wait(20).nodes(make_node(f"more-{number}", zone=CLEAN))
        story.apply(PodGone(*story.now, make_pod("ok").uid))
        story.decide()
        assert of(story, Unschedulable) == []
    story.pods(msgspec.structs.replace(bad, refusal=""))
    story.decide()
    assert list(binds(story)) == ["bad"]


def test_a_cluster_without_nodes_says_so_and_the_first_node_is_used_at_once() -> None:
    story = Story().pods(make_pod("web"))
    story.decide()
    assert [effect.message for effect in of(story, Unschedulable)] == ["no nodes available to schedule pods"]
    story.wait(0.1).nodes(make_node("first", zone="FR")).carbon(FR=50)
    story.decide()
    assert binds(story) == {"web": "first"}


def test_decisions_do_not_depend_on_the_order_in_which_nodes_came() -> None:
    nodes = [make_node(f"n{i}", zone=("FR", "PL", "DE")[i % 3]) for i in range(30)]
    pods = [make_pod(f"p{i}", cpu="700m") for i in range(60)]
    found = []
    for order in (nodes, nodes[::-1], nodes[7:] + nodes[:7]):
        story = Story().nodes(*order).carbon(FR=50, PL=52, DE=400).pods(*pods)
        story.decide()
        found.append(binds(story))
    assert found[0] == found[1] == found[2]


def test_ties_spread_over_the_nodes() -> None:
    story = Story().nodes(*(make_node(f"n{i}", zone="FR") for i in range(10))).carbon(FR=50)
    chosen = set()
    for i in range(40):
        story.pods(pod := make_pod(f"p{i}"))  # asks for nothing that counts, so that all nodes stay equal
        story.decide()
        chosen.add(binds(story)[f"p{i}"])
        story.apply(PodGone(*story.now, pod.uid))
    assert len(chosen) >= 7


NO_HELP = "Preemption is not helpful for scheduling"
MESSAGES: dict[str, tuple[list[dict[str, Any]], dict[str, Any], str, str]] = {
    "one reason a node, sorted as strings": (
        [{"unschedulable": True}, {"cpu": "1"}, {"taints": (Taint("gpu", "", "NoSchedule"),)}],
        {"cpu": "2"},
        "0/3 nodes are available: 1 Insufficient cpu, 1 node(s) had untolerated taint(s), 1 node(s) were unschedulable.",
        NO_HELP,
    ),
    "two reasons of one plugin": (
        [{"cpu": "1", "memory": "1Gi"}],
        {"cpu": "2", "memory": "2Gi"},
        "0/1 nodes are available: 1 Insufficient cpu, 1 Insufficient memory.",
        NO_HELP,
    ),
    "too many pods": ([{"pods": 0}], {}, "0/1 nodes are available: 1 Too many pods.", NOBODY),
    "10 sorts before 2": (
        [{"cpu": "1"}] * 10 + [{"unschedulable": True}] * 2,
        {"cpu": "2"},
        "0/12 nodes are available: 10 Insufficient cpu, 2 node(s) were unschedulable.",
        NO_HELP,
    ),
    "an extended resource that no node has": (
        [{}],
        {"scalars": {"nvidia.com_gpu": 1}},
        "0/1 nodes are available: 1 Insufficient nvidia.com/gpu.",
        NO_HELP,
    ),
    "a selector": (
        [{}],
        {"spec": {"node_selector": (("disk", "ssd"),)}},
        "0/1 nodes are available: 1 node(s) didn't match Pod's node affinity/selector.",
        NO_HELP,
    ),
}


@pytest.mark.parametrize(("nodes", "pod", "want", "preemption"), MESSAGES.values(), ids=MESSAGES)
def test_the_message_is_upstreams(nodes: list[dict[str, Any]], pod: dict[str, Any], want: str, preemption: str) -> None:
    story = Story().nodes(*(make_node(**fields) for fields in nodes)).pods(make_pod("web", **pod))
    story.decide()
    assert [effect.message for effect in of(story, Unschedulable)] == [want + unhelped(len(nodes), preemption)]


def test_sequence_numbers_grow_across_restarts() -> None:
    _, _, bind = one_in_flight()
    later = Story()
    later.wait(0.5).nodes(make_node("only", zone="FR")).carbon(FR=50).pods(make_pod("x"))
    later.decide()
    assert of(later, Bind)[0].decision.seq > bind.decision.seq
    assert of(later, Bind)[0].scheduler_name == OURS
