"""Events: upstream's fields, series for repeats, a bounded queue, nothing held up."""

from __future__ import annotations

import asyncio
import json
import re
from typing import TYPE_CHECKING, Any

import pytest
from kube_fakes import answer, failure, make_client
from test_writes import make_bind, make_unschedulable

from carbon_scheduler.core.decision import Evict, Overcommitted, PodWarning
from carbon_scheduler.core.model import NodeName, PodUid
from carbon_scheduler.errors import ApiUnreachable
from carbon_scheduler.kube.recorder import QUEUE, EventRecorder, cut_note

if TYPE_CHECKING:
    from kube_fakes import FakeClock, ScriptedTransport

    from carbon_scheduler.kube.transport import Request

JSON = dict[str, Any]
EVENTS = "/apis/events.k8s.io/v1/namespaces/ns/events"


def make(script: Any = None, **options: Any) -> tuple[EventRecorder, ScriptedTransport, FakeClock]:
    client, transport, clock = make_client(script or (lambda _: answer(201, {})))
    return EventRecorder(client, hostname="host", workers=1, **options), transport, clock


def body(request: Request) -> JSON:
    tree = json.loads(request.body or b"")
    assert isinstance(tree, dict)
    return tree


async def settle(recorder: EventRecorder) -> None:
    for _ in range(200):
        await asyncio.sleep(0)


async def test_scheduled_is_upstreams_letter_for_letter() -> None:
    recorder, transport, _ = make()
    recorder.start()
    recorder.scheduled(make_bind())
    await recorder.close()
    (request,) = transport.requests
    assert (request.method, request.target) == ("POST", EVENTS)
    event = body(request)
    assert event["metadata"].pop("name") == f"p.{1763906400 * 10**9:x}"
    assert event == {
        "apiVersion": "events.k8s.io/v1",
        "kind": "Event",
        "metadata": {"namespace": "ns"},
        "eventTime": "2025-11-23T14:00:00.000000Z",
        "reportingController": "carbon-aware-scheduler",
        "reportingInstance": "carbon-aware-scheduler-host",
        "action": "Binding",
        "reason": "Scheduled",
        "regarding": {"kind": "Pod", "apiVersion": "v1", "namespace": "ns", "name": "p", "uid": "u"},
        "note": "Successfully assigned ns/p to n1",
        "type": "Normal",
    }


async def test_failed_scheduling_and_warnings() -> None:
    recorder, transport, _ = make()
    recorder.start()
    recorder.failed_scheduling(make_unschedulable(scheduler_name="other-name"))
    recorder.warning(PodWarning(PodUid("u"), "ns", "p", "UnknownZone", "no such zone"))
    await recorder.close()
    failed, warned = map(body, transport.requests)
    assert [failed[key] for key in ("type", "reason", "action", "note", "reportingController", "reportingInstance")] == [
        "Warning", "FailedScheduling", "Scheduling", "0/3 nodes are available.", "other-name", "other-name-host",
    ]  # fmt: skip
    assert [warned[key] for key in ("type", "reason", "action", "note")] == [
        "Warning", "UnknownZone", "Scheduling", "no such zone",
    ]  # fmt: skip
    assert failed["metadata"]["name"] != warned["metadata"]["name"]


async def test_an_event_about_a_node_lives_in_the_namespace_default() -> None:
    recorder, transport, _ = make()
    recorder.start()
    recorder.overcommitted(Overcommitted(NodeName("n1"), "node-uid", (("cpu", 1200, 1000), ("pods", 3, 2))))
    await recorder.close()
    (told,) = map(body, transport.requests)
    assert told["regarding"] == {"kind": "Node", "apiVersion": "v1", "name": "n1", "uid": "node-uid"}
    assert told["metadata"]["namespace"] == "default"
    assert [told[key] for key in ("type", "reason", "action")] == ["Warning", "Overcommitted", "Scheduling"]
    assert "cpu: 1200 of 1000, pods: 3 of 2" in told["note"]


async def test_a_victim_is_told_who_needed_its_room() -> None:
    recorder, transport, _ = make()
    recorder.start()
    recorder.preempted(
        Evict(PodUid("u"), "ns", "p", NodeName("n1"), PodUid("u-high"), "prod", "high", scheduler_name="ours")
    )
    await recorder.close()
    (told,) = map(body, transport.requests)
    assert [told[key] for key in ("type", "reason", "action", "note", "reportingController")] == [
        "Normal", "Preempted", "Preempting", "Preempted by pod u-high on node n1", "ours",
    ]  # fmt: skip
    recorder, transport, _ = make()
    recorder.start()
    recorder.preempted(Evict(PodUid("u"), "ns", "p", NodeName("n1"), PodUid("u-high"), "prod", "high", cancelled=True))
    await recorder.close()
    assert body(transport.requests[0])["note"] == "Preempted by pod u-high on node n1 (in kube-scheduler memory)."
    assert told["regarding"] == {"kind": "Pod", "apiVersion": "v1", "namespace": "ns", "name": "p", "uid": "u"}
    assert told["related"] == {"kind": "Pod", "apiVersion": "v1", "namespace": "prod", "name": "high", "uid": "u-high"}


async def test_repeats_become_a_series() -> None:
    recorder, transport, clock = make()
    for _ in range(5):
        recorder.failed_scheduling(make_unschedulable())
        clock.advance(1)
    recorder.start()
    await settle(recorder)
    assert [r.method for r in transport.requests[:2]] == ["POST", "PATCH"]
    name = body(transport.requests[0])["metadata"]["name"]
    assert transport.requests[1].target == f"{EVENTS}/{name}"
    assert body(transport.requests[1]) == {"series": {"count": 2, "lastObservedTime": "2025-11-23T14:00:01.000000Z"}}
    await recorder.close()
    assert body(transport.requests[-1])["series"]["count"] == 5, "the last count is told at the end"
    assert recorder.written == 3


async def test_another_reason_is_another_event_and_not_a_count_on_the_old_one() -> None:
    recorder, transport, _ = make()
    one, other = (
        make_unschedulable(message="no nodes available"),
        make_unschedulable(message="0/1: 1 Insufficient cpu."),
    )
    for effect in (one, other, one, other):
        recorder.failed_scheduling(effect)
    recorder.start()
    await recorder.close()
    assert [body(r)["note"] for r in transport.requests if r.method == "POST"] == [one.message, other.message]
    assert [body(r)["series"]["count"] for r in transport.requests if r.method == "PATCH"] == [2, 2]


async def test_a_series_that_went_quiet_ends_with_its_count_and_a_later_event_is_new() -> None:
    recorder, transport, clock = make()
    for _ in range(3):
        recorder.failed_scheduling(make_unschedulable())
    clock.advance(360)
    recorder._sweep(clock.wall())
    recorder.failed_scheduling(make_unschedulable())
    recorder.start()
    await recorder.close()
    assert [r.method for r in transport.requests] == ["POST", "PATCH", "PATCH", "POST"]
    assert body(transport.requests[2])["series"]["count"] == 3


async def test_a_long_series_is_refreshed_each_half_hour() -> None:
    recorder, transport, clock = make()
    for _ in range(40):
        recorder.failed_scheduling(make_unschedulable())
        clock.advance(60)
        recorder._sweep(clock.wall())
    recorder.start()
    await settle(recorder)
    assert [body(r)["series"]["count"] for r in transport.requests if r.method == "PATCH"][:2] == [2, 31]
    await recorder.close()


async def test_a_series_whose_event_expired_is_made_again() -> None:
    recorder, transport, _ = make([answer(201, {}), failure(404), answer(201, {})])
    recorder.failed_scheduling(make_unschedulable())
    recorder.failed_scheduling(make_unschedulable())
    recorder.start()
    await recorder.close()
    assert [r.method for r in transport.requests] == ["POST", "PATCH", "POST"]
    assert body(transport.requests[2])["series"]["count"] == 2


async def test_a_full_queue_drops_the_newest_and_counts() -> None:
    recorder, transport, _ = make()
    for _ in range(QUEUE + 7):
        recorder.scheduled(make_bind())
    assert (len(recorder), recorder.dropped) == (QUEUE, 7)
    recorder.start()
    await recorder.close()
    assert (len(transport.requests), recorder.written) == (QUEUE, QUEUE)


async def test_an_event_that_was_dropped_starts_no_series() -> None:
    recorder, transport, _ = make(queue=1)
    recorder.scheduled(make_bind())
    recorder.failed_scheduling(make_unschedulable())
    recorder.start()
    await settle(recorder)
    recorder.failed_scheduling(make_unschedulable())
    await recorder.close()
    assert [body(r)["reason"] for r in transport.requests] == ["Scheduled", "FailedScheduling"]


TROUBLE: dict[str, tuple[list[Any], int, int, int]] = {
    "a lost answer is tried again": ([ApiUnreachable("cut", sent=True), answer(201, {})], 2, 1, 0),
    "a server error is tried again": ([failure(500), failure(503), answer(201, {})], 3, 1, 0),
    "one that exists was written before": ([failure(409, "AlreadyExists")], 1, 0, 0),
    "a namespace on its way out takes none": ([failure(403, "Forbidden")], 1, 0, 1),
    "twelve tries in all": ([failure(500)] * 20, 12, 0, 1),
}


@pytest.mark.parametrize("case", TROUBLE)
async def test_trouble(case: str) -> None:
    script, want_requests, want_written, want_failed = TROUBLE[case]
    recorder, transport, _ = make(list(script))
    recorder.start()
    recorder.scheduled(make_bind())
    await recorder.close()
    assert (len(transport.requests), recorder.written, recorder.failed) == (want_requests, want_written, want_failed)


async def test_closing_does_not_wait_for_a_server_that_is_away() -> None:
    client, transport, _ = make_client([])

    async def never(*_: Any) -> Any:
        await asyncio.Event().wait()

    transport.send = never  # type: ignore[method-assign]
    recorder = EventRecorder(client, hostname="host", workers=1)
    recorder.start()
    for _ in range(3):
        recorder.scheduled(make_bind())
    await asyncio.sleep(0)
    await recorder.close(limit_s=0.01)
    assert recorder.dropped == 2


NOTES = {
    "short": ("é" * 512, "é" * 512),
    "cut to 1,024 bytes": ("x" * 1025, "x" * 1020 + " ..."),
    "never inside a letter": ("x" + "é" * 600, "x" + "é" * 509 + " ..."),
    "half a letter from outside": ("\ud800", "?"),
}


@pytest.mark.parametrize("case", NOTES)
def test_notes(case: str) -> None:
    note, want = NOTES[case]
    assert cut_note(note) == want
    assert len(cut_note(note).encode()) <= 1024


async def test_a_name_that_no_event_can_have_gets_another() -> None:
    recorder, transport, _ = make()
    recorder.start()
    effect = make_bind()
    recorder.scheduled(type(effect)(effect.uid, "ns", "a" * 253, effect.node, effect.decision))
    await recorder.close()
    assert re.fullmatch(r"[0-9a-f-]{36}", body(transport.requests[0])["metadata"]["name"])
