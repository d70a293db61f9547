"""kube-scheduler and ours fill the same 200 nodes at the same time: how often they meet, and what ours makes of it.

The API server binds a pod to any node, so two schedulers that each see the other's Binding only afterwards can both take the
last gap. `docs/how-to/beside-kube-scheduler.md` has the figure.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from typing import TYPE_CHECKING, Any

import pytest

from api_objects import make_node, make_pod
from pod_outcomes import node_of, pending
from real_cluster import Cluster, eventually

if TYPE_CHECKING:
    from collections.abc import Callable

    from carbon_scheduler.sim.control_plane import ControlPlane
    from scheduler_process import SchedulerProcess

JSON = dict[str, Any]
pytestmark = [pytest.mark.control_plane, pytest.mark.slow, pytest.mark.timeout(300)]

NODES, PODS_EACH, A_NODE = 200, 2000, 20
"""Nodes that take 20 pods each: room for all, and none to spare. So the race is for every last gap."""


def _over(pods: list[JSON]) -> dict[str, int]:
    """Nodes with more pods than their CPU takes, and how many are on them."""
    there = Counter(node_of(pod) for pod in pods if node_of(pod))
    return {name: count for name, count in there.items() if count > A_NODE}


async def _events(cluster: Cluster) -> list[str]:
    """The nodes that events Overcommitted are about."""
    path = "/apis/events.k8s.io/v1/namespaces/default/events"
    return sorted(
        event["regarding"]["name"]
        for event in (await cluster.call("GET", path))["items"]
        if (event["reason"], event["regarding"]["kind"]) == ("Overcommitted", "Node")
    )


async def test_nodes_that_two_schedulers_overcommit_are_noticed_once_and_left_alone(
    own_control_plane: Callable[..., ControlPlane],
    start_scheduler: Callable[..., SchedulerProcess],
    record_property: Callable[[str, object], None],
) -> None:
    fast = ["--kube-api-qps=5000", "--kube-api-burst=5000"]
    plane = own_control_plane(scheduler=True, extra_args={"kube-scheduler": fast})
    async with Cluster(plane) as cluster:
        await cluster.create(make_node(f"node-{i:03}", cpu="2", memory="64Gi") for i in range(NODES))
        ours = start_scheduler(plane.kubeconfig)
        await ours.ready()
        began_s = time.monotonic()
        await cluster.create(
            make_pod(f"{whose}-{i:04}", scheduler=scheduler, cpu="100m", memory="1Mi")
            for i in range(PODS_EACH)
            for whose, scheduler in (("theirs", "default-scheduler"), ("ours", "carbon-aware-scheduler"))
        )
        pods: list[JSON] = []

        async def settled() -> bool:
            """Until every pod is bound, or nothing has room for those that are left; and nothing lands any more."""
            nonlocal pods
            before, pods = pods, await cluster.list("Pod", "default")
            bound = Counter(node_of(pod) for pod in pods if node_of(pod))
            done = len(pods) == sum(bound.values()) or all(bound[f"node-{i:03}"] >= A_NODE for i in range(NODES))
            return done and [node_of(pod) for pod in before] == [node_of(pod) for pod in pods]

        await eventually(settled, "all pods bound, or all nodes full", within_s=200.0, every_s=1.0)
        took_s = time.monotonic() - began_s
        over = _over(pods)
        extra = sum(count - A_NODE for count in over.values())
        bound = Counter(pod["spec"]["schedulerName"] for pod in pods if node_of(pod))
        record_property("overcommitted_nodes", len(over))
        record_property("pods_too_many", extra)
        print(
            f"{sum(bound.values())} pods bound in {took_s:.1f} s ({dict(bound)}): {len(over)} of {NODES} nodes "
            f"over-committed, by {extra} pods"
        )
        assert max(over.values(), default=0) < 2 * A_NODE

        # What chance may not have brought: one more, by a pod that names its node.
        await cluster.create([make_pod("named", scheduler=None, cpu="100m", node="node-000")])
        over["node-000"] = over.get("node-000", A_NODE) + 1

        told: list[str] = []

        async def all_told() -> bool:
            told[:] = await _events(cluster)
            return len(told) >= len(over)

        await eventually(all_told, f"one event for each of {sorted(over)}", within_s=20.0)
        assert told == sorted(over)

        async def counted() -> bool:
            return (await ours.metrics())["carbon_scheduler_overcommitted_nodes"] == len(over)

        await eventually(counted, f"the metric says {len(over)}")
        assert ours.text.count("request more than it offers") == len(over)

        # Not the smallest pod more, not even when all that keeps it away is the race that was lost.
        await cluster.create(
            make_pod(f"more-{name}", cpu="1m", nodeSelector={"kubernetes.io/hostname": name}) for name in over
        )
        for name in over:
            await pending(cluster, f"more-{name}", "1 Insufficient cpu")

        # The spell ends, and another one is told of again.
        await cluster.delete("Pod", "named")
        if over["node-000"] - 1 <= A_NODE:
            await asyncio.sleep(1.5)
            assert (await ours.metrics())["carbon_scheduler_overcommitted_nodes"] == len(over) - 1
            await cluster.create([make_pod("named-again", scheduler=None, cpu="200m", node="node-000")])

            async def told_again() -> bool:
                return (await _events(cluster)).count("node-000") == 2

            await eventually(told_again, "a second event about node-000")
