"""The contract of the API server's watches, put to the embedded and the real one."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from api_contract import MERGE, TABLE, seen

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from api_contract import JSON, Api


async def _now(api: Api, path: str) -> str:
    return str((await api.ok("GET", path))["metadata"]["resourceVersion"])


async def _configmap(api: Api, name: str, **metadata: Any) -> JSON:
    return await api.ok("POST", api.configmaps, {"metadata": {"name": name, **metadata}})


async def test_a_watch_goes_on_from_a_version(api: Api) -> None:
    await _configmap(api, "before")
    then = await _now(api, api.configmaps)
    await _configmap(api, "a")
    await api.ok("PATCH", f"{api.configmaps}/a", {"data": {"k": "v"}}, content_type=MERGE)
    await api.ok("DELETE", f"{api.configmaps}/a")
    events = await api.watch(f"{api.configmaps}?resourceVersion={then}", events=3)
    assert seen(events) == [("ADDED", "a"), ("MODIFIED", "a"), ("DELETED", "a")]
    versions = [int(event["object"]["metadata"]["resourceVersion"]) for event in events]
    assert versions == sorted(set(versions))
    assert versions[0] > int(then)
    assert events[2]["object"]["data"] == {"k": "v"}
    assert (events[0]["object"]["kind"], events[0]["object"]["apiVersion"]) == ("ConfigMap", "v1")


async def test_a_watch_without_a_version_starts_with_what_there_is(api: Api) -> None:
    for name in ("b", "a"):
        await _configmap(api, name)
    for query in ("", "?resourceVersion=0"):
        events = await api.watch(f"{api.configmaps}{query}", events=2, timeout_s=5)
        assert sorted(seen(events)) == [("ADDED", "a"), ("ADDED", "b")]


async def test_events_arrive_while_the_watch_is_open(api: Api) -> None:
    then = await _now(api, api.configmaps)
    watching = asyncio.create_task(api.watch(f"{api.configmaps}?resourceVersion={then}", events=2, timeout_s=20))
    await asyncio.sleep(0.2)
    await _configmap(api, "a")
    await _configmap(api, "b")
    assert seen(await watching) == [("ADDED", "a"), ("ADDED", "b")]


async def test_a_watch_ends_cleanly_at_its_time(api: Api) -> None:
    then = await _now(api, api.configmaps)
    assert await api.watch(f"{api.configmaps}?resourceVersion={then}", timeout_s=1) == []


async def test_one_namespace_does_not_see_another(api: Api) -> None:
    then = await _now(api, "/api/v1/configmaps")
    other = f"{api.namespace}-b"
    await api.ok("POST", "/api/v1/namespaces", {"metadata": {"name": other}})
    await api.ok("POST", f"/api/v1/namespaces/{other}/configmaps", {"metadata": {"name": "there"}})
    await _configmap(api, "here")
    assert seen(await api.watch(f"{api.configmaps}?resourceVersion={then}", events=1)) == [("ADDED", "here")]
    both = await api.watch(f"/api/v1/configmaps?resourceVersion={then}")
    assert {("ADDED", "there"), ("ADDED", "here")} <= set(seen(both))


async def test_one_object_is_watched_by_name(api: Api) -> None:
    then = await _now(api, api.configmaps)
    for name in ("a", "b"):
        await _configmap(api, name)
    events = await api.watch(f"{api.configmaps}?resourceVersion={then}&fieldSelector=metadata.name=b")
    assert seen(events) == [("ADDED", "b")]
    plain = await api.ok("GET", f"{api.configmaps}/b?watch=1")
    assert plain["kind"] == "ConfigMap"


async def test_leaving_a_selection_is_a_deletion_and_entering_it_an_addition(api: Api) -> None:
    then = await _now(api, api.pods)
    await api.pod("p")
    await api.bind("p")
    await api.ok("PATCH", f"{api.pods}/p", {"metadata": {"labels": {"a": "b"}}}, content_type=MERGE)
    await api.ok("PATCH", f"{api.pods}/p", {"metadata": {"labels": None}}, content_type=MERGE)
    await api.ok("DELETE", f"{api.pods}/p?gracePeriodSeconds=0")
    got = {
        selector: [
            type_
            for type_, name in seen(await api.watch(f"{api.pods}?resourceVersion={then}&{selector}"))
            if name == "p"
        ]
        for selector in ("fieldSelector=spec.nodeName=", "fieldSelector=spec.nodeName=n1", "labelSelector=a=b", "")
    }
    assert got == {
        "fieldSelector=spec.nodeName=": ["ADDED", "DELETED"],
        "fieldSelector=spec.nodeName=n1": ["ADDED", "MODIFIED", "MODIFIED", "MODIFIED", "DELETED"],
        "labelSelector=a=b": ["ADDED", "DELETED"],
        "": ["ADDED", "MODIFIED", "MODIFIED", "MODIFIED", "MODIFIED", "DELETED"],
    }


async def test_what_left_a_selection_is_shown_as_it_was_at_the_version_of_the_change(api: Api) -> None:
    then = await _now(api, api.pods)
    await api.pod("p")
    await api.bind("p")
    bound = await api.ok("GET", f"{api.pods}/p")
    events = await api.watch(f"{api.pods}?resourceVersion={then}&fieldSelector=spec.nodeName=", events=2)
    gone = events[1]["object"]
    assert gone["metadata"]["resourceVersion"] == bound["metadata"]["resourceVersion"]
    assert "nodeName" not in gone["spec"], "it shows the last state that was in the selection"


DELETIONS: dict[str, tuple[Callable[[Api], Awaitable[Any]], list[tuple[str, int | None]]]] = {
    "a pending pod": (lambda api: api.ok("DELETE", f"{api.pods}/p"), [("MODIFIED", 0), ("DELETED", 0)]),
    "a pod on a node, then forced": (
        lambda api: _graceful_then_forced(api),
        [("MODIFIED", None), ("MODIFIED", 30), ("MODIFIED", 0), ("DELETED", 0)],
    ),
}


async def _graceful_then_forced(api: Api) -> None:
    await api.bind("p")
    await api.ok("DELETE", f"{api.pods}/p")
    await api.ok("DELETE", f"{api.pods}/p?gracePeriodSeconds=0")


async def test_deletions_are_announced_before_they_happen(api: Api) -> None:
    for sentence, (delete, want) in DELETIONS.items():
        made = await api.pod("p")
        await delete(api)
        events = await api.watch(f"{api.pods}?resourceVersion={made['metadata']['resourceVersion']}", timeout_s=3)
        got = [(event["type"], event["object"]["metadata"].get("deletionGracePeriodSeconds")) for event in events]
        assert got == want, sentence


async def test_taking_the_last_finalizer_off_deletes_without_another_change(api: Api) -> None:
    made = await _configmap(api, "f", finalizers=["a.b/c"])
    await api.ok("DELETE", f"{api.configmaps}/f")
    await api.ok("PATCH", f"{api.configmaps}/f", {"metadata": {"finalizers": None}}, content_type=MERGE)
    events = await api.watch(f"{api.configmaps}?resourceVersion={made['metadata']['resourceVersion']}")
    assert seen(events) == [("MODIFIED", "f"), ("DELETED", "f")]


async def test_initial_events_end_with_a_bookmark(api: Api) -> None:
    await _configmap(api, "a")
    query = "sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true"
    watching = asyncio.create_task(api.watch(f"{api.configmaps}?{query}", events=3, timeout_s=20))
    await asyncio.sleep(0.3)
    await _configmap(api, "b")
    events = await watching
    assert seen(events) == [("ADDED", "a"), ("BOOKMARK", ""), ("ADDED", "b")]
    mark = events[1]["object"]
    assert mark["metadata"]["annotations"] == {"k8s.io/initial-events-end": "true"}
    assert (mark["kind"], mark["apiVersion"]) == ("ConfigMap", "v1")
    assert int(mark["metadata"]["resourceVersion"]) < int(events[2]["object"]["metadata"]["resourceVersion"])


async def test_both_views_of_events_are_watched(api: Api) -> None:
    new = f"/apis/events.k8s.io/v1/namespaces/{api.namespace}/events"
    then = await _now(api, api.events)
    body = {
        "metadata": {"name": "e", "namespace": api.namespace},
        "involvedObject": {"kind": "Pod", "namespace": api.namespace, "name": "p"},
        "message": "hello",
        "reason": "r",
        "type": "Normal",
    }
    await api.ok("POST", api.events, body)
    (old_view,) = await api.watch(f"{api.events}?resourceVersion={then}", events=1)
    (new_view,) = await api.watch(f"{new}?resourceVersion={then}", events=1)
    assert (old_view["object"]["apiVersion"], old_view["object"]["message"]) == ("v1", "hello")
    assert (new_view["object"]["apiVersion"], new_view["object"]["note"]) == ("events.k8s.io/v1", "hello")


async def test_a_watched_table_has_its_columns_once(api: Api) -> None:
    then = await _now(api, api.pods)
    for name in ("a", "b"):
        await api.pod(name)
    events = await api.watch(f"{api.pods}?resourceVersion={then}", events=2, accept=TABLE)
    assert [event["object"]["kind"] for event in events] == ["Table", "Table"]
    assert [len(event["object"]["columnDefinitions"] or []) for event in events] == [9, 0]
    assert [event["object"]["rows"][0]["cells"][0] for event in events] == ["a", "b"]


async def test_many_watchers_see_a_burst_whole_and_in_order(api: Api) -> None:
    then = await _now(api, api.configmaps)
    query = f"{api.configmaps}?resourceVersion={then}"
    watching = [asyncio.create_task(api.watch(query, events=100, timeout_s=25)) for _ in range(4)]
    await asyncio.gather(*(_configmap(api, f"c{n:03}") for n in range(100)))
    for events in await asyncio.gather(*watching):
        versions = [int(event["object"]["metadata"]["resourceVersion"]) for event in events]
        assert versions == sorted(set(versions))
        assert len(versions) == 100
