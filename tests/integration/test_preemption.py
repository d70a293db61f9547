"""Preemption against an API server: victims are marked, deleted and told; the pod that needs the room is nominated, then bound."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from api_objects import make_node, make_pod
from pod_outcomes import bound, node_of, nodes_of, pending
from real_cluster import eventually

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from real_cluster import Cluster
    from scheduler_process import SchedulerProcess

JSON = dict[str, Any]
CLASSES = {"high": {"value": 1000}, "patient": {"value": 1000, "preemptionPolicy": "Never"}, "low": {"value": 10}}
BUDGETS = "/apis/policy/v1/namespaces/default/poddisruptionbudgets"


@pytest.fixture
async def ranked(either_cluster: Cluster) -> AsyncIterator[Cluster]:
    """A cluster with priority classes. They are not of a namespace, so that they are taken away again."""
    path = "/apis/scheduling.k8s.io/v1/priorityclasses"
    for name, fields in CLASSES.items():
        head = {"apiVersion": "scheduling.k8s.io/v1", "kind": "PriorityClass", "metadata": {"name": name}}
        await either_cluster.call("POST", path, {**head, **fields})
    yield either_cluster
    for name in CLASSES:
        await either_cluster.call("DELETE", f"{path}/{name}")


def occupant(name: str, node: str, **more: Any) -> JSON:
    """Another scheduler's pod of low priority, that fills a node."""
    return make_pod(name, scheduler=None, cpu="3", node=node, priorityClassName="low", **more)


async def marked(cluster: Cluster, name: str) -> JSON:
    """A pod once it is being deleted."""
    found: list[JSON] = []

    async def going() -> bool:
        found[:] = [await cluster.get("Pod", name)]
        return "deletionTimestamp" in found[0]["metadata"]

    await eventually(going, f"{name} is being deleted")
    return found[0]


async def end(cluster: Cluster, name: str) -> None:
    """What the kubelet does in the end."""
    await cluster.call("DELETE", f"/api/v1/namespaces/default/pods/{name}", {"gracePeriodSeconds": 0})


async def events_of(cluster: Cluster, reason: str) -> list[JSON]:
    found = await cluster.call("GET", "/apis/events.k8s.io/v1/namespaces/default/events")
    return [event for event in found["items"] if event["reason"] == reason]


async def test_a_pod_of_higher_priority_gets_the_room_of_another(
    ranked: Cluster, start_scheduler: Callable[..., SchedulerProcess]
) -> None:
    cluster = ranked
    await cluster.create([make_node("only", cpu="4")])
    await cluster.create([occupant("low", "only")])
    scheduler = start_scheduler(cluster.plane.kubeconfig)
    await scheduler.ready()
    (high,) = await cluster.create([make_pod("high", cpu="2", priorityClassName="high")])

    victim = await marked(cluster, "low")
    (condition,) = [c for c in victim["status"]["conditions"] if c["type"] == "DisruptionTarget"]
    assert (condition["status"], condition["reason"]) == ("True", "PreemptionByScheduler")
    assert condition["message"] == "carbon-aware-scheduler: preempting to accommodate a higher priority pod"

    async def nominated() -> bool:
        return bool((await cluster.get("Pod", "high"))["status"].get("nominatedNodeName") == "only")

    await eventually(nominated, "the status says where room is made")
    waits = await pending(cluster, "high")
    assert (waits["reason"], waits["message"]) == ("Unschedulable", "0/1 nodes are available: 1 Insufficient cpu.")

    await cluster.create([make_pod("later", cpu="3")])  # wants the same room, with less reason
    await pending(cluster, "later")
    await end(cluster, "low")
    (pod,) = await bound(cluster, "high")
    assert node_of(pod) == "only"
    assert not node_of(await cluster.get("Pod", "later"))

    async def told() -> bool:
        return bool(await events_of(cluster, "Preempted"))

    await eventually(told, "the victim is told")
    (event,) = await events_of(cluster, "Preempted")
    assert (event["regarding"]["name"], event["related"]["name"]) == ("low", "high")
    assert event["note"] == f"Preempted by pod {high['metadata']['uid']} on node only"
    assert (event["type"], event["action"]) == ("Normal", "Preempting")
    assert event["reportingController"] == "carbon-aware-scheduler"
    metrics = await scheduler.metrics()
    assert metrics['carbon_scheduler_evictions_total{result="evicted"}'] == 1
    assert metrics["carbon_scheduler_preemption_victims_count"] == 1
    await scheduler.said("Pod default/low evicted from only to make room for default/high")


async def test_a_budget_is_spared_where_another_node_will_do(
    ranked: Cluster, start_scheduler: Callable[..., SchedulerProcess]
) -> None:
    cluster = ranked
    await cluster.create([make_node(name, cpu="4") for name in ("guarded", "open")])
    budget = {
        "apiVersion": "policy/v1",
        "kind": "PodDisruptionBudget",
        "metadata": {"name": "guard", "namespace": "default"},
        "spec": {"minAvailable": 1, "selector": {"matchLabels": {"app": "guarded"}}},
    }
    await cluster.call("POST", BUDGETS, budget)
    try:
        await cluster.create([occupant("kept", "guarded", labels={"app": "guarded"}), occupant("goes", "open")])
        await (scheduler := start_scheduler(cluster.plane.kubeconfig)).ready()
        await cluster.create([make_pod("high", cpu="2", priorityClassName="high")])
        await marked(cluster, "goes")
        await end(cluster, "goes")
        assert await nodes_of(cluster, "high") == ["open"]
        assert "deletionTimestamp" not in (await cluster.get("Pod", "kept"))["metadata"]
        assert "cannot be read" not in scheduler.text
    finally:
        await cluster.call("DELETE", f"{BUDGETS}/guard")


async def test_several_preemptors_get_room_each_and_nobody_goes_in_vain(
    ranked: Cluster, start_scheduler: Callable[..., SchedulerProcess]
) -> None:
    cluster = ranked
    nodes = [f"n{i}" for i in range(6)]
    await cluster.create([make_node(name, cpu="4") for name in nodes])
    await cluster.create([occupant(f"low-{name}", name) for name in nodes])
    await (start_scheduler(cluster.plane.kubeconfig)).ready()
    await cluster.create([make_pod(f"high-{i}", cpu="3", priorityClassName="high") for i in range(4)])

    async def going() -> list[str]:
        pods = await cluster.list("Pod", "default")
        return [pod["metadata"]["name"] for pod in pods if "deletionTimestamp" in pod["metadata"]]

    async def four() -> bool:
        return len(await going()) == 4

    await eventually(four, "four pods are being deleted")
    await asyncio.gather(*(end(cluster, name) for name in await going()))
    assert len(set(await nodes_of(cluster, *(f"high-{i}" for i in range(4))))) == 4
    assert await going() == []


async def test_a_pod_that_never_preempts_waits(
    ranked: Cluster, start_scheduler: Callable[..., SchedulerProcess]
) -> None:
    cluster = ranked
    await cluster.create([make_node("only", cpu="4")])
    await cluster.create([occupant("low", "only")])
    await (start_scheduler(cluster.plane.kubeconfig)).ready()
    await cluster.create([make_pod("patient", cpu="2", priorityClassName="patient")])
    waits = await pending(cluster, "patient")
    assert waits["message"] == (
        "0/1 nodes are available: 1 Insufficient cpu. no new claims to deallocate, preemption: "
        "not eligible due to preemptionPolicy=Never."
    )
    assert "deletionTimestamp" not in (await cluster.get("Pod", "low"))["metadata"]


async def test_switched_off_nobody_is_evicted(
    ranked: Cluster, start_scheduler: Callable[..., SchedulerProcess]
) -> None:
    cluster = ranked
    await cluster.create([make_node("only", cpu="4")])
    await cluster.create([occupant("low", "only")])
    scheduler = start_scheduler(cluster.plane.kubeconfig, settings={"CARBON_SCHEDULER_PREEMPTION": "false"})
    await scheduler.ready()
    await cluster.create([make_pod("high", cpu="2", priorityClassName="high")])
    waits = await pending(cluster, "high")
    assert waits["message"] == "0/1 nodes are available: 1 Insufficient cpu. no new claims to deallocate"
    assert "deletionTimestamp" not in (await cluster.get("Pod", "low"))["metadata"]
    assert "nominatedNodeName" not in (await cluster.get("Pod", "high"))["status"]
