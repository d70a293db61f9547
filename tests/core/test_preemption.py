"""Preemption as the scheduler does it: who is evicted for whom, where, what is said, and what happens until the room is there."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from builders import NOBODY, Story, make_node, make_pod, unhelped
from carbon_scheduler.core.decision import Bind, Evict, Nominate, Unschedulable
from carbon_scheduler.core.events import (
    Bound,
    Evicted,
    NodeChanged,
    NotEvicted,
    ObjectChanged,
    PodChanged,
    PodGone,
    Refused,
)
from carbon_scheduler.core.evictions import Evictions, Freed
from carbon_scheduler.core.model import NodeName, Pod, PodUid, Requirement
from carbon_scheduler.core.objects import Budget
from carbon_scheduler.core.preemption import Enough
from carbon_scheduler.core.settings import PluginSet, Profile, Settings
from carbon_scheduler.core.trial import Trial

FULL = "0/1 nodes are available: 1 Insufficient cpu."


def of(story: Story, kind: type) -> list[Any]:
    return [effect for effect in story.effects if isinstance(effect, kind)]


def binds(story: Story) -> dict[str, str]:
    return {bind.name: bind.node for bind in of(story, Bind)}


def evicted(story: Story) -> list[tuple[str, str]]:
    return [(effect.name, effect.node) for effect in of(story, Evict)]


def full(*pods: Pod, settings: Settings | None = None, nodes: tuple[str, ...] = ("n",)) -> Story:
    """A cluster of nodes of 4 cores with these pods."""
    story = Story(settings).nodes(*(make_node(name, cpu="4") for name in nodes)).pods(*pods)
    story.decide()
    return story


def low(name: str = "low", node: str = "n", cpu: str = "3", **more: Any) -> Pod:
    return make_pod(name, cpu=cpu, node=node, scheduler="default-scheduler", generation=7, **more)


def high(name: str = "high", cpu: str = "3", priority: int = 10, **more: Any) -> Pod:
    return make_pod(name, cpu=cpu, priority=priority, **more)


# -- one preemption from its beginning to its end --------------------------------------------------------------------


def test_a_victim_of_an_earlier_preemption_that_stayed_is_not_marked_anew() -> None:
    for preempted in (False, True):
        story = full(msgspec.structs.replace(low(), preempted=preempted)).pods(high())
        story.decide()
        (evict,) = of(story, Evict)
        assert evict.marked is preempted


def test_a_pod_of_higher_priority_has_another_evicted_and_gets_its_room() -> None:
    story = full(low())
    story.pods(high())
    story.decide()
    (evict,) = of(story, Evict)
    assert evict == Evict(
        PodUid("uid-default-low"),
        "default",
        "low",
        NodeName("n"),
        PodUid("uid-default-high"),
        "default",
        "high",
        generation=7,
    )
    (said,) = of(story, Unschedulable)
    assert (said.message, said.nominate, said.victims, said.patch) == (FULL, "n", 1, True)
    assert story.wait(30).decide() == [], "it waits for its victim, and looks for no other"
    story.apply(Evicted(*story.now, evict.uid))
    story.pods(msgspec.structs.replace(low(), terminating=True, preempted=True))
    assert story.wait(30).decide() == []
    story.apply(PodGone(*story.now, evict.uid))
    story.decide()
    assert binds(story) == {"high": "n"}


def test_while_its_victim_is_going_it_says_so_and_evicts_nobody_else() -> None:
    story = full(low(), low("other", "m"), nodes=("n", "m"))
    story.pods(high())
    story.decide()
    ((name, node),) = evicted(story)
    going = low(name, node, terminating=True, preempted=True)
    story.apply(Evicted(*story.now, going.uid)).pods(going)
    story.nodes(make_node("small", cpu="1", labels={"a": "b"})).wait(400)  # the flush of pods that waited long
    story.decide()
    (said,) = of(story, Unschedulable)
    assert said.message.endswith(
        " no new claims to deallocate, preemption: not eligible due to a terminating pod on the nominated node."
    )
    assert (said.nominate, said.victims) == (None, 0)
    assert not evicted(story)


def test_the_deletion_that_the_api_server_took_counts_before_its_echo() -> None:
    story = full(low())
    story.pods(high())
    story.decide()
    story.apply(Evicted(*story.now, PodUid("uid-default-low"))).wait(400)
    story.decide()
    assert not evicted(story)
    assert "terminating pod on the nominated node" in of(story, Unschedulable)[0].message


def test_a_victim_that_was_not_deleted_is_not_gone_and_the_pod_tries_again() -> None:
    story = full(low())
    story.pods(high())
    story.decide()
    story.apply(NotEvicted(*story.now, PodUid("uid-default-low"), 403, "forbidden"))
    assert story.scheduler.counts()["backoff"] == 1, "not at once: it would ask as fast as it is refused"
    assert story.wait(1.0).decide()
    assert evicted(story) == [("low", "n")]
    assert not binds(story)


def test_answers_that_are_late_or_about_nobody_do_no_harm() -> None:
    story = full(low())
    for answer in (Evicted(*story.now, PodUid("x")), NotEvicted(*story.now, PodUid("x"), 500, "")):
        story.apply(answer)
    story.pods(high())
    story.decide()
    story.apply(PodGone(*story.now, PodUid("uid-default-low")))
    story.decide()
    assert binds(story) == {"high": "n"}
    story.apply(NotEvicted(*story.now, PodUid("uid-default-low"), 0, ""))
    assert story.wait(20).decide() == []


def test_a_preemptor_that_goes_away_gives_up_what_was_kept_for_it() -> None:
    story = full(low())
    story.pods(high())
    story.decide()
    story.apply(PodGone(*story.now, PodUid("uid-default-high")))
    story.apply(Evicted(*story.now, PodUid("uid-default-low")), PodGone(*story.now, PodUid("uid-default-low")))
    story.pods(make_pod("later", cpu="4"))
    story.decide()
    assert binds(story) == {"later": "n"}


def test_two_preemptors_do_not_count_on_the_same_room() -> None:
    story = full(low("a", "n"), low("b", "m"), nodes=("n", "m"))
    story.pods(high("one"), high("two"))
    effects = [*story.decide(), *story.decide()]
    assert {e.preemptor_name for e in effects if isinstance(e, Evict)} == {"one", "two"}
    assert {e.name for e in effects if isinstance(e, Evict)} == {"a", "b"}


def test_a_pod_that_is_being_bound_can_be_a_victim() -> None:
    """Its Binding cannot be taken back, so that it is deleted, as kube-scheduler does it in this phase."""
    story = full()
    story.pods(make_pod("mine", cpu="3"))
    story.decide()
    story.pods(high())
    story.decide()
    assert evicted(story) == [("mine", "n")]


# -- whether, and whom ------------------------------------------------------------------------------------------------

APP = (Requirement("app", "In", ("a",)),)
SAYS: dict[str, tuple[list[Pod], Pod, str]] = {
    "preemptionPolicy Never": (
        [low()],
        high(may_preempt=False),
        FULL + " no new claims to deallocate, preemption: not eligible due to preemptionPolicy=Never.",
    ),
    "nobody has less priority": ([low(priority=10)], high(), FULL + unhelped(1, NOBODY)),
    "it would fit on no empty node": ([low()], high(cpu="5"), FULL + unhelped(1)),
    "those of less priority have too little": (
        [low("small", cpu="1"), low("equal", priority=10)],
        high(),
        FULL + unhelped(1, "Insufficient cpu"),
    ),
    "the pod is rejected as a whole": (
        [low()],
        high(spec={"required_affinity": ()}),
        "0/1 nodes are available: 1 node(s) didn't match Pod's node affinity/selector." + unhelped(1),
    ),
}


@pytest.mark.parametrize("case", SAYS)
def test_why_nobody_is_evicted(case: str) -> None:
    there, pod, want = SAYS[case]
    story = full(*there)
    story.pods(pod)
    story.decide()
    (said,) = of(story, Unschedulable)
    assert said.message == want
    assert not evicted(story)


def labelled(app: str) -> dict[str, Any]:
    return {"labels": (("app", app),)}


CHOICES: dict[str, tuple[list[Pod], list[tuple[str, str]]]] = {
    "the lowest priority": ([low("a", "n", priority=5), low("b", "m", priority=4)], [("b", "m")]),
    "no broken budget before a lower priority": (
        [low("a", "n", spec=labelled("a")), low("b", "m", priority=4)],
        [("b", "m")],
    ),
    "the least sum of priorities": (
        [low("a", "n", "2", priority=3), low("a2", "n", "2", priority=3), low("b", "m", "4", priority=3)],
        [("b", "m")],
    ),
    "who has run for the shorter time": (
        [low("a", "n", started_s=100.0), low("b", "m", started_s=200.0)],
        [("b", "m")],
    ),
    "who has not started at all": ([low("a", "n", started_s=100.0), low("b", "m")], [("b", "m")]),
    "only as many as are needed, the less important": (
        [low("a", "n", "1", priority=2), low("a2", "n", "1", priority=1), low("a3", "n", "2", priority=1, started_s=1.0),
         low("b", "m", "4", priority=9)],
        [("a2", "n"), ("a3", "n")],
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", CHOICES)
def test_who_is_chosen(case: str) -> None:
    there, want = CHOICES[case]
    story = full(*there, nodes=("n", "m"))
    story.apply(ObjectChanged(*story.now, Budget("default", "budget", selector=APP, disruptions_allowed=0)))
    story.pods(high())
    story.decide()
    assert sorted(evicted(story)) == want


def test_of_equals_the_cleanest_node_is_taken_and_without_carbon_any() -> None:
    nodes = [make_node(f"n{i}", cpu="4", zone="PL") for i in range(7)] + [make_node("clean", cpu="4", zone="FR")]
    for policy, want in (("carbon-first", {"clean"}), ("off", {f"n{i}" for i in range(7)} | {"clean"})):
        chosen = set()
        for i in range(12):
            story = Story().nodes(*nodes).carbon(FR=40, PL=700).pods(*(low(f"l{n.name}", n.name) for n in nodes))
            pod = high(f"p{i}", annotations=(("carbon-scheduler.io/placement", policy),))
            story.pods(pod)
            story.decide()
            chosen |= {node for _, node in evicted(story)}
        assert chosen == want if policy != "off" else len(chosen) > 2


# -- who else wants the room -----------------------------------------------------------------------------------------


def preempting(*, priority: int = 10, status: bool = False) -> Story:
    """`high` has made room on the only node, which is free by now; it backs off or was not told yet."""
    story = full(low())
    story.pods(high(priority=priority))
    story.decide()
    if status:
        story.pods(high(priority=priority, nominated_node_name=NodeName("n")))
    return story


def gone(story: Story) -> Story:
    return story.apply(Evicted(*story.now, PodUid("uid-default-low")), PodGone(*story.now, PodUid("uid-default-low")))


OTHERS: dict[str, tuple[int, str, dict[str, str]]] = {
    "less priority: the room is kept": (5, "2", {"high": "n"}),
    "the same priority: the room is kept": (10, "2", {"high": "n"}),
    "more priority: first come": (11, "2", {"other": "n"}),
    "there is room for both": (5, "1", {"high": "n", "other": "n"}),
}


@pytest.mark.parametrize("case", OTHERS)
@pytest.mark.parametrize("status", [False, True], ids=["before its status says so", "after"])
def test_the_room_is_kept_for_who_made_it(case: str, status: bool) -> None:
    priority, cpu, want = OTHERS[case]
    story = preempting(status=status)
    story.pods(make_pod("other", cpu=cpu, priority=priority))
    gone(story)
    story.decide()
    assert binds(story) == want


def test_the_nominated_node_is_taken_before_a_better_one() -> None:
    story = gone(preempting())
    story.nodes(make_node("better", cpu="64"))
    story.decide()
    assert binds(story) == {"high": "n"}
    (bind,) = of(story, Bind)
    assert bind.decision.feasible == 1


def test_another_node_is_taken_when_the_nominated_one_is_no_use_any_more() -> None:
    story = gone(preempting())
    story.nodes(make_node("n", cpu="4", unschedulable=True), make_node("better", cpu="64"))
    story.decide()
    assert binds(story) == {"high": "better"}


def test_a_more_important_preemptor_takes_the_nomination_away() -> None:
    story = preempting(status=True)
    gone(story)
    story.pods(low("later"))  # by another scheduler, into the room that was kept
    story.decide()
    assert [(effect.name, effect.preemptor_name) for effect in of(story, Evict)] == [("later", "high")]
    story.pods(high("higher", priority=100))
    story.decide()
    assert not evicted(story), "nobody is evicted twice"
    assert [effect.name for effect in of(story, Nominate)] == ["high"]
    kept = story.scheduler.cycle.room.nominations
    assert (kept.node_of(PodUid("uid-default-high")), kept.node_of(PodUid("uid-default-higher"))) == (None, "n")
    story.apply(PodGone(*story.now, PodUid("uid-default-later"))).wait(20)
    story.decide()
    assert binds(story) == {"higher": "n"}


CLEARED: dict[str, Any] = {
    "preemption cannot help any more": lambda story: story.nodes(make_node("n", cpu="1")),
    "its node was cordoned": lambda story: story.nodes(make_node("n", cpu="4", unschedulable=True)),
}


@pytest.mark.parametrize("case", CLEARED)
def test_a_nomination_that_is_no_use_is_taken_away(case: str) -> None:
    story = preempting(status=True)
    story.apply(Evicted(*story.now, PodUid("uid-default-low")))
    CLEARED[case](story).wait(400)
    story.decide()
    (said,) = of(story, Unschedulable)
    assert (said.nominate, said.patch) == ("", True)
    assert story.scheduler.cycle.room.nominations.node_of(PodUid("uid-default-high")) is None


def test_a_refused_binding_takes_the_nomination_away() -> None:
    story = gone(preempting(status=True))
    (bind,) = [effect for effect in story.decide() if isinstance(effect, Bind)]
    story.apply(Refused(*story.now, bind.uid, bind.node, bind.decision.seq, 403, "no"))
    story.decide()
    (said,) = of(story, Unschedulable)
    assert (said.reason, said.nominate, said.patch) == ("SchedulerError", "", True)


def test_whom_a_status_nominates_is_heeded_and_when_it_ends_others_are_woken() -> None:
    first = high("first", nominated_node_name=NodeName("n"), gated=True)
    story = full()
    story.pods(first, make_pod("other", cpu="2"))
    story.decide()
    assert binds(story) == {"other": "n"}, "nobody waits for a pod that is gated"
    story = full(low())
    story.pods(high("first", nominated_node_name=NodeName("n"), may_preempt=False))
    story.decide()
    story.pods(make_pod("other", cpu="1"), make_pod("third", cpu="2"))
    story.decide()
    assert binds(story) == {}, "there is one core, and it is kept"
    story.pods(high("first", may_preempt=False)).wait(1.0)
    story.decide()
    assert binds(story) == {"other": "n"}


# -- switches --------------------------------------------------------------------------------------------------------

OFF: dict[str, Settings] = {
    "for all": Settings(preemption=False),
    "for a profile": Settings(
        profiles=(Profile(plugins={"multiPoint": PluginSet(disabled=("DefaultPreemption",))}),),
    ),
}


@pytest.mark.parametrize("case", OFF)
def test_preemption_switched_off(case: str) -> None:
    story = full(low(), settings=OFF[case])
    story.pods(high(nominated_node_name=NodeName("m")))
    story.decide()
    (said,) = of(story, Unschedulable)
    assert said.message == FULL + " no new claims to deallocate"
    assert (said.nominate, said.victims) == (None, None)
    assert not evicted(story)


ENOUGH: dict[str, tuple[Enough, int, int]] = {
    "few nodes: all of them": (Enough(), 30, 30),
    "a hundred at least": (Enough(), 500, 100),
    "a tenth of many": (Enough(), 5000, 500),
    "by a profile's arguments": (Enough(50, 10), 200, 100),
    "never none": (Enough(10, 0), 5, 1),
}


@pytest.mark.parametrize("case", ENOUGH)
def test_how_many_candidates_are_enough(case: str) -> None:
    enough, nodes, want = ENOUGH[case]
    assert enough.of(nodes) == want


def test_the_search_ends_with_enough_candidates_one_of_which_breaks_no_budget() -> None:
    names = [f"n{i}" for i in range(300)]
    profile = Profile(min_candidate_nodes_percentage=0, min_candidate_nodes_absolute=3)
    story = Story(Settings(profiles=(profile,)))
    for name in names:  # without the checks of a story after each event
        story.scheduler.apply(NodeChanged(*story.now, make_node(name, cpu="4")))
        story.scheduler.apply(PodChanged(*story.now, low(f"l{name}", name, spec=labelled("a"))))
    story.apply(ObjectChanged(*story.now, Budget("default", "budget", selector=APP, disruptions_allowed=0)))
    free = low("free", "n7")
    story.apply(PodGone(*story.now, PodUid("uid-default-ln7")), PodChanged(*story.now, free))
    story.pods(high())
    story.decide()
    assert evicted(story) == [("free", "n7")]


# -- the state of evictions under way --------------------------------------------------------------------------------


def test_who_waits_for_whom() -> None:
    evictions = Evictions()
    a, b = make_pod("a"), make_pod("b")
    one, two = PodUid("one"), PodUid("two")
    assert evictions.ask(one, [a, b, make_pod("going", terminating=True)]) == [a, b]
    assert evictions.ask(two, [b]) == [], "somebody is asked already"
    assert one in evictions
    assert evictions.accept(a.uid) == []
    evictions.disturb(two)
    assert evictions.accept(b.uid) == [Freed(one, False), Freed(two, True)]
    assert one not in evictions
    assert evictions.accepted(a.uid)
    assert evictions.ask(one, [a]) == [], "it is on its way"
    assert one not in evictions
    assert evictions.going(a.uid) == []
    assert not evictions.accepted(a.uid)


def test_a_failure_frees_when_all_are_answered() -> None:
    evictions = Evictions()
    a, b = make_pod("a"), make_pod("b")
    evictions.ask(PodUid("one"), [a, b])
    assert evictions.fail(a.uid) == []
    assert evictions.accept(b.uid) == [Freed(PodUid("one"), True)]
    evictions.ask(PodUid("one"), [a])
    evictions.drop(PodUid("one"))
    assert evictions.fail(a.uid) == []


def test_a_bound_preemptor_leaves_nothing_behind() -> None:
    story = gone(preempting(status=True))
    (bind,) = [effect for effect in story.decide() if isinstance(effect, Bind)]
    story.apply(Bound(*story.now, bind.uid, bind.node, bind.decision.seq))
    story.pods(high(node="n"))
    scheduler = story.scheduler
    assert len(scheduler.cycle.room.nominations) == 0
    assert vars(scheduler.cycle.room.evictions) == vars(Evictions())


def test_hundreds_of_nominations_are_heeded_together(monkeypatch: pytest.MonkeyPatch) -> None:
    """Node by node only where ports, volumes or other nodes' pods matter, and there only where room is left for both."""
    tried: list[int] = []
    at = Trial.at
    monkeypatch.setattr(Trial, "at", lambda trial, slot: tried.append(slot) or at(trial, slot))
    story = Story()
    for i in range(300):
        story.scheduler.apply(NodeChanged(*story.now, make_node(f"n{i}", cpu="4" if i else "8")))
        pod = make_pod(f"high{i}", cpu="4", priority=10, nominated_node_name=NodeName(f"n{i}"), gated=True)
        story.scheduler.apply(PodChanged(*story.now, pod))
        story.scheduler.cycle.room.nominations.put(
            pod.uid, NodeName(f"n{i}")
        )  # as if the gate were none, so that it stays nominated
    story.pods(make_pod("plain", cpu="2"))
    story.decide()
    assert binds(story) == {"plain": "n0"}
    assert tried == []
    story.pods(make_pod("ports", cpu="2", ports=(80,)))
    story.decide()
    assert binds(story) == {"ports": "n0"}
    assert len(tried) == 1
