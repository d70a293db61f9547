"""The judge of the large cluster's decisions is itself judged: it must find every kind of wrong one."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from api_objects import make_node, make_pod
from naive_replay import DECISION, replay, thousandths

if TYPE_CHECKING:
    from collections.abc import Callable

JSON = dict[str, Any]
G_PER_KWH = {"FR": 40.0, "SE": 44.0, "PL": 800.0}


def _node(name: str, zone: str, **more: Any) -> JSON:
    return make_node(name, cpu="1", carbon_zone=zone, **more)


def _pod(name: str, seq: int, node: str, zone: str, g_per_kwh: float, feasible: int, **more: Any) -> JSON:
    said = {"seq": seq, "node": node, "grid_zone": zone, "intensity_g_per_kwh": g_per_kwh, "cleanest_g_per_kwh": 40.0}
    said |= {"feasible": feasible, "blind": node, "saved_g_per_kwh": 0.0, **more}
    return make_pod(name, cpu="600m", node=node, annotations={DECISION: json.dumps(said)})


def _cluster() -> tuple[list[JSON], list[JSON]]:
    nodes = [_node("fr", "FR"), _node("se", "SE"), _node("pl", "PL"), _node("cordoned", "FR", unschedulable=True)]
    pods = [_pod("second", 2, "fr", "FR", 40.0, 2), _pod("first", 1, "se", "SE", 44.0, 3)]
    return nodes, pods


def _judge(nodes: list[JSON], pods: list[JSON]) -> str:
    return "\n".join(replay(nodes, pods, lambda zone, _: G_PER_KWH[zone]).wrong)


def test_right_decisions_are_right() -> None:
    assert _judge(*_cluster()) == ""


def _change(**said: Any) -> Callable[[list[JSON], list[JSON]], None]:
    def apply(_: list[JSON], pods: list[JSON]) -> None:
        annotations = pods[0]["metadata"]["annotations"]
        annotations[DECISION] = json.dumps({**json.loads(annotations[DECISION]), **said})

    return apply


def _to(node: str, zone: str, g_per_kwh: float, feasible: int = 2) -> Callable[[list[JSON], list[JSON]], None]:
    def apply(_: list[JSON], pods: list[JSON]) -> None:
        pods[0] = _pod("second", 2, node, zone, g_per_kwh, feasible)

    return apply


def _taint(nodes: list[JSON], _: list[JSON]) -> None:
    nodes[0]["spec"]["taints"] = [{"key": "a", "effect": "NoSchedule"}]


def _stranger(_: list[JSON], pods: list[JSON]) -> None:
    pods.append(make_pod("there", scheduler=None, cpu="600m", node="fr"))


WRONG = {
    "a dirty node while a clean one is free": (_to("pl", "PL", 800.0), "the cleanest is 40"),
    "a node without room": (_to("se", "SE", 44.0), "se is not feasible"),
    "a cordoned node": (_to("cordoned", "FR", 40.0), "cordoned is not feasible"),
    "a tainted node": (_taint, "fr is not feasible"),
    "a node that a stranger fills": (_stranger, "fr is over-allocated"),
    "another count of feasible nodes": (_change(feasible=3), "but is"),
    "another intensity": (_change(intensity_g_per_kwh=41.0), "but is"),
    "another cleanest": (_change(cleanest_g_per_kwh=44.0), "but is"),
    "another zone": (_change(grid_zone="SE"), "but is"),
    "a blind choice without room": (_change(blind="se"), "the blind choice se is not feasible"),
    "another saving": (_change(saved_g_per_kwh=5.0), "saved_g_per_kwh"),
    "the same seq twice": (_change(seq=1), "the same seq"),
    "decided in another order": (_change(seq=0), "but is"),
}


@pytest.mark.parametrize("sentence", WRONG)
def test_wrong_decisions_are_found(sentence: str) -> None:
    nodes, pods = _cluster()
    break_it, words = WRONG[sentence]
    break_it(nodes, pods)
    assert words in _judge(nodes, pods)


@pytest.mark.parametrize(
    ("text", "want"), [("100m", 100), ("2", 2000), ("64Mi", 64 * 2**20 * 1000), ("1Gi", 2**30 * 1000)]
)
def test_quantities(text: str, want: int) -> None:
    assert thousandths(text) == want
