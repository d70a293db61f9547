"""What the demo says at its end: every kind of pod, and arithmetic that can be checked by hand."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest

from carbon_scheduler.errors import InvalidObject
from carbon_scheduler.sim.demo_report import Report, Row, Total, report, sentence, undecided

OURS = "carbon-aware-scheduler"


def make_pod(name: str = "web-1", node: str | None = None, decision: object = None, **spec: Any) -> dict[str, Any]:
    annotations = {} if decision is None else {"carbon-scheduler.io/decision": json.dumps(decision)}
    return {
        "metadata": {"name": name, "namespace": "default", "annotations": annotations},
        "spec": {"schedulerName": OURS, **({"nodeName": node} if node else {}), **spec},
        "status": {"phase": "Pending"},
    }


def refused(pod: dict[str, Any], message: str | None, reason: str = "Unschedulable") -> dict[str, Any]:
    condition = {"type": "PodScheduled", "status": "False", "reason": reason, "message": message}
    return pod | {"status": {"phase": "Pending", "conditions": [condition]}}


def make_decision(own: float | None = 100.0, saved: float | None = 230.0, **more: Any) -> dict[str, Any]:
    return {
        "seq": 1,
        "at": "2026-11-23T14:00:00.000001Z",
        "node": "paris-1",
        "grid_zone": "FR",
        "intensity_g_per_kwh": own,
        "quality": "measured",
        "blind": "frankfurt-1",
        "saved_g_per_kwh": saved,
        **more,
    }


def report_on(*pods: dict[str, Any]) -> Report:
    return report({"items": list(pods)}, scheduler=OURS, grid_data="synthetic", synthetic=True)


ROWS: dict[str, tuple[dict[str, Any], Row]] = {
    "placed: 100 instead of 100 + 230": (
        make_pod(node="paris-1", decision=make_decision()),
        Row("web-1", "placed", "paris-1", "FR", 100.0, "measured", "frankfurt-1", 330.0, -230.0),
    ),
    "placed where the blind choice was cleaner": (
        make_pod(node="paris-1", decision=make_decision(saved=-40.0)),
        Row("web-1", "placed", "paris-1", "FR", 100.0, "measured", "frankfurt-1", 60.0, 40.0),
    ),
    "placed without carbon data": (
        make_pod(node="a", decision={"node": "a", "grid_zone": None, "intensity_g_per_kwh": None, "blind": "a"}),
        Row("web-1", "placed", "a", blind_node="a"),
    ),
    "placed, the blind choice's zone has no value": (
        make_pod(node="paris-1", decision=make_decision(saved=None)),
        Row("web-1", "placed", "paris-1", "FR", 100.0, "measured", "frankfurt-1"),
    ),
    "placed, its annotation is not JSON": (
        make_pod(node="a") | {"metadata": {"name": "web-1", "annotations": {"carbon-scheduler.io/decision": "{"}}},
        Row("web-1", "placed", "a", why="its annotation carbon-scheduler.io/decision is not readable"),
    ),
    "placed, its annotation has another type": (
        make_pod(node="a", decision={"intensity_g_per_kwh": "low"}),
        Row("web-1", "placed", "a", why="its annotation carbon-scheduler.io/decision is not readable"),
    ),
    "placed, without annotations": (
        make_pod(node="a") | {"metadata": {"name": "web-1", "annotations": None}},
        Row("web-1", "placed", "a"),
    ),
    "fits nowhere": (
        refused(make_pod(), "0/3 nodes are available: 3 Insufficient cpu."),
        Row("web-1", "pending", why="0/3 nodes are available: 3 Insufficient cpu."),
    ),
    "refused without a message": (refused(make_pod(), None), Row("web-1", "pending", why="Unschedulable")),
    "gated": (
        make_pod(schedulingGates=[{"name": "example.com/quota"}]),
        Row("web-1", "pending", why="gated by example.com/quota"),
    ),
    "not decided yet": (make_pod() | {"status": None}, Row("web-1", "pending", why="not decided yet")),
    "another scheduler's": (
        make_pod(node="a", schedulerName="default-scheduler"),
        Row("web-1", "not ours", "a", why="belongs to default-scheduler"),
    ),
}


@pytest.mark.parametrize("case", ROWS)
def test_rows(case: str) -> None:
    pod, want = ROWS[case]
    assert report_on(pod).pods == (want,)


def test_total_and_sentence() -> None:
    # own (100 + 300) / 2 = 200; blind (330 + 270) / 2 = 300; 200 - 300 = -100, a third of 300
    got = report_on(
        make_pod("a-1", "paris-1", make_decision(100.0, 230.0)),
        make_pod("a-2", "b", make_decision(300.0, -30.0)),
        make_pod("a-3", "c", make_decision(None, None)),
        refused(make_pod("a-4"), "no"),
        make_pod("a-5", schedulerName="default-scheduler"),
    ).total
    assert got == Total(
        pods=5,
        placed=3,
        pending=1,
        not_ours=1,
        compared=2,
        mean_g_per_kwh=200.0,
        blind_mean_g_per_kwh=300.0,
        difference_g_per_kwh=-100.0,
        difference_frac=pytest.approx(-1 / 3),
    )
    assert sentence(got) == (
        "3 of 5 pods placed, 1 pending, 1 of other schedulers; mean carbon intensity 200.0 g/kWh, against 300.0 g/kWh had "
        "each pod gone to its blind choice (the node that kube-scheduler's scores alone would have taken then, in the "
        "cluster as it was): "
        "100.0 g/kWh (33.3%) less."
    )


ENDINGS = {
    "cleaner": ((100.0, 230.0), "230.0 g/kWh (69.7%) less."),
    "dirtier is said as well": ((100.0, -40.0), "40.0 g/kWh (66.7%) more."),
    "the same": ((100.0, 0.0), "no difference."),
    "nothing known": ((None, None), "no carbon intensity was known, so there is nothing to compare."),
}


@pytest.mark.parametrize("case", ENDINGS)
def test_sentence_is_signed(case: str) -> None:
    (own, saved), want = ENDINGS[case]
    assert sentence(report_on(make_pod(node="a", decision=make_decision(own, saved))).total).endswith(want)


def test_rows_are_in_order_of_state_intensity_and_number() -> None:
    got = report_on(
        make_pod("other-1", schedulerName="x"),
        refused(make_pod("web-3"), "no"),
        make_pod("web-10", "b", make_decision(300.0)),
        make_pod("web-9", "b", make_decision(300.0)),
        make_pod("api-1", "a", make_decision(20.0)),
    )
    assert [row.pod for row in got.pods] == ["api-1", "web-9", "web-10", "web-3", "other-1"]


def test_the_empty_cluster() -> None:
    assert report({"items": None}, scheduler=OURS, grid_data="live", synthetic=False).total.pods == 0


def test_undecided_are_ours_neither_bound_nor_refused() -> None:
    pods = [
        make_pod("a"),
        make_pod("b", "node"),
        refused(make_pod("c"), "no"),
        make_pod("d", schedulingGates=[{"name": "g"}]),
        make_pod("e", schedulerName="x"),
        make_pod("f") | {"status": None},
    ]
    assert undecided({"items": pods}, scheduler=OURS) == (2, 4)


def test_an_answer_that_is_no_pod_list() -> None:
    with pytest.raises(InvalidObject, match="PodList"):
        report({"items": [{"metadata": 1}]}, scheduler=OURS, grid_data="", synthetic=True)


def test_as_json_nothing_is_lost() -> None:
    shown = report_on(make_pod(node="paris-1", decision=make_decision()))
    assert msgspec.json.decode(msgspec.json.encode(shown), type=Report) == shown
