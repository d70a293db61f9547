"""What profiles make of the default plugins, and several of them in one scheduler."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from builders import Story, make_node, make_pod
from carbon_scheduler.core.decision import Bind, Unschedulable
from carbon_scheduler.core.events import PodChanged
from carbon_scheduler.core.model import NodeSelectorTerm, PreferredTerm, Requirement, Taint
from carbon_scheduler.core.plugins import default_profile, make_profile
from carbon_scheduler.core.plugins.profiles import IMPLEMENTS, MULTI_POINT, enabled, problems
from carbon_scheduler.core.settings import AddedAffinity, FitArgs, PluginSet, Profile, Settings

DEFAULT = enabled(Profile())


def profile(**points: PluginSet) -> Profile:
    return Profile(plugins=points)


def on(*names: str | tuple[str, int], off: tuple[str, ...] = ()) -> PluginSet:
    return PluginSet(tuple((name, 0) if isinstance(name, str) else name for name in names), off)


def filters_of(made: Profile) -> tuple[str, ...]:
    assert not problems(made)
    return enabled(made).filters


def weights_of(made: Profile) -> dict[str, int]:
    assert not problems(made)
    return enabled(made).scores


def test_the_default_profile_is_upstreams() -> None:
    assert DEFAULT.scores == {
        "TaintToleration": 3, "NodeAffinity": 2, "NodeResourcesFit": 1, "VolumeBinding": 1, "PodTopologySpread": 2,
        "InterPodAffinity": 2, "DynamicResources": 2, "NodeResourcesBalancedAllocation": 1, "ImageLocality": 1,
    }  # fmt: skip
    assert DEFAULT.filters == tuple(name for name, points in IMPLEMENTS.items() if "filter" in points)
    assert DEFAULT.preempts
    assert [plugin.name for plugin in default_profile()] == [
        name
        for name in (*DEFAULT.filters, "NodeResourcesBalancedAllocation", "ImageLocality")
        if name != "DynamicResources"
    ]


BARE = ("SchedulingGates", "PrioritySort", "DefaultBinder")
NAME, TAINT, PORTS = "NodeName", "TaintToleration", "NodePorts"
FILTERS: dict[str, tuple[Profile, tuple[str, ...]]] = {
    "one is off": (profile(multiPoint=on(off=(PORTS,))), tuple(n for n in DEFAULT.filters if n != PORTS)),
    "only what is named, in that order": (profile(multiPoint=on(*BARE, PORTS, NAME, off=("*",))), (PORTS, NAME)),
    "off as a filter alone": (
        profile(filter=on(off=(TAINT,))),
        tuple(n for n in DEFAULT.filters if n != TAINT),
    ),
    "a filter named for itself comes first": (
        profile(filter=on(PORTS), preFilter=on(PORTS)),
        (PORTS, *(n for n in DEFAULT.filters if n != PORTS)),
    ),
    "named again in multiPoint it keeps its place": (profile(multiPoint=on((TAINT, 9))), DEFAULT.filters),
    "off in multiPoint, on for the filter alone: last": (
        profile(multiPoint=on(off=(NAME,)), filter=on(NAME)),
        (*(n for n in DEFAULT.filters if n != NAME), NAME),
    ),
    "all filters off but one": (
        profile(
            filter=on(NAME, off=("*",)), preFilter=on(off=("*",)), reserve=on(off=("*",)), preBind=on(off=("*",))
        ),
        (NAME,),
    ),
}  # fmt: skip


@pytest.mark.parametrize("sentence", FILTERS)
def test_filters(sentence: str) -> None:
    made, want = FILTERS[sentence]
    assert filters_of(made) == want


SCORES: dict[str, tuple[Profile, dict[str, int]]] = {
    "another weight": (profile(score=on((TAINT, 7))), {**DEFAULT.scores, TAINT: 7}),
    "another weight in multiPoint": (profile(multiPoint=on((TAINT, 7))), {**DEFAULT.scores, TAINT: 7}),
    "of both the one for the score counts": (profile(multiPoint=on((TAINT, 7)), score=on((TAINT, 8))), {**DEFAULT.scores, TAINT: 8}),
    "no weight is 1, not the usual one": (profile(multiPoint=on(TAINT)), {**DEFAULT.scores, TAINT: 1}),
    "one is off": (profile(score=on(off=(TAINT,))), {n: w for n, w in DEFAULT.scores.items() if n != TAINT}),
    "all off but one": (profile(score=on((TAINT, 2), off=("*",))), {TAINT: 2}),
    "off and named again in the same place: named": (profile(score=on((TAINT, 2), off=(TAINT,))), {**DEFAULT.scores, TAINT: 2}),
}  # fmt: skip


@pytest.mark.parametrize("sentence", SCORES)
def test_scores(sentence: str) -> None:
    made, want = SCORES[sentence]
    assert weights_of(made) == want


REFUSED: dict[str, tuple[Profile, str]] = {
    "a plugin that does not exist": (profile(score=on("Foo")), "plugins.score.enabled[0].name"),
    "one that does not exist is off": (profile(score=on(off=("Foo",))), "plugins.score.disabled[0].name"),
    "a point that does not exist": (profile(scores=on(TAINT)), "plugins.scores"),
    "a plugin in a point that it has not": (profile(score=on(NAME)), "plugins.score.enabled[0]"),
    "a plugin twice": (profile(score=on(TAINT, TAINT)), "plugins.score.enabled[1]"),
    "a weight below 0": (profile(score=on((TAINT, -1))), "plugins.score.enabled[0].weight"),
    "no order of the queue": (profile(queueSort=on(off=("*",))), "plugins.queueSort"),
    "nobody who binds": (profile(multiPoint=on(off=("DefaultBinder",))), "plugins.bind"),
    "gates are not heeded": (profile(multiPoint=on(off=("SchedulingGates",))), "plugins.preEnqueue"),
    "half of a filter": (profile(preFilter=on(off=(PORTS,))), "plugins"),
    "a score without what it prepares": (profile(preScore=on(off=(TAINT,))), "plugins"),
    "pods that preempt and do not wait for it": (profile(preEnqueue=on(off=("DefaultPreemption",))), "plugins"),
    "volumes that are chosen and not bound": (profile(preBind=on(off=("VolumeBinding",))), "plugins"),
    "filters in two orders": (profile(preFilter=on(PORTS, "NodeAffinity"), filter=on("NodeAffinity", PORTS)), "plugins.preFilter"),
}  # fmt: skip


@pytest.mark.parametrize("sentence", REFUSED)
def test_what_cannot_be_served_is_named(sentence: str) -> None:
    made, path = REFUSED[sentence]
    assert [found.path for found in problems(made)] == [path]


def test_all_problems_of_a_profile_are_named() -> None:
    made = profile(score=on("Foo", NAME), queueSort=on(off=("*",)), permit=on(TAINT))
    assert [found.path for found in problems(made)] == [
        "plugins.score.enabled[0].name",
        "plugins.score.enabled[1]",
        "plugins.permit.enabled[0]",
        "plugins.queueSort",
    ]


def test_disabling_what_upstream_has_off_by_default_is_nothing() -> None:
    assert filters_of(profile(multiPoint=on(off=("GangScheduling",)))) == DEFAULT.filters


def test_preemption_off() -> None:
    assert not enabled(profile(multiPoint=on(off=("DefaultPreemption",)))).preempts
    off = on(off=("DefaultPreemption",))
    for points in ({"postFilter": off}, {"postFilter": off, "preEnqueue": off}):
        assert not problems(profile(**points))
        assert not enabled(profile(**points)).preempts


# -- plugins of a profile at work

TAINTED = make_node("tainted", taints=(Taint("k", "", "NoSchedule"), Taint("k", "", "PreferNoSchedule")))


def pods_of(story: Story, *names: str, **fields: Any) -> list[Any]:
    for name in names:
        story.pods(make_pod(f"pod-{name}", scheduler=name, **fields))
    return story.decide()


def test_each_name_has_its_own_plugins() -> None:
    strict = Profile("strict")
    lax = Profile("lax", {"filter": on(off=(TAINT,))})
    story = Story(Settings(profiles=(strict, lax))).nodes(TAINTED)
    by_pod = {
        effect.name: effect for effect in pods_of(story, "strict", "lax", "other") if hasattr(effect, "scheduler_name")
    }
    assert isinstance(by_pod["pod-strict"], Unschedulable)
    assert by_pod["pod-strict"].scheduler_name == "strict"
    assert isinstance(by_pod["pod-lax"], Bind)
    assert by_pod["pod-lax"].scheduler_name == "lax"
    assert "pod-other" not in by_pod


def test_pods_of_all_names_share_the_room_and_the_queue() -> None:
    story = Story(Settings(profiles=(Profile("a"), Profile("b")))).nodes(make_node("n", cpu="1"))
    story.pods(make_pod("low", scheduler="a", cpu="1"), make_pod("high", scheduler="b", cpu="1", priority=5))
    found = {effect.name: type(effect) for effect in story.decide() if isinstance(effect, (Bind, Unschedulable))}
    assert found == {"high": Bind, "low": Unschedulable}


def test_a_pod_is_woken_by_the_plugins_of_its_profile() -> None:
    """Both wait for an affinity; only one profile wants the label `green` beside it."""
    wanted = AddedAffinity((NodeSelectorTerm((Requirement("green", "Exists"),)),))
    spec = {"node_selector": (("disk", "ssd"),)}
    story = Story(Settings(profiles=(Profile("any"), Profile("green", added_affinity=wanted))))
    story.nodes(make_node("n"))
    pods_of(story, "any", "green", spec=spec)
    story.wait(60).nodes(make_node("n", labels={"disk": "ssd"}))
    found = {effect.name: effect for effect in story.decide() if isinstance(effect, (Bind, Unschedulable))}
    assert list(found) == ["pod-any"]
    story.wait(60).nodes(make_node("m", labels={"disk": "ssd", "green": ""}))
    (bound,) = (effect for effect in story.decide() if isinstance(effect, Bind))
    assert (bound.name, bound.node) == ("pod-green", "m")


def test_what_a_profile_enforces_is_said_before_what_the_pod_wants() -> None:
    wanted = AddedAffinity((NodeSelectorTerm((Requirement("green", "Exists"),)),))
    story = Story(Settings(profiles=(Profile("green", added_affinity=wanted),))).nodes(make_node("n"))
    (said,) = (
        e for e in pods_of(story, "green", spec={"node_selector": (("disk", "ssd"),)}) if isinstance(e, Unschedulable)
    )
    assert said.message.startswith("0/1 nodes are available: 1 node(s) didn't match scheduler-enforced node affinity.")


def test_strategy_and_added_preference_decide() -> None:
    near = PreferredTerm(1, NodeSelectorTerm((Requirement("near", "Exists"),)))
    packing = Profile("packing", fit=FitArgs("MostAllocated"), policy="off")
    spreading = Profile("spreading", policy="off")
    nearby = Profile("nearby", added_affinity=AddedAffinity(preferred=(near,)), policy="off")
    story = Story(Settings(profiles=(packing, spreading, nearby)))
    story.nodes(make_node("empty"), make_node("used"), make_node("near", cpu="3", labels={"near": ""}))
    story.pods(
        make_pod("there", node="used", cpu="2", memory="8Gi"), make_pod("too", node="near", cpu="2", memory="9Gi")
    )
    found = {
        e.name: e.node
        for e in pods_of(story, "packing", "spreading", "nearby", cpu="1m", memory="1")
        if isinstance(e, Bind)
    }
    assert found == {"pod-packing": "near", "pod-spreading": "empty", "pod-nearby": "near"}


def test_the_policy_is_the_profiles_unless_the_pod_says_another() -> None:
    green, blind = Profile("green"), Profile("blind", policy="off")
    story = Story(Settings(profiles=(green, blind)))
    story.nodes(make_node("dirty", zone="PL"), make_node("clean", cpu="2", zone="FR")).carbon(PL=700, FR=50)
    asks = {"cpu": "1", "memory": "1Gi"}
    found = {e.name: e.decision for e in pods_of(story, "green", "blind", **asks) if isinstance(e, Bind)}
    assert (found["pod-green"].node, found["pod-green"].policy) == ("clean", "carbon-first")
    assert (found["pod-blind"].node, found["pod-blind"].policy) == ("dirty", "off")
    own = make_pod("own", scheduler="blind", annotations=(("carbon-scheduler.io/placement", "carbon-first"),))
    (bound,) = (e for e in story.pods(own).decide() if isinstance(e, Bind))
    assert bound.node == "clean"


def test_gated_pods_of_every_name_are_counted() -> None:
    story = Story(Settings(profiles=(Profile("a"), Profile("b"))))
    for name in "abc":
        story.apply(PodChanged(*story.now, make_pod(f"p-{name}", scheduler=name, gated=True)))
    assert story.scheduler.counts()["gated"] == 2


PARTS: dict[str, tuple[dict[str, PluginSet], bool, bool]] = {
    "whole": ({}, True, True),
    "filter alone": ({"score": on(off=("NodeAffinity",))}, True, False),
    "score alone": ({"filter": on(off=("NodeAffinity",)), "preFilter": on(off=("NodeAffinity",))}, False, True),
    "nothing": ({MULTI_POINT: on(off=("NodeAffinity",))}, False, False),
}


@pytest.mark.parametrize("sentence", PARTS)
def test_a_part_of_a_plugin(sentence: str) -> None:
    """The pod wants one node by name, another for its label, and has a term on which no two agree."""
    points, filters, scores = PARTS[sentence]
    pinned = NodeSelectorTerm(fields=(Requirement("metadata.name", "In", ("a",)),))
    liked = PreferredTerm(100, NodeSelectorTerm((Requirement("liked", "Exists"),)))
    spec = {"required_affinity": (pinned,), "preferred_affinity": (liked,)}
    story = Story(Settings(profiles=(Profile("p", points, policy="off"),)))
    story.nodes(make_node("a"), make_node("b", labels={"liked": ""}), make_node("c", cpu="64", memory="256Gi"))
    (bound,) = (e for e in pods_of(story, "p", cpu="1", memory="1Gi", spec=spec) if isinstance(e, Bind))
    assert bound.node == ("a" if filters else "b" if scores else "c")
    assert bound.decision.feasible == (1 if filters else 3)


def test_a_preferred_term_that_cannot_be_read_ends_the_attempt_while_it_is_prepared() -> None:
    """Also where its score is off: upstream's PreScore fails."""
    wrong = PreferredTerm(1, NodeSelectorTerm((Requirement("size", "Gt", ("x",)),)))
    spec = {"preferred_affinity": (wrong,)}
    off = on(off=("NodeAffinity",))
    for points, fails in (({"score": off}, True), ({"score": off, "preScore": off}, False)):
        story = Story(Settings(profiles=(Profile("p", points),))).nodes(make_node("a"), make_node("b"))
        found = [e for e in pods_of(story, "p", spec=spec) if isinstance(e, (Bind, Unschedulable))]
        assert [isinstance(e, Unschedulable) for e in found] == [fails]


def test_profiles_go_through_a_trace() -> None:
    full = Profile(
        "p",
        {"score": on((TAINT, 3), off=("*",))},
        FitArgs("RequestedToCapacityRatio", shape=((0, 0), (100, 10))),
        added_affinity=AddedAffinity((NodeSelectorTerm((Requirement("a", "Exists"),)),)),
        policy="weighted",
    )
    settings = Settings(profiles=(full, Profile("q")))
    assert msgspec.json.decode(msgspec.json.encode(settings), type=Settings) == settings
    assert [p.name for p in make_profile(full)] == [n for n in (*DEFAULT.filters,) if n != "DynamicResources"]
