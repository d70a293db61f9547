"""Affinity between pods: single rules in words, and whole clusters against the plain computation."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from builders import make_node, make_pod
from carbon_scheduler.core import peers, snapshot
from carbon_scheduler.core.cluster import Cluster
from carbon_scheduler.core.model import (
    Namespace,
    NodeName,
    Pod,
    PodSpec,
    PodTerm,
    PodUid,
    Requirement,
    Selector,
    WeightedPodTerm,
)
from carbon_scheduler.core.plugin import ALL, UNRESOLVABLE, Change, Rejected
from carbon_scheduler.core.plugins import domains, inter_pod_affinity
from carbon_scheduler.core.plugins.inter_pod_affinity import InterPodAffinity
from carbon_scheduler.providers.tables import grid_zones
from core.plain_affinity import FAR, NEAR, THEIRS, Plain

if TYPE_CHECKING:
    from collections.abc import Sequence

HOST: Final = "kubernetes.io/hostname"
ANY: Selector = ()


def has(key: str, *values: str) -> Selector:
    return (Requirement(key, "In", values),)


def lacks(key: str, *values: str) -> Selector:
    return (Requirement(key, "NotIn", values) if values else Requirement(key, "DoesNotExist"),)


def term(selector: Selector, key: str = "zone", *namespaces: str, of: Selector = None) -> PodTerm:
    """A term as it is converted: with the namespace "default", as its pod's own, when it says nothing of namespaces."""
    return PodTerm(key, selector, namespaces or (("default",) if of is None else ()), of)


def near(*terms: PodTerm) -> dict[str, Any]:
    return {"required_pod_affinity": terms}


def far(*terms: PodTerm) -> dict[str, Any]:
    return {"required_pod_anti_affinity": terms}


def likes(weight: int, found: PodTerm) -> dict[str, Any]:
    return {"preferred_pod_affinity": (WeightedPodTerm(weight, found),)}


def dislikes(weight: int, found: PodTerm) -> dict[str, Any]:
    return {"preferred_pod_anti_affinity": (WeightedPodTerm(weight, found),)}


def shape(app: str = "", namespace: str = "default", **fields: Any) -> PodSpec:
    return PodSpec(namespace=namespace, labels=(("app", app),) if app else (), **fields)


def run(spec: PodSpec, node: str | None = None, **fields: Any) -> Pod:
    pod: Pod = msgspec.structs.replace(make_pod(node=node, namespace=spec.namespace, **fields), spec=spec)
    return pod


def cluster(nodes: dict[str, str], *pods: Pod, namespaces: dict[str, dict[str, str]] | None = None) -> Cluster:
    """`nodes`: name -> its label zone, "" without."""
    made = Cluster(grid_zones(), None)
    for name, labels in (namespaces or {}).items():
        made.put_namespace(Namespace(name, labels))
    for name, zone in nodes.items():
        made.put_node(make_node(name, labels={"zone": zone} if zone else {}))
    for pod in pods:
        made.put_pod(pod)
    return made


def rejections(plugin: InterPodAffinity, found: Cluster, pod: Pod) -> dict[str, str] | None:
    """node -> reason, "" where it fits; None when the plugin does not filter."""
    state = plugin.prepare(pod, found.snap)
    assert not isinstance(state, Rejected)
    if not state.filters:
        return None
    codes = state.reject(found.snap, ALL)
    told: dict[str, str] = {}
    for name, slot in found.snap.slot_of.items():
        code = int(codes[slot])
        (told[name],) = [text for bit, text in enumerate(state.reasons) if code >> bit & 1] or [""]
        assert bool(code >> 63) == (told[name] == NEAR)
        assert state.reject(found.snap, np.array([slot], np.intp)).tolist() == [code]
        assert bool(state.fits(found.snap, ALL)[slot]) == (told[name] == "")
    return told


def scores(
    plugin: InterPodAffinity, found: Cluster, pod: Pod, names: Sequence[str] | None = None
) -> dict[str, int] | None:
    state = plugin.prepare(pod, found.snap)
    assert not isinstance(state, Rejected)
    if not state.scores:
        return None
    chosen = [name for name in found.snap.slot_of if names is None or name in names]
    slots = np.array([found.snap.slot_of[name] for name in chosen], np.intp)
    told: list[int] = state.normalise(state.score(found.snap, slots)).tolist()
    feasible = np.zeros(found.snap.capacity, np.bool_)
    feasible[slots] = True
    assert state.score_all(found.snap, feasible)[slots].tolist() == told
    return dict(zip(chosen, told, strict=True))


# -- filter --------------------------------------------------------------------------------------------------------------

TWO_ZONES = {"a1": "a", "a2": "a", "b1": "b", "bare": ""}
WEB, DB = run(shape("web"), "a1"), run(shape("db"), "b1")
SPEAKER = run(shape("db", **far(term(has("app", "web")))), "a1")
ELSEWHERE = run(shape("web", "other"), "a1")
LABELLED = {"default": {"team": "x"}, "other": {"team": "y"}}

FILTERS: dict[str, tuple[PodSpec, tuple[Pod, ...], dict[str, str] | None]] = {
    "affinity allows the whole domain of a pod it speaks of": (
        shape(**near(term(has("app", "web")))),
        (WEB,),
        {"a1": "", "a2": "", "b1": NEAR, "bare": NEAR},
    ),
    "affinity to nobody, and not to itself": (
        shape(**near(term(has("app", "web")))),
        (),
        {"a1": NEAR, "a2": NEAR, "b1": NEAR, "bare": NEAR},
    ),
    "the first of a group that is near to itself may start where the label is": (
        shape("web", **near(term(has("app", "web")))),
        (DB,),
        {"a1": "", "a2": "", "b1": "", "bare": NEAR},
    ),
    "the first of a group may not start beside none of its own that runs on a node without the label": (
        shape("web", **near(term(has("app", "web")))),
        (run(shape("web"), "bare"),),
        {"a1": "", "a2": "", "b1": "", "bare": NEAR},
    ),
    "one that is being deleted counts": (
        shape("web", **near(term(has("app", "web")))),
        (run(shape("web"), "a1", terminating=True),),
        {"a1": "", "a2": "", "b1": NEAR, "bare": NEAR},
    ),
    "all terms must match the same pod": (
        shape(**near(term(has("app", "web")), term(has("app", "db")))),
        (WEB, DB),
        {"a1": NEAR, "a2": NEAR, "b1": NEAR, "bare": NEAR},
    ),
    "two keys, each by its own domains": (
        shape(**near(term(has("app", "web")), term(has("app", "web"), HOST))),
        (WEB,),
        {"a1": "", "a2": NEAR, "b1": NEAR, "bare": NEAR},
    ),
    "anti-affinity keeps out of the domain": (
        shape(**far(term(has("app", "web")))),
        (WEB,),
        {"a1": FAR, "a2": FAR, "b1": "", "bare": ""},
    ),
    "anti-affinity terms are judged one by one": (
        shape(**far(term(has("app", "web")), term(has("app", "db"), HOST))),
        (WEB, DB),
        {"a1": FAR, "a2": FAR, "b1": FAR, "bare": ""},
    ),
    "anti-affinity of those that run": (shape("web"), (SPEAKER,), {"a1": THEIRS, "a2": THEIRS, "b1": "", "bare": ""}),
    "anti-affinity of those that run does not speak of this pod": (shape("api"), (SPEAKER,), None),
    "anti-affinity of one on a node without the label": (
        shape("web"),
        (run(shape("db", **far(term(has("app", "web")))), "bare"),),
        None,
    ),
    "the own affinity is told before the own anti-affinity, and that before the others'": (
        shape("web", **near(term(has("app", "db"))), **far(term(has("app", "web"), HOST))),
        (SPEAKER, run(shape("web"), "a2")),
        {"a1": THEIRS, "a2": FAR, "b1": NEAR, "bare": NEAR},
    ),
    "a missing selector matches no pod": (
        shape("web", **near(term(None))),
        (WEB,),
        {"a1": NEAR, "a2": NEAR, "b1": NEAR, "bare": NEAR},
    ),
    "an empty selector matches every pod": (
        shape(**far(term(ANY))),
        (WEB,),
        {"a1": FAR, "a2": FAR, "b1": "", "bare": ""},
    ),
    "the own namespace alone": (shape(**far(term(ANY))), (ELSEWHERE,), {"a1": "", "a2": "", "b1": "", "bare": ""}),
    "namespaces by name": (
        shape(**far(term(ANY, "zone", "other"))),
        (ELSEWHERE, DB),
        {"a1": FAR, "a2": FAR, "b1": "", "bare": ""},
    ),
    "namespaces by their labels": (
        shape(**far(term(ANY, of=has("team", "y")))),
        (ELSEWHERE, DB),
        {"a1": FAR, "a2": FAR, "b1": "", "bare": ""},
    ),
    "namespaces by their labels and by name": (
        shape(**far(term(ANY, "zone", "default", of=has("team", "y")))),
        (ELSEWHERE, DB),
        {"a1": FAR, "a2": FAR, "b1": FAR, "bare": ""},
    ),
    "every namespace": (shape(**far(term(ANY, of=ANY))), (ELSEWHERE,), {"a1": FAR, "a2": FAR, "b1": "", "bare": ""}),
    "by accident every namespace: what matches no labels matches all": (
        shape(**far(term(ANY, of=lacks("team", "y")))),
        (ELSEWHERE,),
        {"a1": FAR, "a2": FAR, "b1": "", "bare": ""},
    ),
    "no such accident in the terms of those that run": (
        shape("web"),
        (run(shape("db", "other", **far(term(has("app", "web"), of=lacks("team", "x")))), "a1"),),
        None,
    ),
    "those that run speak of namespaces by their labels": (
        shape("web"),
        (run(shape("db", "other", **far(term(has("app", "web"), of=has("team", "x")))), "a1"),),
        {"a1": THEIRS, "a2": THEIRS, "b1": "", "bare": ""},
    ),
    "a namespace that nobody knows has no labels": (
        shape("web", "unheard-of"),
        (run(shape("db", **far(term(has("app", "web"), of=lacks("team")))), "a1"),),
        {"a1": THEIRS, "a2": THEIRS, "b1": "", "bare": ""},
    ),
    "a list with a selector that cannot be read is not there": (
        shape("web"),
        (run(shape("db", **far(term(has("app", "web")), term(has("app", "-bad-")))), "a1"),),
        None,
    ),
}


@pytest.mark.parametrize("sentence", FILTERS)
def test_filter(sentence: str) -> None:
    spec, pods, want = FILTERS[sentence]
    assert rejections(InterPodAffinity(), cluster(TWO_ZONES, *pods, namespaces=LABELLED), run(spec)) == want


# -- score ---------------------------------------------------------------------------------------------------------------

SCORES: dict[str, tuple[PodSpec, tuple[Pod, ...], dict[str, int] | None]] = {
    "nobody speaks of anybody": (shape("web"), (WEB,), None),
    "preferred affinity": (
        shape(**likes(5, term(has("app", "web")))),
        (WEB,),
        {"a1": 100, "a2": 100, "b1": 0, "bare": 0},
    ),
    "preferred anti-affinity": (
        shape(**dislikes(5, term(has("app", "web")))),
        (WEB,),
        {"a1": 0, "a2": 0, "b1": 100, "bare": 100},
    ),
    "a preference for somebody who is not there": (shape(**likes(5, term(has("app", "api")))), (WEB,), None),
    "a preference for somebody on a node without the label": (
        shape(**likes(5, term(has("app", "web")))),
        (run(shape("web"), "bare"),),
        None,
    ),
    "preferences that cancel out are scored nevertheless": (
        shape(**likes(5, term(has("app", "web"))), **dislikes(5, term(has("app", "web")))),
        (WEB,),
        {"a1": 0, "a2": 0, "b1": 0, "bare": 0},
    ),
    # 29 of 100: in floats 100 * 0.29 is 28.999...
    "shares in floats, cut off": (
        shape(**likes(29, term(has("app", "web"))), **dislikes(71, term(has("app", "db")))),
        (run(shape("db"), "b1"), run(shape("web"), "a1"), run(shape("x", **likes(29, term(ANY))), "nowhere")),
        {"a1": 100, "a2": 100, "b1": 0, "bare": 71},
    ),
    "required affinity of those that run counts 1 each": (
        shape("web"),
        (
            run(shape("x", **near(term(has("app", "web")))), "a1"),
            run(shape("y", **near(term(has("app", "web")))), "a2"),
            run(shape("z", **near(term(has("app", "web")))), "b1"),
        ),
        {"a1": 100, "a2": 100, "b1": 50, "bare": 0},
    ),
    "preferences of those that run": (
        shape("web"),
        (
            run(shape("x", **likes(30, term(has("app", "web")))), "a1"),
            run(shape("y", **dislikes(10, term(has("app", "web")))), "b1"),
        ),
        {"a1": 100, "a2": 100, "b1": 0, "bare": 25},
    ),
    "the same term twice counts twice": (
        shape("web"),
        (
            run(
                shape("x", preferred_pod_affinity=(WeightedPodTerm(1, term(has("app", "web"))),) * 2),
                "a1",
            ),
            run(shape("y", **likes(4, term(has("app", "web")))), "b1"),
        ),
        {"a1": 50, "a2": 50, "b1": 100, "bare": 0},
    ),
    "several keys add up": (
        shape(
            preferred_pod_affinity=(
                WeightedPodTerm(1, term(has("app", "web"))),
                WeightedPodTerm(3, term(has("app", "web"), HOST)),
            )
        ),
        (WEB,),
        {"a1": 100, "a2": 25, "b1": 0, "bare": 0},
    ),
}


@pytest.mark.parametrize("sentence", SCORES)
def test_score(sentence: str) -> None:
    spec, pods, want = SCORES[sentence]
    assert scores(InterPodAffinity(), cluster(TWO_ZONES, *pods, namespaces=LABELLED), run(spec)) == want


def test_twenty_nine_of_a_hundred_is_twenty_eight() -> None:
    pods = [run(shape("web"), "a1") for _ in range(29)] + [run(shape("web"), "b1") for _ in range(100)]
    found = scores(InterPodAffinity(), cluster(TWO_ZONES, *pods), run(shape(**likes(1, term(has("app", "web"))))))
    assert found == {"a1": 28, "a2": 28, "b1": 100, "bare": 0}


def test_the_weight_of_required_affinity_is_an_argument() -> None:
    pods = (
        run(shape("x", **near(term(has("app", "web")))), "a1"),
        run(shape("y", **likes(10, term(has("app", "web")))), "b1"),
    )
    found = cluster(TWO_ZONES, *pods)
    assert scores(InterPodAffinity(5), found, run(shape("web"))) == {"a1": 50, "a2": 50, "b1": 100, "bare": 0}
    assert scores(InterPodAffinity(0), cluster(TWO_ZONES, pods[0]), run(shape("web"))) is None


def test_preferences_of_others_may_be_ignored_for_pods_without_any() -> None:
    found = cluster(TWO_ZONES, WEB, run(shape("y", **likes(10, term(has("app", "web")))), "b1"))
    ignoring = InterPodAffinity(ignore_preferred_terms_of_existing_pods=True)
    assert scores(ignoring, found, run(shape("web"))) is None
    wishing = run(shape("web", **likes(20, term(has("app", "web")))))
    assert scores(ignoring, found, wishing) == {"a1": 100, "a2": 100, "b1": 50, "bare": 0}


# -- what cannot be read -----------------------------------------------------------------------------------------------------

_WORD = (
    "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must start and end with "
    "an alphanumeric character (e.g. 'MyValue',  or 'my_value',  or '12345', regex used for validation is "
    "'(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')"
)
UNREADABLE: dict[str, tuple[dict[str, Any], str]] = {
    "a bad value": (
        near(term(has("app", "ok", "-bad-"))),
        f'requiredAffinityTerms: values[1][app]: Invalid value: "-bad-": {_WORD}',
    ),
    "a long value": (
        far(term(has("app", "x" * 64))),
        f'requiredAntiAffinityTerms: values[0][app]: Invalid value: "{"x" * 64}": must be no more than 63 bytes',
    ),
    "in a selector of namespaces, of a preferred term": (
        likes(1, term(ANY, of=has("team", "é"))),
        f'preferredAffinityTerms: values[0][team]: Invalid value: "é": {_WORD}',
    ),
    "in two lists": (
        near(term(has("a", "-"))) | dislikes(1, term(has("b", "."))),
        (
            f'[requiredAffinityTerms: values[0][a]: Invalid value: "-": {_WORD}, '
            f'preferredAntiAffinityTerms: values[0][b]: Invalid value: ".": {_WORD}]'
        ),
    ),
    "an operator of node selectors": (
        near(term((Requirement("app", "Gt", ("1",)),))),
        'requiredAffinityTerms: "Gt" is not a valid label selector operator',
    ),
    "In of nothing": (
        near(term(has("app"))),
        "requiredAffinityTerms: values: Invalid value: null: for 'in', 'notin' operators, values set can't be empty",
    ),
}


@pytest.mark.parametrize("sentence", UNREADABLE)
def test_a_pod_with_a_selector_that_cannot_be_read_is_refused_as_a_whole(sentence: str) -> None:
    fields, text = UNREADABLE[sentence]
    plugin, found = InterPodAffinity(), cluster(TWO_ZONES)
    for _ in range(2):
        assert plugin.prepare(run(shape(**fields)), found.snap) == Rejected(UNRESOLVABLE, (f"parsing pod: {text}",))


# -- the arrays against the plain computation ----------------------------------------------------------------------------------

APPS = ("web", "db")
SPACES = ("default", "other", "third")
selectors: st.SearchStrategy[Selector] = st.sampled_from(
    [None, ANY, has("app", "web"), has("app", "db"), has("app", "web", "db"), lacks("app", "web"), lacks("app")]
)
spaces: st.SearchStrategy[Selector] = st.sampled_from(
    [None, None, None, ANY, has("team", "x"), has("team", "x", "y"), lacks("team", "x"), lacks("team")]
)
terms = st.builds(
    lambda selector, key, names, of: PodTerm(key, selector, names or (("default",) if of is None else ()), of),
    selectors,
    st.sampled_from(["zone", "zone", HOST, "rack"]),
    st.sampled_from([(), (), ("default",), ("other",), ("default", "other")]),
    spaces,
)
few = st.lists(terms, max_size=2).map(tuple)
weighted = st.lists(st.builds(WeightedPodTerm, st.integers(1, 100), terms), max_size=2).map(tuple)
shapes = st.builds(
    lambda app, space, *lists: PodSpec(
        namespace=space,
        labels=(("app", app),) if app else (),
        required_pod_affinity=lists[0],
        required_pod_anti_affinity=lists[1],
        preferred_pod_affinity=lists[2],
        preferred_pod_anti_affinity=lists[3],
    ),
    st.sampled_from([*APPS, ""]),
    st.sampled_from(SPACES),
    few,
    few,
    weighted,
    weighted,
)
labels = st.fixed_dictionaries(
    {},
    optional={"zone": st.sampled_from("abc"), "rack": st.sampled_from("12"), HOST: st.sampled_from(["h1", "h2", "h3"])},
)
NODES = [f"n{i}" for i in range(5)]
steps = st.one_of(
    st.tuples(st.just("node"), st.sampled_from(NODES), labels),
    st.tuples(st.just("node gone"), st.sampled_from(NODES)),
    st.tuples(
        st.just("pod"), st.integers(0, 7), st.integers(0, 5), st.sampled_from([*NODES, "nowhere"]), st.booleans()
    ),
    st.tuples(st.just("pod gone"), st.integers(0, 7)),
    st.tuples(st.just("namespace"), st.sampled_from(SPACES), st.sampled_from([{}, {"team": "x"}, {"team": "y"}])),
    st.tuples(st.just("namespace gone"), st.sampled_from(SPACES)),
    st.tuples(st.just("many changes"), st.integers(1, 40)),
)


class Told:
    """A cluster that is told of steps, and a plain account of them."""

    def __init__(self, known: Sequence[PodSpec]) -> None:
        self.cluster = Cluster(grid_zones(), None)
        self.known = known
        self._pods: dict[int, Pod] = {}
        self._uids = 0

    def take(self, step: tuple[Any, ...]) -> None:
        match step:
            case "node", name, found:
                node = make_node(name)
                self.cluster.put_node(msgspec.structs.replace(node, labels=dict(found)))
            case "node gone", name:
                self.cluster.drop_node(NodeName(name))
            case "pod", number, kind, name, terminating:
                self.take(("pod gone", number))
                self._uids += 1
                uid = PodUid(f"{number}/{self._uids}")
                spec = self.known[kind % len(self.known)]
                self._pods[number] = run(spec, name, uid=uid, terminating=terminating)
                self.cluster.put_pod(self._pods[number])
            case "pod gone", number:
                if pod := self._pods.pop(number, None):
                    self.cluster.drop_pod(pod.uid)
            case "namespace", name, found:
                self.cluster.put_namespace(Namespace(name, dict(found)))
            case "namespace gone", name:
                self.cluster.drop_namespace(name)
            case "many changes", times:
                self.take(("pod", 7, 0, NODES[0], False))
                pod = self._pods[7]
                for turn in range(times):
                    self.cluster.put_pod(msgspec.structs.replace(pod, spec=self.known[turn % len(self.known)]))
                self.cluster.put_pod(pod)

    def plain(self, hard: int, *, ignores: bool) -> Plain:
        nodes = [node for node in self.cluster.snap.nodes if node is not None]
        pods = [(str(pod.node_name), pod.spec) for pod in self._pods.values()]
        spaces = {name: found.labels for name, found in self.cluster.namespaces.items()}
        return Plain(nodes, pods, spaces, hard, ignores)


@given(
    st.lists(shapes, min_size=2, max_size=6),
    st.lists(labels, min_size=len(NODES), max_size=len(NODES)),
    st.lists(st.tuples(st.integers(0, 5), st.sampled_from(NODES)), max_size=6),
    st.lists(st.lists(steps, min_size=1, max_size=3), min_size=1, max_size=10),
    st.sampled_from([0, 1, 1, 7]),
    st.sampled_from([False, False, True]),
    st.sampled_from(["wide", "wide", "forgetful", "renumbering"]),
)
@settings(max_examples=300, deadline=None)
def test_arrays_agree_with_the_plain_computation(
    known: list[PodSpec],
    at_first: list[dict[str, str]],
    pods: list[tuple[int, str]],
    story: list[list[tuple[Any, ...]]],
    hard: int,
    ignores: bool,
    sort: str,
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        if sort == "forgetful":
            patch.setattr(inter_pod_affinity, "MAX_SHAPES", 2)
            patch.setattr(domains, "MAX_SUMS", 1)
            patch.setattr(peers, "MAX_COUNTS", 1)
            patch.setattr(peers, "KEPT_CHANGES", 2)
            patch.setattr(domains, "KEPT_CHANGES", 2)
        elif sort == "renumbering":
            patch.setattr(snapshot, "MAX_LABEL_COLUMNS", 1)
        told, plugin = Told(known), InterPodAffinity(hard, ignore_preferred_terms_of_existing_pods=ignores)
        begun = [("node", name, found) for name, found in zip(NODES, at_first, strict=True)]
        begun += [("pod", number, kind, name, False) for number, (kind, name) in enumerate(pods)]
        for some in (begun, *story):
            for step in some:
                told.take(step)
            for spec in known[:3]:
                want, pod = told.plain(hard, ignores=ignores), run(spec)
                fits = want.rejections(spec)
                assert rejections(plugin, told.cluster, pod) == fits
                feasible = [node.name for node in want.nodes if not (fits or {}).get(node.name)]
                assert scores(plugin, told.cluster, pod, feasible) == want.scores(spec, feasible)
        told.cluster.debug_check()


CHANGES: dict[str, tuple[PodSpec, list[tuple[Any, ...]]]] = {
    "the first pod of a big domain": (shape(**far(term(has("app", "web")))), [("pod", 0, 1, "n1", False)]),
    "the last pod of a big domain": (
        shape(**far(term(has("app", "web")))),
        [("pod", 0, 1, "n1", False), ("pod gone", 0)],
    ),
    "a node with the only pod leaves its domain": (
        shape(**far(term(has("app", "web")))),
        [("pod", 0, 1, "n1", False), ("node", "n1", {"zone": "b"})],
    ),
    "a node without pods comes into a domain with some": (
        shape(**far(term(has("app", "web")))),
        [("pod", 0, 1, "n1", False), ("node", "n2", {"zone": "b"}), ("node", "n2", {"zone": "a"})],
    ),
    "a node without the label gets it": (
        shape(**near(term(has("app", "web")))),
        [("pod", 0, 1, "n1", False), ("node", "n2", {}), ("node", "n2", {"zone": "a"})],
    ),
    "somebody of the group elsewhere ends the exception for the first": (
        shape("web", **near(term(has("app", "web")))),
        [("node", "n5", {"zone": "z"}), ("pod", 0, 1, "n5", False), ("pod gone", 0)],
    ),
    "a namespace gets the labels that are asked for": (
        shape(**far(term(ANY, of=has("team", "x")))),
        [("pod", 0, 1, "n1", False), ("namespace", "default", {"team": "x"}), ("namespace", "default", {})],
    ),
    "a namespace of nobody changes": (
        shape(**far(term(ANY, of=has("team", "x")))),
        [("pod", 0, 2, "n1", False), ("namespace", "other", {"team": "x"}), ("namespace gone", "other")],
    ),
}


@pytest.mark.parametrize("sentence", CHANGES)
def test_changes_are_seen(sentence: str) -> None:
    spec, changes = CHANGES[sentence]
    told, plugin = Told([spec, shape("web"), shape("web", "other")]), InterPodAffinity()
    for step in [*(("node", name, {"zone": "a", HOST: name}) for name in NODES), *changes]:
        told.take(step)
        want = told.plain(1, ignores=False)
        assert rejections(plugin, told.cluster, run(spec)) == want.rejections(spec)


def test_a_hostname_column_with_values_of_nodes_long_gone_is_made_anew() -> None:
    plugin, found = InterPodAffinity(), cluster({"first": "", "a": "a"}, run(shape("web"), "a"))
    pod = run(shape("web", **far(term(has("app", "web"), HOST))))
    assert rejections(plugin, found, pod) == {"first": "", "a": FAR}
    found.drop_node(NodeName("first"))
    for number in range(3000):
        name = NodeName(f"n{number}")
        found.put_node(make_node(name))
        assert number % 50 or rejections(plugin, found, pod) == {"a": FAR, name: ""}
        found.drop_node(name)
    column = found.snap.label(HOST)
    assert len(column.values) < 2000
    assert sum(column.members) == 1


def test_more_labels_than_may_have_a_column(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(snapshot, "MAX_LABEL_COLUMNS", 1)
    plugin, found = InterPodAffinity(), cluster({"bare": "", "b1": "b", "a1": "a"}, WEB)
    wishes = (term(has("app", "web")), term(has("app", "web"), HOST), term(ANY))
    pod = run(shape(preferred_pod_affinity=tuple(WeightedPodTerm(1, wish) for wish in wishes)))
    assert scores(plugin, found, pod) == {"bare": 0, "b1": 0, "a1": 100}
    found.drop_node(NodeName("bare"))
    found.put_node(make_node("b1", labels={"zone": "a"}))
    assert scores(plugin, found, pod) == {"b1": 0, "a1": 100}
    found.put_node(make_node("c1", labels={"zone": "c"}))
    assert scores(plugin, found, pod) == {"b1": 66, "a1": 100, "c1": 0}


def test_an_answer_is_not_changed_by_the_next_question() -> None:
    plugin, found = InterPodAffinity(), cluster(TWO_ZONES, WEB)
    pod = run(shape("web", **far(term(has("app", "web"), HOST))))
    state = plugin.prepare(pod, found.snap)
    assert not isinstance(state, Rejected)
    before = state.reject(found.snap, ALL)
    kept = before.copy()
    found.put_pod(run(shape("web"), "b1"))
    assert rejections(plugin, found, pod) == {"a1": FAR, "a2": "", "b1": FAR, "bare": ""}
    assert (before == kept).all()


def test_a_state_goes_on_filtering_nothing_when_it_was_prepared_so() -> None:
    """Upstream's Skip holds for the whole attempt, whatever pods are tried on nodes later."""
    plugin, found = InterPodAffinity(), cluster(TWO_ZONES, run(shape("x", **likes(1, term(ANY))), "a1"))
    pod = run(shape("web"))
    state = plugin.prepare(pod, found.snap)
    found.put_pod(SPEAKER)
    assert rejections(plugin, found, pod) is not None
    assert not isinstance(state, Rejected)
    assert (state.filters, state.scores) == (False, True)


def test_a_score_is_of_now_although_others_were_tried_on_nodes_in_between() -> None:
    plugin, found = InterPodAffinity(), cluster(TWO_ZONES, run(shape("x", **likes(1, term(ANY))), "a1"))
    state = plugin.prepare(run(shape("web")), found.snap)
    assert not isinstance(state, Rejected)
    tried, slot = run(shape("y", **likes(90, term(ANY)))), found.snap.slot_of[NodeName("b1")]
    found.snap.charge(slot, tried, 1)
    plugin.prepare(run(shape("web")), found.snap)
    found.snap.charge(slot, tried, -1)
    assert state.score(found.snap, np.array([slot], np.intp)).tolist() == [0]


# -- hints ---------------------------------------------------------------------------------------------------------------

BARE = make_node("n", labels={})
IN_A, IN_B = make_node("n", labels={"zone": "a"}), make_node("n", labels={"zone": "b"})
NEAR_WEB, FAR_WEB = shape("api", **near(term(has("app", "web")))), shape("api", **far(term(has("app", "web"))))
BY_TEAM = shape("api", **near(term(has("app", "web"), of=has("team", "x"))))
BY_NO_TEAM = shape("api", **near(term(has("app", "web"), of=lacks("team"))))
BAD = shape("api", **near(term(has("app", "-bad-"))))

HINTS: dict[str, tuple[PodSpec, Change, bool]] = {
    "a new node with the key of affinity": (NEAR_WEB, Change("node", node=IN_A), True),
    "a new node without it": (NEAR_WEB, Change("node", node=BARE), False),
    "a node gets the key": (NEAR_WEB, Change("node", node_before=BARE, node=IN_A), True),
    "a node loses the key": (NEAR_WEB, Change("node", node_before=IN_A, node=BARE), False),
    "a node changes its domain": (NEAR_WEB, Change("node", node_before=IN_A, node=IN_B), True),
    "a node stays in its domain": (NEAR_WEB, Change("node", node_before=IN_A, node=IN_A), False),
    "a new node, for anti-affinity": (FAR_WEB, Change("node", node=BARE), True),
    "a node gets the key of anti-affinity": (FAR_WEB, Change("node", node_before=BARE, node=IN_A), False),
    "a node loses the key of anti-affinity": (FAR_WEB, Change("node", node_before=IN_A, node=BARE), True),
    "a node changes its domain of anti-affinity": (FAR_WEB, Change("node", node_before=IN_A, node=IN_B), True),
    "a new node, for a pod without terms": (shape("web"), Change("node", node=IN_A), False),
    "a pod that affinity asks for": (NEAR_WEB, Change("pod-placed", pod=WEB), True),
    "another pod": (NEAR_WEB, Change("pod-placed", pod=DB), False),
    "a pod came that anti-affinity avoids": (FAR_WEB, Change("pod-placed", pod=WEB), False),
    "a pod in a namespace that is selected by its labels is overlooked": (
        BY_TEAM,
        Change("pod-placed", pod=WEB),
        False,
    ),
    "unless no labels at all would do": (BY_NO_TEAM, Change("pod-placed", pod=WEB), True),
    "a pod that anti-affinity avoids went": (FAR_WEB, Change("pod-gone", pod=WEB), True),
    "a pod that affinity asks for went": (NEAR_WEB, Change("pod-gone", pod=WEB), False),
    "a pod went whose anti-affinity spoke of this one": (shape("web"), Change("pod-gone", pod=SPEAKER), True),
    "a pod went whose anti-affinity spoke of others": (shape("api"), Change("pod-gone", pod=SPEAKER), False),
    "a pod went, one of whose two anti-affinity terms spoke of this one": (
        shape("web"),
        Change("pod-gone", pod=run(shape("db", **far(term(has("app", "web")), term(has("app", "api")))))),
        False,
    ),
    "a pod went whose terms cannot be read": (
        shape("web"),
        Change("pod-gone", pod=run(shape("db", **far(term(has("app", "-bad-")))))),
        True,
    ),
    "a pod got the labels that affinity asks for": (NEAR_WEB, Change("pod-labels", pod_before=DB, pod=WEB), True),
    "a pod lost them": (NEAR_WEB, Change("pod-labels", pod_before=WEB, pod=DB), False),
    "a pod lost the labels that anti-affinity avoids": (
        FAR_WEB,
        Change("pod-labels", pod_before=WEB, pod=DB),
        True,
    ),
    "a pod got them": (FAR_WEB, Change("pod-labels", pod_before=DB, pod=WEB), False),
    "its own labels changed": (FAR_WEB, Change("self", pod_before=run(shape("x")), pod=run(FAR_WEB)), True),
    "something else of it changed": (
        FAR_WEB,
        Change("self", pod_before=run(msgspec.structs.replace(FAR_WEB, priority=1)), pod=run(FAR_WEB)),
        False,
    ),
    "terms that cannot be read": (BAD, Change("pod-placed", pod=DB), True),
}


@pytest.mark.parametrize("sentence", HINTS)
def test_hints(sentence: str) -> None:
    spec, change, want = HINTS[sentence]
    plugin = InterPodAffinity()
    assert change.topic in plugin.hears
    for _ in range(2):
        assert plugin.wakes(run(spec), change, cluster({}).snap) is want


def test_nothing_else_is_heard() -> None:
    assert InterPodAffinity.hears == {"node", "pod-placed", "pod-gone", "pod-labels", "self"}
