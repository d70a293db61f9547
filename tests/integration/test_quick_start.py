"""The quick start of the user's document, with kubectl on a real API server, and the log lines that it promises."""

from __future__ import annotations

import asyncio
import os
import subprocess
import time
from typing import TYPE_CHECKING

import pytest

from api_objects import make_node
from carbon_scheduler.sim.electricity_maps_answers import Mode
from pod_outcomes import nodes_of

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from carbon_scheduler.sim.electricity_maps import FakeElectricityMaps
    from real_cluster import Cluster
    from scheduler_process import SchedulerProcess

pytestmark = pytest.mark.control_plane

OVERRIDES = '--overrides={"spec":{"schedulerName":"carbon-aware-scheduler"}}'
PROMISED = """\
Connected to Kubernetes API
Carbon intensity client initialized successfully
Unscheduled pod detected: default/test-pod
Selected node minikube in zone US-NY-NYIS with carbon intensity 300.00 gCO₂eq/kWh
Pod test-pod scheduled to minikube
"""


async def _not_between_two_hours() -> None:
    """A value of the hour before is marked as such: not what this is about."""
    left_s = 3600 - time.time() % 3600
    if left_s < 20:
        await asyncio.sleep(left_s + 1)


async def test_the_quick_start(
    cluster: Cluster,
    grid: FakeElectricityMaps,
    start_scheduler: Callable[..., SchedulerProcess],
    control_plane_binary: Callable[[str], Path],
    tmp_path: Path,
) -> None:
    kubectl = control_plane_binary("kubectl")

    async def run(*args: str) -> str:
        """Not in this loop: it also serves the grid's data."""
        done = await asyncio.to_thread(
            subprocess.run,
            [kubectl, "--kubeconfig", cluster.plane.kubeconfig, *args],
            capture_output=True,
            text=True,
            timeout=60,
            env={"HOME": str(tmp_path), "PATH": os.defpath},
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    await _not_between_two_hours()
    grid.modes |= {"US-NY-NYIS": Mode("value", 300), "US-CAL-CISO": Mode("value", 210)}
    await cluster.create([make_node("minikube")])
    settings = {"DEFAULT_CARBON_ZONE": "US-NY-NYIS"}
    scheduler = start_scheduler(cluster.plane.kubeconfig, grid_url=grid.url, settings=settings)
    await scheduler.said("Carbon intensity client initialized successfully")
    await run("run", "test-pod", "--image=nginx", "--restart=Never", OVERRIDES)
    assert await nodes_of(cluster, "test-pod") == ["minikube"]
    await scheduler.said("Pod test-pod scheduled to minikube")
    lines = [line for line in scheduler.text.splitlines(keepends=True) if not line.startswith("Serving ")]
    assert "".join(lines) == PROMISED
    assert "minikube" in await run("get", "pods", "-o", "wide")

    # "You can label nodes with specific zones": as the document writes them.
    await run("label", "node", "minikube", "carbon-zone=US-CA-CISO")
    await run("run", "second-pod", "--image=nginx", "--restart=Never", OVERRIDES)
    await scheduler.said("Selected node minikube in zone US-CAL-CISO with carbon intensity 210.00 gCO₂eq/kWh\n")

    async def described() -> bool:
        return "Successfully assigned default/second-pod to minikube" in await run("describe", "pod", "second-pod")

    deadline_s = time.monotonic() + 20
    while not await described():
        assert time.monotonic() < deadline_s, "kubectl describe does not show the Scheduled event"
        await asyncio.sleep(0.2)
    assert (
        await run("get", "pod", "second-pod", "-o", r"jsonpath={.metadata.annotations.carbon-scheduler\.io/intensity}")
        == "210.00"
    )
    assert "Error:" not in scheduler.text
    assert "Warning:" not in scheduler.text
