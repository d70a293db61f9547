"""Faults of the embedded API server, as a client on the other side of the connection meets them."""

from __future__ import annotations

import asyncio
import json
import time
from typing import TYPE_CHECKING, Any

import aiohttp
import pytest

from api_contract import MERGE, Api, seen
from carbon_scheduler.sim.apiserver import EmbeddedApiServer, Rule
from carbon_scheduler.sim.apiserver.kubelet import RUN_FOR
from real_cluster import eventually

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

BINDINGS = "create pods/binding"


@pytest.fixture
async def server() -> AsyncIterator[EmbeddedApiServer]:
    async with EmbeddedApiServer() as server:
        yield server


@pytest.fixture
async def api(server: EmbeddedApiServer) -> AsyncIterator[Api]:
    async with Api(server.url, "faulty") as api:
        yield api


async def test_a_lost_answer_after_a_write_that_was_carried_out(server: EmbeddedApiServer, api: Api) -> None:
    await api.pod("p")
    server.faults.add(Rule(verb="create", resource="pods/binding", lose_answer=True, count=1))
    with pytest.raises(aiohttp.ClientError):
        await api.bind("p", "n1")
    assert (await api.ok("GET", f"{api.pods}/p"))["spec"]["nodeName"] == "n1"
    assert (await api.bind("p", "n1")).status == 409
    assert server.faults.requests[BINDINGS] == 2


async def test_a_connection_dropped_before_anything_was_done(server: EmbeddedApiServer, api: Api) -> None:
    await api.pod("p")
    server.faults.add(Rule(verb="create", resource="pods/binding", drop=True, count=1))
    with pytest.raises(aiohttp.ClientError):
        await api.bind("p")
    assert "nodeName" not in (await api.ok("GET", f"{api.pods}/p"))["spec"]
    assert (await api.bind("p")).status == 201


FAILURES: dict[str, tuple[Rule, int, str, str | None]] = {
    "an internal error": (Rule(status=500, count=1), 500, "InternalError", None),
    "unavailable": (Rule(status=503, retry_after_s=3, count=1), 503, "ServiceUnavailable", "3"),
    "expired": (Rule(status=410, count=1), 410, "Expired", None),
}


@pytest.mark.parametrize("sentence", FAILURES)
async def test_failures_for_a_number_of_requests(server: EmbeddedApiServer, api: Api, sentence: str) -> None:
    rule, code, reason, retry_after = FAILURES[sentence]
    server.faults.add(rule)
    got = await api.call("GET", api.pods)
    assert (got.status, got.body["code"], got.body["reason"], got.headers.get("Retry-After")) == (
        code,
        code,
        reason,
        retry_after,
    )
    assert (await api.call("GET", api.pods)).status == 200


@pytest.mark.parametrize(("asked", "want"), [(None, "1"), (7, "7")])
async def test_too_many_requests_is_plain_text(
    server: EmbeddedApiServer, api: Api, asked: int | None, want: str
) -> None:
    server.faults.add(Rule(status=429, retry_after_s=asked, count=1))
    got = await api.call("GET", api.pods)
    assert (got.status, got.headers["Retry-After"], got.headers["Content-Type"].partition(";")[0]) == (
        429,
        want,
        "text/plain",
    )
    assert got.body == "Too many requests, please try again later.\n"
    assert (await api.call("GET", api.pods)).status == 200


async def test_rules_hit_what_they_name_after_what_they_skip(server: EmbeddedApiServer, api: Api) -> None:
    server.faults.add(Rule(verb="list", resource="pods", status=500, skip=1, count=2))
    got = [(await api.call("GET", api.pods)).status for _ in range(4)]
    other = [(await api.call("GET", path)).status for path in ("/api/v1/nodes", f"{api.pods}/nope")]
    assert (got, other) == ([200, 500, 500, 200], [200, 404])


async def test_equal_seeds_fail_the_same_requests() -> None:
    runs = []
    for seed in (3, 3, 4):
        async with EmbeddedApiServer(seed=seed) as server, Api(server.url, "faulty") as api:
            server.faults.add(Rule(verb="list", status=500, probability=0.5))
            runs.append([(await api.call("GET", api.pods)).status for _ in range(24)])
    assert runs[0] == runs[1] != runs[2]
    assert set(runs[0]) == {200, 500}


async def test_latency_comes_before_the_write(server: EmbeddedApiServer, api: Api) -> None:
    server.faults.add(Rule(verb="create", resource="pods", latency_s=0.3, count=1))
    start = time.monotonic()
    await api.pod("p")
    assert time.monotonic() - start >= 0.3


async def _burst(api: Api, count: int) -> None:
    await asyncio.gather(*(api.ok("POST", api.configmaps, {"metadata": {"name": f"c{n:03}"}}) for n in range(count)))


async def _all_events(api: Api, path: str) -> tuple[list[dict[str, Any]], bytes, bool]:
    """The whole events of a watch, the bytes after the last whole line, and whether the body ended as it should."""
    body, clean = b"", True
    async with api.session.get(path) as response:
        try:
            async for chunk in response.content.iter_any():
                body += chunk
        except aiohttp.ClientError:
            clean = False
    *lines, rest = body.split(b"\n")
    return [json.loads(line) for line in lines], rest, clean


async def test_a_watch_that_ends_cleanly_in_the_middle_of_a_burst(server: EmbeddedApiServer, api: Api) -> None:
    then = (await api.ok("GET", api.configmaps))["metadata"]["resourceVersion"]
    server.faults.add(Rule(verb="watch", resource="configmaps", end_after=7))
    await _burst(api, 20)
    names: list[str] = []
    for _ in range(3):  # a client that goes on from where it was sees everything
        events, rest, clean = await _all_events(
            api, f"{api.configmaps}?watch=1&resourceVersion={then}&timeoutSeconds=1"
        )
        assert (rest, clean) == (b"", True)
        names += [name for _, name in seen(events)]
        then = events[-1]["object"]["metadata"]["resourceVersion"]
    assert sorted(names) == [f"c{n:03}" for n in range(20)]


async def test_a_watch_cut_in_the_middle_of_a_line(server: EmbeddedApiServer, api: Api) -> None:
    then = (await api.ok("GET", api.configmaps))["metadata"]["resourceVersion"]
    server.faults.add(Rule(verb="watch", resource="configmaps", end_after=3, how="half-line"))
    await _burst(api, 10)
    events, rest, clean = await _all_events(api, f"{api.configmaps}?watch=1&resourceVersion={then}&timeoutSeconds=5")
    assert len(events) == 3
    assert rest.startswith(b'{"type":"ADDED"')
    assert not rest.endswith(b"}")
    assert not clean


async def _open(server: EmbeddedApiServer) -> int:
    return server.faults.watches("configmaps")


@pytest.mark.parametrize(("how", "want_clean"), [("end", True), ("cut", False), ("half-line", False)])
async def test_open_watches_are_closed_on_request(
    server: EmbeddedApiServer, api: Api, how: Any, want_clean: bool
) -> None:
    then = (await api.ok("GET", api.configmaps))["metadata"]["resourceVersion"]
    path = f"{api.configmaps}?watch=1&resourceVersion={then}"
    watching = asyncio.create_task(_all_events(api, path))
    await eventually(lambda: _open(server), "the watch is open")
    assert server.faults.close_watches("pods") == 0
    assert server.faults.close_watches("configmaps", how) == 1
    events, rest, clean = await watching
    assert (events, bool(rest), clean) == ([], how == "half-line", want_clean)
    assert server.faults.watches() == 0


async def test_compaction_ends_what_is_behind(server: EmbeddedApiServer, api: Api) -> None:
    then = (await api.ok("GET", api.configmaps))["metadata"]["resourceVersion"]
    await _burst(api, 3)
    server.faults.compact()
    (event,) = await api.watch(f"{api.configmaps}?resourceVersion={then}")
    assert (event["type"], event["object"]["code"], event["object"]["reason"]) == ("ERROR", 410, "Expired")


async def test_one_resource_can_be_held_back_behind_another(server: EmbeddedApiServer, api: Api) -> None:
    then = (await api.ok("GET", api.pods))["metadata"]["resourceVersion"]
    server.faults.hold("pods")
    pods = asyncio.create_task(api.watch(f"{api.pods}?resourceVersion={then}", events=1, timeout_s=20))
    await api.pod("p")
    await api.ok("POST", api.configmaps, {"metadata": {"name": "later"}})
    first = await api.watch(f"{api.configmaps}?resourceVersion={then}", events=1)
    assert seen(first) == [("ADDED", "later")]
    assert not pods.done()
    server.faults.release("pods")
    assert seen(await pods) == [("ADDED", "p")]


async def test_delivery_can_be_late(server: EmbeddedApiServer, api: Api) -> None:
    then = (await api.ok("GET", api.pods))["metadata"]["resourceVersion"]
    server.faults.add(Rule(verb="watch", resource="pods", delay_s=0.3))
    await api.pod("p")
    start = time.monotonic()
    assert seen(await api.watch(f"{api.pods}?resourceVersion={then}", events=1)) == [("ADDED", "p")]
    assert time.monotonic() - start >= 0.3


async def test_connections_are_refused_for_a_while(server: EmbeddedApiServer, api: Api) -> None:
    await api.pod("p")
    await server.refuse(0.5)
    refused = 0
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        try:
            got = await api.call("GET", f"{api.pods}/p")
        except aiohttp.ClientConnectorError:
            refused += 1
        except aiohttp.ClientError:
            pass  # the connection that was open when it began
        else:
            if refused:
                break
        await asyncio.sleep(0.02)
    assert refused
    assert got.body["metadata"]["name"] == "p"
    assert got.status == 200


async def test_the_admin_endpoint_does_the_same(server: EmbeddedApiServer, api: Api) -> None:
    then = (await api.ok("GET", api.configmaps))["metadata"]["resourceVersion"]
    await _burst(api, 3)
    command = {"add": [{"verb": "list", "resource": "pods", "status": 503, "count": 1}], "compact": True}
    answer = await api.ok("POST", "/_faults", command)
    assert answer["rules"][0]["status"] == 503
    assert (await api.call("GET", api.pods)).status == 503
    assert (await api.watch(f"{api.configmaps}?resourceVersion={then}"))[0]["type"] == "ERROR"
    cleared = await api.ok("POST", "/_faults", {"clear": True})
    assert cleared["rules"] == []
    assert cleared["requests"]["create configmaps"] == 3
    bad = await api.call("POST", "/_faults", {"add": [{"verbs": "list"}]})
    assert (bad.status, "verbs" in bad.message) == (400, True)
    await api.ok("POST", "/_faults", {"hold": ["pods"]})
    await api.ok("POST", "/_faults", {"release": ["pods"], "close_watches": {"resource": "*"}})


async def test_a_token_is_asked_for() -> None:
    async with EmbeddedApiServer(token="right") as server, Api(server.url, "n", token="right") as api:
        assert (await api.call("GET", api.pods)).status == 200
        for wrong in ("", "Bearer wrong", "Bearer righ", "right"):
            got = await api.call("GET", api.pods, Authorization=wrong)
            assert (got.status, got.body["reason"], got.message) == (401, "Unauthorized", "Unauthorized")


async def test_a_watch_gets_bookmarks_when_it_asks_for_them() -> None:
    async with EmbeddedApiServer(bookmark_s=0.05) as server, Api(server.url, "n") as api:
        await api.pod("p")
        now = (await api.ok("GET", api.configmaps))["metadata"]["resourceVersion"]
        path = f"{api.configmaps}?resourceVersion={now}"
        (mark,) = await api.watch(f"{path}&allowWatchBookmarks=true", events=1)
        assert (mark["type"], mark["object"]["metadata"]["resourceVersion"]) == ("BOOKMARK", now)
        assert await api.watch(path) == []


HOSTILE: dict[str, bytes] = {
    "not UTF-8": b'{"metadata":{"name":"\xff"}}',
    "deeply nested": b'{"a":' * 5000 + b"1" + b"}" * 5000,
    "an array": b"[1]",
    "a number": b"5",
    "nothing": b"",
    "a metadata that is a list": b'{"metadata":[]}',
    "a spec that is text": b'{"metadata":{"name":"x"},"spec":"y"}',
    "containers of nulls": b'{"metadata":{"name":"x"},"spec":{"containers":[null,1,"a"]}}',
    "a name that is a number": b'{"metadata":{"name":5}}',
}


@pytest.mark.parametrize("sentence", HOSTILE)
async def test_hostile_bodies_are_refused_and_the_server_goes_on(api: Api, sentence: str) -> None:
    got = await api.call("POST", api.pods, HOSTILE[sentence])
    assert got.status in (400, 422), got.body
    assert (await api.call("GET", api.pods)).status == 200


# The stand-in for kubelets


async def test_a_bound_pod_runs_and_finishes_and_a_deleted_one_goes() -> None:
    async with EmbeddedApiServer(kubelet_delay_s=0.01) as server, Api(server.url, "n") as api:
        then = (await api.ok("GET", api.pods))["metadata"]["resourceVersion"]
        await api.pod("once", meta={"annotations": {RUN_FOR: "20ms"}}, restartPolicy="Never")
        await api.pod("pending")
        await api.bind("once")
        events = await api.watch(f"{api.pods}?resourceVersion={then}&fieldSelector=metadata.name=once", events=4)
        phases = [event["object"]["status"]["phase"] for event in events]
        assert phases == ["Pending", "Pending", "Running", "Succeeded"]
        running = events[2]["object"]["status"]
        assert running["podIP"].startswith("10.")
        assert running["containerStatuses"][0]["ready"] is True
        ready = {condition["type"]: condition["status"] for condition in running["conditions"]}
        assert ready == dict.fromkeys(
            ("PodScheduled", "PodReadyToStartContainers", "Initialized", "Ready", "ContainersReady"), "True"
        )
        table = await api.call("GET", api.pods, Accept="application/json;as=Table;v=v1;g=meta.k8s.io")
        assert [row["cells"][:3] for row in table.body["rows"]] == [
            ["once", "0/1", "Completed"],
            ["pending", "0/1", "Pending"],
        ]
        await api.pod("service")
        await api.bind("service")
        then = (await api.ok("GET", api.pods))["metadata"]["resourceVersion"]
        await api.ok("DELETE", f"{api.pods}/service")
        path = f"{api.pods}?resourceVersion={then}&fieldSelector=metadata.name=service"
        while True:
            events = await api.watch(path, events=1)
            then = events[0]["object"]["metadata"]["resourceVersion"]
            path = f"{api.pods}?resourceVersion={then}&fieldSelector=metadata.name=service"
            if events[0]["type"] == "DELETED":
                break
        assert (await api.ok("GET", f"{api.pods}/pending"))["status"]["phase"] == "Pending"


async def test_a_namespace_ends_with_what_is_in_it() -> None:
    async with EmbeddedApiServer(kubelet_delay_s=0.01) as server, Api(server.url, "n") as api:
        await api.pod("p")
        then = (await api.ok("GET", "/api/v1/namespaces"))["metadata"]["resourceVersion"]
        await api.ok("DELETE", "/api/v1/namespaces/n")
        events = await api.watch(f"/api/v1/namespaces?resourceVersion={then}", events=2)
        assert seen(events) == [("MODIFIED", "n"), ("DELETED", "n")]
        assert (await api.ok("GET", api.pods))["items"] == []
        await api.ok("POST", "/api/v1/namespaces", {"metadata": {"name": "n"}})
        await api.ok("POST", api.configmaps, {"metadata": {"name": "c"}})
        await api.ok("PATCH", f"{api.configmaps}/c", {"data": {"a": "b"}}, content_type=MERGE)
