"""500 nodes in eight grid zones and 2,000 pods on the real API server: every choice checked from the API's objects alone."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any

import pytest

from api_objects import make_node, make_pod
from carbon_scheduler.core.model import GridZone
from carbon_scheduler.providers.tables import grid_zones
from carbon_scheduler.sim.electricity_maps_answers import Mode
from naive_replay import read_pod, replay
from real_cluster import eventually

if TYPE_CHECKING:
    from collections.abc import Callable

    from carbon_scheduler.sim.electricity_maps import FakeElectricityMaps
    from real_cluster import Cluster
    from scheduler_process import SchedulerProcess

JSON = dict[str, Any]
pytestmark = [pytest.mark.control_plane, pytest.mark.slow]

LATE, LATE_G_PER_KWH = "PL", 12.0
"""The zone whose data are missing at first: a static average, and then the cleanest of all."""
G_PER_KWH = {
    "FR": 40.0,
    "SE-SE3": 43.0,  # as clean as FR: within 5 g/kWh
    "GB": 190.0,
    "US-CAL-CISO": 198.0,  # as clean as GB: within 5 %
    "US-NY-NYIS": 300.0,
    "DE": 381.0,
    "AU-NSW": 600.0,
    LATE: LATE_G_PER_KWH,
}
GPU = {"key": "gpu", "value": "a100", "effect": "NoSchedule"}
SHAPES: tuple[JSON, ...] = (
    {"cpu": "100m", "memory": "128Mi"},
    {"cpu": "250m", "memory": "512Mi"},
    {"cpu": "1", "memory": "1Gi"},
    {"cpu": "2", "memory": "8Gi"},
    {"cpu": None, "memory": None},
    {"cpu": "500m", "memory": "1Gi", "nodeSelector": {"tier": "b"}},
    {"cpu": "1", "memory": "2Gi", "tolerations": [{"key": "gpu", "operator": "Exists"}]},
    {
        "cpu": "500m",
        "memory": "256Mi",
        "nodeSelector": {"disk": "ssd"},
        "tolerations": [{"operator": "Exists", "effect": "NoExecute"}],
    },
)
NODES, PODS = 500, 2000


def _nodes() -> list[JSON]:
    zones = list(G_PER_KWH)
    return [
        make_node(
            f"node-{i:03}",
            carbon_zone=zones[i % len(zones)],
            cpu=("2", "4", "8")[i % 3],
            memory=("8Gi", "16Gi", "16Gi", "64Gi", "32Gi")[i % 5],
            pods=("110", "6")[i % 7 == 0],
            labels={"tier": "ab"[i % 2], **({"disk": "ssd"} if i % 3 == 0 else {})},
            taints=[GPU] if i % 11 == 0 else [{**GPU, "effect": "PreferNoSchedule"}] if i % 13 == 0 else None,
            unschedulable=i % 50 == 7,
        )
        for i in range(NODES)
    ]


def _strangers() -> list[JSON]:
    """Pods of another scheduler that are on their nodes already."""
    return [make_pod(f"there-{i:03}", scheduler=None, node=f"node-{i:03}", cpu="500m") for i in range(0, NODES, 2)]


def _pods(numbers: range) -> list[JSON]:
    return [make_pod(f"pod-{i:04}", labels={"app": f"app-{i % 40}"}, **SHAPES[i % len(SHAPES)]) for i in numbers]


async def _all_bound(cluster: Cluster, within_s: float = 60.0) -> None:
    async def none_waits() -> bool:
        return not await cluster.list("Pod", fieldSelector="spec.nodeName=", limit="1")

    await eventually(none_waits, "every pod is bound", within_s=within_s)


async def test_every_pod_is_on_a_feasible_node_as_clean_as_the_cleanest_at_its_time(
    cluster: Cluster,
    grid: FakeElectricityMaps,
    start_scheduler: Callable[..., SchedulerProcess],
    record_property: Callable[[str, object], None],
) -> None:
    grid.modes |= {zone: Mode("value", g_per_kwh) for zone, g_per_kwh in G_PER_KWH.items()}
    grid.modes[LATE] = Mode("html-500")
    await cluster.create(_nodes())
    await cluster.create(_strangers())
    await cluster.create(_pods(range(800)))
    scheduler = start_scheduler(cluster.plane.kubeconfig, grid_url=grid.url)
    await scheduler.said("Connected to Kubernetes API")
    started_s, cpu_s = time.monotonic(), scheduler.cpu_s
    await _all_bound(cluster)
    first_s = time.monotonic() - started_s
    grid.modes[LATE] = Mode("value", LATE_G_PER_KWH)
    await asyncio.gather(scheduler.said("are available again", 60), cluster.create(_pods(range(800, 1200))))
    await cluster.create(_pods(range(1200, PODS)))
    await _all_bound(cluster)

    nodes, pods = await cluster.list("Node"), await cluster.list("Pod")
    decisions = [decision for pod in pods if (decision := read_pod(pod).decision)]
    average = grid_zones().average(GridZone(LATE))
    assert average is not None
    # Whoever could go to the late zone once it was the cleanest did so: its first pod marks the moment.
    late = [d["seq"] for d in decisions if d["grid_zone"] == LATE and d["intensity_g_per_kwh"] == LATE_G_PER_KWH]

    def g_per_kwh(zone: str, seq: int) -> float:
        return average.g_per_kwh if zone == LATE and seq < min(late) else G_PER_KWH[zone]

    result = replay(nodes, pods, g_per_kwh)
    assert result.wrong == []
    assert result.decided == PODS
    assert 100 < len(late) < PODS - 800
    assert len({d["grid_zone"] for d in decisions}) >= 5, "the zones were never full: nothing was put to the test"
    pods_a_s, cpu_ms = 800 / first_s, 1000 * (scheduler.cpu_s - cpu_s) / PODS
    record_property("pods_a_s", pods_a_s)
    record_property("cpu_ms_a_pod", cpu_ms)
    print(f"{pods_a_s:.0f} pods/s when 800 wait at the start, {cpu_ms:.2f} ms of the scheduler's processor time a pod")


async def test_idle_it_takes_under_100_mib_and_under_one_percent_of_a_core(
    cluster: Cluster,
    grid: FakeElectricityMaps,
    start_scheduler: Callable[..., SchedulerProcess],
    record_property: Callable[[str, object], None],
) -> None:
    """After it has bound all of them itself, which leaves more behind than a first list."""
    await cluster.create(_nodes())
    scheduler = start_scheduler(
        cluster.plane.kubeconfig,
        "--leader-elect",  # as in a cluster: the lease is renewed every two seconds
        grid_url=grid.url,
        settings={"CARBON_SCHEDULER_LEADER_ELECTION_LEASE_NAME": "idle"},
    )
    await scheduler.ready()
    await cluster.create(_pods(range(PODS)))
    await _all_bound(cluster)

    async def events_written() -> bool:
        # Two thousand of them are written behind the Bindings: until then it is not idle.
        before_s = scheduler.cpu_s
        await asyncio.sleep(1.0)
        return scheduler.cpu_s - before_s <= 0.05

    await eventually(events_written, "the scheduler has nothing to do any more", within_s=60)
    cpu_s, started_s = scheduler.cpu_s, time.monotonic()
    peak_mib = 0.0
    while time.monotonic() - started_s < 30.0:
        await asyncio.sleep(1.0)
        peak_mib = max(peak_mib, scheduler.memory_mib)
    cpu_frac = (scheduler.cpu_s - cpu_s) / (time.monotonic() - started_s)
    record_property("idle_mib", peak_mib)
    record_property("idle_cpu_frac", cpu_frac)
    print(f"idle: {peak_mib:.0f} MiB resident ({scheduler.peak_memory_mib:.0f} at its peak), {cpu_frac:.2%} of a core")
    assert peak_mib < 100
    assert cpu_frac < 0.01
