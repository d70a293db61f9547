"""The client package against API servers: the embedded one, and the real one where its binaries are."""

from __future__ import annotations

import asyncio
import json
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest

from api_objects import make_node, make_pod
from carbon_scheduler.core.decision import Bind, Decision, Unschedulable
from carbon_scheduler.core.model import GridZone, NodeName, Pod, PodUid
from carbon_scheduler.errors import ApiStatusError, LeaseLost
from carbon_scheduler.kube.access import access
from carbon_scheduler.kube.client import ApiClient
from carbon_scheduler.kube.convert import Converter
from carbon_scheduler.kube.endpoint import Access
from carbon_scheduler.kube.lease import Election
from carbon_scheduler.kube.recorder import EventRecorder
from carbon_scheduler.kube.watch import Changed, Gone, Reflector, nodes, pods
from carbon_scheduler.kube.writes import MAX_ANNOTATIONS_B, Writer
from carbon_scheduler.sim.apiserver import EmbeddedApiServer, Rule
from real_cluster import eventually

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from carbon_scheduler.kube.watch import Change
    from carbon_scheduler.sim.control_plane import ControlPlane

JSON = dict[str, Any]


@dataclass
class Target:
    """An API server of either kind, with our client to it. `embedded` None: the real one."""

    client: ApiClient
    embedded: EmbeddedApiServer | None = None

    async def call(self, method: str, path: str, body: object = None) -> JSON:
        sent = None if body is None else json.dumps(body).encode()
        kind = "application/strategic-merge-patch+json" if method == "PATCH" else "application/json"
        tree = json.loads(await self.client.request(method, path, body=sent, content_type=kind))
        assert isinstance(tree, dict)
        return tree

    async def create(self, *objects: JSON) -> list[JSON]:
        return list(await asyncio.gather(*(self.call("POST", collection(one), one) for one in objects)))

    async def delete_pod(self, name: str) -> None:
        await self.call("DELETE", f"/api/v1/namespaces/default/pods/{name}?gracePeriodSeconds=0")


def collection(one: JSON) -> str:
    return "/api/v1/nodes" if one["kind"] == "Node" else "/api/v1/namespaces/default/pods"


@asynccontextmanager
async def embedded_target(**options: Any) -> AsyncIterator[Target]:
    async with EmbeddedApiServer(**options) as server:
        client = ApiClient(Access(server.url))
        try:
            yield Target(client, server)
        finally:
            await client.close()


@pytest.fixture(params=["embedded", pytest.param("real", marks=pytest.mark.control_plane)])
async def target(request: pytest.FixtureRequest) -> AsyncIterator[Target]:
    """Both kinds, empty of pods and nodes."""
    if request.param == "embedded":
        async with embedded_target() as made:
            yield made
        return
    plane: ControlPlane = request.getfixturevalue("control_plane")
    client = ApiClient(access(plane.kubeconfig, {}))
    made = Target(client)
    for path in ("/api/v1/namespaces/default/pods", "/api/v1/nodes"):
        await made.call("DELETE", f"{path}?gracePeriodSeconds=0")
    yield made
    await client.close()


class Mirror:
    """A reflector and what it told."""

    def __init__(self, target: Target, page_size: int = 500) -> None:
        self.pods: dict[str, Pod] = {}
        self.gone: list[str] = []
        self.reflector = Reflector(target.client, pods(Converter()), self.take, page_size=page_size)

    def take(self, changes: list[Change[Pod]]) -> None:
        for change in changes:
            match change:
                case Changed(obj):
                    self.pods[obj.uid] = obj
                case Gone(uid):
                    self.pods.pop(uid)
                    self.gone.append(uid)

    def named(self, name: str) -> Pod:
        return next(pod for pod in self.pods.values() if pod.name == name)

    def names(self) -> set[str]:
        return {pod.name for pod in self.pods.values() if pod.namespace == "default"}

    @asynccontextmanager
    async def running(self) -> AsyncIterator[Mirror]:
        task = asyncio.create_task(self.reflector.run())
        try:
            await asyncio.wait_for(self.reflector.synced.wait(), 20)
            yield self
            assert not task.done(), task
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


async def server_names(target: Target) -> set[str]:
    """The names that a list shows, past the faults that the test injects."""
    while True:
        try:
            listed = await target.call("GET", "/api/v1/namespaces/default/pods")
        except ApiStatusError as error:
            if error.code != 503:
                raise
        else:
            return {item["metadata"]["name"] for item in listed["items"]}


async def true_within(check: Callable[[], object], what: str, within_s: float = 20.0) -> None:
    async def call() -> object:
        return check()

    await eventually(call, what, within_s=within_s, every_s=0.02)


def make_bind(pod: Pod, node: str = "n1", uid: str | None = None) -> Bind:
    decision = Decision(
        seq=1,
        at_us=1_795_442_400_000_000,
        node=NodeName(node),
        grid_zone=GridZone("FR"),
        intensity_g_per_kwh=56.0,
        cleanest_g_per_kwh=56.0,
        quality="measured",
        source="electricitymaps",
        feasible=1,
        policy="carbon-first",
        blind=NodeName(node),
        saved_g_per_kwh=0.0,
    )
    return Bind(
        PodUid(uid or pod.uid), pod.namespace, pod.name, NodeName(node), decision, annotations_b=pod.annotations_b
    )


async def test_a_pods_life_as_told_by_the_reflector(target: Target) -> None:
    await target.create(make_node("n1"), *(make_pod(f"before-{n}") for n in range(7)))
    async with Mirror(target, page_size=3).running() as mirror:
        assert mirror.names() == {f"before-{n}" for n in range(7)}
        await target.create(make_pod("p", cpu="250m"))
        await true_within(lambda: "p" in mirror.names(), "the new pod")
        assert mirror.named("p").spec.requests.cpu_m == 250
        answer = await Writer(target.client).bind(make_bind(mirror.named("p")))
        assert (answer.outcome, answer.code) == ("bound", 201)
        await true_within(lambda: mirror.named("p").node_name == "n1", "the echo of the binding")
        bound = mirror.named("p")
        assert dict(bound.annotations)["carbon-scheduler.io/grid-zone"] == "FR"
        assert (
            json.loads(dict(bound.annotations)["carbon-scheduler.io/decision"])["at"] == "2026-11-23T14:00:00.000000Z"
        )
        await target.call("PATCH", "/api/v1/namespaces/default/pods/p/status", {"status": {"phase": "Succeeded"}})
        await true_within(lambda: bound.uid in mirror.gone, "a finished pod leaves the selection")
        await target.delete_pod("before-0")
        await true_within(lambda: mirror.names() == {f"before-{n}" for n in range(1, 7)}, "the deletion")
        assert mirror.reflector.relists == 0


async def test_the_answers_to_bindings(target: Target) -> None:
    gated = make_pod("gated", schedulingGates=[{"name": "example.com/wait"}])
    await target.create(make_node("n1"), make_pod("p"), gated)
    writer = Writer(target.client)
    async with Mirror(target).running() as mirror:
        pod = mirror.named("p")
        assert mirror.named("gated").gated
        assert (await writer.bind(make_bind(pod, uid="another"))).code == 409
        assert (await writer.bind(make_bind(mirror.named("gated")))).code == 409
        assert (await writer.bind(make_bind(pod))).outcome == "bound"
        again = await writer.bind(make_bind(pod, node="n2"))
        assert (again.outcome, again.code) == ("refused", 409)
        read = await writer.read_pod("default", "p", pod.uid)
        assert read is not None
        assert read.node_name == "n1"
        await target.delete_pod("p")
        assert (await writer.bind(make_bind(pod))).code == 404
        assert await writer.read_pod("default", "p", pod.uid) is None


async def test_annotations_that_do_not_fit_are_left_out_of_a_binding(target: Target) -> None:
    full = make_pod("full", meta={"annotations": {"a": "x" * (MAX_ANNOTATIONS_B - 3)}})
    labelled = make_pod("labelled", meta={"labels": {f"l{n:05}": "" for n in range(10_000)}})
    await target.create(make_node("n1"), full, labelled)
    async with Mirror(target).running() as mirror:
        assert mirror.named("full").annotations_b == MAX_ANNOTATIONS_B - 2
        assert "10000" in mirror.named("labelled").refusal
        assert (await Writer(target.client).bind(make_bind(mirror.named("full")))).outcome == "bound"
        await true_within(lambda: mirror.named("full").node_name == "n1", "the echo")
        assert mirror.named("full").annotations == ()
        change = {"metadata": {"labels": {"can-still": "be-changed"}}}
        await target.call("PATCH", "/api/v1/namespaces/default/pods/full", change)


async def test_a_condition_and_events(target: Target) -> None:
    await target.create(make_node("n1"), make_pod("waits"))
    recorder = EventRecorder(target.client, hostname="host")
    recorder.start()
    async with Mirror(target).running() as mirror:
        pod = mirror.named("waits")
        effect = Unschedulable(
            pod.uid, "default", "waits", "Unschedulable", "0/1 nodes are available: 1 Insufficient cpu.", True,
            generation=pod.generation,
        )  # fmt: skip
        writer = Writer(target.client)
        assert await writer.condition(effect)
        for _ in range(3):
            recorder.failed_scheduling(effect)
        await true_within(lambda: mirror.named("waits").scheduled_message, "the condition's echo")
        assert mirror.named("waits").scheduled_message == "Unschedulable: 0/1 nodes are available: 1 Insufficient cpu."
        recreated = Unschedulable(PodUid("another"), "default", "waits", "Unschedulable", "stale", True)
        assert not await writer.condition(recreated), "not written on another pod of the same name"
        recorder.scheduled(make_bind(pod))
    await recorder.close()
    assert (recorder.failed, recorder.dropped) == (0, 0)
    found = (await target.call("GET", "/apis/events.k8s.io/v1/namespaces/default/events"))["items"]
    ours = {event["reason"]: event for event in found if event["regarding"]["name"] == "waits"}
    assert ours["FailedScheduling"]["series"]["count"] == 3
    assert ours["Scheduled"]["note"] == "Successfully assigned default/waits to n1"
    conditions = (await target.call("GET", "/api/v1/namespaces/default/pods/waits"))["status"]["conditions"]
    assert [c["lastTransitionTime"] is not None for c in conditions if c["type"] == "PodScheduled"] == [True]


async def test_two_candidates_for_a_lease(target: Target) -> None:
    first = Election(target.client, "kube-system", "two-candidates", identity="a", retry_period_s=0.1)
    second = Election(target.client, "kube-system", "two-candidates", identity="b", retry_period_s=0.1)
    await first.acquire()
    renewing = asyncio.create_task(first.run())
    waiting = asyncio.create_task(second.acquire())
    done, _ = await asyncio.wait({renewing, waiting}, timeout=1.0)
    assert not done, "one leads, the other waits"
    first.check()
    renewing.cancel()
    await first.release()
    await asyncio.wait_for(waiting, 10)
    second.check()
    with pytest.raises(LeaseLost):
        first.check()
    await second.release()


async def test_a_relist_on_request(target: Target) -> None:
    await target.create(make_pod("a"), make_pod("b"))
    async with Mirror(target).running() as mirror:
        await target.delete_pod("a")
        await asyncio.wait_for(mirror.reflector.relist(), 10)
        assert mirror.names() == {"b"}
        assert mirror.reflector.relists == 1


# -- the embedded server's faults


async def test_watches_that_end_in_the_middle_of_bursts_lose_nothing() -> None:
    async with embedded_target() as target:
        server = target.embedded
        assert server is not None
        for how, end_after in (("end", 3), ("half-line", 5), ("cut", 2)):
            server.faults.add(Rule(verb="watch", resource="pods", end_after=end_after, how=how, count=4))  # type: ignore[arg-type]
        server.faults.add(Rule(verb="list", resource="pods", status=503, probability=0.3, count=5))
        async with Mirror(target, page_size=7).running() as mirror:
            for burst in range(12):
                await target.create(*(make_pod(f"p-{burst}-{n}") for n in range(8)))
                if burst % 3 == 2:
                    await asyncio.gather(*(target.delete_pod(f"p-{burst - 1}-{n}") for n in range(4)))
                if burst % 5 == 4:
                    server.faults.compact()
                listed = await server_names(target)
                await true_within(lambda want=listed: mirror.names() == want, "the mirror equals the server")  # type: ignore[misc]
            assert mirror.reflector.resumes + mirror.reflector.relists >= 4


async def test_deletions_during_an_outage_with_compaction_are_told() -> None:
    async with embedded_target() as target:
        server = target.embedded
        assert server is not None
        await target.create(*(make_pod(f"p{n}") for n in range(6)))
        async with Mirror(target).running() as mirror:
            server.faults.add(Rule(verb="watch", resource="pods", status=503, count=3))
            server.faults.close_watches()
            await target.delete_pod("p1")
            await target.create(make_pod("new"))
            server.faults.compact()
            await true_within(
                lambda: mirror.names() == {"p0", "p2", "p3", "p4", "p5", "new"}, "the difference was told"
            )
            assert len(mirror.gone) == 1


async def test_lost_and_refused_bindings_are_told_apart() -> None:
    async with embedded_target() as target:
        server = target.embedded
        assert server is not None
        await target.create(make_node("n1"), *(make_pod(name) for name in ("lost", "dropped", "busy", "broken")))
        writer = Writer(target.client)
        async with Mirror(target).running() as mirror:
            server.faults.add(Rule(resource="pods/binding", lose_answer=True, count=1))
            assert (await writer.bind(make_bind(mirror.named("lost")))).outcome == "unknown"
            read = await writer.read_pod("default", "lost", mirror.named("lost").uid)
            assert read is not None
            assert read.node_name == "n1", "it was carried out"
            server.faults.add(Rule(resource="pods/binding", drop=True, count=1))
            assert (await writer.bind(make_bind(mirror.named("dropped")))).outcome == "unknown"
            read = await writer.read_pod("default", "dropped", mirror.named("dropped").uid)
            assert read is not None
            assert read.node_name is None, "it was not"
            server.faults.add(Rule(resource="pods/binding", status=429, retry_after_s=1, count=1))
            assert (await writer.bind(make_bind(mirror.named("busy")))).outcome == "bound"
            server.faults.add(Rule(resource="pods/binding", status=500, count=1))
            assert (await writer.bind(make_bind(mirror.named("broken")))).outcome == "unknown"


# -- the real server alone


@pytest.mark.control_plane
async def test_the_reflector_outlives_the_api_server(own_control_plane: Callable[..., ControlPlane]) -> None:
    plane = own_control_plane()
    client = ApiClient(access(plane.kubeconfig, {}))
    target = Target(client)
    await target.create(make_pod("a"), make_pod("b"))
    async with Mirror(target).running() as mirror:
        plane.stop_api_server(kill=True)
        await true_within(lambda: mirror.reflector.problem, "the outage is noticed")
        plane.start_api_server()
        await target.create(make_pod("c"))
        await target.delete_pod("a")
        await true_within(lambda: mirror.names() == {"b", "c"}, "it hears again", within_s=30)
        assert mirror.reflector.problem == ""
    await client.close()


@pytest.mark.control_plane
async def test_a_wrong_token_and_a_missing_right_are_told_apart(control_plane: ControlPlane) -> None:
    async with AsyncExitStack() as stack:
        wrong = ApiClient(access(control_plane.kubeconfig_for("wrong"), {}))
        stack.push_async_callback(wrong.close)
        with pytest.raises(ApiStatusError, match="renew the credentials") as caught:
            await wrong.request("GET", "/api/v1/nodes")
        assert caught.value.code == 401
        account = {"metadata": {"name": "without-rights"}}
        control_plane.request("POST", "/api/v1/namespaces/default/serviceaccounts", account)
        nobody = ApiClient(access(control_plane.service_account_kubeconfig("default", "without-rights"), {}))
        stack.push_async_callback(nobody.close)
        with pytest.raises(ApiStatusError, match=r"nodes is forbidden.*grant the right") as caught:
            await nobody.request("GET", "/api/v1/nodes")
        assert caught.value.code == 403


@pytest.mark.control_plane
async def test_nodes_of_the_real_server(control_plane: ControlPlane) -> None:
    client = ApiClient(access(control_plane.kubeconfig, {}))
    target = Target(client)
    taint = {"key": "k", "effect": "NoExecute"}
    await target.create(make_node("real-node", cpu="3.5", carbon_zone="DE", taints=[taint], unschedulable=True))
    told: list[Any] = []
    reflector = Reflector(client, nodes(Converter()), told.extend)
    task = asyncio.create_task(reflector.run())
    await asyncio.wait_for(reflector.synced.wait(), 10)
    node = next(change.obj for change in told if change.obj.name == "real-node")
    assert (node.allocatable["cpu"], node.labels["carbon-zone"], node.unschedulable) == (3500, "DE", True)
    assert "k" in {each.key for each in node.taints}
    await target.call("DELETE", "/api/v1/nodes/real-node")
    await true_within(lambda: any(isinstance(change, Gone) and change.name == "real-node" for change in told), "gone")
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    await client.close()
