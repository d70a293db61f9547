"""Nodes that become over-committed: noticed, said once for each spell, and left alone."""

from __future__ import annotations

import msgspec

from builders import Story, make_node, make_pod
from carbon_scheduler.core.decision import Bind, Effect, Overcommitted
from carbon_scheduler.core.events import NodeChanged, NodeGone, PodChanged, PodGone
from carbon_scheduler.core.model import NodeName


def said(effects: list[Effect]) -> list[tuple[str, tuple[tuple[str, int, int], ...]]]:
    return [(effect.node, effect.short) for effect in effects if isinstance(effect, Overcommitted)]


def test_two_schedulers_fill_one_gap_which_is_said_once_and_no_pod_is_added() -> None:
    story = Story().nodes(make_node("n", cpu="1"))
    (ours,) = story.pods(make_pod("ours", cpu="600m")).decide()[-1:]
    assert isinstance(ours, Bind)
    assert said(story.pods(make_pod("theirs", cpu="600m", node="n")).decide()) == [("n", (("cpu", 1200, 1000),))]
    assert story.scheduler.overcommitted_nodes == 1
    story.pods(make_pod("more", cpu="100m"), make_pod("theirs-2", cpu="100m", node="n"))
    effects = story.wait(1.0).decide()
    assert said(effects) == []
    assert not [effect for effect in effects if isinstance(effect, Bind)]


def test_a_spell_ends_and_the_next_one_is_said_again() -> None:
    story = Story().nodes(make_node("n", cpu="1"))
    big, small = make_pod("big", cpu="900m", node="n"), make_pod("small", cpu="200m", node="n")
    assert len(said(story.pods(big, small).decide())) == 1
    assert said(story.apply(PodGone(*story.now, small.uid)).decide()) == []
    assert story.scheduler.overcommitted_nodes == 0
    again = make_pod("again", cpu="200m", node="n")
    assert len(said(story.pods(again).decide())) == 1
    story.pods(msgspec.structs.replace(again, charge=make_pod(cpu="100m").spec.requests)).decide()
    assert story.scheduler.overcommitted_nodes == 0


def test_a_node_that_shrinks_and_one_with_too_many_pods() -> None:
    story = Story().nodes(make_node("a", cpu="2"), make_node("b", pods=1))
    story.pods(make_pod(cpu="2", node="a"), make_pod(node="b"))
    assert said(story.decide()) == []
    story.nodes(make_node("a", cpu="1")).pods(make_pod(node="b"))
    assert said(story.decide()) == [("a", (("cpu", 2000, 1000),)), ("b", (("pods", 2, 1),))]


def test_what_changes_within_one_batch_is_looked_at_at_its_end() -> None:
    story = Story().nodes(make_node("n", cpu="1"))
    old, new = make_pod("old", cpu="1", node="n"), make_pod("new", cpu="1", node="n")
    story.pods(old).decide()
    assert said(story.apply(PodChanged(*story.now, new), PodGone(*story.now, old.uid)).decide()) == []


def test_a_resource_that_the_node_does_not_offer_is_not_meant() -> None:
    story = Story().nodes(make_node("n"))
    assert said(story.pods(make_pod(node="n", scalars={"example.com_x": 1})).decide()) == []


def test_a_node_that_goes_and_comes_back_is_a_new_one() -> None:
    story = Story().nodes(make_node("n", cpu="1")).pods(make_pod(cpu="2", node="n"))
    assert len(said(story.decide())) == 1
    story.apply(NodeGone(*story.now, NodeName("n"))).decide()
    assert story.scheduler.overcommitted_nodes == 0
    assert len(said(story.apply(NodeChanged(*story.now, make_node("n", cpu="1"))).decide())) == 1
