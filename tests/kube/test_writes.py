"""Bindings, conditions and the read that settles: every outcome of the API server is one answer."""

from __future__ import annotations

import json
from typing import Any, Literal

import pytest
from kube_fakes import answer, failure, make_client

from carbon_scheduler.core.decision import Bind, Decision, Evict, Nominate, Unschedulable
from carbon_scheduler.core.events import Bound, Evicted, NotEvicted, Refused, Unknown
from carbon_scheduler.core.model import GridZone, NodeName, PodUid
from carbon_scheduler.errors import ApiUnreachable
from carbon_scheduler.kube.writes import MAX_ANNOTATIONS_B, BindAnswer, EvictAnswer, Writer, binding

JSON = dict[str, Any]


def make_bind(annotations_b: int = 0, **changes: Any) -> Bind:
    made: JSON = {
        "seq": 1763906400123456,
        "at_us": 1763906400123456,
        "node": NodeName("n1"),
        "grid_zone": GridZone("FR"),
        "intensity_g_per_kwh": 56.25,
        "cleanest_g_per_kwh": 55.0,
        "quality": "measured",
        "source": "electricitymaps",
        "feasible": 7,
        "policy": "carbon-first",
        "blind": NodeName("n2"),
        "saved_g_per_kwh": 243.75,
        "blind_g_per_kwh": 300.0,
        "blind_grid_zone": GridZone("PL"),
        **changes,
    }
    return Bind(PodUid("u"), "ns", "p", NodeName("n1"), Decision(**made), annotations_b=annotations_b)


def make_unschedulable(**changes: Any) -> Unschedulable:
    made: JSON = {"reason": "Unschedulable", "message": "0/3 nodes are available.", "patch": True, **changes}
    return Unschedulable(PodUid("u"), "ns", "p", **made)


def test_a_binding_carries_uid_target_and_the_decision() -> None:
    assert json.loads(binding(make_bind())) == {
        "apiVersion": "v1",
        "kind": "Binding",
        "metadata": {
            "name": "p",
            "namespace": "ns",
            "uid": "u",
            "annotations": {
                "carbon-scheduler.io/decision": '{"seq":1763906400123456,"at":"2025-11-23T14:00:00.123456Z","node":"n1",'
                '"grid_zone":"FR","intensity_g_per_kwh":56.25,"cleanest_g_per_kwh":55.0,"quality":"measured",'
                '"source":"electricitymaps","feasible":7,"policy":"carbon-first","blind":"n2","saved_g_per_kwh":243.75}',
                "carbon-scheduler.io/grid-zone": "FR",
                "carbon-scheduler.io/intensity": "56.25",
            },
        },
        "target": {"apiVersion": "v1", "kind": "Node", "name": "n1"},
    }


def test_a_decision_without_carbon_data_says_null_and_leaves_the_plain_annotations_out() -> None:
    effect = make_bind(grid_zone=None, intensity_g_per_kwh=None, quality=None, source=None, saved_g_per_kwh=None)
    annotations = json.loads(binding(effect))["metadata"]["annotations"]
    assert list(annotations) == ["carbon-scheduler.io/decision"]
    assert json.loads(annotations["carbon-scheduler.io/decision"])["intensity_g_per_kwh"] is None


def test_annotations_that_would_not_fit_are_left_out() -> None:
    ours = sum(len(k) + len(v) for k, v in json.loads(binding(make_bind()))["metadata"]["annotations"].items())
    assert "annotations" in json.loads(binding(make_bind(MAX_ANNOTATIONS_B - ours)))["metadata"]
    assert "annotations" not in json.loads(binding(make_bind(MAX_ANNOTATIONS_B - ours + 1)))["metadata"]


OUTCOMES: dict[str, tuple[Any, str, int]] = {
    "a Status without target is success": (
        answer(201, {"kind": "Status", "status": "Success", "code": 201}),
        "bound",
        201,
    ),
    "any body is success": (answer(200, b""), "bound", 201),
    "bound already": (failure(409, "Conflict", "pod p is already assigned"), "refused", 409),
    "gone": (failure(404, "NotFound"), "refused", 404),
    "forbidden": (failure(403, "Forbidden"), "refused", 403),
    "invalid": (failure(422, "Invalid"), "refused", 422),
    "a redirect": (failure(302), "refused", 302),
    "an internal error may have been carried out": (failure(500, "InternalError"), "unknown", 500),
    "a timeout may have been carried out": (failure(504, "Timeout"), "unknown", 504),
    "unavailable may have been carried out": (failure(503), "unknown", 503),
    "a lost answer may have been carried out": (ApiUnreachable("cut", sent=True), "unknown", 0),
    "refused at the door": (ApiUnreachable("refused", sent=False), "refused", 0),
}


@pytest.mark.parametrize("case", OUTCOMES)
async def test_the_outcome_of_a_binding(case: str) -> None:
    got, want, want_code = OUTCOMES[case]
    client, transport, _ = make_client([got])
    made = await Writer(client).bind(make_bind())
    assert (made.outcome, made.code) == (want, want_code)
    assert [(r.method, r.target) for r in transport.requests] == [("POST", "/api/v1/namespaces/ns/pods/p/binding")]


async def test_a_binding_waits_a_429_out() -> None:
    client, transport, clock = make_client([failure(429, retry_after="2"), answer(201, {})])
    assert (await Writer(client).bind(make_bind())).outcome == "bound"
    assert (len(transport.requests), clock.slept) == (2, [2.0])


def test_an_answer_as_event() -> None:
    effect = make_bind()
    seq = effect.decision.seq
    assert BindAnswer("bound", 201).event(effect, 1.0, 2.0) == Bound(1.0, 2.0, PodUid("u"), NodeName("n1"), seq)
    assert BindAnswer("refused", 409, "m").event(effect, 1.0, 2.0) == Refused(
        1.0, 2.0, PodUid("u"), NodeName("n1"), seq, 409, "m"
    )
    refused = BindAnswer("refused", 409, "POST /path: 409: m", "m").event(effect, 1.0, 2.0)
    assert isinstance(refused, Refused)
    assert refused.message == "m", "a pod is told the API server's own words"
    assert BindAnswer("unknown").event(effect, 1.0, 2.0) == Unknown(1.0, 2.0, PodUid("u"), NodeName("n1"), seq)


# -- reading the pod

POD = {"metadata": {"name": "p", "namespace": "ns", "uid": "u"}, "spec": {"nodeName": "n9"}}


async def test_the_pod_is_read_until_there_is_an_answer() -> None:
    a_proxys = answer(404, b"<html>404 Not Found</html>")
    lost, a_page = ApiUnreachable("cut", sent=True), answer(200, b"<html>")
    script = [lost, failure(500), failure(403), a_proxys, a_page, answer(200, POD)]
    client, transport, clock = make_client(script, chance=0.5)
    pod = await Writer(client).read_pod("ns", "p", PodUid("u"))
    assert pod is not None
    assert pod.node_name == "n9"
    assert transport.requests[0].target == "/api/v1/namespaces/ns/pods/p"
    assert clock.slept == [0.05, 0.1, 0.2, 0.4, 0.8]


@pytest.mark.parametrize("got", [failure(404, "NotFound"), answer(200, {"metadata": {"name": "p", "uid": "another"}})])
async def test_a_pod_that_is_gone_or_another_is_none(got: Any) -> None:
    client, _, _ = make_client([got])
    assert await Writer(client).read_pod("ns", "p", PodUid("u")) is None


# -- conditions


def condition_of(body: bytes | None) -> JSON:
    tree = json.loads(body or b"")
    assert tree["metadata"] == {"uid": "u"}
    (condition,) = tree["status"]["conditions"]
    assert isinstance(condition, dict)
    return condition


async def test_a_condition_is_upstreams() -> None:
    client, transport, _ = make_client([answer(200, {})])
    assert await Writer(client).condition(make_unschedulable(generation=4)) is True
    request = transport.requests[0]
    assert (request.method, request.target) == ("PATCH", "/api/v1/namespaces/ns/pods/p/status")
    assert dict(request.headers)["Content-Type"] == "application/strategic-merge-patch+json"
    assert condition_of(request.body) == {
        "type": "PodScheduled",
        "status": "False",
        "reason": "Unschedulable",
        "message": "0/3 nodes are available.",
        "observedGeneration": 4,
        "lastTransitionTime": "2025-11-23T14:00:00Z",
    }


async def test_the_transition_time_is_that_of_the_first_condition() -> None:
    client, transport, _ = make_client([answer(200, {}), answer(200, {})])
    writer = Writer(client)
    await writer.condition(make_unschedulable())
    await writer.condition(make_unschedulable(message="0/4 nodes are available."))
    assert "lastTransitionTime" in condition_of(transport.requests[0].body)
    assert "lastTransitionTime" not in condition_of(transport.requests[1].body)


async def test_nothing_is_written_without_need() -> None:
    client, transport, _ = make_client([])
    assert await Writer(client).condition(make_unschedulable(patch=False)) is True
    assert transport.requests == []


async def test_what_was_refused_for_good_is_not_asked_again_until_it_is_another_text() -> None:
    client, transport, _ = make_client([failure(422), answer(200, {})])
    writer = Writer(client)
    assert await writer.condition(make_unschedulable()) is False
    assert await writer.condition(make_unschedulable()) is False
    assert len(transport.requests) == 1
    assert await writer.condition(make_unschedulable(message="0/4 nodes are available.")) is True


async def test_a_condition_that_is_not_wanted_any_more_is_not_tried_again() -> None:
    client, transport, _ = make_client([failure(503)] * 9)
    assert await Writer(client).condition(make_unschedulable(), lambda: False) is False
    assert len(transport.requests) == 1


CONDITIONS: dict[str, tuple[list[Any], bool, int]] = {
    "a conflict and a server error are tried again": ([failure(409), failure(500), answer(200, {})], True, 3),
    "a lost answer is tried again": ([ApiUnreachable("cut", sent=True), answer(200, {})], True, 2),
    "four tries in all": ([failure(503)] * 9, False, 4),
    "a pod that is gone is left": ([failure(404)], False, 1),
    "what is forbidden is not repeated": ([failure(403)], False, 1),
}


@pytest.mark.parametrize("case", CONDITIONS)
async def test_a_condition_that_meets_trouble(case: str) -> None:
    script, want, want_tries = CONDITIONS[case]
    client, transport, _ = make_client(list(script))
    assert await Writer(client).condition(make_unschedulable()) is want
    assert len(transport.requests) == want_tries


NOMINATIONS: dict[str, tuple[dict[str, Any], JSON]] = {
    "is set with the condition": ({"nominate": NodeName("n1")}, {"nominatedNodeName": "n1"}),
    "is taken away with the condition": ({"nominate": ""}, {"nominatedNodeName": None}),
    "is left alone": ({}, {}),
}


@pytest.mark.parametrize("case", NOMINATIONS)
async def test_the_nomination(case: str) -> None:
    changes, want = NOMINATIONS[case]
    client, transport, _ = make_client([answer(200, {})])
    await Writer(client).condition(make_unschedulable(**changes))
    status = json.loads(transport.requests[0].body or b"")["status"]
    assert {key: value for key, value in status.items() if key != "conditions"} == want
    assert len(status["conditions"]) == 1


@pytest.mark.parametrize(("node", "want"), [("", None), (NodeName("n1"), "n1")])
async def test_a_nomination_is_written_and_taken_away_alone(node: NodeName | Literal[""], want: str | None) -> None:
    client, transport, _ = make_client([answer(200, {})])
    assert await Writer(client).condition(Nominate(PodUid("u"), "ns", "p", node)) is True
    (request,) = transport.requests
    assert (request.method, request.target) == ("PATCH", "/api/v1/namespaces/ns/pods/p/status")
    assert json.loads(request.body or b"") == {"metadata": {"uid": "u"}, "status": {"nominatedNodeName": want}}


async def test_another_nomination_is_written_although_the_text_was_refused() -> None:
    client, _, _ = make_client([failure(422), answer(200, {})])
    writer = Writer(client)
    assert await writer.condition(make_unschedulable(news=True)) is False
    assert await writer.condition(make_unschedulable(news=False)) is False
    assert await writer.condition(make_unschedulable(nominate="")) is True


def make_evict(**changes: Any) -> Evict:
    preemptor = PodUid("u-high"), "prod", "high"
    return Evict(PodUid("u"), "ns", "p", NodeName("n1"), *preemptor, **{"scheduler_name": "ours", **changes})


async def test_a_victim_is_marked_then_deleted_under_its_uid() -> None:
    client, transport, _ = make_client([answer(200, {}), answer(200, {})])
    assert await Writer(client).evict(make_evict(generation=2)) == EvictAnswer("evicted", 200)
    mark, delete = transport.requests
    assert (mark.method, mark.target) == ("PATCH", "/api/v1/namespaces/ns/pods/p/status")
    assert condition_of(mark.body) == {
        "type": "DisruptionTarget",
        "status": "True",
        "reason": "PreemptionByScheduler",
        "message": "ours: preempting to accommodate a higher priority pod",
        "lastTransitionTime": "2025-11-23T14:00:00Z",
        "observedGeneration": 2,
    }
    assert (delete.method, delete.target) == ("DELETE", "/api/v1/namespaces/ns/pods/p")
    assert json.loads(delete.body or b"") == {
        "apiVersion": "v1",
        "kind": "DeleteOptions",
        "preconditions": {"uid": "u"},
    }


async def test_a_victim_that_is_marked_already_keeps_the_time_of_that() -> None:
    client, transport, _ = make_client([answer(200, {}), answer(200, {})])
    assert await Writer(client).evict(make_evict(marked=True)) == EvictAnswer("evicted", 200)
    assert "lastTransitionTime" not in condition_of(transport.requests[0].body)


EVICTIONS: dict[str, tuple[list[Any], str, int, int]] = {
    "gone before the mark": ([failure(404)], "gone", 404, 1),
    "gone before the deletion": ([answer(200, {}), failure(404)], "gone", 404, 2),
    "the mark is tried again": ([failure(409), failure(503), answer(200, {}), answer(200, {})], "evicted", 200, 4),
    "no right to mark: not deleted either": ([failure(403)], "failed", 403, 1),
    "no right to delete": ([answer(200, {}), failure(403)], "failed", 403, 2),
    "the name belongs to another pod by now": ([answer(200, {}), failure(409)], "failed", 409, 2),
    "the deletion is not tried again": ([answer(200, {}), failure(500)], "failed", 500, 2),
    "the answer to the deletion was lost": ([answer(200, {}), ApiUnreachable("cut", sent=True)], "failed", 0, 2),
    "nobody answers": ([ApiUnreachable("no", sent=False)] * 9, "failed", 0, 4),
}


@pytest.mark.parametrize("case", EVICTIONS)
async def test_an_eviction_that_meets_trouble(case: str) -> None:
    script, want, code, tries = EVICTIONS[case]
    client, transport, _ = make_client(list(script))
    found = await Writer(client).evict(make_evict())
    assert (found.outcome, found.code) == (want, code)
    assert len(transport.requests) == tries
    event = found.event(make_evict(), 1.0, 2.0)
    assert event == (
        NotEvicted(1.0, 2.0, PodUid("u"), code, found.message) if want == "failed" else Evicted(1.0, 2.0, PodUid("u"))
    )
