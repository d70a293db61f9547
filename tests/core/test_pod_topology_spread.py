"""PodTopologySpread on small clusters; many are the cases of upstream's own tests (v1.36.3 plugins/podtopologyspread/*_test.go).

A cluster is a line: `a@z1:2 b@z1:0 x@-:3` are the nodes a and b in zone z1 and x without a zone, with 2, 0 and 3 pods that have
the label foo. What is wanted of a filter is the nodes that fit; `!x` is one without a label that is asked for.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from builders import make_node, make_pod
from carbon_scheduler.core.framework import Framework
from carbon_scheduler.core.model import (
    Node,
    NodeName,
    NodeSelectorTerm,
    Owner,
    Pod,
    Requirement,
    Selector,
    SpreadConstraint,
    Taint,
    Toleration,
)
from carbon_scheduler.core.objects import AnyObject, Service, Workload
from carbon_scheduler.core.plugin import ALL, Change, Rejected, State
from carbon_scheduler.core.plugins import default_profile, pod_topology_spread
from carbon_scheduler.core.plugins.pod_topology_spread import HOSTNAME, PodTopologySpread
from carbon_scheduler.core.snapshot import Snapshot

ZONE = "topology.kubernetes.io/zone"
FOO: Selector = (Requirement("foo", "Exists"),)
BAR: Selector = (Requirement("bar", "Exists"),)
NOT_B = (NodeSelectorTerm((Requirement(HOSTNAME, "NotIn", ("b",)),)),)


def zone(max_skew: int = 1, selector: Selector = FOO, **fields: Any) -> SpreadConstraint:
    return SpreadConstraint(ZONE, max_skew, selector=selector, **fields)


def host(max_skew: int = 1, selector: Selector = FOO, **fields: Any) -> SpreadConstraint:
    return SpreadConstraint(HOSTNAME, max_skew, selector=selector, **fields)


def soft(of: SpreadConstraint) -> SpreadConstraint:
    return SpreadConstraint(of.topology_key, of.max_skew, hard=False, selector=of.selector, min_domains=of.min_domains)


def pod(*spread: SpreadConstraint, labels: str = "foo", **spec: Any) -> Pod:
    return make_pod("p", spec={"labels": tuple((key, "") for key in labels.split()), "spread": spread, **spec})


def existing(node: str, labels: str = "foo", **fields: Any) -> Pod:
    return make_pod(node=node, spec={"labels": tuple((key, "") for key in labels.split())}, **fields)


def cluster(line: str, *more: Pod, nodes: tuple[Node, ...] = (), objects: tuple[AnyObject, ...] = ()) -> Snapshot:
    snap = Snapshot(capacity=2)
    for part in line.split():
        name, at, count = part.replace(":", "@").split("@")
        snap.put_node(make_node(name, labels={} if at == "-" else {ZONE: at}), None)
        more += tuple(existing(name) for _ in range(int(count)))
    for node in nodes:
        snap.put_node(node, None)
    for other in more:
        assert other.node_name
        snap.charge(snap.slot_of[other.node_name], other, 1)
    for found in objects:
        snap.objects.put(found)
    return snap


def fits(snap: Snapshot, asked: Pod, plugin: PodTopologySpread | None = None) -> str:
    found = Framework((plugin or PodTopologySpread(),), snap).judge(asked).status()
    marks = {"Success": "", "Unschedulable": None, "UnschedulableAndUnresolvable": "!"}
    for code, _, reasons in found.values():
        if code != "Success":
            missing = " (missing required label)" if marks[code] else ""
            assert reasons == (f"node(s) didn't match pod topology spread constraints{missing}",)
    return " ".join(f"{marks[code]}{name}" for name, (code, *_) in found.items() if marks[code] is not None)


def scores(snap: Snapshot, asked: Pod, names: str, plugin: PodTopologySpread | None = None) -> list[int] | None:
    slots = np.array([snap.slot_of[NodeName(name)] for name in names.split()], np.intp)
    found = Framework((plugin or PodTopologySpread(),), snap).judge(asked).scores(slots)
    return found["PodTopologySpread"].tolist() if found else None


FOUR = "a@z1:{} b@z1:{} x@z2:{} y@z2:{}"
FILTER: dict[str, tuple[str, Pod, str]] = {
    "an empty cluster": (FOUR.format(0, 0, 0, 0), pod(zone()), "a b x y"),
    "3/3, all fit": (FOUR.format(2, 1, 0, 3), pod(zone()), "a b x y"),
    "3/4": (FOUR.format(2, 1, 0, 4), pod(zone()), "a b"),
    "a node without the zone is not counted": ("a@z1:1 b@-:1 x@z2:1 y@z2:1", pod(zone()), "a !b"),
    "no node has the label": ("a@-:0 x@-:0", pod(zone()), "!a !x"),
    "2/1/0/3 by host": (FOUR.format(2, 1, 0, 3), pod(host()), "x"),
    "2/1/0/3 by host, skew 2": (FOUR.format(2, 1, 0, 3), pod(host(2)), "b x"),
    "2/1/0/3 by host, and the pod does not match itself": (FOUR.format(2, 1, 0, 3), pod(host(), labels="bar"), "b x"),
    "no selector matches nothing, not even itself": (FOUR.format(0, 0, 5, 0), pod(zone(selector=None)), "a b x y"),
    "an empty selector counts no pod that runs": (FOUR.format(0, 0, 5, 0), pod(zone(selector=())), "a b x y"),
    "... but the pod itself, against a minimum of 0": (
        FOUR.format(0, 0, 0, 0),
        pod(zone(0, selector=(), min_domains=3)),
        "",
    ),
    "2/~1~/~0~/3 by host, where affinity leaves out b and x": (
        FOUR.format(2, 1, 0, 3),
        pod(host(), required_affinity=(NodeSelectorTerm((Requirement(HOSTNAME, "In", ("a", "y")),)),)),
        "a b x",  # b and x are no domains of their own, and NodeAffinity is not asked here
    ),
    "0/~2~/0/1, where affinity leaves out b": (FOUR.format(0, 2, 0, 1), pod(zone(), required_affinity=NOT_B), "a b"),
    "0/2/0/1, affinity ignored": (
        FOUR.format(0, 2, 0, 1),
        pod(zone(honor_affinity=False), required_affinity=NOT_B),
        "x y",
    ),
    "a node selector leaves out as affinity does": (
        FOUR.format(0, 2, 1, 1),
        pod(host(), node_selector=((ZONE, "z2"),)),
        "a b x y",  # x 1 + 1 - 1; the hosts a and b are no domains
    ),
    "terms that contradict each other: no domain at all": (
        "a@z1:5",
        pod(
            zone(),
            required_affinity=(
                NodeSelectorTerm(
                    fields=(Requirement("metadata.name", "In", ("a",)), Requirement("metadata.name", "In", ("b",)))
                ),
            ),
        ),
        "a",
    ),
    "2/2/1, skew 2, fewer domains than wanted: the minimum is 0": (
        "a@-:2 b@-:2 c@-:1",
        pod(host(2, min_domains=4)),
        "c",
    ),
    "2/2/1, skew 2, domains enough": ("a@-:2 b@-:2 c@-:1", pod(host(2, min_domains=3)), "a b c"),
    "3/3 by zone and 2/1/0/3 by host": (FOUR.format(2, 1, 0, 3), pod(zone(), host()), "x"),
    "3/4 by zone and 2/1/0/4 by host": (FOUR.format(2, 1, 0, 4), pod(zone(), host()), ""),
    "what breaks the first constraint is not asked about the second": (
        "a@z1:3 b@z2:0 x@-:0",
        pod(zone(), host()),
        "b !x",
    ),
    "soft constraints do not filter": (FOUR.format(9, 0, 0, 0), pod(soft(zone())), "a b x y"),
}


@pytest.mark.parametrize(("line", "asked", "want"), FILTER.values(), ids=FILTER)
def test_filter(line: str, asked: Pod, want: str) -> None:
    assert fits(cluster(line), asked) == want


def test_pods_of_other_namespaces_and_terminating_ones_do_not_count() -> None:
    there = (existing("a", namespace="other"), existing("a", terminating=True), existing("x"))
    assert fits(cluster(FOUR.format(0, 0, 0, 0), *there), pod(zone())) == "a b"


def test_constraints_with_different_selectors() -> None:
    # by zone foo: 1/0 -> only z2; by host bar: 0/0/1/0 -> not x
    there = (existing("b"), existing("x", "bar"))
    asked = pod(zone(), host(selector=BAR), labels="foo bar")
    assert fits(cluster(FOUR.format(0, 0, 0, 0), *there), asked) == "y"


def test_every_node_counts_only_where_it_has_the_keys_of_all_hard_constraints() -> None:
    nodes = (make_node("r", labels={ZONE: "z3", "rack": "1"}),)
    asked = pod(zone(), SpreadConstraint("rack", 1, selector=FOO))
    # z1 and z2 are no domains, for their nodes have no rack; z3 is the only one, with 0
    assert fits(cluster("a@z1:3 x@z2:0", nodes=nodes), asked) == "!x r".replace("!x", "!a !x")


def test_taints_are_honoured_only_when_asked_to() -> None:
    taint = Taint("t", "", "NoSchedule")
    nodes = (make_node("y", labels={ZONE: "z2"}, taints=(taint,)),)
    line = "a@z1:1"
    for constraint, tolerations, want in (
        (zone(), (), "y"),
        (zone(honor_taints=True), (), "a y"),  # z2 is no domain; y itself is TaintToleration's to reject
        (zone(honor_taints=True), (Toleration("t", "Exists", "", ""),), "y"),
    ):
        assert fits(cluster(line, nodes=nodes), pod(constraint, tolerations=tolerations)) == want


def test_match_label_keys_are_added_to_the_selector() -> None:
    def there(tier: str, node: str) -> Pod:
        return make_pod(node=node, spec={"labels": (("foo", ""), ("tier", tier))})

    snap = cluster("a@z1:0 x@z2:0", there("old", "a"), there("old", "a"), there("new", "x"))
    labels = (("foo", ""), ("tier", "new"))

    def asked(selector: Selector, *keys: str) -> Pod:
        spread = (zone(selector=selector, match_label_keys=keys),)
        return make_pod("p", spec={"labels": labels, "spread": spread})

    assert fits(snap, asked(FOO)) == "x"  # 2/1
    assert fits(snap, asked(FOO, "tier")) == "a"  # 0/1
    assert fits(snap, asked((), "tier")) == "a"
    assert fits(snap, asked(FOO, "missing")) == "x"
    assert fits(snap, asked(None, "tier")) == "a x"  # no selector stays none


def test_a_selector_that_cannot_be_read_ends_the_attempt() -> None:
    bad: Selector = (Requirement("foo", "In", ("-bad-",)),)
    snap = cluster("a@z1:0")
    hard = PodTopologySpread().prepare(pod(zone(selector=bad)), snap)
    assert isinstance(hard, Rejected)
    assert hard.code == "Error"
    assert "-bad-" in hard.reasons[0]
    state = PodTopologySpread().prepare(pod(soft(zone(selector=bad))), snap)
    assert isinstance(state, State)
    assert "-bad-" in state.failure
    assert not state.filters


# ln(n + 2) for n domains, or for n nodes by host
SCORE: dict[str, tuple[str, Pod, str, list[int] | None]] = {
    "no soft constraint": ("a@z1:3 x@z2:0", pod(zone()), "a x", None),
    "nothing there yet": ("a@z1:0 x@z2:0", pod(soft(host())), "a x", [100, 100]),
    "one candidate": ("a@z1:2 x@z2:1", pod(soft(host())), "a", [100]),
    "equal": ("a@z1:1 x@z2:1", pod(soft(host())), "a x", [100, 100]),
    # ln 6 = 1.79: raw 4, 2, 0, 5; 100 * (5 + 0 - raw) / 5
    "2/1/0/3": (FOUR.format(2, 1, 0, 3), pod(soft(host())), "a b x y", [20, 60, 100, 0]),
    # raw 5, 3, 1, 6; 100 * (6 + 1 - raw) / 6
    "2/1/0/3, skew 2": (FOUR.format(2, 1, 0, 3), pod(soft(host(2))), "a b x y", [33, 66, 100, 16]),
    # raw 9, 7, 6, 4; 100 * (9 + 4 - raw) / 9
    "4/3/2/1, skew 3": (FOUR.format(4, 3, 2, 1), pod(soft(host(3))), "a b x y", [44, 66, 77, 100]),
    "no selector": (FOUR.format(2, 1, 0, 3), pod(soft(host(selector=None))), "a b x y", [100, 100, 100, 100]),
    "an empty selector": (FOUR.format(2, 1, 0, 3), pod(soft(host(selector=()))), "a b x y", [100, 100, 100, 100]),
    # ln 5 = 1.61: raw 6, 3, 2; 100 * (6 + 2 - raw) / 6
    "4/2/1/~3~": (FOUR.format(4, 2, 1, 3), pod(soft(host())), "a b x", [33, 83, 100]),
    # ln 4 = 1.39: zone 6 * 1.39 = 8, (1 + 3) * 1.39 = 6; 100 * (8 + 6 - raw) / 8: a node that is no candidate counts in its zone
    "4/2/1/~3~ by zone": (FOUR.format(4, 2, 1, 3), pod(soft(zone())), "a b x", [75, 75, 100]),
    # ln 4: zone 3, 6 and host 2, 2: (3 + 2) * 1.39 = 7, (6 + 2) * 1.39 = 11; 100 * (11 + 7 - raw) / 11
    "2/~1~/2/~4~ by zone and host": (FOUR.format(2, 1, 2, 4), pod(soft(zone()), soft(host())), "a x", [100, 63]),
    "minDomains has no effect": ("a@-:2 b@-:2 c@-:1", pod(soft(host(2, min_domains=10))), "a b c", [75, 75, 100]),
    "a node that lacks a key is left out": ("a@z1:1 b@-:0 x@z2:0", pod(soft(zone())), "a b x", [0, 0, 100]),
    "all are left out": ("a@-:1 b@-:0", pod(soft(zone())), "a b", [0, 0]),
}


@pytest.mark.parametrize(("line", "asked", "names", "want"), SCORE.values(), ids=SCORE)
def test_score(line: str, asked: Pod, names: str, want: list[int] | None) -> None:
    assert scores(cluster(line), asked, names) == want


def test_by_host_the_pods_of_the_node_itself_count_even_if_it_is_not_to_be_counted() -> None:
    taint = Taint("t", "", "PreferNoSchedule")
    assert taint.effect not in ("NoSchedule", "NoExecute")
    asked = pod(SpreadConstraint(HOSTNAME, 1, hard=False, selector=FOO), required_affinity=NOT_B)
    # ln 4: raw 0, 3 (2 * 1.39): b's pods count although affinity leaves b out
    assert scores(cluster("a@z1:0 b@z1:2"), asked, "a b") == [100, 0]


@pytest.mark.parametrize("asked", [pod(soft(zone())), pod(soft(zone()), soft(host(2))), pod(zone(), soft(host()))])
def test_ranks_are_the_totals_less_what_all_nodes_have_alike(asked: Pod) -> None:
    snap = cluster("a@z1:3 b@z1:0 x@z2:1 y@z2:0 w@-:0")
    verdict = Framework(default_profile(), snap).judge(asked)
    slots = np.flatnonzero(verdict.feasible)
    ranked = verdict.ranked()
    assert len(np.unique(verdict.totals(slots) - ranked[slots])) == 1
    assert (ranked[~verdict.feasible] == -1).all()
    assert len(np.unique(ranked[slots])) > 1


SERVICE = Service("default", "s", (("foo", ""),))


def test_system_defaults_spread_by_host_where_there_is_no_zone() -> None:
    # as "4/3/2/1, skew 3": without a zone there is no term for it
    snap = cluster("a@-:4 b@-:3 x@-:2 y@-:1", objects=(SERVICE,))
    assert scores(snap, pod(), "a b x y") == [44, 66, 77, 100]
    assert fits(snap, pod()) == "a b x y"


def test_under_system_defaults_nodes_without_a_zone_are_one_more_zone() -> None:
    snap = cluster("a@z1:1 b@-:1", objects=(SERVICE,))
    # hosts ln 4, zones {z1, none} ln 4: a 1.39 + 2 + 1.39 + 4 = 9, b 1.39 + 2 = 3; 100 * (9 + 3 - raw) / 9
    assert scores(snap, pod(), "a b") == [33, 100]


def test_under_system_defaults_a_missing_zone_is_that_of_the_empty_value() -> None:
    nodes = (make_node("e", labels={ZONE: ""}),)
    snap = cluster("a@z1:0 b@-:3", nodes=nodes, objects=(SERVICE,))
    # hosts ln 5 = 1.61, zones {z1, ""} ln 4 = 1.39, and b's pods count for e: a 2 + 4 = 6, b 4.83 + 2 = 7, e 2 + 4.16 + 4 = 10
    assert scores(snap, pod(), "a b e") == [100, 90, 60]


def selects(kind: Any, selector: Selector) -> Workload:
    return Workload("default", "o", kind, selector)


def owned(version: str, kind: str) -> Owner:
    return Owner(version, kind, "o")


DEFAULTS: dict[str, tuple[tuple[AnyObject, ...], Owner | None, bool]] = {
    "nothing selects the pod": ((), None, False),
    "a Service": ((SERVICE,), None, True),
    "a Service of another namespace": ((Service("other", "s", (("foo", ""),)),), None, False),
    "a Service that does not select it": ((Service("default", "s", (("bar", ""),)),), None, False),
    "a Service without a selector": ((Service("default", "s", None),), None, False),
    "a Service that selects all adds nothing": ((Service("default", "s", ()),), None, False),
    "its ReplicaSet": ((selects("ReplicaSet", FOO),), owned("apps/v1", "ReplicaSet"), True),
    "its StatefulSet": ((selects("StatefulSet", FOO),), owned("apps/v1", "StatefulSet"), True),
    "its ReplicationController": (
        (selects("ReplicationController", (Requirement("foo", "In", ("",)),)),),
        owned("v1", "ReplicationController"),
        True,
    ),
    "an owner of another group": ((selects("ReplicaSet", FOO),), owned("example.com/v1", "ReplicaSet"), False),
    "an owner that is gone": ((), owned("apps/v1", "ReplicaSet"), False),
    "a ReplicaSet of the owner's name that is not it": (
        (selects("ReplicaSet", FOO),),
        owned("apps/v1", "StatefulSet"),
        False,
    ),
    "a Service and an owner: both must match": (
        (SERVICE, selects("ReplicaSet", BAR)),
        owned("apps/v1", "ReplicaSet"),
        False,
    ),
    "a ReplicationController has the last word on a label": (
        (SERVICE, selects("ReplicationController", (Requirement("foo", "In", ("other",)),))),
        owned("v1", "ReplicationController"),
        False,
    ),
}


@pytest.mark.parametrize(("objects", "owner", "counts"), DEFAULTS.values(), ids=DEFAULTS)
def test_the_selector_of_default_constraints(objects: tuple[AnyObject, ...], owner: Owner | None, counts: bool) -> None:
    snap = cluster("a@z1:1 x@z2:0", objects=objects)
    plugin = PodTopologySpread((SpreadConstraint(ZONE, 1, honor_affinity=False),))
    assert fits(snap, pod(owner=owner), plugin) == ("x" if counts else "a x")
    assert (
        fits(snap, pod(soft(zone(9)), owner=owner), plugin) == "a x"
    )  # one of its own, and the defaults are not looked at


def test_default_constraints_follow_services_and_owners() -> None:
    snap = cluster("a@z1:1 x@z2:0")
    plugin = PodTopologySpread((SpreadConstraint(ZONE, 1),))
    asked = pod(owner=owned("apps/v1", "ReplicaSet"))
    assert fits(snap, asked, plugin) == "a x"
    snap.objects.put(selects("ReplicaSet", FOO))
    assert fits(snap, asked, plugin) == "x"
    snap.objects.put(selects("ReplicaSet", BAR))
    assert fits(snap, asked, plugin) == "a x"
    snap.objects.put(SERVICE)
    snap.objects.drop("ReplicaSet", "default/o")
    assert fits(snap, asked, plugin) == "x"


def test_a_list_of_defaults_wants_all_keys_and_an_empty_one_says_nothing() -> None:
    snap = cluster("a@z1:1 b@-:0", objects=(SERVICE,))
    plugin = PodTopologySpread((SpreadConstraint(ZONE, 1, hard=False), SpreadConstraint(HOSTNAME, 1, hard=False)))
    assert scores(snap, pod(), "a b", plugin) == [100, 0]
    assert PodTopologySpread(()).key(pod()) is None


def test_what_did_not_change_is_not_worked_out_again() -> None:
    snap = cluster(FOUR.format(2, 1, 3, 0))
    plugin = PodTopologySpread()
    asked = pod(zone())

    def fitting() -> Any:
        state = plugin.prepare(asked, snap)
        assert isinstance(state, State)
        return state.fits(snap, ALL)

    first = fitting()
    assert fitting() is first
    snap.put_node(make_node("a", labels={ZONE: "z1", "other": "label"}), None)
    snap.charge(snap.slot_of[NodeName("b")], existing("b", "bar"), 1)
    assert fitting() is first  # neither the label nor the pod means anything here
    snap.charge(snap.slot_of[NodeName("x")], existing("x"), 1)  # 3/4: now z2 is refused
    assert fitting() is not first


def test_what_is_kept_is_bounded() -> None:
    snap = cluster(FOUR.format(0, 0, 0, 0))
    plugin = PodTopologySpread()
    for number in range(3 * pod_topology_spread.MAX_SHAPES):
        asked = pod(zone(selector=(Requirement("foo", "In", (str(number),)),)), soft(zone()), labels=f"foo l{number}")
        state = plugin.prepare(asked, snap)
        assert isinstance(state, State)
        state.reject(snap, ALL)
        state.score(snap, np.arange(4))
    kept = (plugin._shapes, plugin._counts, plugin._scopes)
    assert [len(of) for of in kept] == [256, 257, 1]


BOTH = pod(zone(), host(selector=BAR))
AT = {ZONE: "z1", HOSTNAME: "n"}
HINTS: dict[str, tuple[Pod, Change, bool]] = {
    "a node with all keys comes": (BOTH, Change("node", node=make_node("n", labels=AT)), True),
    "a node without one comes": (BOTH, Change("node", node=make_node("n")), False),
    "a node with all keys goes": (BOTH, Change("node-gone", node_before=make_node("n", labels=AT)), True),
    "a node without one goes": (BOTH, Change("node-gone", node_before=make_node("n")), False),
    "a node moves": (
        BOTH,
        Change("node", node_before=make_node("n", labels=AT), node=make_node("n", labels={ZONE: "z2"})),
        True,
    ),
    "a node gets its zone": (BOTH, Change("node", node_before=make_node("n"), node=make_node("n", labels=AT)), True),
    "a node loses its zone": (BOTH, Change("node", node_before=make_node("n", labels=AT), node=make_node("n")), True),
    "another label": (
        BOTH,
        Change("node", node_before=make_node("n", labels=AT), node=make_node("n", labels={**AT, "k": "v"})),
        False,
    ),
    "other taints": (
        BOTH,
        Change(
            "node", node_before=make_node("n", labels=AT), node=make_node("n", labels=AT, taints=(Taint("t", "", ""),))
        ),
        True,
    ),
    "other taints of a node without a key": (
        BOTH,
        Change("node", node_before=make_node("n"), node=make_node("n", taints=(Taint("t", "", ""),))),
        False,
    ),
    "more room": (
        BOTH,
        Change("node", node_before=make_node("n", labels=AT), node=make_node("n", labels=AT, cpu="64")),
        False,
    ),
    "a pod that is counted comes": (BOTH, Change("pod-placed", pod=existing("n")), True),
    "... by the second constraint": (BOTH, Change("pod-placed", pod=existing("n", "bar")), True),
    "one that is not": (BOTH, Change("pod-placed", pod=existing("n", "baz")), False),
    "one of another namespace": (BOTH, Change("pod-placed", pod=existing("n", namespace="other")), False),
    "a pod that is counted goes": (BOTH, Change("pod-gone", pod=existing("n")), True),
    "one that is not goes": (BOTH, Change("pod-gone", pod=existing("n", "baz")), False),
    "a pod comes to be counted": (
        BOTH,
        Change("pod-labels", pod_before=existing("n", "baz"), pod=existing("n", "foo")),
        True,
    ),
    "a pod is counted by another constraint now": (
        BOTH,
        Change("pod-labels", pod_before=existing("n", "bar"), pod=existing("n", "foo")),
        True,
    ),
    "a label that means nothing": (
        BOTH,
        Change("pod-labels", pod_before=existing("n"), pod=existing("n", "foo baz")),
        False,
    ),
    "the pod itself is counted now": (BOTH, Change("self", pod_before=pod(labels="baz"), pod=pod()), True),
    "the pod itself has another label": (BOTH, Change("self", pod_before=pod(), pod=pod(labels="foo baz")), False),
    "the pod tolerates more, and taints are honoured": (
        pod(zone(honor_taints=True)),
        Change("self", pod_before=pod(), pod=pod(tolerations=(Toleration("t", "Exists", "", ""),))),
        True,
    ),
    "the pod tolerates more": (
        BOTH,
        Change("self", pod_before=pod(), pod=pod(tolerations=(Toleration("t", "Exists", "", ""),))),
        False,
    ),
    "soft constraints are not asked": (pod(soft(zone())), Change("pod-placed", pod=existing("n")), False),
    "a selector that cannot be read": (
        pod(zone(selector=(Requirement("foo", "In", ("-",)),))),
        Change("pod-placed", pod=existing("n", "baz")),
        True,
    ),
}


@pytest.mark.parametrize(("waiting", "change", "want"), HINTS.values(), ids=HINTS)
def test_hints(waiting: Pod, change: Change, want: bool) -> None:
    assert PodTopologySpread().wakes(waiting, change, cluster("")) is want


def test_hints_know_default_constraints() -> None:
    snap = cluster("", objects=(SERVICE,))
    plugin = PodTopologySpread((SpreadConstraint(ZONE, 1),))
    assert plugin.wakes(pod(), Change("pod-gone", pod=existing("n")), snap)
    assert not plugin.wakes(pod(), Change("pod-gone", pod=existing("n", "baz")), snap)
