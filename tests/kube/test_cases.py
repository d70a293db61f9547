"""A saved cluster judged: nominated pods, what is left out, and one judge for many questions."""

from __future__ import annotations

import json
from typing import Any

import pytest

from api_objects import make_node, make_pod
from carbon_scheduler.core.model import GridZone
from carbon_scheduler.core.plugins import default_profile
from carbon_scheduler.errors import InvalidObject
from carbon_scheduler.kube.cases import Answer, Judge, NoVerdict, answer_lines, read_case, read_id
from carbon_scheduler.kube.kinds import KINDS
from carbon_scheduler.providers.tables import grid_zones

JSON = dict[str, Any]


def ask(pod: JSON, *pods: JSON, nodes: tuple[JSON, ...] = (make_node("a", cpu="4"), make_node("b", cpu="4"))) -> Answer:
    judge = Judge(grid_zones())
    case = read_case(json.dumps({"nodes": nodes, "pods": pods, "pod": pod}).encode())
    answer = judge.ask(judge.load(case))
    assert isinstance(answer, Answer)
    judge.cluster.debug_check()
    return answer


def nominated(name: str, priority: int | None = None, on: str = "a", **fields: Any) -> JSON:
    return {**make_pod(name, cpu="3", priority=priority, **fields), "status": {"nominatedNodeName": on}}


BESIDE: dict[str, tuple[JSON, tuple[JSON, ...], bool]] = {
    "of equal priority: it counts": (make_pod("p", cpu="2"), (nominated("n"),), False),
    "of higher priority: it counts": (make_pod("p", cpu="2", priority=1), (nominated("n", 2),), False),
    "of lower priority: it has to yield": (make_pod("p", cpu="2", priority=1), (nominated("n", 0),), True),
    "both fit": (make_pod("p", cpu="1"), (nominated("n"),), True),
    "two that fit one by one but not together": (make_pod("p", cpu="500m"), (nominated("n"), nominated("m")), False),
    "the pod itself": ({**nominated("n"), "metadata": make_pod("n")["metadata"]}, (nominated("n"),), True),
    "of another scheduler": (make_pod("p", cpu="2"), (nominated("n", scheduler="other"),), True),
    "gated": (make_pod("p", cpu="2"), (nominated("n", schedulingGates=[{"name": "g"}]),), True),
    "to a node that is gone": (make_pod("p", cpu="2"), (nominated("n", on="gone"),), True),
    "bound meanwhile, elsewhere": (make_pod("p", cpu="2"), (nominated("n", node="b"),), True),
    "ended": (
        make_pod("p", cpu="2"),
        ({**nominated("n"), "status": {"nominatedNodeName": "a", "phase": "Failed"}},),
        True,
    ),
}


@pytest.mark.parametrize("sentence", BESIDE)
def test_a_pod_nominated_to_a_node(sentence: str) -> None:
    pod, others, fits = BESIDE[sentence]
    answer = ask(pod, *others)
    assert (answer.nodes["a"].code == "Success") is fits
    assert ("a" in answer.totals) is fits
    if not fits:
        assert answer.nodes["a"].reasons == ("Insufficient cpu",)
        assert answer.nodes["b"].code == "Success"


def test_nominated_pods_do_not_enter_the_scores_and_do_enter_the_message() -> None:
    nodes = (make_node("a", cpu="4"),)
    beside = ask(make_pod("p", cpu="1"), nominated("n"), nodes=nodes)
    assert beside.scores == ask(make_pod("p", cpu="1"), nodes=nodes).scores
    assert ask(make_pod("p", cpu="2"), nominated("n"), nodes=nodes).message == (
        "0/1 nodes are available: 1 Insufficient cpu."
    )


def test_a_judge_of_some_plugins_asks_those_alone() -> None:
    some = [plugin for plugin in default_profile() if plugin.name == "TaintToleration"]
    judge = Judge(grid_zones(), None, some)
    case = read_case(json.dumps({"nodes": [make_node("a", cpu="1")], "pod": make_pod("p", cpu="9")}).encode())
    answer = judge.ask(judge.load(case))
    assert isinstance(answer, Answer)
    assert (answer.scores, answer.weights, answer.totals) == (
        {"TaintToleration": {"a": 100}}, {"TaintToleration": 3}, {"a": 300}
    )  # fmt: skip


UNPARSABLE = {
    "nodeAffinity": {
        "preferredDuringSchedulingIgnoredDuringExecution": [
            {"weight": 1, "preference": {"matchExpressions": [{"key": "size", "operator": "Gt", "values": ["x"]}]}}
        ]
    }
}


def test_a_score_that_fails_is_an_error_when_there_is_a_choice_and_none_when_there_is_not() -> None:
    judge = Judge(grid_zones())
    pod = make_pod("p", affinity=UNPARSABLE)
    case = read_case(json.dumps({"nodes": [make_node("a"), make_node("b")], "pod": pod}).encode())
    answer = judge.ask(judge.load(case))
    assert isinstance(answer, NoVerdict)
    assert "must be an integer" in answer.error
    alone = ask(pod, nodes=(make_node("a"),))
    assert (alone.nodes["a"].code, alone.scores, alone.totals) == ("Success", {}, {})


def test_carbon_is_of_the_node_s_zone_or_the_default_one() -> None:
    judge = Judge(grid_zones(), GridZone("DE"))
    nodes = [make_node("a", carbon_zone="FR"), make_node("b"), make_node("c", carbon_zone="PL")]
    judge.load(read_case(json.dumps({"nodes": nodes, "pod": make_pod("p")}).encode()))
    found = judge.carbon({GridZone("FR"): 50.0, GridZone("DE"): 400.0}.get)
    assert {name: (one.grid_zone, one.intensity_g_per_kwh, one.cost_g, one.quality) for name, one in found.items()} == {
        "a": ("FR", 50.0, 50.0, "measured"), "b": ("DE", 400.0, 400.0, "measured"), "c": ("PL", None, None, None)
    }  # fmt: skip


def test_ids_are_given_back_as_they_came() -> None:
    for raw in (b'{"a": [1, 2.50]}', b'"x"', b"7", b"null"):
        assert bytes(read_id(b'{"pod": 1, "id": ' + raw + b"}")) == raw
    assert bytes(read_id(b'{"pod": 1}')) == bytes(read_id(b"[")) == b"null"
    deep = b'{"id": ' + b"[" * 100_000
    assert bytes(read_id(deep)) == b"null"
    with pytest.raises(InvalidObject, match="not a case"):
        read_case(deep)


def test_lines_are_judged_each_alone() -> None:
    line = json.dumps({"id": 1, "nodes": [make_node("a", cpu="4")], "pods": [make_pod("x", node="a", cpu="3")],
                       "pod": make_pod("p", cpu="1")}).encode()  # fmt: skip
    answers = [answer for answer, _ in answer_lines([line, b" \n", line], lambda: Judge(grid_zones()))]
    assert len(answers) == 2
    assert answers[0] == answers[1]


def test_every_list_of_a_case_is_taken_in() -> None:
    named = {"metadata": {"name": "o", "namespace": "ns"}}
    lists = {kind.listed_as: [named, None] for kind in KINDS}
    judge = Judge(grid_zones())
    case = {"namespaces": [{"metadata": {"name": "ns", "labels": {"a": "b"}}}], **lists, "pod": make_pod("p")}
    judge.load(read_case(json.dumps(case).encode()))
    for kind in KINDS:
        assert list(judge.cluster.snap.objects.all(kind.name)) == ["ns/o" if kind.namespaced else "o"], kind.name
    assert judge.cluster.snap.namespaces == {"ns": {"a": "b"}}


@pytest.mark.parametrize("name", ["nodes", "pods", "namespaces", *(kind.listed_as for kind in KINDS)])
def test_an_object_without_a_name_makes_the_line_no_case(name: str) -> None:
    with pytest.raises(InvalidObject, match=f"{name}: got an object without metadata.name"):
        read_case(json.dumps({"pod": make_pod("p"), name: [{"metadata": {}}]}).encode())
