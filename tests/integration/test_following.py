"""What a scheduler follows beside pods and nodes: told to the core, held for, and missed loudly when it may not be read."""

from __future__ import annotations

import asyncio
import json
import uuid
from typing import TYPE_CHECKING, Any

import pytest

from api_kinds import OBJECTS, collection, expected, filled
from api_objects import make_node, make_pod
from carbon_scheduler.core.cluster import Cluster as Core
from carbon_scheduler.core.events import Event, ObjectChanged, ObjectGone
from carbon_scheduler.core.objects import KINDS as CORE_KINDS
from carbon_scheduler.kube.access import access
from carbon_scheduler.kube.client import ApiClient
from carbon_scheduler.kube.convert import Converter
from carbon_scheduler.kube.endpoint import Access
from carbon_scheduler.live.follow import MOST_STREAMS, Following
from carbon_scheduler.providers.tables import grid_zones
from carbon_scheduler.sim.apiserver import EmbeddedApiServer, Rule
from carbon_scheduler.sim.apiserver.__main__ import write_kubeconfig
from real_cluster import eventually

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterable
    from pathlib import Path

    from carbon_scheduler.core.objects import AnyObject, ObjectKind
    from carbon_scheduler.sim.control_plane import ControlPlane
    from scheduler_process import SchedulerProcess

JSON = dict[str, Any]
ALL = ("spreading", "volumes", "preemption")


class Listener:
    """What `Following` told, and what a core makes of it."""

    def __init__(self, client: ApiClient, needs: Iterable[Any] = ALL) -> None:
        self.core = Core(grid_zones(), None)
        self.following = Following(client, Converter(), tuple(needs), self.take, lambda: (1.0, 2.0), page_size=500)

    def take(self, found: Iterable[Event]) -> None:
        for event in found:
            assert (event.at, event.wall) == (1.0, 2.0)
            match event:
                case ObjectChanged():
                    self.core.put_object(event.object)
                case ObjectGone():
                    self.core.drop_object(event.kind, event.key)

    def named(self, name: str) -> dict[str, AnyObject]:
        """Kind -> the object of this name."""
        found = (one for kind in CORE_KINDS for one in self.core.snap.objects.all(kind).values())
        return {one.kind: one for one in found if one.name == name}

    async def run(self) -> None:
        async with asyncio.TaskGroup() as group:
            self.following.run(group)


@pytest.fixture(params=["embedded", pytest.param("real", marks=pytest.mark.control_plane)])
async def client(request: pytest.FixtureRequest) -> AsyncIterator[ApiClient]:
    if request.param == "embedded":
        async with EmbeddedApiServer() as server:
            made = ApiClient(Access(server.url), connections=MOST_STREAMS + 1)
            yield made
            await made.close()
        return
    plane: ControlPlane = request.getfixturevalue("control_plane")
    made = ApiClient(access(plane.kubeconfig, {}), connections=MOST_STREAMS + 1)
    yield made
    await made.close()


async def _call(client: ApiClient, method: str, path: str, body: object = None) -> JSON:
    sent = None if body is None else json.dumps(body).encode()
    content_type = "application/merge-patch+json" if method == "PATCH" else "application/json"
    tree: JSON = json.loads(await client.request(method, path, body=sent, content_type=content_type))
    return tree


async def test_all_kinds_come_change_and_go(client: ApiClient) -> None:
    """One connection is left for requests: the watches hold all others."""
    name = f"followed-{uuid.uuid4().hex[:8]}"
    listener = Listener(client)

    async def create(kinds: list[ObjectKind]) -> None:
        for kind in kinds:
            body = filled(OBJECTS[kind][0], "default", name)
            await _call(client, "POST", collection(kind, "default"), {"metadata": {"name": name}, **body})

    before, after = list(OBJECTS)[::2], list(OBJECTS)[1::2]
    await create(before)
    running = asyncio.create_task(listener.run())
    await asyncio.wait_for(listener.following.synced(), 20)
    assert set(listener.named(name)) == set(before)
    await create(after)
    await eventually(lambda: _true(len(listener.named(name)) == len(OBJECTS)), "all are there")
    for kind in OBJECTS:
        patch = filled(OBJECTS[kind][1], "default", name)
        await _call(client, "PATCH", f"{collection(kind, 'default')}/{name}", patch)

    async def as_patched() -> bool:
        got = listener.named(name)
        return all(got[kind] == expected(OBJECTS[kind][3], got[kind], "default", name) for kind in OBJECTS)

    await eventually(as_patched, "all are as patched")
    assert not listener.following.deaf
    for kind in OBJECTS:
        place = f"{collection(kind, 'default')}/{name}"
        if kind in ("PersistentVolume", "PersistentVolumeClaim"):
            await _call(client, "PATCH", place, {"metadata": {"finalizers": None}})
        await _call(client, "DELETE", f"{place}?propagationPolicy=Background")
    await eventually(lambda: _true(not listener.named(name)), "none is left")
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


async def _true(value: bool) -> bool:
    return value


async def test_a_list_on_taking_over_tells_what_went_unheard() -> None:
    async with EmbeddedApiServer() as server:
        client = ApiClient(Access(server.url), connections=MOST_STREAMS + 1)
        listener = Listener(client)
        running = asyncio.create_task(listener.run())
        await asyncio.wait_for(listener.following.synced(), 20)
        server.faults.hold("services")
        body = {"metadata": {"name": "s"}, "spec": {"selector": {"app": "web"}, "ports": [{"port": 80}]}}
        await _call(client, "POST", "/api/v1/namespaces/default/services", body)
        await asyncio.wait_for(listener.following.relist(), 20)
        assert set(listener.named("s")) == {"Service"}
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        await client.close()


async def test_a_kind_that_may_not_be_read_is_named_and_holds_everything_up(
    start_scheduler: Callable[..., SchedulerProcess], tmp_path: Path
) -> None:
    async with EmbeddedApiServer() as server:
        server.faults.add(Rule(verb="list", resource="csinodes", status=403))
        write_kubeconfig(kubeconfig := tmp_path / "kubeconfig", server.url, None)
        cluster = ApiClient(Access(server.url))
        await _call(cluster, "POST", "/api/v1/nodes", make_node("n", carbon_zone="FR"))
        await _call(cluster, "POST", "/api/v1/namespaces/default/pods", make_pod("p"))
        process = start_scheduler(kubeconfig)
        await process.said("GET /apis/storage.k8s.io/v1/csinodes: API server answered 403")
        assert "grant the right in RBAC (deploy/k8s.yaml has the whole list)" in process.text
        status, said = await process.answer("/readyz?verbose")
        assert (status, "the first list of CSINode is not complete" in said) == (503, True)
        pod = await _call(cluster, "GET", "/api/v1/namespaces/default/pods/p")
        assert "nodeName" not in pod["spec"]
        server.faults.clear()
        await process.ready()

        async def bound() -> bool:
            return "nodeName" in (await _call(cluster, "GET", "/api/v1/namespaces/default/pods/p"))["spec"]

        await eventually(bound, "it is bound")
        await cluster.close()
