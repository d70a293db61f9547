"""Pods that controllers make: of DaemonSets, under quotas, behind gates; on a control plane with its controllers and kubelets
that kwok plays. kube-scheduler runs beside."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any

import pytest

from api_objects import SCHEDULER, make_node, make_pod
from pod_outcomes import bound, events_of, node_of, nodes_of, pending
from real_cluster import Cluster, eventually

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from carbon_scheduler.sim.control_plane import ControlPlane
    from scheduler_process import SchedulerProcess

JSON = dict[str, Any]
pytestmark = [pytest.mark.control_plane, pytest.mark.slow]
APPS = "/apis/apps/v1/namespaces/default"


@pytest.fixture(scope="module")
def plane(module_control_plane: Callable[..., ControlPlane]) -> ControlPlane:
    return module_control_plane(controller_manager=True, scheduler=True, kwok=True)


@pytest.fixture
async def cluster(plane: ControlPlane) -> AsyncIterator[Cluster]:
    async with Cluster(plane) as cluster:
        await _clear(cluster)
        yield cluster
        await _clear(cluster)


@pytest.fixture
async def scheduler(cluster: Cluster, start_scheduler: Callable[..., SchedulerProcess]) -> SchedulerProcess:
    process = start_scheduler(cluster.plane.kubeconfig)
    await process.ready()
    return process


async def _clear(cluster: Cluster) -> None:
    """What makes pods goes first."""
    for path in (f"{APPS}/daemonsets", f"{APPS}/replicasets", "/api/v1/namespaces/default/resourcequotas"):
        for one in (await cluster.call("GET", path))["items"]:
            body = {"kind": "DeleteOptions", "apiVersion": "v1", "propagationPolicy": "Orphan"}
            await cluster.call("DELETE", f"{path}/{one['metadata']['name']}", body)

        async def gone(path: str = path) -> bool:
            return not (await cluster.call("GET", path))["items"]

        await eventually(gone, f"nothing at {path}")
    await cluster.clear()


def _template(name: str, cpu: str, scheduler: str | None = SCHEDULER, **spec: Any) -> JSON:
    pod = make_pod(name, scheduler=scheduler, cpu=cpu, **spec)
    return {"metadata": {"labels": {"app": name}}, "spec": pod["spec"]}


def _daemon_set(name: str, cpu: str, scheduler: str | None = SCHEDULER, **spec: Any) -> JSON:
    selector = {"matchLabels": {"app": name}}
    template = _template(name, cpu, scheduler, **spec)
    return {"kind": "DaemonSet", "metadata": {"name": name}, "spec": {"selector": selector, "template": template}}


async def _of(cluster: Cluster, app: str) -> list[JSON]:
    return await cluster.list("Pod", "default", labelSelector=f"app={app}")


async def _all_bound(cluster: Cluster, app: str, count: int) -> list[JSON]:
    found: list[JSON] = []

    async def there() -> bool:
        found[:] = await _of(cluster, app)
        return len(found) == count and all(node_of(pod) for pod in found)

    await eventually(there, f"{count} pods of {app} bound")
    return found


async def test_a_daemon_set_of_kube_schedulers_counts_beside_our_pods(
    cluster: Cluster, scheduler: SchedulerProcess
) -> None:
    await cluster.create(make_node(name, cpu="1") for name in ("a", "b", "c"))
    await cluster.call("POST", f"{APPS}/daemonsets", _daemon_set("agent", "600m", None))
    agents = await _all_bound(cluster, "agent", 3)
    assert sorted(map(node_of, agents)) == ["a", "b", "c"]

    await cluster.create([make_pod("small", cpu="400m"), make_pod("large", cpu="500m")])
    await bound(cluster, "small")
    condition = await pending(cluster, "large")
    assert condition["message"].startswith("0/3 nodes are available: 3 Insufficient cpu.")

    # The agents leave, kwok's kubelets let them go, and there is room.
    body = {"kind": "DeleteOptions", "apiVersion": "v1", "propagationPolicy": "Background"}
    await cluster.call("DELETE", f"{APPS}/daemonsets/agent", body)
    await bound(cluster, "large")


async def test_a_daemon_set_of_ours_gets_one_pod_on_each_node(cluster: Cluster, scheduler: SchedulerProcess) -> None:
    """Its controller pins each pod to a node by a field, and tolerates what it may."""
    await cluster.create(
        [
            make_node("plain", cpu="1"),
            make_node("cordoned", cpu="1", unschedulable=True),
            make_node("full", cpu="1"),
            make_pod("occupant", scheduler=None, cpu="900m", node="full"),
        ]
    )
    await cluster.call("POST", f"{APPS}/daemonsets", _daemon_set("ours", "600m"))

    async def two_of_three() -> bool:
        return sorted(map(node_of, await _of(cluster, "ours"))) == ["", "cordoned", "plain"]

    await eventually(two_of_three, "a pod on each node but the full one")
    (waits,) = [pod["metadata"]["name"] for pod in await _of(cluster, "ours") if not node_of(pod)]
    condition = await pending(cluster, waits)
    want = "0/3 nodes are available: 1 Insufficient cpu, 2 node(s) didn't satisfy plugin(s) [NodeAffinity]."
    assert condition["message"].startswith(want)

    await cluster.delete("Pod", "occupant")
    assert await nodes_of(cluster, waits) == ["full"]
    await cluster.create([make_node("late", cpu="1")])
    pods = await _all_bound(cluster, "ours", 4)
    assert sorted(map(node_of, pods)) == ["cordoned", "full", "late", "plain"]


async def test_a_quota_lets_through_what_it_lets_and_no_more(cluster: Cluster, scheduler: SchedulerProcess) -> None:
    await cluster.create(make_node(name, cpu="4") for name in ("a", "b"))
    quota = {
        "kind": "ResourceQuota",
        "metadata": {"name": "quota"},
        "spec": {"hard": {"requests.cpu": "1", "pods": "10"}},
    }
    await cluster.call("POST", "/api/v1/namespaces/default/resourcequotas", quota)

    async def counted() -> bool:
        path = "/api/v1/namespaces/default/resourcequotas/quota"
        return (await cluster.call("GET", path)).get("status", {}).get("used") is not None

    await eventually(counted, "the quota is in force")
    replica_set = {
        "kind": "ReplicaSet",
        "metadata": {"name": "web"},
        "spec": {"replicas": 5, "selector": {"matchLabels": {"app": "web"}}, "template": _template("web", "300m")},
    }
    await cluster.call("POST", f"{APPS}/replicasets", replica_set)
    assert len(await _all_bound(cluster, "web", 3)) == 3  # 900m of 1 CPU
    await asyncio.sleep(0.5)
    assert len(await _of(cluster, "web")) == 3
    more = {"spec": {"hard": {"requests.cpu": "2", "pods": "10"}}}
    await cluster.call("PATCH", "/api/v1/namespaces/default/resourcequotas/quota", more)
    # Its controller tries again with a growing wait: a change of the set itself makes it look at once.
    await cluster.call("PATCH", f"{APPS}/replicasets/web", {"metadata": {"annotations": {"example.com/look": "again"}}})
    assert len(await _all_bound(cluster, "web", 5)) == 5


async def test_a_gated_pod_is_left_alone_until_its_last_gate_goes(
    cluster: Cluster, scheduler: SchedulerProcess
) -> None:
    gates = [{"name": "example.com/a"}, {"name": "example.com/b"}]
    await cluster.create([make_node("a", cpu="1"), make_pod("gated", cpu="500m", schedulingGates=gates)])
    await cluster.create([make_pod("other", cpu="100m")])
    await bound(cluster, "other")
    assert (await pending(cluster, "gated"))["reason"] == "SchedulingGated"

    async def one_less(gate: JSON) -> None:
        change = {"spec": {"schedulingGates": [{"$patch": "delete", **gate}]}}
        await cluster.call("PATCH", "/api/v1/namespaces/default/pods/gated", change)

    await one_less(gates[0])
    await cluster.create([make_pod("another", cpu="100m")])
    await bound(cluster, "another")
    assert (await pending(cluster, "gated"))["reason"] == "SchedulingGated"
    assert await events_of(cluster, "gated", "FailedScheduling") == []

    began_s = time.monotonic()
    await one_less(gates[1])
    assert await nodes_of(cluster, "gated") == ["a"]
    assert time.monotonic() - began_s < 5.0, "no backoff for a pod that was never tried"


def _with_port(name: str, port: int, protocol: str = "TCP", ip: str = "") -> JSON:
    wanted = {"containerPort": port, "hostPort": port, "protocol": protocol, **({"hostIP": ip} if ip else {})}
    return make_pod(name, containers=[{"name": "main", "image": "registry.example/app:1", "ports": [wanted]}])


async def test_host_ports_are_taken_once_on_each_node(cluster: Cluster, scheduler: SchedulerProcess) -> None:
    await cluster.create([make_node("a"), make_node("b")])
    await cluster.create([_with_port("first", 8080), _with_port("second", 8080)])
    assert sorted(await nodes_of(cluster, "first", "second")) == ["a", "b"]

    await cluster.create([_with_port("third", 8080, ip="10.0.0.1")])
    condition = await pending(cluster, "third")
    want = "0/2 nodes are available: 2 node(s) didn't have free ports for the requested pod ports."
    assert condition["message"].startswith(want)
    await cluster.create([_with_port("udp", 8080, "UDP"), _with_port("elsewhere", 8081)])
    await bound(cluster, "udp", "elsewhere")
    await cluster.create(
        [_with_port("one-address", 9090, ip="10.0.0.1"), _with_port("other-address", 9090, ip="10.0.0.2")]
    )
    await bound(cluster, "one-address", "other-address")

    freed = (await nodes_of(cluster, "second"))[0]
    await cluster.delete("Pod", "second")
    assert await nodes_of(cluster, "third") == [freed]
